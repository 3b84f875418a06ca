package mailbox_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/pop3"
	"poczta.example/poczta/internal/pop3server"
	"poczta.example/poczta/internal/post/posttest"
)

const ala envelope.AccountID = 7

// each runs fn on both engines.
func each(t *testing.T, fn func(t *testing.T, h *posttest.House)) {
	t.Helper()
	eachWith(t, posttest.Options{}, fn)
}

func eachWith(t *testing.T, o posttest.Options, fn func(t *testing.T, h *posttest.House)) {
	t.Helper()
	t.Parallel()
	dbtest.Each(t, posttest.Components(), func(t *testing.T, d db.Database) {
		own := o
		own.Clock = posttest.NewClock()
		fn(t, posttest.Open(t, d, own))
	})
}

// open opens a maildrop until the end of the test.
func open(t *testing.T, s *mailbox.Store, account envelope.AccountID, utf8 bool) pop3server.Maildrop {
	t.Helper()
	d, err := s.Open(t.Context(), posttest.Identity(account), utf8)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// read returns message i and checks its size.
func read(t *testing.T, d pop3server.Maildrop, i int) string {
	t.Helper()
	r, _, err := d.Read(t.Context(), i)
	if err != nil {
		t.Fatalf("read message %d: %v", i, err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("read message %d: %v", i, err)
	}
	if got, want := int64(len(b)), d.Octets(i); got != want {
		t.Errorf("message %d has %d octets, its listing says %d", i, got, want)
	}
	return string(b)
}

// uniqueIDs returns the unique-ids of a maildrop.
func uniqueIDs(d pop3server.Maildrop) []string {
	ids := []string{}
	for i := range d.Len() {
		ids = append(ids, string(d.AppendUniqueID(nil, i)))
	}
	return ids
}

func TestDeliveredMessageIsListedAndRead(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		if d := open(t, h.Mailboxes, ala, true); d.Len() != 0 || d.TotalOctets() != 0 {
			t.Errorf("a maildrop without a mailbox has %d messages", d.Len())
		}
		one, two := h.Deliver(t, ala, posttest.Text("one")), h.Deliver(t, ala, posttest.Text("two"))
		d := open(t, h.Mailboxes, ala, true)
		if diff := cmp.Diff([]string{one.String(), two.String()}, uniqueIDs(d)); diff != "" {
			t.Fatalf("unique-ids (-want +got):\n%s", diff)
		}
		want := "Return-Path: <sender@origin.example>\r\nDelivered-To: " + posttest.Login(ala) + "\r\nReceived: from origin.example\r\n" + posttest.Text("two")
		if diff := cmp.Diff(want, read(t, d, 1)); diff != "" {
			t.Errorf("message (-want +got):\n%s", diff)
		}
		if got, want := d.TotalOctets(), d.Octets(0)+d.Octets(1); got != want {
			t.Errorf("total is %d octets, want %d", got, want)
		}
		if n := h.Journal.Count(body.EventDelivered); n != 2 {
			t.Errorf("%d deliveries in the journal, want 2", n)
		}
	})
}

func TestSnapshotsStandStill(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		h.Deliver(t, ala, posttest.Text("one"))
		early := open(t, h.Mailboxes, ala, true)
		h.Deliver(t, ala, posttest.Text("two"))
		late := open(t, h.Mailboxes, ala, true)
		if early.Len() != 1 || late.Len() != 2 {
			t.Fatalf("sessions see %d and %d messages, want 1 and 2", early.Len(), late.Len())
		}
		if err := late.Remove(t.Context(), []int{0}); err != nil {
			t.Fatal(err)
		}
		if got := read(t, early, 0); !strings.Contains(got, "Subject: one") {
			t.Errorf("a session that was open reads %q after the removal", got)
		}
		if err := early.Remove(t.Context(), []int{0}); err != nil {
			t.Errorf("removing what is gone: %v", err)
		}
		u, err := h.Mailboxes.Usage(t.Context(), ala)
		if err != nil || u.Messages != 1 || u.Octets != late.Octets(1) || u.Retained != late.Octets(0) {
			t.Errorf("usage is %+v, %v", u, err)
		}
	})
}

func TestRemoveScattered(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		const n = 200
		for i := range n {
			h.Deliver(t, ala, posttest.Text(fmt.Sprint(i)))
		}
		d := open(t, h.Mailboxes, ala, true)
		ids := uniqueIDs(d)
		var gone []int
		var left []string
		for i := range n {
			if i%2 == 0 || i >= 50 && i < 90 {
				gone = append(gone, i)
			} else {
				left = append(left, ids[i])
			}
		}
		if err := d.Remove(t.Context(), append(gone, gone[0])); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(left, uniqueIDs(open(t, h.Mailboxes, ala, true))); diff != "" {
			t.Errorf("left (-want +got):\n%s", diff)
		}
		if got := h.Journal.Count(body.EventRemoved); got != len(gone) {
			t.Errorf("%d removals in the journal, want %d", got, len(gone))
		}
		all, next, err := h.Mailboxes.Deleted(t.Context(), ala, mailbox.Selection{}, "", 0)
		if err != nil || len(all) != len(gone) || next != "" {
			t.Errorf("%d deleted (%q, %v), want %d", len(all), next, err, len(gone))
		}
	})
}

