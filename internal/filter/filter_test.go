package filter_test

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/attachment"
	"poczta.example/poczta/internal/clamd"
	"poczta.example/poczta/internal/classifier"
	"poczta.example/poczta/internal/conduct"
	"poczta.example/poczta/internal/content"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/filter"
	"poczta.example/poczta/internal/greylist"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/preference"
	"poczta.example/poczta/internal/report"
	"poczta.example/poczta/internal/reputation"
	"poczta.example/poczta/internal/resolver"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/trace"
	"poczta.example/poczta/internal/verdict"
	"poczta.example/poczta/internal/verify"
)

const zone = `
good.test. 300 TXT "v=spf1 ip4:192.0.2.0/24 -all"
_dmarc.good.test. 300 TXT "v=DMARC1; p=reject"
good.test. 300 MX 10 mx.good.test.
mx.good.test. 300 A 192.0.2.1
1.2.0.192.in-addr.arpa. 300 PTR mx.good.test.
soft.test. 300 TXT "v=spf1 ?all"
soft.test. 300 MX 10 mx.good.test.
example.org. 300 TXT "v=spf1 -all"
`

// house is a filter with its rooms, and an intake that keeps what it accepts.
type house struct {
	t        *testing.T
	in       *intake.Intake
	filter   *filter.Filter
	accepter *intaketest.Accepter
	wishes   *preference.Preferences
	learned  *classifier.Classifier
	seen     *reputation.Store
	config   filter.Config
	now      time.Time
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newHouse(t *testing.T, d db.Database, adapt func(*filter.Config)) *house {
	t.Helper()
	h := &house{t: t, accepter: &intaketest.Accepter{}, now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	clock := func() time.Time { return h.now }
	host := intaketest.Addr(t, "x@mx.example.org").Domain()
	zone := must[*resolver.Zone](t)(resolver.NewZone(zone))
	h.wishes = must[*preference.Preferences](t)(preference.New(preference.Config{DB: d, Now: clock}))
	h.learned = must[*classifier.Classifier](t)(classifier.New(classifier.Config{DB: d, Now: clock, CommonMin: 5}))
	h.seen = must[*reputation.Store](t)(reputation.New(reputation.Config{DB: d, Now: clock}))
	own := func(_ context.Context, d address.Domain) bool { return d.String() == "example.org" }
	c := filter.Config{Hostname: host, Preferences: h.wishes, Classifier: h.learned, Reputation: h.seen, Own: own, Now: clock,
		Greylist:    must[*greylist.List](t)(greylist.New(greylist.Config{DB: d, Now: clock})),
		Conduct:     must[*conduct.Watch](t)(conduct.New(conduct.Config{DB: d, Now: clock, Rules: conduct.Rules{Fresh: conduct.Rule{Limit: 3, Action: conduct.Hold}}})),
		Attachments: must[*attachment.Inspector](t)(attachment.New(attachment.Config{})),
		Verifier: must[*verify.Verifier](t)(verify.New(verify.Config{Resolver: zone, Hostname: host, Now: clock,
			Own: func(ctx context.Context, d address.Domain) (bool, error) { return own(ctx, d), nil }})),
	}
	if adapt != nil {
		adapt(&c)
	}
	h.config = c
	h.filter = must[*filter.Filter](t)(filter.New(c))
	router := &intaketest.Router{Domains: []string{"example.org"}, Routes: map[string]account.Route{}}
	for i, who := range []string{"ala", "ola", "abuse"} {
		a := intaketest.Addr(t, who+"@example.org")
		router.Routes[a.Key()] = account.Route{Match: account.MatchAddress, Locals: []account.Local{{Account: envelope.AccountID(i + 1), Login: who, Address: a}}}
	}
	rep := must[*report.Reporter](t)(report.New(report.Config{Hostname: host, Accepter: h.accepter, Router: router}))
	h.in = must[*intake.Intake](t)(intake.New(intake.Config{Hostname: host, Accepter: h.accepter, Router: router, Rooms: &intaketest.Rooms{}, Reporter: rep, Now: clock}))
	return h
}

// rooms are the tables of a house.
func rooms() []db.Component {
	return []db.Component{preference.Component(), classifier.Schema, reputation.Component(), greylist.Component(), conduct.Component()}
}

func letter(from, text string) string {
	return "From: " + from + "\r\nTo: ala@example.org\r\nSubject: minutes of the meeting\r\nDate: Mon, 23 Nov 2026 11:59:00 +0000\r\nMessage-ID: <1@good.test>\r\n\r\n" + text + "\r\n"
}

// receive hands a message in, from a peer and reverse-path, and returns what was accepted.
func (h *house) receive(peer, from, msg string, to ...string) (*intaketest.Accepted, error) {
	h.t.Helper()
	env := envelope.Envelope{ReversePath: intaketest.From(h.t, from), Origin: envelope.Origin{Peer: netip.AddrPortFrom(netip.MustParseAddr(peer), 25), Helo: "mx.good.test", Protocol: "ESMTP"}}
	return h.hand(env, intake.Rules{Inspect: h.filter.Inspect}, msg, to...)
}

func (h *house) hand(env envelope.Envelope, rules intake.Rules, msg string, to ...string) (*intaketest.Accepted, error) {
	h.t.Helper()
	before := len(h.accepter.Accepted())
	tx := must[*intake.Transaction](h.t)(h.in.Begin(env, rules))
	for _, p := range to {
		if err := tx.Rcpt(h.t.Context(), envelope.Recipient{ForwardPath: intaketest.To(h.t, p)}); err != nil {
			h.t.Fatal(err)
		}
	}
	_, err := tx.Data(h.t.Context(), strings.NewReader(msg))
	if n := h.accepter.Leaked(); n != 0 {
		h.t.Errorf("%d stagings were left", n)
	}
	if all := h.accepter.Accepted(); len(all) > before {
		return &all[len(all)-1], err
	}
	return nil, err
}

func each(t *testing.T, adapt func(*filter.Config), fn func(h *house)) {
	t.Helper()
	dbtest.Each(t, rooms(), func(t *testing.T, d db.Database) { fn(newHouse(t, d, adapt)) })
}

func code(err error) int {
	if e, ok := errors.AsType[*smtp.Error](err); ok {
		return e.Reply.Code
	}
	return 0
}

const ala = "ala@example.org"

func TestPlaces(t *testing.T) {
	t.Parallel()
	each(t, nil, func(h *house) {
		t := h.t
		got, err := h.receive("192.0.2.1", "jan@good.test", letter("jan@good.test", "Dear Ala, here they are."), ala)
		if err != nil || got.Locals[0].Mailbox != "" || got.Locals[0].State != 0 {
			t.Fatalf("an honest letter: %v, %+v", err, got)
		}
		head := string(got.Head)
		for _, want := range []string{"from mx.good.test (mx.good.test [192.0.2.1])", "Authentication-Results: mx.example.org", "spf=pass", "dmarc=pass", "iprev=pass"} {
			if !strings.Contains(head, want) {
				t.Errorf("the trace fields lack %q:\n%s", want, head)
			}
		}
		if p := string(got.Locals[0].Prefix); !strings.Contains(p, intake.VerdictField+": deliver; score=") {
			t.Errorf("the copy says %q", p)
		}
		got, err = h.receive("198.51.100.7", "jan@good.test", letter("jan@good.test", "Dear Ala, send money."), ala)
		if err != nil || got.Locals[0].Mailbox != "Quarantine" || got.Locals[0].State != trace.Quarantined || !strings.Contains(got.Locals[0].Why, "dmarc_reject") {
			t.Errorf("p=reject alone: %v, %+v", err, got)
		}
		got, err = h.receive("198.51.100.7", "", letter("Boss <boss@example.org>", "Pay this."), ala)
		if err != nil || got.Locals[0].Mailbox != "Quarantine" {
			t.Errorf("our own domain from outside: %v, %+v", err, got)
		}
		forged := "Authentication-Results: mx.example.org; dmarc=pass\r\n" + letter("jan@good.test", "Dear Ala")
		if got, err = h.receive("192.0.2.1", "jan@good.test", forged, ala); err != nil || strings.Contains(got.Text, "dmarc=pass\r\n") {
			t.Errorf("a foreign field that claims to be ours stays: %v", err)
		}
		got, err = h.receive("127.0.0.1", "cron@example.org", letter("cron@soft.test", "disk is full"), ala)
		if err != nil || got.Locals[0].Mailbox != "" {
			t.Errorf("a program of this host: %v, %+v", err, got)
		}
	})
}

// TestRecipientsDiffer: one reply is for all, and what one of them would refuse lies in their quarantine.
func TestRecipientsDiffer(t *testing.T) {
	t.Parallel()
	each(t, nil, func(h *house) {
		t := h.t
		if err := h.wishes.Add(t.Context(), 1, preference.Entry{Pattern: "jan@soft.test"}); err != nil {
			t.Fatal(err)
		}
		got, err := h.receive("192.0.2.1", "jan@soft.test", letter("jan@soft.test", "Good day"), ala, "ola@example.org")
		if err != nil || got.Locals[0].Mailbox != "Quarantine" || got.Locals[1].Mailbox != "" {
			t.Fatalf("blocked by one: %v %+v", err, got)
		}
		if err := h.wishes.Add(t.Context(), preference.Common, preference.Entry{Pattern: "jan@soft.test"}); err != nil {
			t.Fatal(err)
		}
		if _, err = h.receive("192.0.2.1", "jan@soft.test", letter("jan@soft.test", "Good day"), ala, "ola@example.org"); code(err) != 550 {
			t.Errorf("blocked by the server: %v", err)
		}
	})
}

// TestLMTP: each recipient hears of their own.
func TestLMTP(t *testing.T) {
	t.Parallel()
	each(t, nil, func(h *house) {
		t := h.t
		if err := h.wishes.Set(t.Context(), 2, preference.Settings{Level: preference.Off}); err != nil {
			t.Fatal(err)
		}
		env := envelope.Envelope{ReversePath: intaketest.From(t, "jan@soft.test"), Origin: envelope.Origin{Peer: netip.MustParseAddrPort("127.0.0.1:9"), Helo: "here", Protocol: "LMTP"}}
		h.refuseAbove(0.1)
		tx := must[*intake.Transaction](t)(h.in.Begin(env, intake.Rules{Inspect: h.filter.Inspect}))
		for _, p := range []string{ala, "ola@example.org", ala} {
			if err := tx.Rcpt(t.Context(), envelope.Recipient{ForwardPath: intaketest.To(t, p)}); err != nil {
				t.Fatal(err)
			}
		}
		o, err := tx.Data(t.Context(), strings.NewReader("From: jan@soft.test\r\nFrom: x@soft.test\r\n\r\nhello\r\n"))
		if err != nil || len(o.Recipients) != 3 || o.Recipients[0].Code != 550 || o.Recipients[1].Code != 250 || o.Recipients[2].Code != 550 {
			t.Errorf("got %v %+v, want 550, 250, 550", err, o.Recipients)
		}
		got := h.accepter.Accepted()
		if len(got) != 1 || got[0].Locals[0].State != trace.Discarded || got[0].Locals[1].State != 0 {
			t.Errorf("accepted %+v", got)
		}
	})
}

// refuseAbove makes the house refuse from so many points on.
func (h *house) refuseAbove(points float64) {
	c := h.config
	c.Settings.Thresholds = verdict.Thresholds{Refuse: points}
	h.filter = must[*filter.Filter](h.t)(filter.New(c))
}

const program = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nsee there\r\n--b\r\n" +
	"Content-Type: application/pdf; name=\"invoice.pdf.exe\"\r\nContent-Disposition: attachment; filename=\"invoice.pdf.exe\"\r\nContent-Transfer-Encoding: base64\r\n\r\nTVqQAAMAAAAEAAAA\r\n--b--\r\n"

func withProgram(from string) string {
	head, _, _ := strings.Cut(letter(from, ""), "\r\n\r\n")
	return head + "\r\n" + program
}

func TestDangers(t *testing.T) {
	t.Parallel()
	each(t, nil, func(h *house) {
		t := h.t
		got, err := h.receive("192.0.2.1", "jan@good.test", withProgram("jan@good.test"), ala)
		if err == nil && got.Locals[0].State != trace.Quarantined {
			t.Errorf("a program in disguise lies in %q", got.Locals[0].Mailbox)
		}
		env := envelope.Envelope{ReversePath: intaketest.From(t, ala), Origin: envelope.Origin{Account: 1, Login: "ala", Protocol: "ESMTPSA", Peer: netip.MustParseAddrPort("192.0.2.9:1")}}
		if _, err = h.hand(env, intake.Rules{Inspect: h.filter.Inspect, Ours: true}, withProgram(ala), "ola@example.org"); code(err) != 550 {
			t.Errorf("ala sends a program: %v, want a refusal that she reads", err)
		}
	})
}

// TestStolenPassword: an account that suddenly writes to many strangers is held.
func TestStolenPassword(t *testing.T) {
	t.Parallel()
	each(t, nil, func(h *house) {
		t := h.t
		env := envelope.Envelope{ReversePath: intaketest.From(t, ala), Origin: envelope.Origin{Account: 1, Login: "ala", Protocol: "ESMTPSA", Peer: netip.MustParseAddrPort("192.0.2.9:1")}}
		rules := intake.Rules{Inspect: h.filter.Inspect, Ours: true, Relay: func(context.Context, envelope.Recipient) error { return nil }}
		held := 0
		for _, to := range []string{"a@far.test", "b@far.test", "c@far.test", "d@far.test", "e@far.test"} {
			got, err := h.hand(env, rules, letter(ala, "hello"), to)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(got.Remotes[0].Held, "set apart: ") {
				held++
			}
		}
		if held != 2 {
			t.Errorf("%d of five letters to strangers were held, want the two beyond the bound of three", held)
		}
	})
}

// TestGreylist: a suspicious stranger is asked to come again, and is taken when it does.
func TestGreylist(t *testing.T) {
	t.Parallel()
	each(t, func(c *filter.Config) {
		c.Settings.Thresholds = verdict.Thresholds{Tag: 0.5, Grey: 0.5, Junk: 20, Quarantine: 30, Refuse: 40}
	}, func(h *house) {
		t := h.t
		msg := letter("jan@soft.test", "Good day")
		if _, err := h.receive("203.0.113.5", "jan@soft.test", msg, ala); code(err) != 451 {
			t.Fatalf("at first: %v, want 451", err)
		}
		h.now = h.now.Add(10 * time.Minute)
		if got, err := h.receive("203.0.113.6", "jan@soft.test", msg, ala); err != nil || got.Locals[0].Mailbox != "" {
			t.Errorf("again, from the same network: %v %+v", err, got)
		}
	})
}

// down is a clamd that nobody answers for.
func down(t testing.TB, then verdict.Action) func(*filter.Config) {
	return func(c *filter.Config) {
		client := must[*clamd.Client](t)(clamd.New(clamd.Config{Network: "unix", Address: "/nonexistent/clamd.sock", Timeout: time.Second}))
		c.Clamd = &filter.Clamd{Client: client, Use: filter.Use{Incoming: true, Outgoing: true, Down: then}}
	}
}

// saysDown is what the peer and the log are told while clamd is dead.
var saysDown = regexp.MustCompile(`(?s)does not answer; try again later \(id .*filter_unavailable clamd at /nonexistent`)

func TestFilterDown(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		then verdict.Action
		code int
	}{{verdict.Deliver, 0}, {verdict.Defer, 451}} {
		t.Run(tt.then.String(), func(t *testing.T) {
			t.Parallel()
			each(t, down(t, tt.then), func(h *house) {
				_, err := h.receive("192.0.2.1", "jan@good.test", letter("jan@good.test", "Dear Ala"), ala)
				if code(err) != tt.code || err != nil && !saysDown.MatchString(err.Error()) {
					h.t.Errorf("got %v, want %d", err, tt.code)
				}
			})
		})
	}
}

// TestLearned: what was learned as spam lies apart, and what was learned as ham does not.
func TestLearned(t *testing.T) {
	t.Parallel()
	each(t, func(c *filter.Config) { c.Greylist = nil }, func(h *house) {
		t := h.t
		teach := func(n int, spam bool, text string) {
			for i := range n {
				msg := letter("jan@soft.test", text+strings.Repeat(" again", i))
				ct := must[*content.Content](t)(content.Read(strings.NewReader(msg), int64(len(msg)), content.Facts{}, content.Limits{}))
				if err := h.learned.Learn(t.Context(), classifier.Common, h.learned.Features(ct), [32]byte{byte(i), 1, byte(len(text))}, spam); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := h.learned.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		const pills, minutes = "cheap pills casino lottery winner viagra guaranteed refund bargain", "please find the minutes of our meeting about the new railway timetable"
		teach(40, true, pills)
		teach(40, false, minutes)
		spam, err := h.receive("192.0.2.1", "jan@soft.test", letter("other@soft.test", pills), ala)
		if err != nil {
			t.Fatal(err)
		}
		ham, err := h.receive("192.0.2.1", "jan@soft.test", letter("other@soft.test", minutes), ala)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(spam.Locals[0].Prefix), "tag;") && spam.Locals[0].State != trace.Quarantined || ham.Locals[0].State != 0 {
			t.Errorf("spam: %s, ham: %s", spam.Locals[0].Prefix, ham.Locals[0].Prefix)
		}
	})
}

// TestAborted: a body that breaks off leaves nothing behind.
func TestAborted(t *testing.T) {
	t.Parallel()
	each(t, nil, func(h *house) {
		t := h.t
		tx := must[*intake.Transaction](t)(h.in.Begin(envelope.Envelope{ReversePath: intaketest.From(t, "jan@good.test"),
			Origin: envelope.Origin{Peer: netip.MustParseAddrPort("192.0.2.1:1"), Helo: "mx.good.test", Protocol: "ESMTP"}}, intake.Rules{Inspect: h.filter.Inspect}))
		if err := tx.Rcpt(t.Context(), envelope.Recipient{ForwardPath: intaketest.To(t, ala)}); err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Data(t.Context(), io.MultiReader(strings.NewReader(letter("jan@good.test", "Dear")), broken{})); err == nil || len(h.accepter.Accepted()) != 0 || h.accepter.Leaked() != 0 {
			t.Errorf("got %v, %d accepted, %d left", err, len(h.accepter.Accepted()), h.accepter.Leaked())
		}
	})
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
