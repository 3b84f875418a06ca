//go:build unix

package main

import (
	"os"
	"syscall"
)

// foreign reports whether a folder belongs to another user.
func foreign(folder string) bool {
	info, err := os.Stat(folder)
	if err != nil {
		return false
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(s.Uid) != os.Geteuid()
}
