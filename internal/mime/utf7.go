package mime

import (
	"encoding/base64"
	"errors"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/transform"
)

// utf7 decodes UTF-7 (RFC 2152), which some programs still read; it does not encode.
type utf7 struct{}

var errNoEncoder = errors.New("UTF-7 is read, not written")

// NewDecoder implements encoding.Encoding.
func (utf7) NewDecoder() *encoding.Decoder { return &encoding.Decoder{Transformer: &utf7Decoder{}} }

// NewEncoder implements encoding.Encoding; what it returns fails.
func (utf7) NewEncoder() *encoding.Encoder {
	return &encoding.Encoder{Transformer: utf7Encoder{}}
}

type utf7Encoder struct{ transform.NopResetter }

func (utf7Encoder) Transform(_, _ []byte, _ bool) (int, int, error) { return 0, 0, errNoEncoder }

// utf7Decoder decodes octet by octet.
type utf7Decoder struct {
	shifted   bool
	first     bool // right behind the plus
	bits      uint32
	n         uint8
	surrogate rune
}

// Reset implements transform.Transformer.
func (d *utf7Decoder) Reset() { *d = utf7Decoder{} }

// Transform implements transform.Transformer.
func (d *utf7Decoder) Transform(dst, src []byte, _ bool) (nDst, nSrc int, err error) {
	for nSrc < len(src) {
		if len(dst)-nDst < 2*utf8.UTFMax {
			return nDst, nSrc, transform.ErrShortDst
		}
		c := src[nSrc]
		nSrc++
		nDst += d.octet(dst[nDst:], c)
	}
	return nDst, nSrc, nil
}

// octet takes one octet and writes what it completes.
func (d *utf7Decoder) octet(dst []byte, c byte) int {
	if !d.shifted {
		if c == '+' {
			d.shifted, d.first, d.bits, d.n = true, true, 0, 0
			return 0
		}
		return utf8.EncodeRune(dst, plain(c))
	}
	v := sextet(c)
	if v < 0 {
		d.shifted = false
		switch {
		case c == '-' && d.first:
			return utf8.EncodeRune(dst, '+')
		case c == '-':
			return 0
		}
		return utf8.EncodeRune(dst, plain(c))
	}
	d.first = false
	d.bits, d.n = d.bits<<6|uint32(v), d.n+6
	if d.n < 16 {
		return 0
	}
	d.n -= 16
	unit := rune(d.bits>>d.n) & 0xffff
	return d.unit(dst, unit)
}

func (d *utf7Decoder) unit(dst []byte, unit rune) int {
	if d.surrogate != 0 {
		r := utf16.DecodeRune(d.surrogate, unit)
		d.surrogate = 0
		return utf8.EncodeRune(dst, r)
	}
	if utf16.IsSurrogate(unit) {
		d.surrogate = unit
		return 0
	}
	return utf8.EncodeRune(dst, unit)
}

func plain(c byte) rune {
	if c >= utf8.RuneSelf {
		return utf8.RuneError
	}
	return rune(c)
}

// sextet is the value of a character of base64; -1 for others.
func sextet(c byte) int8 { return sextets[c] }

// sextets is the alphabet of base64 turned round.
var sextets = func() (t [256]int8) {
	for i := range t {
		t[i] = -1
	}
	var in [3]byte
	var out [4]byte
	for v := range 64 {
		in[0] = byte(v << 2)
		base64.StdEncoding.Encode(out[:], in[:])
		t[out[0]] = int8(v)
	}
	return t
}()
