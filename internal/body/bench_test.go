package body_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/message"
)

// openBench opens a store on the real disk.
func openBench(b *testing.B, hooks body.Hooks) *body.Segments {
	b.Helper()
	fsys, err := disk.OS(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	s, err := body.OpenSegments(b.Context(), body.Config{FS: fsys, Hooks: hooks,
		Locate: func(context.Context, message.ID) (body.Location, error) { return body.Location{}, body.ErrNotFound }})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

// commitOne stages and commits one message.
func commitOne(ctx context.Context, s body.Store, id message.ID, octets []byte) (body.Location, error) {
	st, err := s.Stage(ctx, int64(len(octets)))
	if err != nil {
		return body.Location{}, err
	}
	defer st.Discard()
	if _, err := st.Write(octets); err != nil {
		return body.Location{}, err
	}
	locs, release, err := s.Commit(ctx, []body.Record{{ID: id, Head: []byte("Received: by mx\r\n"), Staged: st, Meta: body.Meta{
		Received: time.Now(), ReversePath: "ala@example.org",
		Owners: []body.Owner{{Account: 7, Login: "ola@example.com", Mailbox: "INBOX", UniqueID: id.String(), Prefix: []byte("Return-Path: <ala@example.org>\r\n")}},
	}}})
	if err != nil {
		return body.Location{}, err
	}
	release()
	return locs[0], nil
}

func BenchmarkCommit4KiB64Writers(b *testing.B) {
	var groups, records atomic.Int64
	s := openBench(b, body.Hooks{Flushed: func(n int, _ int64, _ time.Duration) {
		groups.Add(1)
		records.Add(int64(n))
	}})
	octets := bytes.Repeat([]byte("Ala ma kota, a kot ma Ale.\r\n"), 4096/28)
	b.SetBytes(int64(len(octets)))
	b.ReportAllocs()
	const writers = 64
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	cpu := cpuTime(b)
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				id, err := message.NewID(time.Now(), rand.Reader)
				if err == nil {
					_, err = commitOne(b.Context(), s, id, octets)
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(cpuTime(b)-cpu)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
	b.ReportMetric(float64(records.Load())/float64(groups.Load()), "records/group")
}

func benchmarkOpen(b *testing.B, size int) {
	s := openBench(b, body.Hooks{})
	id, err := message.NewID(time.Now(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	loc, err := commitOne(b.Context(), s, id, bytes.Repeat([]byte("0123456789abcdef"), size/16))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		r, err := s.OpenAt(b.Context(), id, loc, 0, -1)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			b.Fatal(err)
		}
		r.Close()
	}
}

func BenchmarkOpen4KiB(b *testing.B) { benchmarkOpen(b, 4<<10) }
func BenchmarkOpen1MiB(b *testing.B) { benchmarkOpen(b, 1<<20) }
