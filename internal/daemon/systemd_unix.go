//go:build unix

package daemon

import "golang.org/x/sys/unix"

// closeOnExec keeps a descriptor from programs that this process starts.
func closeOnExec(fd int) { unix.CloseOnExec(fd) }

// monotonic returns the nanoseconds of the clock that a service manager compares with.
func monotonic() (int64, bool) {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0, false
	}
	return ts.Nano(), true
}
