package arrivals

import (
	"bytes"
	"crypto/sha256"
	"log/slog"
	"testing"

	"poczta.example/poczta/internal/disk"
)

// BenchmarkPut keeps letters of 4 KiB on a real disk, each of which lands 100 letters later.
func BenchmarkPut(b *testing.B) {
	fsys, err := disk.OS(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer fsys.Close()
	f := New(fsys, 7, here, slog.New(slog.DiscardHandler))
	defer f.Close()
	text := letter("u", 4<<10)
	sum := sha256.Sum256(text)
	var queue [100]*Place
	b.SetBytes(int64(len(text)))
	for i := 0; b.Loop(); i++ {
		queue[i%len(queue)].Landed()
		queue[i%len(queue)] = f.Put("u000000000000001", 4<<10, 4<<10, sum, bytes.NewReader(text))
	}
}
