package body

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"poczta.example/poczta/internal/message"
)

const (
	// wholeRead is the longest record that is read, and so verified, at once.
	wholeRead = 64 << 10
	// copyBuffer is how much of a longer record one read takes.
	copyBuffer = 128 << 10
	// maxMoves is how often OpenAt follows a body that merges move away.
	maxMoves = 3
)

// readBuffers and copyBuffers lend the memory of reads.
var (
	readBuffers = sync.Pool{New: func() any { return new([wholeRead]byte) }}
	copyBuffers = sync.Pool{New: func() any { return new([copyBuffer]byte) }}
)

// Open implements Store.
func (s *Segments) Open(ctx context.Context, id message.ID, from, n int64) (io.ReadCloser, error) {
	loc, err := s.config.Locate(ctx, id)
	if err != nil {
		return nil, err
	}
	return s.OpenAt(ctx, id, loc, from, n)
}

// OpenAt implements OpenerAt. Records up to 64 KiB are verified before it returns;
// longer ones while they are read to their end from the beginning: then the last
// Read returns ErrDamaged in place of io.EOF. The reader also is an io.WriterTo.
func (s *Segments) OpenAt(ctx context.Context, id message.ID, loc Location, from, n int64) (io.ReadCloser, error) {
	for range maxMoves {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		r, err := s.openAt(id, loc, from, n)
		if !errors.Is(err, fs.ErrNotExist) {
			return r, err
		}
		now, err := s.config.Locate(ctx, id)
		if err != nil {
			return nil, err
		}
		if now.Segment == loc.Segment {
			break
		}
		loc = now
	}
	return nil, fmt.Errorf("open body %s: segment %s is missing: %w", id, loc.Segment, ErrDamaged)
}

// openAt opens a body where loc says; fs.ErrNotExist when the segment is gone.
func (s *Segments) openAt(id message.ID, loc Location, from, n int64) (io.ReadCloser, error) {
	if from < 0 || loc.Offset < segmentHeader || loc.Stored < recordHeaderLen+recordTrailer || loc.Octets < 0 {
		return nil, fmt.Errorf("open body %s: impossible place: %w", id, ErrDamaged)
	}
	h, err := s.files.acquire(loc.Segment)
	if err != nil {
		return nil, fmt.Errorf("open body %s: %w", id, err)
	}
	end := loc.Octets
	if n >= 0 && n < loc.Octets-min(from, loc.Octets) {
		end = from + n
	}
	from = min(from, end)
	var r io.ReadCloser
	if loc.Stored <= wholeRead {
		r, err = readWhole(h, id, loc, from, end)
		s.files.release(h)
	} else {
		r, err = s.readLong(h, id, loc, from, end)
		if err != nil {
			s.files.release(h)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open body %s in segment %s: %w", id, loc.Segment, err)
	}
	return r, nil
}

// readFull reads len(p) octets at off; an error wraps ErrDamaged.
func readFull(f io.ReaderAt, p []byte, off int64) error {
	n, err := f.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("segment ends at %d: %w", off+int64(n), ErrDamaged)
	}
	return fmt.Errorf("read at %d: %w: %w", off, ErrDamaged, err)
}

// checkHead parses the record header b at loc and compares it with loc.
func checkHead(b []byte, id message.ID, loc Location) (recordHead, error) {
	var own salt
	if len(b) >= 24 {
		copy(own[:], b[8:24]) // the id and the lengths identify it well enough
	}
	h, err := parseRecordHead(b, &own, loc.Offset)
	if err != nil {
		return h, err
	}
	if h.kind != kindBody || h.id != id || h.stored != loc.Stored || h.octets != loc.Octets {
		return h, fmt.Errorf("record at %d is another: %w", loc.Offset, ErrDamaged)
	}
	return h, nil
}

// readWhole reads and verifies a short record.
func readWhole(f io.ReaderAt, id message.ID, loc Location, from, end int64) (io.ReadCloser, error) {
	buf := readBuffers.Get().(*[wholeRead]byte)
	b := buf[:loc.Stored]
	h, err := verifyWhole(f, b, id, loc)
	if err != nil {
		readBuffers.Put(buf)
		return nil, err
	}
	start := recordHeaderLen + h.meta
	return &wholeReader{buf: buf, b: b[start+from : start+end]}, nil
}

