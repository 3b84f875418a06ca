package disk

import (
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"syscall"
)

// faultFile is an open file of a Fault. A removed file stays usable while open.
type faultFile struct {
	f        *Fault
	n        *node
	name     string
	writable bool
	closed   bool
}

// ready returns why the file can't be used. f.mu is held.
func (h *faultFile) ready(op string, write bool) error {
	switch {
	case h.closed:
		return &fs.PathError{Op: op, Path: h.name, Err: fs.ErrClosed}
	case h.f.off:
		return ErrPowerCut
	case write && !h.writable:
		return &fs.PathError{Op: op, Path: h.name, Err: fs.ErrPermission}
	}
	return nil
}

// ReadAt implements File.
func (h *faultFile) ReadAt(p []byte, off int64) (int, error) {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	if err := h.ready("read", false); err != nil {
		return 0, err
	}
	if off < 0 || off >= int64(len(h.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, h.n.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Write implements File.
func (h *faultFile) Write(p []byte) (int, error) {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	return h.write(p, int64(len(h.n.data)))
}

// WriteAt implements File.
func (h *faultFile) WriteAt(p []byte, off int64) (int, error) {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	return h.write(p, off)
}

func (h *faultFile) write(p []byte, off int64) (int, error) {
	if err := h.ready("write", true); err != nil {
		return 0, err
	}
	do, err := h.f.step(OpWrite)
	if !do {
		return 0, err
	}
	if err != nil && len(p) > 0 {
		n := h.f.rnd.IntN(len(p) + 1) // part of it got through
		if h.f.off && n < len(p) {    // in whole sectors, when the power failed
			n = max(n-int((off+int64(n))%sectorOctets), 0)
		}
		p = p[:n]
	}
	size := int64(len(h.n.data))
	more := max(off+int64(len(p))-max(size, off), 0)
	if h.f.capacity > 0 && h.f.used+more > h.f.capacity {
		p = p[:max(int64(len(p))-(h.f.used+more-h.f.capacity), 0)]
		err = &fs.PathError{Op: "write", Path: h.name, Err: syscall.ENOSPC}
	}
	grow := max(off+int64(len(p))-max(size, off), 0)
	h.f.used += grow
	h.n.space += grow
	h.n.put(p, off)
	return len(p), err
}

// put writes p at off and remembers the sectors as unsynced.
func (n *node) put(p []byte, off int64) {
	if len(p) == 0 {
		return
	}
	end := off + int64(len(p))
	if grow := end - int64(len(n.data)); grow > 0 {
		n.data = append(n.data, make([]byte, grow)...)
		n.sizes = append(n.sizes, end)
	}
	copy(n.data[off:], p)
	for s := off / sectorOctets; s*sectorOctets < end; s++ {
		sector := make([]byte, sectorOctets)
		copy(sector, n.data[s*sectorOctets:])
		n.dirty[s] = append(n.dirty[s], sector)
	}
}

// Size implements File.
func (h *faultFile) Size() (int64, error) {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	if err := h.ready("stat", false); err != nil {
		return 0, err
	}
	return int64(len(h.n.data)), nil
}

// Truncate implements File.
func (h *faultFile) Truncate(size int64) error {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	if err := h.ready("truncate", true); err != nil {
		return err
	}
	do, err := h.f.step(OpTruncate)
	n := h.n
	if !do || size >= int64(len(n.data)) {
		return err
	}
	cut := min(int64(len(n.data))-size, n.space)
	h.f.used -= cut
	n.space -= cut
	n.data = slices.Clone(n.data[:size])
	n.sizes = append(n.sizes, size)
	for s := range n.dirty {
		if s*sectorOctets >= size {
			delete(n.dirty, s)
		}
	}
	if size%sectorOctets != 0 {
		sector := make([]byte, sectorOctets)
		copy(sector, n.data[size/sectorOctets*sectorOctets:])
		n.dirty[size/sectorOctets] = append(n.dirty[size/sectorOctets], sector)
	}
	return err
}

// Sync implements File.
func (h *faultFile) Sync() error {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	if err := h.ready("sync", true); err != nil {
		return err
	}
	do, err := h.f.step(OpSync)
	switch {
	case do:
		h.n.settle()
	case !h.f.off: // the kernel forgets that the rest was ever dirty
		h.n.durable = h.n.afterCrash(h.f.rnd)
		h.n.dirty, h.n.sizes = map[int64][][]byte{}, nil
	}
	return err
}

// settle makes all that is dirty durable.
func (n *node) settle() {
	if len(n.sizes) > 0 {
		n.durable = resize(n.durable, n.sizes[len(n.sizes)-1])
	}
	for s, versions := range n.dirty {
		if s*sectorOctets < int64(len(n.durable)) {
			copy(n.durable[s*sectorOctets:], versions[len(versions)-1])
		}
	}
	n.dirty, n.sizes = map[int64][][]byte{}, nil
}

// Close implements File.
func (h *faultFile) Close() error {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	if h.closed {
		return &fs.PathError{Op: "close", Path: h.name, Err: fs.ErrClosed}
	}
	h.closed = true
	return nil
}

// resize returns b cut or filled with zeros to size.
func resize(b []byte, size int64) []byte {
	if size <= int64(len(b)) {
		return b[:size:size]
	}
	return append(b, make([]byte, size-int64(len(b)))...)
}

// afterCrash returns octets that may be found after a power cut.
func (n *node) afterCrash(rnd *rand.Rand) []byte {
	const loseAll, keepAll = 0, 1
	mode := rnd.IntN(4)
	size := int64(len(n.durable))
	switch {
	case mode == keepAll && len(n.sizes) > 0:
		size = n.sizes[len(n.sizes)-1]
	case mode != loseAll && len(n.sizes) > 0:
		if i := rnd.IntN(len(n.sizes) + 1); i < len(n.sizes) {
			size = n.sizes[i]
		}
	}
	b := resize(slices.Clone(n.durable), size)
	var sectors []int64
	for s := range n.dirty {
		sectors = append(sectors, s)
	}
	slices.Sort(sectors)
	for _, s := range sectors {
		versions := n.dirty[s]
		i := len(versions) - 1
		if mode == loseAll {
			i = -1
		} else if mode != keepAll {
			i = rnd.IntN(len(versions)+1) - 1
		}
		if at := s * sectorOctets; at < size && i >= 0 {
			copy(b[at:], versions[i])
		} else if at < size && at >= int64(len(n.durable)) && mode > keepAll && rnd.IntN(4) == 0 {
			for j := at; j < min(at+sectorOctets, size); j++ { // what another file left there
				b[j] = byte(rnd.Uint32())
			}
		}
	}
	return b
}

// crash copies a tree as it may be found after a power cut.
type crash struct {
	rnd    *rand.Rand
	seen   map[*node]*node
	stable map[*node]map[string]*node // names of folders that pending changes reached
}

// names decides which of the pending changes of names reached the disk: none, all,
// or any.
func (c *crash) names(pending []change) {
	mode := c.rnd.IntN(3)
	for _, p := range pending {
		if mode == 1 || mode == 2 && c.rnd.IntN(2) == 0 {
			p.keep(c.of)
		}
	}
}

// of returns the names that a folder will have.
func (c *crash) of(n *node) map[string]*node {
	if c.stable[n] == nil {
		names := map[string]*node{}
		for name, child := range n.stable {
			names[name] = child
		}
		c.stable[n] = names
	}
	return c.stable[n]
}

// copy returns the node as found afterwards, all of it durable.
func (c *crash) copy(n *node) *node {
	if c.seen[n] != nil {
		return c.seen[n]
	}
	var after *node
	if n.folder == nil {
		b := n.afterCrash(c.rnd)
		after = &node{data: b, space: min(n.space, int64(len(b))), durable: slices.Clone(b), dirty: map[int64][][]byte{}}
		c.seen[n] = after
		return after
	}
	after = newFolder()
	c.seen[n] = after
	names := c.of(n)
	var sorted []string
	for name := range names {
		sorted = append(sorted, name)
	}
	slices.Sort(sorted)
	for _, name := range sorted {
		child := c.copy(names[name])
		after.folder[name], after.stable[name] = child, child
	}
	return after
}

// usedBelow is the octets of the files in a tree.
func usedBelow(n *node, seen map[*node]bool) int64 {
	if seen[n] {
		return 0
	}
	seen[n] = true
	used := n.space
	for _, child := range n.folder {
		used += usedBelow(child, seen)
	}
	return used
}

var (
	_ FS = (*Fault)(nil)
	_ FS = (*OSFS)(nil)
)
