package relay_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/dsn"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/mx"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/relay"
	"poczta.example/poczta/internal/report"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/smtpclient"
)

// serve makes a peer the host of a domain.
func (w *world) serve(t testing.TB, domain string, cfg peer.Config) *peer.Peer {
	t.Helper()
	p := peer.New(cfg)
	n := len(w.hosts) + 1
	addr := fmt.Sprintf("192.0.2.%d", n)
	w.names.hosts[domain] = append(w.names.hosts[domain], fmt.Sprintf("mx%d.%s=%s", n, domain, addr))
	w.hosts[addr+":25"] = func() (net.Conn, error) { return p.Dial(), nil }
	return p
}

// bubble runs fn in virtual time with a world.
func bubble(t *testing.T, fn func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { fn(t, newWorld(t)) })
}

// until lets virtual time pass until every recipient has a fate, or the time is over.
func (w *world) until(t *testing.T, most time.Duration) {
	t.Helper()
	for end := time.Now().Add(most); w.left() > 0 && time.Now().Before(end); {
		<-time.After(time.Second)
	}
}

func TestDelivers(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.serve(t, "them.example", peer.Config{})
		defer p.Close()
		m := w.letter("a@them.example", "b@them.example")
		m.EnvelopeID, m.Return = "env", envelope.ReturnHeaders
		w.put(m)
		stop := w.start(t)
		w.until(t, time.Minute)
		w.put(w.letter("c@them.example"))
		w.until(t, time.Minute)
		stop()
		for _, path := range []string{"a@them.example", "b@them.example", "c@them.example"} {
			if f := w.fate(path); !strings.HasPrefix(f, "relayed 250") {
				t.Errorf("%s: %s", path, f)
			}
		}
		got := p.Messages()
		if len(got) != 2 || len(got[0].Rcpts) != 2 || got[0].From != "us@here.example" || !strings.Contains(got[0].Params, "ENVID=env") || !strings.Contains(got[0].Params, "RET=HDRS") {
			t.Errorf("%+v", got)
		}
		if host := w.row("a@them.example").hosts[0]; host != "mx1.them.example [192.0.2.1]" {
			t.Errorf("host %q", host)
		}
		if n := p.Connections(); n != 1 {
			t.Errorf("%d connections, want the first to be used again", n)
		}
	})
}

// TestStaleConnection has a host that closes idle connections, and takes a message with its
// commands in one flight: the next message is not sent into the closed one.
func TestStaleConnection(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.serve(t, "them.example", peer.Config{Extensions: []string{"PIPELINING", "CHUNKING", "8BITMIME"}, Rules: []peer.Rule{{Stage: peer.Reset, Do: peer.Drop()}}})
		defer p.Close()
		w.put(w.letter("a@them.example"))
		stop := w.start(t)
		<-time.After(2 * time.Second)
		w.put(w.letter("b@them.example"))
		<-time.After(time.Second)
		stop()
		if log := w.row("b@them.example").log; len(log) != 1 || !strings.HasPrefix(log[0], "relayed") || p.Connections() != 2 {
			t.Errorf("%q over %d connections", log, p.Connections())
		}
	})
}

// TestStuck has a message stall before its last reply: what is queued for the same destination
// later does not wait for it.
func TestStuck(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.serve(t, "them.example", peer.Config{Rules: []peer.Rule{{Stage: peer.Final, Conn: 1, Do: peer.Stall()}}})
		defer p.Close()
		w.put(w.letter("stuck@them.example"))
		stop := w.start(t)
		for _, path := range []string{"second@them.example", "third@them.example"} {
			<-time.After(10 * time.Second)
			w.put(w.letter(path))
		}
		<-time.After(20 * time.Second)
		for _, path := range []string{"second@them.example", "third@them.example"} {
			if f := w.fate(path); !strings.HasPrefix(f, "relayed") {
				t.Errorf("%s: %s", path, f)
			}
		}
		if f := w.fate("stuck@them.example"); f != "nothing" {
			t.Errorf("stuck@them.example: %s", f)
		}
		stop()
	})
}

