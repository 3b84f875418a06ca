package store_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mua/store"
)

// vocabulary is words whose frequencies fall off as those of a language do.
func vocabulary(r *rand.Rand, n int) []string {
	const letters = "aeioubcdfghklmnprstwz"
	words := make([]string, n)
	for i := range words {
		var b strings.Builder
		for range 3 + r.IntN(8) {
			b.WriteByte(letters[r.IntN(len(letters))])
		}
		words[i] = b.String()
	}
	return words
}

// prose is about n octets of text in lines.
func prose(r *rand.Rand, zipf *rand.Zipf, words []string, n int) string {
	var b strings.Builder
	for line := 0; b.Len() < n; {
		w := words[zipf.Uint64()]
		if line += len(w) + 1; line > 70 {
			b.WriteString("\r\n")
			line = 0
		} else {
			b.WriteByte(' ')
		}
		b.WriteString(w)
	}
	b.WriteString("\r\n")
	return b.String()
}

// benchLetter is letter i of about 4 KiB.
func benchLetter(r *rand.Rand, zipf *rand.Zipf, words []string, i int, at time.Time) string {
	from := r.IntN(500)
	h := fmt.Sprintf("From: %s %s <user%d@example.org>\r\nTo: Ala Kowalska <ala@example.net>\r\nSubject: %s\r\nDate: %s\r\nMessage-ID: <m%d@example.org>\r\n",
		words[from*3], words[from*3+1], from, strings.Join(strings.Fields(prose(r, zipf, words, 40)), " "), at.Format(time.RFC1123Z), i)
	if i > 10 && r.IntN(2) == 0 {
		h += fmt.Sprintf("References: <m%d@example.org>\r\n", i-1-r.IntN(10))
	}
	return h + "\r\n" + prose(r, zipf, words, 4096-len(h)-70)
}

// stageAll stages texts as imports.
func stageAll(tb testing.TB, s *store.Store, folder string, texts []string, received time.Time) []mailbox.Import {
	tb.Helper()
	batch := make([]mailbox.Import, len(texts))
	for i, text := range texts {
		st, err := s.Body().Stage(context.Background(), int64(len(text)))
		if err != nil {
			tb.Fatal(err)
		}
		if _, err := io.WriteString(st, text); err != nil {
			tb.Fatal(err)
		}
		batch[i] = mailbox.Import{Mailbox: folder, Staged: st, Received: received}
	}
	return batch
}

// benchLetters is how many letters the benchmarks search, with -short fewer.
func benchLetters() int {
	if testing.Short() {
		return 5_000
	}
	return 100_000
}

func fill(b *testing.B, s *store.Store, n int) []string {
	b.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	words := vocabulary(r, 30_000)
	zipf := rand.NewZipf(r, 1.1, 4, uint64(len(words)-1))
	if p, err := s.Indexed(b.Context()); err != nil || p.Total >= int64(n) {
		return words
	}
	at := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	began := time.Now()
	for i := 0; i < n; {
		var texts []string
		for ; len(texts) < mailbox.MaxAppend && i < n; i++ {
			at = at.Add(30 * time.Minute)
			texts = append(texts, benchLetter(r, zipf, words, i, at))
		}
		batch := stageAll(b, s, store.Inbox, texts, at)
		for k := range batch {
			batch[k].UniqueID = fmt.Sprintf("u%d", i*1000+k)
		}
		if _, err := s.Add(b.Context(), 1, batch, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.Logf("added %d letters, generating them included: %.0f/s", n, float64(n)/time.Since(began).Seconds())
	return words
}

// BenchmarkAdd adds letters of 4 KiB, 125 at a time.
func BenchmarkAdd(b *testing.B) {
	s, err := store.Open(b.Context(), store.Config{Folder: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	r := rand.New(rand.NewPCG(1, 2))
	words := vocabulary(r, 30_000)
	zipf := rand.NewZipf(r, 1.1, 4, uint64(len(words)-1))
	at := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	texts := make([]string, 4000)
	for i := range texts {
		at = at.Add(30 * time.Minute)
		texts[i] = benchLetter(r, zipf, words, i, at)
	}
	n := 0
	for b.Loop() {
		i := n % (len(texts) / mailbox.MaxAppend) * mailbox.MaxAppend
		batch := stageAll(b, s, store.Inbox, texts[i:i+mailbox.MaxAppend], at)
		for k := range batch {
			batch[k].UniqueID = fmt.Sprintf("u%d", n*1000+k)
		}
		if _, err := s.Add(b.Context(), 1, batch, nil); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(float64(n*mailbox.MaxAppend)/b.Elapsed().Seconds(), "letters/s")
}

func BenchmarkStore(b *testing.B) {
	folder := os.Getenv("POCZTA_BENCH_FOLDER") // kept, and used again
	if folder == "" {
		folder = b.TempDir()
	}
	s, err := store.Open(b.Context(), store.Config{Folder: folder})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	words := fill(b, s, benchLetters())
	began := time.Now()
	if err := s.Catchup(b.Context(), nil); err != nil {
		b.Fatal(err)
	}
	b.Logf("indexed %d letters: %.0f/s", benchLetters(), float64(benchLetters())/time.Since(began).Seconds())
	b.Run("open folder", func(b *testing.B) {
		for b.Loop() {
			page, err := s.List(b.Context(), store.Query{Accounts: []envelope.AccountID{1}, Folder: store.Inbox})
			if err != nil || len(page.Letters) != 50 {
				b.Fatal(err, len(page.Letters))
			}
		}
	})
	b.Run("open folder in threads", func(b *testing.B) {
		for b.Loop() {
			page, err := s.Threads(b.Context(), store.Query{Accounts: []envelope.AccountID{1}, Folder: store.Inbox})
			if err != nil || len(page.Threads) == 0 {
				b.Fatal(err)
			}
		}
	})
	b.Run("folders", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.Folders(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
	for name, text := range map[string]string{
		"common word":             words[3],
		"middle word":             words[300],
		"rare word":               words[20000],
		"nothing":                 "qqqqxxxx",
		"two common words":        words[0] + " " + words[1],
		"three words":             words[5] + " " + words[50] + " " + words[500],
		"phrase":                  `"` + words[0] + " " + words[1] + `"`,
		"prefix":                  words[10][:3] + "*",
		"from":                    "from:user77",
		"common word, rare state": words[0] + " is:flagged",
		"common word, rare size":  words[0] + " larger:1M",
		"rare size":               "larger:1M",
		"common word, folder":     words[0] + " in:Archive",
		"date":                    words[0] + " after:2022-01-01 before:2022-02-01",
		"attachment":              "has:attachment",
		"not":                     words[0] + " -" + words[1],
		"or":                      words[700] + " OR " + words[800],
	} {
		b.Run("search/"+name, func(b *testing.B) {
			var hits int
			for b.Loop() {
				page, err := s.List(b.Context(), store.Query{Text: text})
				if err != nil {
					b.Fatal(err)
				}
				hits = len(page.Letters)
			}
			b.ReportMetric(float64(hits), "hits")
		})
	}
}
