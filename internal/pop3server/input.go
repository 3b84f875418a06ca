package pop3server

import (
	"bytes"
	"errors"
	"io"
	"sync"
)

// Errors of input.line besides those of the connection.
var (
	errLine  = errors.New("line is too long")
	errNoise = errors.New("peer sends no line ends")
)

// maxNoise is how many octets of one over-long line are skipped before the
// session is ended.
const maxNoise = 64 << 10

// input splits what the peer sends into lines. Idle it holds 512 octets; when a
// peer pipelines more, it borrows a buffer until that is used up.
type input struct {
	pool   *sync.Pool
	small  [512]byte
	large  *buffer
	r, w   int
	octets int64
}

func (in *input) bytes() []byte {
	if in.large != nil {
		return in.large[:]
	}
	return in.small[:]
}

// empty reports whether nothing is buffered.
func (in *input) empty() bool { return in.r == in.w }

// hasLine reports whether a whole line is buffered.
func (in *input) hasLine() bool { return bytes.IndexByte(in.bytes()[in.r:in.w], '\n') >= 0 }

// line returns the next line without its line end, valid until the next call.
// A line of more than limit octets is skipped and is errLine. RFC 1939 §3 ends
// commands by CRLF; LF alone is taken too, as scripts and devices send it, and
// nothing but a command can be ended that way here.
func (in *input) line(src io.Reader, limit int) ([]byte, error) {
	scanned := 0
	for {
		b := in.bytes()
		if i := bytes.IndexByte(b[in.r+scanned:in.w], '\n'); i >= 0 {
			line := b[in.r : in.r+scanned+i]
			in.r += scanned + i + 1
			line = bytes.TrimSuffix(line, []byte{'\r'})
			if len(line) > limit {
				return nil, errLine
			}
			return line, nil
		}
		scanned = in.w - in.r
		if scanned > limit+1 {
			return nil, in.skip(src, scanned)
		}
		in.makeRoom()
		if err := in.read(src); err != nil {
			return nil, err
		}
	}
}

// skip drops the rest of a line of which n octets have come.
func (in *input) skip(src io.Reader, n int) error {
	for n <= maxNoise {
		in.r, in.w = 0, 0
		if err := in.read(src); err != nil {
			return err
		}
		if i := bytes.IndexByte(in.bytes()[:in.w], '\n'); i >= 0 {
			in.r = i + 1
			return errLine
		}
		n += in.w
	}
	return errNoise
}

// makeRoom lets at least one octet be read.
func (in *input) makeRoom() {
	b := in.bytes()
	if in.r > 0 {
		in.w = copy(b, b[in.r:in.w])
		in.r = 0
	}
	if in.w < len(b) {
		return
	}
	if in.large == nil {
		in.large = in.pool.Get().(*buffer)
		copy(in.large[:], in.small[:in.w])
	}
}

func (in *input) read(src io.Reader) error {
	b := in.bytes()
	for range 100 {
		n, err := src.Read(b[in.w:])
		in.w += n
		in.octets += int64(n)
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// release gives a borrowed buffer back when nothing is in it.
func (in *input) release() {
	if in.r < in.w {
		return
	}
	in.r, in.w = 0, 0
	if in.large != nil {
		in.pool.Put(in.large)
		in.large = nil
	}
}

// forget drops and clears everything buffered.
func (in *input) forget() {
	clear(in.bytes()[:in.w])
	in.r = in.w
	in.release()
}
