package pdf

import (
	"cmp"
	"slices"
	"unicode/utf16"
)

// cmap says what the codes of a font mean (ISO 32000-2 §9.10.3), or how long they are.
type cmap struct {
	spaces []span
	one    map[int]string
	ranges []codes
}

// span is a range of codes of one length.
type span struct{ lo, hi, size int }

// codes is a range of codes that stand for characters in a row.
type codes struct {
	lo, hi int
	to     []uint16
}

// maxCodes bounds the characters and the ranges of a cmap.
const maxCodes = 70_000

// readCMap reads a CMap's program.
func readCMap(b []byte, w *work) *cmap {
	c := &cmap{one: make(map[int]string)}
	l := lexer{b: b, w: w}
	var stack []any
	for {
		l.nodes = 0
		v := l.value(0)
		o, ok := v.(op)
		if !ok {
			if len(stack) < 4096 {
				stack = append(stack, v)
			}
			continue
		}
		switch o {
		case end:
			w.spend(16 * len(c.ranges))
			slices.SortStableFunc(c.ranges, func(a, b codes) int { return cmp.Compare(a.lo, b.lo) })
			return c
		case "endcodespacerange":
			for ; len(stack) >= 2; stack = stack[2:] {
				lo, ok1 := stack[0].([]byte)
				hi, ok2 := stack[1].([]byte)
				if ok1 && ok2 && len(lo) <= 4 && len(lo) > 0 && len(c.spaces) < 256 {
					c.spaces = append(c.spaces, span{code(lo), code(hi), len(lo)})
				}
			}
		case "endbfchar":
			for ; len(stack) >= 2; stack = stack[2:] {
				from, ok := stack[0].([]byte)
				if to := meaning(stack[1]); ok && len(c.one) < maxCodes {
					c.one[code(from)] = to
				}
			}
		case "endbfrange":
			for ; len(stack) >= 3; stack = stack[3:] {
				c.between(stack[0], stack[1], stack[2])
			}
		}
		stack = stack[:0]
	}
}

// between adds a bfrange.
func (c *cmap) between(from, to, what any) {
	f, ok1 := from.([]byte)
	t, ok2 := to.([]byte)
	if !ok1 || !ok2 {
		return
	}
	lo, hi := code(f), code(t)
	switch what := what.(type) {
	case []any:
		for i, v := range what {
			if lo+i <= hi && len(c.one) < maxCodes {
				c.one[lo+i] = meaning(v)
			}
		}
	case []byte:
		if hi >= lo && len(c.ranges) < maxCodes {
			c.ranges = append(c.ranges, codes{lo, hi, units(what)})
		}
	}
}

// code is a code's number.
func code(b []byte) int {
	n := 0
	for _, c := range b[:min(len(b), 4)] {
		n = n<<8 | int(c)
	}
	return n
}

// units are the code units of UTF-16, at most some.
func units(b []byte) []uint16 {
	if len(b) == 1 {
		return []uint16{uint16(b[0])}
	}
	var u []uint16
	for i := 0; i+1 < len(b) && i < 64; i += 2 {
		u = append(u, uint16(be16(b, i)))
	}
	return u
}

// meaning is what a code is mapped to.
func meaning(v any) string {
	switch v := v.(type) {
	case []byte:
		return spelled(units(v))
	case name:
		return glyph(string(v))
	}
	return ""
}

// spelled is UTF-16 as text, ligatures taken apart.
func spelled(u []uint16) string {
	out := ""
	for _, r := range utf16.Decode(u) {
		if r != 0 {
			out += plain(r)
		}
	}
	return out
}

// lookup is what a code means.
func (c *cmap) lookup(n int) (string, bool) {
	if s, ok := c.one[n]; ok {
		return s, true
	}
	i, found := slices.BinarySearchFunc(c.ranges, n, func(r codes, n int) int { return cmp.Compare(r.lo, n) })
	if !found {
		i--
	}
	if i < 0 || n > c.ranges[i].hi || len(c.ranges[i].to) == 0 {
		return "", false
	}
	r := c.ranges[i]
	u := slices.Clone(r.to)
	u[len(u)-1] += uint16(n - r.lo)
	return spelled(u), true
}

// size is how many octets the code has that b begins with.
func (c *cmap) size(b []byte) int {
	for n := 1; n <= 4 && n <= len(b); n++ {
		v := code(b[:n])
		for _, s := range c.spaces {
			if s.size == n && v >= s.lo && v <= s.hi {
				return n
			}
		}
	}
	if len(c.spaces) > 0 {
		return min(len(b), c.spaces[0].size)
	}
	return min(len(b), 2)
}
