// Package posttest builds the rooms from database to post office for tests.
package posttest

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/sasl"
	"poczta.example/poczta/internal/trace"
)

// Components are the tables of the rooms.
func Components() []db.Component {
	return []db.Component{body.Schema, mailbox.Schema, queue.Schema, trace.Schema}
}

// Clock is a clock that tests set. Safe for concurrent use.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// Now returns the clock's time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// NewClock is a clock that stands at the present.
func NewClock() *Clock { return &Clock{now: time.Now().Truncate(time.Millisecond)} }

// Journal remembers events.
type Journal struct {
	mu     sync.Mutex
	events []body.Event
}

// Append implements body.Journal.
func (j *Journal) Append(events ...body.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, events...)
}

// Count returns how many events of a kind there were.
func (j *Journal) Count(kind body.EventKind) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := 0
	for i := range j.events {
		if j.events[i].Kind == kind {
			n++
		}
	}
	return n
}

// Options change what Open builds; zero is the usual.
type Options struct {
	Body    body.Store // nil is segments in a folder of the test
	DB      func(db.Database) db.Database
	Mailbox func(*mailbox.Config)
	Queue   func(*queue.Config)
	Clock   *Clock
}

// House is the rooms.
type House struct {
	DB        db.Database
	Body      body.Store
	Journal   *Journal
	Mailboxes *mailbox.Store
	Queue     *queue.Queue
	Trace     *trace.Trace
	Post      *post.Post
	Clock     *Clock
}

// Open builds the rooms on a migrated database.
func Open(tb testing.TB, d db.Database, o Options) *House {
	tb.Helper()
	h := &House{DB: d, Body: o.Body, Journal: &Journal{}, Clock: o.Clock}
	if h.Clock == nil {
		h.Clock = NewClock()
	}
	if h.Body == nil {
		h.Body = Segments(tb, d)
	}
	if o.DB != nil {
		h.DB = o.DB(d)
	}
	cfg := mailbox.Config{DB: h.DB, Body: h.Body, Journal: h.Journal, Now: h.Clock.Now}
	if o.Mailbox != nil {
		o.Mailbox(&cfg)
	}
	var err error
	if h.Mailboxes, err = mailbox.New(cfg); err != nil {
		tb.Fatal(err)
	}
	if h.Trace, err = trace.New(trace.Config{DB: h.DB, Now: h.Clock.Now}); err != nil {
		tb.Fatal(err)
	}
	qcfg := queue.Config{DB: h.DB, Trace: h.Trace, Now: h.Clock.Now}
	if o.Queue != nil {
		o.Queue(&qcfg)
	}
	if h.Queue, err = queue.New(qcfg); err != nil {
		tb.Fatal(err)
	}
	if h.Post, err = post.New(post.Config{DB: h.DB, Body: h.Body, Mailboxes: h.Mailboxes, Queue: h.Queue, Trace: h.Trace, Now: h.Clock.Now}); err != nil {
		tb.Fatal(err)
	}
	return h
}

// Segments opens a body store in a folder of the test.
func Segments(tb testing.TB, d db.Database) *body.Segments {
	tb.Helper()
	fs, err := disk.OS(tb.TempDir())
	if err != nil {
		tb.Fatal(err)
	}
	s, err := body.OpenSegments(context.Background(), body.Config{FS: fs, DB: d})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("close segments: %v", err)
		}
	})
	return s
}

// Address parses an address.
func Address(tb testing.TB, s string) address.Address {
	tb.Helper()
	a, err := address.Parse(s)
	if err != nil {
		tb.Fatalf("address %q: %v", s, err)
	}
	return a
}

// Stage stages text.
func (h *House) Stage(tb testing.TB, text string) body.Staged {
	tb.Helper()
	st, err := h.Body.Stage(context.Background(), int64(len(text)))
	if err != nil {
		panic(fmt.Sprintf("stage: %v", err)) // may not be the test's goroutine
	}
	if _, bench := tb.(*testing.B); !bench {
		tb.Cleanup(st.Discard)
	}
	if _, err := io.WriteString(st, text); err != nil {
		tb.Error(err)
	}
	return st
}

// ID makes a message id.
func (h *House) ID(tb testing.TB) message.ID {
	tb.Helper()
	id, err := message.NewID(h.Clock.Now(), rand.Reader)
	if err != nil {
		tb.Error(err)
	}
	return id
}

// Login is the login of an account in tests.
func Login(account envelope.AccountID) string { return fmt.Sprintf("user%d@poczta.example", account) }

// Identity is the identity of an account in tests.
func Identity(account envelope.AccountID) sasl.Identity {
	return sasl.Identity{Account: account, Login: Login(account)}
}

// Delivery makes a delivery of text for some accounts and remote addresses.
func (h *House) Delivery(tb testing.TB, text string, accounts []envelope.AccountID, remotes ...string) *post.Delivery {
	tb.Helper()
	d := &post.Delivery{ID: h.ID(tb), MessageID: "<" + h.ID(tb).String() + "@origin.example>", Staged: h.Stage(tb, text),
		Head: []byte("Received: from origin.example\r\n")}
	d.Envelope.ReversePath = address.NewReversePath(Address(tb, "sender@origin.example"))
	d.Envelope.Origin.ConnID = "c1"
	for _, a := range accounts {
		d.Locals = append(d.Locals, post.Local{Recipients: []int{len(d.Envelope.Recipients)}, Account: a, Login: Login(a),
			Prefix: []byte("Return-Path: <sender@origin.example>\r\nDelivered-To: " + Login(a) + "\r\n")})
		d.Envelope.Recipients = append(d.Envelope.Recipients, envelope.Recipient{ForwardPath: address.NewForwardPath(Address(tb, Login(a)))})
	}
	for _, r := range remotes {
		path := address.NewForwardPath(Address(tb, r))
		d.Remotes = append(d.Remotes, post.Remote{Recipient: len(d.Envelope.Recipients), ForwardPath: path})
		d.Envelope.Recipients = append(d.Envelope.Recipients, envelope.Recipient{ForwardPath: path})
	}
	return d
}

// Deliver accepts text for an account and returns the message's id.
func (h *House) Deliver(tb testing.TB, account envelope.AccountID, text string) message.ID {
	tb.Helper()
	d := h.Delivery(tb, text, []envelope.AccountID{account})
	if err := h.Post.Accept(context.Background(), d); err != nil {
		tb.Error(err)
	}
	return d.ID
}

// Text is a small message with a subject.
func Text(subject string) string {
	return "From: sender@origin.example\r\nSubject: " + subject + "\r\n\r\nHello.\r\n"
}

// Long is a message of about n octets.
func Long(n int) string {
	line := strings.Repeat("x", 70) + "\r\n"
	return Text("long") + strings.Repeat(line, n/len(line))
}
