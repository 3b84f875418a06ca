package power_test

import (
	"poczta.example/poczta/internal/disk"
)

// watchedFS calls before ahead of every call that changes something.
type watchedFS struct {
	*disk.Fault
	before func(what string)
	lies   bool // Sync does nothing
}

// Create implements disk.FS.
func (w *watchedFS) Create(name string) (disk.File, error) {
	w.before("create " + name)
	return w.file(w.Fault.Create(name))
}

// OpenAppend implements disk.FS.
func (w *watchedFS) OpenAppend(name string) (disk.File, error) {
	return w.file(w.Fault.OpenAppend(name))
}

func (w *watchedFS) file(f disk.File, err error) (disk.File, error) {
	if err != nil {
		return nil, err
	}
	return &watchedFile{f, w.before, w.lies}, nil
}

// Rename implements disk.FS.
func (w *watchedFS) Rename(from, to string) error {
	w.before("rename " + from)
	return w.Fault.Rename(from, to)
}

// Remove implements disk.FS.
func (w *watchedFS) Remove(name string) error {
	w.before("remove " + name)
	return w.Fault.Remove(name)
}

// MkdirAll implements disk.FS.
func (w *watchedFS) MkdirAll(folder string) error {
	w.before("mkdir " + folder)
	return w.Fault.MkdirAll(folder)
}

// SyncDir implements disk.FS.
func (w *watchedFS) SyncDir(folder string) error {
	w.before("syncdir " + folder)
	return w.Fault.SyncDir(folder)
}

// watchedFile is a file of a watchedFS.
type watchedFile struct {
	disk.File
	before func(what string)
	lies   bool
}

// Write implements disk.File.
func (w *watchedFile) Write(p []byte) (int, error) {
	w.before("write")
	return w.File.Write(p)
}

// WriteAt implements disk.File.
func (w *watchedFile) WriteAt(p []byte, off int64) (int, error) {
	w.before("write")
	return w.File.WriteAt(p, off)
}

// Truncate implements disk.File.
func (w *watchedFile) Truncate(size int64) error {
	w.before("truncate")
	return w.File.Truncate(size)
}

// Sync implements disk.File.
func (w *watchedFile) Sync() error {
	w.before("sync")
	if w.lies {
		return nil
	}
	return w.File.Sync()
}
