package attachment

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// zipEntry is one file of a zip archive, as its directory and its local header tell.
type zipEntry struct {
	names     []string // in the directory, in its Unicode extra field, in front of the data
	encrypted bool
	method    uint16
	packed    int64 // octets, negative when unknown
	span      int64 // octets by the smaller of two claims
	header    int64 // offset of the local header
	data      int64 // offset of the data, 0 when there is none
	listed    bool  // the directory has it
}

// zipArchive is what there is to know without unpacking.
type zipArchive struct {
	entries   []zipEntry
	more      bool // there are more entries than were read
	broken    bool // there is no directory that can be read
	hidden    bool // files that the directory does not have
	overlap   bool // data of several files at the same place
	differing bool // a file's names, sizes or methods differ
}

// Signatures of zip's records.
var (
	zipLocal   = []byte("PK\x03\x04")
	zipCentral = []byte("PK\x01\x02")
	zipEnd     = []byte("PK\x05\x06")
)

// maxZipName is how much of a name is kept, in octets.
const maxZipName = 512

// readZip reads the directory of a zip archive and the headers in front of its files, at most
// limit entries. Programs differ in which of the two they believe, so both count.
func readZip(r io.ReaderAt, size int64, limit int) zipArchive {
	var a zipArchive
	a.broken = !a.directory(r, size, limit)
	for i := range a.entries {
		a.local(r, size, &a.entries[i])
	}
	slices.SortStableFunc(a.entries, func(p, q zipEntry) int { return int(max(-1, min(1, p.header-q.header))) })
	a.scan(r, size, limit)
	end := int64(-1)
	for _, e := range a.entries {
		if e.listed {
			a.overlap = a.overlap || e.header < end
			end = max(end, e.end())
		}
	}
	return a
}

// directory reads the central directory; false when there is none that makes sense.
func (a *zipArchive) directory(r io.ReaderAt, size int64, limit int) bool {
	tail := make([]byte, min(size, 66<<10))
	if n, _ := r.ReadAt(tail, size-int64(len(tail))); n < len(tail) {
		return false
	}
	i := bytes.LastIndex(tail, zipEnd)
	if i < 0 || i+22 > len(tail) {
		return false
	}
	end := tail[i:]
	count := int64(binary.LittleEndian.Uint16(end[10:]))
	length, start := int64(binary.LittleEndian.Uint32(end[12:])), int64(binary.LittleEndian.Uint32(end[16:]))
	at := size - int64(len(tail)) + int64(i)
	base := max(0, at-length-start) // of what may stand in front of the archive
	if !hasAt(r, base+start, zipCentral) {
		base = 0
	}
	if !hasAt(r, base+start, zipCentral) {
		return count == 0 && length == 0
	}
	b := bufio.NewReaderSize(io.NewSectionReader(r, base+start, size-base-start), 8<<10)
	for {
		e, ok := centralEntry(b, base)
		if !ok {
			break
		}
		if len(a.entries) >= limit {
			a.more = true
			break
		}
		a.entries = append(a.entries, e)
	}
	return len(a.entries) > 0
}

func hasAt(r io.ReaderAt, off int64, want []byte) bool {
	b := make([]byte, len(want))
	n, _ := r.ReadAt(b, off)
	return off >= 0 && n == len(b) && bytes.Equal(b, want)
}

// centralEntry reads one entry of the directory.
func centralEntry(b *bufio.Reader, base int64) (zipEntry, bool) {
	var h [46]byte
	if _, err := io.ReadFull(b, h[:]); err != nil || !bytes.HasPrefix(h[:], zipCentral) {
		return zipEntry{}, false
	}
	e := zipEntry{
		encrypted: h[8]&1 != 0, method: binary.LittleEndian.Uint16(h[10:]), packed: int64(binary.LittleEndian.Uint32(h[20:])),
		header: base + int64(binary.LittleEndian.Uint32(h[42:])), listed: true,
	}
	name, ok := readName(b, int(binary.LittleEndian.Uint16(h[28:])))
	if !ok {
		return zipEntry{}, false
	}
	e.names = append(e.names, name)
	extra := make([]byte, binary.LittleEndian.Uint16(h[30:]))
	if _, err := io.ReadFull(b, extra); err != nil {
		return zipEntry{}, false
	}
	e.extra(extra, binary.LittleEndian.Uint32(h[24:]) == 1<<32-1)
	_, err := b.Discard(int(binary.LittleEndian.Uint16(h[32:])))
	return e, err == nil
}

// readName reads a name of n octets and keeps the end of a very long one, where its type is.
func readName(b io.Reader, n int) (string, bool) {
	name := make([]byte, n)
	if _, err := io.ReadFull(b, name); err != nil {
		return "", false
	}
	return string(name[max(0, n-maxZipName):]), true
}

// extra reads the extra fields that matter: sizes over 4 GiB and the Unicode name.
func (e *zipEntry) extra(b []byte, wideSize bool) {
	for len(b) >= 4 {
		id, n := binary.LittleEndian.Uint16(b), int(binary.LittleEndian.Uint16(b[2:]))
		b = b[4:]
		if n > len(b) {
			return
		}
		field := b[:n]
		b = b[n:]
		switch {
		case id == 0x7075 && n > 5:
			e.names = append(e.names, string(field[5:][:min(n-5, maxZipName)]))
		case id == 1:
			take := func() int64 {
				if len(field) < 8 {
					return -1
				}
				v := int64(binary.LittleEndian.Uint64(field) &^ (1 << 63))
				field = field[8:]
				return v
			}
			if wideSize {
				take()
			}
			if e.packed == 1<<32-1 {
				e.packed = take()
			}
			if e.header == 1<<32-1 {
				e.header = max(0, take())
			}
		}
	}
}

