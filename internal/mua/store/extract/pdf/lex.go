package pdf

import "bytes"

// The values of PDF (ISO 32000-2 §7.3): float64, bool, nil, []byte for strings, and these.
type (
	name   string
	op     string // a keyword or delimiter
	ref    struct{ num, gen int }
	dict   map[name]any
	stream struct {
		dict
		data     []byte // as it stands in the file
		num, gen int
	}
)

// end is what a lexer returns when nothing is left, or when the work is spent.
const end = op("")

// maxString bounds the octets of a string.
const maxString = 64 << 10

// lexer reads values from octets.
type lexer struct {
	b     []byte
	at    int
	w     *work
	nodes int // values read
}

func blank(c byte) bool {
	return c == ' ' || c == '\n' || c == '\r' || c == '\t' || c == '\f' || c == 0
}

func regular(c byte) bool { return !blank(c) && bytes.IndexByte([]byte("()<>[]{}/%"), c) < 0 }

// skip passes over blanks and comments.
func (l *lexer) skip() {
	for ; l.at < len(l.b); l.at++ {
		switch c := l.b[l.at]; {
		case blank(c):
		case c == '%':
			i := bytes.IndexAny(l.b[l.at:], "\r\n")
			if i < 0 {
				i = len(l.b) - l.at
			}
			l.at += i - 1
			if i == 0 {
				l.at++
			}
		default:
			return
		}
	}
}

// token reads a number, string, name or keyword.
func (l *lexer) token() any {
	from := l.at
	l.skip()
	if l.at >= len(l.b) || !l.w.spend(4+l.at-from) {
		return end
	}
	from = l.at
	defer func() { l.w.spend(l.at - from) }()
	switch c := l.b[l.at]; c {
	case '(':
		return l.literal()
	case '/':
		l.at++
		return l.name()
	case '<':
		if l.at+1 < len(l.b) && l.b[l.at+1] == '<' {
			l.at += 2
			return op("<<")
		}
		return l.hex()
	case '>':
		if l.at+1 < len(l.b) && l.b[l.at+1] == '>' {
			l.at += 2
			return op(">>")
		}
		l.at++
		return op(">")
	case '[', ']', '{', '}', ')':
		l.at++
		return op(l.b[l.at-1 : l.at])
	default:
		for l.at < len(l.b) && regular(l.b[l.at]) {
			l.at++
		}
		return word(l.b[from:l.at])
	}
}

// word is a number, or a keyword.
func word(b []byte) any {
	i, negative := 0, false
	for i < len(b) && (b[i] == '-' || b[i] == '+') {
		negative = b[i] == '-'
		i++
	}
	if i == len(b) || b[i] != '.' && (b[i] < '0' || b[i] > '9') {
		switch string(b) {
		case "true":
			return true
		case "false":
			return false
		case "null":
			return nil
		}
		return op(b[:min(len(b), 32)])
	}
	n, scale := 0.0, 1.0
	for dot := false; i < len(b); i++ {
		switch c := b[i]; {
		case c >= '0' && c <= '9':
			if n = n*10 + float64(c-'0'); dot {
				scale *= 10
			}
			if n > 1e15 {
				return 1e15
			}
			continue
		case c == '.' && !dot:
			dot = true
			continue
		}
		break // as other readers: 12-34 is 12
	}
	if negative {
		n = -n
	}
	return n / scale
}

// name reads a name behind its slash.
func (l *lexer) name() name {
	from := l.at
	for l.at < len(l.b) && regular(l.b[l.at]) {
		l.at++
	}
	b := l.b[from:min(l.at, from+512)]
	if bytes.IndexByte(b, '#') < 0 {
		return name(b)
	}
	var out []byte
	for i := 0; i < len(b); i++ {
		if b[i] == '#' && i+2 < len(b) && digit(b[i+1]) < 16 && digit(b[i+2]) < 16 {
			out = append(out, digit(b[i+1])<<4|digit(b[i+2]))
			i += 2
			continue
		}
		out = append(out, b[i])
	}
	return name(out)
}

// digit is a hexadecimal digit's value, or 16 and more.
func digit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 16
}

// hex reads a string of hexadecimal digits.
func (l *lexer) hex() []byte {
	l.at++
	out := []byte{}
	half, value := false, byte(0)
	for ; l.at < len(l.b) && l.b[l.at] != '>'; l.at++ {
		d := digit(l.b[l.at])
		if d > 15 || len(out) >= maxString {
			continue
		}
		if half {
			out = append(out, value<<4|d)
		}
		value, half = d, !half
	}
	if half {
		out = append(out, value<<4)
	}
	l.at = min(l.at+1, len(l.b))
	return out
}

// literal reads a string in parentheses (ISO 32000-2 §7.3.4.2).
func (l *lexer) literal() []byte {
	out := []byte{}
	depth := 0
	for ; l.at < len(l.b); l.at++ {
		c := l.b[l.at]
		switch c {
		case '(':
			if depth++; depth == 1 {
				continue
			}
		case ')':
			if depth--; depth == 0 {
				l.at++
				return out
			}
		case '\\':
			var ok bool
			if c, ok = l.escape(); !ok {
				continue
			}
		}
		if len(out) < maxString {
			out = append(out, c)
		}
	}
	l.at = len(l.b) // a backslash may be the last
	return out
}

// escape reads what stands behind a backslash, and stays on its last octet.
func (l *lexer) escape() (byte, bool) {
	if l.at++; l.at >= len(l.b) {
		return 0, false
	}
	switch c := l.b[l.at]; c {
	case 'n':
		return '\n', true
	case 'r':
		return '\r', true
	case 't':
		return '\t', true
	case 'b', 'f':
		return ' ', true
	case '\n':
		return 0, false
	case '\r':
		if l.at+1 < len(l.b) && l.b[l.at+1] == '\n' {
			l.at++
		}
		return 0, false
	case '0', '1', '2', '3', '4', '5', '6', '7':
		v := c - '0'
		for n := 1; n < 3 && l.at+1 < len(l.b) && l.b[l.at+1] >= '0' && l.b[l.at+1] <= '7'; n++ {
			l.at++
			v = v<<3 | (l.b[l.at] - '0')
		}
		return v, true
	default:
		return c, true
	}
}

// value reads a value; a keyword that is none is returned as op.
func (l *lexer) value(depth int) any {
	t := l.token()
	l.nodes++
	o, ok := t.(op)
	switch {
	case !ok:
		return t
	case o == "[":
		return l.items(depth + 1)
	case o == "<<":
		return pairs(l.items(depth + 1))
	}
	return o
}

// items reads values to the end of their array or dictionary.
func (l *lexer) items(depth int) []any {
	var list []any
	for depth < maxDepth && l.nodes < maxNodes {
		before := l.at
		v := l.value(depth)
		o, ok := v.(op)
		if !ok {
			list = append(list, v)
			continue
		}
		switch o {
		case end, "]", ">>":
			return list
		case "endobj", "stream", "endstream": // the end was forgotten
			l.at = before
			return list
		case "R":
			if n := len(list); n >= 2 {
				num, ok1 := list[n-2].(float64)
				gen, ok2 := list[n-1].(float64)
				if ok1 && ok2 {
					list = append(list[:n-2], ref{int(num), int(gen)})
				}
			}
		}
	}
	l.at = len(l.b) // what is too deep or too long is broken
	return list
}

// pairs makes a dictionary of names and values.
func pairs(list []any) dict {
	d := make(dict, len(list)/2)
	for i := 0; i+1 < len(list); i++ {
		if k, ok := list[i].(name); ok {
			d[k] = list[i+1]
			i++
		}
	}
	return d
}
