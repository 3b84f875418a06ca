package submit_test

import (
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/post/posttest"
	"poczta.example/poczta/internal/repeat"
	"poczta.example/poczta/internal/report"
	"poczta.example/poczta/internal/smtpserver"
	"poczta.example/poczta/internal/submit"
)

// counter is a submission service over real rooms; account 2 has a mailbox here.
type counter struct {
	*submit.Service
	house *posttest.House
}

func newCounter(t *testing.T, d db.Database) *counter {
	t.Helper()
	h := posttest.Open(t, d, posttest.Options{})
	local := func(to string) account.Route {
		return account.Route{Match: account.MatchAddress, Locals: []account.Local{{Account: 2, Login: posttest.Login(2), Address: intaketest.Addr(t, to)}}}
	}
	router := &intaketest.Router{Domains: []string{"example.org"}, Routes: map[string]account.Route{"ola@example.org": local("ola@example.org")}}
	host := intaketest.Addr(t, "x@mx.example.org").Domain()
	reporter, err := report.New(report.Config{Hostname: host, Accepter: h.Post, Router: router, Now: h.Clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	in, err := intake.New(intake.Config{Hostname: host, Accepter: h.Post, Router: router, Rooms: &intaketest.Rooms{}, Reporter: reporter, Now: h.Clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	known, err := repeat.New(repeat.Config{DB: d, Now: h.Clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	c := &counter{house: h}
	c.Service, err = submit.New(submit.Config{Intake: in, Senders: senders{}, Repeats: known, Hosts: []submit.Host{{From: device, Addresses: []address.Address{intaketest.Addr(t, "ala@example.org")}}}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var device = []netip.Prefix{netip.MustParsePrefix("192.0.2.99/32")}

// hand hands a letter in and returns the reply's text.
func (c *counter) hand(t *testing.T, s *smtpserver.Session, letter string, to ...string) (string, error) {
	t.Helper()
	tx, err := c.Begin(t.Context(), s, envelope.Envelope{ReversePath: intaketest.From(t, "ala@example.org"), Origin: s.Origin})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range to {
		if err := tx.Rcpt(t.Context(), envelope.Recipient{ForwardPath: intaketest.To(t, r)}); err != nil {
			t.Fatal(err)
		}
	}
	o, err := tx.Data(t.Context(), strings.NewReader(letter))
	return o.Reply.Text, err
}

// copies counts what lies in ola's mailbox and what waits for others.
func (c *counter) copies(t *testing.T) (here, queued int) {
	t.Helper()
	err := c.house.DB.View(t.Context(), func(tx db.Tx) error {
		if err := tx.QueryRow(`SELECT count(*) FROM entry`).Scan(&here); err != nil {
			return err
		}
		return tx.QueryRow(`SELECT count(*) FROM queued_recipient`).Scan(&queued)
	})
	if err != nil {
		t.Fatal(err)
	}
	return here, queued
}

// TestSentAgain follows a program that never sees the final reply.
func TestSentAgain(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, append(posttest.Components(), repeat.Schema), func(t *testing.T, d db.Database) {
		c := newCounter(t, d)
		letter := good + "\r\nBody.\r\n"
		both := []string{"ola@example.org", "far@elsewhere.example"}
		steps := []struct {
			name         string
			session      *smtpserver.Session
			letter       string
			to           []string
			later        time.Duration
			again        bool
			here, queued int
		}{
			{"first", ala(), letter, both, 0, false, 1, 1},
			{"again", ala(), letter, both, 0, true, 1, 1},
			{"again to one of them", ala(), letter, both[1:], 0, true, 1, 1},
			{"to one more", ala(), letter, append(both, "third@elsewhere.example"), time.Hour, false, 1, 2},
			{"again to all", ala(), letter, append(both, "third@elsewhere.example"), 0, true, 1, 2},
			{"another text under the same Message-ID", ala(), letter + "P.S.\r\n", both, 0, false, 2, 3},
			{"without Message-ID", ala(), "From: ala@example.org\r\nDate: Mon, 23 Nov 2026 03:35:09 +0000\r\n\r\nBody.\r\n", both, 0, false, 3, 4},
			{"without Message-ID again", ala(), "From: ala@example.org\r\nDate: Mon, 23 Nov 2026 03:35:09 +0000\r\n\r\nBody.\r\n", both, 0, false, 4, 5},
			{"of a device", stranger("192.0.2.99"), letter, both, 0, false, 5, 6},
			{"of a device again", stranger("192.0.2.99"), letter, both, 0, false, 6, 7},
			{"after a week", ala(), letter, both, 7 * 24 * time.Hour, false, 7, 8},
		}
		ids := map[string]bool{}
		for _, s := range steps {
			c.house.Clock.Advance(s.later)
			text, err := c.hand(t, s.session, s.letter, s.to...)
			if err != nil {
				t.Fatalf("%s: %v", s.name, err)
			}
			if ids[text] != s.again {
				t.Errorf("%s: replied %q; an id given before: %v, want %v", s.name, text, ids[text], s.again)
			}
			ids[text] = true
			if here, queued := c.copies(t); here != s.here || queued != s.queued {
				t.Errorf("%s: %d copies here and %d queued, want %d and %d", s.name, here, queued, s.here, s.queued)
			}
		}
	})
}

// TestSentTwiceAtOnce has a program lose patience while the first transaction still runs.
func TestSentTwiceAtOnce(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, append(posttest.Components(), repeat.Schema), func(t *testing.T, d db.Database) {
		c := newCounter(t, d)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				_, err := c.hand(t, ala(), good+"\r\nBody.\r\n", "ola@example.org", "far@elsewhere.example")
				if got := code(err); err != nil && !strings.HasPrefix(got, "451") {
					t.Errorf("answered %v", err)
				}
			})
		}
		wg.Wait()
		if here, queued := c.copies(t); here != 1 || queued != 1 {
			t.Errorf("%d copies here and %d queued of a letter sent eight times at once", here, queued)
		}
	})
}
