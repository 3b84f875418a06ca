package body

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
)

// errUsed is returned for a staging that was committed or discarded.
var errUsed = errors.New("staged message was committed or discarded already")

// overflow takes the octets of a message that is too long for memory.
type overflow interface {
	io.Writer
	io.ReaderAt
	// discard gives back what was taken, unless it was committed.
	discard()
}

// staged is a message on its way in, for both stores: in a buffer while it is
// short, then in an overflow.
type staged struct {
	mem     *memory
	small   int64 // most octets in memory
	limit   int64 // most octets at all
	spill   func() (overflow, error)
	buf     *buffer
	over    overflow
	octets  int64
	sum     hash.Hash
	dots    bool
	midLine bool
	failed  error // of an earlier Write
	used    bool
}

// newStaged begins a message of about hint octets.
func newStaged(mem *memory, small, limit, hint int64, spill func() (overflow, error)) (*staged, error) {
	s := &staged{mem: mem, small: small, limit: limit, spill: spill, sum: sha256.New()}
	if hint > limit {
		return nil, fmt.Errorf("stage %d octets, at most %d: %w", hint, limit, ErrTooLarge)
	}
	var err error
	if hint > small {
		s.over, err = spill()
	} else {
		s.buf, err = mem.get(max(hint, 1))
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Write implements Staged. After an error the message can only be discarded.
func (s *staged) Write(p []byte) (int, error) {
	if s.used {
		return 0, errUsed
	}
	if s.failed == nil {
		s.failed = s.write(p)
	}
	if s.failed != nil {
		return 0, s.failed
	}
	s.octets += int64(len(p))
	s.sum.Write(p)
	s.lookForDots(p)
	return len(p), nil
}

func (s *staged) write(p []byte) error {
	end := s.octets + int64(len(p))
	if end > s.limit {
		return fmt.Errorf("stage more than %d octets: %w", s.limit, ErrTooLarge)
	}
	if s.over == nil && end > s.small {
		if err := s.moveToOverflow(); err != nil {
			return err
		}
	}
	if s.over != nil {
		_, err := s.over.Write(p)
		return err
	}
	if end > int64(len(s.buf.b)) {
		longer, err := s.mem.get(end)
		if err != nil {
			return err
		}
		copy(longer.b, s.buf.b[:s.octets])
		s.mem.put(s.buf)
		s.buf = longer
	}
	copy(s.buf.b[s.octets:], p)
	return nil
}

// moveToOverflow writes what the buffer holds to a new overflow and gives the
// buffer back.
func (s *staged) moveToOverflow() error {
	over, err := s.spill()
	if err != nil {
		return err
	}
	s.over = over
	if _, err := over.Write(s.buf.b[:s.octets]); err != nil {
		return err
	}
	s.mem.put(s.buf)
	s.buf = nil
	return nil
}

// lookForDots notes whether a line begins with a dot.
func (s *staged) lookForDots(p []byte) {
	if s.dots || len(p) == 0 {
		return
	}
	s.dots = !s.midLine && p[0] == '.' || bytes.Contains(p, []byte("\n."))
	s.midLine = p[len(p)-1] != '\n'
}

// Octets implements Staged.
func (s *staged) Octets() int64 { return s.octets }

// SHA256 implements Staged.
func (s *staged) SHA256() (sum [32]byte) {
	s.sum.Sum(sum[:0])
	return sum
}

// ReadAt implements Staged.
func (s *staged) ReadAt(p []byte, off int64) (int, error) {
	if s.buf == nil && s.over == nil {
		return 0, errUsed
	}
	if off < 0 || off >= s.octets {
		return 0, io.EOF
	}
	short := int64(len(p)) > s.octets-off
	if short {
		p = p[:s.octets-off]
	}
	n := 0
	var err error
	if s.over != nil {
		n, err = s.over.ReadAt(p, off)
		if n == len(p) {
			err = nil
		}
	} else {
		n = copy(p, s.buf.b[off:])
	}
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

// Discard implements Staged.
func (s *staged) Discard() {
	s.used = true
	s.mem.put(s.buf)
	s.buf = nil
	if s.over != nil {
		s.over.discard()
		s.over = nil
	}
}

// stagedFor returns the staging of a record if it can be committed to the store
// that owns mem.
func stagedFor(rec *Record, mem *memory) (*staged, error) {
	s, ok := rec.Staged.(*staged)
	switch {
	case !ok || s.mem != mem:
		return nil, fmt.Errorf("commit body %s: it was staged in another store", rec.ID)
	case s.used:
		return nil, fmt.Errorf("commit body %s: %w", rec.ID, errUsed)
	case s.failed != nil:
		return nil, fmt.Errorf("commit body %s: its staging failed: %w", rec.ID, s.failed)
	case rec.ID.IsZero():
		return nil, errors.New("commit body: the message id is zero")
	case int64(len(rec.Head)) > MaxHeadOctets:
		return nil, fmt.Errorf("commit body %s: head of %d octets, at most %d: %w", rec.ID, len(rec.Head), MaxHeadOctets, ErrTooLarge)
	}
	return s, nil
}
