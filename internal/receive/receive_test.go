package receive_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/receive"
	"poczta.example/poczta/internal/report"
	"poczta.example/poczta/internal/sasl"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/smtpserver"
)

func newService(t testing.TB, authenticated receive.Submission) (*receive.Service, *intaketest.Accepter) {
	t.Helper()
	return newServiceWith(t, receive.Config{Authenticated: authenticated})
}

// newServiceWith fills in the Intake.
func newServiceWith(t testing.TB, c receive.Config) (*receive.Service, *intaketest.Accepter) {
	t.Helper()
	accepter := &intaketest.Accepter{}
	router := &intaketest.Router{Domains: []string{"example.org"}, Routes: map[string]account.Route{
		"ala@example.org": {Match: account.MatchAddress, Locals: []account.Local{{Account: 1, Login: "ala", Address: intaketest.Addr(t, "ala@example.org")}}},
		"postmaster":      {Match: account.MatchPostmaster, Locals: []account.Local{{Account: 1, Login: "ala", Address: intaketest.Addr(t, "ala@example.org")}}},
	}}
	host := intaketest.Addr(t, "x@mx.example.org").Domain()
	reporter, err := report.New(report.Config{Hostname: host, Accepter: accepter, Router: router})
	if err != nil {
		t.Fatal(err)
	}
	in, err := intake.New(intake.Config{Hostname: host, Accepter: accepter, Router: router, Rooms: &intaketest.Rooms{}, Reporter: reporter})
	if err != nil {
		t.Fatal(err)
	}
	c.Intake = in
	s, err := receive.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s, accepter
}

// TestNeverRelays: nobody relays through this side, whatever the peer, protocol
// or identity.
func TestNeverRelays(t *testing.T) {
	t.Parallel()
	s, accepter := newService(t, nil)
	for _, protocol := range []string{"SMTP", "ESMTP", "ESMTPSA", "LMTP"} {
		for _, id := range []envelope.AccountID{0, 1} {
			session := &smtpserver.Session{Origin: envelope.Origin{Protocol: protocol}, Identity: sasl.Identity{Account: id}}
			tx, err := s.Begin(t.Context(), session, envelope.Envelope{ReversePath: intaketest.From(t, ""), Origin: session.Origin})
			if err != nil {
				t.Fatal(err)
			}
			err = tx.Rcpt(t.Context(), envelope.Recipient{ForwardPath: intaketest.To(t, "far@example.com")})
			var e *smtp.Error
			if !errors.As(err, &e) || e.Reply.Code != 550 || e.Reply.Subject != 7 || e.Reply.Detail != 1 {
				t.Errorf("%s, account %d: got %v", protocol, id, err)
			}
			tx.Abort()
		}
	}
	if len(accepter.Accepted()) != 0 {
		t.Error("something was accepted")
	}
}

// TestPostmasterOfHost: the host's address names its postmaster, and nobody else.
func TestPostmasterOfHost(t *testing.T) {
	t.Parallel()
	s, _ := newService(t, nil)
	session := &smtpserver.Session{Origin: envelope.Origin{Protocol: "ESMTP"}, Local: netip.MustParseAddrPort("[::ffff:192.0.2.1]:25")}
	for to, taken := range map[string]bool{"postmaster@[192.0.2.1]": true, "Postmaster@[192.0.2.1]": true, "postmaster@[192.0.2.2]": false, "ala@[192.0.2.1]": false} {
		tx, err := s.Begin(t.Context(), session, envelope.Envelope{ReversePath: intaketest.From(t, "a@example.com"), Origin: session.Origin})
		if err != nil {
			t.Fatal(err)
		}
		if err := tx.Rcpt(t.Context(), envelope.Recipient{ForwardPath: intaketest.To(t, to)}); (err == nil) != taken {
			t.Errorf("%s: got %v, want taken: %t", to, err, taken)
		}
		tx.Abort()
	}
}

// traps notes what it is told of.
type traps []string

func (t *traps) Unknown(_ context.Context, peer netip.Addr, a address.Address) {
	*t = append(*t, peer.String()+" "+a.String())
}

