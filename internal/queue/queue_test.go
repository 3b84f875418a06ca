package queue_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post/posttest"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/trace"
)

func each(t *testing.T, fn func(t *testing.T, h *posttest.House)) {
	t.Helper()
	t.Parallel()
	dbtest.Each(t, posttest.Components(), func(t *testing.T, d db.Database) { fn(t, posttest.Open(t, d, posttest.Options{})) })
}

// enqueue accepts a message for remote recipients and perhaps local accounts.
func enqueue(t *testing.T, h *posttest.House, accounts []envelope.AccountID, remotes ...string) message.ID {
	t.Helper()
	d := h.Delivery(t, posttest.Text("x"), accounts, remotes...)
	d.Envelope.Origin.Account, d.Envelope.Origin.Login = 5, "five"
	d.Envelope.EnvelopeID, d.Envelope.SMTPUTF8, d.Envelope.Return, d.Envelope.Body = "env", true, envelope.ReturnHeaders, envelope.Body8BitMIME
	for i := range d.Envelope.Recipients {
		d.Envelope.Recipients[i].Notify = envelope.NotifySuccess | envelope.NotifyDelay
		d.Envelope.Recipients[i].Original = envelope.OriginalRecipient{Type: "rfc822", Address: "o@x"}
	}
	if err := h.Post.Accept(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	return d.ID
}

// listed is a list in one line: id's recipients.
func listed(t *testing.T, h *posttest.House, f queue.Filter, p queue.Page) string {
	t.Helper()
	all, err := h.Queue.List(t.Context(), f, p)
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, m := range all {
		var to []string
		for _, r := range m.Recipients {
			to = append(to, r.ForwardPath)
		}
		words = append(words, strings.Join(to, "+"))
	}
	return strings.Join(words, " ")
}

func TestShowTellsTheEnvelope(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		id := enqueue(t, h, []envelope.AccountID{1}, "a@far.example")
		got, err := h.Queue.Show(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		now := h.Clock.Now().UTC()
		want := queue.Message{ID: id, Queued: now, ReversePath: "sender@origin.example", Body: envelope.Body8BitMIME, SMTPUTF8: true, Return: envelope.ReturnHeaders,
			EnvelopeID: "env", Octets: got.Octets, Account: 5, Login: "five", Expires: now.Add(queue.DefaultLifetime), Recipients: []queue.Recipient{{
				N: 0, Fate: 1, ForwardPath: "a@far.example", Destination: "far.example", Notify: envelope.NotifySuccess | envelope.NotifyDelay,
				Original: envelope.OriginalRecipient{Type: "rfc822", Address: "o@x"}, State: queue.Waiting, NextAttempt: now}}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("message (-want +got):\n%s", diff)
		}
		for _, id := range []message.ID{{}, {1}} {
			if _, err := h.Queue.Show(t.Context(), id); !errors.Is(err, queue.ErrNotFound) {
				t.Errorf("show %s: %v", id, err)
			}
		}
	})
}

func TestListFilters(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		first := enqueue(t, h, nil, "a@one.example", "b@two.example")
		h.Clock.Advance(time.Minute)
		enqueue(t, h, nil, "C@one.example")
		h.Clock.Advance(time.Minute)
		enqueue(t, h, nil, "a@three.example")
		for _, c := range []struct {
			f    queue.Filter
			p    queue.Page
			want string
		}{
			{queue.Filter{}, queue.Page{}, "a@one.example+b@two.example C@one.example a@three.example"},
			{queue.Filter{}, queue.Page{Limit: 1}, "a@one.example+b@two.example"},
			{queue.Filter{}, queue.Page{After: first}, "C@one.example a@three.example"},
			{queue.Filter{ID: first}, queue.Page{}, "a@one.example+b@two.example"},
			{queue.Filter{Destination: "ONE.example"}, queue.Page{}, "a@one.example C@one.example"},
			{queue.Filter{ForwardPath: "<c@One.example>"}, queue.Page{}, "C@one.example"},
			{queue.Filter{ReversePath: "Sender@origin.example", Account: 5, State: queue.Waiting}, queue.Page{Limit: 2}, "a@one.example+b@two.example C@one.example"},
			{queue.Filter{ReversePath: "<>"}, queue.Page{}, ""},
			{queue.Filter{State: queue.Held}, queue.Page{}, ""},
			{queue.Filter{Account: 6}, queue.Page{}, ""},
			{queue.Filter{Before: h.Clock.Now()}, queue.Page{}, "a@one.example+b@two.example C@one.example"},
		} {
			if got := listed(t, h, c.f, c.p); got != c.want {
				t.Errorf("list %+v %+v: %q, want %q", c.f, c.p, got, c.want)
			}
		}
	})
}

func TestRemoveSettlesFatesAndReleasesBodies(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		both := enqueue(t, h, []envelope.AccountID{1}, "a@one.example", "b@two.example")
		enqueue(t, h, nil, "c@one.example")
		if n, err := h.Queue.Remove(t.Context(), queue.Filter{}, "oops"); n != 0 || !errors.Is(err, queue.ErrEmptyFilter) {
			t.Fatalf("an empty filter removed %d, %v", n, err)
		}
		if n, err := h.Queue.Remove(t.Context(), queue.Filter{Destination: "one.example"}, "by hand"); n != 2 || err != nil {
			t.Fatalf("removed %d, %v", n, err)
		}
		if got := listed(t, h, queue.Filter{}, queue.Page{}); got != "b@two.example" {
			t.Errorf("left in the queue: %q", got)
		}
		found, err := h.Trace.Find(t.Context(), trace.Viewer{Operator: true}, trace.Query{ID: both})
		if err != nil {
			t.Fatal(err)
		}
		var fates []string
		for _, f := range found[0].Fates {
			fates = append(fates, f.State.String()+" "+f.Detail)
		}
		if diff := cmp.Diff([]string{"delivered INBOX", "removed by hand", "queued "}, fates); diff != "" {
			t.Errorf("fates (-want +got):\n%s", diff)
		}
		if got := refs(t, h); got != "2" {
			t.Errorf("references of the bodies left: %s, want 2", got)
		}
		if n, err := h.Queue.Remove(t.Context(), queue.Filter{All: true}, "all"); n != 1 || err != nil {
			t.Errorf("removed %d, %v", n, err)
		}
		if got := refs(t, h); got != "1" {
			t.Errorf("references of the bodies left: %s, want 1", got)
		}
		if m, r, err := h.Queue.Count(t.Context()); m != 0 || r != 0 || err != nil {
			t.Errorf("%d messages and %d recipients left, %v", m, r, err)
		}
	})
}

// refs is the references of all bodies.
func refs(t *testing.T, h *posttest.House) string {
	t.Helper()
	var s []string
	err := h.DB.View(t.Context(), func(tx db.Tx) error {
		s = nil
		rows, err := tx.Query(`SELECT refs FROM body ORDER BY id`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var n int64
			if err := rows.Scan(&n); err != nil {
				return err
			}
			s = append(s, fmt.Sprint(n))
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(s, " ")
}

func TestRemoveInChunks(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		var to []string
		for i := range 400 {
			to = append(to, fmt.Sprintf("r%d@many.example", i))
		}
		enqueue(t, h, nil, to...)
		for range 120 {
			enqueue(t, h, nil, "x@many.example")
		}
		if n, err := h.Queue.Remove(t.Context(), queue.Filter{Destination: "many.example"}, ""); n != 520 || err != nil {
			t.Errorf("removed %d, %v", n, err)
		}
		if got := refs(t, h); got != "" {
			t.Errorf("bodies left with references %s", got)
		}
	})
}
