package store_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mua/store"
)

// partition lists the threads: the subjects' numbers of each, sorted.
func (h *house) partition() []string {
	h.t.Helper()
	threads := map[int64][]string{}
	q := store.Query{Everywhere: true, Limit: 1000}
	page, err := h.List(h.t.Context(), q)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, m := range page.Letters {
		threads[m.Thread] = append(threads[m.Thread], m.Snippet)
	}
	var all []string
	for _, t := range threads {
		slices.Sort(t)
		all = append(all, strings.Join(t, " "))
	}
	slices.Sort(all)
	return all
}

// conversation is letters whose threads are known: their bodies are their names.
func conversation() []string {
	mail := func(name, from, to, subject, day, ids string) string {
		return fmt.Sprintf("From: %s@example.org\nTo: %s@example.org\nSubject: %s\nDate: %s Nov 2026 10:00:00 +0000\n%s\n%s\n", from, to, subject, day, ids, name)
	}
	return []string{
		mail("a1", "ala", "ewa", "Trip", "1", "Message-ID: <a1@x>\n"),
		mail("a2", "ewa", "ala", "Re: Trip", "2", "Message-ID: <a2@x>\nIn-Reply-To: <a1@x>\n"),
		mail("a3", "ala", "ewa", "Odp: Trip", "3", "Message-ID: <a3@x>\nReferences: <a1@x> <a2@x>\n"),
		mail("a4", "jan", "ewa", "other words", "4", "Message-ID: <a4@x>\nReferences: <lost@x> <a3@x>\n"),
		mail("a5", "jan", "ewa", "more words", "4", "Message-ID: <a5@x>\nReferences: <lost@x>\n"),
		mail("b1", "shop", "ala", "Invoice", "1", "Message-ID: <b1@x>\n"),
		mail("c1", "shop", "ala", "Invoice", "8", "Message-ID: <c1@x>\n"),
		mail("d1", "ala", "jan", "Garden plans", "1", "Message-ID: <d1@x>\n"),
		mail("d2", "jan", "ala", "RE: [list] Garden  plans", "5", "Message-ID: <d2@x>\n"),
		mail("e1", "eve", "ewa", "Re: Garden plans", "6", "Message-ID: <e1@x>\n"), // answers nobody we know
		mail("f1", "ala", "ewa", "Re: Hi", "1", ""),
		mail("g1", "ewa", "ala", "Re: Hi", "2", ""), // too short a subject
		mail("h1", "ala", "jan", "Quarterly report", "1", "Message-ID: <h1@x>\n"),
		mail("i1", "jan", "ala", "Re: Quarterly report", "20", "Message-ID: <i1@x>\nIn-Reply-To: <other@x>\n"),
	}
}

var conversationThreads = []string{"a1 a2 a3 a4 a5", "b1", "c1", "d1 d2", "e1", "f1", "g1", "h1", "i1"}

// TestThreadsInAnyOrder adds the letters in many orders.
func TestThreadsInAnyOrder(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(5, 6))
	letters := conversation()
	for range 12 {
		h := open(t)
		h.clock.Advance(60 * 24 * time.Hour)
		order := r.Perm(len(letters))
		for len(order) > 0 {
			n := 1 + r.IntN(min(5, len(order)))
			var some []string
			for _, i := range order[:n] {
				some = append(some, letters[i])
			}
			order = order[n:]
			h.add(envelope.AccountID(1+r.IntN(2)), store.Inbox, some...)
		}
		h.index()
		if diff := cmp.Diff(conversationThreads, h.partition()); diff != "" {
			t.Fatalf("threads (-want +got):\n%s", diff)
		}
	}
}

func TestThreadList(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.clock.Advance(60 * 24 * time.Hour)
	ids := h.add(ala, store.Inbox, conversation()...)
	h.index()
	if _, err := h.SetFlags(t.Context(), ids[:2], mailbox.Seen, 0); err != nil {
		t.Fatal(err)
	}
	list := func(q store.Query) []string {
		t.Helper()
		var rows []string
		for {
			page, err := h.Threads(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range page.Threads {
				rows = append(rows, fmt.Sprintf("%s %d/%d %d", c.Newest.Snippet, c.Unread, c.Letters, len(c.People)))
			}
			if q.Cursor = page.Cursor; q.Cursor == "" {
				return rows
			}
		}
	}
	want := list(store.Query{Folder: store.Inbox})
	if len(want) != len(conversationThreads) || !slices.Contains(want, "a5 3/5 3") && !slices.Contains(want, "a4 3/5 3") || !slices.Contains(want, "d2 2/2 2") {
		t.Errorf("threads: %q", want)
	}
	for limit := 1; limit < 6; limit++ {
		if diff := cmp.Diff(want, list(store.Query{Folder: store.Inbox, Limit: limit})); diff != "" {
			t.Errorf("pages of %d (-want +got):\n%s", limit, diff)
		}
	}
	if got := list(store.Query{Text: "trip", Limit: 1}); !cmp.Equal(got, []string{"a3 3/5 3"}) {
		t.Errorf("search: %q", got)
	}
	if got := list(store.Query{Text: "from:ala", Limit: 1}); len(got) != 4 {
		t.Errorf("search by author: %q", got)
	}
	m, err := h.Summary(t.Context(), ids[0])
	if err != nil {
		t.Fatal(err)
	}
	if got := h.subjects(store.Query{Thread: m.Thread, Sort: store.Oldest}); !cmp.Equal(got, []string{"Trip", "Re: Trip", "Odp: Trip", "other words", "more words"}) {
		t.Errorf("letters of a thread: %q", got)
	}
}
