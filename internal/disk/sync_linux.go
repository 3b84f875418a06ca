package disk

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncData syncs the octets of f and what is needed to find them, not its times.
func syncData(f *os.File) error {
	if err := onFD(f, unix.Fdatasync); err != nil {
		return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
	}
	return nil
}