// TestFates has every stage answer in every way, and looks at what becomes of two recipients
// and who is told.
func TestFates(t *testing.T) {
	t.Parallel()
	const dead = "deferred 451 4.4."
	tests := []struct {
		stage peer.Stage
		do    peer.Fault
		want  string // of the first attempt
		host  bool   // whose clock
	}{
		{peer.Connect, peer.Drop(), dead + "2", true},
		{peer.Connect, peer.RST(), dead + "2", true},
		{peer.Greeting, peer.Stall(), dead + "2", true},
		{peer.Greeting, peer.Drop(), dead + "2", true},
		{peer.Greeting, peer.Reply("421 4.3.2 busy"), "deferred 421", true},
		{peer.Greeting, peer.Reply("554 no service"), "deferred 554", true},
		{peer.Greeting, peer.Reply("521 no mail here"), "returned 521", false},
		{peer.Greeting, peer.Garbage(), dead + "2", true},
		{peer.Greeting, peer.Endless(), dead + "2", true},
		{peer.Hello, peer.Reply("451 later"), "deferred 451", true},
		{peer.Hello, peer.Drop(), dead + "2", true},
		{peer.Hello, peer.Stall(), dead + "2", true},
		{peer.Mail, peer.Reply("451 4.3.0 later"), "deferred 451 4.3.0", false},
		{peer.Mail, peer.Reply("421 4.3.2 closing"), "deferred 421", true},
		{peer.Mail, peer.Reply("550 5.7.1 not you"), "returned 550 5.7.1", false},
		{peer.Mail, peer.Drop(), dead + "2", true},
		{peer.Mail, peer.Stall(), dead + "2", true},
		{peer.Mail, peer.Flood(3 << 20), dead + "2", true},
		{peer.Rcpt, peer.Reply("450 4.2.0 greylisted"), "deferred 450 4.2.0", false},
		{peer.Rcpt, peer.Reply("550 5.1.1 nobody"), "returned 550 5.1.1", false},
		{peer.Rcpt, peer.Reply("452 4.5.3 too many"), "deferred 452 4.5.3", false},
		{peer.Rcpt, peer.Drop(), dead + "2", true},
		{peer.Rcpt, peer.Stall(), dead + "2", true},
		{peer.Data, peer.Reply("451 4.3.0 later"), "deferred 451", false},
		{peer.Data, peer.Reply("554 5.6.0 no"), "returned 554", false},
		{peer.Data, peer.Drop(), dead + "2", true},
		{peer.Data, peer.Reply("354 go on", "552 5.3.4 too large").ThenDrop(), "deferred 552", true}, // before it knows how large
		{peer.Body, peer.Drop().AfterOctets(1), dead + "2", false},
		{peer.Body, peer.Reply("552 5.3.4 too large").ThenDrop().AfterOctets(1), "returned 552 5.3.4", false},
		{peer.Final, peer.Reply("451 4.3.0 later"), "deferred 451", false},
		{peer.Final, peer.Reply("550 5.7.1 spam"), "returned 550 5.7.1", false},
		{peer.Final, peer.Reply("421 4.3.2 closing"), "deferred 421", true},
		{peer.Final, peer.Drop(), dead + "2", false},
		{peer.Final, peer.Stall(), dead + "2", false},
		{peer.Final, peer.Garbage(), dead + "2", false},
		{peer.Quit, peer.Drop(), "relayed 250", false},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s %s", tt.stage, tt.do), func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T, w *world) {
				p := w.serve(t, "them.example", peer.Config{Rules: []peer.Rule{{Stage: tt.stage, Do: tt.do}}})
				defer p.Close()
				w.put(w.letter("a@them.example", "b@them.example"))
				stop := w.start(t)
				<-time.After(15*time.Minute + 30*time.Second)
				first := w.row("a@them.example").log
				p.SetRules() // from now on it is well
				w.until(t, 2*time.Hour)
				stop()
				if len(first) == 0 || !strings.HasPrefix(first[0], tt.want) {
					t.Errorf("first attempt %q, want %q", first, tt.want)
				}
				if n := w.left(); n != 0 {
					t.Errorf("%d recipients have no fate: %q", n, w.row("a@them.example").log)
				}
				if d := w.dests["them.example"]; tt.host != (d.ups > 0) {
					t.Errorf("the host came up %d times; %d failures; %q", d.ups, d.failures, w.row("a@them.example").log)
				}
				returned := strings.HasPrefix(tt.want, "returned")
				if reports := w.notes.all(); (len(reports) == 1) != returned {
					t.Errorf("reports %q", reports)
				}
				if !returned && !strings.HasPrefix(w.fate("a@them.example"), "relayed") {
					t.Errorf("in the end: %s", w.fate("a@them.example"))
				}
			})
		})
	}
}

