package queue_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/post/posttest"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/trace"
)

// benchHouse is a house on SQLite, or on PostgreSQL when the name of the benchmark says so.
func benchHouse(b *testing.B) *posttest.House {
	b.Helper()
	var d db.Database
	if strings.Contains(b.Name(), "postgresql") {
		d = dbtest.Postgres(b)
	} else {
		d = dbtest.SQLite(b)
	}
	if err := db.Migrate(context.Background(), d, posttest.Components()); err != nil {
		b.Fatal(err)
	}
	return posttest.Open(b, d, posttest.Options{})
}

// fill enqueues n messages for one recipient each, a thousand in a transaction, with bodies that are
// rows alone.
func fill(b testing.TB, h *posttest.House, n int, domain func(i int) string) {
	b.Helper()
	for first := 0; first < n; first += 1000 {
		var all []*queue.Message
		err := h.DB.Update(context.Background(), func(tx db.Tx) error {
			all = all[:0]
			for i := first; i < min(first+1000, n); i++ {
				id := h.ID(b)
				to := "user@" + domain(i)
				m := &queue.Message{ID: id, Queued: h.Clock.Now(), ReversePath: "list@origin.example", Octets: 4096, Account: 7,
					Recipients: []queue.Recipient{{ForwardPath: to, Destination: domain(i)}}}
				if err := body.Insert(tx, id, body.Location{Segment: "gone", Octets: 4096}, 1); err != nil {
					return err
				}
				if err := h.Queue.Enqueue(tx, m); err != nil {
					return err
				}
				err := h.Trace.Record(tx, &trace.Record{ID: id, Accepted: m.Queued, ReversePath: m.ReversePath, Account: 7,
					Fates: []trace.Fate{{Recipient: to, State: trace.Queued, Changed: m.Queued}}})
				if err != nil {
					return err
				}
				all = append(all, m)
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		h.Queue.Enqueued(all...)
		h.Clock.Advance(time.Millisecond)
	}
}

// serve works until n recipients are settled and returns how many were; claims are held for a turn of 500.
func serve(b testing.TB, h *posttest.House, node *queue.Node, n int, o queue.Outcome) int {
	b.Helper()
	done := 0
	for done < n {
		if err := node.Renew(b.Context()); err != nil {
			b.Fatal(err)
		}
		claims := claim(b, node, 50)
		if len(claims) == 0 {
			return done
		}
		var r []queue.Result
		for _, c := range claims {
			for range 5 {
				jobs := take(b, node, c, 100)
				if len(jobs) == 0 {
					break
				}
				r = append(r, results(h, o, jobs...)...)
			}
		}
		settle(b, node, r)
		done += len(r)
		release(b, node, claims...)
		h.Clock.Advance(time.Millisecond)
	}
	return done
}

// rss is the process's memory in MiB; 0 where the system does not tell.
func rss() float64 {
	raw, err := os.ReadFile("/proc/self/statm")
	var size, resident int64
	if err == nil {
		_, err = fmt.Sscan(string(raw), &size, &resident)
	}
	if err != nil {
		return 0
	}
	return float64(resident*int64(os.Getpagesize())) / (1 << 20)
}

// BenchmarkTakeSettle drains messages of one recipient each, as relay does without the network: claim,
// take 100 at a time, settle as relayed with the fate, and release the body.
func BenchmarkTakeSettle(b *testing.B) {
	const n = 20_000
	for _, engine := range []string{"sqlite", "postgresql"} {
		for name, domain := range map[string]func(i int) string{
			"OneDomain":  func(int) string { return "large.example" },
			"ManyDomain": func(i int) string { return fmt.Sprintf("d%d.example", i%10_000) },
		} {
			b.Run(engine+"/"+name, func(b *testing.B) {
				h := benchHouse(b)
				node := join(b, h, "one")
				var took time.Duration
				total := 0
				for b.Loop() {
					b.StopTimer()
					fill(b, h, n, domain)
					b.StartTimer()
					began := time.Now()
					total += serve(b, h, node, n, queue.Relayed)
					took += time.Since(began)
				}
				if total != n*b.N {
					b.Errorf("%d settled, want %d", total, n*b.N)
				}
				b.ReportMetric(float64(total)/took.Seconds(), "recipients/s")
			})
		}
	}
}

// BenchmarkMillion queues 1,000,000 recipients for one slow domain and shows what a node does then: how long
// a letter to another domain waits for its claim, rates, and memory.
func BenchmarkMillion(b *testing.B) {
	const n = 1_000_000
	for b.Loop() {
		h := benchHouse(b)
		began := time.Now()
		fill(b, h, n, func(int) string { return "slow.example" })
		b.ReportMetric(n/time.Since(began).Seconds(), "enqueued/s")

		began = time.Now()
		node := join(b, h, "one")
		if err := node.Upkeep(context.Background()); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(began).Microseconds())/1000, "start-ms")

		began = time.Now()
		slow := claim(b, node, 1)[0]
		first := take(b, node, slow, 100)
		b.ReportMetric(float64(time.Since(began).Microseconds())/1000, "claim-take-ms")

		var waits []time.Duration
		for range 21 {
			began = time.Now()
			fill(b, h, 1, func(int) string { return "quick.example" })
			other := claim(b, node, 10)
			if len(other) != 1 || other[0].Destination != "quick.example" {
				b.Fatalf("claims %+v", other)
			}
			settle(b, node, results(h, queue.Relayed, take(b, node, other[0], 10)...))
			waits = append(waits, time.Since(began))
			release(b, node, other...)
		}
		slices.Sort(waits)
		b.ReportMetric(float64(waits[10].Microseconds())/1000, "other-letter-p50-ms")
		b.ReportMetric(float64(waits[20].Microseconds())/1000, "other-letter-max-ms")

		settle(b, node, results(h, queue.Deferred, first...))
		release(b, node, slow)
		const part = 50_000
		began = time.Now()
		serve(b, h, node, part, queue.Deferred)
		b.ReportMetric(part/time.Since(began).Seconds(), "deferred/s")
		began = time.Now()
		serve(b, h, node, part, queue.Relayed)
		b.ReportMetric(part/time.Since(began).Seconds(), "relayed/s")

		slow = claim(b, node, 1)[0]
		began = time.Now()
		if jobs, err := node.Expired(context.Background(), slow, 100); err != nil || len(jobs) > 0 {
			b.Fatalf("expired %v, %v", jobs, err)
		}
		b.ReportMetric(time.Since(began).Seconds(), "expired-s")
		began = time.Now()
		for range n / 50_000 * 3 {
			if _, err := node.Overdue(context.Background(), h.Clock.Now().Add(-4*time.Hour), 100); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(time.Since(began).Seconds(), "overdue-s")
		began = time.Now()
		if _, err := h.Queue.Destinations(context.Background(), queue.DestinationPage{}); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(began).Seconds(), "destinations-s")
		runtime.GC()
		b.ReportMetric(rss(), "MiB-RSS")
	}
}

// BenchmarkManyDestinations has 100,000 destinations, all put off, and one that is due.
func BenchmarkManyDestinations(b *testing.B) {
	const n = 100_000
	h := benchHouse(b)
	fill(b, h, n, func(i int) string { return fmt.Sprintf("d%06d.example", i) })
	b.ResetTimer()
	node := join(b, h, "one")
	if err := node.Upkeep(context.Background()); err != nil { // more than memory announces at once
		b.Fatal(err)
	}
	began := time.Now()
	if got := serve(b, h, node, n, queue.Deferred); got != n {
		b.Fatalf("%d deferred, want %d", got, n)
	}
	deferred := n / time.Since(began).Seconds()
	began = time.Now()
	second := join(b, h, "two") // the process starts anew
	if err := second.Upkeep(context.Background()); err != nil {
		b.Fatal(err)
	}
	start := time.Since(began).Seconds()
	node = second
	for b.Loop() {
		fill(b, h, 1, func(int) string { return "quick.example" })
		c := claim(b, node, 10)
		settle(b, node, results(h, queue.Relayed, take(b, node, c[0], 10)...))
		release(b, node, c...)
	}
	b.ReportMetric(deferred, "deferred/s")
	b.ReportMetric(start, "start-s")
}
