package relay_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post/posttest"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/report"
)

// flaky fails at first for mail here: the message must be tried again.
type flaky struct {
	*intake.Intake

	failures chan error
}

func (f flaky) ReleaseJob(ctx context.Context, j *queue.Job, stored io.Reader, within func(tx db.Tx, taken []int) error) (message.ID, []error, error) {
	if j.Destination == "here.example" {
		select {
		case err := <-f.failures:
			return message.ID{}, nil, err
		default:
		}
	}
	return f.Intake.ReleaseJob(ctx, j, stored, within)
}

// TestHeld holds a message for a mailbox here, for one that goes away meanwhile and for
// one elsewhere: nobody gets it early, all get it when its time has come, once.
func TestHeld(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, posttest.Components(), func(t *testing.T, d db.Database) {
		s := newStreet(t, d)
		them := s.serve(t, "them.example", peer.Config{})
		s.serve(t, "here.example", peer.Config{Rules: []peer.Rule{{Stage: peer.Greeting, Do: peer.Reply("554 5.3.2 mail for here went out")}}})
		here := []account.Local{{Account: 1, Login: posttest.Login(1), Address: intaketest.Addr(t, "ala@here.example")}}
		router := &intaketest.Router{Domains: []string{"here.example"}, Routes: map[string]account.Route{
			"ala@here.example": {Match: account.MatchAddress, Locals: here}, "gone@here.example": {Match: account.MatchAlias, Locals: here}}}
		reports, err := report.New(report.Config{Hostname: domainOf("here.example"), Accepter: s.Post, Router: router, Now: s.Clock.Now})
		if err != nil {
			t.Fatal(err)
		}
		in, err := intake.New(intake.Config{Hostname: domainOf("here.example"), Accepter: s.Post, Router: router, Rooms: &intaketest.Rooms{}, Reporter: reports, Now: s.Clock.Now})
		if err != nil {
			t.Fatal(err)
		}
		failures := make(chan error, 1)
		failures <- errors.New("disk is full")
		s.cfg.Local = flaky{in, failures}
		tx, err := in.Begin(envelope.Envelope{ReversePath: intaketest.From(t, "ala@here.example"), HoldUntil: s.Clock.Now().Add(time.Hour), Origin: envelope.Origin{Account: 1}},
			intake.Rules{Ours: true, Relay: func(context.Context, envelope.Recipient) error { return nil }})
		if err != nil {
			t.Fatal(err)
		}
		for _, to := range []string{"ala@here.example", "gone@here.example", "ola@them.example"} {
			if err := tx.Rcpt(t.Context(), envelope.Recipient{ForwardPath: intaketest.To(t, to)}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := tx.Data(t.Context(), strings.NewReader("Subject: birthday\r\n\r\nHello.\r\n")); err != nil {
			t.Fatal(err)
		}
		delete(router.Routes, "gone@here.example")
		s.start(t)
		<-time.After(200 * time.Millisecond)
		if n := s.subjects(t); len(n) != 0 || len(them.Messages()) != 0 {
			t.Fatalf("delivered early: %q here, %d elsewhere", n, len(them.Messages()))
		}
		s.Clock.Advance(time.Hour)
		wait(t, "the message elsewhere, and the first failure here", func() bool { return len(them.Messages()) == 1 && len(failures) == 0 })
		if n := s.subjects(t); len(n) != 0 {
			t.Fatalf("delivered though it failed: %q", n)
		}
		wait(t, "the deferral", func() bool {
			list, _, err := s.Queue.Count(t.Context())
			return err == nil && list == 1
		})
		for range 5 { // whatever the jitter
			s.Clock.Advance(time.Minute)
			<-time.After(50 * time.Millisecond)
		}
		wait(t, "an empty queue", func() bool {
			m, r, err := s.Queue.Count(t.Context())
			return err == nil && m == 0 && r == 0
		})
		wait(t, "message and report here", func() bool { return len(s.subjects(t)) == 2 })
		birthdays := 0
		for _, subject := range s.subjects(t) {
			if subject == "birthday" {
				birthdays++
			}
		}
		if birthdays != 1 || len(them.Messages()) != 1 {
			t.Errorf("%q here, %d elsewhere", s.subjects(t), len(them.Messages()))
		}
	})
}

// subjects are those of the messages in account 1.
func (s *street) subjects(t *testing.T) []string {
	t.Helper()
	var all []string
	if err := s.Mailboxes.Walk(t.Context(), 1, func(e mailbox.Entry) error {
		r, err := s.Mailboxes.OpenEntry(t.Context(), &e)
		if err != nil {
			return err
		}
		defer r.Close()
		text, err := io.ReadAll(r)
		header, _, _ := message.SplitHeader(text)
		subject, _ := message.Get(header, "Subject")
		all = append(all, subject)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all
}
