// Package intaketest holds the small fakes that services are tested with: an
// Accepter that keeps what it accepted, a Router over a map, Rooms with quotas,
// and the addresses' shorthands. For tests only.
package intaketest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"sync"
	"testing"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/post"
)

// Addr parses an address.
func Addr(t testing.TB, s string) address.Address {
	t.Helper()
	a, err := address.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// To parses a forward-path without its brackets; "postmaster" is the bare one.
func To(t testing.TB, s string) address.ForwardPath {
	t.Helper()
	p, err := address.ParseForwardPath("<"+s+">", true)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// From parses a reverse-path without its brackets; "" is the null one.
func From(t testing.TB, s string) address.ReversePath {
	t.Helper()
	p, err := address.ParseReversePath("<"+s+">", true)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Staged is a body.Staged in memory.
type Staged struct {
	buf       bytes.Buffer
	Err       error // of the next Write
	Discarded bool
}

// Write implements io.Writer.
func (s *Staged) Write(p []byte) (int, error) {
	if s.Err != nil {
		return 0, s.Err
	}
	return s.buf.Write(p)
}

// Octets implements body.Staged.
func (s *Staged) Octets() int64 { return int64(s.buf.Len()) }

// SHA256 implements body.Staged.
func (s *Staged) SHA256() [32]byte { return sha256.Sum256(s.buf.Bytes()) }

// ReadAt implements io.ReaderAt.
func (s *Staged) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(s.buf.Bytes()).ReadAt(p, off)
}

// Discard implements body.Staged.
func (s *Staged) Discard() { s.Discarded = true }

// Text is what was written.
func (s *Staged) Text() string { return s.buf.String() }

// Accepted is a delivery with its octets.
type Accepted struct {
	post.Delivery
	Text string // the staged octets
	Also []Accepted
}

// Accepter keeps what it accepts. Safe for concurrent use.
type Accepter struct {
	StageErr, WriteErr, AcceptErr error // what the next calls return

	mu       sync.Mutex
	accepted []Accepted
	staged   []*Staged
}

// Stage implements post.Accepter.
func (a *Accepter) Stage(context.Context, int64) (body.Staged, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.StageErr != nil {
		return nil, a.StageErr
	}
	s := &Staged{Err: a.WriteErr}
	a.staged = append(a.staged, s)
	return s, nil
}

// Accept implements post.Accepter.
func (a *Accepter) Accept(_ context.Context, d *post.Delivery) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.AcceptErr != nil {
		return a.AcceptErr
	}
	a.accepted = append(a.accepted, keep(d))
	return nil
}

func keep(d *post.Delivery) Accepted {
	k := Accepted{Delivery: *d, Text: d.Staged.(*Staged).Text()}
	for i := range d.Also {
		k.Also = append(k.Also, keep(&d.Also[i]))
	}
	return k
}

// Accepted returns what was accepted.
func (a *Accepter) Accepted() []Accepted {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.accepted
}

// Leaked reports how many staged messages were not discarded.
func (a *Accepter) Leaked() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, s := range a.staged {
		if !s.Discarded {
			n++
		}
	}
	return n
}

// Router answers by key of the forward-path; other addresses of Domains are
// unknown users, and of other domains not local.
type Router struct {
	Domains []string
	Routes  map[string]account.Route
	Errs    map[string]error
}

// Route implements the services' Router.
func (r *Router) Route(_ context.Context, to address.ForwardPath) (account.Route, error) {
	if err, ok := r.Errs[to.Key()]; ok {
		return account.Route{}, err
	}
	if route, ok := r.Routes[to.Key()]; ok {
		return route, nil
	}
	for _, d := range r.Domains {
		if to.IsPostmaster() || to.Address().Domain().String() == d {
			return account.Route{}, account.ErrUnknownUser
		}
	}
	return account.Route{}, account.ErrNotLocal
}

// Rooms counts reservations; accounts of Full are over quota. Safe for concurrent use.
type Rooms struct {
	Full map[envelope.AccountID]bool
	Err  error

	mu   sync.Mutex
	held map[envelope.AccountID]int64
}

// Reserve implements the services' Rooms.
func (r *Rooms) Reserve(_ context.Context, id envelope.AccountID, _, size int64) (func(), error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.Err != nil {
		return nil, r.Err
	}
	if r.Full[id] {
		return nil, mailbox.ErrOverQuota
	}
	if r.held == nil {
		r.held = map[envelope.AccountID]int64{}
	}
	r.held[id] += size + 1
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.held[id] -= size + 1
	}, nil
}

// Held is what is reserved at this moment, over all accounts.
func (r *Rooms) Held() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	var n int64
	for _, h := range r.held {
		n += h
	}
	return n
}
