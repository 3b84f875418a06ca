package arrivals

import (
	"encoding/binary"
	"hash/crc32"

	"poczta.example/poczta/internal/disk"
)

// A record is a header, a key and a letter's octets:
//
//	"PAR1" crc(4) server(8) told(8) octets(8) sha256(32) length of key(2) key octets
//
// in network order. The CRC-32C is of what stands between it and the octets. Files are written over from the
// beginning; a header that is none ends the list.
const (
	magic    = "PAR1"
	headLen  = 4 + 4 + 8 + 8 + 8 + 32 + 2
	maxKey   = 1 << 10
	scanRead = headLen + maxKey
)

var table = crc32.MakeTable(crc32.Castagnoli)

type record struct {
	server       Server
	told, octets int64
	sum          [32]byte
}

// put encodes the header and the key, and returns their length. b is long enough.
func (r *record) put(b []byte, key string) int {
	copy(b, magic)
	copy(b[8:], r.server[:])
	binary.BigEndian.PutUint64(b[16:], uint64(r.told))
	binary.BigEndian.PutUint64(b[24:], uint64(r.octets))
	copy(b[32:], r.sum[:])
	binary.BigEndian.PutUint16(b[64:], uint16(len(key)))
	n := headLen + copy(b[headLen:], key)
	binary.BigEndian.PutUint32(b[4:], crc32.Checksum(b[8:n], table))
	return n
}

// parse undoes put; ok is false for what it did not write.
func parse(b []byte) (r record, key string, ok bool) {
	if len(b) < headLen || string(b[:4]) != magic {
		return r, "", false
	}
	n := headLen + int(binary.BigEndian.Uint16(b[64:]))
	if n > len(b) || crc32.Checksum(b[8:n], table) != binary.BigEndian.Uint32(b[4:]) {
		return r, "", false
	}
	copy(r.server[:], b[8:])
	copy(r.sum[:], b[32:])
	r.told, r.octets = int64(binary.BigEndian.Uint64(b[16:])), int64(binary.BigEndian.Uint64(b[24:]))
	return r, string(b[headLen:n]), r.octets >= 0
}

// scan finds this server's letters in a file.
func (f *Files) scan(file disk.File, found map[string]*Letter) {
	size, err := file.Size()
	if err != nil {
		return
	}
	buf := make([]byte, scanRead)
	for at := int64(0); at < size; {
		n, err := file.ReadAt(buf, at)
		r, key, ok := parse(buf[:n])
		start := at + headLen + int64(len(key))
		if err != nil && n == 0 || !ok || r.octets > size-start {
			return
		}
		if r.server == f.server {
			found[key] = &Letter{Key: key, Told: r.told, Octets: r.octets, SHA256: r.sum, file: file, start: start}
		}
		at = start + r.octets
	}
}
