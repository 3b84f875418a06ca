// Package office97 reads the text of documents of Office programs before 2007 (.doc, .xls, .ppt)
// and of Outlook messages (.msg), for a search. It is a pure function of the octets, in linear
// time and bounded memory, however hostile the file is.
//
// Word 97 to 2003 by its table of pieces ([MS-DOC] §2.4.1), Word 6 and 95 by the range of their
// text; Excel 97 to 2003 by its shared strings, labels, results of formulas that are text, comments
// and names of sheets ([MS-XLS] §2.4); PowerPoint 97 to 2003 by its atoms of text ([MS-PPT] §2.9). Encrypted
// ones are not read.
package office97

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"

	"poczta.example/poczta/internal/compound"
)

// The reasons why a file's text is not read.
var (
	// ErrFormat means that the octets are no document of these programs.
	ErrFormat = errors.New("no document of Word, Excel, PowerPoint or Outlook")
	// ErrPassword means that the document can't be read without a password.
	ErrPassword = errors.New("the document asks for a password")
)

// maxContent bounds what is read of a document's streams, in octets.
const maxContent = 8 << 20

// Text returns the text of the file in raw, in UTF-8, at most limit octets.
func Text(raw []byte, limit int) ([]byte, error) {
	f, ok := compound.Read(bytes.NewReader(raw), int64(len(raw)), compound.Limits{Stream: maxContent, Total: maxContent, Table: 512 << 10, Small: 4 << 20})
	if !ok {
		return nil, ErrFormat
	}
	streams := make(map[string]compound.Stream)
	mail := false
	for _, s := range f.Streams {
		if s.Kind != compound.Data {
			continue
		}
		name := strings.ToLower(s.Name)
		if _, there := streams[name]; !there { // the document's own; those of embedded ones come later
			streams[name] = s
		}
		mail = mail || name == "__properties_version1.0"
	}
	t := &sink{limit: limit}
	var err error
	if s, ok := streams["worddocument"]; ok {
		err = word(t, f, s, streams)
	} else if s, ok := streams["workbook"]; ok {
		err = excel(t, f.Content(s, 0))
	} else if s, ok := streams["book"]; ok {
		err = excel(t, f.Content(s, 0))
	} else if s, ok := streams["powerpoint document"]; ok {
		if _, locked := streams["encryptedsummary"]; locked {
			return nil, ErrPassword
		}
		powerPoint(t, f.Content(s, 0))
	} else if _, locked := streams["encryptedpackage"]; locked {
		return nil, ErrPassword
	} else if mail {
		outlook(t, f)
	} else {
		return nil, ErrFormat
	}
	return t.b, err
}

// outlook takes the subject, the sender, the text and the names of attachments ([MS-OXMSG] §2.1.3), which are streams named by their property.
func outlook(t *sink, f *compound.File) {
	for _, property := range []string{"0037", "0c1a", "0e04", "1000", "3707"} {
		for _, s := range f.Streams {
			switch strings.ToLower(s.Name) {
			case "__substg1.0_" + property + "001f":
				t.wide(f.Content(s, 0))
				t.line()
			case "__substg1.0_" + property + "001e":
				t.narrow(f.Content(s, 0), charmap.Windows1252)
				t.line()
			}
		}
	}
}

func u16(b []byte, at int) int { return int(binary.LittleEndian.Uint16(b[at:])) }
func u32(b []byte, at int) int { return int(binary.LittleEndian.Uint32(b[at:])) }

// sink is text of at most limit octets.
type sink struct {
	b     []byte
	limit int
	field int  // fields whose instruction is being passed over
	high  rune // the first half of a pair
}

func (t *sink) full() bool { return len(t.b) >= t.limit }

// wide takes UTF-16, the lower octet first.
func (t *sink) wide(b []byte) {
	for ; len(b) >= 2 && !t.full(); b = b[2:] {
		t.unit(rune(u16(b, 0)))
	}
}

// unit takes a code unit.
func (t *sink) unit(c rune) {
	switch {
	case c >= 0xd800 && c < 0xdc00:
		t.high = c
		return
	case c >= 0xdc00 && c < 0xe000:
		if t.high == 0 {
			return
		}
		c = 0x10000 + (t.high-0xd800)<<10 + (c - 0xdc00)
	}
	t.high = 0
	t.char(c)
}

// narrow takes octets of a code page.
func (t *sink) narrow(b []byte, page *charmap.Charmap) {
	for _, c := range b {
		if t.full() {
			return
		}
		t.char(page.DecodeByte(c))
	}
}

// The characters that stand for something else ([MS-DOC] §2.8.25, §2.4.1).
const (
	cellEnd     = 0x07
	fieldBegin  = 0x13
	fieldMiddle = 0x14
	fieldEnd    = 0x15
	hyphen      = 0x1e
)

// char takes a character.
func (t *sink) char(c rune) {
	switch {
	case c == fieldBegin:
		t.field++
	case c == fieldMiddle, c == fieldEnd:
		t.field = max(0, t.field-1)
	case t.field > 0:
	case c == '\r', c == '\v', c == '\f', c == '\n':
		t.line()
	case c == '\t', c == cellEnd, c == 0xa0:
		t.write(' ')
	case c == hyphen:
		t.write('-')
	case c >= ' ' && c != utf8.RuneError:
		t.write(c)
	}
}

func (t *sink) write(c rune) {
	if utf8.RuneLen(c) > t.limit-len(t.b) {
		t.limit = len(t.b)
		return
	}
	t.b = utf8.AppendRune(t.b, c)
}

// line ends a line.
func (t *sink) line() {
	if n := len(t.b); n > 0 && t.b[n-1] != '\n' {
		t.write('\n')
	}
}
