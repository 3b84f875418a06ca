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

// staging is how a store takes messages.
type staging struct {
	mem    *memory
	modest int64 // octets in memory that a message may have while less than half of the budget is free
	small  int64 // most octets in memory
	limit  int64 // most octets at all
	spill  func() (overflow, error)
}

// buffer lends memory for n octets of a message, or returns ErrBudget.
func (s *staging) buffer(n int64) (*buffer, error) {
	if n <= s.modest {
		return s.mem.get(n)
	}
	return s.mem.getMore(n)
}

// staged is a message on its way in, for both stores: in a buffer while it is
// short and memory is free, then in an overflow.
type staged struct {
	staging

	buf     *buffer
	over    overflow
	octets  int64
	sum     hash.Hash
	digest  [32]byte // of all octets, once it was asked for
	summed  bool
	dots    bool
	midLine bool
	failed  error // of an earlier Write
	used    bool
}

// newStaged begins a message of about hint octets.
func newStaged(how staging, hint int64) (*staged, error) {
	s := &staged{staging: how, sum: sha256.New()}
	if hint > s.limit {
		return nil, fmt.Errorf("stage %d octets, at most %d: %w", hint, s.limit, ErrTooLarge)
	}
	var err error
	if hint > s.small {
		s.over, err = s.spill()
	} else if s.buf, err = s.buffer(max(hint, 1)); err != nil && hint > s.modest {
		s.buf, err = s.buffer(s.modest) // what is announced may never come
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
	s.summed = false
	s.sum.Write(p)
	s.lookForDots(p)
	return len(p), nil
}

func (s *staged) write(p []byte) error {
	end := s.octets + int64(len(p))
	if end > s.limit {
		return fmt.Errorf("stage more than %d octets: %w", s.limit, ErrTooLarge)
	}
	if s.over == nil {
		if err := s.makeRoom(end); err != nil {
			return err
		}
	}
	if s.over != nil {
		_, err := s.over.Write(p)
		return err
	}
	copy(s.buf.b[s.octets:], p)
	return nil
}

// makeRoom finds a place for a message of n octets: the buffer, a longer one, or an
// overflow.
func (s *staged) makeRoom(n int64) error {
	if n <= int64(len(s.buf.b)) && n <= s.small {
		return nil
	}
	if n > s.small {
		return s.moveToOverflow()
	}
	longer, err := s.buffer(n)
	if err != nil {
		return s.moveToOverflow()
	}
	copy(longer.b, s.buf.b[:s.octets])
	s.mem.put(s.buf)
	s.buf = longer
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
func (s *staged) SHA256() [32]byte {
	if !s.summed {
		s.sum.Sum(s.digest[:0])
		s.summed = true
	}
	return s.digest
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
