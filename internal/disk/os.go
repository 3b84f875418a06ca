package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
)

// Modes of what OS creates: mail is nobody else's business.
const (
	fileMode   = 0o600
	folderMode = 0o700
)

// OSFS is the real file system below one folder, from which no name and no
// symbolic link leads out. Make one by OS.
type OSFS struct {
	root *os.Root
	top  string // path of the root folder, for statfs
}

// OS opens the file system below folder, which must exist. Close it when no file
// will be opened any more; open files stay usable.
func OS(folder string) (*OSFS, error) {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, fmt.Errorf("open folder %s: %w", folder, err)
	}
	return &OSFS{root: root, top: folder}, nil
}

// Close releases the root folder.
func (o *OSFS) Close() error { return o.root.Close() }

// Create implements FS.
func (o *OSFS) Create(name string) (File, error) {
	return o.open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

// Open implements FS.
func (o *OSFS) Open(name string) (File, error) { return o.open(name, os.O_RDONLY) }

// OpenAppend implements FS.
func (o *OSFS) OpenAppend(name string) (File, error) { return o.open(name, os.O_RDWR) }

func (o *OSFS) open(name string, flag int) (File, error) {
	f, err := o.root.OpenFile(name, flag, fileMode)
	if err != nil {
		return nil, err
	}
	return &osFile{f}, nil
}

// Rename implements FS.
func (o *OSFS) Rename(from, to string) error { return o.root.Rename(from, to) }

// Remove implements FS.
func (o *OSFS) Remove(name string) error { return o.root.Remove(name) }

// List implements FS.
func (o *OSFS) List(folder string) ([]string, error) {
	f, err := o.root.Open(folder)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	return names, nil
}

// Stat implements FS.
func (o *OSFS) Stat(name string) (Info, error) {
	st, err := o.root.Stat(name)
	if err != nil {
		return Info{}, err
	}
	info := Info{Name: st.Name(), Folder: st.IsDir()}
	if !info.Folder {
		info.Size = st.Size()
	}
	return info, nil
}

// MkdirAll implements FS.
func (o *OSFS) MkdirAll(folder string) error {
	folder = path.Clean(folder)
	if st, err := o.root.Stat(folder); err == nil {
		if !st.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: folder, Err: fs.ErrExist}
		}
		return nil
	}
	parent := path.Dir(folder)
	if parent != folder {
		if err := o.MkdirAll(parent); err != nil {
			return err
		}
	}
	if err := o.root.Mkdir(folder, folderMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return o.SyncDir(parent)
}

// SyncDir implements FS.
func (o *OSFS) SyncDir(folder string) error {
	f, err := o.root.Open(folder)
	if err != nil {
		return err
	}
	defer f.Close()
	return syncFolder(f)
}

// Free implements FS.
func (o *OSFS) Free() (int64, error) { return freeSpace(o.top) }

// Lock implements FS.
func (o *OSFS) Lock(name string) (io.Closer, error) {
	f, err := o.root.OpenFile(name, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return fileLock{f}, nil
}

// fileLock is a file that is locked.
type fileLock struct{ f *os.File }

// Close gives the lock back.
func (l fileLock) Close() error { return errors.Join(unlockFile(l.f), l.f.Close()) }

// osFile is an open file of OSFS.
type osFile struct{ *os.File }

// Write appends at the end.
func (f *osFile) Write(p []byte) (int, error) {
	end, err := f.Size()
	if err != nil {
		return 0, err
	}
	return f.WriteAt(p, end)
}

// Size implements File.
func (f *osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// Sync implements File.
func (f *osFile) Sync() error { return syncData(f.File) }
