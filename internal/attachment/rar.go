package attachment

import (
	"bytes"
	"encoding/binary"
	"io"

	"poczta.example/poczta/internal/verdict"
)

// listed is a file of an archive that is known by its header.
type listed struct {
	name      string
	encrypted bool
	folder    bool
	at, size  int64 // of the data; size is 0 for what is compressed
}

// listing is what the headers of an archive tell.
type listing struct {
	files     []listed
	encrypted bool // the headers are
	packed    bool // there are files whose content was not looked at
	broken    bool // the headers end in the middle, or make no sense
	more      bool // there are more files than the limit
}

// maxBlocks bounds the headers that are read, for each file of the limit.
const maxBlocks = 8

// maxHeader bounds a header that is read, in octets.
const maxHeader = 64 << 10

// readRAR reads the headers of a RAR archive (versions 1.5 to 7), at most limit files.
func readRAR(r io.ReaderAt, size int64, limit int) listing {
	var sig [8]byte
	n, _ := r.ReadAt(sig[:], 0)
	if n == 8 && sig[6] == 1 && sig[7] == 0 {
		return readRAR5(r, size, limit)
	}
	return readRAR4(r, size, limit)
}

func readRAR4(r io.ReaderAt, size int64, limit int) (l listing) {
	blocks := 0
	for off := int64(7); ; {
		var h [11]byte
		if blocks++; blocks > maxBlocks*limit {
			l.more = true
			return l
		}
		if n, _ := r.ReadAt(h[:], off); n < 7 {
			l.broken = off != size
			return l
		}
		flags, length := binary.LittleEndian.Uint16(h[3:]), int64(binary.LittleEndian.Uint16(h[5:]))
		if length < 7 {
			l.broken = true
			return l
		}
		next := off + length
		kind := h[2]
		if flags&0x8000 != 0 || kind == 0x74 {
			next += int64(binary.LittleEndian.Uint32(h[7:]))
		}
		switch kind {
		case 0x73:
			if flags&0x80 != 0 {
				l.encrypted = true
				return l
			}
		case 0x74:
			if len(l.files) >= limit {
				l.more = true
				return l
			}
			b := make([]byte, length)
			if n, _ := r.ReadAt(b, off); n < len(b) || !l.add4(b, flags, off+length) {
				l.broken = true
				return l
			}
			if flags&0x100 != 0 {
				next += int64(binary.LittleEndian.Uint32(b[32:])&0x7fffffff) << 32
			}
		case 0x7b:
			return l
		}
		off = next
	}
}

// add4 adds the file of a header b, whose data is at.
func (l *listing) add4(b []byte, flags uint16, at int64) bool {
	name := 32
	if flags&0x100 != 0 {
		name += 8
	}
	if len(b) < name {
		return false
	}
	n := int(binary.LittleEndian.Uint16(b[26:]))
	if len(b) < name+n {
		return false
	}
	// Behind NUL a Unicode form follows, coded as differences to what is before.
	text, _, _ := bytes.Cut(b[name:name+n], []byte{0})
	f := listed{name: string(text), encrypted: flags&4 != 0, folder: flags&0xe0 == 0xe0, at: at}
	if b[25] == 0x30 {
		f.size = int64(binary.LittleEndian.Uint32(b[7:]))
	}
	l.files = append(l.files, f)
	return true
}

func readRAR5(r io.ReaderAt, size int64, limit int) (l listing) {
	buffer := make([]byte, maxHeader)
	blocks := 0
	for off := int64(8); ; {
		if blocks++; blocks > maxBlocks*limit {
			l.more = true
			return l
		}
		n, _ := r.ReadAt(buffer[:min(maxHeader, max(0, size-off))], off)
		if n < 7 {
			l.broken = off != size
			return l
		}
		length, b := vint(buffer[4:n])
		if b == nil || length == 0 || length > uint64(len(b)) {
			l.broken = true
			return l
		}
		next := off + int64(n-len(b)) + int64(length)
		b = b[:length]
		h, ok := header5(b)
		if !ok {
			l.broken = true
			return l
		}
		switch h.kind {
		case 4:
			l.encrypted = true
			return l
		case 2:
			if len(l.files) >= limit {
				l.more = true
				return l
			}
			if !l.add5(h, next) {
				l.broken = true
				return l
			}
		case 5:
			return l
		}
		off = next + int64(h.data&(1<<62-1))
		if off > size || off < next {
			l.broken = true
			return l
		}
	}
}

