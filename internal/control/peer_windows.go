package control

import (
	"errors"
	"io/fs"
	"net"
)

// peerUID returns -1, which is also what Windows has for a process's user: who may
// connect is decided there by the access rights of the folder that the socket is in,
// and a person's data folder is theirs alone.
func peerUID(conn net.Conn) (int, error) {
	if _, ok := conn.(*net.UnixConn); !ok {
		return -1, errors.New("not a UNIX socket")
	}
	return -1, nil
}

// owned reports true: see peerUID.
func owned(fs.FileInfo, int) bool { return true }
