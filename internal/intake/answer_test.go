package intake_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/dkim"
	"poczta.example/poczta/internal/dsn"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/keys"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/report"
)

// people are ala and ola, who are away.
type people struct {
	t   *testing.T
	err error
}

func (p people) ByID(_ context.Context, id envelope.AccountID) (account.Account, error) {
	name := map[envelope.AccountID]string{1: "ala", 2: "ola"}[id]
	a := intaketest.Addr(p.t, name+"@example.org")
	return account.Account{ID: id, Login: a.String(), Address: a, Addresses: []address.Address{a}, Language: "en", Name: name}, nil
}

func (p people) Vacation(context.Context, envelope.AccountID) (account.Vacation, error) {
	return account.Vacation{Days: 7, Text: "Away.\n"}, p.err
}

// memory forgets nothing.
type memory map[string]bool

func (m memory) Claim(_ context.Context, id envelope.AccountID, to address.Address, _ account.Vacation) (bool, error) {
	key := string(rune('0'+id)) + to.Key()
	before := m[key]
	m[key] = true
	return !before, nil
}

type signers struct{ private ed25519.PrivateKey }

func (s signers) Signer(_ context.Context, d address.Domain) (*dkim.Signer, error) {
	if d.String() != "example.org" {
		return nil, keys.ErrNoKey
	}
	return dkim.NewSigner(d, dkim.SigningKey{Selector: "s", Private: s.private})
}

// newAwayHouse is newHouse with everybody away.
func newAwayHouse(t *testing.T, err error) *house {
	t.Helper()
	h := newHouse(t)
	for key, r := range h.router.Routes {
		for i := range r.Locals {
			r.Locals = append([]account.Local(nil), r.Locals...)
			r.Locals[i].Vacation = true
		}
		h.router.Routes[key] = r
	}
	host := intaketest.Addr(t, "x@mx.example.org").Domain()
	clock := func() time.Time { return h.now }
	_, private, kerr := ed25519.GenerateKey(nil)
	reporter, rerr := report.New(report.Config{Hostname: host, Accepter: h.accepter, Router: h.router, Now: clock, Signers: signers{private}})
	answers, aerr := report.NewAnswers(reporter, people{t, err}, memory{})
	var ierr error
	h.Intake, ierr = intake.New(intake.Config{Hostname: host, Accepter: h.accepter, Router: h.router, Rooms: h.rooms, Reporter: reporter, Answers: answers, Now: clock})
	if err := errors.Join(kerr, rerr, aerr, ierr); err != nil {
		t.Fatal(err)
	}
	return h
}

const toAla = "From: Jan <jan@example.net>\r\nTo: ala@example.org\r\nSubject: Hi\r\nMessage-ID: <1@example.net>\r\n\r\nBody.\r\n"

func TestAnswers(t *testing.T) {
	t.Parallel()
	h := newAwayHouse(t, nil)
	step := func(what, from, msg string, replies int, to ...string) []intaketest.Accepted {
		t.Helper()
		if err := h.send(t, env(t, from), intake.Rules{}, msg, to...); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		all := h.accepter.Accepted()
		got := all[len(all)-1].Also
		if len(got) != replies {
			t.Fatalf("%s: %d replies, want %d", what, len(got), replies)
		}
		return got
	}
	reply := step("the first", "jan@example.net", toAla, 1, "ala@example.org", "ala+shop@example.org")[0]
	if !reply.Envelope.ReversePath.IsNull() || len(reply.Remotes) != 1 || reply.Remotes[0].ForwardPath.Address().String() != "jan@example.net" ||
		reply.Envelope.Recipients[0].Notify != envelope.NotifyNever || !strings.Contains(string(reply.Head), "DKIM-Signature:") || !strings.Contains(string(reply.Head), "d=example.org") {
		t.Errorf("the reply's envelope is %+v, its head %s", reply.Delivery, reply.Head)
	}
	if !strings.Contains(reply.Text, "From: \"ala\" <ala@example.org>\r\n") || !strings.Contains(reply.Text, "Subject: Auto: Hi\r\n") {
		t.Errorf("the reply is %s", reply.Text)
	}
	step("the same sender again", "jan@example.net", toAla, 0, "ala@example.org")
	step("through the list of all", "eva@example.net", toAla, 1, "team@example.org") // ola is not named
	step("a list", "list@example.net", "List-Id: <x>\r\n"+toAla, 0, "ala@example.org")
	step("a report", "", toAla, 0, "ala@example.org")
	step("written to the subaddress", "shop@example.net", strings.ReplaceAll(toAla, "ala@", "ala+shop@"), 1, "ala+shop@example.org")
	step("written to an alias of several", "team@example.net", strings.ReplaceAll(toAla, "ala@", "team@"), 0, "team@example.org")

	// Two who are away: ola's letter is answered by ala, and ala's reply by nobody.
	letter := step("from one who is away", "ola@example.org", toAla, 1, "ala@example.org")[0]
	if len(letter.Locals) != 1 || letter.Locals[0].Account != 2 || len(letter.Head) != 0 {
		t.Errorf("the reply goes to %+v, signed %s", letter.Locals, letter.Head)
	}
	step("the reply comes in as from another host", "", letter.Text, 0, "ola@example.org")
	step("the reply with a reverse-path", "ala@example.org", letter.Text, 0, "ola@example.org")
	if h.accepter.Leaked() != 0 {
		t.Errorf("%d staged messages leaked", h.accepter.Leaked())
	}
}

