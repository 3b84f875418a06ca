// Package compound reads OLE2 compound files ([MS-CFB]), a file system in a file: the documents
// of old Office programs, Outlook messages, installers. It is tolerant, since programs are, and
// bounded: a hostile file costs no more memory and steps than Limits and its own size allow.
package compound

import (
	"encoding/binary"
	"io"
	"unicode/utf16"
)

// Limits bound what is read, in octets unless said otherwise; zero fields are the defaults.
type Limits struct {
	Streams int   // entries of the directory; 4096
	Stream  int64 // of one stream; 256 KiB
	Table   int64 // of the table of small sectors; 64 KiB
	Small   int64 // of what small streams lie in; 512 KiB
	Total   int64 // of all streams; 2 MiB
}

func (l Limits) withDefaults() Limits {
	set := func(v *int64, d int64) {
		if *v <= 0 {
			*v = d
		}
	}
	if l.Streams <= 0 {
		l.Streams = 4096
	}
	set(&l.Stream, 256<<10)
	set(&l.Table, 64<<10)
	set(&l.Small, 512<<10)
	set(&l.Total, 2<<20)
	return l
}

// Kinds of a Stream.
const (
	Storage = 1 // a folder
	Data    = 2
	Root    = 5
)

// Stream is an entry of a file's directory.
type Stream struct {
	Name  string
	Kind  byte
	Class [16]byte
	Size  int64
	start uint32
}

// File is a compound file. It is not safe for concurrent use.
type File struct {
	Streams []Stream // in the directory's order, whatever its tree says
	Whole   bool     // the directory was read to its end

	l      Limits
	r      io.ReaderAt
	size   int64
	sector int64    // octets
	fat    []uint32 // sectors that hold the table of sectors
	mini   []byte   // the table of small sectors
	small  []byte   // what the small sectors lie in
	left   int64    // octets of streams that may still be read
}

// none is above all numbers of sectors; what is not below ends a chain.
const none = 1<<32 - 6

// Read reads the directory, as far as it makes sense; ok is false when there is none.
func Read(r io.ReaderAt, size int64, l Limits) (f *File, ok bool) {
	var h [512]byte
	if n, _ := r.ReadAt(h[:], 0); n < len(h) {
		return nil, false
	}
	shift := binary.LittleEndian.Uint16(h[30:])
	if shift != 9 && shift != 12 {
		return nil, false
	}
	l = l.withDefaults()
	f = &File{l: l, r: r, size: size, sector: 1 << shift, left: l.Total}
	f.tables(h[:])
	most := int64(l.Streams) * 128
	directory := f.chain(binary.LittleEndian.Uint32(h[48:]), most)
	f.Whole = len(directory) > 0 && int64(len(directory)) < most
	for ; len(directory) >= 128; directory = directory[128:] {
		f.Streams = append(f.Streams, entry(directory[:128]))
	}
	if len(f.Streams) > 0 && f.Streams[0].Kind == Root {
		f.mini = f.chain(binary.LittleEndian.Uint32(h[60:]), l.Table)
		f.small = f.chain(f.Streams[0].start, l.Small)
	}
	return f, len(f.Streams) > 0
}

// tables reads where the table of sectors lies.
func (f *File) tables(h []byte) {
	most := int(f.size/f.sector) + 1
	for i := range 109 {
		if s := binary.LittleEndian.Uint32(h[76+4*i:]); s < none {
			f.fat = append(f.fat, s)
		}
	}
	next := binary.LittleEndian.Uint32(h[68:])
	for steps := 0; next < none && steps <= most/int(f.sector/4) && len(f.fat) < most; steps++ {
		b := f.read(next)
		if b == nil {
			return
		}
		for ; len(b) > 4; b = b[4:] {
			if s := binary.LittleEndian.Uint32(b); s < none {
				f.fat = append(f.fat, s)
			}
		}
		next = binary.LittleEndian.Uint32(b)
	}
}

// read is a sector's octets, nil when the file ends before.
func (f *File) read(sector uint32) []byte {
	b := make([]byte, f.sector)
	n, _ := f.r.ReadAt(b, (int64(sector)+1)*f.sector)
	if n == 0 {
		return nil
	}
	return b
}

// next is the sector behind one.
func (f *File) next(sector uint32) uint32 {
	per := uint32(f.sector / 4)
	if int64(sector/per) >= int64(len(f.fat)) {
		return 1<<32 - 2
	}
	var b [4]byte
	if n, _ := f.r.ReadAt(b[:], (int64(f.fat[sector/per])+1)*f.sector+int64(sector%per)*4); n < 4 {
		return 1<<32 - 2
	}
	return binary.LittleEndian.Uint32(b[:])
}

// chain reads the sectors from start on, at most most octets.
func (f *File) chain(start uint32, most int64) []byte {
	var out []byte
	for left := min(most, f.size+f.sector) / f.sector; start < none && left > 0; left-- {
		b := f.read(start)
		if b == nil {
			break
		}
		out = append(out, b...)
		start = f.next(start)
	}
	return out
}

// Content is the content of one of the file's streams, as much of it as the limits allow, at most most octets unless most is 0.
func (f *File) Content(s Stream, most int64) []byte {
	if most <= 0 {
		most = f.l.Stream
	}
	n := min(s.Size, most, f.l.Stream, f.left)
	f.left -= n
	var out []byte
	if s.Size >= 4096 {
		out = f.chain(s.start, (n+f.sector-1)/f.sector*f.sector)
	} else {
		for at := s.start; int64(len(out)) < n; {
			from := int64(at) * 64
			if from+64 > int64(len(f.small)) || int64(at)*4+4 > int64(len(f.mini)) {
				break
			}
			out = append(out, f.small[from:from+64]...)
			at = binary.LittleEndian.Uint32(f.mini[at*4:])
		}
	}
	return out[:min(n, int64(len(out)))]
}

// entry reads an entry of the directory.
func entry(b []byte) Stream {
	n := min(int(binary.LittleEndian.Uint16(b[64:])), 64) / 2
	name := make([]uint16, 0, 32)
	for i := range n {
		if u := binary.LittleEndian.Uint16(b[2*i:]); u != 0 {
			name = append(name, u)
		}
	}
	s := Stream{Name: string(utf16.Decode(name)), Kind: b[66], start: binary.LittleEndian.Uint32(b[116:]), Size: int64(binary.LittleEndian.Uint32(b[120:]))}
	copy(s.Class[:], b[80:])
	return s
}
