package fetch_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// damage changes an octet of every letter on the disk.
func damage(t *testing.T, h *house) {
	t.Helper()
	changed := 0
	err := filepath.WalkDir(h.folder, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(name) != ".seg" {
			return err
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		at := bytes.Index(b, []byte("letter 1"))
		if at < 0 {
			return nil
		}
		changed++
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteAt([]byte("L"), int64(at))
		return err
	})
	if err != nil || changed == 0 {
		t.Fatalf("%d segments damaged, %v", changed, err)
	}
}
