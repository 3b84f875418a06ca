package attachment

import (
	"encoding/binary"
	"io"
	"strings"
	"unicode/utf16"
)

const (
	isoSector       = 2048
	maxDirectories  = 256
	maxIsoDirectory = 256 << 10 // octets read of one directory
)

// readISO lists the files of an ISO 9660 image by its primary and its Joliet directories.
func readISO(r io.ReaderAt, size int64, limit int) (l listing) {
	seen := map[int64]bool{}
	found := false
	for sector := int64(16); sector < 32; sector++ {
		d := make([]byte, isoSector)
		if n, _ := r.ReadAt(d, sector*isoSector); n < len(d) || string(d[1:6]) != "CD001" || d[0] == 255 {
			break
		}
		if d[0] != 1 && d[0] != 2 {
			continue
		}
		found = true
		joliet := d[0] == 2 && d[88] == '%' && d[89] == '/'
		l.directories(r, size, d[156:190], joliet, limit, seen)
	}
	l.broken = l.broken || !found
	return l
}

// directories lists the directory of a record and all below it.
func (l *listing) directories(r io.ReaderAt, size int64, root []byte, joliet bool, limit int, seen map[int64]bool) {
	open := [][]byte{root}
	for len(open) > 0 {
		at := int64(binary.LittleEndian.Uint32(open[0][2:])) * isoSector
		length := int64(binary.LittleEndian.Uint32(open[0][10:]))
		open = open[1:]
		if seen[at] {
			continue
		}
		seen[at] = true
		if len(seen) > maxDirectories || length > maxIsoDirectory {
			l.more = true
			length = min(length, maxIsoDirectory)
		}
		if len(seen) > maxDirectories {
			return
		}
		b := make([]byte, min(length, max(0, size-at)))
		n, _ := r.ReadAt(b, at)
		for b = b[:n]; len(b) > 0; {
			m := int(b[0])
			if m == 0 { // a record does not cross sectors
				skip := len(b) % isoSector
				if skip == 0 {
					skip = isoSector
				}
				b = b[min(skip, len(b)):]
				continue
			}
			if m < 34 || m > len(b) || 33+int(b[32]) > m {
				l.broken = true
				break
			}
			record := b[:m]
			b = b[m:]
			if record[25]&2 != 0 {
				if record[32] != 1 || record[33] > 1 { // not itself, not its parent
					open = append(open, record)
				}
				continue
			}
			if len(l.files) >= limit {
				l.more = true
				return
			}
			l.files = append(l.files, isoFile(record, joliet))
		}
	}
}

// isoFile is the file of a directory's record.
func isoFile(record []byte, joliet bool) listed {
	b := record[33 : 33+int(record[32])]
	name := string(b)
	if joliet {
		units := make([]uint16, len(b)/2)
		for i := range units {
			units[i] = binary.BigEndian.Uint16(b[2*i:])
		}
		name = string(utf16.Decode(units))
	}
	name, _, _ = strings.Cut(name, ";")
	return listed{name: name, at: int64(binary.LittleEndian.Uint32(record[2:])) * isoSector, size: int64(binary.LittleEndian.Uint32(record[10:]))}
}

// iso looks at the files of a disk image.
func (x *examination) iso(f *file, at io.ReaderAt, size int64, whole bool) {
	x.listing(f, at, size, whole, readISO(at, size, x.config.Files))
}

// readTNEF lists the attachments in winmail.dat ([MS-OXTNEF]).
func readTNEF(r io.ReaderAt, size int64, limit int) (l listing) {
	const title, data, rendering = 0x00018010, 0x0006800f, 0x00069002
	current := listed{}
	add := func() {
		if current.name != "" || current.size > 0 {
			l.files = append(l.files, current)
		}
		current = listed{}
	}
	attributes := 0
	for off := int64(6); off < size; {
		var h [9]byte
		if attributes++; attributes > maxCandidates*limit {
			l.more = true
			return l
		}
		if n, _ := r.ReadAt(h[:], off); n < len(h) {
			l.broken = true
			break
		}
		n := int64(binary.LittleEndian.Uint32(h[5:]))
		off += 9
		switch binary.LittleEndian.Uint32(h[1:]) {
		case rendering:
			add()
		case title:
			b := make([]byte, min(n, 1024))
			m, _ := r.ReadAt(b, off)
			current.name, _, _ = strings.Cut(string(b[:m]), "\x00")
		case data:
			current.at, current.size = off, n
		}
		if off += n + 2; len(l.files) >= limit {
			l.more = true
			return l
		}
	}
	add()
	return l
}

// tnef looks at the attachments in winmail.dat.
func (x *examination) tnef(f *file, at io.ReaderAt, size int64, whole bool) {
	x.listing(f, at, size, whole, readTNEF(at, size, x.config.Files))
}
