package fetch_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailtest/poppeer"
	"poczta.example/poczta/internal/mua/fetch"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
	"poczta.example/poczta/internal/pop3client"
)

// house is a person's store with one account, whose server is a peer.
type house struct {
	*fetch.Fetcher
	store   *store.Store
	folder  string
	peer    *poppeer.Peer
	account profile.Account
	now     time.Time
	done    []fetch.Progress
	told    func(fetch.Progress)
	before  func() // a session is opened; nil is nothing
	// timeouts of the sessions to come; zero is the usual, minutes.
	timeouts pop3client.Timeouts
}

// numbered tells accounts' addresses apart.
var numbered atomic.Int64

// quick are timeouts for servers that say nothing.
var quick = pop3client.Timeouts{Greeting: 300 * time.Millisecond, Command: 300 * time.Millisecond, Login: 300 * time.Millisecond, Idle: 300 * time.Millisecond,
	TLS: 300 * time.Millisecond, Quit: 300 * time.Millisecond, Bye: 300 * time.Millisecond}

func openStore(t testing.TB, folder string) *store.Store {
	t.Helper()
	s, err := openFolder(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func openFolder(ctx context.Context, folder string) (*store.Store, error) {
	return store.Open(ctx, store.Config{Folder: folder, Components: []db.Component{profile.Schema, fetch.Schema}, Filed: fetch.Filed})
}

func login(ctx context.Context, conn net.Conn, timeouts pop3client.Timeouts) (*pop3client.Session, error) {
	s, err := pop3client.Open(ctx, conn, pop3client.Config{Plaintext: true, Timeouts: timeouts})
	if err != nil {
		return nil, err
	}
	if err := s.Login(ctx, pop3client.Credentials{Username: "us", Password: "secret"}); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func newHouse(t testing.TB, p poppeer.Config, keep profile.Keep) *house {
	t.Helper()
	h := &house{peer: poppeer.Start(t, p), now: time.Now()}
	h.folder = t.TempDir()
	h.store = openStore(t, h.folder)
	t.Cleanup(func() {
		if err := h.store.Close(); err != nil {
			t.Error(err)
		}
	})
	h.account = addAccount(t, h.store, keep)
	var err error
	h.Fetcher, err = fetch.New(fetch.Config{Store: h.store, Now: func() time.Time { return h.now }, Progress: func(p fetch.Progress) {
		h.done = append(h.done, p)
		if h.told != nil {
			h.told(p)
		}
	},
		Open: func(ctx context.Context, _ profile.Account) (*pop3client.Session, error) {
			if h.before != nil {
				h.before()
			}
			return login(ctx, h.peer.Dial(), h.timeouts)
		}})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// another gives the house another server, and an account there.
func (h *house) another(t testing.TB, p poppeer.Config, keep profile.Keep) {
	t.Helper()
	h.peer.Close()
	h.peer = poppeer.Start(t, p)
	h.account = addAccount(t, h.store, keep)
	h.timeouts = pop3client.Timeouts{}
}

func addAccount(t testing.TB, s *store.Store, keep profile.Keep) profile.Account {
	t.Helper()
	a := profile.Account{Address: fmt.Sprintf("us%d@peer.example", numbered.Add(1)), Policy: profile.Policy{Keep: keep}}
	if keep == profile.Days {
		a.Policy.Days = 7
	}
	a.Incoming = profile.Server{Server: clientconfig.Server{Protocol: clientconfig.POP3, Host: "pop.peer.example", Port: 995, Security: clientconfig.TLS}}
	a.Outgoing = profile.Server{Server: clientconfig.Server{Protocol: clientconfig.SMTP, Host: "smtp.peer.example", Port: 465, Security: clientconfig.TLS}}
	a, err := profile.New(s.DB()).Add(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (h *house) sync(t testing.TB) fetch.Result {
	t.Helper()
	res, err := h.Sync(t.Context(), h.account)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// letters are the octets of all letters here, or of some accounts, in order of their text.
func letters(t testing.TB, s *store.Store, accounts ...envelope.AccountID) []string {
	t.Helper()
	var all []string
	for q := (store.Query{Limit: 500, Accounts: accounts}); ; {
		page, err := s.List(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range page.Letters {
			r, size, err := s.Octets(t.Context(), m.ID)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(io.NewSectionReader(r, 0, size))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, string(b))
		}
		if q.Cursor = page.Cursor; q.Cursor == "" {
			slices.Sort(all)
			return all
		}
	}
}

func texts(messages []poppeer.Message) []string {
	all := make([]string, len(messages))
	for i, m := range messages {
		all[i] = string(m.Data)
	}
	slices.Sort(all)
	return all
}

// mustHold fails unless exactly these letters are here.
func (h *house) mustHold(t testing.TB, when string, want []poppeer.Message) {
	t.Helper()
	if got := letters(t, h.store, h.account.ID); !slices.Equal(got, texts(want)) {
		t.Errorf("%s: %d letters are here, want %d: %s", when, len(got), len(want), differ(got, texts(want)))
	}
}

func differ(got, want []string) string {
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			return fmt.Sprintf("missing %.60q", want[i])
		case i >= len(want):
			return fmt.Sprintf("too many: %.60q", got[i])
		case got[i] != want[i]:
			return fmt.Sprintf("%.100q instead of %.100q", got[i], want[i])
		}
	}
	return ""
}
