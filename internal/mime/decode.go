package mime

import "bytes"

// base64Decoder undoes base64 (RFC 2045 §6.8): what is not in the alphabet is passed over, and
// behind padding it goes on, since programs join pieces.
type base64Decoder struct {
	bits uint32
	n    int
}

func (d *base64Decoder) decode(dst, src []byte, last bool) (out []byte, rest int) {
	bits, n := d.bits, d.n
	for _, c := range src {
		v := sextets[c]
		if v < 0 {
			if c == '=' {
				dst = appendTail(dst, bits, n)
				bits, n = 0, 0
			}
			continue
		}
		bits, n = bits<<6|uint32(v), n+6
		if n == 24 {
			dst = append(dst, byte(bits>>16), byte(bits>>8), byte(bits))
			bits, n = 0, 0
		}
	}
	if last {
		dst = appendTail(dst, bits, n)
	}
	d.bits, d.n = bits, n
	return dst, 0
}

// appendTail takes the whole octets of a quantum that is not full.
func appendTail(dst []byte, bits uint32, n int) []byte {
	for n >= 8 {
		n -= 8
		dst = append(dst, byte(bits>>n))
	}
	return dst
}

// qpDecoder undoes quoted-printable (RFC 2045 §6.7). An equals sign that is followed by no
// hexadecimal number stays; blanks at the end of a line vanish.
type qpDecoder struct{}

func (qpDecoder) decode(dst, src []byte, last bool) (out []byte, rest int) {
	for i := 0; i < len(src); {
		switch c := src[i]; c {
		case '=':
			n := soft(src[i+1:])
			switch {
			case n > 0:
				i += 1 + n
			case n < 0 && !last && len(src)-i < maxRest:
				return dst, len(src) - i
			case n < 0: // the content ends within a soft line break
				i = len(src)
			case i+2 < len(src) && unhex(src[i+1]) >= 0 && unhex(src[i+2]) >= 0:
				dst = append(dst, byte(unhex(src[i+1])<<4|unhex(src[i+2])))
				i += 3
			case i+2 >= len(src) && !last:
				return dst, len(src) - i
			default:
				dst = append(dst, c)
				i++
			}
		case ' ', '\t':
			n := blanks(src[i:])
			switch at := i + n; {
			case at == len(src) && !last && n < maxRest:
				return dst, n
			case at == len(src) && last, at < len(src) && (src[at] == '\n' || src[at] == '\r' && at+1 < len(src) && src[at+1] == '\n'):
			case at+1 == len(src) && src[at] == '\r' && !last && n+1 < maxRest:
				return dst, n + 1
			default:
				dst = append(dst, src[i:at]...)
			}
			i += n
		default:
			end := i + 1
			for end < len(src) && src[end] != '=' && !(src[end] == ' ' && (end+1 == len(src) || src[end+1] <= ' ')) && src[end] != '\t' {
				end++ // a blank in front of a letter is no blank at the end of a line
			}
			dst = append(dst, src[i:end]...)
			i = end
		}
	}
	return dst, 0
}

// blanks counts the blanks that b begins with.
func blanks(b []byte) int {
	for i, c := range b {
		if c != ' ' && c != '\t' {
			return i
		}
	}
	return len(b)
}

// soft returns the length of what makes an equals sign in front of it a soft line break; 0 when
// it is none, -1 when the end of b leaves that open.
func soft(b []byte) int {
	n := blanks(b)
	switch {
	case n == len(b):
		return -1
	case b[n] == '\n':
		return n + 1
	case b[n] != '\r':
		return 0
	case n+1 == len(b):
		return -1
	case b[n+1] == '\n':
		return n + 2
	}
	return 0
}

// uuDecoder undoes uuencoding line by line; begin and end lines, if they are there, and what is
// no line of it are passed over.
type uuDecoder struct{}

func (uuDecoder) decode(dst, src []byte, last bool) (out []byte, rest int) {
	for len(src) > 0 {
		end := bytes.IndexByte(src, '\n')
		if end < 0 && !last && len(src) < maxRest {
			return dst, len(src)
		}
		line := src
		if end >= 0 {
			line = src[:end]
			src = src[end+1:]
		} else {
			src = nil
		}
		line = bytes.TrimSuffix(line, []byte{'\r'})
		if bytes.HasPrefix(line, []byte("begin ")) || string(line) == "end" || !uuLine(line) {
			continue
		}
		dst = appendUU(dst, line[1:], int(line[0]-' ')&63)
	}
	return dst, 0
}

// appendUU decodes the n octets of a line; blanks that were lost at its end count as zeros.
func appendUU(dst, line []byte, n int) []byte {
	at := func(i int) byte {
		if i < len(line) {
			return (line[i] - ' ') & 63
		}
		return 0
	}
	for i := 0; n > 0; i += 4 {
		a, b, c, d := at(i), at(i+1), at(i+2), at(i+3)
		three := [3]byte{a<<2 | b>>4, b<<4 | c>>2, c<<6 | d}
		dst = append(dst, three[:min(n, 3)]...)
		n -= 3
	}
	return dst
}