func TestRestoreGivesNewUniqueID(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		h.Deliver(t, ala, posttest.Text("stays"))
		id := h.Deliver(t, ala, posttest.Text("comes back")).String()
		before := h.Clock.Now()
		d := open(t, h.Mailboxes, ala, true)
		text := read(t, d, 1)
		if err := d.Remove(t.Context(), []int{1}); err != nil {
			t.Fatal(err)
		}
		for _, sel := range []mailbox.Selection{{UniqueIDs: []string{"other"}}, {Mailbox: "Sent"}, {Before: before}, {Since: before.Add(time.Hour)}} {
			if n, err := h.Mailboxes.Restore(t.Context(), ala, "", sel); n != 0 || err != nil {
				t.Errorf("restore %+v: %d, %v", sel, n, err)
			}
		}
		n, err := h.Mailboxes.Restore(t.Context(), ala, posttest.Login(ala), mailbox.Selection{UniqueIDs: []string{id}, Since: before})
		if n != 1 || err != nil {
			t.Fatalf("restored %d, %v", n, err)
		}
		d = open(t, h.Mailboxes, ala, true)
		if d.Len() != 2 || read(t, d, 1) != text {
			t.Fatalf("%d messages after the restore", d.Len())
		}
		if got := uniqueIDs(d)[1]; got == id || len(got) != len(id) {
			t.Errorf("the restored message has unique-id %q, it had %q", got, id)
		}
		u, err := h.Mailboxes.Usage(t.Context(), ala)
		if err != nil || u.Retained != 0 || u.Messages != 2 {
			t.Errorf("usage is %+v, %v", u, err)
		}
	})
}

// bodies counts the rows of the table of bodies.
func bodies(t *testing.T, h *posttest.House) (n int64) {
	t.Helper()
	err := h.DB.View(t.Context(), func(tx db.Tx) error {
		return tx.QueryRow(`SELECT COUNT(*) FROM body`).Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestSweep(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		for range 3 {
			h.Deliver(t, ala, posttest.Text("x"))
		}
		d := open(t, h.Mailboxes, ala, true)
		if err := d.Remove(t.Context(), []int{0}); err != nil {
			t.Fatal(err)
		}
		h.Clock.Advance(13 * 24 * time.Hour)
		if err := d.Remove(t.Context(), []int{1}); err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			wait   time.Duration
			bodies int64
		}{{0, 3}, {25 * time.Hour, 2}, {14 * 24 * time.Hour, 1}} {
			h.Clock.Advance(step.wait)
			if err := h.Mailboxes.Sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := bodies(t, h); got != step.bodies {
				t.Errorf("%d bodies after %v more, want %d", got, step.wait, step.bodies)
			}
		}
		_, _, err := d.Read(t.Context(), 0)
		if e, ok := errors.AsType[*pop3.Error](err); !ok || e.In(pop3.English) == "" || e.In(pop3.Polish) == e.In(pop3.English) {
			t.Errorf("a purged message reads with %v, want a pop3.Error in both languages", err)
		}
		if n := h.Journal.Count(body.EventPurged); n != 2 {
			t.Errorf("%d purges in the journal, want 2", n)
		}
	})
}

// removeFive delivers and removes five messages of 4,000 octets, and returns their unique-ids.
func removeFive(t *testing.T, h *posttest.House) (ids []string) {
	t.Helper()
	for range 5 {
		ids = append(ids, h.Deliver(t, ala, posttest.Long(4000)).String())
		h.Clock.Advance(time.Second)
		if err := open(t, h.Mailboxes, ala, true).Remove(t.Context(), []int{0}); err != nil {
			t.Fatal(err)
		}
	}
	return ids
}

func TestRetentionIsBoundedByQuota(t *testing.T) {
	o := posttest.Options{Mailbox: func(c *mailbox.Config) {
		c.Quota = func(context.Context, envelope.AccountID) (int64, error) { return 10_000, nil }
	}}
	eachWith(t, o, func(t *testing.T, h *posttest.House) {
		ids := removeFive(t, h)
		if err := h.Mailboxes.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		left, _, err := h.Mailboxes.Deleted(t.Context(), ala, mailbox.Selection{}, "", 0)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range left {
			got = append(got, r.UniqueID)
		}
		if diff := cmp.Diff(ids[3:], got); diff != "" {
			t.Errorf("retained (-want +got):\n%s", diff)
		}
	})
}

