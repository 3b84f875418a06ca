package fetch_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"poczta.example/poczta/internal/mailtest/mortal"
	"poczta.example/poczta/internal/mailtest/poppeer"
	"poczta.example/poczta/internal/mua/fetch"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/pop3client"
)

// The process that is killed is this test's own program, told so by its environment.
const (
	killFolder = "POCZTA_TEST_FETCH_FOLDER"
	killServer = "POCZTA_TEST_FETCH_SERVER"
)

// TestMain fetches once when it is told to, and runs the tests otherwise.
func TestMain(m *testing.M) {
	if folder := os.Getenv(killFolder); folder != "" {
		os.Exit(fetchOnce(folder, os.Getenv(killServer)))
	}
	os.Exit(m.Run())
}

func fetchOnce(folder, server string) int {
	ctx := context.Background()
	s, err := openDeadly(ctx, folder)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	f, err := fetch.New(fetch.Config{Store: s, Open: func(ctx context.Context, _ profile.Account) (*pop3client.Session, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", server)
		if err != nil {
			return nil, err
		}
		return login(ctx, conn, pop3client.Timeouts{})
	}})
	if err == nil {
		var a profile.Account
		if a, err = profile.New(s.DB()).Find(ctx, ""); err == nil {
			_, err = f.Sync(ctx, a)
		}
	}
	if err == nil {
		err = s.Close()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// asked is how often letters had been handed out when they were first known here to have come whole.
type asked map[string]int

// note looks at what a process left that was killed.
func (a asked) note(t *testing.T, folder string, p *poppeer.Peer) {
	t.Helper()
	s := openStore(t, folder)
	defer s.Close()
	account, err := profile.New(s.DB()).Find(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	known, err := fetch.Known(t.Context(), s, account)
	if err != nil {
		t.Fatal(err)
	}
	given := p.Given()
	for _, id := range known {
		if _, there := a[id]; !there {
			a[id] = given[id]
		}
	}
}

// check fails when letters were handed out again after they had come whole.
func (a asked) check(t *testing.T, p *poppeer.Peer) {
	t.Helper()
	for id, n := range p.Given() {
		if before, known := a[id]; known && n != before {
			t.Errorf("%s was handed out %d times, %d of them after it had come whole", id, n, n-before)
		}
	}
}

// TestKilledAtAnyInstant kills the fetching process again and again while the server hands out
// and deletes: nothing is lost, nothing comes twice, and what had come whole is not asked for again. From a server without
// pipelining that is all but one letter for each time.
func TestKilledAtAnyInstant(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("kills some eighty processes")
	}
	t.Run("pipelined", func(t *testing.T) {
		t.Parallel()
		killed(t, poppeer.Config{})
	})
	t.Run("one at a time", func(t *testing.T) {
		t.Parallel()
		kills, twice := killed(t, poppeer.Config{Capabilities: []string{"TOP", "UIDL", "USER"}})
		if twice > kills {
			t.Errorf("%d letters were handed out once more after %d kills", twice, kills)
		}
	})
}

// killed returns how often it killed, and how many letters were handed out once more.
func killed(t *testing.T, cfg poppeer.Config) (kills, twice int) {
	mail := poppeer.Letters(400, 3000)
	cfg.Messages, cfg.Rules = mail, []poppeer.Rule{{Stage: poppeer.Retr, Do: poppeer.Late(time.Millisecond)}}
	p := poppeer.Start(t, cfg)
	server := p.Listen(t).String()
	folder := t.TempDir()
	s := openStore(t, folder)
	addAccount(t, s, profile.Fetched)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	here, whole := 0, asked{}
	for wait := 20 * time.Millisecond; ; {
		if ended := mortal.Run(t, wait, killFolder+"="+folder, killServer+"="+server); ended {
			break
		}
		kills++
		whole.note(t, folder, p)
		now := mustHave(t, folder, p, mail)
		if wait += 6 * time.Millisecond; now == here { // a slow machine
			wait += wait / 4
		}
		here = now
	}
	s = openStore(t, folder)
	defer s.Close()
	if got := letters(t, s); !slices.Equal(got, texts(mail)) {
		t.Errorf("%d letters are here, want %d: %s", len(got), len(mail), differ(got, texts(mail)))
	}
	if n := len(p.Messages()); n != 0 {
		t.Errorf("%d letters stay on the server", n)
	}
	whole.check(t, p)
	for _, n := range p.Given() {
		twice += n - 1
	}
	t.Logf("killed %d times; %d letters were handed out once more", kills, twice)
	return kills, twice
}

// mustHave fails when the server deleted what is not here. It returns how many letters are.
func mustHave(t *testing.T, folder string, p *poppeer.Peer, mail []poppeer.Message) int {
	t.Helper()
	s := openStore(t, folder)
	defer s.Close()
	here := letters(t, s)
	if len(here) > len(mail) || len(slices.Compact(slices.Clone(here))) != len(here) {
		t.Fatalf("%d letters are here, some twice", len(here))
	}
	for _, id := range p.Deleted() {
		k := slices.IndexFunc(mail, func(m poppeer.Message) bool { return m.ID == id })
		if _, ok := slices.BinarySearch(here, string(mail[k].Data)); !ok {
			t.Fatalf("%s was deleted and is not here", id)
		}
	}
	return len(here)
}