// rarHeader is what all headers of RAR 5 begin with.
type rarHeader struct {
	kind, data  uint64
	body, extra []byte
}

func header5(b []byte) (h rarHeader, ok bool) {
	var flags, extra uint64
	if h.kind, b = vint(b); b == nil {
		return h, false
	}
	if flags, b = vint(b); b == nil {
		return h, false
	}
	if flags&1 != 0 {
		if extra, b = vint(b); b == nil {
			return h, false
		}
	}
	if flags&2 != 0 {
		if h.data, b = vint(b); b == nil {
			return h, false
		}
	}
	if extra > uint64(len(b)) {
		return h, false
	}
	h.body, h.extra = b[:len(b)-int(extra)], b[len(b)-int(extra):]
	return h, true
}

// add5 adds the file of a header, whose data is at.
func (l *listing) add5(h rarHeader, at int64) bool {
	b := h.body
	var v [6]uint64 // flags, size, attributes, compression, system, octets of the name
	for i := range v {
		if i == 3 {
			skip := 4 * int(v[0]>>1&1+v[0]>>2&1)
			if len(b) < skip {
				return false
			}
			b = b[skip:]
		}
		if v[i], b = vint(b); b == nil {
			return false
		}
	}
	if v[5] > uint64(len(b)) {
		return false
	}
	f := listed{name: string(b[:v[5]]), folder: v[0]&1 != 0, at: at}
	if v[3]>>7&7 == 0 {
		f.size = int64(h.data & (1<<62 - 1))
	}
	for e := h.extra; len(e) > 0; {
		n, rest := vint(e)
		if rest == nil || n > uint64(len(rest)) {
			break
		}
		if kind, _ := vint(rest[:n]); kind == 1 && n > 0 {
			f.encrypted = true
		}
		e = rest[n:]
	}
	l.files = append(l.files, f)
	return true
}

// rar judges the names in a RAR archive, and the content of what is not compressed.
func (x *examination) rar(f *file, at io.ReaderAt, size int64, whole bool) {
	l := readRAR(at, size, x.config.Files)
	for _, e := range l.files {
		l.packed = l.packed || e.size == 0 && !e.folder && !e.encrypted
	}
	x.listing(f, at, size, whole, l)
}

// listing judges what the headers of an archive tell.
func (x *examination) listing(f *file, at io.ReaderAt, size int64, whole bool, l listing) {
	if l.encrypted {
		x.note(verdict.Encrypted, f, "is encrypted, names too")
	}
	if l.more {
		x.note(verdict.Uninspected, f, "has more than %d files", x.config.Files)
	}
	for _, e := range l.files {
		inner := &file{names: []string{e.name}, within: f, depth: f.depth + 1}
		switch {
		case e.encrypted:
			x.note(verdict.Encrypted, f, "is encrypted")
		case e.size > 0 && e.at < size:
			inner.size = min(e.size, size-e.at)
			section := io.NewSectionReader(at, e.at, inner.size)
			inner.at, inner.open = section, func() (io.Reader, error) { return io.NewSectionReader(section, 0, inner.size), nil }
			x.file(inner)
			continue
		}
		x.files++
		if !e.folder {
			x.names(inner)
		}
	}
	switch {
	case l.broken && whole:
		x.note(verdict.Uninspected, f, "is a broken archive")
	case l.packed:
		x.note(verdict.Uninspected, f, "was looked at by its names alone")
	}
}
