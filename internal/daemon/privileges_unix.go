//go:build unix

package daemon

import (
	"fmt"
	"io/fs"
	"syscall"
)

// ownerOf returns the user and group of a file.
func ownerOf(info fs.FileInfo) (uid, gid int) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return -1, -1
	}
	return int(st.Uid), int(st.Gid)
}

// become makes the whole process one of the user, for good.
func become(uid, gid int, groups []int) error {
	if err := syscall.Setgroups(groups); err != nil {
		return fmt.Errorf("set groups: %w", err)
	}
	if err := setGroup(gid); err != nil {
		return fmt.Errorf("set group: %w", err)
	}
	if err := setUser(uid); err != nil {
		return fmt.Errorf("set user: %w", err)
	}
	return nil
}

// raiseOpenFiles raises the number of open files to what the system allows.
func raiseOpenFiles() (uint64, error) {
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		return 0, fmt.Errorf("read limit of open files: %w", err)
	}
	if lim.Cur < lim.Max {
		lim.Cur = lim.Max
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
			return 0, fmt.Errorf("raise limit of open files: %w", err)
		}
	}
	return uint64(lim.Cur), nil // its type differs between systems
}
