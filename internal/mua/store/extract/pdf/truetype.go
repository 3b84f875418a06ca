package pdf

import "unicode/utf8"

// trueType reads which characters have which glyph, from the tables of a font for Unicode (formats 4 and 12).
func trueType(b []byte, w *work) map[int]rune {
	if len(b) < 12 {
		return nil
	}
	for i := range min(be16(b, 4), 64) {
		at := 12 + 16*i
		if !within(b, at, 16) {
			return nil
		}
		if string(b[at:at+4]) != "cmap" {
			continue
		}
		from := be16(b, at+8)<<16 | be16(b, at+10)
		if !within(b, from, 4) {
			return nil
		}
		return trueTypeMap(b[from:], w)
	}
	return nil
}

// trueTypeMap reads a cmap table.
func trueTypeMap(b []byte, w *work) map[int]rune {
	m := make(map[int]rune)
	for i := range min(be16(b, 2), 32) {
		at := 4 + 8*i
		if !within(b, at, 8) {
			break
		}
		sub := be16(b, at+4)<<16 | be16(b, at+6)
		if platform := be16(b, at); platform != 0 && platform != 3 || !within(b, sub, 16) {
			continue
		}
		switch t := b[sub:]; be16(t, 0) {
		case 4:
			format4(m, t, w)
		case 12:
			n := be16(t, 12)<<16 | be16(t, 14)
			for g := range min(n, (len(t)-16)/12) {
				e := t[16+12*g:]
				lo, hi, glyph := be16(e, 0)<<16|be16(e, 2), be16(e, 4)<<16|be16(e, 6), be16(e, 8)<<16|be16(e, 10)
				for c := lo; c <= hi && c <= utf8.MaxRune && len(m) < maxCodes && w.spend(8); c++ {
					m[glyph+c-lo] = rune(c)
				}
			}
		}
	}
	return m
}

// format4 reads segments of characters.
func format4(m map[int]rune, t []byte, w *work) {
	n := be16(t, 6) / 2
	if !within(t, 0, 16+8*n) {
		return
	}
	for i := range n {
		hi, lo := be16(t, 14+2*i), be16(t, 16+2*n+2*i)
		delta, offset := be16(t, 16+4*n+2*i), be16(t, 16+6*n+2*i)
		for c := lo; c <= hi && c < 0xffff && len(m) < maxCodes && w.spend(8); c++ {
			g := c
			if offset != 0 {
				at := 16 + 6*n + 2*i + offset + 2*(c-lo)
				if !within(t, at, 2) {
					break
				}
				if g = be16(t, at); g == 0 {
					continue
				}
			}
			g = (g + delta) & 0xffff
			if _, there := m[g]; !there {
				m[g] = rune(c)
			}
		}
	}
}
