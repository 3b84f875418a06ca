package mailbox_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post/posttest"
)

// randomRows makes rows; with texts some have imported unique-ids.
func randomRows(r *rand.Rand, n int, texts bool) []mailbox.ListingRow {
	rows := make([]mailbox.ListingRow, n)
	for i := range rows {
		binary.BigEndian.PutUint64(rows[i].ID[:], r.Uint64()>>8)
		binary.BigEndian.PutUint64(rows[i].ID[8:], r.Uint64())
		rows[i].Octets = r.Int64N(1 << 40)
		if r.IntN(50) == 0 {
			rows[i].Surrogate = 1 + r.Int64N(1<<20)
		}
		if texts && r.IntN(3) == 0 {
			rows[i].Text = fmt.Sprintf("text-%d-%d", i, r.IntN(1e9))
		}
	}
	return rows
}

// TestListingHoldsItsRows compares listings, built at once and by refreshes, with
// the rows they were made of.
func TestListingHoldsItsRows(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for round := range 12 {
		var l *mailbox.Listing
		var all []mailbox.ListingRow
		for range 1 + r.IntN(4) {
			more := randomRows(r, r.IntN(6000), round%2 == 0 && r.IntN(2) == 0)
			before := l
			n := len(all)
			l, all = mailbox.ListingOf(l, more), append(all, more...)
			if before != nil && before.Len() != n {
				t.Fatalf("seed %d: a refresh changed the older listing", seed)
			}
		}
		if l.Len() != len(all) {
			t.Fatalf("seed %d: %d entries, want %d", seed, l.Len(), len(all))
		}
		var octets, ascii int64
		for i, row := range all {
			id, alt := row.ID.String(), row.Octets
			if row.Text != "" {
				id = row.Text
			}
			if row.Surrogate > 0 {
				alt = row.Surrogate
			}
			octets, ascii = octets+row.Octets, ascii+alt
			if got := string(l.AppendUniqueID(nil, i)); got != id || l.Octets(i, true) != row.Octets || l.Octets(i, false) != alt || l.UID(i) != mailbox.UID(i+1) {
				t.Fatalf("seed %d: entry %d is %s %d %d, want %s %d %d", seed, i, got, l.Octets(i, true), l.Octets(i, false), id, row.Octets, alt)
			}
		}
		if l.TotalOctets(true) != octets || l.TotalOctets(false) != ascii {
			t.Fatalf("seed %d: totals %d and %d, want %d and %d", seed, l.TotalOctets(true), l.TotalOctets(false), octets, ascii)
		}
	}
}