func TestMixedRecipients(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.serve(t, "them.example", peer.Config{Rules: []peer.Rule{
			{Stage: peer.Rcpt, Match: "gone", Do: peer.Reply("550-5.1.1 no such user", "550 5.1.1 here")},
			{Stage: peer.Rcpt, Match: "grey", Times: 1, Do: peer.Reply("450 4.2.0 later")},
			{Stage: peer.Rcpt, Rcpt: 5, Do: peer.Reply("452 4.5.3 too many recipients")},
			{Stage: peer.Rcpt, Rcpt: 6, Do: peer.Reply("552 too many recipients")},
		}})
		defer p.Close()
		m := w.letter("gone1@them.example", "grey@them.example", "ok1@them.example", "gone2@them.example", "ok2@them.example", "ok3@them.example")
		m.Recipients[0].Original = envelope.OriginalRecipient{Type: "rfc822", Address: "Gone1@them.example"}
		m.Recipients[3].Notify = envelope.NotifyNever
		w.put(m)
		stop := w.start(t)
		w.until(t, time.Hour)
		stop()
		if d := cmp.Diff([]string{"failed 5.1.1 gone1@them.example"}, w.notes.all()); d != "" {
			t.Error(d)
		}
		if r := w.notes.sent[0].recs[0]; r.Original.Address != "Gone1@them.example" || r.RemoteMTA != "mx1.them.example" || !strings.Contains(r.Diagnostic, "no such user") || w.notes.sent[0].about.ID != m.ID {
			t.Errorf("report %+v", r)
		}
		for copy, n := range p.Copies() {
			if n != 1 {
				t.Errorf("%v came %d times", copy, n)
			}
		}
		if len(p.Copies()) != 4 || w.left() != 0 {
			t.Errorf("copies %v", p.Copies())
		}
		if len(w.row("ok2@them.example").log) != 1 {
			t.Errorf("too many recipients cost a wait: %q", w.row("ok2@them.example").log)
		}
	})
}

func TestNextHost(t *testing.T) {
	for _, do := range []peer.Fault{peer.Drop(), peer.Reply("421 4.3.2 busy"), peer.Reply("554 no")} {
		t.Run(do.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				bad := w.serve(t, "them.example", peer.Config{Rules: []peer.Rule{{Stage: peer.Greeting, Do: do}}})
				good := w.serve(t, "them.example", peer.Config{})
				defer bad.Close()
				defer good.Close()
				w.put(w.letter("a@them.example"))
				w.put(w.letter("b@them.example"))
				stop := w.start(t)
				w.until(t, time.Minute)
				w.put(w.letter("c@them.example"))
				<-time.After(20 * time.Second)
				stop()
				if w.left() != 0 || len(good.Messages()) != 3 {
					t.Errorf("%d left, %d came", w.left(), len(good.Messages()))
				}
				if n := bad.Connections(); n > 2 {
					t.Errorf("the host that just failed was tried %d times", n)
				}
			})
		})
	}
}

// ended is a session that ended, without an error, as it began.
type ended struct{ relay.Session }

func (ended) Usable() bool { return false }

// TestEndedAtOnce: a session can end at the very moment at which it stands, as when the lease is
// lost just then, and no error tells. The next attempt delivers.
func TestEndedAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.serve(t, "them.example", peer.Config{})
		defer p.Close()
		opened := 0
		w.cfg.Open = func(ctx context.Context, conn net.Conn, cfg smtpclient.Config) (relay.Session, error) {
			s, err := smtpclient.Open(ctx, conn, cfg)
			if opened++; opened == 1 && err == nil {
				return ended{s}, nil
			}
			return s, err
		}
		w.put(w.letter("a@them.example"))
		stop := w.start(t)
		<-time.After(time.Second)
		if log := w.row("a@them.example").log; len(log) != 1 || !strings.Contains(log[0], "session is closed") {
			t.Errorf("the first attempt: %q", log)
		}
		w.until(t, time.Hour)
		stop()
		if w.left() != 0 || len(p.Messages()) != 1 {
			t.Errorf("%d left, %d came", w.left(), len(p.Messages()))
		}
	})
}

