package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
)

// A section is a list of records in order of key. It is cut into leaves, whose names
// with their first keys are records of a second list, cut in the same way into lists,
// whose names stand in the snapshot. Where it is cut follows from the records alone, so
// that equal stretches of two sections are equal chunks.

// branch is a leaf or a list as its parent knows it.
type branch struct {
	First  []byte `json:"first"` // key of its first record
	ID     ID     `json:"chunk"`
	Items  int64  `json:"items"`
	Octets int64  `json:"octets"` // of the items, as they are in the source
}

// cutter makes chunks of records.
type cutter struct {
	pack   *packer
	buf    []byte
	first  []byte
	items  int64
	octets int64
	out    func(branch) error // is told of each chunk
}

// add adds a record that stands for items and octets.
func (c *cutter) add(ctx context.Context, key, value []byte, items, octets int64) error {
	if len(c.buf) == 0 {
		c.first = bytes.Clone(key)
	}
	before := len(c.buf)
	c.buf = appendBlob(appendBlob(c.buf, key), value)
	c.items, c.octets = c.items+items, c.octets+octets
	if len(c.buf) < leafMost && !cutBehind(key, len(c.buf)-before) {
		return nil
	}
	return c.cut(ctx)
}

// cutBehind decides by a record's key and length, so that leaves have leafOctets on average.
func cutBehind(key []byte, length int) bool {
	h := fnv.New64a()
	h.Write(key)
	v := h.Sum64()
	v ^= v >> 32 // the high octets of FNV depend little on the key's last one
	v *= 0x9e3779b97f4a7c15
	return v>>40 < uint64(length)*(1<<24)/leafOctets
}

// cut ends the chunk.
func (c *cutter) cut(ctx context.Context) error {
	if len(c.buf) == 0 {
		return nil
	}
	id, err := c.pack.add(ctx, c.buf)
	if err != nil {
		return err
	}
	b := branch{First: c.first, ID: id, Items: c.items, Octets: c.octets}
	c.buf, c.first, c.items, c.octets = c.buf[:0], nil, 0, 0
	return c.out(b)
}

// sectionWriter writes a section.
type sectionWriter struct {
	leaves, lists cutter
	last          []byte
	section       section
}

// section is a section as the snapshot knows it.
type section struct {
	Name    string   `json:"name"`
	Items   int64    `json:"items"`
	Octets  int64    `json:"octets"`
	Damaged int64    `json:"damaged,omitempty"`
	Lists   []branch `json:"lists"`
}

func newSectionWriter(ctx context.Context, p *packer, name string) *sectionWriter {
	w := &sectionWriter{section: section{Name: name, Lists: []branch{}}}
	w.leaves = cutter{pack: p, out: func(b branch) error {
		return w.lists.add(ctx, b.First, encodeBranch(b), b.Items, b.Octets)
	}}
	w.lists = cutter{pack: p, out: func(b branch) error {
		w.section.Lists = append(w.section.Lists, b)
		return nil
	}}
	return w
}

var errOrder = errors.New("items are not in order of key")

func (w *sectionWriter) add(ctx context.Context, key, value []byte, octets int64) error {
	if w.last != nil && bytes.Compare(key, w.last) <= 0 {
		return fmt.Errorf("section %s: %w: %x behind %x", w.section.Name, errOrder, key, w.last)
	}
	w.last = append(w.last[:0], key...)
	w.section.Items++
	w.section.Octets += octets
	return w.leaves.add(ctx, key, value, 1, octets)
}

func (w *sectionWriter) finish(ctx context.Context) (section, error) {
	if err := w.leaves.cut(ctx); err != nil {
		return w.section, err
	}
	err := w.lists.cut(ctx)
	return w.section, err
}

func encodeBranch(b branch) []byte {
	v := append([]byte(nil), b.ID[:]...)
	return binary.AppendUvarint(binary.AppendUvarint(v, uint64(b.Items)), uint64(b.Octets))
}

// records calls fn for each record of a chunk.
func records(chunk []byte, fn func(key, value []byte) error) error {
	s := scanner{b: chunk, ok: true}
	for len(s.b) > 0 {
		key, value := s.blob(), s.blob()
		if !s.ok {
			return ErrDamaged
		}
		if err := fn(key, value); err != nil {
			return err
		}
	}
	return nil
}

// sectionReader walks the leaves of a section from a key on.
type sectionReader struct {
	r     *Repository
	lists []branch // left
	// broken is told of a chunk that can't be read, with the keys it begins and is
	// followed by; an error of it ends the walk. nil ends it with the error.
	broken func(b branch, next []byte, err error) error
	// touched is told of every chunk of the tree before it is read; false leaves it out.
	touched func(branch) bool
	// left is told of every chunk that was read when all below it was.
	left func(branch)
}

