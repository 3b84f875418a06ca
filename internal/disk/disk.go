// Package disk is the only package that opens files which must last. FS is what
// the stores need of a file system, OS is the real one below a root folder, and
// Fault is a double in memory that runs full, fails calls and loses power.
package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"syscall"
)

// Errors that callers branch on; test with errors.Is. A name that is absent is
// fs.ErrNotExist, one that exists already is fs.ErrExist; see also IsFull.
var (
	ErrLocked = errors.New("locked by another process")
	ErrClosed = errors.New("file system is closed")
)

// Unlimited is what Free returns when the free space is not known.
const Unlimited = math.MaxInt64

// File is an open file. ReadAt and WriteAt are safe for concurrent use, the
// other methods are not. Nothing written is durable before Sync returned nil, and
// a new file's name is not before SyncDir of its folder did.
type File interface {
	io.ReaderAt
	// WriteAt writes at an absolute offset; an offset beyond the end leaves a gap
	// that reads as zeros and takes no space.
	io.WriterAt
	// Write appends at the end of the file.
	io.Writer
	// Size is the length of the file in octets.
	Size() (int64, error)
	// Truncate cuts the file to size octets.
	Truncate(size int64) error
	// Sync puts the octets and the length on stable storage (fdatasync). After an
	// error nothing is known of what was written since the last Sync, now or after
	// any later one: write it again to another file.
	Sync() error
	Close() error
}

// Info says what stands under a name.
type Info struct {
	Name   string // last element of the path
	Size   int64  // octets; 0 for folders
	Folder bool
}

// FS is a tree of files. Names are slash-separated paths relative to its root, as
// in io/fs; "." is the root. Safe for concurrent use.
type FS interface {
	// Create makes a new file for reading and writing; fs.ErrExist when there is one.
	Create(name string) (File, error)
	// Open opens a file for reading only.
	Open(name string) (File, error)
	// OpenAppend opens a file for reading and writing; it must exist.
	OpenAppend(name string) (File, error)
	// Rename gives a file another name and replaces what stood there, atomically;
	// durable after SyncDir of both folders.
	Rename(from, to string) error
	// Remove removes a file or an empty folder; durable after SyncDir of its folder.
	Remove(name string) error
	// List returns the names in a folder in sorted order.
	List(folder string) ([]string, error)
	// Stat says what stands under name.
	Stat(name string) (Info, error)
	// MkdirAll makes a folder and those missing above it. They are durable when it
	// returns, and their mode is 0700.
	MkdirAll(folder string) error
	// SyncDir makes the names in a folder durable.
	SyncDir(folder string) error
	// Free is the space an unprivileged writer may still use, in octets.
	Free() (int64, error)
	// Lock takes the advisory lock of a file, which it creates if need be, and
	// returns ErrLocked when another process has it. Close gives it back; so does
	// the end of the process. The file stays.
	Lock(name string) (io.Closer, error)
}

// IsFull reports whether err says that no space is left: the disk, a quota, or the
// largest possible file.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

// tempSuffix ends the name of a file that WriteFile has not finished.
const tempSuffix = ".new"

// WriteFile replaces the file name by data, atomically and durably: whatever
// happens, the name leads to the old octets or to all of the new ones. It writes
// name.new, syncs it, renames it and syncs the folder. Not for concurrent use
// with the same name.
func WriteFile(fsys FS, name string, data []byte) error {
	temp := name + tempSuffix
	if err := fsys.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove unfinished %s: %w", temp, err)
	}
	if err := writeNew(fsys, temp, data); err != nil {
		_ = fsys.Remove(temp) // best effort: the next WriteFile removes it
		return err
	}
	if err := fsys.Rename(temp, name); err != nil {
		return fmt.Errorf("rename %s: %w", temp, err)
	}
	if err := fsys.SyncDir(path.Dir(name)); err != nil {
		return fmt.Errorf("sync folder of %s: %w", name, err)
	}
	return nil
}

// writeNew creates name with data and syncs it.
func writeNew(fsys FS, name string, data []byte) error {
	f, err := fsys.Create(name)
	if err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	if _, err := f.Write(data); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", name, err), f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(fmt.Errorf("sync %s: %w", name, err), f.Close())
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("close %s: %w", name, err)
	}
	return nil
}

// ErrTooLong is returned by ReadFile for a file above its limit.
var ErrTooLong = errors.New("file is longer than expected")

// ReadFile returns the octets of a file of at most limit octets.
func ReadFile(fsys FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("stat %s: %w", name, err)
	}
	if size > limit {
		return nil, fmt.Errorf("read %s: %d octets, at most %d: %w", name, size, limit, ErrTooLong)
	}
	data := make([]byte, size)
	n, err := f.ReadAt(data, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data[:n], nil
}
