package mailfile

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// syncAll makes all files below root durable at once: one flush of the file
// system, since one for each of 100,000 files takes minutes.
func syncAll(root *os.Root) error {
	d, err := root.Open(".")
	if err != nil {
		return err
	}
	if err = unix.Syncfs(int(d.Fd())); err != nil {
		err = fmt.Errorf("sync mail: %w", err)
	}
	return errors.Join(err, d.Close())
}
