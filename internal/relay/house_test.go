package relay_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/mx"
	"poczta.example/poczta/internal/post/posttest"
	"poczta.example/poczta/internal/relay"
	"poczta.example/poczta/internal/report"
	"poczta.example/poczta/internal/trace"
)

// street is a house with its real rooms, and hosts of others around it.
type street struct {
	*posttest.House
	names *names
	peers map[string]*peer.Peer // by address and port
	cfg   relay.Config
}

func newStreet(t *testing.T, d db.Database) *street {
	t.Helper()
	s := &street{House: posttest.Open(t, d, posttest.Options{}), names: &names{hosts: map[string][]string{}, errs: map[string]*mx.Error{}}, peers: map[string]*peer.Peer{}}
	router := &intaketest.Router{Domains: []string{"here.example"}, Routes: map[string]account.Route{
		"ala@here.example": {Match: account.MatchAddress, Locals: []account.Local{{Account: 1, Login: posttest.Login(1), Address: intaketest.Addr(t, "ala@here.example"), Language: "pl"}}}}}
	reports, err := report.New(report.Config{Hostname: domainOf("here.example"), Accepter: s.Post, Router: router, Now: s.Clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	s.cfg = relay.Config{Queue: relay.FromQueue(s.Queue), Bodies: s.Body, MX: s.names, Reports: reports, Accepter: s.Post, Hello: "here.example", Now: s.Clock.Now, Dial: s.dial,
		Poll: 20 * time.Millisecond, Idle: 50 * time.Millisecond}
	return s
}

func (s *street) dial(_ context.Context, _, addr string, _ netip.Addr) (net.Conn, error) {
	if p := s.peers[addr]; p != nil {
		return p.Dial(), nil
	}
	return nil, fmt.Errorf("dial %s: connection refused", addr)
}

func (s *street) serve(t *testing.T, domain string, cfg peer.Config) *peer.Peer {
	t.Helper()
	p := peer.Start(t, cfg)
	addr := fmt.Sprintf("192.0.2.%d", len(s.peers)+1)
	s.names.hosts[domain] = []string{"mx." + domain + "=" + addr}
	s.peers[addr+":25"] = p
	return p
}

func (s *street) start(t *testing.T) {
	t.Helper()
	r, err := relay.New(s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

// wait waits until ok, for two minutes at most.
func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// fate is a recipient's fate in the trace.
func (s *street) fate(t *testing.T, id message.ID, n int) string {
	t.Helper()
	found, err := s.Trace.Find(t.Context(), trace.Viewer{Operator: true}, trace.Query{ID: id})
	if err != nil || len(found) != 1 {
		t.Fatalf("%d messages, %v", len(found), err)
	}
	return found[0].Fates[n].State.String() + " " + found[0].Fates[n].Detail
}

// TestHouse delivers with the real queue, store, trace and reports.
func TestHouse(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, posttest.Components(), func(t *testing.T, d db.Database) {
		s := newStreet(t, d)
		them := s.serve(t, "them.example", peer.Config{Rules: []peer.Rule{
			{Stage: peer.Rcpt, Match: "gone", Do: peer.Reply("550 5.1.1 nobody of that name")},
			{Stage: peer.Rcpt, Match: "grey", Times: 1, Do: peer.Reply("450 4.2.0 come back")}}})
		origin := s.serve(t, "origin.example", peer.Config{})
		mail := s.Delivery(t, posttest.Text("hello"), nil, "ok@them.example", "gone@them.example", "grey@them.example")
		mail.Envelope.Origin.Account, mail.Envelope.Return = 1, envelope.ReturnFull
		mail.Ours = true
		if err := s.Post.Accept(t.Context(), mail); err != nil {
			t.Fatal(err)
		}
		s.start(t)
		wait(t, "first attempt and the report", func() bool { return len(them.Messages()) == 1 && len(origin.Messages()) == 1 })
		wait(t, "the fates", func() bool { return strings.HasPrefix(s.fate(t, mail.ID, 1), "bounced") })
		bounce := origin.Messages()[0]
		if text := string(bounce.Data); bounce.From != "" || !strings.Contains(text, "nobody of that name") || !strings.Contains(text, "Remote-MTA: dns; mx.them.example") || !strings.Contains(text, "Hello.") {
			t.Errorf("report from %q: %s", bounce.From, text)
		}
		if n := bounce.Rcpts[0]; n.Path != "sender@origin.example" || !strings.Contains(n.Params, "NOTIFY=NEVER") {
			t.Errorf("report to %+v", n)
		}
		wait(t, "the deferral", func() bool {
			m, err := s.Queue.Show(t.Context(), mail.ID)
			return err == nil && len(m.Recipients) == 1 && m.Recipients[0].Attempts == 1
		})
		s.Clock.Advance(59 * time.Second)
		<-time.After(100 * time.Millisecond)
		if len(them.Messages()) != 1 {
			t.Error("the second attempt came before its time")
		}
		s.Clock.Advance(20 * time.Second)
		wait(t, "second attempt", func() bool { return len(them.Messages()) == 2 })
		wait(t, "an empty queue", func() bool {
			m, r, err := s.Queue.Count(t.Context())
			return err == nil && m == 0 && r == 0
		})
		for n, want := range []string{"relayed mx.them.example [192.0.2.1]: 250", "bounced mx.them.example [192.0.2.1]: 550 5.1.1 nobody of that name", "relayed mx.them.example"} {
			if got := s.fate(t, mail.ID, n); !strings.HasPrefix(got, want) {
				t.Errorf("recipient %d: %s", n, got)
			}
		}
		events, err := s.Trace.Events(t.Context(), trace.Viewer{Operator: true}, mail.ID)
		if err != nil || len(events) != 1 || events[0].Kind != trace.KindAttempt || !strings.Contains(events[0].Detail, "450 4.2.0 come back") {
			t.Errorf("events %+v, %v", events, err)
		}
		said, err := s.Trace.Dialogues(t.Context(), trace.Viewer{Operator: true}, mail.ID)
		if err != nil || len(said) == 0 || !strings.Contains(said[0].Text, "C: RCPT TO:<gone@them.example>") {
			t.Errorf("dialogues %+v, %v", said, err)
		}
		if n := s.Journal.Count(0); n != 0 {
			t.Errorf("%d events of no kind", n)
		}
	})
}

// TestHouseTellsItsOwn has reports of delay and failure for an account here, in its language.
func TestHouseTellsItsOwn(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, posttest.Components(), func(t *testing.T, d db.Database) {
		s := newStreet(t, d)
		s.cfg.DelayAfter = time.Hour
		s.serve(t, "them.example", peer.Config{Rules: []peer.Rule{{Stage: peer.Final, Do: peer.Reply("451 4.3.0 try later")}}})
		mail := s.Delivery(t, posttest.Text("hello"), nil, "a@them.example")
		mail.Envelope.ReversePath, mail.Envelope.Origin.Account, mail.Ours = intaketest.From(t, "ala@here.example"), 1, true
		if err := s.Post.Accept(t.Context(), mail); err != nil {
			t.Fatal(err)
		}
		s.start(t)
		attempts := func(n int) func() bool {
			return func() bool {
				m, err := s.Queue.Show(t.Context(), mail.ID)
				return err == nil && m.Recipients[0].Attempts == n
			}
		}
		wait(t, "first attempt", attempts(1))
		s.Clock.Advance(6 * 24 * time.Hour)
		wait(t, "the fate", func() bool { return strings.HasPrefix(s.fate(t, mail.ID, 0), "bounced") })
		var letters []string
		if err := s.Mailboxes.Walk(t.Context(), 1, func(e mailbox.Entry) error {
			r, err := s.Mailboxes.OpenEntry(t.Context(), &e)
			if err != nil {
				return err
			}
			defer r.Close()
			text, err := io.ReadAll(r)
			letters = append(letters, string(text))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if len(letters) != 1 || !strings.Contains(letters[0], "Status: 5.4.7") || !strings.Contains(letters[0], "Content-Language: pl") || !strings.Contains(letters[0], "451 4.3.0 try later") {
			t.Errorf("%q", letters)
		}
	})
}

// TestNodes has three nodes work one queue on PostgreSQL, of which one leaves in the middle:
// each message comes once.
func TestNodes(t *testing.T) {
	t.Parallel()
	d := dbtest.Postgres(t)
	if err := db.Migrate(t.Context(), d, posttest.Components()); err != nil {
		t.Fatal(err)
	}
	s := newStreet(t, d)
	var peers []*peer.Peer
	const domains, each = 20, 15
	for i := range domains {
		name := fmt.Sprintf("d%d.example", i)
		peers = append(peers, s.serve(t, name, peer.Config{}))
		for k := range each {
			if err := s.Post.Accept(t.Context(), s.Delivery(t, posttest.Text("hello"), nil, fmt.Sprintf("r%d@%s", k, name))); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.start(t)
	s.start(t)
	r, err := relay.New(s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() { left <- r.Run(ctx) }()
	wait(t, "some mail", func() bool { return len(peers[0].Messages())+len(peers[domains-1].Messages()) > 0 })
	cancel()
	if err := <-left; err != nil {
		t.Error(err)
	}
	wait(t, "an empty queue", func() bool {
		m, _, err := s.Queue.Count(t.Context())
		return err == nil && m == 0
	})
	for i, p := range peers {
		copies := p.Copies()
		if len(copies) != each {
			t.Errorf("host %d got %d messages", i, len(copies))
		}
		for copy, n := range copies {
			if n != 1 {
				t.Errorf("%v came %d times", copy, n)
			}
		}
	}
}
