//go:build !linux

package mailfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
)

// syncAll makes all files below root durable, one after another.
func syncAll(root *os.Root) error {
	return fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && runtime.GOOS == "windows" { // where folders can't be flushed and need not
			return err
		}
		mode := os.O_RDWR
		if d.IsDir() {
			mode = os.O_RDONLY
		}
		f, err := root.OpenFile(name, mode, 0)
		if err != nil {
			return fmt.Errorf("sync mail: %w", err)
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("sync mail: %w", err)
		}
		return nil
	})
}
