package attachment

import (
	"encoding/binary"
	"io"
	"strings"
	"unicode/utf16"

	"poczta.example/poczta/internal/compound"
	"poczta.example/poczta/internal/verdict"
)

// installer is the first part of the classes of Windows installer packages, {000C108x-…}.
const installer = "\x10\x0c\x00"

// ole looks into a compound file: documents of old Office programs, Outlook messages, installers.
func (x *examination) ole(f *file, at io.ReaderAt, size int64, whole bool) {
	c, ok := compound.Read(at, size, compound.Limits{})
	if !ok {
		if whole {
			x.note(verdict.Uninspected, f, "is a broken OLE2 file")
		}
		return
	}
	if !c.Whole {
		x.note(verdict.Uninspected, f, "is an OLE2 file with a broken or very large directory")
	}
	var encrypted, macros bool
	for i, s := range c.Streams {
		switch name := strings.ToLower(s.Name); {
		case i == 0 && string(s.Class[1:4]) == installer && (s.Class[0] == 0x84 || s.Class[0] == 0x82 || s.Class[0] == 0x86):
			x.trueType(f, "msi")
		case s.Kind != compound.Storage && s.Kind != compound.Data:
		case name == "vba", name == "_vba_project", name == "_vba_project_cur", name == "macros" && s.Kind == compound.Storage:
			macros = true
		case name == "encryptedpackage", name == "encryptioninfo":
			encrypted = true
		case name == "\x01ole10native":
			x.native(f, c.Content(s, 0))
		case name == "worddocument":
			b := c.Content(s, 4096)
			encrypted = encrypted || len(b) > 12 && b[11]&1 != 0
		case name == "workbook", name == "book":
			sheet, locked := workbook(c.Content(s, 0))
			macros, encrypted = macros || sheet, encrypted || locked
		case strings.HasPrefix(name, "__substg1.0_3707") || strings.HasPrefix(name, "__substg1.0_3704"):
			x.mapiName(f, name, c.Content(s, 0))
		}
	}
	if macros {
		x.note(verdict.Macros, f, "holds macros")
	}
	if encrypted {
		x.note(verdict.Encrypted, f, "is encrypted")
	}
}

// native judges a file that was packed into a document: its label and the path it came from.
func (x *examination) native(f *file, b []byte) {
	x.note(verdict.OddAttachment, f, "holds a file packed as an object")
	if len(b) < 7 {
		return
	}
	b = b[6:]
	inner := &file{within: f}
	for range 2 {
		i := strings.IndexByte(string(b[:min(len(b), 1024)]), 0)
		if i < 0 {
			break
		}
		inner.names = append(inner.names, clean(string(b[:i])))
		b = b[i+1:]
	}
	x.names(inner)
}

// mapiName judges the name of an attachment of an Outlook message.
func (x *examination) mapiName(f *file, stream string, b []byte) {
	name := string(b)
	if strings.HasSuffix(stream, "001f") {
		units := make([]uint16, len(b)/2)
		for i := range units {
			units[i] = binary.LittleEndian.Uint16(b[2*i:])
		}
		name = string(utf16.Decode(units))
	}
	x.names(&file{names: []string{strings.TrimRight(name, "\x00")}, within: f})
}

// workbook looks through the first records of an Excel 97 workbook for sheets of macros
// (BoundSheet8 of type 1) and encryption (FilePass), [MS-XLS] 2.4.28 and 2.4.117.
func workbook(b []byte) (macros, encrypted bool) {
	for len(b) >= 4 {
		id, n := binary.LittleEndian.Uint16(b), int(binary.LittleEndian.Uint16(b[2:]))
		b = b[4:]
		if n > len(b) {
			return macros, false
		}
		switch {
		case id == 0x85 && n >= 6:
			macros = macros || b[5] == 1
		case id == 0x2f:
			return macros, true // what follows is encrypted
		case id == 0x0a:
			return macros, false
		}
		b = b[n:]
	}
	return macros, false
}
