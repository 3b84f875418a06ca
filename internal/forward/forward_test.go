package forward_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/forward"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/relay"
	"poczta.example/poczta/internal/report"
	"poczta.example/poczta/internal/smtp"
)

var components = []db.Component{account.Component(), forward.Schema}

// accepter runs Within, as post does.
type accepter struct {
	intaketest.Accepter
	db db.Database
}

func (a *accepter) Accept(ctx context.Context, d *post.Delivery) error {
	if d.Within != nil {
		if err := a.db.Update(ctx, d.Within); err != nil {
			return fmt.Errorf("accept: %w", err)
		}
	}
	return a.Accepter.Accept(ctx, d)
}

// house has ala, who forwards to far@example.com without a copy, ola, who keeps one, and
// the aliases out (elsewhere) and team (ala, ola and elsewhere).
type house struct {
	*intake.Intake
	forward  *forward.Forwarding
	accounts *account.Accounts
	accepter *accepter
	clock    *clock
}

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newHouse(t *testing.T, d db.Database) *house {
	t.Helper()
	ctx := context.Background()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	h := &house{accepter: &accepter{db: d}, clock: &clock{now: time.Date(2026, 11, 23, 3, 35, 9, 0, time.UTC)}}
	var err error
	h.accounts, err = account.New(account.Config{DB: d, Iterations: 4096, Now: h.clock.Now})
	must(err)
	domain := intaketest.Addr(t, "x@example.org").Domain()
	must(h.accounts.AddDomain(ctx, domain))
	for _, name := range []string{"chief", "ala", "ola"} {
		_, err := h.accounts.Add(ctx, account.NewAccount{Address: intaketest.Addr(t, name+"@example.org"), Language: "en"})
		must(err)
	}
	far := []address.Address{intaketest.Addr(t, "far@example.com")}
	must(h.accounts.SetForward(ctx, h.id(t, "ala"), far, false))
	must(h.accounts.SetForward(ctx, h.id(t, "ola"), []address.Address{intaketest.Addr(t, "ola@example.com")}, true))
	must(h.accounts.AddAlias(ctx, account.Alias{Source: intaketest.Addr(t, "out@example.org"), Targets: far}))
	must(h.accounts.AddAlias(ctx, account.Alias{Source: intaketest.Addr(t, "team@example.org"), Targets: []address.Address{
		intaketest.Addr(t, "ala@example.org"), intaketest.Addr(t, "ola@example.org"), intaketest.Addr(t, "third@example.com")}}))
	h.forward = newForward(t, d, h)
	host := intaketest.Addr(t, "x@mx.example.org").Domain()
	reporter, err := report.New(report.Config{Hostname: host, Accepter: h.accepter, Router: h.accounts, Now: h.clock.Now})
	must(err)
	h.Intake, err = intake.New(intake.Config{Hostname: host, Accepter: h.accepter, Router: h.accounts, Rooms: &intaketest.Rooms{}, Reporter: reporter,
		Forwarding: h.forward, Now: h.clock.Now})
	must(err)
	return h
}

