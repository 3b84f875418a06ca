package attachment

import (
	"errors"
	"io"
)

// The LZMA decoder: as in the LZMA SDK's specification, with a window that grows as it fills, so
// that a header alone can't claim memory.

var (
	errLZMA   = errors.New("its LZMA data is broken")
	errWindow = errors.New("it needs more memory to unpack than is allowed")
)

const (
	lzmaStates    = 12
	lzmaProbInit  = 1 << 10
	lzmaMinMatch  = 2
	lzmaEndMarker = 1<<32 - 1
)

// lzmaLengths are the probabilities of match lengths.
type lzmaLengths struct {
	choice   [2]uint16
	low, mid [16][8]uint16
	high     [256]uint16
}

// lzma decodes a stream of LZMA; the fields of state are reset by LZMA2.
type lzma struct {
	in   io.ByteReader
	max  int // octets of the window at most
	dict []byte
	pos  int   // in dict, of the next octet
	have int64 // octets put in since the window was reset

	rng, code  uint32
	lc, lp, pb uint
	state      uint
	rep        [4]uint32
	left       int // octets of a match still to be copied
	ended      bool

	literal                          []uint16
	isMatch, isRep0Long              [lzmaStates][16]uint16
	isRep, isRepG0, isRepG1, isRepG2 [lzmaStates]uint16
	slot                             [4][64]uint16
	special                          [115]uint16
	align                            [16]uint16
	matchLen, repLen                 lzmaLengths
}

// setProps reads the octet of lc, lp and pb.
func (d *lzma) setProps(b byte) error {
	if b >= 9*5*5 {
		return errLZMA
	}
	d.lc, d.lp, d.pb = uint(b%9), uint(b/9%5), uint(b/45)
	if d.lc+d.lp > 4 && d.lp > 0 || d.lc > 8 {
		return errLZMA
	}
	d.literal = make([]uint16, 0x300<<(d.lc+d.lp))
	d.resetState()
	return nil
}

// resetState sets the probabilities and the last distances to their beginning.
func (d *lzma) resetState() {
	fill := func(p []uint16) {
		for i := range p {
			p[i] = lzmaProbInit
		}
	}
	fill(d.literal)
	for s := range lzmaStates {
		fill(d.isMatch[s][:])
		fill(d.isRep0Long[s][:])
	}
	for _, p := range []*[lzmaStates]uint16{&d.isRep, &d.isRepG0, &d.isRepG1, &d.isRepG2} {
		fill(p[:])
	}
	for i := range d.slot {
		fill(d.slot[i][:])
	}
	fill(d.special[:])
	fill(d.align[:])
	for _, l := range []*lzmaLengths{&d.matchLen, &d.repLen} {
		fill(l.choice[:])
		for i := range l.low {
			fill(l.low[i][:])
			fill(l.mid[i][:])
		}
		fill(l.high[:])
	}
	d.state, d.rep, d.left = 0, [4]uint32{}, 0
}

// start reads the range coder's first octets.
func (d *lzma) start() error {
	d.rng, d.code = 1<<32-1, 0
	for i := range 5 {
		b, err := d.in.ReadByte()
		if err != nil {
			return cutOff(err)
		}
		if i == 0 && b != 0 {
			return errLZMA
		}
		d.code = d.code<<8 | uint32(b)
	}
	return nil
}

