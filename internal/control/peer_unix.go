//go:build unix

package control

import (
	"errors"
	"io/fs"
	"net"
	"syscall"
)

// peerUID returns the user at the other end of conn.
func peerUID(conn net.Conn) (int, error) {
	uc, ok := conn.(*net.UnixConn)
	if !ok {
		return -1, errors.New("not a UNIX socket")
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return -1, err
	}
	uid, credErr := -1, error(nil)
	err = raw.Control(func(fd uintptr) { uid, credErr = credentials(int(fd)) })
	return uid, errors.Join(err, credErr)
}

// owned reports whether a file belongs to the user.
func owned(info fs.FileInfo, owner int) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == owner
}
