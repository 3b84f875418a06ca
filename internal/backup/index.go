package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strings"
)

// indexFolder holds the objects that say where chunks lie; each is named by the
// SHA-256 of its octets.
const indexFolder = "index/"

// place is where the frame of a chunk lies, in the plain octets of a pack.
type place struct {
	pack   uint32 // in index.packs
	offset uint32
	length uint32
}

// located is a chunk with its place: 44 octets.
type located struct {
	id ID
	place
}

// index knows where chunks lie: those of earlier runs in a sorted list, those of this
// one in a map until fold.
type index struct {
	packs   []ID    // names
	sizes   []int64 // of the objects, in octets
	numbers map[ID]uint32
	sorted  []located
	fresh   map[ID]place
	objects []string // names of the index objects that were read
}

func newIndex() *index {
	return &index{numbers: make(map[ID]uint32), fresh: make(map[ID]place)}
}

// number is the number of a pack of size octets.
func (x *index) number(pack ID, size int64) uint32 {
	n, ok := x.numbers[pack]
	if !ok {
		n = uint32(len(x.packs))
		x.packs = append(x.packs, pack)
		x.sizes = append(x.sizes, size)
		x.numbers[pack] = n
	}
	return n
}

// find returns where a chunk lies.
func (x *index) find(id ID) (place, bool) {
	if p, ok := x.fresh[id]; ok {
		return p, true
	}
	i, ok := x.position(id)
	if !ok {
		return place{}, false
	}
	return x.sorted[i].place, true
}

// position is a chunk's place in the sorted list.
func (x *index) position(id ID) (int, bool) {
	return slices.BinarySearchFunc(x.sorted, id, func(l located, id ID) int { return bytes.Compare(l.id[:], id[:]) })
}

// marks is a set of chunks of the sorted list.
type marks struct {
	x    *index
	bits []uint64
}

func newMarks(x *index) *marks { return &marks{x: x, bits: make([]uint64, len(x.sorted)/64+1)} }

// add adds a chunk and reports whether it was in the set; one that the list does not
// have is not added.
func (m *marks) add(id ID) (was bool) {
	i, ok := m.x.position(id)
	if !ok {
		return false
	}
	was = m.bits[i/64]&(1<<(i%64)) != 0
	m.bits[i/64] |= 1 << (i % 64)
	return was
}

// has reports whether the i-th chunk of the list is in the set.
func (m *marks) has(i int) bool { return m.bits[i/64]&(1<<(i%64)) != 0 }

// fold sorts what was added.
func (x *index) fold() {
	x.sorted = slices.Grow(x.sorted, len(x.fresh))
	for id, p := range x.fresh {
		x.sorted = append(x.sorted, located{id, p})
	}
	clear(x.fresh)
	x.sort()
}

func (x *index) sort() {
	slices.SortFunc(x.sorted, func(a, b located) int { return bytes.Compare(a.id[:], b.id[:]) })
	x.sorted = slices.CompactFunc(x.sorted, func(a, b located) bool { return a.id == b.id })
}

// packed is what an index object says of one pack.
type packed struct {
	pack   ID
	size   int64     // of the object, in octets
	chunks []located // pack numbers are not used
}

// maxFrame bounds the frame of a chunk, in octets: a leaf may hold one item beyond leafMost.
const maxFrame = frameHead + leafMost + 2*MaxData

// indexMagic begins the plain octets of an index object.
const indexMagic = "pbix1\n"

// encodeIndex makes the plain octets of an index object.
func encodeIndex(packs []packed) []byte {
	b := []byte(indexMagic)
	for _, p := range packs {
		b = append(b, p.pack[:]...)
		b = binary.AppendUvarint(b, uint64(p.size))
		b = binary.AppendUvarint(b, uint64(len(p.chunks)))
		for _, c := range p.chunks {
			b = append(b, c.id[:]...)
			b = binary.AppendUvarint(b, uint64(c.offset))
			b = binary.AppendUvarint(b, uint64(c.length))
		}
	}
	return b
}

// decodeIndex calls fn for each pack of an index object.
func decodeIndex(b []byte, fn func(packed)) error {
	b, ok := bytes.CutPrefix(b, []byte(indexMagic))
	s := scanner{b: b, ok: ok}
	for s.ok && len(s.b) > 0 {
		p := packed{pack: s.id(), size: int64(s.uvarint())}
		n := s.uvarint()
		if n > uint64(len(s.b))/sha256.Size {
			s.ok = false
			break
		}
		p.chunks = make([]located, n)
		for i := range p.chunks {
			c := &p.chunks[i]
			c.id = s.id()
			offset, length := s.uvarint(), s.uvarint()
			if offset > math.MaxUint32 || length > maxFrame {
				s.ok = false
				break
			}
			c.offset, c.length = uint32(offset), uint32(length)
		}
		if s.ok {
			fn(p)
		}
	}
	if !s.ok {
		return ErrDamaged
	}
	return nil
}

// indexChunks is about how many chunks one index object has at most.
const indexChunks = 500_000

// storeIndex writes index objects and returns their names and octets.
func storeIndex(ctx context.Context, t Target, k *keys, packs []packed) (names []string, octets int64, err error) {
	for len(packs) > 0 {
		n, chunks := 0, 0
		for n < len(packs) && (n == 0 || chunks+len(packs[n].chunks) <= indexChunks) {
			chunks += len(packs[n].chunks)
			n++
		}
		name, size, err := storeIndexObject(ctx, t, k, packs[:n])
		if err != nil {
			return nil, octets, err
		}
		names, octets, packs = append(names, name), octets+size, packs[n:]
	}
	return names, octets, nil
}

func storeIndexObject(ctx context.Context, t Target, k *keys, packs []packed) (string, int64, error) {
	object, err := k.encrypt(encodeIndex(packs))
	if err != nil {
		return "", 0, err
	}
	sum := sha256.Sum256(object)
	name := indexFolder + hex.EncodeToString(sum[:])
	return name, int64(len(object)), t.Put(ctx, name, object)
}

// readIndexObject reads one index object and calls fn for each pack.
func readIndexObject(ctx context.Context, t Target, k *keys, name string, fn func(packed)) error {
	object, err := t.Get(ctx, name, 0, -1)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(object)
	if strings.TrimPrefix(name, indexFolder) != hex.EncodeToString(sum[:]) {
		return fmt.Errorf("%s: %w", name, ErrDamaged)
	}
	plain, err := k.decrypt(object)
	if err == nil {
		err = decodeIndex(plain, fn)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// loadIndex reads all index objects.
func loadIndex(ctx context.Context, t Target, k *keys) (*index, error) {
	x := newIndex()
	err := t.List(ctx, indexFolder, func(o Object) error {
		x.objects = append(x.objects, o.Name)
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(x.objects)
	for _, name := range x.objects {
		err := readIndexObject(ctx, t, k, name, func(p packed) {
			n := x.number(p.pack, p.size)
			for _, c := range p.chunks {
				c.pack = n
				x.sorted = append(x.sorted, c)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	x.sort()
	return x, nil
}
