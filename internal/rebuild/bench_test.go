package rebuild_test

import (
	"context"
	"path/filepath"
	"sync"
	"testing"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/post/posttest"
	"poczta.example/poczta/internal/rebuild"
)

// BenchmarkRun rebuilds the database of 10,000 messages of 4 KiB without a snapshot.
func BenchmarkRun(b *testing.B) {
	const messages = 10_000
	ctx, data := context.Background(), b.TempDir()
	files, err := disk.OS(data)
	if err != nil {
		b.Fatal(err)
	}
	defer files.Close()
	d, err := db.OpenSQLite(ctx, db.SQLiteConfig{Path: filepath.Join(data, "first.db")})
	if err != nil {
		b.Fatal(err)
	}
	if err := db.Migrate(ctx, d, components()); err != nil {
		b.Fatal(err)
	}
	s, err := body.OpenSegments(ctx, body.Config{FS: files, Folder: folder, DB: d, StoreID: d.StoreID()})
	if err != nil {
		b.Fatal(err)
	}
	h := posttest.Open(b, d, posttest.Options{Body: s, Mailbox: func(c *mailbox.Config) { c.Journal = s }})
	var wg sync.WaitGroup
	text := posttest.Long(4096)
	for w := range 32 {
		wg.Go(func() {
			for i := w; i < messages; i += 32 {
				h.Deliver(b, envelope.AccountID(1+i%100), text)
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	if err := d.Close(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		r, err := rebuild.Run(ctx, rebuild.Config{FS: files, Data: data, Database: "poczta.db", Components: components(),
			Segments: body.Config{FS: files, Folder: folder}})
		if err != nil || r.Messages != messages {
			b.Fatalf("%+v, %v", r, err)
		}
	}
	b.ReportMetric(messages*float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}