func newForward(t *testing.T, d db.Database, h *house) *forward.Forwarding {
	t.Helper()
	f, err := forward.New(forward.Config{DB: d, Router: h.accounts, Owners: h.accounts, Accepter: h.accepter,
		Hostname: intaketest.Addr(t, "x@mx.example.org").Domain(), Now: h.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (h *house) id(t *testing.T, name string) envelope.AccountID {
	t.Helper()
	a, err := h.accounts.Get(context.Background(), name+"@example.org")
	if err != nil {
		t.Fatal(err)
	}
	return a.ID
}

// send sends a message to one recipient, and returns what became of it.
func (h *house) send(t *testing.T, e envelope.Envelope, msg string, r envelope.Recipient) (intaketest.Accepted, error) {
	t.Helper()
	tx, err := h.Begin(e, intake.Rules{Ours: e.Origin.Account != 0})
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Rcpt(context.Background(), r); err != nil {
		tx.Abort()
		return intaketest.Accepted{}, err
	}
	if _, err := tx.Data(context.Background(), strings.NewReader(msg)); err != nil {
		return intaketest.Accepted{}, err
	}
	all := h.accepter.Accepted()
	return all[len(all)-1], nil
}

func from(t *testing.T, s string, who envelope.AccountID) envelope.Envelope {
	t.Helper()
	return envelope.Envelope{ReversePath: intaketest.From(t, s), Origin: envelope.Origin{Protocol: "ESMTP", Account: who}}
}

func to(t *testing.T, s string, n envelope.Notify) envelope.Recipient {
	t.Helper()
	return envelope.Recipient{ForwardPath: intaketest.To(t, s), Notify: n}
}

const plain = "From: Jan <jan@example.net>\r\nTo: ala@example.org\r\nSubject: Hi\r\n\r\nBody.\r\n"

// remotes prints the copies that go elsewhere, SRS addresses without what is secret.
func remotes(d intaketest.Accepted) string {
	var out []string
	for _, r := range d.Remotes {
		from := r.ReversePath.Address().String()
		if p := strings.SplitN(from, "=", 4); len(p) == 4 {
			from = p[0] + "=" + p[3]
		}
		out = append(out, fmt.Sprintf("%s by %s from %s notify %d", r.ForwardPath.Address(), r.Forward, from, r.Notify))
	}
	return strings.Join(out, "; ")
}

// TestCopies: reverse-path and NOTIFY of forwarded copies, and the report of expansion
// (RFC 3461 §5.2.7.2, §5.2.7.3).
func TestCopies(t *testing.T) {
	t.Parallel()
	const success, failure = envelope.NotifySuccess, envelope.NotifyFailure
	dbtest.Each(t, components, func(t *testing.T, d db.Database) {
		h := newHouse(t, d)
		for _, tt := range []struct {
			name, from, to string
			who            envelope.AccountID
			notify         envelope.Notify
			want           string
			locals         int
			expanded       bool
		}{
			{"account without copy", "jan@example.net", "ala@example.org", 0, success | failure, "far@example.com by ala@example.org from SRS0=example.net=jan@example.org notify 4", 0, true},
			{"account with copy", "jan@example.net", "ola@example.org", 0, success | failure, "ola@example.com by ola@example.org from SRS0=example.net=jan@example.org notify 4", 1, true},
			{"account with copy, only success", "jan@example.net", "ola@example.org", 0, success, "ola@example.com by ola@example.org from SRS0=example.net=jan@example.org notify 1", 1, true},
			{"alias", "jan@example.net", "out@example.org", 0, 0, "far@example.com by out@example.org from SRS0=example.net=jan@example.org notify 4", 0, false},
			{"a sender who is known", "chief@other.example", "ala@example.org", 1, success | failure, "far@example.com by ala@example.org from SRS0=other.example=chief@example.org notify 6", 0, false},
			{"null reverse-path", "", "ala@example.org", 0, 0, "far@example.com by ala@example.org from  notify 0", 0, false},
			{"our own sender", "ola@example.org", "ala@example.org", 0, success, "far@example.com by ala@example.org from  notify 2", 0, false},
			{"another's SRS0", "SRS0=HH=TT=a.example=b@fwd.example", "ala@example.org", 0, 0, "far@example.com by ala@example.org from SRS1=fwd.example==HH=TT=a.example=b@example.org notify 4", 0, false},
			{"several", "jan@example.net", "team@example.org", 0, success, "far@example.com by ala@example.org from SRS0=example.net=jan@example.org notify 1; " +
				"ola@example.com by ola@example.org from SRS0=example.net=jan@example.org notify 1; third@example.com by team@example.org from SRS0=example.net=jan@example.org notify 1", 1, true},
		} {
			got, err := h.send(t, from(t, tt.from, tt.who), plain, to(t, tt.to, tt.notify))
			if err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			if r := remotes(got); r != tt.want {
				t.Errorf("%s: got %s\nwant %s", tt.name, r, tt.want)
			}
			if len(got.Locals) != tt.locals || tt.expanded != (len(got.Also) == 1) {
				t.Errorf("%s: %d local copies, %d reports", tt.name, len(got.Locals), len(got.Also))
			}
			if tt.expanded && len(got.Also) == 1 {
				text := got.Also[0].Text
				if !strings.Contains(text, "Action: expanded") || !strings.Contains(text, "Final-Recipient: rfc822; "+tt.to) || strings.Contains(text, "example.com") {
					t.Errorf("%s: the report is %s", tt.name, text)
				}
			}
		}
	})
}

func refusal(err error) string {
	var e *smtp.Error
	if !errors.As(err, &e) {
		return fmt.Sprint(err)
	}
	return fmt.Sprintf("%d %d.%d", e.Reply.Code, e.Reply.Subject, e.Reply.Detail)
}

// TestReturn: what comes back to an SRS address.
func TestReturn(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, components, func(t *testing.T, d db.Database) {
		h := newHouse(t, d)
		back := func(d intaketest.Accepted) string { return d.Remotes[0].ReversePath.Address().String() }
		stranger, err1 := h.send(t, from(t, "jan@example.net", 0), plain, to(t, "ala@example.org", 0))
		known, err2 := h.send(t, from(t, "chief@other.example", h.id(t, "chief")), plain, to(t, "ala@example.org", 0))
		alias, err3 := h.send(t, from(t, "jan@example.net", 0), plain, to(t, "out@example.org", 0))
		if err := errors.Join(err1, err2, err3); err != nil {
			t.Fatal(err)
		}
		got, err := h.send(t, from(t, "", 0), plain, to(t, back(stranger), 0))
		if err != nil || len(got.Locals) != 1 || got.Locals[0].Account != h.id(t, "ala") || len(got.Remotes) != 0 {
			t.Errorf("to an unverified sender: %+v, %v", got.Delivery, err)
		}
		got, err = h.send(t, from(t, "", 0), plain, to(t, strings.ToLower(back(known)), 0))
		if err != nil || len(got.Locals) != 0 || len(got.Remotes) != 1 || got.Remotes[0].ForwardPath.Address().String() != "chief@other.example" {
			t.Errorf("to a verified sender: %+v, %v", got.Delivery, err)
		}
		got, err = h.send(t, from(t, "", 0), plain, to(t, back(alias), 0))
		if err != nil || len(got.Locals) != 1 || got.Locals[0].Account != h.id(t, "chief") {
			t.Errorf("of an alias: %+v, %v", got.Delivery, err)
		}
		_, err = h.send(t, from(t, "spam@example.net", 0), plain, to(t, back(known), 0))
		if refusal(err) != "550 7.1" {
			t.Errorf("mail that is no report: %v", err)
		}
		for name, s := range map[string]string{
			"forged":             strings.Replace(back(known), "chief", "victim", 1),
			"made up":            "SRS0=AAAAAAAA=AA=victim.example=jan@example.org",
			"nothing but a name": "srs0=@example.org",
		} {
			if _, err := h.send(t, from(t, "", 0), plain, to(t, s, 0)); refusal(err) != "550 1.1" {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := h.send(t, from(t, "", 0), plain, to(t, "SRS0=AAAAAAAA=AA=victim.example=jan@elsewhere.example", 0)); refusal(err) != "550 7.1" {
			t.Errorf("of another domain: %v", err)
		}
		other := newForward(t, d, h) // another node, or the next start
		if _, err := other.Return(context.Background(), intaketest.To(t, back(known))); err != nil {
			t.Errorf("another node: %v", err)
		}
		h.clock.pass(20 * 24 * time.Hour)
		if _, err := h.send(t, from(t, "", 0), plain, to(t, back(known), 0)); err != nil {
			t.Errorf("after 20 days: %v", err)
		}
		h.clock.pass(3 * 24 * time.Hour)
		if _, err := h.send(t, from(t, "", 0), plain, to(t, back(known), 0)); refusal(err) != "550 1.1" {
			t.Errorf("after 23 days: %v", err)
		}
	})
}

// TestSecrets: addresses outlive the change of secrets, on nodes that have not heard of it.
func TestSecrets(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, components, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		h := newHouse(t, d)
		by := account.Forwarder{Source: "ala@example.org", Domain: intaketest.Addr(t, "x@example.org").Domain(), Account: h.id(t, "ala")}
		rewrite := func(f *forward.Forwarding) address.ForwardPath {
			t.Helper()
			p, err := f.Rewrite(ctx, intaketest.From(t, "jan@example.net"), by, true)
			if err != nil {
				t.Fatal(err)
			}
			return address.NewForwardPath(p.Address())
		}
		first, second := h.forward, newForward(t, d, h)
		rewrite(first)
		rewrite(second)
		var made []address.ForwardPath
		for range 8 {
			h.clock.pass(10 * 24 * time.Hour)
			if _, err := first.Marks(ctx, by); err != nil { // its copy of the secrets is fresh
				t.Fatal(err)
			}
			h.clock.pass(time.Minute)
			made = append(made, rewrite(second))
			for _, p := range made[max(0, len(made)-2):] {
				if _, err := first.Return(ctx, p); err != nil {
					t.Fatalf("%s: %v", p, err)
				}
			}
		}
		var n int64
		err := d.View(ctx, func(tx db.Tx) error { return tx.QueryRow(`SELECT COUNT(*) FROM forward_secret`).Scan(&n) })
		if err != nil || n < 2 || n > 4 {
			t.Errorf("%d secrets are left, %v", n, err)
		}
	})
}

// TestLoop: a message knows the forwards it has taken.
func TestLoop(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, components, func(t *testing.T, d db.Database) {
		h := newHouse(t, d)
		first, err := h.send(t, from(t, "jan@example.net", 0), plain, to(t, "ola@example.org", 0))
		if err != nil {
			t.Fatal(err)
		}
		looped := string(first.Head) + first.Text
		if !strings.Contains(looped, "X-Poczta-Forwarded: ") || !strings.HasSuffix(looped, plain) {
			t.Fatalf("the copy is %s", looped)
		}
		again, err := h.send(t, from(t, "x@example.com", 0), looped, to(t, "ola@example.org", 0))
		if err != nil || len(again.Locals) != 1 || len(again.Remotes) != 0 {
			t.Errorf("the second time, with a copy here: %+v, %v", again.Delivery, err)
		}
		other, err := h.send(t, from(t, "x@example.com", 0), looped, to(t, "ala@example.org", 0))
		if err != nil || len(other.Remotes) != 1 {
			t.Errorf("another's forward: %+v, %v", other.Delivery, err)
		}
		_, err = h.send(t, from(t, "x@example.com", 0), string(other.Head)+other.Text, to(t, "ala@example.org", 0))
		if refusal(err) != "554 4.6" {
			t.Errorf("the second time, without a copy here: %v", err)
		}
	})
}

// TestFailures: who is told, how often, and when a target is suspended.
func TestFailures(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, components, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		h := newHouse(t, d)
		stranger := &queue.Message{ReversePath: "jan@example.net"}
		ours := &queue.Message{ReversePath: "chief@example.org", Account: h.id(t, "chief"), Ours: true}
		copyOf := func(by string) *queue.Recipient { return &queue.Recipient{Forward: by, ForwardPath: "far@example.com"} }
		fail := func(m *queue.Message, by, status string, want relay.Decision, notices int) {
			t.Helper()
			got, err := h.forward.Failed(ctx, m, copyOf(by), status)
			if err != nil || got != want {
				t.Errorf("decision %d, %v, want %d", got, err, want)
			}
			if n := len(h.accepter.Accepted()); n != notices {
				t.Errorf("%d notices, want %d", n, notices)
			}
		}
		const gone = "550 5.1.1 no such user"
		fail(ours, "ala@example.org", gone, relay.TellSender, 0)
		fail(stranger, "ala@example.org", gone, relay.TellNobody, 1)
		fail(stranger, "ala@example.org", gone, relay.TellNobody, 1) // told today
		h.forward.Succeeded(ctx, stranger, copyOf("ala@example.org"))
		h.clock.pass(25 * time.Hour)
		for range 10 {
			fail(stranger, "ala@example.org", "554 5.7.1 looks like spam", relay.TellNobody, 2)
		}
		for range 4 {
			fail(stranger, "ala@example.org", gone, relay.TellNobody, 2)
		}
		h.suspended(t, 0)
		h.clock.pass(8 * 24 * time.Hour) // too long ago
		fail(stranger, "ala@example.org", gone, relay.TellNobody, 3)
		for range 3 {
			fail(stranger, "ala@example.org", gone, relay.TellNobody, 3)
		}
		h.suspended(t, 0)
		fail(stranger, "ala@example.org", gone, relay.TellNobody, 4) // and a notice of that
		h.suspended(t, 1)
		last := h.accepter.Accepted()[3]
		if !strings.Contains(last.Text, "poczta account forward ala@example.org --resume") || !strings.Contains(last.Text, "Auto-Submitted: auto-generated") ||
			!last.Envelope.ReversePath.IsNull() || len(last.Remotes) != 0 || last.Locals[0].Account != h.id(t, "ala") {
			t.Errorf("the notice is %+v %s", last.Delivery, last.Text)
		}
		got, err := h.send(t, from(t, "jan@example.net", 0), plain, to(t, "ala@example.org", 0))
		if err != nil || len(got.Locals) != 1 || len(got.Remotes) != 0 {
			t.Errorf("mail for a suspended forward: %+v, %v", got.Delivery, err)
		}
		if n, err := h.accounts.ResumeForward(ctx, h.id(t, "ala")); n != 1 || err != nil {
			t.Errorf("resume: %d, %v", n, err)
		}
		fail(stranger, "ala@example.org", gone, relay.TellNobody, 5)
		h.suspended(t, 0)

		passed, err := h.send(t, from(t, "jan@example.net", 0), plain, to(t, "out@example.org", 0))
		if err != nil {
			t.Fatal(err)
		}
		back := forward.Return{To: address.NewForwardPath(passed.Remotes[0].ReversePath.Address()), Sender: "jan@example.net", Written: "out@example.org", Target: "far@example.com", Status: "5.1.1"}
		other := back
		other.Sender = "eva@example.net"
		for i := range 2 * forward.MaxFailures { // reports that came back, and such about mail of another
			r := other
			if i%2 == 0 {
				r = back
			}
			if err := h.forward.Returned(ctx, r); err != nil {
				t.Error(err)
			}
			if i == 2*forward.MaxFailures-3 {
				h.suspended(t, 0)
			}
		}
		h.suspended(t, 1)
		last = h.accepter.Accepted()[len(h.accepter.Accepted())-1]
		if !strings.Contains(last.Text, "poczta alias add out@example.org far@example.com") || last.Locals[0].Account != h.id(t, "chief") {
			t.Errorf("the notice is %+v %s", last.Delivery, last.Text)
		}
		if _, err := h.send(t, from(t, "jan@example.net", 0), plain, to(t, "out@example.org", 0)); refusal(err) != "550 2.1" {
			t.Errorf("mail for an alias that is suspended: %v", err)
		}
		fail(stranger, "SRS0=AAAAAAAA=AA=a.example=b@example.org", gone, relay.TellNobody, len(h.accepter.Accepted()))
		if h.accepter.Leaked() != 0 {
			t.Errorf("%d staged messages leaked", h.accepter.Leaked())
		}
	})
}

func (h *house) suspended(t *testing.T, want int) {
	t.Helper()
	list, err := h.accounts.SuspendedForwards(context.Background(), 0)
	if err != nil || len(list) != want {
		t.Errorf("%d suspended, %v, want %d", len(list), err, want)
	}
}

// TestNoticesOfNodes: of several nodes that see failures at once, one tells.
func TestNoticesOfNodes(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, components, func(t *testing.T, d db.Database) {
		h := newHouse(t, d)
		nodes := []*forward.Forwarding{h.forward, newForward(t, d, h), newForward(t, d, h)}
		var group sync.WaitGroup
		for i := range 4 { // one more would suspend the forward, which is told anyhow
			group.Go(func() {
				r := &queue.Recipient{Forward: "ola@example.org", ForwardPath: "ola@example.com"}
				if _, err := nodes[i%len(nodes)].Failed(context.Background(), &queue.Message{ReversePath: "jan@example.net"}, r, "550 5.1.1 gone"); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if n := len(h.accepter.Accepted()); n != 1 {
			t.Errorf("%d notices, want 1", n)
		}
	})
}
