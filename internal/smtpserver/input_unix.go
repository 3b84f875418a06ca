//go:build unix

package smtpserver

import (
	"errors"
	"syscall"
)

// rawReads says that a descriptor can be read without a buffer held while waiting.
const rawReads = true

// readFD reads what a non-blocking descriptor has.
func readFD(fd uintptr, b []byte) (int, error) {
	for {
		n, err := syscall.Read(int(fd), b)
		if !errors.Is(err, syscall.EINTR) {
			return n, err
		}
	}
}
