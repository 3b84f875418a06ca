package attachment

import (
	"encoding/binary"
	"io"
	"strings"
	"unicode/utf16"

	"poczta.example/poczta/internal/verdict"
)

// The bounds of what is read of an OLE2 compound file.
const (
	maxStreams      = 4096
	maxStreamOctets = 256 << 10 // read of one stream
	maxMiniOctets   = 64 << 10  // of the table of small sectors
	maxSmallOctets  = 512 << 10 // of the small sectors
	maxReadOctets   = 2 << 20   // read of all streams
)

// compound is an OLE2 compound file ([MS-CFB]): a file system in a file.
type compound struct {
	r       io.ReaderAt
	size    int64
	sector  int64    // octets
	fat     []uint32 // sectors that hold the table of sectors
	mini    []byte   // the table of small sectors
	small   []byte   // what the small sectors lie in
	streams []stream
	whole   bool  // the directory was read to its end
	left    int64 // octets of streams that may still be read
}

// stream is an entry of a compound file's directory.
type stream struct {
	name  string
	kind  byte // 1 storage, 2 stream, 5 root
	class [16]byte
	start uint32
	size  int64
}

// readCompound reads the directory, as far as it makes sense.
func readCompound(r io.ReaderAt, size int64) (*compound, bool) {
	var h [512]byte
	if n, _ := r.ReadAt(h[:], 0); n < len(h) {
		return nil, false
	}
	shift := binary.LittleEndian.Uint16(h[30:])
	if shift != 9 && shift != 12 {
		return nil, false
	}
	c := &compound{r: r, size: size, sector: 1 << shift, left: maxReadOctets}
	c.tables(h[:])
	directory := c.chain(binary.LittleEndian.Uint32(h[48:]), maxStreams*128)
	c.whole = len(directory) > 0 && len(directory) < maxStreams*128
	for ; len(directory) >= 128; directory = directory[128:] {
		c.streams = append(c.streams, entry(directory[:128]))
	}
	if len(c.streams) > 0 && c.streams[0].kind == 5 {
		c.mini = c.chain(binary.LittleEndian.Uint32(h[60:]), maxMiniOctets)
		c.small = c.chain(c.streams[0].start, maxSmallOctets)
	}
	return c, len(c.streams) > 0
}

// tables reads where the table of sectors lies.
func (c *compound) tables(h []byte) {
	most := int(c.size/c.sector) + 1
	for i := range 109 {
		if s := binary.LittleEndian.Uint32(h[76+4*i:]); s < 1<<32-6 {
			c.fat = append(c.fat, s)
		}
	}
	next := binary.LittleEndian.Uint32(h[68:])
	for steps := 0; next < 1<<32-6 && steps <= most/int(c.sector/4) && len(c.fat) < most; steps++ {
		b := c.read(next)
		if b == nil {
			return
		}
		for ; len(b) > 4; b = b[4:] {
			if s := binary.LittleEndian.Uint32(b); s < 1<<32-6 {
				c.fat = append(c.fat, s)
			}
		}
		next = binary.LittleEndian.Uint32(b)
	}
}

// read is a sector's octets, nil when the file ends before.
func (c *compound) read(sector uint32) []byte {
	b := make([]byte, c.sector)
	n, _ := c.r.ReadAt(b, (int64(sector)+1)*c.sector)
	if n == 0 {
		return nil
	}
	return b
}

// next is the sector behind one.
func (c *compound) next(sector uint32) uint32 {
	per := uint32(c.sector / 4)
	if int64(sector/per) >= int64(len(c.fat)) {
		return 1<<32 - 2
	}
	var b [4]byte
	if n, _ := c.r.ReadAt(b[:], (int64(c.fat[sector/per])+1)*c.sector+int64(sector%per)*4); n < 4 {
		return 1<<32 - 2
	}
	return binary.LittleEndian.Uint32(b[:])
}

// chain reads the sectors from start on, at most most octets.
func (c *compound) chain(start uint32, most int64) []byte {
	var out []byte
	for left := min(most, c.size+c.sector) / c.sector; start < 1<<32-6 && left > 0; left-- {
		b := c.read(start)
		if b == nil {
			break
		}
		out = append(out, b...)
		start = c.next(start)
	}
	return out
}

// content is a stream's content, as much of it as the bounds allow.
func (c *compound) content(s stream) []byte {
	n := min(s.size, maxStreamOctets, c.left)
	c.left -= n
	var out []byte
	if s.size >= 4096 {
		out = c.chain(s.start, (n+c.sector-1)/c.sector*c.sector)
	} else {
		for at := s.start; int64(len(out)) < n; {
			from := int64(at) * 64
			if from+64 > int64(len(c.small)) || int64(at)*4+4 > int64(len(c.mini)) {
				break
			}
			out = append(out, c.small[from:from+64]...)
			at = binary.LittleEndian.Uint32(c.mini[at*4:])
		}
	}
	return out[:min(n, int64(len(out)))]
}

// entry reads an entry of the directory.
func entry(b []byte) stream {
	n := min(int(binary.LittleEndian.Uint16(b[64:])), 64) / 2
	name := make([]uint16, 0, 32)
	for i := range n {
		if u := binary.LittleEndian.Uint16(b[2*i:]); u != 0 {
			name = append(name, u)
		}
	}
	s := stream{name: string(utf16.Decode(name)), kind: b[66], start: binary.LittleEndian.Uint32(b[116:]), size: int64(binary.LittleEndian.Uint32(b[120:]))}
	copy(s.class[:], b[80:])
	return s
}

// installer is the first part of the classes of Windows installer packages, {000C108x-…}.
const installer = "\x10\x0c\x00"

// ole looks into a compound file: documents of old Office programs, Outlook messages, installers.
func (x *examination) ole(f *file, at io.ReaderAt, size int64, whole bool) {
	c, ok := readCompound(at, size)
	if !ok {
		if whole {
			x.note(verdict.Uninspected, f, "is a broken OLE2 file")
		}
		return
	}
	if !c.whole {
		x.note(verdict.Uninspected, f, "is an OLE2 file with a broken or very large directory")
	}
	var encrypted, macros bool
	for i, s := range c.streams {
		switch name := strings.ToLower(s.name); {
		case i == 0 && string(s.class[1:4]) == installer && (s.class[0] == 0x84 || s.class[0] == 0x82 || s.class[0] == 0x86):
			x.trueType(f, "msi")
		case s.kind != 1 && s.kind != 2:
		case name == "vba", name == "_vba_project", name == "_vba_project_cur", name == "macros" && s.kind == 1:
			macros = true
		case name == "encryptedpackage", name == "encryptioninfo":
			encrypted = true
		case name == "\x01ole10native":
			x.native(f, c.content(s))
		case name == "worddocument":
			b := c.content(stream{start: s.start, size: min(s.size, 4096)})
			encrypted = encrypted || len(b) > 12 && b[11]&1 != 0
		case name == "workbook", name == "book":
			sheet, locked := workbook(c.content(s))
			macros, encrypted = macros || sheet, encrypted || locked
		case strings.HasPrefix(name, "__substg1.0_3707") || strings.HasPrefix(name, "__substg1.0_3704"):
			x.mapiName(f, name, c.content(s))
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
