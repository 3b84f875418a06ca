package office97

import (
	"golang.org/x/text/encoding/charmap"

	"poczta.example/poczta/internal/compound"
)

// Places in a Word document's first block ([MS-DOC] §2.5.1).
const (
	fibVersion  = 0x02
	fibLanguage = 0x06
	fibFlags    = 0x0a
	fibFrom     = 0x18 // of the text of Word 6 and 95
	fibTo       = 0x1c
	fibPieces   = 0x1a2 // fcClx, lcbClx
	fibSize     = 0x1aa

	flagComplex   = 1 << 2
	flagEncrypted = 1 << 8
	flagTable1    = 1 << 9
	word97        = 0xc1 // the first version with a table of pieces of this form
)

// word takes the text of a Word document.
func word(t *sink, f *compound.File, s compound.Stream, streams map[string]compound.Stream) error {
	b := f.Content(s, 0)
	if len(b) < fibTo+4 {
		return ErrFormat
	}
	flags := u16(b, fibFlags)
	if flags&flagEncrypted != 0 {
		return ErrPassword
	}
	if u16(b, fibVersion) < word97 {
		from, to := u32(b, fibFrom), min(u32(b, fibTo), len(b))
		if flags&flagComplex == 0 && from < to {
			t.narrow(b[from:to], language(u16(b, fibLanguage)))
		}
		return nil
	}
	if len(b) < fibSize {
		return ErrFormat
	}
	table := "0table"
	if flags&flagTable1 != 0 {
		table = "1table"
	}
	info := f.Content(streams[table], 0)
	from, n := u32(b, fibPieces), u32(b, fibPieces+4)
	if from > len(info) {
		return ErrFormat
	}
	pieces(t, b, info[from:min(from+n, len(info))])
	return nil
}

// language is the code page of a language of Word 95.
func language(id int) *charmap.Charmap {
	switch id & 0x3ff {
	case 0x15, 0x05, 0x0e, 0x1b, 0x18, 0x1a, 0x24, 0x1c: // Polish, Czech, Hungarian, Slovak, Romanian, Croatian, Slovenian, Albanian
		return charmap.Windows1250
	case 0x19, 0x22, 0x23, 0x02: // Russian, Ukrainian, Belarusian, Bulgarian
		return charmap.Windows1251
	case 0x08:
		return charmap.Windows1253
	case 0x1f:
		return charmap.Windows1254
	}
	return charmap.Windows1252
}

// pieces takes the pieces of the text in the order of the table clx ([MS-DOC] §2.9.38, §2.8.35).
func pieces(t *sink, b, clx []byte) {
	for len(clx) >= 3 && clx[0] == 1 { // properties
		clx = clx[min(len(clx), 3+u16(clx, 1)):]
	}
	if len(clx) < 5 || clx[0] != 2 {
		return
	}
	plc := clx[5:min(len(clx), 5+u32(clx, 1))]
	n := (len(plc) - 4) / 12
	for i := range n {
		if t.full() {
			return
		}
		chars := u32(plc, 4*i+4) - u32(plc, 4*i)
		at := u32(plc, 4*(n+1)+8*i+2)
		if at&(1<<30) != 0 { // an octet a character
			at = at & (1<<30 - 1) / 2
			if chars > 0 && at < len(b) {
				t.narrow(b[at:min(at+chars, len(b))], charmap.Windows1252)
			}
			continue
		}
		if at &= 1<<30 - 1; chars > 0 && at < len(b) {
			t.wide(b[at:min(at+2*chars, len(b))])
		}
	}
}
