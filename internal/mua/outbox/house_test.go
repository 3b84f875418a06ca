package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/mua/outbox"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
	"poczta.example/poczta/internal/smtpclient"
)

// clock is a clock that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// lines open sessions with a peer.
type lines struct {
	mu    sync.Mutex
	dial  func() (net.Conn, error)
	limit smtpclient.Timeouts
}

func (l *lines) set(dial func() (net.Conn, error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dial = dial
}

// patient gives servers the minutes that they have by default, and the one stage at which a server
// is to say nothing a moment.
func (l *lines) patient(silent peer.Stage) {
	const wait = 200 * time.Millisecond
	t := smtpclient.Timeouts{}
	switch silent {
	case peer.Connect, peer.Greeting:
		t.Greeting = wait
	case peer.Hello:
		t.Hello = wait
	case peer.Mail:
		t.Mail = wait
	case peer.Rcpt:
		t.Rcpt = wait
	case peer.Data:
		t.Data = wait
	case peer.Body: // what is not read lies in buffers, and no reply comes
		t.Block, t.Final = wait, wait
	case peer.Final:
		t.Final = wait
	case peer.Reset: // EHLO has the same limit
		t.Hello = 20 * wait
	case peer.Quit:
		t.Quit = wait
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limit = t
}

func (l *lines) SMTP(ctx context.Context, a profile.Account) (*smtpclient.Session, error) {
	l.mu.Lock()
	dial, limit := l.dial, l.limit
	l.mu.Unlock()
	conn, err := dial()
	if err != nil {
		return nil, err
	}
	return smtpclient.Open(ctx, conn, smtpclient.Config{Hello: "[127.0.0.1]", Timeouts: limit})
}

var errNetwork = &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("network is unreachable")}

// house is a person's store with one account and its outbox, whose server is a peer.
type house struct {
	*outbox.Outbox
	t       testing.TB
	store   *store.Store
	folder  string
	peer    *peer.Peer
	lines   *lines
	clock   *clock
	account profile.Account
	cfg     outbox.Config
}

func openFolder(ctx context.Context, folder string) (*store.Store, error) {
	return store.Open(ctx, store.Config{Folder: folder, Components: []db.Component{profile.Schema, outbox.Schema}})
}

func addAccount(ctx context.Context, s *store.Store) (profile.Account, error) {
	a := profile.Account{Address: "ala@peer.example", Name: "Ala", Policy: profile.Policy{Keep: profile.Leave}}
	a.Incoming = profile.Server{Login: "ala", Server: clientconfig.Server{Protocol: clientconfig.POP3, Host: "pop.peer.example", Port: 995, Security: clientconfig.TLS}}
	a.Outgoing = profile.Server{Login: "ala", Server: clientconfig.Server{Protocol: clientconfig.SMTP, Host: "smtp.peer.example", Port: 465, Security: clientconfig.TLS}}
	return profile.New(s.DB()).Add(ctx, a)
}

func newHouse(t testing.TB, p peer.Config, change func(*outbox.Config)) *house {
	t.Helper()
	h := &house{t: t, peer: peer.Start(t, p), folder: t.TempDir(), clock: &clock{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}, lines: &lines{}}
	h.online()
	var err error
	if h.store, err = openFolder(t.Context(), h.folder); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.store.Close(); err != nil {
			t.Error(err)
		}
	})
	if h.account, err = addAccount(t.Context(), h.store); err != nil {
		t.Fatal(err)
	}
	h.cfg = outbox.Config{Store: h.store, Lines: h.lines, Accounts: profile.New(h.store.DB()), Now: h.clock.Now, Grace: time.Minute, Network: func() string { return "" }}
	if change != nil {
		change(&h.cfg)
	}
	if h.Outbox, err = outbox.New(h.cfg); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *house) online()  { h.lines.set(func() (net.Conn, error) { return h.peer.Dial(), nil }) }
func (h *house) offline() { h.lines.set(func() (net.Conn, error) { return nil, errNetwork }) }

// text is a letter.
func text(n int) string {
	return fmt.Sprintf("From: Ala <ala@peer.example>\r\nTo: ewa@them.example\r\nSubject: letter %d\r\nMessage-ID: <%d@peer.example>\r\n\r\nHello.\r\n.dots\r\n", n, n)
}

func (h *house) put(l outbox.Letter) outbox.ID {
	h.t.Helper()
	l.Account = h.account.ID
	if l.Message == nil {
		l.Message = strings.NewReader(text(1))
	}
	if l.Recipients == nil {
		l.Recipients = []string{"ewa@them.example"}
	}
	id, err := h.Put(h.t.Context(), l)
	if err != nil {
		h.t.Fatal(err)
	}
	return id
}

// flush sends what is due; its error only tells what waits.
func (h *house) flush() error {
	h.t.Helper()
	return h.Flush(h.t.Context())
}

func (h *house) item(id outbox.ID) outbox.Item {
	h.t.Helper()
	it, err := h.Item(h.t.Context(), id)
	if err != nil {
		h.t.Fatal(err)
	}
	return it
}

// must fails unless the letter is in a state.
func (h *house) must(id outbox.ID, want outbox.State) outbox.Item {
	h.t.Helper()
	it := h.item(id)
	if it.State != want {
		h.t.Errorf("letter %d is %s, want %s: %+v", id, it.State, want, it)
	}
	return it
}

// summary is where a letter lies, and its flags.
func (h *house) summary(id outbox.ID) store.Summary {
	h.t.Helper()
	m, err := h.store.Summary(h.t.Context(), h.item(id).Letter)
	if err != nil {
		h.t.Fatal(err)
	}
	return m
}

// got are the addresses that the peer delivered to, with how often.
func (h *house) got() []string {
	var all []string
	for c, n := range h.peer.Copies() {
		all = append(all, fmt.Sprintf("%s %s ×%d", c.MessageID, c.Rcpt, n))
	}
	slices.Sort(all)
	return all
}
