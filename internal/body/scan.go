package body

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	scanWindow     = 256 << 10
	scanSkip       = 4 << 10  // how far a scan goes on behind a place that can't be read
	maxEventRecord = 64 << 20 // longest record of events or seal that is believed
)

// piece is what a scan finds in a segment: a good record or damage. Its slices
// are valid until the next one.
type piece struct {
	recordHead
	raw    [recordHeaderLen]byte
	meta   []byte
	octets []byte // of events and seals
	sum    uint32 // of metadata and octets
	damage error
	torn   bool // damage at the end of a segment without a seal
	zeros  bool // the damage is that nothing but zeros stands there, to the end
}

// scanner reads the records of one segment, verifies them and goes on behind
// damage. Not for concurrent use.
type scanner struct {
	file   io.ReaderAt
	size   int64 // octets to be believed at most
	salt   salt
	window []byte
	start  int64 // offset of window[0]
	filled int

	meta, octets []byte
}

func newScanner(file io.ReaderAt, size int64, s salt) *scanner {
	return &scanner{file: file, size: size, salt: s, window: make([]byte, scanWindow)}
}

// run calls visit for everything from offset at on: records in order, damage when it
// is clear of what kind it is. Damage is torn unless a good record behind it says
// that the place was durable once, and so may have been acknowledged.
func (sc *scanner) run(ctx context.Context, at int64, visit func(*piece) error) error {
	var pending []piece // damage that may be torn
	for at < sc.size {
		if err := ctx.Err(); err != nil {
			return err
		}
		p, err := sc.record(at)
		if err == nil {
			if pending, err = settle(pending, p.synced, visit); err != nil {
				return err
			}
			if err := visit(&p); err != nil {
				return err
			}
			at += p.stored
			continue
		}
		bad := piece{recordHead: recordHead{offset: at, stored: p.stored, id: p.id}, damage: err}
		if p.stored <= 0 { // its length is not known
			next := sc.next(at + 1)
			bad.stored, bad.zeros = next-at, next == sc.size && sc.blank(at)
		}
		pending = append(pending, bad)
		at += bad.stored
	}
	for i := range pending {
		pending[i].torn = true
		if err := visit(&pending[i]); err != nil {
			return err
		}
	}
	return nil
}

// settle visits the pieces of damage before the offset synced and returns the others.
func settle(pending []piece, synced int64, visit func(*piece) error) ([]piece, error) {
	for len(pending) > 0 && pending[0].offset < synced {
		if err := visit(&pending[0]); err != nil {
			return nil, err
		}
		pending = pending[1:]
	}
	return pending, nil
}

// record reads and verifies the record at offset at. With an error the piece has
// a stored length only if that is known for certain.
func (sc *scanner) record(at int64) (piece, error) {
	var p piece
	b, err := sc.view(at, recordHeaderLen)
	if err != nil {
		return p, err
	}
	copy(p.raw[:], b)
	h, err := parseRecordHead(b, &sc.salt, at)
	fits := h.stored >= recordHeaderLen+recordTrailer && h.stored <= sc.size-at
	if errors.Is(err, ErrNewer) && fits {
		p.stored, p.id = h.stored, h.id
	}
	if err != nil {
		return p, err
	}
	if !fits {
		return p, fmt.Errorf("record at %d is cut off: %w", at, ErrDamaged)
	}
	p.recordHead = h
	return p, sc.verify(&p)
}

// verify reads the rest of the record whose header p has.
func (sc *scanner) verify(p *piece) error {
	at := p.offset + recordHeaderLen
	var err error
	if sc.meta, err = sc.load(sc.meta[:0], at, p.recordHead.meta); err != nil {
		return err
	}
	p.meta, p.sum = sc.meta, updateCRC(0, sc.meta)
	at += int64(len(p.meta))
	if p.kind == kindBody {
		if err := sc.each(at, p.recordHead.octets, func(b []byte) { p.sum = updateCRC(p.sum, b) }); err != nil {
			return err
		}
	} else {
		if p.recordHead.octets > maxEventRecord {
			return fmt.Errorf("record at %d is too long for its kind: %w", p.offset, ErrDamaged)
		}
		if sc.octets, err = sc.load(sc.octets[:0], at, p.recordHead.octets); err != nil {
			return err
		}
		p.octets, p.sum = sc.octets, updateCRC(p.sum, sc.octets)
	}
	trailer, err := sc.view(p.offset+p.stored-recordTrailer, recordTrailer)
	if err != nil {
		return err
	}
	if binary.BigEndian.Uint32(trailer) != recordSum(p.sum, p.raw[:]) {
		return fmt.Errorf("record at %d (body %s) has a wrong checksum: %w", p.offset, p.id, ErrDamaged)
	}
	return nil
}

// load appends n octets at offset at to b.
func (sc *scanner) load(b []byte, at, n int64) ([]byte, error) {
	err := sc.each(at, n, func(part []byte) { b = append(b, part...) })
	return b, err
}

// each calls fn for the n octets at offset at, in parts.
func (sc *scanner) each(at, n int64, fn func([]byte)) error {
	for n > 0 {
		part := min(n, int64(len(sc.window)))
		if at >= sc.start && at < sc.start+int64(sc.filled) {
			part = min(part, sc.start+int64(sc.filled)-at)
		}
		b, err := sc.view(at, int(part))
		if err != nil {
			return err
		}
		fn(b)
		at, n = at+part, n-part
	}
	return nil
}

// view returns n octets (at most scanWindow) at offset at.
func (sc *scanner) view(at int64, n int) ([]byte, error) {
	if at < sc.start || at+int64(n) > sc.start+int64(sc.filled) {
		if err := sc.fill(at); err != nil {
			return nil, err
		}
	}
	i := int(at - sc.start)
	if i+n > sc.filled {
		return nil, fmt.Errorf("segment ends at %d within a record: %w", sc.start+int64(sc.filled), ErrDamaged)
	}
	return sc.window[i : i+n], nil
}

// fill reads the window at offset at.
func (sc *scanner) fill(at int64) error {
	want := min(int64(len(sc.window)), sc.size-at)
	sc.start, sc.filled = at, 0
	if want <= 0 {
		return nil
	}
	n, err := sc.file.ReadAt(sc.window[:want], at)
	sc.filled = n
	if err != nil && !errors.Is(err, io.EOF) && n == 0 {
		return fmt.Errorf("read at %d: %w: %w", at, ErrDamaged, err)
	}
	return nil
}

// blank reports whether nothing but zeros stands from offset at on.
func (sc *scanner) blank(at int64) bool {
	zeros := true
	err := sc.each(at, sc.size-at, func(b []byte) {
		zeros = zeros && len(bytes.TrimLeft(b, "\x00")) == 0
	})
	return err == nil && zeros
}

// next returns the offset of the next record header at or behind at, or the end.
func (sc *scanner) next(at int64) int64 {
	for at+recordHeaderLen <= sc.size {
		if err := sc.fill(at); err != nil {
			at += scanSkip
			continue
		}
		b := sc.window[:sc.filled]
		for {
			i := bytes.Index(b, []byte(recordMagic))
			if i < 0 || i+recordHeaderLen > len(b) {
				break
			}
			here := sc.start + int64(sc.filled-len(b)+i)
			h, err := parseRecordHead(b[i:], &sc.salt, here)
			if (err == nil || errors.Is(err, ErrNewer)) && h.stored <= sc.size-here {
				return here
			}
			b = b[i+1:]
		}
		if sc.filled < recordHeaderLen { // the file is shorter than it said
			break
		}
		at = sc.start + int64(sc.filled) - recordHeaderLen + 1
	}
	return sc.size
}
