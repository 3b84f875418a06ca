package memconn

import (
	"context"
	"net"
	"testing"
)

// Serve runs serve on a listener in memory until the test ends, and returns a
// connection to it. serve is a server's Serve; it is waited for.
func Serve(t testing.TB, serve func(context.Context, net.Listener) error) net.Conn {
	t.Helper()
	l := Listen()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = serve(ctx, l) // ends with the test
	}()
	c, err := l.Dial(ctx)
	t.Cleanup(func() {
		cancel()
		if err == nil {
			_ = c.Close()
		}
		_ = l.Close()
		<-done
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}
