package submit_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/report"
	"poczta.example/poczta/internal/sasl"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/smtpserver"
	"poczta.example/poczta/internal/submit"
)

// senders lets account 1 send as ala@example.org, and fails for away@.
type senders struct{}

func (senders) MaySend(_ context.Context, id envelope.AccountID, as address.Address) (bool, error) {
	if as.Local() == "away" {
		return false, errors.New("database is away")
	}
	return id == 1 && as.Key() == "ala@example.org", nil
}

// Stands knows version 0 of an account alone.
func (senders) Stands(_ context.Context, id sasl.Identity) (bool, error) {
	if id.Version > 1 {
		return false, errors.New("database is away")
	}
	return id.Version == 0, nil
}

type office struct {
	*submit.Service
	accepter *intaketest.Accepter
	now      time.Time
}

func newOffice(t testing.TB, change func(*submit.Config)) *office {
	t.Helper()
	o := &office{accepter: &intaketest.Accepter{}, now: time.Date(2026, 11, 23, 3, 35, 9, 0, time.UTC)}
	router := &intaketest.Router{Domains: []string{"example.org"}, Routes: map[string]account.Route{
		"ala@example.org": {Match: account.MatchAddress, Locals: []account.Local{{Account: 1, Login: "ala", Address: intaketest.Addr(t, "ala@example.org")}}},
	}}
	host := intaketest.Addr(t, "x@mx.example.org").Domain()
	now := func() time.Time { return o.now }
	reporter, err := report.New(report.Config{Hostname: host, Accepter: o.accepter, Router: router, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	in, err := intake.New(intake.Config{Hostname: host, Accepter: o.accepter, Router: router, Rooms: &intaketest.Rooms{}, Reporter: reporter, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	c := submit.Config{Intake: in, Senders: senders{}}
	if change != nil {
		change(&c)
	}
	if o.Service, err = submit.New(c); err != nil {
		t.Fatal(err)
	}
	return o
}

// ala is a session of account 1; the peer is 192.0.2.7.
func ala() *smtpserver.Session {
	s := stranger("192.0.2.7")
	s.Identity = sasl.Identity{Account: 1, Login: "ala"}
	return s
}

func stranger(peer string) *smtpserver.Session {
	return &smtpserver.Session{Origin: envelope.Origin{Peer: netip.AddrPortFrom(netip.MustParseAddr(peer), 4444), Helo: "laptop", Protocol: "ESMTPSA"}}
}

// send runs a transaction and returns the first refusal.
func (o *office) send(t testing.TB, s *smtpserver.Session, from, header string, to ...string) error {
	t.Helper()
	tx, err := o.Begin(t.Context(), s, envelope.Envelope{ReversePath: intaketest.From(t, from), Origin: s.Origin})
	if err != nil {
		return err
	}
	for _, r := range to {
		if err := tx.Rcpt(t.Context(), envelope.Recipient{ForwardPath: intaketest.To(t, r)}); err != nil {
			tx.Abort()
			return err
		}
	}
	_, err = tx.Data(t.Context(), strings.NewReader(header+"\r\nBody.\r\n"))
	return err
}

func code(err error) string {
	var e *smtp.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return fmt.Sprintf("%d %d.%d", e.Reply.Code, e.Reply.Subject, e.Reply.Detail)
	}
	return "other"
}

const good = "From: Ala <ala@example.org>\r\nDate: Mon, 23 Nov 2026 03:35:09 +0000\r\nMessage-ID: <1@example.org>\r\n"

func TestJudgement(t *testing.T) {
	t.Parallel()
	const mine, date = "ala@example.org", "Date: x\r\n"
	tests := []struct{ name, from, header, want, text string }{
		{"all mine", mine, good, "", ""},
		{"null reverse-path", "", good, "", ""},
		{"case does not matter", "ALA@example.org", "From: Ala@EXAMPLE.org\r\n", "", ""},
		{"foreign reverse-path", "boss@example.org", good, "550 7.1", "boss@example.org in the reverse-path"},
		{"foreign From", mine, "From: boss@example.org\r\n", "550 7.1", "boss@example.org in the From field"},
		{"null and foreign From", "", "From: boss@example.org\r\n", "550 7.1", "send-as"},
		{"no From", mine, date, "", ""},
		{"no From, null", "", date, "550 6.0", "add From"},
		{"two From", mine, "From: ala@example.org\r\nFrom: boss@example.org\r\n", "550 6.0", "2 From fields"},
		{"two From in other case", mine, "From: ala@example.org\r\nfrom : boss@example.org\r\n", "550 6.0", "2 From fields"},
		{"two authors", mine, "From: Ala@example.org, ala@example.org\r\n", "550 6.0", "Sender"},
		{"two authors with Sender", mine, "From: Ala@example.org, ala@example.org\r\nSender: ala@example.org\r\n", "", ""},
		{"two authors, foreign Sender", mine, "From: Ala@example.org, ala@example.org\r\nSender: boss@example.org\r\n", "550 7.1", "Sender field"},
		{"two authors, two in Sender", mine, "From: Ala@example.org, ala@example.org\r\nSender: ala@example.org, ala@example.org\r\n", "550 6.0", "exactly one"},
		{"a foreign author first", mine, "From: boss@example.org, ala@example.org\r\nSender: ala@example.org\r\n", "550 7.1", "boss@example.org in the From field"},
		{"a foreign author last", mine, "From: ala@example.org, boss@example.org\r\nSender: ala@example.org\r\n", "550 7.1", "boss@example.org in the From field"},
		{"only foreign authors", mine, "From: boss@example.org, x@b.example\r\nSender: ala@example.org\r\n", "550 7.1", "boss@example.org in the From field"},
		{"a foreign author in a group", mine, "From: Team: ala@example.org, boss@example.org;\r\nSender: ala@example.org\r\n", "550 7.1", "From field"},
		{"more authors than are looked up", mine, "From: " + strings.Repeat("ala@example.org, ", 21) + "\r\nSender: ala@example.org\r\n", "550 6.0", "more than 20"},
		{"foreign Sender", mine, "From: ala@example.org\r\nSender: boss@example.org\r\n", "550 7.1", "boss@example.org in the Sender field"},
		{"broken Sender", mine, "From: ala@example.org\r\nSender: boss\r\n", "550 6.0", "Sender field can't be read"},
		{"my Sender", mine, "From: ala@example.org\r\nSender: ala@example.org\r\n", "", ""},
		{"Sender of what is resent", mine, "Resent-From: ala@example.org\r\nFrom: boss@example.net\r\nSender: list@example.net\r\n", "", ""},
		{"resent by me for another", mine, "Resent-From: ala@example.org\r\nResent-Sender: boss@example.org\r\nFrom: boss@example.net\r\n", "550 7.1", "Resent-Sender field"},
		{"two Sender", mine, "From: ala@example.org\r\nSender: a@b.example\r\nSender: ala@example.org\r\n", "550 6.0", "Sender"},
		{"group in From", mine, "From: Team: ala@example.org;\r\n", "", ""},
		{"empty group in From", mine, "From: Team:;\r\n", "550 6.0", "no address"},
		{"broken From", mine, "From: Ala <ala@example.org\r\n", "550 6.0", "can't be read"},
		{"two readings of From", mine, "From: boss@example.org <ala@example.org>\r\n", "550 6.0", "can't be read"},
		{"resent by me", mine, "Resent-From: ala@example.org\r\nFrom: boss@example.net\r\n", "", ""},
		{"resent by another", mine, "Resent-From: boss@example.org\r\nFrom: ala@example.org\r\n", "550 7.1", "Resent-From"},
		{"resent twice, newest mine", mine, "Resent-From: ala@example.org\r\nReceived: x\r\nResent-From: jan@example.net\r\nFrom: boss@example.net\r\n", "", ""},
		{"hidden line", mine, "From: ala@example.org\r\nrubbish\r\nSubject: x\r\n", "550 6.0", "rubbish"},
		{"database away at MAIL", "away@example.org", good, "other", ""},
		{"database away at From", mine, "From: away@example.org\r\n", "other", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := newOffice(t, nil)
			err := o.send(t, ala(), tt.from, tt.header, "far@example.com")
			if code(err) != tt.want || err != nil && !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %q (%v), want %q with %q", code(err), err, tt.want, tt.text)
			}
			if o.accepter.Leaked() != 0 {
				t.Error("a staged message is left")
			}
		})
	}
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	o := newOffice(t, nil)
	if err := o.send(t, ala(), "ala@example.org", "Subject: x\r\nBcc: secret@example.net,\r\n more@example.net\r\nResent-Bcc: z@example.net\r\n", "far@example.com", "ala@example.org"); err != nil {
		t.Fatal(err)
	}
	d := o.accepter.Accepted()[0]
	want := "Subject: x\r\nFrom: ala@example.org\r\nDate: Mon, 23 Nov 2026 03:35:09 +0000\r\nMessage-ID: " + d.MessageID + "\r\n\r\nBody.\r\n"
	if diff := cmp.Diff(want, d.Text); diff != "" {
		t.Error(diff)
	}
	if !strings.HasSuffix(d.MessageID, "@mx.example.org>") || len(d.Remotes) != 1 || len(d.Locals) != 1 {
		t.Errorf("Message-ID %q, %d remotes, %d locals", d.MessageID, len(d.Remotes), len(d.Locals))
	}
	if head := string(d.Head); strings.Contains(head, "192.0.2.7") || strings.Contains(head, "laptop") {
		t.Errorf("the head names the client: %q", head)
	}
	if err := o.send(t, ala(), "ala@example.org", good, "far@example.com"); err != nil {
		t.Fatal(err)
	}
	if got := o.accepter.Accepted()[1].Text; got != good+"\r\nBody.\r\n" {
		t.Errorf("a complete message was changed: %q", got)
	}
}

func TestShowClient(t *testing.T) {
	t.Parallel()
	o := newOffice(t, func(c *submit.Config) { c.ShowClient = true })
	if err := o.send(t, ala(), "ala@example.org", good, "far@example.com"); err != nil {
		t.Fatal(err)
	}
	if head := string(o.accepter.Accepted()[0].Head); !strings.Contains(head, "from laptop ([192.0.2.7])") {
		t.Errorf("head %q", head)
	}
}

func TestRecipients(t *testing.T) {
	t.Parallel()
	for to, want := range map[string]string{
		"far@example.com": "", "far@żółw.example": "", "far@[192.0.2.9]": "", "nobody@example.org": "550 1.1",
		"x@[127.0.0.1]": "550 1.2", "x@[IPv6:::1]": "550 1.2", "x@[0.0.0.0]": "550 1.2", "x@[IPv6:::ffff:127.0.0.1]": "550 1.2", "x@[169.254.1.1]": "550 1.2",
		"x@192.0.2.1": "550 1.2", "x@internationalized-address.invalid": "550 1.2", "x@localhost": "550 1.2", "x@a.localhost": "550 1.2",
	} {
		o := newOffice(t, nil)
		if got := code(o.send(t, ala(), "ala@example.org", good, to)); got != want {
			t.Errorf("%s: got %q, want %q", to, got, want)
		}
	}
}

func TestStrangersAreRefused(t *testing.T) {
	t.Parallel()
	o := newOffice(t, func(c *submit.Config) {
		c.Hosts = []submit.Host{{From: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/28")}, Addresses: []address.Address{intaketest.Addr(t, "scanner@example.org")}}}
	})
	for _, peer := range []string{"127.0.0.1", "::1", "192.0.2.16", "2001:db8::1"} {
		if got := code(o.send(t, stranger(peer), "scanner@example.org", "From: scanner@example.org\r\n", "ala@example.org")); got != "530 7.0" {
			t.Errorf("%s: got %q", peer, got)
		}
	}
}

func TestHosts(t *testing.T) {
	t.Parallel()
	domain := intaketest.Addr(t, "x@printers.example").Domain()
	o := newOffice(t, func(c *submit.Config) {
		c.Hosts = []submit.Host{
			{From: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Domains: []address.Domain{domain}},
			{From: []netip.Prefix{netip.MustParsePrefix("192.0.2.5/32")}, Addresses: []address.Address{intaketest.Addr(t, "scanner@example.org")}, PerHour: 2},
		}
	})
	scan := "From: Scanner@example.org\r\n"
	if got := code(o.send(t, stranger("::ffff:192.0.2.5"), "scanner@example.org", scan, "far@example.com")); got != "" {
		t.Errorf("scanner: %q", got)
	}
	if got := code(o.send(t, stranger("192.0.2.5"), "scanner@example.org", "From: ala@example.org\r\n", "far@example.com")); got != "550 7.1" {
		t.Errorf("scanner as ala: %q", got)
	}
	if got := code(o.send(t, stranger("192.0.2.5"), "p@printers.example", scan, "far@example.com")); got != "550 7.1" {
		t.Errorf("the longest prefix does not win: %q", got)
	}
	if got := code(o.send(t, stranger("192.0.2.6"), "p@printers.example", "From: q@printers.example\r\n", "far@example.com")); got != "" {
		t.Errorf("printer: %q", got)
	}
	if got := code(o.send(t, stranger("192.0.2.5"), "scanner@example.org", scan, "far@example.com")); got != "450 7.1" {
		t.Errorf("third recipient of an hour: %q", got) // the refused message counted its recipient too
	}
	o.now = o.now.Add(time.Hour)
	if got := code(o.send(t, stranger("192.0.2.5"), "scanner@example.org", scan, "far@example.com")); got != "" {
		t.Errorf("an hour later: %q", got)
	}
}

// TestTakes: on port 25 a device's own mail is a submission, other mail from its
// network is not.
func TestTakes(t *testing.T) {
	t.Parallel()
	o := newOffice(t, func(c *submit.Config) {
		c.Hosts = []submit.Host{{From: []netip.Prefix{netip.MustParsePrefix("192.0.2.5/32")}, Addresses: []address.Address{intaketest.Addr(t, "scanner@example.org")}}}
	})
	for _, tt := range []struct {
		s    *smtpserver.Session
		from string
		want bool
	}{
		{ala(), "boss@example.org", true},
		{stranger("192.0.2.5"), "Scanner@example.org", true},
		{stranger("192.0.2.5"), "jan@example.net", false},
		{stranger("192.0.2.5"), "", false},
		{stranger("192.0.2.6"), "scanner@example.org", false},
		{&smtpserver.Session{}, "scanner@example.org", false},
	} {
		if got := o.Takes(tt.s, envelope.Envelope{ReversePath: intaketest.From(t, tt.from)}); got != tt.want {
			t.Errorf("%s from %v: got %v", tt.from, tt.s.Origin.Peer, got)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	o := newOffice(t, func(c *submit.Config) { c.PerHour, c.PerDay = 3, 4 })
	one := func(to ...string) string { return code(o.send(t, ala(), "ala@example.org", good, to...)) }
	if got := one("a@example.com", "b@example.com", "b@example.com", "c@example.com"); got != "" {
		t.Errorf("three recipients, one twice: %q", got)
	}
	if got := one("d@example.com"); got != "450 7.1" {
		t.Errorf("the fourth in an hour: %q", got)
	}
	o.now = o.now.Add(time.Hour)
	if got := one("d@example.com"); got != "" {
		t.Errorf("the fourth, an hour later: %q", got)
	}
	if got := one("e@example.com"); got != "450 7.1" {
		t.Errorf("the fifth in a day: %q", got)
	}
	o.now = o.now.Add(24 * time.Hour)
	if got := one("a@example.com", "b@example.com", "c@example.com"); got != "" {
		t.Errorf("a day later: %q", got)
	}
}

func TestNewReportsEverything(t *testing.T) {
	t.Parallel()
	_, err := submit.New(submit.Config{PerDay: -1, Hosts: []submit.Host{{}}})
	for _, what := range []string{"Intake", "Senders", "negative", "host 1"} {
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v does not name %s", err, what)
		}
	}
}

// TestIdentityMustStand: a session outlives neither its password nor its account.
func TestIdentityMustStand(t *testing.T) {
	t.Parallel()
	o := newOffice(t, nil)
	for version, want := range []string{"", "421 7.0", "other"} {
		s := ala()
		s.Identity.Version = int64(version)
		for _, from := range []string{"ala@example.org", ""} {
			if got := code(o.send(t, s, from, good, "bob@example.com")); got != want {
				t.Errorf("version %d from <%s>: got %q, want %q", version, from, got, want)
			}
		}
	}
}