func TestDNS(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.names.errs["null.example"] = &mx.Error{Reply: smtp.Reply{Code: 556, Subject: 1, Detail: 10, Text: "null MX"}}
		w.names.errs["later.example"] = &mx.Error{Reply: smtp.Reply{Code: 451, Subject: 4, Detail: 3, Text: "SERVFAIL"}}
		w.put(w.letter("a@null.example", "b@later.example", "c@none.example"))
		stop := w.start(t)
		<-time.After(10 * time.Second)
		for path, want := range map[string]string{"a@null.example": "returned 556 5.1.10 null MX", "b@later.example": "deferred 451 4.4.3", "c@none.example": "returned 550 5.1.2"} {
			if got := w.fate(path); !strings.HasPrefix(got, want) {
				t.Errorf("%s: %s, want %s", path, got, want)
			}
		}
		p := w.serve(t, "later.example", peer.Config{})
		defer p.Close()
		w.names.mu.Lock()
		clear(w.names.errs)
		w.names.mu.Unlock()
		w.until(t, time.Hour)
		stop()
		if got := w.fate("b@later.example"); !strings.HasPrefix(got, "relayed") {
			t.Errorf("later: %s", got)
		}
	})
}

// TestBusyHost has a host that says 421 to each transaction: it is probed by the schedule, though it
// answers.
func TestBusyHost(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.serve(t, "them.example", peer.Config{Rules: []peer.Rule{{Stage: peer.Mail, Do: peer.Reply("421 4.3.2 busy")}}})
		defer p.Close()
		w.put(w.letter("a@them.example"))
		stop := w.start(t)
		<-time.After(2 * time.Hour)
		stop()
		if n := p.Seen(peer.Mail); n < 6 || n > 8 {
			t.Errorf("%d attempts in two hours, the schedule has 7", n)
		}
	})
}

// TestHostClock has a host that is down for hours: its recipients' own clocks stand still,
// and all go at once when it is back.
func TestHostClock(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.serve(t, "them.example", peer.Config{Rules: []peer.Rule{{Stage: peer.Greeting, Do: peer.Drop()}}})
		defer p.Close()
		for range 50 {
			w.put(w.letter(fmt.Sprintf("a%d@them.example", w.serial)))
		}
		stop := w.start(t)
		<-time.After(3 * time.Hour)
		probes := p.Connections()
		p.SetRules()
		<-time.After(time.Hour + time.Minute)
		stop()
		if w.left() != 0 {
			t.Errorf("%d left", w.left())
		}
		if probes > 3+9 { // 1+2+5+10+20+30 min, 1 h; the first attempt may be on several connections
			t.Errorf("%d probes in three hours", probes)
		}
		writes := 0
		for _, r := range w.rows {
			writes += len(r.log)
		}
		if writes > 50+12 {
			t.Errorf("%d results written for 50 recipients: those of a host that is down should not be", writes)
		}
	})
}

