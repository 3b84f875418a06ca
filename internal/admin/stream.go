package admin

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Messages travel between the command line, which reads and writes people's
// files, and the rooms, which may be in a sandboxed server, as a stream: for each
// message the length of its facts in four octets (big-endian), the facts in JSON,
// then blocks of octets, each behind its length, and a block of length zero. Facts
// of length zero end the stream, so that one broken off is never taken for a whole.

// Facts are what a stream tells of a message beside its octets.
type Facts struct {
	Mailbox  string    `json:"mailbox"`
	UniqueID string    `json:"unique_id,omitempty"`
	Source   string    `json:"source,omitempty"` // file's name, number: tells apart equal messages without unique-id
	Flags    uint32    `json:"flags,omitempty"`  // as mailbox.Flags
	Received time.Time `json:"received"`
}

// Limits of a stream, in octets.
const (
	maxFacts = 64 << 10 // the longest path of a file fits, each octet escaped
	maxBlock = 64 << 10
)

var errStream = errors.New("malformed stream of messages")

// StreamWriter writes a stream. Not for concurrent use.
type StreamWriter struct {
	w     io.Writer
	block []byte // a length and what it is the length of
}

// NewStreamWriter begins a stream.
func NewStreamWriter(w io.Writer) *StreamWriter {
	return &StreamWriter{w: w, block: make([]byte, 4+maxBlock)}
}

// End ends the stream.
func (s *StreamWriter) End() error { return s.send(0) }

// Write adds a message whose octets msg gives.
func (s *StreamWriter) Write(f Facts, msg io.Reader) error {
	text, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("write facts: %w", err)
	}
	if len(text) > maxFacts {
		return fmt.Errorf("write facts: mailbox and file names are longer than %d octets", maxFacts)
	}
	if err := s.send(copy(s.block[4:], text)); err != nil {
		return err
	}
	for {
		n, err := io.ReadFull(msg, s.block[4:])
		if n > 0 {
			if err := s.send(n); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return s.send(0)
		}
		if err != nil {
			return fmt.Errorf("read message: %w", err)
		}
	}
}

// send writes the first n octets of the block behind their length.
func (s *StreamWriter) send(n int) error {
	binary.BigEndian.PutUint32(s.block, uint32(n))
	if _, err := s.w.Write(s.block[:4+n]); err != nil {
		return fmt.Errorf("write stream: %w", err)
	}
	return nil
}

// StreamReader reads a stream. Not for concurrent use.
type StreamReader struct {
	r     io.Reader
	left  int64 // octets left of the block
	done  bool  // the message's last block was read
	open  bool  // a message is being read
	ended bool
}

// NewStreamReader reads from r, perhaps beyond the stream's end.
func NewStreamReader(r io.Reader) *StreamReader {
	return &StreamReader{r: bufio.NewReaderSize(r, maxBlock)}
}

// Next goes to the next message and returns its facts; io.EOF at the stream's
// end. What is left of the message before is skipped. The octets are read with Read.
func (s *StreamReader) Next() (Facts, error) {
	if s.open {
		if _, err := io.Copy(io.Discard, s); err != nil {
			return Facts{}, err
		}
	}
	if s.ended {
		return Facts{}, io.EOF
	}
	n, err := s.length(maxFacts)
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: it ends early", errStream)
	}
	if err != nil {
		return Facts{}, err
	}
	if n == 0 {
		s.ended = true
		return Facts{}, io.EOF
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(s.r, text); err != nil {
		return Facts{}, fmt.Errorf("%w: it ends early", errStream)
	}
	var f Facts
	if err := json.Unmarshal(text, &f); err != nil {
		return Facts{}, fmt.Errorf("%w: %w", errStream, err)
	}
	s.open, s.done, s.left = true, false, 0
	return f, nil
}

// Read reads the octets of the message; io.EOF at its end. A stream that ends
// before is an error, so that half a message is never taken for a whole one.
func (s *StreamReader) Read(b []byte) (int, error) {
	if s.done || !s.open {
		return 0, io.EOF
	}
	if s.left == 0 {
		n, err := s.length(maxBlock)
		if err != nil {
			return 0, fmt.Errorf("%w: it ends early", errStream)
		}
		if n == 0 {
			s.done, s.open = true, false
			return 0, io.EOF
		}
		s.left = n
	}
	n, err := s.r.Read(b[:min(int64(len(b)), s.left)])
	s.left -= int64(n)
	if errors.Is(err, io.EOF) && s.left > 0 {
		err = fmt.Errorf("%w: it ends early", errStream)
	} else if errors.Is(err, io.EOF) {
		err = nil // the next block's length will tell
	}
	return n, err
}

// length reads a length of at most limit; io.EOF only where nothing at all follows.
func (s *StreamReader) length(limit int64) (int64, error) {
	var b [4]byte
	if _, err := io.ReadFull(s.r, b[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("%w: it ends early", errStream)
		}
		return 0, err
	}
	n := int64(binary.BigEndian.Uint32(b[:]))
	if n > limit {
		return 0, fmt.Errorf("%w: a block of %d octets", errStream, n)
	}
	return n, nil
}