// TestAnswersFail: mail comes in though the reply can't be made.
func TestAnswersFail(t *testing.T) {
	t.Parallel()
	h := newAwayHouse(t, errors.New("the database is away"))
	if err := h.send(t, env(t, "jan@example.net"), intake.Rules{}, toAla, "ala@example.org"); err != nil {
		t.Fatal(err)
	}
	if got := h.accepter.Accepted(); len(got) != 1 || len(got[0].Also) != 0 {
		t.Errorf("%d accepted", len(got))
	}
}

// returns keeps what it is told.
type returns struct {
	got  []*dsn.Returned
	mail []string // header sections of other mail
}

func (r *returns) Returned(_ context.Context, _ *post.Delivery, report *dsn.Returned) {
	r.got = append(r.got, report)
}

// CameBack implements intake.Returns.
func (r *returns) CameBack(_ context.Context, _ *post.Delivery, header []byte) {
	r.mail = append(r.mail, string(header))
}

// TestReturns: reports that come in are handed on once they are accepted, and only they.
func TestReturns(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	r := &returns{}
	host := intaketest.Addr(t, "x@mx.example.org").Domain()
	reporter, err := report.New(report.Config{Hostname: host, Accepter: h.accepter, Router: h.router})
	if err != nil {
		t.Fatal(err)
	}
	h.Intake, err = intake.New(intake.Config{Hostname: host, Accepter: h.accepter, Router: h.router, Rooms: h.rooms, Reporter: reporter, Returns: r})
	if err != nil {
		t.Fatal(err)
	}
	const bounce = "From: x\r\nContent-Type: multipart/report; report-type=delivery-status;\r\n boundary=b\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n" +
		"Reporting-MTA: dns; mx.example.net\r\n\r\nFinal-Recipient: rfc822; jan@example.net\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n--b--\r\n"
	for _, tt := range []struct {
		from, msg string
		want      int
	}{{"", bounce, 1}, {"jan@example.net", bounce, 1}, {"", plain, 1}, {"", strings.ReplaceAll(bounce, "--b", "--c"), 1}, {"", bounce, 2}} {
		if err := h.send(t, env(t, tt.from), intake.Rules{}, tt.msg, "ala@example.org"); err != nil {
			t.Fatal(err)
		}
		if len(r.got) != tt.want {
			t.Fatalf("%d reports, want %d", len(r.got), tt.want)
		}
	}
	if len(r.mail) != 2 || !strings.Contains(r.mail[0], "Subject:") {
		t.Errorf("other mail with a null reverse-path: %q", r.mail)
	}
	if got := r.got[0].Recipients[0]; got.Final != "jan@example.net" || got.Status.String() != "5.1.1" {
		t.Errorf("%+v", got)
	}
	h.accepter.AcceptErr = errors.New("full")
	if err := h.send(t, env(t, ""), intake.Rules{}, bounce, "ala@example.org"); err == nil || len(r.got) != 2 {
		t.Errorf("a report that was not accepted: %v, %d", err, len(r.got))
	}
}
