package mailfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// CreateMbox writes all messages into a new mbox file (mboxrd; see NewMboxWriter). discard removes
// the file, when it did not become whole; call it after Close.
func CreateMbox(path string) (w Writer, discard func() error, err error) {
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, nil, fmt.Errorf("make mbox: %w", err)
	}
	name := filepath.Base(path)
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		_ = root.Close()
		if errors.Is(err, os.ErrExist) {
			return nil, nil, fmt.Errorf("make mbox: %s: %w; name one that does not exist", path, os.ErrExist)
		}
		return nil, nil, fmt.Errorf("make mbox: %w", err)
	}
	return &newMbox{Writer: NewMboxWriter(f), f: f, root: root}, func() error { return os.Remove(path) }, nil
}

// newMbox is an mbox in a file of its own.
type newMbox struct {
	Writer
	f    *os.File
	root *os.Root
}

// Close makes the file durable.
func (m *newMbox) Close() error {
	return errors.Join(m.Writer.Close(), m.f.Sync(), m.f.Close(), m.root.Close())
}