// TestRestoredWhileSwept restores mail of an account while the sweeper finds that it retains too much: what is left then is
// within the quota, and stays.
func TestRestoredWhileSwept(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, posttest.Components(), func(t *testing.T, d db.Database) {
		var meanwhile func()
		h := posttest.Open(t, d, posttest.Options{Clock: posttest.NewClock(), Mailbox: func(c *mailbox.Config) {
			c.Quota = func(context.Context, envelope.AccountID) (int64, error) {
				if do := meanwhile; do != nil {
					meanwhile = nil
					do()
				}
				return 10_000, nil
			}
		}})
		ids := removeFive(t, h)
		meanwhile = func() {
			if n, err := h.Mailboxes.Restore(t.Context(), ala, "", mailbox.Selection{UniqueIDs: ids[2:]}); n != 3 || err != nil {
				t.Error(n, err)
			}
		}
		if err := h.Mailboxes.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if left, _, err := h.Mailboxes.Deleted(t.Context(), ala, mailbox.Selection{}, "", 0); err != nil || len(left) != 2 {
			t.Errorf("%d messages are retained, want 2: %v", len(left), err)
		}
	})
}

func TestQuota(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		h.Deliver(t, ala, posttest.Long(5000))
		u, err := h.Mailboxes.Usage(t.Context(), ala)
		if err != nil {
			t.Fatal(err)
		}
		quota := u.Octets + 1000
		first, err := h.Mailboxes.Reserve(t.Context(), ala, quota, 600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Mailboxes.Reserve(t.Context(), ala, quota, 600); !errors.Is(err, mailbox.ErrOverQuota) {
			t.Errorf("600 octets while 600 of 1000 are in flight: %v", err)
		}
		small, err := h.Mailboxes.Reserve(t.Context(), ala, quota, 0)
		if err != nil {
			t.Errorf("undeclared size while there is room: %v", err)
		}
		first()
		first()
		small()
		again, err := h.Mailboxes.Reserve(t.Context(), ala, quota, 1000)
		if err != nil {
			t.Errorf("1000 octets after the release: %v", err)
		}
		again()
		h.Deliver(t, ala, posttest.Long(2000)) // accepted at RCPT, so never refused
		if _, err := h.Mailboxes.Reserve(t.Context(), ala, quota, 0); !errors.Is(err, mailbox.ErrOverQuota) {
			t.Errorf("a full mailbox reserves with %v", err)
		}
		if _, err := h.Mailboxes.Reserve(t.Context(), ala, 0, 1<<40); err != nil {
			t.Errorf("no quota: %v", err)
		}
	})
}

func TestExclusive(t *testing.T) {
	o := posttest.Options{Mailbox: func(c *mailbox.Config) { c.Exclusive = true }}
	eachWith(t, o, func(t *testing.T, h *posttest.House) {
		h.Deliver(t, ala, posttest.Text("one"))
		dead := open(t, h.Mailboxes, ala, true)
		inUse := func(err error) bool {
			e, ok := errors.AsType[*pop3.Error](err)
			return ok && e.Code == pop3.CodeInUse && e.In(pop3.Polish) == "skrzynki używa inna sesja"
		}
		if _, err := h.Mailboxes.Open(t.Context(), posttest.Identity(ala), true); !inUse(err) {
			t.Errorf("second session: %v, want [IN-USE]", err)
		}
		h.Clock.Advance(time.Minute)
		read(t, dead, 0) // shows life
		h.Clock.Advance(90 * time.Second)
		if _, err := h.Mailboxes.Open(t.Context(), posttest.Identity(ala), true); !inUse(err) {
			t.Errorf("second session beside a living one: %v, want [IN-USE]", err)
		}
		h.Clock.Advance(time.Minute)
		heir := open(t, h.Mailboxes, ala, true)
		if err := dead.Remove(t.Context(), []int{0}); !inUse(err) {
			t.Errorf("removal by a session that lost its lock: %v, want [IN-USE]", err)
		}
		dead.Close()
		if err := heir.Remove(t.Context(), []int{0}); err != nil {
			t.Errorf("removal by the heir: %v", err)
		}
		heir.Close()
		if d := open(t, h.Mailboxes, ala, true); d.Len() != 0 {
			t.Errorf("%d messages left", d.Len())
		}
	})
}

