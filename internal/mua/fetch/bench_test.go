package fetch_test

import (
	"testing"

	"poczta.example/poczta/internal/mailtest/poppeer"
	"poczta.example/poczta/internal/mua/profile"
)

// BenchmarkSync fetches 2,000 letters of 4 KiB into a new store; the server is in the same process.
func BenchmarkSync(b *testing.B) {
	mail := poppeer.Letters(2000, 4096)
	b.SetBytes(4096)
	for b.Loop() {
		b.StopTimer()
		h := newHouse(b, poppeer.Config{Messages: mail}, profile.Leave)
		b.StartTimer()
		if res := h.sync(b); res.Fetched != len(mail) {
			b.Fatalf("%+v", res)
		}
	}
	b.ReportMetric(float64(b.N*len(mail))/b.Elapsed().Seconds(), "letters/s")
}
