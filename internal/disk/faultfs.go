package disk

import (
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"syscall"
)

// Create implements FS.
func (f *Fault) Create(name string) (File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	folder, base, err := f.parent("create", name)
	if err != nil {
		return nil, err
	}
	if folder.folder[base] != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	do, err := f.step(OpCreate)
	n := &node{dirty: map[int64][][]byte{}}
	if do {
		f.apply(change{{folder, base, n}})
	}
	if err != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: err}
	}
	return &faultFile{f: f, n: n, name: name, writable: true}, nil
}

// Open implements FS.
func (f *Fault) Open(name string) (File, error) { return f.open(name, false) }

// OpenAppend implements FS.
func (f *Fault) OpenAppend(name string) (File, error) { return f.open(name, true) }

func (f *Fault) open(name string, writable bool) (File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.find("open", name)
	if err != nil {
		return nil, err
	}
	if n.folder != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	return &faultFile{f: f, n: n, name: name, writable: writable}, nil
}

// Rename implements FS.
func (f *Fault) Rename(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.find("rename", from)
	if err != nil {
		return err
	}
	source, oldName, err := f.parent("rename", from)
	if err != nil {
		return err
	}
	target, newName, err := f.parent("rename", to)
	if err != nil {
		return err
	}
	if n.folder != nil || target.folder[newName] != nil && target.folder[newName].folder != nil {
		return &fs.PathError{Op: "rename", Path: to, Err: fs.ErrInvalid}
	}
	do, err := f.step(OpRename)
	if do && (source != target || oldName != newName) {
		f.apply(change{{target, newName, n}, {source, oldName, nil}})
	}
	return err
}

// Remove implements FS.
func (f *Fault) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.find("remove", name)
	if err != nil {
		return err
	}
	folder, base, err := f.parent("remove", name)
	if err != nil {
		return err
	}
	if len(n.folder) > 0 {
		return &fs.PathError{Op: "remove", Path: name, Err: syscall.ENOTEMPTY}
	}
	do, err := f.step(OpRemove)
	if do {
		f.apply(change{{folder, base, nil}})
	}
	return err
}

// List implements FS.
func (f *Fault) List(folder string) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.find("list", folder)
	if err != nil {
		return nil, err
	}
	if n.folder == nil {
		return nil, &fs.PathError{Op: "list", Path: folder, Err: fs.ErrInvalid}
	}
	return slices.Sorted(maps.Keys(n.folder)), nil
}

// Stat implements FS.
func (f *Fault) Stat(name string) (Info, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.find("stat", name)
	if err != nil {
		return Info{}, err
	}
	return Info{Name: path.Base(name), Size: int64(len(n.data)), Folder: n.folder != nil}, nil
}

// MkdirAll implements FS.
func (f *Fault) MkdirAll(folder string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	folder = path.Clean(folder)
	if n, err := f.find("mkdir", folder); err == nil {
		if n.folder == nil {
			return &fs.PathError{Op: "mkdir", Path: folder, Err: fs.ErrExist}
		}
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	n := f.root
	for part := range strings.SplitSeq(folder, "/") {
		next := n.folder[part]
		if next == nil {
			do, err := f.step(OpMkdir)
			next = newFolder()
			if do {
				f.apply(change{{n, part, next}})
			}
			if err != nil {
				return err
			}
			f.settle(n)
		}
		if next.folder == nil {
			return &fs.PathError{Op: "mkdir", Path: folder, Err: fs.ErrExist}
		}
		n = next
	}
	return nil
}

// SyncDir implements FS.
func (f *Fault) SyncDir(folder string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.find("syncdir", folder)
	if err != nil {
		return err
	}
	do, err := f.step(OpSyncDir)
	if do {
		f.settle(n)
	}
	return err
}

// settle makes the names in folder n durable. f.mu is held.
func (f *Fault) settle(n *node) {
	f.pending = slices.DeleteFunc(f.pending, func(c change) bool {
		touches := slices.ContainsFunc(c, func(e effect) bool { return e.folder == n })
		if touches {
			c.keep(func(n *node) map[string]*node { return n.stable })
		}
		return touches
	})
}

// keep puts the effects into the durable names of their folders.
func (c change) keep(names func(*node) map[string]*node) {
	for _, e := range c {
		if e.node == nil {
			delete(names(e.folder), e.name)
		} else {
			names(e.folder)[e.name] = e.node
		}
	}
}

// Free implements FS.
func (f *Fault) Free() (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.off {
		return 0, ErrPowerCut
	}
	if f.capacity == 0 {
		return Unlimited, nil
	}
	return max(f.capacity-f.used, 0), nil
}