// TestExclusiveSlow: a session that only asks now and then, or whose peer takes a
// message slowly, is not dead.
func TestExclusiveSlow(t *testing.T) {
	o := posttest.Options{Mailbox: func(c *mailbox.Config) { c.Exclusive = true }}
	eachWith(t, o, func(t *testing.T, h *posttest.House) {
		h.Deliver(t, ala, posttest.Long(100_000))
		slow := open(t, h.Mailboxes, ala, true)
		locked := func(when string) {
			t.Helper()
			_, err := h.Mailboxes.Open(t.Context(), posttest.Identity(ala), true)
			if e, ok := errors.AsType[*pop3.Error](err); !ok || e.Code != pop3.CodeInUse {
				t.Fatalf("%s: %v, want [IN-USE]", when, err)
			}
		}
		for range 3 {
			h.Clock.Advance(90 * time.Second)
			if err := slow.(pop3server.Keeper).Keep(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		h.Clock.Advance(90 * time.Second)
		locked("beside one that asks")
		if err := slow.(pop3server.Keeper).Keep(t.Context()); err != nil {
			t.Fatal(err)
		}
		r, _, err := slow.Read(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		buf := make([]byte, 16<<10)
		for range 3 {
			h.Clock.Advance(90 * time.Second)
			if _, err := r.Read(buf); err != nil {
				t.Fatal(err)
			}
		}
		locked("beside a download")
		h.Clock.Advance(3 * time.Minute)
		open(t, h.Mailboxes, ala, true).Close()
		if err := slow.(pop3server.Keeper).Keep(t.Context()); err == nil {
			t.Error("a session whose lock was taken over goes on")
		}
	})
}

func TestSurrogate(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		text := "From: sender@origin.example\r\nSubject: Za\u017c\u00f3\u0142\u0107\r\n\r\nBody stays: \u0142\r\n"
		d := h.Delivery(t, text, []envelope.AccountID{ala})
		d.UTF8 = true
		if err := h.Post.Accept(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		h.Deliver(t, ala, posttest.Text("ascii"))
		plain, full := open(t, h.Mailboxes, ala, false), open(t, h.Mailboxes, ala, true)
		if got := read(t, full, 0); !strings.HasSuffix(got, text) {
			t.Errorf("with UTF8: %q", got)
		}
		got := read(t, plain, 0)
		head, rest, _ := strings.Cut(got, "\r\n\r\n")
		if strings.ContainsFunc(head, func(r rune) bool { return r > 0x7f }) || rest != "Body stays: \u0142\r\n" {
			t.Errorf("surrogate is %q", got)
		}
		if plain.TotalOctets() != plain.Octets(0)+plain.Octets(1) || plain.TotalOctets() == full.TotalOctets() {
			t.Errorf("totals are %d and %d octets", plain.TotalOctets(), full.TotalOctets())
		}
		if diff := cmp.Diff(uniqueIDs(full), uniqueIDs(plain)); diff != "" {
			t.Errorf("unique-ids differ:\n%s", diff)
		}
	})
}

func TestMailboxes(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		for _, name := range []string{"Sent", "Archive/2026", "Ko\u0142o"} {
			if _, err := h.Mailboxes.Create(t.Context(), ala, name); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := h.Mailboxes.Create(t.Context(), ala, "Sent"); !errors.Is(err, mailbox.ErrExists) {
			t.Errorf("second Sent: %v", err)
		}
		for _, name := range []string{"a//b", "/a", "a/", "x\ny", "\xff", strings.Repeat("n", 256)} {
			if _, err := h.Mailboxes.Create(t.Context(), ala, name); !errors.Is(err, mailbox.ErrBadName) {
				t.Errorf("name %q: %v", name, err)
			}
		}
		all, err := h.Mailboxes.Mailboxes(t.Context(), ala)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, m := range all {
			names = append(names, m.Name)
		}
		if diff := cmp.Diff([]string{"INBOX", "Archive/2026", "Ko\u0142o", "Sent"}, names); diff != "" {
			t.Errorf("mailboxes (-want +got):\n%s", diff)
		}
	})
}

func TestPurgeAccountLeavesNothing(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		d := h.Delivery(t, posttest.Text("shared"), []envelope.AccountID{ala, 8})
		if err := h.Post.Accept(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			h.Deliver(t, ala, posttest.Text("x"))
		}
		if n, err := h.Mailboxes.RemoveAccount(t.Context(), ala); n != 11 || err != nil {
			t.Fatalf("removed %d, %v", n, err)
		}
		if n, err := h.Mailboxes.PurgeAccount(t.Context(), ala); n != 11 || err != nil {
			t.Fatalf("purged %d, %v", n, err)
		}
		if got := bodies(t, h); got != 1 {
			t.Errorf("%d bodies left, want the shared one", got)
		}
		if d := open(t, h.Mailboxes, ala, true); d.Len() != 0 {
			t.Errorf("%d messages left", d.Len())
		}
		if got := read(t, open(t, h.Mailboxes, 8, true), 0); !strings.Contains(got, "shared") {
			t.Errorf("the other account reads %q", got)
		}
	})
}