// newSectionReader begins before from; nil begins at the section's begin.
func newSectionReader(r *Repository, s section, from []byte) *sectionReader {
	lists := s.Lists
	for len(lists) > 1 && from != nil && bytes.Compare(lists[1].First, from) <= 0 {
		lists = lists[1:]
	}
	return &sectionReader{r: r, lists: lists}
}

// walk calls fn for each record with from <= key < to; nil bounds nothing.
func (s *sectionReader) walk(ctx context.Context, from, to []byte, fn func(key, value []byte) error) error {
	for i, list := range s.lists {
		if to != nil && bytes.Compare(list.First, to) >= 0 {
			return nil
		}
		var next []byte
		if i+1 < len(s.lists) {
			next = s.lists[i+1].First
		}
		chunk, err := s.read(ctx, list, next)
		if err != nil {
			return err
		}
		leaves, err := decodeBranches(chunk)
		if err != nil {
			return err
		}
		if err := s.leaves(ctx, leaves, next, from, to, fn); err != nil {
			return err
		}
		if s.left != nil && chunk != nil {
			s.left(list)
		}
	}
	return nil
}

func (s *sectionReader) leaves(ctx context.Context, leaves []branch, end, from, to []byte, fn func(key, value []byte) error) error {
	for i, leaf := range leaves {
		next := end
		if i+1 < len(leaves) {
			next = leaves[i+1].First
		}
		if to != nil && bytes.Compare(leaf.First, to) >= 0 {
			return nil
		}
		if from != nil && next != nil && bytes.Compare(next, from) <= 0 {
			continue
		}
		chunk, err := s.read(ctx, leaf, next)
		if err != nil {
			return err
		}
		err = records(chunk, func(key, value []byte) error {
			if from != nil && bytes.Compare(key, from) < 0 || to != nil && bytes.Compare(key, to) >= 0 {
				return nil
			}
			return fn(key, value)
		})
		if err != nil {
			return err
		}
		if s.left != nil && chunk != nil {
			s.left(leaf)
		}
	}
	return nil
}

// read reads a chunk of the tree; nil without an error for one that is left out.
func (s *sectionReader) read(ctx context.Context, b branch, next []byte) ([]byte, error) {
	if s.touched != nil && !s.touched(b) {
		return nil, nil
	}
	chunk, err := s.r.chunk(ctx, b.ID)
	if err != nil && s.broken != nil && errors.Is(err, ErrDamaged) {
		return nil, s.broken(b, next, err)
	}
	return chunk, err
}

// decodeBranches reads a list.
func decodeBranches(chunk []byte) (out []branch, err error) {
	err = records(chunk, func(key, value []byte) error {
		s := scanner{b: value, ok: true}
		b := branch{First: key, ID: s.id(), Items: int64(s.uvarint()), Octets: int64(s.uvarint())}
		if !s.ok {
			return ErrDamaged
		}
		out = append(out, b)
		return nil
	})
	return out, err
}

// Flags of an item's value.
const (
	itemOctets  = 1 // it has octets
	itemDamaged = 2 // which could not be read
)

// value is an item as a leaf holds it.
type value struct {
	data    []byte
	octets  int64
	damaged bool
	sum     [sha256.Size]byte // of the octets
	pieces  []ID              // nil for none
	has     bool              // octets, damaged ones too
}

func (v *value) encode() []byte {
	var flags uint64
	if v.has {
		flags |= itemOctets
	}
	if v.damaged {
		flags |= itemDamaged
	}
	b := binary.AppendUvarint(make([]byte, 0, len(v.data)+64+32*len(v.pieces)), flags)
	b = appendBlob(b, v.data)
	if !v.has {
		return b
	}
	b = binary.AppendUvarint(b, uint64(v.octets))
	if v.damaged {
		return b
	}
	b = append(b, v.sum[:]...)
	for _, id := range v.pieces {
		b = append(b, id[:]...)
	}
	return b
}

func decodeValue(b []byte) (v value, err error) {
	s := scanner{b: b, ok: true}
	flags := s.uvarint()
	v.data = s.blob()
	v.has, v.damaged = flags&itemOctets != 0, flags&itemDamaged != 0
	if v.has {
		v.octets = int64(s.uvarint())
	}
	if v.has && !v.damaged {
		copy(v.sum[:], s.take(sha256.Size))
		for s.ok && len(s.b) > 0 {
			v.pieces = append(v.pieces, s.id())
		}
	}
	if !s.ok || flags > itemOctets|itemDamaged {
		return v, ErrDamaged
	}
	return v, nil
}
