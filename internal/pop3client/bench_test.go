package pop3client_test

import (
	"io"
	"strings"
	"testing"

	"poczta.example/poczta/internal/pop3client"
)

// BenchmarkRetrieve is the client's own work for messages of 4 KiB, without a network:
// what a connection gives at a time is 16 KiB.
func BenchmarkRetrieve(b *testing.B) {
	message := "+OK 4096 octets\r\n" + strings.Repeat(strings.Repeat("x", 76)+"\r\n", 52) + "..\r\n.\r\n"
	conn := &flood{lines: lines{replies: []string{"+OK\r\n", multi("PIPELINING")}}, message: message}
	s, err := pop3client.Open(b.Context(), conn, pop3client.Config{})
	if err != nil {
		b.Fatal(err)
	}
	numbers := make([]int, 1000)
	for i := range numbers {
		numbers[i] = i + 1
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(message)))
	for n := 0; b.Loop(); n++ {
		if n%len(numbers) != 0 { // one loop is one message
			continue
		}
		if err := s.Retrieve(b.Context(), numbers, func(_ int, r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			return err
		}); err != nil {
			b.Fatal(err)
		}
	}
}
