package relay_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/dsn"
	"poczta.example/poczta/internal/mx"
	"poczta.example/poczta/internal/relay"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/smtpclient"
)

// The kinds of hosts in the simulation.
type kind int

const (
	good         kind = iota
	grey              // puts a recipient off for its first quarter of an hour
	downForHours      // refuses connections for some hours
	dead              // never answers
	nobody            // knows none of its recipients
	later             // puts the message off for ever
	lossy             // loses the reply to the first two messages
	flapping          // refuses every third connection
	blocking          // greets with 554
	noDNS             // its name server is away for two days
	kinds
)

// simHost is the host of one destination.
type simHost struct {
	mu        sync.Mutex
	kind      kind
	born      time.Time
	dials     []time.Time
	lastTry   map[string]time.Time // of a recipient
	tries     map[string]int
	accepted  map[string]int
	lost      int
	violation []string
}

// sim is the world of the simulation: DNS, network and hosts in one.
type sim struct {
	hosts map[string]*simHost
	retry []time.Duration

	mu   sync.Mutex
	open int
	most int
}

func (s *sim) Hosts(_ context.Context, d address.Domain) (mx.Route, error) {
	h := s.hosts[d.String()]
	if h.kind == noDNS && time.Since(h.born) < 48*time.Hour {
		return mx.Route{}, &mx.Error{Domain: d, Reply: smtp.Reply{Code: 451, Subject: 4, Detail: 3, Text: "SERVFAIL"}}
	}
	var n int
	if _, err := fmt.Sscanf(d.String(), "d%d.example", &n); err != nil {
		return mx.Route{}, err
	}
	return mx.Route{Domain: d, Hosts: []mx.Host{{Name: d, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})}}}}, nil
}

func (s *sim) Addrs(ctx context.Context, d address.Domain) (mx.Route, error) { return s.Hosts(ctx, d) }

// simConn carries the host's name from dial to open.
type simConn struct {
	net.Conn
	host *simHost
}

func (s *sim) dial(ctx context.Context, _, addr string, _ netip.Addr) (net.Conn, error) {
	a := netip.MustParseAddrPort(addr).Addr().As4()
	h := s.hosts[fmt.Sprintf("d%d.example", int(a[1])<<16|int(a[2])<<8|int(a[3]))]
	h.mu.Lock()
	h.dials = append(h.dials, time.Now())
	k, n, age := h.kind, len(h.dials), time.Since(h.born)
	h.mu.Unlock()
	switch {
	case k == dead:
		<-ctx.Done()
		return nil, ctx.Err()
	case k == downForHours && age < 9*time.Hour, k == flapping && n%3 == 1:
		return nil, errors.New("connection refused")
	}
	return &simConn{host: h}, nil
}

func (s *sim) session(_ context.Context, c net.Conn, _ smtpclient.Config) (relay.Session, error) {
	h := c.(*simConn).host
	if h.kind == blocking {
		return nil, &smtpclient.Error{Stage: smtpclient.StageGreeting, Reply: &smtp.Reply{Code: 554, Text: "go away"}}
	}
	s.mu.Lock()
	s.open++
	s.most = max(s.most, s.open)
	s.mu.Unlock()
	return &simSession{s: s, h: h, usable: true}, nil
}

// simSession is a session without a wire.
type simSession struct {
	s      *sim
	h      *simHost
	usable bool
	closed bool
}

func (c *simSession) Extensions() smtpclient.Extensions {
	return smtpclient.Extensions{Pipelining: true, EightBitMIME: true, SMTPUTF8: true, DSN: true}
}
func (c *simSession) TLS() *tls.ConnectionState { return nil }
func (c *simSession) Usable() bool              { return c.usable }
func (c *simSession) Full() bool                { return false }
func (c *simSession) StartTLS(context.Context, *tls.Config) error {
	return &smtpclient.Unsupported{Extension: "STARTTLS"}
}
func (c *simSession) Auth(context.Context, smtpclient.Credentials) error { return nil }

func (c *simSession) Reset(context.Context) error { return nil }

func (c *simSession) Quit(context.Context) error { return c.Close() }