func TestExpires(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.serve(t, "grey.example", peer.Config{Rules: []peer.Rule{{Stage: peer.Rcpt, Do: peer.Reply("450 4.2.1 mailbox busy")}}})
		q := w.serve(t, "dead.example", peer.Config{Rules: []peer.Rule{{Stage: peer.Greeting, Do: peer.Drop()}}})
		defer p.Close()
		defer q.Close()
		w.put(w.letter("a@grey.example"))
		w.put(w.letter("b@dead.example"))
		w.put(w.letter("c@dead.example"))
		null := w.letter("d@dead.example")
		null.ReversePath = ""
		w.put(null)
		began := time.Now()
		stop := w.start(t)
		w.until(t, 6*24*time.Hour)
		took := time.Since(began)
		stop()
		if took < queue.DefaultLifetime || took > queue.DefaultLifetime+5*time.Hour {
			t.Errorf("took %v", took)
		}
		want := []string{"delayed 4.2.1 a@grey.example", "delayed b@dead.example", "delayed c@dead.example", "failed 5.4.7 a@grey.example", "failed 5.4.7 b@dead.example", "failed 5.4.7 c@dead.example"}
		got := w.notes.all()
		for i := range got { // whoever was probed has a status of its own
			got[i] = strings.Replace(strings.Replace(got[i], "delayed 4.4.0 ", "delayed ", 1), "delayed 4.4.2 ", "delayed ", 1)
		}
		slices.Sort(got)
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		if r := w.row("a@grey.example"); r.Attempts < 30 || r.Attempts > 40 || r.warned != 1 || !strings.Contains(r.fates[0], "450 4.2.1 mailbox busy") {
			t.Errorf("%d attempts, %d warnings, %q", r.Attempts, r.warned, r.fates)
		}
	})
}

// TestClockStep holds that a step of the clock by itself returns nothing.
func TestExpiresOnlyByAnAttempt(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.serve(t, "them.example", peer.Config{})
		defer p.Close()
		m := w.letter("a@them.example")
		m.Expires = m.Queued.Add(-24 * time.Hour)
		w.put(m)
		stop := w.start(t)
		w.until(t, time.Minute)
		stop()
		if f := w.fate("a@them.example"); !strings.HasPrefix(f, "relayed") {
			t.Error(f)
		}
	})
}

// TestStop ends the relay while a transaction is under way: it may end, and what was not
// begun is given back.
func TestStop(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.serve(t, "them.example", peer.Config{Rules: []peer.Rule{{Stage: peer.Final, Do: peer.Late(10 * time.Second)}}})
		defer p.Close()
		for range 30 {
			w.put(w.letter(fmt.Sprintf("a%d@them.example", w.serial)))
		}
		stop := w.start(t)
		<-time.After(5 * time.Second)
		began := time.Now()
		stop()
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("took %v", took)
		}
		if n := 30 - w.left(); n == 0 || n != len(p.Messages()) {
			t.Errorf("%d settled, %d came", n, len(p.Messages()))
		}
	})
}

// TestLeaseLost pauses a node in front of the final dot: nothing goes out, and the next
// incarnation delivers each message once.
func TestLeaseLost(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.serve(t, "them.example", peer.Config{Extensions: []string{"8BITMIME"}, Rules: []peer.Rule{{Stage: peer.Data, Times: 1, Do: peer.Late(3 * time.Second)}}})
		defer p.Close()
		w.put(w.letter("a@them.example"))
		stop := w.start(t)
		<-time.After(2 * time.Second)
		w.lose()
		<-time.After(4 * time.Second)
		if len(p.Messages()) != 0 {
			t.Error("a message went out without a lease")
		}
		w.reset()
		w.until(t, time.Minute)
		stop()
		if len(p.Messages()) != 1 || w.left() != 0 {
			t.Errorf("%d came, %d left", len(p.Messages()), w.left())
		}
	})
}

func TestSettleIsTriedAgain(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.serve(t, "them.example", peer.Config{})
		defer p.Close()
		w.settleErr, w.errs = fmt.Errorf("the disk is full"), 5
		w.notes.err, w.notes.errs = fmt.Errorf("the disk is full"), 2
		w.put(w.letter("a@them.example", "b@none.example"))
		stop := w.start(t)
		w.until(t, time.Hour)
		stop()
		if len(p.Messages()) != 1 || w.left() != 0 || len(w.notes.sent) != 1 {
			t.Errorf("%d came, %d left, %d reports", len(p.Messages()), w.left(), len(w.notes.sent))
		}
	})
}

func TestReturnedByOperator(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		m := w.letter("a@them.example")
		m.Recipients[0].State, m.Recipients[0].Reason = queue.Returning, "wrong list"
		w.put(m)
		stop := w.start(t)
		w.until(t, time.Minute)
		stop()
		if d := cmp.Diff([]string{"failed 5.0.0 a@them.example"}, w.notes.all()); d != "" {
			t.Error(d)
		}
		if !strings.Contains(w.notes.sent[0].recs[0].Diagnostic, "wrong list") {
			t.Errorf("%+v", w.notes.sent[0].recs[0])
		}
	})
}

