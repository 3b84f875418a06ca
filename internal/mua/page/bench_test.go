package page_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mua/page"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
)

// large opens a store with many letters in INBOX; -short makes it small. POCZTA_BENCH_FOLDER keeps
// it, and is used again.
func large(b *testing.B) (*store.Store, int) {
	b.Helper()
	folder, n := os.Getenv("POCZTA_BENCH_FOLDER"), 100_000
	if folder == "" {
		folder = b.TempDir()
	}
	if testing.Short() {
		n = 5_000
	}
	s, err := store.Open(b.Context(), store.Config{Folder: folder, Components: []db.Component{profile.Schema, page.Schema}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	if p, err := s.Indexed(b.Context()); err != nil {
		b.Fatal(err)
	} else if p.Total >= int64(n) {
		return s, n
	}
	accounts := profile.New(s.DB())
	h := &house{t: b, store: s, accounts: accounts}
	a := h.account("ala@example.org", "Ala", "pop.example.org")
	for i := 0; i < n; {
		var batch []mailbox.Import
		for ; len(batch) < mailbox.MaxAppend && i < n; i++ {
			st, err := s.Body().Stage(b.Context(), 1000)
			if err != nil {
				b.Fatal(err)
			}
			answers := ""
			if i%3 != 0 {
				answers = fmt.Sprintf("References: <m%d@example.com>\r\n", i-i%3)
			}
			if _, err := fmt.Fprintf(st, "From: Person %d <p%d@example.com>\r\nTo: ala@example.org\r\nSubject: Letter %d about this and that\r\nMessage-ID: <m%d@example.com>\r\n%sDate: %s\r\n\r\nThe text of letter %d.\r\n",
				i%900, i%900, i-i%3, i, answers, today.Add(-time.Duration(n-i)*10*time.Minute).Format(time.RFC1123Z), i); err != nil {
				b.Fatal(err)
			}
			im := mailbox.Import{Mailbox: store.Inbox, Staged: st, Received: today, UniqueID: fmt.Sprintf("u%d", i)}
			if i%10 != 0 {
				im.Flags = mailbox.Seen
			}
			batch = append(batch, im)
		}
		if _, err := s.Add(b.Context(), a.ID, batch, nil); err != nil {
			b.Fatal(err)
		}
		for _, im := range batch {
			im.Staged.Discard()
		}
	}
	if err := s.Catchup(b.Context(), nil); err != nil {
		b.Fatal(err)
	}
	return s, n
}

// BenchmarkOpen opens a folder of 100,000 letters: the whole page as a browser gets it.
func BenchmarkOpen(b *testing.B) {
	s, n := large(b)
	p, err := page.New(page.Config{Store: s, Accounts: profile.New(s.DB()), Now: func() time.Time { return today }})
	if err != nil {
		b.Fatal(err)
	}
	server := httptest.NewServer(p)
	defer server.Close()
	h := &house{t: b, page: p, server: server}
	h.client = h.let()
	for _, view := range []struct{ name, path string }{{"letters", "/mail"}, {"threads", "/mail?v=threads"}, {"unread", "/mail?unread=1"}, {"search", "/mail?q=letter+500"}, {"typing", "/mail?q=lett&typing=1"}} {
		b.Run(fmt.Sprintf("%s/%d", view.name, n), func(b *testing.B) {
			var slowest time.Duration
			for b.Loop() {
				began := time.Now()
				r, err := h.client.Get(h.at(view.path))
				if err != nil {
					b.Fatal(err)
				}
				k, err := io.Copy(io.Discard, r.Body)
				r.Body.Close()
				if err != nil || r.StatusCode != http.StatusOK || k < 10_000 {
					b.Fatalf("%s, %d octets, %v", r.Status, k, err)
				}
				slowest = max(slowest, time.Since(began))
			}
			b.ReportMetric(float64(slowest.Microseconds())/1000, "slowest-ms")
		})
	}
}
