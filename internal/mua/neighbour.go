package mua

import (
	"errors"
	"net"
)

// errNeighbour refuses a connection of another user of this computer.
var errNeighbour = errors.New("the connection is another user's")

// private accepts the connections of this user's programs alone, where the system tells whose they are:
// the address that opens the page stands on the browser's command line, which other users of this
// computer may read.
type private struct{ net.Listener }

// Accept implements net.Listener.
func (p private) Accept() (net.Conn, error) {
	for {
		conn, err := p.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if checkOwner(conn) == nil {
			return conn, nil
		}
		_ = conn.Close()
	}
}
