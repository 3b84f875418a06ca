package office97

import "golang.org/x/text/encoding/charmap"

// Records of a presentation ([MS-PPT] §2.13.24).
const (
	atomWide   = 0x0fa0
	atomNarrow = 0x0fa8
	master     = 0x03f8 // its texts say where to click
)

// powerPoint takes the texts of a presentation, record by record: what is in a container follows its head.
func powerPoint(t *sink, b []byte) {
	for len(b) >= 8 && !t.full() {
		container := b[0]&15 == 15
		kind, n := u16(b, 2), u32(b, 4)
		b = b[8:]
		body := b[:min(n, len(b))]
		switch {
		case kind == atomWide:
			t.wide(body)
			t.line()
		case kind == atomNarrow:
			t.narrow(body, charmap.ISO8859_1)
			t.line()
		case container && kind != master:
			continue
		}
		b = b[len(body):]
	}
}
