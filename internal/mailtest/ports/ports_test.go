package ports_test

import (
	"net"
	"strconv"
	"testing"

	"poczta.example/poczta/internal/mailtest/ports"
)

// TestFree: nobody gets a port twice as long as its test goes on, and it can be listened on.
func TestFree(t *testing.T) {
	t.Parallel()
	seen := map[int]bool{}
	for range 100 {
		port := ports.Free(t)
		if seen[port] {
			t.Errorf("port %d was given twice", port)
		}
		seen[port] = true
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
	}
}
