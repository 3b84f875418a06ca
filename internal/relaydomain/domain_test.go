package relaydomain_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/relaydomain"
	"poczta.example/poczta/internal/smtp"
)

// fixed finds the same addresses for every domain.
type fixed struct {
	addrs []netip.AddrPort
	err   error
}

func (f fixed) Find(context.Context, address.Domain, string) ([]netip.AddrPort, error) {
	return f.addrs, f.err
}

// network connects to peers by address; others are unreachable. It counts how often
// it was asked, and how many connections were open at most.
type network struct {
	mu         sync.Mutex
	peers      map[string]*peer.Peer
	dials      int
	open, most int
}

func (n *network) DialContext(ctx context.Context, _, addr string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dials++
	p := n.peers[addr]
	if p == nil {
		return nil, errors.New("no route to host")
	}
	n.open++
	n.most = max(n.most, n.open)
	return &counted{Conn: p.Dial(), n: n}, nil
}

func (n *network) dialled() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials
}

type counted struct {
	net.Conn

	n    *network
	once sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() {
		c.n.mu.Lock()
		defer c.n.mu.Unlock()
		c.n.open--
	})
	return c.Conn.Close()
}

var primary = netip.MustParseAddrPort("192.0.2.5:25")

// house is a primary host that knows ala, and relay domains above it.
type house struct {
	*relaydomain.Domains
	peer *peer.Peer
	net  *network
	now  time.Time
}

// unknownUsers makes a peer refuse everybody but ala and postmaster.
func unknownUsers() peer.Rule {
	return peer.Rule{Stage: peer.Rcpt, Match: "nobody", Do: peer.Reply("550 5.1.1 nobody here")}
}

func newHouse(t testing.TB, change func(*relaydomain.Config), rules ...peer.Rule) *house {
	t.Helper()
	h := &house{now: time.Date(2026, 11, 23, 7, 0, 0, 0, time.UTC)}
	h.peer = peer.Start(t, peer.Config{Rules: append(rules, unknownUsers())})
	h.net = &network{peers: map[string]*peer.Peer{primary.String(): h.peer}}
	c := relaydomain.Config{
		Hello: "mx.example.org", Finder: fixed{addrs: []netip.AddrPort{primary}}, Dialer: h.net, Now: func() time.Time { return h.now },
		Domains: []relaydomain.Domain{
			{Name: domain(t, "call.example"), ETRN: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}},
			{Name: domain(t, "sure.example"), AcceptWhenDown: true},
			{Name: domain(t, "list.example"), Recipients: relaydomain.List, List: []address.Address{intaketest.Addr(t, "Ala@list.example")},
				ETRN: []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")}},
			{Name: domain(t, "any.example"), Recipients: relaydomain.Any},
			{Name: domain(t, "sub.call.example"), ETRN: []netip.Prefix{netip.MustParsePrefix("192.0.2.7/32")}},
		},
	}
	if change != nil {
		change(&c)
	}
	d, err := relaydomain.New(c)
	if err != nil {
		t.Fatal(err)
	}
	h.Domains = d
	return h
}

func domain(t testing.TB, s string) address.Domain {
	t.Helper()
	d, err := address.ParseDomain(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// verify is the reply to a recipient: "250", "550 1.1", or "not ours".
func (h *house) verify(ctx context.Context, t testing.TB, to string) string {
	t.Helper()
	relayed, err := h.Verify(ctx, intaketest.To(t, to))
	if !relayed && err == nil {
		return "not ours"
	}
	return code(err)
}

func code(err error) string {
	if err == nil {
		return "250"
	}
	e, ok := errors.AsType[*smtp.Error](err)
	if !ok {
		return "other: " + err.Error()
	}
	return fmt.Sprintf("%d %d.%d", e.Reply.Code, e.Reply.Subject, e.Reply.Detail)
}

func TestVerify(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	for to, want := range map[string]string{
		"ala@call.example":              "250",
		"ala@CALL.example":              "250",
		"nobody@call.example":           "550 1.1",
		"ala@list.example":              "250",
		"ola@list.example":              "550 1.1",
		"Postmaster@list.example":       "250",
		"anybody@any.example":           "250",
		"x%else.example@any.example":    "550 1.3",
		"else.example!x@any.example":    "550 1.3",
		`"x@else.example"@any.example`:  "550 1.3",
		"ala%else.example@call.example": "550 1.3",
		"ala@other.example":             "not ours",
		"ala@x.call.example":            "not ours",
		"ala@[192.0.2.5]":               "not ours",
		"postmaster":                    "not ours",
	} {
		if got := h.verify(t.Context(), t, to); got != want {
			t.Errorf("%s: %s, want %s", to, got, want)
		}
	}
	if len(h.peer.Messages()) != 0 || h.peer.Seen(peer.Data) != 0 {
		t.Error("a question became a message")
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]relaydomain.Config{
		"nobody to ask":     {Domains: []relaydomain.Domain{{Name: domain(t, "a.example")}}},
		"no name":           {Domains: []relaydomain.Domain{{Recipients: relaydomain.Any}}},
		"a literal":         {Domains: []relaydomain.Domain{{Name: domain(t, "[192.0.2.1]"), Recipients: relaydomain.Any}}},
		"twice":             {Domains: []relaydomain.Domain{{Name: domain(t, "a.example"), Recipients: relaydomain.Any}, {Name: domain(t, "A.example"), Recipients: relaydomain.Any}}},
		"unknown way":       {Domains: []relaydomain.Domain{{Name: domain(t, "a.example"), Recipients: 9}}},
		"list of elsewhere": {Domains: []relaydomain.Domain{{Name: domain(t, "a.example"), Recipients: relaydomain.List, List: []address.Address{intaketest.Addr(t, "x@b.example")}}}},
		"negative":          {Calls: -1},
		"negative time":     {Pause: -1},
	} {
		if _, err := relaydomain.New(c); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := relaydomain.New(relaydomain.Config{}); err != nil {
		t.Errorf("no domains: %v", err)
	}
}