func (c *simSession) Close() error {
	if !c.closed {
		c.closed, c.usable = true, false
		c.s.mu.Lock()
		c.s.open--
		c.s.mu.Unlock()
	}
	return nil
}

func (c *simSession) Send(_ context.Context, m *smtpclient.Message) (smtpclient.Outcome, error) {
	<-time.After(50 * time.Millisecond) // a round trip or two
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	var out smtpclient.Outcome
	for _, r := range m.Recipients {
		out.Recipients = append(out.Recipients, c.rcpt(r.ForwardPath))
	}
	if err := m.Commit(); err != nil {
		return smtpclient.Outcome{Recipients: make([]smtpclient.RecipientOutcome, len(m.Recipients))}, err
	}
	taken := 0
	for i, r := range m.Recipients {
		if out.Recipients[i].Accepted {
			c.h.accepted[r.ForwardPath]++
			taken++
		}
	}
	if c.h.kind == lossy && c.h.lost < 2 && taken > 0 {
		c.h.lost++
		c.usable = false
		return smtpclient.Outcome{Recipients: make([]smtpclient.RecipientOutcome, len(m.Recipients))}, &smtpclient.Error{Stage: smtpclient.StageFinal, Lost: true, Err: io.EOF}
	}
	return out, nil
}

// rcpt answers for one recipient, and looks whether it came too early.
func (c *simSession) rcpt(path string) smtpclient.RecipientOutcome {
	h, now := c.h, time.Now()
	n := h.tries[path]
	if n > 0 {
		if want := c.s.retry[min(n, len(c.s.retry))-1]; now.Sub(h.lastTry[path]) < want {
			h.violation = append(h.violation, fmt.Sprintf("%s: attempt %d came after %v, the schedule says %v", path, n+1, now.Sub(h.lastTry[path]), want))
		}
	}
	h.tries[path]++
	h.lastTry[path] = now
	say := func(stage smtpclient.Stage, code, subject, detail int) smtpclient.RecipientOutcome {
		return smtpclient.RecipientOutcome{Stage: stage, Reply: smtp.Reply{Code: code, Subject: subject, Detail: detail, Text: "so"}, Accepted: code == 250}
	}
	switch {
	case h.kind == grey && now.Sub(h.born) < 15*time.Minute:
		return say(smtpclient.StageRcpt, 450, 2, 0)
	case h.kind == nobody:
		return say(smtpclient.StageRcpt, 550, 1, 1)
	case h.kind == later:
		return say(smtpclient.StageFinal, 451, 3, 0)
	}
	return say(smtpclient.StageFinal, 250, 0, 0)
}

// kindOf has nine of ten hosts good.
func kindOf(n int) kind {
	if n%10 != 0 {
		return good
	}
	return kind(n / 10 % int(kinds))
}

// TestFiveDays has 10,000 destinations with scripted faults over six simulated days. It
// holds: one fate for each recipient, no attempt before the schedule, and bounded memory.
func TestFiveDays(t *testing.T) {
	destinations := 10_000
	if testing.Short() {
		destinations = 1_000
	}
	began := time.Now()
	synctest.Test(t, func(t *testing.T) { fiveDays(t, destinations) })
	t.Logf("six days with %d destinations took %v", destinations, time.Since(began))
}

