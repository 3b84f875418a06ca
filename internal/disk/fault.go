package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
)

// ErrPowerCut is returned by every call of a Fault whose power is off.
var ErrPowerCut = errors.New("power is cut")

// Op is a kind of call that changes something.
type Op uint8

// The kinds of calls that a Fault counts and fails.
const (
	OpCreate Op = iota
	OpWrite     // Write, WriteAt
	OpTruncate
	OpSync
	OpSyncDir
	OpRename
	OpRemove
	OpMkdir
	opCount
)

// String returns the name of the kind.
func (o Op) String() string {
	names := [...]string{"create", "write", "truncate", "sync", "syncdir", "rename", "remove", "mkdir"}
	if int(o) < len(names) {
		return names[o]
	}
	return fmt.Sprintf("op(%d)", uint8(o))
}

// sectorOctets is what a disk writes whole or not at all.
const sectorOctets = 512

// Fault is a file system in memory that misbehaves on demand. It remembers what
// is durable: octets after Sync, names after SyncDir, and MkdirAll. After a power
// cut, Reopen gives a file system as the disk may look then. For tests; safe for
// concurrent use.
type Fault struct {
	mu       sync.Mutex
	rnd      *rand.Rand
	root     *node
	pending  []change // names that are not durable yet, in order
	locks    map[string]bool
	capacity int64 // 0 is unlimited
	used     int64

	calls int
	cutAt int // the power fails during this call; 0 is never
	off   bool
	kinds [opCount]int           // calls of each kind
	fails [opCount]map[int]error // by number of the call
}

// node is a file or a folder.
type node struct {
	folder map[string]*node // nil for files
	stable map[string]*node // the names that are durable

	data    []byte
	space   int64 // octets of data that are no gap
	durable []byte
	dirty   map[int64][][]byte // versions of sectors since the last sync, oldest first
	sizes   []int64            // lengths since the last sync
}

// change is an operation on names: one effect, or two for Rename.
type change []effect

type effect struct {
	folder *node
	name   string
	node   *node // nil removes the name
}

func newFolder() *node { return &node{folder: map[string]*node{}, stable: map[string]*node{}} }

// NewFault returns an empty file system whose choices follow from seed.
func NewFault(seed uint64) *Fault {
	return &Fault{rnd: rand.New(rand.NewPCG(seed, 0)), root: newFolder(), locks: map[string]bool{}}
}

// Calls is how many calls have changed something so far, those that failed included.
func (f *Fault) Calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

// CallsOf is how many calls of a kind there were so far, those that failed included.
func (f *Fault) CallsOf(kind Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.kinds[kind]
}

// CutAt has the power fail during the k-th call from the beginning (the first is
// 1): its effect may be there or not, it and all later ones return ErrPowerCut.
func (f *Fault) CutAt(k int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cutAt = k
}

// Cut has the power fail now.
func (f *Fault) Cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.off = true
}

// FailAt has the k-th call of a kind from now on (the next is 1) fail with err. A
// failed write leaves part of its octets; a failed Sync leaves some sectors
// durable and the others never, whatever is synced later.
func (f *Fault) FailAt(kind Op, k int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fails[kind] == nil {
		f.fails[kind] = map[int]error{}
	}
	f.fails[kind][f.kinds[kind]+k] = err
}

// SetCapacity bounds the octets of all files; a write beyond it writes what fits
// and fails with ENOSPC. 0 is unlimited.
func (f *Fault) SetCapacity(octets int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.capacity = octets
}

// Used is the octets of all files, gaps not counted.
func (f *Fault) Used() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.used
}

// Flip changes the bits of mask in the octet at offset of a file, durably and
// unseen, as a failing disk does.
func (f *Fault) Flip(name string, offset int64, mask byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.find("flip", name)
	if err != nil {
		return err
	}
	if offset < 0 || offset >= int64(len(n.data)) {
		return &fs.PathError{Op: "flip", Path: name, Err: io.ErrUnexpectedEOF}
	}
	n.data[offset] ^= mask
	if offset < int64(len(n.durable)) {
		n.durable[offset] ^= mask
	}
	return nil
}

// Reopen returns what the disk may hold after the power failed now, by the choices
// of seed: each unsynced sector as it was, as it is, or as it was between; each
// unsynced length and name, too. f itself stays as it is.
func (f *Fault) Reopen(seed uint64) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	after := NewFault(seed)
	after.capacity = f.capacity
	c := crash{rnd: after.rnd, seen: map[*node]*node{}, stable: map[*node]map[string]*node{}}
	c.names(f.pending)
	after.root = c.copy(f.root)
	after.used = usedBelow(after.root, map[*node]bool{})
	return after
}

// step counts a call. do says whether it takes effect; err, if not nil, is what it
// returns. f.mu is held.
func (f *Fault) step(kind Op) (do bool, err error) {
	if f.off {
		return false, ErrPowerCut
	}
	f.calls++
	f.kinds[kind]++
	if f.calls == f.cutAt {
		f.off = true
		return kind != OpSync && kind != OpSyncDir, ErrPowerCut
	}
	if err := f.fails[kind][f.kinds[kind]]; err != nil {
		return kind == OpWrite, err
	}
	return true, nil
}

// find returns what stands under name. f.mu is held.
func (f *Fault) find(op, name string) (*node, error) {
	if f.off {
		return nil, ErrPowerCut
	}
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	n := f.root
	if name == "." {
		return n, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		if n.folder == nil || n.folder[part] == nil {
			return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
		n = n.folder[part]
	}
	return n, nil
}

// parent returns the folder that name is or will be in. f.mu is held.
func (f *Fault) parent(op, name string) (*node, string, error) {
	n, err := f.find(op, path.Dir(name))
	if err == nil && (n.folder == nil || name == ".") {
		err = &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	return n, path.Base(name), err
}

// apply changes names now, and notes that they are not durable. f.mu is held.
func (f *Fault) apply(c change) {
	for _, e := range c {
		old := e.folder.folder[e.name]
		if e.node == nil {
			delete(e.folder.folder, e.name)
		} else {
			e.folder.folder[e.name] = e.node
		}
		if old != nil && old.folder == nil && old != e.node && !f.moving(c, old) {
			f.used -= old.space
		}
	}
	f.pending = append(f.pending, c)
}

// moving reports whether n keeps a name by the change.
func (f *Fault) moving(c change, n *node) bool {
	return slices.ContainsFunc(c, func(e effect) bool { return e.node == n })
}

// Lock implements FS.
func (f *Fault) Lock(name string) (io.Closer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.off {
		return nil, ErrPowerCut
	}
	if f.locks[name] {
		return nil, &fs.PathError{Op: "lock", Path: name, Err: ErrLocked}
	}
	f.locks[name] = true
	return &faultLock{f, name}, nil
}

// faultLock is a lock that is held.
type faultLock struct {
	f    *Fault
	name string
}

// Close gives the lock back.
func (l *faultLock) Close() error {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	delete(l.f.locks, l.name)
	return nil
}
