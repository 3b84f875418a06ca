package smtpclient_test

import (
	"bytes"
	"testing/synctest"

	"poczta.example/poczta/internal/mailtest/memconn"
)

// order says how much of what a server has sent its client sees when it looks. Between
// the extremes it is chance in life; in tests it is decided.
type order bool

const (
	quickServer order = false // all that the server can send before the client goes on
	slowServer  order = true  // no line (under TLS no piece) before the one in front of it is needed
)

// ordered is a client's connection in memory, in a testing/synctest bubble, on which the
// server has done all it can before the client reads or writes. It is used by one goroutine.
type ordered struct {
	*memconn.Conn
	order order
	rest  []byte // was read and is not yet to be seen
}

// Read implements net.Conn.
func (c *ordered) Read(b []byte) (int, error) {
	if len(c.rest) > 0 {
		return c.line(b), nil
	}
	c.Ready()
	synctest.Wait()
	if c.order == quickServer {
		return c.Conn.Read(b)
	}
	block := make([]byte, len(b))
	n, err := c.Conn.Read(block)
	c.rest = block[:n]
	return c.line(b), err
}

// Arrived is smtpclient's look without waiting. To a slow server's client nothing ever has.
func (c *ordered) Arrived() bool {
	synctest.Wait()
	return c.order == quickServer && c.Conn.Arrived()
}

// line gives out no more than a line.
func (c *ordered) line(b []byte) int {
	n := len(c.rest)
	if i := bytes.IndexByte(c.rest, '\n'); i >= 0 {
		n = i + 1
	}
	n = copy(b, c.rest[:n])
	c.rest = c.rest[n:]
	return n
}

// Write implements net.Conn.
func (c *ordered) Write(b []byte) (int, error) {
	synctest.Wait()
	return c.Conn.Write(b)
}
