package main

import (
	"errors"
	"os"
	"syscall"
)

// socketPair is never called: no user of Windows is root, who alone works through a
// process of the data folder's owner.
func socketPair() (ours, theirs *os.File, err error) {
	return nil, nil, errors.New("not possible on Windows")
}

func ownGroup() *syscall.SysProcAttr { return nil }
