package mailbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"poczta.example/poczta/internal/message"
)

// maxHeaderOctets bounds the header section that a surrogate is made of; a
// message with more has none.
const maxHeaderOctets = 2 << 20

// OpenEntry returns the octets of an entry, prefix and record. ErrGone when it
// was purged.
func (s *Store) OpenEntry(ctx context.Context, e *Entry) (io.ReadCloser, error) {
	found, err := s.locate(ctx, e.Account, e.Number, e.UID, e.UID)
	if err != nil {
		return nil, err
	}
	return s.openLocated(ctx, &found[0])
}

// openLocated returns prefix and record of an entry.
func (s *Store) openLocated(ctx context.Context, l *located) (io.ReadCloser, error) {
	var r io.ReadCloser
	var err error
	if s.openAt != nil {
		r, err = s.openAt.OpenAt(ctx, l.body, l.loc, 0, -1)
	} else {
		r, err = s.cfg.Body.Open(ctx, l.body, 0, -1)
	}
	if err != nil {
		return nil, fmt.Errorf("open body %s: %w", l.body, err)
	}
	if len(l.prefix) == 0 {
		return r, nil
	}
	return &joined{head: l.prefix, rest: r}, nil
}

// joined is some octets in memory and then a body.
type joined struct {
	head []byte
	rest io.ReadCloser
}

// Read implements io.Reader. One call may fill p from both parts.
func (j *joined) Read(p []byte) (int, error) {
	n := copy(p, j.head)
	j.head = j.head[n:]
	if n == len(p) {
		return n, nil
	}
	m, err := j.rest.Read(p[n:])
	return n + m, err
}

// Close implements io.Closer.
func (j *joined) Close() error { return j.rest.Close() }

// openSurrogate returns the surrogate of an entry that needs one (RFC 6856 §2).
func (s *Store) openSurrogate(ctx context.Context, l *located) (io.ReadCloser, error) {
	r, err := s.openLocated(ctx, l)
	if err != nil {
		return nil, err
	}
	buf, n, err := readHeader(r, nil)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read header section of body %s: %w", l.body, err), r.Close())
	}
	head := append(bytes.Clone(s.cfg.Downgrade(buf[:n])), buf[n:]...)
	if got := int64(len(head)-len(buf)) + l.octets; got != l.surrogate {
		s.cfg.Logger.Warn("surrogate differs from its stored size", "id", l.body.String(), "octets", got, "stored", l.surrogate)
	}
	return &joined{head: head, rest: r}, nil
}

// readHeader appends to buf from r until the header section is whole; n is its
// length, zero when the message has none or it is over maxHeaderOctets.
func readHeader(r io.Reader, buf []byte) (all []byte, n int, err error) {
	from := 0
	for {
		var complete bool
		if n, complete = message.HeaderLen(buf, from); complete {
			return buf, n, nil
		}
		if len(buf) > maxHeaderOctets {
			return buf, 0, nil
		}
		from = len(buf)
		buf = append(buf, make([]byte, 4096)...)
		got, err := io.ReadAtLeast(r, buf[from:], 1)
		buf = buf[:from+got]
		if errors.Is(err, io.EOF) {
			return buf, len(buf), nil
		}
		if err != nil {
			return nil, 0, err
		}
	}
}

// SurrogateOctets returns what Copy.Surrogate wants for a message whose header
// section, prefix included, holds UTF-8: the size of the whole surrogate. prefix
// and head stand before the staged octets. It returns 0 when none is needed.
func (s *Store) SurrogateOctets(prefix, head []byte, staged io.ReaderAt, octets int64) (int64, error) {
	start := append(bytes.Clone(prefix), head...)
	whole := int64(len(start)) + octets
	buf, n, err := readHeader(io.NewSectionReader(staged, 0, octets), start)
	if err != nil {
		return 0, fmt.Errorf("read header section: %w", err)
	}
	if !message.NeedsUTF8(buf[:n]) {
		return 0, nil
	}
	return whole + int64(len(s.cfg.Downgrade(buf[:n]))-n), nil
}
