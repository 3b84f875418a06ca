package attachment

import (
	"bytes"
	"encoding/binary"
	"io"
	"unicode/utf16"
)

// maxNames bounds the list of files of a 7z archive, unpacked, in octets.
const maxNames = 1 << 20

// read7z reads the list of files of a 7z archive, at most limit files. The list itself is
// mostly compressed by LZMA.
func read7z(r io.ReaderAt, size int64, limit int) (l listing) {
	var h [32]byte
	if n, _ := r.ReadAt(h[:], 0); n < len(h) {
		return listing{broken: true}
	}
	off, length := int64(binary.LittleEndian.Uint64(h[12:])), int64(binary.LittleEndian.Uint64(h[20:]))
	if length == 0 && off == 0 {
		return listing{}
	}
	if off < 0 || length <= 0 || off > size-32 || length > size-32-off {
		return listing{broken: true}
	}
	if length > maxNames {
		return listing{more: true}
	}
	b := make([]byte, length)
	if n, _ := r.ReadAt(b, 32+off); n < len(b) {
		return listing{broken: true}
	}
	for range 4 { // a packed list may hold a packed list
		if b[0] != 0x17 {
			break
		}
		var s sevenStreams
		if p := (&sevenParser{b: b[1:]}); !s.parse(p) {
			return listing{broken: true}
		}
		if s.encrypted {
			return listing{encrypted: true}
		}
		if b = s.unpack(r, size); len(b) == 0 {
			return listing{packed: true}
		}
	}
	if b[0] != 1 {
		return listing{broken: true}
	}
	return list7z(&sevenParser{b: b[1:]}, limit)
}

// sevenParser reads the numbers and properties of 7z's headers.
type sevenParser struct {
	b   []byte
	bad bool
}

func (p *sevenParser) octet() byte {
	if len(p.b) == 0 {
		p.bad = true
		return 0
	}
	c := p.b[0]
	p.b = p.b[1:]
	return c
}

// number reads a number: the leading ones of the first octet say how many octets follow.
func (p *sevenParser) number() uint64 {
	first := p.octet()
	var v uint64
	for i := range 8 {
		mask := byte(0x80) >> i
		if first&mask == 0 {
			return v | uint64(first&(mask-1))<<(8*i)
		}
		v |= uint64(p.octet()) << (8 * i)
	}
	return v
}

// octets reads n octets.
func (p *sevenParser) octets(n uint64) []byte {
	if n > uint64(len(p.b)) {
		p.bad, p.b = true, nil
		return nil
	}
	b := p.b[:n]
	p.b = p.b[n:]
	return b
}

// sevenStreams is a StreamsInfo: where packed data lies and how to unpack the first folder.
type sevenStreams struct {
	at, packed, size uint64
	props            []byte // of LZMA, nil when it is another method
	copied           bool   // not compressed
	encrypted        bool
}

// parse reads a StreamsInfo up to its end, or as far as it is needed.
func (s *sevenStreams) parse(p *sevenParser) bool {
	for !p.bad {
		switch id := p.octet(); id {
		case 0:
			return !p.bad
		case 6:
			if !s.pack(p) {
				return false
			}
		case 7:
			return s.folders(p)
		default:
			return false
		}
	}
	return false
}

// pack reads a PackInfo: where packed data begins, its sizes, and check sums at the end.
func (s *sevenStreams) pack(p *sevenParser) bool {
	s.at = p.number()
	n := p.number()
	for id := p.octet(); id != 0 && !p.bad; id = p.octet() {
		if id != 9 { // check sums
			if p.octet() == 0 {
				p.octets((min(n, 1<<20) + 7) / 8)
			}
			p.octets(4 * min(n, 1<<20))
			return p.octet() == 0 && !p.bad
		}
		for i := uint64(0); i < n && !p.bad; i++ {
			if v := p.number(); i == 0 {
				s.packed = v
			}
		}
	}
	return !p.bad
}

// folders reads the folders; the first counts.
func (s *sevenStreams) folders(p *sevenParser) bool {
	if p.octet() != 0x0b {
		return false
	}
	n := p.number()
	if p.octet() != 0 { // the folders are elsewhere
		return false
	}
	var outs uint64
	for i := uint64(0); i < n && !p.bad; i++ {
		outs += s.folder(p, i == 0)
	}
	if p.octet() != 0x0c {
		return false
	}
	if s.size = p.number(); outs > 1 { // the last stream of the folder is what comes out
		s.size = max(s.size, p.number())
	}
	return !p.bad
}

