package memconn_test

import (
	"errors"
	"io"
	"net"
	"testing"

	"golang.org/x/net/nettest"
	"poczta.example/poczta/internal/mailtest/memconn"
)

// TestConn runs the conformance suite for connections of golang.org/x/net.
func TestConn(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		a, b := memconn.Pair()
		return a, b, func() { _ = a.Close(); _ = b.Close() }, nil
	})
}

func TestHalfClose(t *testing.T) {
	t.Parallel()
	a, b := memconn.Pair()
	if _, err := a.Write([]byte("last words")); err != nil {
		t.Fatal(err)
	}
	if err := a.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(b)
	if err != nil || string(got) != "last words" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := b.Write([]byte("x")); err != nil {
		t.Errorf("the other half is closed too: %v", err)
	}
	if _, err := a.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a write behind CloseWrite: %v", err)
	}
}
