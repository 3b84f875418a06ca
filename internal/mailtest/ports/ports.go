// Package ports gives tests ports of 127.0.0.1 for programs that can't be told to choose one.
package ports

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// The range lies above the ports of internal/e2e and cmd/poczta, and below those that the
// kernel gives to outgoing connections: one of these could take a port before the program
// listens.
const (
	first = 31_700
	last  = 32_760
)

// Free returns a port on which nothing listens and which no other test has, in this process
// or in another, until the test ends.
func Free(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := first + rand.IntN(last-first)
		mark, err := net.Listen("unix", "@poczta-port-"+strconv.Itoa(port)) // ends with the process, leaves no file
		if err != nil {
			continue
		}
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			_ = mark.Close()
			continue
		}
		_ = l.Close()
		t.Cleanup(func() { _ = mark.Close() })
		return port
	}
	t.Fatal("no free port on loopback")
	return 0
}