// folder reads a folder's coders and says how many streams come out of them.
func (s *sevenStreams) folder(p *sevenParser, first bool) (outs uint64) {
	coders := p.number()
	if coders == 0 || coders > 32 {
		p.bad = true
		return 0
	}
	var ins uint64
	for range coders {
		flags := p.octet()
		method := p.octets(uint64(flags & 15))
		in, out := uint64(1), uint64(1)
		if flags&0x10 != 0 {
			in, out = p.number(), p.number()
		}
		if in > 32 || out > 32 {
			p.bad = true
			return 0
		}
		ins, outs = ins+in, outs+out
		var props []byte
		if flags&0x20 != 0 {
			props = p.octets(p.number())
		}
		s.encrypted = s.encrypted || bytes.HasPrefix(method, []byte{6, 0xf1})
		if first && coders == 1 {
			s.copied = len(method) == 1 && method[0] == 0
			if bytes.Equal(method, []byte{3, 1, 1}) && len(props) == 5 {
				s.props = props
			}
		}
	}
	if outs == 0 { // or what follows would be counted from below nothing
		p.bad = true
		return 0
	}
	for range outs - 1 {
		p.number()
		p.number()
	}
	if packed := ins - (outs - 1); packed > 1 && ins >= outs-1 {
		for range packed {
			p.number()
		}
	}
	return outs
}

// unpack is the folder's content, nil when it can't be had.
func (s *sevenStreams) unpack(r io.ReaderAt, size int64) []byte {
	if s.at > uint64(size) || s.packed > uint64(size) || s.size > maxNames {
		return nil
	}
	data := io.NewSectionReader(r, 32+int64(s.at), int64(s.packed))
	b := make([]byte, s.size)
	switch {
	case s.copied:
		n, _ := io.ReadFull(data, b)
		return b[:n]
	case s.props != nil:
		packed := make([]byte, min(s.packed, maxNames))
		n, _ := io.ReadFull(data, packed)
		d := &lzma{in: bytes.NewReader(packed[:n]), max: maxNames}
		if d.setProps(s.props[0]) != nil || d.start() != nil {
			return nil
		}
		n, err := d.decode(b)
		if err != nil && n == 0 {
			return nil
		}
		return b[:n]
	}
	return nil
}

// list7z reads the names of a header. What is in front of the files can't be passed over, as its
// properties have no length; so every place is tried at which a list of files may begin, and a
// false one in front of the true one hides nothing.
func list7z(p *sevenParser, limit int) (l listing) {
	encrypted := bytes.Contains(p.b, []byte{6, 0xf1, 7, 1}) // the method's id, AES-256
	tries := 0
	for i := 0; i < len(p.b) && len(l.files) < limit && tries < maxLists; i++ {
		if p.b[i] != 5 {
			continue
		}
		list, count, ok := names7z(&sevenParser{b: p.b[i+1:]})
		if !ok {
			continue
		}
		tries++
		names := split7z(list, limit-len(l.files))
		if uint64(len(names)) != count && len(names) < limit-len(l.files) {
			continue
		}
		for _, n := range names {
			l.files = append(l.files, listed{name: n, encrypted: encrypted})
		}
	}
	l.more = len(l.files) >= limit
	l.packed = true
	l.broken = len(l.files) == 0 || tries == maxLists
	return l
}

// The bounds of what is taken for a list of files: properties in it, and lists.
const (
	maxProperties = 64
	maxLists      = 16
)

// names7z reads a FilesInfo from its count on, and gives the names as they are written; ok when
// it makes sense to its end.
func names7z(p *sevenParser) (list []byte, count uint64, ok bool) {
	count = p.number()
	if p.bad || count == 0 || count > uint64(len(p.b)) {
		return nil, 0, false
	}
	for range maxProperties {
		id := p.number()
		if id == 0 {
			return list, count, !p.bad && list != nil
		}
		property := p.octets(p.number())
		if p.bad || id > 0x19 {
			return nil, 0, false
		}
		if id == 0x11 {
			if len(property) < 3 || property[0] != 0 {
				return nil, 0, false
			}
			list = property[1:]
		}
	}
	return nil, 0, false
}

// split7z takes names in UTF-16 apart that each end with NUL, at most limit.
func split7z(list []byte, limit int) (names []string) {
	var units []uint16
	for i := 0; i+1 < len(list) && len(names) < limit; i += 2 {
		if u := binary.LittleEndian.Uint16(list[i:]); u != 0 {
			units = append(units, u)
			continue
		}
		names = append(names, string(utf16.Decode(units)))
		units = units[:0]
	}
	return names
}

// sevenZip judges the names in a 7z archive.
func (x *examination) sevenZip(f *file, at io.ReaderAt, size int64, whole bool) {
	x.listing(f, at, size, whole, read7z(at, size, x.config.Files))
}
