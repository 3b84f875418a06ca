package pdf

import (
	"bytes"
	"compress/flate"
	"io"
)

// decode takes a stream through its filters (ISO 32000-2 §7.4); of pictures, and of what can't
// be read, nothing is left. At most maxStream octets are decoded, and all are paid for.
func (f *file) decode(s stream) []byte {
	names, parms := f.list(s.dict["Filter"]), f.list(s.dict["DecodeParms"])
	if n := f.name(s.dict["Filter"]); n != "" {
		names, parms = []any{n}, []any{f.dict(s.dict["DecodeParms"])}
	}
	b := s.data
	if f.key != nil && s.num != 0 && f.name(s.dict["Type"]) != "XRef" && (len(names) == 0 || f.name(names[0]) != "Crypt") {
		f.w.spend(len(b))
		b = f.key.open(f.key.data, b, s.num, s.gen)
	}
	if len(names) > 8 {
		return nil
	}
	for i, n := range names {
		var p dict
		if i < len(parms) {
			p = f.dict(parms[i])
		}
		if !f.w.spend(4096) { // what a decoder costs by itself
			return nil
		}
		b = f.filter(f.name(n), p, b)
		f.w.spend(len(b))
	}
	return b
}

// filter takes octets through one filter.
func (f *file) filter(n name, p dict, b []byte) []byte {
	limit := min(maxStream, max(0, f.w.left))
	switch n {
	case "FlateDecode", "Fl":
		return f.predict(p, inflate(b, limit))
	case "LZWDecode", "LZW":
		early := 1
		if v, ok := f.resolve(p["EarlyChange"]).(float64); ok {
			early = int(v)
		}
		return f.predict(p, unLZW(b, limit, early != 0))
	case "ASCIIHexDecode", "AHx":
		return unhex(b, limit)
	case "ASCII85Decode", "A85":
		return un85(b, limit)
	case "RunLengthDecode", "RL":
		return unRun(b, limit)
	case "Crypt":
		return b
	}
	return nil
}

// inflate is tolerant: of a broken stream it returns what comes in front of the fault.
func inflate(b []byte, limit int) []byte {
	if len(b) < 3 {
		return nil
	}
	if b[0]&15 == 8 && (int(b[0])<<8|int(b[1]))%31 == 0 {
		b = b[2:]
	}
	r := flate.NewReader(bytes.NewReader(b))
	var out bytes.Buffer
	_, _ = io.Copy(&out, io.LimitReader(r, int64(limit))) // a fault ends it
	return out.Bytes()
}

// unLZW decodes LZW with codes of 9 to 12 bits, the highest first (ISO 32000-2 §7.4.4).
func unLZW(b []byte, limit int, early bool) []byte {
	var out []byte
	type entry struct{ from, to int } // in out
	var table [4096]entry
	next, width, last := 258, 9, entry{}
	bits, have := uint32(0), 0
	for _, c := range b {
		bits, have = bits<<8|uint32(c), have+8
		if have < width {
			continue
		}
		code := int(bits >> (have - width) & (1<<width - 1))
		have -= width
		switch {
		case code == 257 || len(out) >= limit:
			return out
		case code == 256:
			next, width, last = 258, 9, entry{}
			continue
		}
		from := len(out)
		switch {
		case code < 256:
			out = append(out, byte(code))
		case code < next:
			out = append(out, out[table[code].from:table[code].to]...)
		case last.to > 0:
			out = append(append(out, out[last.from:last.to]...), out[last.from])
		default:
			return out
		}
		if last.to > 0 && next < 4096 {
			table[next] = entry{last.from, last.to + 1} // and the octet that follows it in out
			next++
		}
		last = entry{from, len(out)}
		grow := next
		if early {
			grow++
		}
		for width < 12 && grow >= 1<<width {
			width++
		}
	}
	return out
}

// unhex decodes hexadecimal digits.
func unhex(b []byte, limit int) []byte {
	var out []byte
	for half, value := false, byte(0); len(b) > 0 && b[0] != '>' && len(out) < limit; b = b[1:] {
		d := digit(b[0])
		if d > 15 {
			continue
		}
		if half {
			out = append(out, value<<4|d)
		}
		value, half = d, !half
	}
	return out
}

// un85 decodes ASCII base 85.
func un85(b []byte, limit int) []byte {
	var out []byte
	var group [5]byte
	n := 0
	flush := func(n int) {
		v := uint32(0)
		for _, c := range group {
			v = v*85 + uint32(c)
		}
		out = append(out, []byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}[:n]...)
	}
	for _, c := range b {
		switch {
		case c == '~' || len(out) >= limit:
			b = nil
		case c == 'z' && n == 0:
			out = append(out, 0, 0, 0, 0)
		case c >= '!' && c <= 'u':
			group[n] = c - '!'
			if n++; n == 5 {
				flush(4)
				n = 0
			}
		}
		if b == nil {
			break
		}
	}
	if n > 1 {
		for i := n; i < 5; i++ {
			group[i] = 84
		}
		flush(n - 1)
	}
	return out
}

// unRun decodes runs of octets.
func unRun(b []byte, limit int) []byte {
	var out []byte
	for len(b) > 1 && b[0] != 128 && len(out) < limit {
		if n := int(b[0]); n < 128 {
			n = min(n+1, len(b)-1)
			out = append(out, b[1:1+n]...)
			b = b[1+n:]
		} else {
			out = append(out, bytes.Repeat(b[1:2], 257-n)...)
			b = b[2:]
		}
	}
	return out
}

// predict undoes what made octets easier to compress (ISO 32000-2 §7.4.4.4).
func (f *file) predict(p dict, b []byte) []byte {
	kind := f.integer(p["Predictor"])
	if kind < 2 {
		return b
	}
	positive := func(k name, d int) int {
		if n := f.integer(p[k]); n > 0 && n < 1<<16 {
			return n
		}
		return d
	}
	bits := positive("Colors", 1) * positive("BitsPerComponent", 8)
	step := max(1, bits/8)
	row := (bits*positive("Columns", 1) + 7) / 8
	if row > len(b) {
		return nil
	}
	if kind == 2 {
		return differences(b, row, step)
	}
	above := make([]byte, row)
	out := b[:0]
	for len(b) > row {
		tag, line := b[0], b[1:1+row]
		b = b[1+row:]
		unfilter(tag, line, above, step)
		copy(above, line)
		out = append(out, line...)
	}
	return out
}

// differences undoes TIFF's predictor for components of eight bits.
func differences(b []byte, row, step int) []byte {
	for at := 0; at+row <= len(b); at += row {
		for i := at + step; i < at+row; i++ {
			b[i] += b[i-step]
		}
	}
	return b
}

// unfilter undoes a row of PNG's.
func unfilter(tag byte, line, above []byte, step int) {
	left := func(b []byte, i int) int {
		if i < step {
			return 0
		}
		return int(b[i-step])
	}
	for i := range line {
		switch a, b := left(line, i), int(above[i]); tag {
		case 1:
			line[i] += byte(a)
		case 2:
			line[i] += byte(b)
		case 3:
			line[i] += byte((a + b) / 2)
		case 4:
			line[i] += byte(paeth(a, b, left(above, i)))
		}
	}
}

// paeth is whichever neighbour comes nearest to left + above - corner.
func paeth(a, b, c int) int {
	abs := func(n int) int { return max(n, -n) }
	p := a + b - c
	pa, pb, pc := abs(p-a), abs(p-b), abs(p-c)
	switch {
	case pa <= pb && pa <= pc:
		return a
	case pb <= pc:
		return b
	}
	return c
}
