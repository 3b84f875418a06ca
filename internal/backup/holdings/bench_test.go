package holdings_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/backup/holdings"
	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/message"
)

// BenchmarkDelivery delivers as an Accept does, a body's commit and then a transaction,
// from 16 writers into a store of 30,000 letters on the disk: quiet, and while one full
// backup after another is made at the default rate. Look at p99_ms.
func BenchmarkDelivery(b *testing.B) {
	h, fsys := benchHouse(b)
	b.Run("quiet", func(b *testing.B) { h.report(b, h.deliver(b, b.N)) })
	b.Run("backup", func(b *testing.B) {
		end := h.backups(b, fsys, fmt.Sprintf("backup%d", b.N))
		took := h.deliver(b, b.N)
		b.ReportMetric(float64(end()), "backups")
		h.report(b, took)
	})
}

// BenchmarkBeside is BenchmarkDelivery in turns, quiet and beside backups, so that other work on the
// machine meets both: ratio is the median, over the turns, of p99 beside a backup to p99 without one.
func BenchmarkBeside(b *testing.B) {
	const turns = 7
	h, fsys := benchHouse(b)
	b.ResetTimer()
	var quiet, busy, ratio []float64
	var made int64
	for turn := range turns {
		q := percentile(h.deliver(b, b.N), 99)
		end := h.backups(b, fsys, fmt.Sprintf("beside%d-%d", b.N, turn))
		p := percentile(h.deliver(b, b.N), 99)
		made += end()
		quiet, busy, ratio = append(quiet, q), append(busy, p), append(ratio, p/q)
	}
	median := func(all []float64) float64 { slices.Sort(all); return all[len(all)/2] }
	b.ReportMetric(median(quiet), "quiet_p99_ms")
	b.ReportMetric(median(busy), "backup_p99_ms")
	b.ReportMetric(median(ratio), "ratio")
	b.ReportMetric(float64(made), "backups")
}

// backups makes full backups until the function returned is called, which says how many were made.
func (h *benchStore) backups(b *testing.B, fsys *disk.OSFS, name string) (end func() int64) {
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	var made int64
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			if err := h.backup(ctx, fsys, fmt.Sprintf("%s-%d", name, i)); err != nil {
				if ctx.Err() == nil {
					b.Errorf("backup: %v", err)
				}
				return
			}
			made++
		}
	})
	return func() int64 {
		cancel()
		wg.Wait()
		return made
	}
}

type benchStore struct {
	source holdings.Config
	db     *db.SQLite
	body   *body.Segments
	mail   *mailbox.Store
}

func benchHouse(b *testing.B) (*benchStore, *disk.OSFS) {
	b.Helper()
	folder := b.TempDir()
	d, err := db.OpenSQLite(b.Context(), db.SQLiteConfig{Path: filepath.Join(folder, "poczta.db")})
	if err != nil {
		b.Fatal(err)
	}
	if err := db.Migrate(b.Context(), d, components()); err != nil {
		b.Fatal(err)
	}
	fsys, err := disk.OS(folder)
	if err != nil {
		b.Fatal(err)
	}
	s, err := body.OpenSegments(b.Context(), body.Config{FS: fsys, DB: d, StoreID: d.StoreID()})
	if err != nil {
		b.Fatal(err)
	}
	m, err := mailbox.New(mailbox.Config{DB: d, Body: s, Journal: s})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = errors.Join(s.Close(), d.Close(), fsys.Close()) })
	h := &benchStore{db: d, body: s, mail: m, source: holdings.Config{Kind: "server", DB: d, Body: s, Components: components(), Scratch: filepath.Join(folder, "moment.db")}}
	for range 300 {
		var batch []mailbox.Import
		for range 100 {
			batch = append(batch, mailbox.Import{Source: rand.Text(), Staged: h.stage(b)})
		}
		if _, err := m.Append(b.Context(), 1, "a", batch); err != nil {
			b.Fatal(err)
		}
	}
	return h, fsys
}

// stage makes a letter of 4 KiB.
func (h *benchStore) stage(b *testing.B) body.Staged {
	st, err := h.body.Stage(b.Context(), 4096)
	if err != nil {
		b.Fatal(err)
	}
	text := "Subject: " + rand.Text() + "\r\n\r\n" + strings.Repeat(rand.Text()+rand.Text()+"\r\n", 74)
	if _, err := st.Write([]byte(text)); err != nil {
		b.Fatal(err)
	}
	return st
}

func (h *benchStore) backup(ctx context.Context, fsys *disk.OSFS, folder string) error {
	r, err := backup.OpenOrInit(ctx, backup.Config{Target: backup.NewFolder(fsys, folder), Key: backup.Key{Passphrase: "correct horse", WorkFactor: 4}, Rate: 20 << 20})
	if err != nil {
		return err
	}
	defer r.Close()
	m, err := holdings.Open(ctx, h.source)
	if err != nil {
		return err
	}
	_, err = r.Create(ctx, m, m.Time())
	return errors.Join(err, m.Close())
}

// deliver delivers n letters, and returns how long each took, in order.
func (h *benchStore) deliver(b *testing.B, n int) []time.Duration {
	const writers = 16
	took := make([]time.Duration, n)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				st := h.stage(b)
				begin := time.Now()
				if err := h.accept(b.Context(), st); err != nil {
					b.Error(err)
					return
				}
				took[i] = time.Since(begin)
			}
		})
	}
	wg.Wait()
	slices.Sort(took)
	return took
}

// percentile of times in order, in milliseconds.
func percentile(took []time.Duration, of int) float64 {
	return float64(took[len(took)*of/100].Microseconds()) / 1000
}

func (h *benchStore) report(b *testing.B, took []time.Duration) {
	b.ReportMetric(percentile(took, 99), "p99_ms")
	b.ReportMetric(percentile(took, 50), "p50_ms")
}

func (h *benchStore) accept(ctx context.Context, st body.Staged) error {
	id, err := message.NewID(time.Now(), rand.Reader)
	if err != nil {
		return err
	}
	octets := st.Octets()
	locs, release, err := h.body.Commit(ctx, []body.Record{{ID: id, Staged: st}})
	if err != nil {
		return err
	}
	defer release()
	var e mailbox.Entry
	err = h.db.Update(ctx, func(tx db.Tx) error {
		if err := body.Insert(tx, id, locs[0], 1); err != nil {
			return err
		}
		e, err = h.mail.Deliver(tx, &mailbox.Copy{Account: 1, Login: "a", Body: id, Octets: octets, Received: time.Now()})
		return err
	})
	h.mail.Settled(err == nil, e)
	return err
}
