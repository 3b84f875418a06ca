//go:build unix

package smtpclient

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// socket asks the system whether something waits to be read.
type socket struct {
	raw syscall.RawConn
	ask func(fd uintptr)
	fds [1]unix.PollFd
	yes bool
}

// watch returns what tells whether octets, or the end, have arrived on conn that were not
// read: a system call that does not wait. Nil when conn can't tell.
func watch(conn net.Conn) arrivals {
	switch c := conn.(type) {
	case arrivals:
		return c
	case syscall.Conn:
		raw, err := c.SyscallConn()
		if err != nil {
			return nil
		}
		w := &socket{raw: raw}
		w.ask = func(fd uintptr) {
			w.fds[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN} //nolint:gosec // descriptors are small
			n, err := unix.Poll(w.fds[:], 0)
			w.yes = err == nil && n > 0
		}
		return w
	}
	return nil
}

// Arrived implements arrivals.
func (w *socket) Arrived() bool {
	w.yes = false
	return w.raw.Control(w.ask) == nil && w.yes
}