func TestNew(t *testing.T) {
	t.Parallel()
	_, err := relay.New(relay.Config{Schedule: relay.Schedule{Retry: []time.Duration{1}}, Routes: []relay.Route{{}}})
	for _, want := range []string{"Queue", "Bodies", "MX", "Reports", "Accepter", "Hello", "schedule", "name"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %s in %v", want, err)
		}
	}
}

// TestRefusedIsTold: what a host refuses for good is told with the account that named the
// recipient, once, also when the report of it has to wait for room; what was put off is not
// told, nor what an operator has returned.
func TestRefusedIsTold(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.serve(t, "them.example", peer.Config{Rules: []peer.Rule{
			{Stage: peer.Rcpt, Match: "nobody", Do: peer.Reply("550 5.1.1 there is nobody")},
			{Stage: peer.Rcpt, Match: "later", Do: peer.Reply("450 4.2.1 later"), Times: 1}}})
		defer p.Close()
		w.notes.err, w.notes.errs = post.ErrFull, 2
		var mu sync.Mutex
		told := map[envelope.AccountID]int{}
		w.cfg.Hooks.Refused = func(id envelope.AccountID) {
			mu.Lock()
			defer mu.Unlock()
			told[id]++
		}
		m := w.letter("a@them.example", "nobody@them.example", "later@them.example", "bounced@them.example")
		m.Account = 7
		m.Recipients[3].State, m.Recipients[3].Reason = queue.Returning, "wrong list"
		w.put(m)
		silent := w.letter("nobody@them.example")
		silent.Account, silent.Recipients[0].Notify = 8, envelope.NotifyNever
		w.put(silent)
		stop := w.start(t)
		w.until(t, 2*time.Hour)
		stop()
		if n := p.Seen(peer.Rcpt); n < 6 || w.left() > 0 {
			t.Errorf("%d recipients were asked for, %d are left: the report did not have to wait", n, w.left())
		}
		if d := cmp.Diff(map[envelope.AccountID]int{7: 1, 8: 1}, told); d != "" {
			t.Error(d)
		}
	})
}

// stuck are reports that can't be made until something changes.
type stuck struct {
	relay.Reports
	free chan struct{}
}

func (s *stuck) Prepare(ctx context.Context, o report.Original, recs []dsn.Recipient) (*post.Delivery, error) {
	<-s.free
	return s.Reports.Prepare(ctx, o, recs)
}

// TestTakenIsNotedAtOnce: what a host has taken is written down while the reports of others, and
// of the same message, have to wait. Until then a crash would send it again.
func TestTakenIsNotedAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.serve(t, "them.example", peer.Config{Rules: []peer.Rule{{Stage: peer.Rcpt, Match: "nobody", Do: peer.Reply("550 5.1.1 there is nobody")}}})
		defer p.Close()
		const messages = 20
		for i := range messages {
			w.put(w.letter(fmt.Sprintf("a%d@them.example", i), fmt.Sprintf("nobody%d@them.example", i)))
		}
		reports := &stuck{Reports: w.cfg.Reports, free: make(chan struct{})}
		w.cfg.Reports = reports
		stop := w.start(t)
		<-time.After(10 * time.Second)
		for i := range messages {
			if f := w.fate(fmt.Sprintf("a%d@them.example", i)); !strings.HasPrefix(f, "relayed 250") {
				t.Errorf("a%d, with reports stuck: %q", i, f)
			}
			if f := w.fate(fmt.Sprintf("nobody%d@them.example", i)); f != "nothing" {
				t.Errorf("nobody%d, of whom no report could be made: %q", i, f)
			}
		}
		close(reports.free)
		w.until(t, time.Minute)
		stop()
		for i := range messages {
			if f := w.fate(fmt.Sprintf("nobody%d@them.example", i)); !strings.HasPrefix(f, "returned 550") {
				t.Errorf("nobody%d: %q", i, f)
			}
		}
		if n := len(w.notes.all()); n != messages {
			t.Errorf("%d reports, want %d", n, messages)
		}
	})
}