func fiveDays(t *testing.T, destinations int) {
	w := newWorld(t)
	s := &sim{hosts: make(map[string]*simHost), retry: []time.Duration{time.Minute, 3 * time.Minute, 7 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour}}
	seed := uint64(1)
	var seedMu sync.Mutex
	w.cfg.MX, w.cfg.Dial, w.cfg.Open = s, s.dial, s.session
	w.cfg.Lines, w.cfg.Window, w.cfg.Connections, w.cfg.Patient = 200, 1000, 50, 50
	w.cfg.Poll = 10 * time.Minute
	w.cfg.Random = func() float64 {
		seedMu.Lock()
		defer seedMu.Unlock()
		seed = seed*6364136223846793005 + 1442695040888963407
		return float64(seed>>11) / (1 << 53)
	}
	for n := range destinations {
		name := fmt.Sprintf("d%d.example", n)
		s.hosts[name] = &simHost{kind: kindOf(n), born: time.Now(), lastTry: map[string]time.Time{}, tries: map[string]int{}, accepted: map[string]int{}}
		w.put(w.letter("a@"+name, "b@"+name))
		if n%100 == 0 {
			w.put(w.letter("c@" + name))
		}
	}
	goroutines := 0
	stop := w.start(t)
	for end := time.Now().Add(6 * 24 * time.Hour); time.Now().Before(end); {
		<-time.After(20 * time.Minute)
		goroutines = max(goroutines, runtime.NumGoroutine())
	}
	stop()
	checkFates(t, w, s)
	checkTimes(t, s)
	if w.mostFly > w.cfg.Window || w.mostLine > w.cfg.Lines || s.most > w.cfg.Connections+w.cfg.Patient {
		t.Errorf("at most %d recipients, %d destinations and %d connections at once; the limits are %d, %d and %d", w.mostFly, w.mostLine, s.most, w.cfg.Window, w.cfg.Lines, w.cfg.Connections+w.cfg.Patient)
	}
	if most := w.cfg.Lines + w.cfg.Connections + w.cfg.Patient + w.cfg.Lines + 100; goroutines > most {
		t.Errorf("%d goroutines, at most %d should be needed", goroutines, most)
	}
	t.Logf("%d recipients, at most %d taken, %d destinations on lease, %d connections, %d goroutines", len(w.rows), w.mostFly, w.mostLine, s.most, goroutines)
}

// checkFates looks at each recipient's fate, and at the reports.
func checkFates(t *testing.T, w *world, s *sim) {
	t.Helper()
	failed, delayed := map[string]int{}, map[string]int{}
	for _, n := range w.notes.sent {
		for _, r := range n.recs {
			if r.Action == dsn.Failed {
				failed[r.Final.Address().String()]++
			} else {
				delayed[r.Final.Address().String()]++
			}
		}
	}
	wrong := 0
	for _, r := range w.rows {
		h := s.hosts[r.dest.name]
		want, copies := "relayed 250", 1
		switch h.kind {
		case dead, later, blocking:
			want, copies = "returned 554 5.4.7", 0
		case nobody:
			want, copies = "returned 550", 0
		}
		got := h.accepted[r.ForwardPath]
		if h.kind == later { // it took the data and said no
			got = 0
		}
		reports := 0
		if copies == 0 {
			reports = 1
		}
		ok := len(r.fates) == 1 && strings.HasPrefix(r.fates[0], want) && failed[r.ForwardPath] == reports && delayed[r.ForwardPath] <= 1 &&
			(got == copies || h.kind == lossy && got <= 3)
		if slow := h.kind == dead || h.kind == later || h.kind == blocking || h.kind == noDNS; slow != (delayed[r.ForwardPath] == 1) && h.kind != downForHours {
			ok = false
		}
		if !ok {
			if wrong++; wrong <= 10 {
				t.Errorf("%s (kind %d): fates %q, %d copies, %d and %d reports", r.ForwardPath, h.kind, r.fates, got, failed[r.ForwardPath], delayed[r.ForwardPath])
			}
		}
	}
	if wrong > 10 {
		t.Errorf("%d recipients in all", wrong)
	}
}

// checkTimes looks at the times of attempts.
func checkTimes(t *testing.T, s *sim) {
	t.Helper()
	probe := []time.Duration{time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 30 * time.Minute, time.Hour}
	wrong := 0
	for name, h := range s.hosts {
		if len(h.violation) > 0 {
			if wrong++; wrong < 10 {
				t.Error(h.violation[0])
			}
		}
		if h.kind != dead && h.kind != blocking {
			continue
		}
		// At most Config's first connections at once, then by the schedule.
		round := 0
		for i := 1; i < len(h.dials); i++ {
			gap := h.dials[i].Sub(h.dials[i-1])
			if gap < time.Second {
				continue
			}
			if round++; gap < probe[min(round, len(probe))-1] {
				if wrong++; wrong < 10 {
					t.Errorf("%s (kind %d): probe %d came after %v", name, h.kind, round, gap)
				}
			}
		}
		if len(h.dials) < 110 || len(h.dials) > 140 {
			t.Errorf("%s: %d attempts in five days", name, len(h.dials))
		}
	}
}