// cutOff makes the end of input in the wrong place an error.
func cutOff(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// normalize reads an octet when the range has become small.
func (d *lzma) normalize() error {
	if d.rng < 1<<24 {
		b, err := d.in.ReadByte()
		if err != nil {
			return cutOff(err)
		}
		d.rng <<= 8
		d.code = d.code<<8 | uint32(b)
	}
	return nil
}

func (d *lzma) bit(p *uint16) (uint32, error) {
	bound := (d.rng >> 11) * uint32(*p)
	var b uint32
	if d.code < bound {
		*p += (1<<11 - *p) >> 5
		d.rng = bound
	} else {
		*p -= *p >> 5
		d.code -= bound
		d.rng -= bound
		b = 1
	}
	return b, d.normalize()
}

func (d *lzma) direct(n uint) (v uint32, err error) {
	for range n {
		d.rng >>= 1
		d.code -= d.rng
		t := 0 - d.code>>31
		d.code += d.rng & t
		v = v<<1 + t + 1
		if err := d.normalize(); err != nil {
			return 0, err
		}
	}
	return v, nil
}

func (d *lzma) tree(p []uint16, bits uint) (uint32, error) {
	m := uint32(1)
	for range bits {
		b, err := d.bit(&p[m])
		if err != nil {
			return 0, err
		}
		m = m<<1 | b
	}
	return m - 1<<bits, nil
}

func (d *lzma) reverse(p []uint16, bits uint) (v uint32, err error) {
	m := uint32(1)
	for i := range bits {
		b, err := d.bit(&p[m])
		if err != nil {
			return 0, err
		}
		m = m<<1 | b
		v |= b << i
	}
	return v, nil
}

func (d *lzma) length(l *lzmaLengths, posState uint) (int, error) {
	b, err := d.bit(&l.choice[0])
	if err != nil {
		return 0, err
	}
	if b == 0 {
		v, err := d.tree(l.low[posState][:], 3)
		return int(v) + lzmaMinMatch, err
	}
	if b, err = d.bit(&l.choice[1]); err != nil {
		return 0, err
	}
	if b == 0 {
		v, err := d.tree(l.mid[posState][:], 3)
		return int(v) + lzmaMinMatch + 8, err
	}
	v, err := d.tree(l.high[:], 8)
	return int(v) + lzmaMinMatch + 16, err
}

// put puts an octet into the window.
func (d *lzma) put(b byte) {
	if d.max == 0 {
		return
	}
	if d.pos == len(d.dict) && len(d.dict) < d.max {
		d.dict = append(d.dict, b)
	} else {
		if d.pos == len(d.dict) {
			d.pos = 0
		}
		d.dict[d.pos] = b
	}
	d.pos++
	d.have++
}

// back is the octet at a distance, which must be within what there is.
func (d *lzma) back(distance uint32) byte {
	i := d.pos - 1 - int(distance)
	if i < 0 {
		i += len(d.dict)
	}
	return d.dict[i]
}

// within reports whether a distance lies in the window.
func (d *lzma) within(distance uint32) error {
	if int64(distance) >= d.have {
		return errLZMA
	}
	if int64(distance) >= int64(len(d.dict)) {
		return errWindow
	}
	return nil
}

// decode fills p; n is less only on error or, with io.EOF, at the end marker.
func (d *lzma) decode(p []byte) (n int, err error) {
	for n < len(p) {
		if d.left > 0 {
			b := d.back(d.rep[0])
			d.put(b)
			p[n] = b
			n++
			d.left--
			continue
		}
		if d.ended {
			return n, io.EOF
		}
		b, literal, err := d.next()
		if err != nil {
			return n, err
		}
		if literal {
			p[n] = b
			n++
		}
	}
	return n, nil
}

// next decodes a literal, or a match into left and rep[0].
func (d *lzma) next() (octet byte, literal bool, err error) {
	posState := uint(d.have) & (1<<d.pb - 1)
	b, err := d.bit(&d.isMatch[d.state][posState])
	if err != nil {
		return 0, false, err
	}
	if b == 0 {
		octet, err := d.nextLiteral()
		return octet, err == nil, err
	}
	if b, err = d.bit(&d.isRep[d.state]); err != nil {
		return 0, false, err
	}
	if b == 0 {
		err = d.match(posState)
	} else {
		err = d.repeat(posState)
	}
	if err == nil && !d.ended {
		err = d.within(d.rep[0])
	}
	if err != nil {
		d.left = 0
	}
	return 0, false, err
}

func (d *lzma) nextLiteral() (byte, error) {
	var before byte
	if d.have > 0 && len(d.dict) > 0 {
		before = d.back(0)
	}
	i := (uint(d.have)&(1<<d.lp-1))<<d.lc + uint(before)>>(8-d.lc)
	p := d.literal[0x300*i:][:0x300]
	symbol := uint32(1)
	if d.state >= 7 {
		if err := d.within(d.rep[0]); err != nil {
			return 0, err
		}
		for m := uint32(d.back(d.rep[0])); symbol < 0x100; {
			m <<= 1
			expected := m >> 8 & 1
			b, err := d.bit(&p[(1+expected)<<8+symbol])
			if err != nil {
				return 0, err
			}
			symbol = symbol<<1 | b
			if expected != b {
				break
			}
		}
	}
	for symbol < 0x100 {
		b, err := d.bit(&p[symbol])
		if err != nil {
			return 0, err
		}
		symbol = symbol<<1 | b
	}
	switch {
	case d.state < 4:
		d.state = 0
	case d.state < 10:
		d.state -= 3
	default:
		d.state -= 6
	}
	d.put(byte(symbol))
	return byte(symbol), nil
}

// match decodes a match with a new distance, or the end marker.
func (d *lzma) match(posState uint) error {
	d.rep[3], d.rep[2], d.rep[1] = d.rep[2], d.rep[1], d.rep[0]
	n, err := d.length(&d.matchLen, posState)
	if err != nil {
		return err
	}
	slot, err := d.tree(d.slot[min(n-lzmaMinMatch, 3)][:], 6)
	if err != nil {
		return err
	}
	distance := slot
	if slot >= 4 {
		bits := uint(slot>>1) - 1
		distance = (2 | slot&1) << bits
		var low uint32
		if slot < 14 {
			low, err = d.reverse(d.special[distance-slot:], bits)
		} else {
			var high uint32
			if high, err = d.direct(bits - 4); err == nil {
				distance += high << 4
				low, err = d.reverse(d.align[:], 4)
			}
		}
		if err != nil {
			return err
		}
		distance += low
	}
	d.rep[0] = distance
	if distance == lzmaEndMarker {
		d.ended = true
		return nil
	}
	d.state = after(d.state, 7, 10)
	d.left = n
	return nil
}

// repeat decodes a match with one of the last distances.
func (d *lzma) repeat(posState uint) error {
	b, err := d.bit(&d.isRepG0[d.state])
	if err != nil {
		return err
	}
	if b == 0 {
		if b, err = d.bit(&d.isRep0Long[d.state][posState]); err != nil {
			return err
		}
		if b == 0 {
			d.state = after(d.state, 9, 11)
			d.left = 1
			return nil
		}
	} else if err := d.chooseRep(); err != nil {
		return err
	}
	n, err := d.length(&d.repLen, posState)
	if err != nil {
		return err
	}
	d.state = after(d.state, 8, 11)
	d.left = n
	return nil
}

// chooseRep brings the second, third or fourth of the last distances to the front.
func (d *lzma) chooseRep() error {
	i := 1
	for _, p := range []*uint16{&d.isRepG1[d.state], &d.isRepG2[d.state]} {
		b, err := d.bit(p)
		if err != nil {
			return err
		}
		if b == 0 {
			break
		}
		i++
	}
	distance := d.rep[i]
	copy(d.rep[1:i+1], d.rep[:i])
	d.rep[0] = distance
	return nil
}

// after is the state after a match: one value when the last was a literal, another if not.
func after(state, literal, other uint) uint {
	if state < 7 {
		return literal
	}
	return other
}