// local reads the header in front of a file's data.
func (a *zipArchive) local(r io.ReaderAt, size int64, e *zipEntry) {
	var h [30]byte
	if n, _ := r.ReadAt(h[:], e.header); n < len(h) || !bytes.HasPrefix(h[:], zipLocal) {
		a.broken = a.broken || e.listed
		return
	}
	n, m := int64(binary.LittleEndian.Uint16(h[26:])), int64(binary.LittleEndian.Uint16(h[28:]))
	name, ok := readName(io.NewSectionReader(r, e.header+30, n), int(n))
	if !ok {
		return
	}
	e.encrypted = e.encrypted || h[6]&1 != 0
	e.data = e.header + 30 + n + m
	method, packed := binary.LittleEndian.Uint16(h[8:]), int64(binary.LittleEndian.Uint32(h[18:]))
	if h[6]&8 != 0 && packed == 0 || packed == 1<<32-1 {
		packed = -1 // told behind the data, or in an extra field
	}
	if e.data > size {
		e.data = 0
	}
	if !e.listed {
		e.method, e.packed, e.span = method, packed, packed
		e.names = append(e.names, name)
		return
	}
	e.span = e.packed
	if packed >= 0 && packed != e.packed {
		a.differing = true
		e.span = min(packed, max(0, e.packed))
	}
	a.differing = a.differing || method != e.method
	if !sameName(e.names[0], name) {
		a.differing = true
		e.names = append(e.names, name)
	}
}

// sameName compares names as the writers of archives mean them.
func sameName(a, b string) bool {
	return strings.ReplaceAll(a, `\`, "/") == strings.ReplaceAll(b, `\`, "/")
}

// maxCandidates bounds the places, for each entry of the limit, that are tried for a file or header.
const maxCandidates = 64

// scan finds the files that the directory does not have. Entries are in order of their headers.
func (a *zipArchive) scan(r io.ReaderAt, size int64, limit int) {
	listed, i, tried := len(a.entries), 0, 0
	const window = 64 << 10
	buffer := make([]byte, window+len(zipLocal)-1)
	skip := int64(0) // what is in front of it is no place to look
	for start := int64(0); start < size; start += window {
		n, _ := r.ReadAt(buffer[:min(int64(len(buffer)), size-start)], start)
		for j := max(0, skip-start); j < int64(n); j = max(j+1, skip-start) {
			k := bytes.Index(buffer[j:n], zipLocal)
			if k < 0 {
				break
			}
			j += int64(k)
			off := start + j
			for i < listed && a.entries[i].end() <= off {
				i++
			}
			if i < listed && a.entries[i].header <= off {
				skip = a.entries[i].end()
				continue
			}
			if tried++; tried > maxCandidates*limit || len(a.entries) >= limit {
				a.more = true
				return
			}
			if e := (zipEntry{header: off}); a.hiddenAt(r, size, &e) {
				a.entries = append(a.entries, e)
				a.hidden = true
				skip = e.end()
			}
		}
	}
}

// hiddenAt reads the file at e.header, if there is one.
func (a *zipArchive) hiddenAt(r io.ReaderAt, size int64, e *zipEntry) bool {
	var h [30]byte
	if n, _ := r.ReadAt(h[:], e.header); n < len(h) || binary.LittleEndian.Uint16(h[8:]) >= 100 {
		return false
	}
	a.local(r, size, e)
	return e.data > 0 && len(e.names) > 0 && e.names[0] != ""
}

// end is the offset behind an entry's data.
func (e *zipEntry) end() int64 {
	if e.data == 0 {
		return e.header + 4
	}
	return e.data + max(0, e.span)
}

var errMethod = errors.New("it is compressed in a way that can't be read here")

// open unpacks an entry.
func (i *Inspector) openZip(r io.ReaderAt, size int64, e zipEntry) (io.Reader, error) {
	if e.data <= 0 || e.data > size {
		return nil, errors.New("its data is missing")
	}
	n := size - e.data
	if e.packed >= 0 {
		n = min(n, e.packed)
	}
	data := io.NewSectionReader(r, e.data, n)
	switch e.method {
	case 0:
		return data, nil
	case 8:
		return i.inflate(data), nil
	case 12:
		return bzip2.NewReader(data), nil
	}
	return nil, fmt.Errorf("%w (method %d)", errMethod, e.method)
}

// inflate is a pooled reader of DEFLATE; done gives it back.
func (i *Inspector) inflate(r io.Reader) io.Reader {
	b := bufio.NewReaderSize(r, 4<<10)
	if z, ok := i.inflaters.Get().(io.ReadCloser); ok {
		if err := z.(flate.Resetter).Reset(b, nil); err == nil {
			return z
		}
	}
	return flate.NewReader(b)
}

// done gives a reader of inflate back.
func (i *Inspector) done(r io.Reader) {
	if z, ok := r.(io.ReadCloser); ok {
		if _, resets := z.(flate.Resetter); resets {
			i.inflaters.Put(z)
		}
	}
}
