package backup

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
)

// Stored is an item of a snapshot.
type Stored struct {
	Key    []byte
	Data   []byte
	Octets int64             // of what Open reads
	Has    bool              // it has octets to be read
	Lost   bool              // its source could not read them
	SHA256 [sha256.Size]byte // of the octets

	r      *Repository
	pieces []ID
}

// Items calls fn for each item of a section with from <= Key < to, in order of Key;
// nil bounds nothing. A section that the snapshot does not have holds nothing. ErrDamaged
// when the repository is; Verify tells what is affected.
func (r *Repository) Items(ctx context.Context, s *Snapshot, name string, from, to []byte, fn func(Stored) error) error {
	sec := s.section(name)
	if sec == nil {
		return nil
	}
	err := newSectionReader(r, *sec, from).walk(ctx, from, to, func(key, value []byte) error {
		it, err := r.stored(key, value)
		if err != nil {
			return err
		}
		return fn(it)
	})
	if err != nil {
		return fmt.Errorf("read %s of backup %s: %w", name, s.ID, err)
	}
	return nil
}

func (r *Repository) stored(key, octets []byte) (Stored, error) {
	v, err := decodeValue(octets)
	if err != nil {
		return Stored{}, err
	}
	return Stored{Key: key, Data: v.data, Octets: v.octets, Has: v.has, Lost: v.damaged, SHA256: v.sum, r: r, pieces: v.pieces}, nil
}

// Item returns one item; ErrNotFound.
func (r *Repository) Item(ctx context.Context, s *Snapshot, name string, key []byte) (Stored, error) {
	var out Stored
	found := false
	err := r.Items(ctx, s, name, key, append(key[:len(key):len(key)], 0), func(it Stored) error {
		out, found = it, true
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("item %x of %s in backup %s: %w", key, name, s.ID, ErrNotFound)
	}
	return out, err
}

// Open reads the octets. Each piece is checked before it is given out; the last Read
// returns ErrDamaged in place of io.EOF when the whole is not what it was. Use it by
// the goroutine that uses the Repository.
func (s *Stored) Open(ctx context.Context) (io.Reader, error) {
	if !s.Has {
		return nil, fmt.Errorf("item %x has no octets: %w", s.Key, ErrNotFound)
	}
	if s.Lost {
		return nil, fmt.Errorf("item %x could not be read when the backup was made: %w", s.Key, ErrDamaged)
	}
	return &pieceReader{ctx: ctx, s: s, pieces: s.pieces, sum: sha256.New()}, nil
}

// pieceReader reads an item piece by piece. It keeps the context of Open, as io.Reader
// has no place for one.
type pieceReader struct {
	ctx    context.Context
	s      *Stored
	pieces []ID
	part   []byte
	octets int64
	sum    interface {
		io.Writer
		Sum([]byte) []byte
	}
}

// Read implements io.Reader.
func (p *pieceReader) Read(b []byte) (int, error) {
	for len(p.part) == 0 {
		if len(p.pieces) == 0 {
			return 0, p.end()
		}
		part, err := p.s.r.chunk(p.ctx, p.pieces[0])
		if err != nil {
			return 0, err
		}
		if err := p.s.r.wait(p.ctx, int64(len(part))); err != nil {
			return 0, err
		}
		p.part, p.pieces = part, p.pieces[1:]
		p.octets += int64(len(part))
		p.sum.Write(part)
	}
	n := copy(b, p.part)
	p.part = p.part[n:]
	return n, nil
}

func (p *pieceReader) end() error {
	if p.octets != p.s.Octets || [sha256.Size]byte(p.sum.Sum(nil)) != p.s.SHA256 {
		return fmt.Errorf("item %x: %w", p.s.Key, ErrDamaged)
	}
	return io.EOF
}