// TestUnknownRecipients: traps are told of what does not exist here, and of nothing else.
func TestUnknownRecipients(t *testing.T) {
	t.Parallel()
	var told traps
	s, _ := newServiceWith(t, receive.Config{Traps: &told})
	origin := envelope.Origin{Protocol: "ESMTP", Peer: netip.MustParseAddrPort("192.0.2.7:4")}
	tx, err := s.Begin(t.Context(), &smtpserver.Session{Origin: origin}, envelope.Envelope{ReversePath: intaketest.From(t, "a@example.com"), Origin: origin})
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Abort()
	for _, to := range []string{"ala@example.org", "nobody@example.org", "far@example.com"} {
		_ = tx.Rcpt(t.Context(), envelope.Recipient{ForwardPath: intaketest.To(t, to)})
	}
	if diff := cmp.Diff(traps{"192.0.2.7 nobody@example.org"}, told); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

type marker struct{ smtpserver.Service }

func (marker) Takes(session *smtpserver.Session, _ envelope.Envelope) bool {
	return session.Identity.Account != 0
}

var errMarked = errors.New("the submission side was asked")

func (marker) Begin(context.Context, *smtpserver.Session, envelope.Envelope) (smtpserver.Transaction, error) {
	return nil, errMarked
}

func TestAuthenticatedGoToSubmission(t *testing.T) {
	t.Parallel()
	s, _ := newService(t, marker{})
	if _, err := s.Begin(t.Context(), &smtpserver.Session{Identity: sasl.Identity{Account: 1}}, envelope.Envelope{}); !errors.Is(err, errMarked) {
		t.Errorf("got %v", err)
	}
	if _, err := s.Begin(t.Context(), &smtpserver.Session{}, envelope.Envelope{}); err != nil {
		t.Errorf("a stranger: %v", err)
	}
	lmtp := &smtpserver.Session{Origin: envelope.Origin{Protocol: "LMTPA"}, Identity: sasl.Identity{Account: 1}}
	if _, err := s.Begin(t.Context(), lmtp, envelope.Envelope{}); err != nil {
		t.Errorf("LMTP was given to submission: %v", err)
	}
	if _, err := receive.New(receive.Config{}); err == nil {
		t.Error("an empty configuration was taken")
	}
}

// TestCorpora sends every foreign message through, made CRLF: none may fail, and
// what is stored is what came, but for the fields that must go.
func TestCorpora(t *testing.T) {
	t.Parallel()
	root := os.Getenv("POCZTA_TESTDATA")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared", "testdata")
	}
	n := 0
	for _, dir := range []string{"mime", "bounce", "eai", "dkim", "dmarc"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(path, ".gz") || strings.HasSuffix(path, ".json") {
				return err
			}
			through(t, path)
			n++
			return nil
		})
		if errors.Is(err, fs.ErrNotExist) {
			t.Skip("foreign test data is not here; set POCZTA_TESTDATA")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d messages", n)
	if n < 300 {
		t.Errorf("only %d messages were found", n)
	}
}

// through sends one file and holds what is stored against an edit made by hand.
func through(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var in strings.Builder
	if _, err := io.Copy(&in, message.NewReader(f)); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	s, accepter := newService(t, nil)
	tx, err := s.Begin(t.Context(), &smtpserver.Session{}, envelope.Envelope{ReversePath: intaketest.From(t, "")})
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Rcpt(t.Context(), envelope.Recipient{ForwardPath: intaketest.To(t, "ala@example.org")}); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Data(t.Context(), strings.NewReader(in.String())); err != nil {
		t.Errorf("%s: %v", path, err)
		return
	}
	if got, want := accepter.Accepted()[0].Text, byHand(in.String()); got != want {
		t.Errorf("%s changed on its way: got %.200q, want %.200q", path, got, want)
	}
	header, _, _ := message.SplitHeader([]byte(in.String()))
	if message.NeedsUTF8(message.Downgrade(header)) {
		t.Errorf("%s: the surrogate is not ASCII", path)
	}
}

// byHand leaves out Return-Path and the mbox line, line by line.
func byHand(in string) string {
	lines := strings.SplitAfter(in, "\r\n")
	var out strings.Builder
	header, skip := true, false
	name := func(line string) string {
		n, _, _ := strings.Cut(line, ":")
		return strings.ToLower(strings.TrimRight(n, " \t"))
	}
	if first := strings.TrimPrefix(lines[0], ">"); lines[0] != "\r\n" && !strings.HasPrefix(first, "From ") && !fieldLine(lines[0]) && lines[0] != "" {
		return "\r\n" + in
	}
	for i, line := range lines {
		switch {
		case !header:
		case line == "\r\n":
			header, skip = false, false
		case line != "" && (line[0] == ' ' || line[0] == '\t') && i > 0:
		default:
			skip = fieldLine(line) && name(line) == "return-path" || i == 0 && strings.HasPrefix(strings.TrimPrefix(line, ">"), "From ") && !fieldLine(line)
		}
		if !skip {
			out.WriteString(line)
		}
	}
	return out.String()
}

func fieldLine(line string) bool {
	n, _, ok := strings.Cut(line, ":")
	n = strings.TrimRight(n, " \t")
	return ok && n != "" && !strings.ContainsFunc(n, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}
