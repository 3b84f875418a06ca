package intake_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/report"
	"poczta.example/poczta/internal/smtp"
)

// house is an intake over fakes: ala (1) and ola (2) have mailboxes, team@ leads
// to both, out@ to another host, mixed@ to ala and another host.
type house struct {
	*intake.Intake
	accepter *intaketest.Accepter
	router   *intaketest.Router
	rooms    *intaketest.Rooms
	now      time.Time
}

func newHouse(t testing.TB, offices ...intake.Office) *house {
	t.Helper()
	local := func(id envelope.AccountID, addr string) account.Local {
		return account.Local{Account: id, Login: addr, Address: intaketest.Addr(t, addr), Quota: 1000, Language: "en"}
	}
	ala, ola := local(1, "ala@example.org"), local(2, "ola@example.org")
	out := intaketest.Addr(t, "far@example.com")
	h := &house{
		accepter: &intaketest.Accepter{},
		rooms:    &intaketest.Rooms{},
		router: &intaketest.Router{
			Domains: []string{"example.org"},
			Routes: map[string]account.Route{
				"ala@example.org":        {Match: account.MatchAddress, Locals: []account.Local{ala}},
				"ola@example.org":        {Match: account.MatchAddress, Locals: []account.Local{ola}},
				"ala+shop@example.org":   {Match: account.MatchSubaddress, Locals: []account.Local{ala}},
				"team@example.org":       {Match: account.MatchAlias, Locals: []account.Local{ala, ola}},
				"out@example.org":        {Match: account.MatchAlias, Remotes: outs(out)},
				"mixed@example.org":      {Match: account.MatchAlias, Locals: []account.Local{ala}, Remotes: outs(out)},
				"postmaster":             {Match: account.MatchPostmaster, Locals: []account.Local{ola}},
				"abuse@example.org":      {Match: account.MatchAlias, Locals: []account.Local{ola}},
				"żółw@example.org":       {Match: account.MatchAlias, Locals: []account.Local{ola}},
				"postmaster@example.org": {Match: account.MatchPostmaster, Locals: []account.Local{ola}},
			},
			Errs: map[string]error{
				"off@example.org":  fmt.Errorf("route: %w", account.ErrDisabled),
				"loop@example.org": account.ErrLoop,
				"db@example.org":   errors.New("database is away"),
			},
		},
		now: time.Date(2026, 11, 23, 3, 35, 9, 0, time.UTC),
	}
	host := intaketest.Addr(t, "x@mx.example.org").Domain()
	reporter, err := report.New(report.Config{Hostname: host, Accepter: h.accepter, Router: h.router, Now: func() time.Time { return h.now }})
	if err != nil {
		t.Fatal(err)
	}
	h.Intake, err = intake.New(intake.Config{Offices: offices,
		Hostname: host, Accepter: h.accepter, Router: h.router, Rooms: h.rooms, Reporter: reporter,
		MaxOctets: 1 << 20, Now: func() time.Time { return h.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func env(t testing.TB, from string) envelope.Envelope {
	t.Helper()
	return envelope.Envelope{ReversePath: intaketest.From(t, from), Origin: envelope.Origin{
		ConnID: "c1", Peer: netip.MustParseAddrPort("192.0.2.7:4444"), PeerName: "client.example.net", Helo: "mail.example.net", Protocol: "ESMTP",
	}}
}

// send runs a transaction; the error of the first refused step is returned.
func (h *house) send(t testing.TB, e envelope.Envelope, rules intake.Rules, msg string, to ...string) error {
	t.Helper()
	tx, err := h.Begin(e, rules)
	if err != nil {
		return err
	}
	for _, r := range to {
		if err := tx.Rcpt(t.Context(), envelope.Recipient{ForwardPath: intaketest.To(t, r)}); err != nil {
			tx.Abort()
			return err
		}
	}
	_, err = tx.Data(t.Context(), strings.NewReader(msg))
	return err
}

// code is the reply as "550 1.1"; "" for none.
func code(err error) string {
	if err == nil {
		return ""
	}
	var e *smtp.Error
	if !errors.As(err, &e) {
		return "other"
	}
	return fmt.Sprintf("%d %d.%d", e.Reply.Code, e.Reply.Subject, e.Reply.Detail)
}

const plain = "From: Jan <jan@example.net>\r\nSubject: Hi\r\nMessage-ID: <1@example.net>\r\n\r\nBody.\r\n.dot\r\n"

func TestRcpt(t *testing.T) {
	t.Parallel()
	relay := intake.Rules{Relay: func(context.Context, envelope.Recipient) error { return nil }}
	tests := []struct {
		name, to string
		rules    intake.Rules
		full     bool
		want     string
	}{
		{"mailbox", "ala@example.org", intake.Rules{}, false, ""},
		{"unknown", "nobody@example.org", intake.Rules{}, false, "550 1.1"},
		{"disabled", "off@example.org", intake.Rules{}, false, "550 2.1"},
		{"alias loop", "loop@example.org", intake.Rules{}, false, "550 4.6"},
		{"elsewhere", "far@example.com", intake.Rules{}, false, "550 7.1"},
		{"elsewhere with relay", "far@example.com", relay, false, ""},
		{"database away", "db@example.org", intake.Rules{}, false, "other"},
		{"full", "ola@example.org", intake.Rules{}, true, "452 2.2"},
		{"alias with room left", "team@example.org", intake.Rules{}, true, ""},
		{"full postmaster", "postmaster", intake.Rules{}, true, ""},
		{"full postmaster of a domain", "postmaster@example.org", intake.Rules{}, true, ""},
		{"full abuse", "Abuse@example.org", intake.Rules{}, true, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			h.rooms.Full = map[envelope.AccountID]bool{2: tt.full}
			if got := code(h.send(t, env(t, "jan@example.net"), tt.rules, plain, tt.to)); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if h.rooms.Held() != 0 || h.accepter.Leaked() != 0 {
				t.Errorf("%d octets held, %d staged", h.rooms.Held(), h.accepter.Leaked())
			}
		})
	}
}

func TestFolding(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	err := h.send(t, env(t, "jan@example.net"), intake.Rules{}, plain,
		"ala@example.org", "team@example.org", "ALA@example.org", "ala@example.org", "ala+shop@example.org", "mixed@example.org")
	if err != nil {
		t.Fatal(err)
	}
	d := h.accepter.Accepted()[0]
	type entry struct {
		Account    envelope.AccountID
		Recipients []int
		Prefix     string
	}
	var got []entry
	for _, l := range d.Locals {
		got = append(got, entry{l.Account, l.Recipients, string(l.Prefix)})
	}
	want := []entry{
		{1, []int{0, 1, 2, 3, 4}, "Return-Path: <jan@example.net>\r\nDelivered-To: ala@example.org\r\n"},
		{2, []int{1}, "Return-Path: <jan@example.net>\r\nDelivered-To: ola@example.org\r\n"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(d.Envelope.Recipients) != 5 {
		t.Errorf("%d recipients, want 5: a repeated path is one", len(d.Envelope.Recipients))
	}
	if len(d.Remotes) != 1 || d.Remotes[0].Recipient != 4 || d.Remotes[0].ForwardPath.String() != "<far@example.com>" {
		t.Errorf("remotes %v", d.Remotes)
	}
}

func TestSubaddressIsKept(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	if err := h.send(t, env(t, ""), intake.Rules{}, plain, "ala+shop@example.org"); err != nil {
		t.Fatal(err)
	}
	if got, want := string(h.accepter.Accepted()[0].Locals[0].Prefix), "Return-Path: <>\r\nDelivered-To: ala+shop@example.org\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestStoredForm(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	in := "Return-Path: <evil@example.net>\r\n" +
		"Authentication-Results: mx.example.org; spf=pass\r\n" +
		"Authentication-Results: (comment) \"MX.example.org\" 1;\r\n dkim=pass\r\n" +
		"Authentication-Results: other.example; spf=pass\r\n" +
		"Received: from a by b; Mon, 23 Nov 2026 03:35:09 +0000\r\n" +
		"Bcc: secret@example.net\r\n" + plain
	if err := h.send(t, env(t, "jan@example.net"), intake.Rules{}, in, "ala@example.org"); err != nil {
		t.Fatal(err)
	}
	d := h.accepter.Accepted()[0]
	want := "Authentication-Results: other.example; spf=pass\r\n" +
		"Received: from a by b; Mon, 23 Nov 2026 03:35:09 +0000\r\n" +
		"Bcc: secret@example.net\r\n" + plain
	if diff := cmp.Diff(want, d.Text); diff != "" {
		t.Error(diff)
	}
	head := "Received: from mail.example.net (client.example.net [192.0.2.7])\r\n\tby mx.example.org with ESMTP id " + d.ID.String() +
		"\r\n\tfor <ala@example.org>; Mon, 23 Nov 2026 03:35:09 +0000\r\n"
	if diff := cmp.Diff(head, string(d.Head)); diff != "" {
		t.Error(diff)
	}
	if d.MessageID != "<1@example.net>" || d.UTF8 {
		t.Errorf("Message-ID %q, UTF8 %v", d.MessageID, d.UTF8)
	}
}

func TestForOnlyWithOneRecipient(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	if err := h.send(t, env(t, "jan@example.net"), intake.Rules{HideClient: true, StripBcc: true}, "Bcc: x@example.net\r\n"+plain, "ala@example.org", "ola@example.org"); err != nil {
		t.Fatal(err)
	}
	d := h.accepter.Accepted()[0]
	if head := string(d.Head); strings.Contains(head, "for <") || strings.Contains(head, "192.0.2.7") || strings.Contains(head, "example.net") {
		t.Errorf("head %q", head)
	}
	if d.Text != plain {
		t.Errorf("Bcc was not removed: %q", d.Text)
	}
}

func TestUTF8(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		msg, to string
		want    bool
	}{
		"ascii":     {plain, "ala@example.org", false},
		"header":    {"Subject: ż\r\n\r\n", "ala@example.org", true},
		"body only": {"Subject: z\r\n\r\nż\r\n", "ala@example.org", false},
		"recipient": {plain, "żółw@example.org", true},
	} {
		h := newHouse(t)
		if err := h.send(t, env(t, "jan@example.net"), intake.Rules{}, c.msg, c.to); err != nil {
			t.Fatal(err)
		}
		if got := h.accepter.Accepted()[0].UTF8; got != c.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestOddMessages(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ in, want string }{
		"no header section": {"hello\r\nworld\r\n", "\r\nhello\r\nworld\r\n"},
		"no body":           {"Subject: x\r\n", "Subject: x\r\n"},
		"empty":             {"", ""},
		"empty line first":  {"\r\nhello\r\n", "\r\nhello\r\n"},
		"mbox line":         {"From x Mon\r\nSubject: x\r\n\r\n", "Subject: x\r\n\r\n"},
		"only Return-Path":  {"Return-Path: <x>\r\n\r\nb\r\n", "\r\nb\r\n"},
		"NUL and 8-bit":     {"Subject: x\r\n\r\n\x00\xff\r\n", "Subject: x\r\n\r\n\x00\xff\r\n"},
		"large body":        {"A: b\r\n\r\n" + strings.Repeat("0123456789abcdef\r\n", 30000), "A: b\r\n\r\n" + strings.Repeat("0123456789abcdef\r\n", 30000)},
		"large header":      {strings.Repeat("A: 0123456789abcdef\r\n", 20000) + "\r\nb\r\n", strings.Repeat("A: 0123456789abcdef\r\n", 20000) + "\r\nb\r\n"},
	} {
		h := newHouse(t)
		tx, err := h.Begin(env(t, "jan@example.net"), intake.Rules{})
		if err != nil {
			t.Fatal(err)
		}
		if err := tx.Rcpt(t.Context(), envelope.Recipient{ForwardPath: intaketest.To(t, "ala@example.org")}); err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Data(t.Context(), iotest.HalfReader(strings.NewReader(c.in))); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := h.accepter.Accepted()[0].Text; got != c.want {
			t.Errorf("%s: got %.80q, want %.80q", name, got, c.want)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	received := strings.Repeat("Received: from a by b; x\r\n", intake.MaxReceived)
	lineErr := &smtp.Error{Reply: smtp.Reply{Code: 550, Subject: 6, Detail: 0, Text: "bare LF"}}
	tests := []struct {
		name  string
		msg   io.Reader
		setup func(*intaketest.Accepter)
		want  string
	}{
		{"hundred hops", strings.NewReader(received + plain), nil, ""},
		{"loop", strings.NewReader("Received: x\r\n" + received + plain), nil, "554 4.6"},
		{"header too large", strings.NewReader(strings.Repeat("X: "+strings.Repeat("y", 995)+"\r\n", 1100)), nil, "552 3.4"},
		{"endless line", strings.NewReader(strings.Repeat("y", 2<<20)), nil, "552 3.4"},
		{"read error", io.MultiReader(strings.NewReader(plain), iotest.ErrReader(lineErr)), nil, "550 6.0"},
		{"read error in header", iotest.ErrReader(lineErr), nil, "550 6.0"},
		{"lost connection", io.MultiReader(strings.NewReader(plain), iotest.ErrReader(io.ErrUnexpectedEOF)), nil, "other"},
		{"budget at stage", strings.NewReader(plain), func(a *intaketest.Accepter) { a.StageErr = fmt.Errorf("x: %w", body.ErrBudget) }, "452 3.1"},
		{"full at write", strings.NewReader(plain), func(a *intaketest.Accepter) { a.WriteErr = body.ErrFull }, "452 3.1"},
		{"too large at write", strings.NewReader(plain), func(a *intaketest.Accepter) { a.WriteErr = body.ErrTooLarge }, "552 3.4"},
		{"failed sync", strings.NewReader(plain), func(a *intaketest.Accepter) { a.AcceptErr = body.ErrFailed }, "451 3.0"},
		{"full at accept", strings.NewReader(plain), func(a *intaketest.Accepter) { a.AcceptErr = fmt.Errorf("x: %w", post.ErrFull) }, "452 3.1"},
		{"unknown at accept", strings.NewReader(plain), func(a *intaketest.Accepter) { a.AcceptErr = errors.New("?") }, "other"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			if tt.setup != nil {
				tt.setup(h.accepter)
			}
			tx, err := h.Begin(env(t, "jan@example.net"), intake.Rules{})
			if err != nil {
				t.Fatal(err)
			}
			if err := tx.Rcpt(t.Context(), envelope.Recipient{ForwardPath: intaketest.To(t, "ala@example.org")}); err != nil {
				t.Fatal(err)
			}
			_, err = tx.Data(t.Context(), tt.msg)
			if got := code(err); got != tt.want {
				t.Errorf("got %q (%v), want %q", got, err, tt.want)
			}
			if n := len(h.accepter.Accepted()); n != 0 && tt.want != "" {
				t.Errorf("%d messages were accepted", n)
			}
			if h.rooms.Held() != 0 || h.accepter.Leaked() != 0 {
				t.Errorf("%d octets held, %d staged", h.rooms.Held(), h.accepter.Leaked())
			}
		})
	}
}

// stalled is a message whose sender stops behind its first octets until release.
type stalled struct {
	first   io.Reader
	reached chan<- struct{}
	release <-chan struct{}
}

func (s *stalled) Read(p []byte) (int, error) {
	if n, err := s.first.Read(p); err == nil {
		return n, nil
	}
	s.reached <- struct{}{}
	<-s.release
	return 0, io.EOF
}

// TestMemoryIsBounded: messages that stall with large header sections use up their
// half of the budget; the next large one is asked to come again, ordinary mail comes
// in all the same, and when they end all is free.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	in, err := intake.New(intake.Config{Hostname: h.Hostname(), Accepter: h.accepter, Router: h.router, Rooms: h.rooms, Reporter: &report.Reporter{}, Memory: 9 << 20})
	if err != nil {
		t.Fatal(err)
	}
	send := func(msg io.Reader) error {
		tx, err := in.Begin(env(t, ""), intake.Rules{})
		if err != nil {
			return err
		}
		if err := tx.Rcpt(t.Context(), envelope.Recipient{ForwardPath: intaketest.To(t, "ala@example.org")}); err != nil {
			return err
		}
		_, err = tx.Data(t.Context(), msg)
		return err
	}
	large := strings.Repeat("X: "+strings.Repeat("y", 995)+"\r\n", 900)
	reached, release, done := make(chan struct{}), make(chan struct{}), make(chan error)
	for range 2 { // of 2 MiB each, while being edited
		go func() { done <- send(&stalled{strings.NewReader(large), reached, release}) }()
		<-reached
	}
	if got := code(send(strings.NewReader(large))); got != "452 3.1" {
		t.Errorf("with the budget used up: got %q", got)
	}
	if err := send(strings.NewReader("Subject: small\r\n\r\nx\r\n")); err != nil {
		t.Errorf("ordinary mail while others hold large header sections: %v", err)
	}
	close(release)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if err := send(strings.NewReader(large)); err != nil {
		t.Errorf("with the budget free again: %v", err)
	}
}

func TestSizeAtMail(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	e := env(t, "jan@example.net")
	e.Size = 1<<20 + 1
	if _, err := h.Begin(e, intake.Rules{}); code(err) != "552 3.4" {
		t.Errorf("got %v", err)
	}
}

func TestTargetsAreBounded(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var many []account.Local
	for i := range intake.MaxTargets {
		many = append(many, account.Local{Account: envelope.AccountID(100 + i), Address: intaketest.Addr(t, "ala@example.org")})
	}
	h.router.Routes["all@example.org"] = account.Route{Match: account.MatchAlias, Locals: many}
	if got := code(h.send(t, env(t, ""), intake.Rules{}, plain, "ala@example.org", "all@example.org")); got != "452 5.3" {
		t.Errorf("got %q", got)
	}
	if h.rooms.Held() != 0 {
		t.Errorf("%d octets are held", h.rooms.Held())
	}
}

func TestOutcome(t *testing.T) {
	t.Parallel()
	for protocol, replies := range map[string]int{"ESMTP": 0, "LMTP": 3, "LMTPS": 3, "UTF8LMTPA": 3} {
		h := newHouse(t)
		e := env(t, "jan@example.net")
		e.Origin.Protocol = protocol
		tx, err := h.Begin(e, intake.Rules{})
		if err != nil {
			t.Fatal(err)
		}
		for _, to := range []string{"ala@example.org", "ala@example.org", "ola@example.org", "nobody@example.org"} {
			err := tx.Rcpt(t.Context(), envelope.Recipient{ForwardPath: intaketest.To(t, to)})
			if (err == nil) != !strings.HasPrefix(to, "nobody") {
				t.Fatalf("%s: %v", to, err)
			}
		}
		o, err := tx.Data(t.Context(), strings.NewReader(plain))
		if err != nil {
			t.Fatal(err)
		}
		if len(o.Recipients) != replies || o.Reply.Code != 250 || !strings.Contains(o.Reply.Text, h.accepter.Accepted()[0].ID.String()) {
			t.Errorf("%s: %d replies, %v", protocol, len(o.Recipients), o.Reply)
		}
	}
}

func TestNewReportsEverything(t *testing.T) {
	t.Parallel()
	_, err := intake.New(intake.Config{MaxOctets: -1})
	for _, what := range []string{"Hostname", "Accepter", "Router", "Rooms", "Reporter", "MaxOctets"} {
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v does not name %s", err, what)
		}
	}
}

// FuzzData holds that the octets of the body pass unchanged, whatever the
// message and however it comes.
func FuzzData(f *testing.F) {
	f.Add([]byte(plain), true)
	f.Add([]byte("Return-Path: x\r\nFrom a\r\n\r\n\r\n"), false)
	f.Add([]byte("hello\r\n"), false)
	f.Fuzz(func(t *testing.T, in []byte, small bool) {
		h := newHouse(t)
		tx, err := h.Begin(env(t, "jan@example.net"), intake.Rules{StripBcc: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := tx.Rcpt(t.Context(), envelope.Recipient{ForwardPath: intaketest.To(t, "ala@example.org")}); err != nil {
			t.Fatal(err)
		}
		var r io.Reader = strings.NewReader(string(in))
		if small {
			r = iotest.OneByteReader(r)
		}
		if _, err := tx.Data(t.Context(), r); err != nil {
			if code(err) != "554 4.6" && code(err) != "552 3.4" {
				t.Fatal(err)
			}
			return
		}
		_, rest, _ := message.SplitHeader(in)
		got := h.accepter.Accepted()[0].Text
		if !strings.HasSuffix(got, string(rest)) {
			t.Fatalf("the body changed: %q of %q", got, in)
		}
		if header, _, _ := message.SplitHeader([]byte(got)); message.Count(header, "Return-Path")+message.Count(header, "Bcc") > 0 {
			t.Fatalf("%q holds what must go", header)
		}
	})
}

// discard is an Accepter that keeps nothing, so that a benchmark sees the intake alone.
type discard struct{ octets int64 }

func (d *discard) Stage(context.Context, int64) (body.Staged, error) { return d, nil }
func (d *discard) Accept(context.Context, *post.Delivery) error      { d.octets = 0; return nil }
func (d *discard) Write(p []byte) (int, error)                       { d.octets += int64(len(p)); return len(p), nil }
func (d *discard) Octets() int64                                     { return d.octets }
func (d *discard) SHA256() [32]byte                                  { return [32]byte{} }
func (d *discard) ReadAt([]byte, int64) (int, error)                 { return 0, io.EOF }
func (d *discard) Discard()                                          {}

func BenchmarkData(b *testing.B) {
	h := newHouse(b)
	host := intaketest.Addr(b, "x@mx.example.org").Domain()
	in, err := intake.New(intake.Config{Hostname: host, Accepter: &discard{}, Router: h.router, Rooms: h.rooms, Reporter: &report.Reporter{}})
	if err != nil {
		b.Fatal(err)
	}
	msg := plain + strings.Repeat("0123456789abcdef0123456789abcdef0123456789abcdef0123456789ab\r\n", 64)
	e := env(b, "jan@example.net")
	to := envelope.Recipient{ForwardPath: intaketest.To(b, "ala@example.org")}
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	for b.Loop() {
		tx, err := in.Begin(e, intake.Rules{})
		if err != nil {
			b.Fatal(err)
		}
		if err := tx.Rcpt(b.Context(), to); err != nil {
			b.Fatal(err)
		}
		if _, err := tx.Data(b.Context(), strings.NewReader(msg)); err != nil {
			b.Fatal(err)
		}
	}
}
