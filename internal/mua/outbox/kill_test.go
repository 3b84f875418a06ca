package outbox_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/mailtest/mortal"
	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/mua/outbox"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
	"poczta.example/poczta/internal/smtpclient"
)

// The process that is killed is this test's own program, told so by its environment.
const (
	killFolder = "POCZTA_TEST_OUTBOX_FOLDER"
	killServer = "POCZTA_TEST_OUTBOX_SERVER"
)

// TestMain sends what waits when it is told to, and runs the tests otherwise.
func TestMain(m *testing.M) {
	if folder := os.Getenv(killFolder); folder != "" {
		os.Exit(sendOnce(folder, os.Getenv(killServer)))
	}
	os.Exit(m.Run())
}

// tcp opens sessions with a server on loopback.
type tcp struct{ server string }

func (l tcp) SMTP(ctx context.Context, _ profile.Account) (*smtpclient.Session, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.server)
	if err != nil {
		return nil, err
	}
	return smtpclient.Open(ctx, conn, smtpclient.Config{Hello: "[127.0.0.1]"})
}

func sendOnce(folder, server string) int {
	ctx := context.Background()
	s, err := openFolder(ctx, folder)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	o, err := outbox.New(outbox.Config{Store: s, Lines: tcp{server}, Accounts: profile.New(s.DB())})
	if err == nil {
		err = o.Flush(ctx)
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

// TestKilledAtAnyInstant kills the sending process again and again: nobody gets a letter twice,
// and who has none is waited for. What left without a reply is for a person to decide.
func TestKilledAtAnyInstant(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("kills some thirty processes")
	}
	const letters = 150
	p := peer.Start(t, peer.Config{Rules: []peer.Rule{{Stage: peer.Final, Do: peer.Late(2 * time.Millisecond)}, {Stage: peer.Mail, Do: peer.Late(time.Millisecond)}}})
	server := p.Listen(t).String()
	folder := t.TempDir()
	ids := fill(t, folder, letters)
	kills, taken := 0, 0
	for wait := 20 * time.Millisecond; ; wait += 10 * time.Millisecond {
		if n := len(p.Messages()); n > taken {
			taken = n
		} else { // it was killed before it sent anything, which on a slow machine takes it long
			wait += wait / 4
		}
		if mortal.Run(t, wait, killFolder+"="+folder, killServer+"="+server) {
			break
		}
		kills++
		for c, n := range p.Copies() {
			if n > 1 {
				t.Fatalf("%v %d times after %d kills", c, n, kills)
			}
		}
	}
	s, err := openFolder(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	o, err := outbox.New(outbox.Config{Store: s, Lines: tcp{server}, Accounts: profile.New(s.DB())})
	if err != nil {
		t.Fatal(err)
	}
	perhaps, lost := 0, 0
	for _, id := range ids {
		it, err := o.Item(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		n := p.Copies()[peer.Copy{MessageID: it.MessageID, Rcpt: it.Recipients[0].Address}]
		switch {
		case it.State == outbox.Perhaps && n <= 1:
			perhaps++
			lost += 1 - n
		case it.State != outbox.Sent || n != 1:
			t.Errorf("letter %d is %s and was taken %d times", id, it.State, n)
		default:
			if at, err := s.Summary(t.Context(), it.Letter); err != nil || at.Folder != store.Sent {
				t.Errorf("letter %d was sent and lies in %s (%v)", id, at.Folder, err)
			}
		}
	}
	if perhaps > kills {
		t.Errorf("%d letters are perhaps sent after %d kills", perhaps, kills)
	}
	t.Logf("killed %d times; of %d letters %d are perhaps sent, of which the server has not %d", kills, letters, perhaps, lost)
}

func fill(t *testing.T, folder string, letters int) []outbox.ID {
	t.Helper()
	s, err := openFolder(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	a, err := addAccount(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	o, err := outbox.New(outbox.Config{Store: s, Lines: tcp{}, Accounts: profile.New(s.DB())})
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]outbox.ID, letters)
	for i := range ids {
		if ids[i], err = o.Put(t.Context(), outbox.Letter{Account: a.ID, Recipients: []string{"ewa@them.example"}, Message: strings.NewReader(text(i))}); err != nil {
			t.Fatal(err)
		}
	}
	return ids
}
