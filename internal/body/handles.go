package body

import (
	"container/list"
	"sync"

	"poczta.example/poczta/internal/disk"
)

// handles keeps the most recently read segments open. Safe for concurrent use.
type handles struct {
	limit int
	open  func(name string) (disk.File, error)

	mu     sync.Mutex
	byName map[string]*handle
	idle   *list.List // of *handle, the least recently used first
	closed bool
}

// handle is an open segment; release it after use.
type handle struct {
	disk.File
	name   string
	users  int
	gone   bool // not in byName any more: the last user closes it
	inIdle *list.Element
}

func newHandles(limit int, open func(string) (disk.File, error)) *handles {
	return &handles{limit: limit, open: open, byName: map[string]*handle{}, idle: list.New()}
}

// acquire returns the segment's handle, opening it if need be.
func (h *handles) acquire(name string) (*handle, error) {
	if f, err := h.find(name); f != nil || err != nil {
		return f, err
	}
	file, err := h.open(name)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if f := h.byName[name]; f != nil { // another was faster
		_ = file.Close() // opened for reading only
		return h.use(f), nil
	}
	f := &handle{File: file, name: name}
	h.byName[name] = f
	h.evict()
	return h.use(f), nil
}

func (h *handles) find(name string) (*handle, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, ErrClosed
	}
	if f := h.byName[name]; f != nil {
		return h.use(f), nil
	}
	return nil, nil
}

func (h *handles) use(f *handle) *handle {
	f.users++
	if f.inIdle != nil {
		h.idle.Remove(f.inIdle)
		f.inIdle = nil
	}
	return f
}

// evict closes idle files above the limit.
func (h *handles) evict() {
	for len(h.byName) > h.limit && h.idle.Len() > 0 {
		h.drop(h.idle.Front().Value.(*handle))
	}
}

// drop takes f out of the table and closes it when nobody uses it.
func (h *handles) drop(f *handle) {
	delete(h.byName, f.name)
	f.gone = true
	if f.inIdle != nil {
		h.idle.Remove(f.inIdle)
		f.inIdle = nil
	}
	if f.users == 0 {
		_ = f.File.Close() // opened for reading only
	}
}

// release gives a handle back.
func (h *handles) release(f *handle) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f.users--
	if f.users > 0 {
		return
	}
	if f.gone || h.closed {
		_ = f.File.Close() // opened for reading only
		return
	}
	f.inIdle = h.idle.PushBack(f)
	h.evict()
}

// forget closes the segment's file, so that its space returns once it is unlinked.
func (h *handles) forget(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f := h.byName[name]; f != nil {
		h.drop(f)
	}
}

// close closes all files; those in use when they are released.
func (h *handles) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, f := range h.byName {
		h.drop(f)
	}
}
