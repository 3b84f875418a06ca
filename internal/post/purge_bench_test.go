package post_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/post/posttest"
)

// BenchmarkAcceptWhilePurging compares the p99 of Accept in quiet with that while
// 100,000 removed messages are purged.
func BenchmarkAcceptWhilePurging(b *testing.B) {
	const old, hoard = 100_000, envelope.AccountID(5000)
	d := dbtest.SQLite(b)
	if err := db.Migrate(context.Background(), d, posttest.Components()); err != nil {
		b.Fatal(err)
	}
	h := posttest.Open(b, d, posttest.Options{})
	hoarded(b, h, hoard, old)
	for b.Loop() {
		quiet := acceptFor(b, h, func() bool { return false }, 3000)
		done := make(chan int, 1)
		began := time.Now()
		go func() { // ends with the purge; waited for below
			n, err := h.Mailboxes.Purge(context.Background(), hoard, mailbox.Selection{})
			if err != nil {
				b.Error(err)
			}
			done <- n
		}()
		purged := -1
		busy := acceptFor(b, h, func() bool {
			select {
			case purged = <-done:
			default:
			}
			return purged >= 0
		}, 1<<30)
		b.ReportMetric(p99(quiet), "quiet-p99-µs")
		b.ReportMetric(p99(busy), "purging-p99-µs")
		b.ReportMetric(float64(purged)/time.Since(began).Seconds(), "purged/s")
		b.ReportMetric(float64(len(busy))/time.Since(began).Seconds(), "accepts/s")
	}
}

// hoarded puts n removed messages into an account's retention.
func hoarded(b *testing.B, h *posttest.House, account envelope.AccountID, n int) {
	b.Helper()
	for range n / 1000 {
		err := h.DB.Update(context.Background(), func(tx db.Tx) error {
			for range 1000 {
				id := h.ID(b)
				if err := body.Insert(tx, id, body.Location{Segment: "gone", Octets: 1000}, 1); err != nil {
					return err
				}
				if _, err := h.Mailboxes.Deliver(tx, &mailbox.Copy{Account: account, Body: id, Octets: 1000, Received: h.Clock.Now()}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	if _, err := h.Mailboxes.RemoveAccount(context.Background(), account); err != nil {
		b.Fatal(err)
	}
}

// acceptFor accepts from eight writers until stop or n messages, and returns how long each took.
func acceptFor(b *testing.B, h *posttest.House, stop func() bool, n int) []time.Duration {
	b.Helper()
	var mu sync.Mutex
	var all []time.Duration
	over := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(all) >= n || stop()
	}
	text := posttest.Long(4096)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for !over() {
				dl := h.Delivery(b, text, []envelope.AccountID{envelope.AccountID(w + 1)})
				began := time.Now()
				if err := h.Post.Accept(context.Background(), dl); err != nil {
					b.Error(err)
					return
				}
				took := time.Since(began)
				dl.Staged.Discard()
				mu.Lock()
				all = append(all, took)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return all
}

func p99(all []time.Duration) float64 {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return float64(all[len(all)*99/100].Microseconds())
}
