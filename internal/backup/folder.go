package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"poczta.example/poczta/internal/disk"
)

// Folder is a Target in a file system, usually disk.OS of a folder of its own.
type Folder struct {
	fs   disk.FS
	root string
}

// NewFolder makes a Target of the folder root of fsys, which is made when it is
// needed. "." is the root of fsys.
func NewFolder(fsys disk.FS, root string) *Folder { return &Folder{fs: fsys, root: root} }

// part ends the names of files that are being written.
const part = ".part"

func (f *Folder) path(name string) string { return path.Join(f.root, name) }

// Put implements Target.
func (f *Folder) Put(ctx context.Context, name string, data []byte) error {
	return f.store(ctx, name, data, false)
}

// Create implements Target. Two processes that create one name at the same instant
// on one folder: one of them gets fs.ErrExist.
func (f *Folder) Create(ctx context.Context, name string, data []byte) error {
	return f.store(ctx, name, data, true)
}

func (f *Folder) store(ctx context.Context, name string, data []byte, fresh bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	file := f.path(name)
	folder := path.Dir(file)
	if err := f.fs.MkdirAll(folder); err != nil {
		return fmt.Errorf("store %s: %w", name, err)
	}
	temp := file + part
	if fresh {
		temp = file // its creation is what only one can do
	} else if err := f.fs.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("store %s: %w", name, err)
	}
	err := f.write(temp, data)
	if err == nil && !fresh {
		err = f.fs.Rename(temp, file)
	}
	if err == nil {
		err = f.fs.SyncDir(folder)
	}
	if err != nil {
		if !errors.Is(err, fs.ErrExist) {
			_ = f.fs.Remove(temp) // the disk may be full: leave nothing half
		}
		return fmt.Errorf("store %s: %w", name, err)
	}
	return nil
}

// write makes a file and its octets durable.
func (f *Folder) write(name string, data []byte) error {
	w, err := f.fs.Create(name)
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	if err == nil {
		err = w.Sync()
	}
	return errors.Join(err, w.Close())
}

// Get implements Target.
func (f *Folder) Get(ctx context.Context, name string, from, n int64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r, err := f.fs.Open(f.path(name))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	defer r.Close()
	size, err := r.Size()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if n < 0 || n > size-from {
		n = max(0, size-from)
	}
	b := make([]byte, n)
	if m, err := r.ReadAt(b, from); m < len(b) {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}

// List implements Target.
func (f *Folder) List(ctx context.Context, prefix string, fn func(Object) error) error {
	err := f.walk(ctx, strings.TrimSuffix(prefix, "/"), func(name string, size int64) error {
		if strings.HasSuffix(name, part) {
			return nil
		}
		return fn(Object{Name: name, Size: size})
	})
	if err != nil {
		return fmt.Errorf("list %s: %w", prefix, err)
	}
	return nil
}

// walk calls fn for every file below a folder.
func (f *Folder) walk(ctx context.Context, folder string, fn func(name string, size int64) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	names, err := f.fs.List(f.path(folder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, n := range names {
		name := path.Join(folder, n)
		st, err := f.fs.Stat(f.path(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return err
		}
		if st.Folder {
			err = f.walk(ctx, name, fn)
		} else {
			err = fn(name, st.Size)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Remove implements Target.
func (f *Folder) Remove(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	file := f.path(name)
	err := f.fs.Remove(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = f.fs.SyncDir(path.Dir(file))
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// Tidy removes what puts have left that were killed. Nobody else may write meanwhile but
// to the lock.
func (f *Folder) Tidy(ctx context.Context) (freed int64, err error) {
	err = f.walk(ctx, "", func(name string, size int64) error {
		if !strings.HasSuffix(name, part) || name == lockName+part {
			return nil
		}
		freed += size
		return f.Remove(ctx, name)
	})
	if err != nil {
		return freed, fmt.Errorf("tidy up: %w", err)
	}
	return freed, nil
}

var _ Target = (*Folder)(nil)