// TestMillionMessagesFit measures the heap that a listing takes.
func TestMillionMessagesFit(t *testing.T) {
	var before, after runtime.MemStats
	for _, texts := range []bool{false, true} {
		rows := make([]mailbox.ListingRow, 1_000_000)
		for i := range rows {
			binary.BigEndian.PutUint64(rows[i].ID[:], uint64(i))
			if texts {
				rows[i].Text = fmt.Sprintf("%016x", i)
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&before)
		l := mailbox.ListingOf(nil, rows)
		runtime.GC()
		runtime.ReadMemStats(&after)
		got := int64(after.HeapAlloc) - int64(before.HeapAlloc)
		if got > 64<<20 || l.Cost() > 64<<20 {
			t.Errorf("texts %v: listing takes %d octets, counted as %d; at most 64 MiB", texts, got, l.Cost())
		}
		if got > l.Cost()*11/10 {
			t.Errorf("texts %v: listing takes %d octets but counts as %d", texts, got, l.Cost())
		}
		runtime.KeepAlive(l)
		runtime.KeepAlive(rows)
	}
}

func TestListingBudget(t *testing.T) {
	const budget = 64 << 10
	o := posttest.Options{Mailbox: func(c *mailbox.Config) { c.ListingBudget = budget }}
	eachWith(t, o, func(t *testing.T, h *posttest.House) {
		// 2,000 rows are more than the budget; twenty are less.
		fill(t, h, 1, 2000)
		if _, _, err := h.Mailboxes.Listing(t.Context(), 1, ""); !errors.Is(err, mailbox.ErrBudget) {
			t.Errorf("listing beyond the budget: %v", err)
		}
		for a := range envelope.AccountID(200) {
			fill(t, h, a+2, 20)
			l, release, err := h.Mailboxes.Listing(t.Context(), a+2, "")
			if err != nil || l.Len() != 20 {
				t.Fatalf("account %d: %v", a+2, err)
			}
			release()
			if got := h.Mailboxes.CacheOctets(); got > budget {
				t.Fatalf("cache takes %d octets, budget is %d", got, budget)
			}
		}
		if got := h.Mailboxes.CacheSlots(); got > budget/512 {
			t.Errorf("%d slots left", got)
		}
		var releases []func()
		var err error
		for a := envelope.AccountID(2); err == nil && a < 202; a++ {
			var release func()
			if _, release, err = h.Mailboxes.Listing(t.Context(), a, ""); err == nil {
				releases = append(releases, release)
			}
		}
		if !errors.Is(err, mailbox.ErrBudget) || len(releases) < 10 {
			t.Errorf("after %d listings in use: %v, want ErrBudget", len(releases), err)
		}
		for _, release := range releases {
			release()
		}
		if _, release, err := h.Mailboxes.Listing(t.Context(), 150, ""); err != nil {
			t.Errorf("after the release: %v", err)
		} else {
			release()
		}
	})
}

// fill puts n entries without bodies into an account's INBOX.
func fill(tb testing.TB, h *posttest.House, account envelope.AccountID, n int) {
	tb.Helper()
	for n > 0 {
		part := min(n, 500)
		err := h.DB.Update(context.Background(), func(tx db.Tx) error {
			for range part {
				var id message.ID
				binary.BigEndian.PutUint64(id[8:], rand.Uint64())
				id[0] = 1
				if _, err := h.Mailboxes.Deliver(tx, &mailbox.Copy{Account: account, Body: id, Octets: 1000, Received: h.Clock.Now()}); err != nil {
					return err
				}
			}
			return nil
		})
		h.Mailboxes.Settled(true, mailbox.Entry{Account: account, Mailbox: mailbox.Inbox})
		if err != nil {
			tb.Fatal(err)
		}
		n -= part
	}
}

// BenchmarkPoll is a login to an unchanged maildrop of 10,000 messages.
func BenchmarkPoll(b *testing.B) { benchmarkOpen(b, 10_000, false) }

// BenchmarkPollAfterArrival is the same when one message has arrived each time.
func BenchmarkPollAfterArrival(b *testing.B) { benchmarkOpen(b, 10_000, true) }

func benchmarkOpen(b *testing.B, n int, arrival bool) {
	d := dbtest.SQLite(b)
	if err := db.Migrate(context.Background(), d, posttest.Components()); err != nil {
		b.Fatal(err)
	}
	h := posttest.Open(b, d, posttest.Options{})
	fill(b, h, 1, n)
	b.ReportAllocs()
	for b.Loop() {
		if arrival {
			b.StopTimer()
			fill(b, h, 1, 1)
			b.StartTimer()
		}
		m, err := h.Mailboxes.Open(context.Background(), posttest.Identity(1), true)
		if err != nil {
			b.Fatal(err)
		}
		m.Close()
	}
}

// TestListingAfterRemovals compares what a session sees after removals, arrivals
// and restores in a large mailbox with what a Store without memory reads.
func TestListingAfterRemovals(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		fill(t, h, ala, 1500)
		seed := rand.Uint64()
		r := rand.New(rand.NewPCG(seed, 0))
		for round := range 12 {
			d, err := h.Mailboxes.Open(t.Context(), posttest.Identity(ala), true)
			if err != nil {
				t.Fatal(err)
			}
			var some []int
			for range r.IntN(40) {
				some = append(some, r.IntN(d.Len()))
			}
			if err := d.Remove(t.Context(), some); err != nil {
				t.Fatal(err)
			}
			d.Close()
			if r.IntN(2) == 0 {
				fill(t, h, ala, 1+r.IntN(30))
			}
			if round%4 == 3 {
				all, _, err := h.Mailboxes.Deleted(t.Context(), ala, mailbox.Selection{}, "", 3)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := h.Mailboxes.Restore(t.Context(), ala, "", mailbox.Selection{UniqueIDs: []string{all[0].UniqueID, all[2].UniqueID}}); err != nil {
					t.Fatal(err)
				}
			}
			warm := open(t, h.Mailboxes, ala, true)
			cold := open(t, posttest.Open(t, h.DB, posttest.Options{Body: h.Body}).Mailboxes, ala, true)
			if diff := cmp.Diff(uniqueIDs(cold), uniqueIDs(warm)); diff != "" || warm.TotalOctets() != cold.TotalOctets() {
				t.Fatalf("seed %d, round %d: a refreshed listing differs (-cold +warm):\n%s", seed, round, diff)
			}
		}
	})
}

// BenchmarkPollAfterRemoval is a login after one of 10,000 messages was removed.
func BenchmarkPollAfterRemoval(b *testing.B) {
	d := dbtest.SQLite(b)
	if err := db.Migrate(context.Background(), d, posttest.Components()); err != nil {
		b.Fatal(err)
	}
	h := posttest.Open(b, d, posttest.Options{})
	fill(b, h, 1, 10_000)
	b.ReportAllocs()
	for b.Loop() {
		m, err := h.Mailboxes.Open(context.Background(), posttest.Identity(1), true)
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := m.Remove(context.Background(), []int{m.Len() / 2}); err != nil {
			b.Fatal(err)
		}
		m.Close()
		fill(b, h, 1, 1)
		b.StartTimer()
	}
}

// BenchmarkLoad reads a listing of 10,000 messages from the database.
func BenchmarkLoad(b *testing.B) {
	d := dbtest.SQLite(b)
	if err := db.Migrate(context.Background(), d, posttest.Components()); err != nil {
		b.Fatal(err)
	}
	h := posttest.Open(b, d, posttest.Options{})
	fill(b, h, 1, 10_000)
	b.ReportAllocs()
	for b.Loop() {
		fresh := posttest.Open(b, d, posttest.Options{Body: h.Body})
		m, err := fresh.Mailboxes.Open(context.Background(), posttest.Identity(1), true)
		if err != nil {
			b.Fatal(err)
		}
		m.Close()
	}
}

// BenchmarkRead reads 100 messages of 4 KiB one after the other.
func BenchmarkRead(b *testing.B) {
	d := dbtest.SQLite(b)
	if err := db.Migrate(context.Background(), d, posttest.Components()); err != nil {
		b.Fatal(err)
	}
	h := posttest.Open(b, d, posttest.Options{})
	for range 100 {
		h.Deliver(b, 1, posttest.Long(4096))
	}
	b.ReportAllocs()
	buf := make([]byte, 8192)
	for b.Loop() {
		m, err := h.Mailboxes.Open(context.Background(), posttest.Identity(1), true)
		if err != nil {
			b.Fatal(err)
		}
		for i := range m.Len() {
			r, _, err := m.Read(context.Background(), i)
			if err != nil {
				b.Fatal(err)
			}
			for {
				if _, err = r.Read(buf); err != nil {
					break
				}
			}
			r.Close()
		}
		m.Close()
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/100, "µs/message")
}