// verifyWhole fills b with the record at loc and verifies its sum.
func verifyWhole(f io.ReaderAt, b []byte, id message.ID, loc Location) (recordHead, error) {
	if err := readFull(f, b, loc.Offset); err != nil {
		return recordHead{}, err
	}
	h, err := checkHead(b, id, loc)
	if err != nil {
		return h, err
	}
	body, trailer := b[recordHeaderLen:len(b)-recordTrailer], b[len(b)-recordTrailer:]
	if binary.BigEndian.Uint32(trailer) != recordSum(updateCRC(0, body), b) {
		return h, fmt.Errorf("record at %d has a wrong checksum: %w", loc.Offset, ErrDamaged)
	}
	return h, nil
}

// wholeReader reads from a verified record in memory.
type wholeReader struct {
	buf *[wholeRead]byte
	b   []byte
}

// Read implements io.Reader.
func (r *wholeReader) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.b)
	r.b = r.b[n:]
	return n, nil
}

// WriteTo implements io.WriterTo.
func (r *wholeReader) WriteTo(w io.Writer) (int64, error) {
	if len(r.b) == 0 {
		return 0, nil
	}
	n, err := w.Write(r.b)
	r.b = r.b[n:]
	return int64(n), err
}

// Close implements io.Closer.
func (r *wholeReader) Close() error {
	if r.buf != nil {
		readBuffers.Put(r.buf)
		r.buf, r.b = nil, nil
	}
	return nil
}

// readLong opens a long record for reading in pieces.
func (s *Segments) readLong(f *handle, id message.ID, loc Location, from, end int64) (io.ReadCloser, error) {
	r := &longReader{s: s, f: f}
	if err := readFull(f, r.head[:], loc.Offset); err != nil {
		return nil, err
	}
	h, err := checkHead(r.head[:], id, loc)
	if err != nil {
		return nil, err
	}
	start := loc.Offset + recordHeaderLen + h.meta
	r.at, r.end = start+from, start+end
	if from == 0 && end == loc.Octets {
		r.verify = true
		if err := r.sumMeta(loc.Offset+recordHeaderLen, start); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// longReader reads a record from its segment in pieces. Not for concurrent use.
type longReader struct {
	s       *Segments
	f       *handle // nil after Close
	at, end int64   // offsets in the segment
	verify  bool    // the whole record is read: its sum is compared at the end
	sum     uint32
	head    [recordHeaderLen]byte
	ended   error // what Read returns at the end, once known
}

// sumMeta starts the sum with the metadata that lies in [at, end).
func (r *longReader) sumMeta(at, end int64) error {
	buf := copyBuffers.Get().(*[copyBuffer]byte)
	defer copyBuffers.Put(buf)
	for at < end {
		p := buf[:min(end-at, copyBuffer)]
		if err := readFull(r.f, p, at); err != nil {
			return err
		}
		r.sum = updateCRC(r.sum, p)
		at += int64(len(p))
	}
	return nil
}

// Read implements io.Reader.
func (r *longReader) Read(p []byte) (int, error) {
	if r.f == nil {
		return 0, fs.ErrClosed
	}
	if r.at == r.end {
		return 0, r.atEnd()
	}
	p = p[:min(int64(len(p)), r.end-r.at)]
	if err := readFull(r.f, p, r.at); err != nil {
		return 0, fmt.Errorf("read segment %s: %w", r.f.name, err)
	}
	r.at += int64(len(p))
	if r.verify {
		r.sum = updateCRC(r.sum, p)
	}
	return len(p), nil
}

// atEnd returns io.EOF, or ErrDamaged if the sum of the record is wrong.
func (r *longReader) atEnd() error {
	if r.ended == nil {
		r.ended = io.EOF
		if r.verify {
			if err := r.compare(); err != nil {
				r.ended = fmt.Errorf("read segment %s: %w", r.f.name, err)
			}
		}
	}
	return r.ended
}

// compare reads the sum behind the octets and compares it.
func (r *longReader) compare() error {
	var trailer [recordTrailer]byte
	if err := readFull(r.f, trailer[:], r.end); err != nil {
		return err
	}
	if binary.BigEndian.Uint32(trailer[:]) != recordSum(r.sum, r.head[:]) {
		return fmt.Errorf("record that ends at %d has a wrong checksum: %w", r.end, ErrDamaged)
	}
	return nil
}

// WriteTo implements io.WriterTo.
func (r *longReader) WriteTo(w io.Writer) (int64, error) {
	buf := copyBuffers.Get().(*[copyBuffer]byte)
	defer copyBuffers.Put(buf)
	var written int64
	for {
		n, err := r.Read(buf[:])
		if errors.Is(err, io.EOF) {
			return written, nil
		}
		if err != nil {
			return written, err
		}
		n, err = w.Write(buf[:n])
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
}

// Close implements io.Closer.
func (r *longReader) Close() error {
	if r.f != nil {
		r.s.files.release(r.f)
		r.f = nil
	}
	return nil
}
