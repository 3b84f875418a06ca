package attachment

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
)

// xzReader unpacks .xz files of one or more streams with the filter LZMA2 alone, as xz writes
// them without special options. Check sums are passed over: a mail program shows broken
// content too.
type xzReader struct {
	r     *counted
	lzma  *lzma
	err   error
	check int // octets of a block's check
	block bool
	chunk int  // octets left of an LZMA2 chunk
	raw   bool // the chunk is not compressed
	props bool // props were set since the block's start
}

// counted is a reader that knows its place.
type counted struct {
	*bufio.Reader
	n int64
}

func (c *counted) ReadByte() (byte, error) {
	b, err := c.Reader.ReadByte()
	if err == nil {
		c.n++
	}
	return b, err
}

// full reads exactly n octets, n <= 1024.
func (c *counted) full(n int) ([]byte, error) {
	b := make([]byte, n)
	m, err := io.ReadFull(c.Reader, b)
	c.n += int64(m)
	return b, err
}

var errXZ = errors.New("its xz data is broken")

// newXZ unpacks r with a window of at most window octets.
func newXZ(r io.Reader, window int) io.Reader {
	x := &xzReader{r: &counted{Reader: bufio.NewReaderSize(r, 4<<10)}}
	x.lzma = &lzma{in: x.r, max: window}
	if x.err = x.header(); window <= 0 {
		x.err = errWindow
	}
	return x
}

func (x *xzReader) Read(p []byte) (int, error) {
	for x.err == nil {
		switch {
		case len(p) == 0:
			return 0, nil
		case !x.block:
			x.err = x.blockHeader()
		case x.chunk == 0:
			x.err = x.chunkHeader()
		default:
			n, err := x.octets(p[:min(len(p), x.chunk)])
			x.chunk -= n
			if err != nil {
				x.err = cutOff(err)
			}
			if n > 0 {
				return n, nil
			}
		}
	}
	return 0, x.err
}

func (x *xzReader) octets(p []byte) (int, error) {
	if !x.raw {
		return x.lzma.decode(p)
	}
	n, err := x.r.Reader.Read(p)
	x.r.n += int64(n)
	for _, b := range p[:n] {
		x.lzma.put(b)
	}
	return n, err
}

// header reads a stream's header.
func (x *xzReader) header() error {
	h, err := x.r.full(12)
	if err != nil {
		return cutOff(err)
	}
	if string(h[:6]) != "\xfd7zXZ\x00" || h[6] != 0 {
		return errXZ
	}
	x.check = [16]int{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}[h[7]&15]
	return nil
}

// blockHeader reads a block's header, or the index and what follows the stream.
func (x *xzReader) blockHeader() error {
	size, err := x.r.ReadByte()
	if err != nil {
		return cutOff(err)
	}
	if size == 0 {
		return x.index()
	}
	h, err := x.r.full((int(size)+1)*4 - 1)
	if err != nil {
		return cutOff(err)
	}
	flags, b := h[0], h[1:]
	for range flags>>6&1 + flags>>7 {
		if _, b = vint(b); b == nil {
			return errXZ
		}
	}
	if flags&3 != 0 || len(b) < 3 || b[0] != 0x21 || b[1] != 1 {
		return errMethod
	}
	x.block, x.props = true, false
	return nil
}

// vint reads a number of variable length; rest is nil when there is none.
func vint(b []byte) (v uint64, rest []byte) {
	for i := 0; i < len(b) && i < 9; i++ {
		v |= uint64(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return v, b[i+1:]
		}
	}
	return 0, nil
}

// index passes over a stream's end, up to the next stream or the end.
func (x *xzReader) index() error {
	start := x.r.n - 1
	number := func() (v uint64, err error) {
		for i := range 9 {
			b, err := x.r.ReadByte()
			if err != nil {
				return 0, cutOff(err)
			}
			v |= uint64(b&0x7f) << (7 * i)
			if b < 0x80 {
				return v, nil
			}
		}
		return 0, errXZ
	}
	n, err := number()
	for i := uint64(0); i < 2*n && err == nil; i++ {
		_, err = number()
	}
	if err != nil {
		return err
	}
	if err := x.pad(start); err != nil {
		return err
	}
	if _, err := x.r.full(4 + 12); err != nil {
		return cutOff(err)
	}
	for {
		b, err := x.r.Peek(4)
		if len(b) < 4 {
			if endOf(err) {
				return io.EOF
			}
			return err
		}
		if binary.LittleEndian.Uint32(b) != 0 {
			return x.header()
		}
		if _, err := x.r.full(4); err != nil {
			return err
		}
	}
}

// pad passes over zeros up to a multiple of four octets from start.
func (x *xzReader) pad(start int64) error {
	_, err := x.r.full(int(-(x.r.n - start) & 3))
	return err
}

// chunkHeader reads the header of an LZMA2 chunk, or a block's end.
func (x *xzReader) chunkHeader() error {
	control, err := x.r.ReadByte()
	if err != nil {
		return cutOff(err)
	}
	if control == 0 {
		x.block = false
		if err := x.pad(0); err != nil {
			return cutOff(err)
		}
		_, err := x.r.full(x.check)
		return err
	}
	if control == 1 || control >= 0xe0 {
		x.lzma.pos, x.lzma.have, x.lzma.dict = 0, 0, x.lzma.dict[:0]
	}
	h, err := x.r.full(2)
	if err != nil {
		return cutOff(err)
	}
	x.chunk = int(binary.BigEndian.Uint16(h)) + 1
	if control < 0x80 {
		x.raw = true
		if control > 2 {
			return errXZ
		}
		return nil
	}
	x.raw = false
	x.chunk += int(control&0x1f) << 16
	return x.chunkState(control >> 5 & 3)
}

// chunkState reads the rest of a compressed chunk's header: reset says what begins anew.
func (x *xzReader) chunkState(reset byte) error {
	if _, err := x.r.full(2); err != nil { // the packed size, which the data shows too
		return cutOff(err)
	}
	if reset >= 2 {
		b, err := x.r.ReadByte()
		if err != nil {
			return cutOff(err)
		}
		if err := x.lzma.setProps(b); err != nil {
			return err
		}
		x.props = true
	} else if !x.props {
		return errXZ
	} else if reset == 1 {
		x.lzma.resetState()
	}
	x.lzma.left, x.lzma.ended = 0, false
	return x.lzma.start()
}
