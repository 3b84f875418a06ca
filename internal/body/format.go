package body

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"poczta.example/poczta/internal/message"
)

// The format of a segment file, integers big-endian:
//
//	segment header   96 octets: magic, version, length, flags, salt, created,
//	                 first record's offset, origin, CRC-32C of the header
//	(gap)            in segments of one large body: zeros up to the first record
//	record …         one after the other
//	(zeros)          in a segment that is being written, or was when its process died
//
// and of a record:
//
//	record header    88 octets, see recordHead; ends with a CRC-32C of its own
//	metadata         typed fields, see meta.go
//	octets           of the message, of journal events, or of the seal
//	CRC-32C          of metadata, octets and record header, in this order
//
// The header comes last into the sum because it is known last: salt and offset
// are given when the group is written.

// ErrNewer is returned for a record that needs a newer program: a codec, key or
// required metadata field that this one does not know.
var ErrNewer = errors.New("record was written by a newer program; upgrade to read it")

const (
	segmentMagic   = "POCZTASG"
	segmentVersion = 1
	segmentHeader  = 96

	recordMagic     = "\xb0PzR"
	recordVersion   = 1
	recordHeaderLen = 88
	recordTrailer   = 4

	saltLength = 16

	// MaxMetaOctets bounds the metadata of a record.
	MaxMetaOctets = 16 << 20
	// MaxHeadOctets bounds the trace fields that stand before a message.
	MaxHeadOctets = 1 << 20
)

// salt tells the records of one segment from anything else in the world.
type salt [saltLength]byte

// Flags of a segment.
const (
	flagLarge  = 1 << iota // one large body
	flagMerged             // rewritten by Merge: without a seal its events do not count
)

// segmentHead is the header of a segment file.
type segmentHead struct {
	flags   uint32
	salt    salt
	created time.Time
	first   int64  // offset of the first record
	origin  string // the segment whose place in the log this one takes; its own name if none
}

const originLength = 40

// encode returns the octets of h.
func (h segmentHead) encode() []byte {
	b := make([]byte, segmentHeader)
	copy(b, segmentMagic)
	binary.BigEndian.PutUint16(b[8:], segmentVersion)
	binary.BigEndian.PutUint16(b[10:], segmentHeader)
	binary.BigEndian.PutUint32(b[12:], h.flags)
	copy(b[16:], h.salt[:])
	binary.BigEndian.PutUint64(b[32:], uint64(h.created.UnixMicro()))
	binary.BigEndian.PutUint64(b[40:], uint64(h.first))
	copy(b[48:48+originLength], h.origin)
	binary.BigEndian.PutUint32(b[92:], updateCRC(0, b[:92]))
	return b
}

// errUnborn says that a file has no segment header yet: its creator never got to
// store anything in it.
var errUnborn = errors.New("segment holds nothing")

// parseSegmentHead reads a segment header; errUnborn for zeros or too few octets.
func parseSegmentHead(b []byte) (segmentHead, error) {
	var h segmentHead
	if len(b) < segmentHeader || bytes.Equal(b[:segmentHeader], make([]byte, segmentHeader)) {
		return h, errUnborn
	}
	if string(b[:8]) != segmentMagic || binary.BigEndian.Uint32(b[92:]) != updateCRC(0, b[:92]) {
		return h, fmt.Errorf("segment header: %w", ErrDamaged)
	}
	if v := binary.BigEndian.Uint16(b[8:]); v != segmentVersion {
		return h, fmt.Errorf("segment version %d: %w", v, ErrNewer)
	}
	h.flags = binary.BigEndian.Uint32(b[12:])
	copy(h.salt[:], b[16:])
	h.created = time.UnixMicro(int64(binary.BigEndian.Uint64(b[32:])))
	h.first = int64(binary.BigEndian.Uint64(b[40:]))
	h.origin = string(bytes.TrimRight(b[48:48+originLength], "\x00"))
	if h.first < segmentHeader {
		return h, fmt.Errorf("segment header: first record at %d: %w", h.first, ErrDamaged)
	}
	return h, nil
}

// recordKind says what the octets of a record are.
type recordKind uint8

const (
	kindBody recordKind = 1 + iota
	kindEvents
	kindSeal // the last record of a segment that was closed in order
)

// flagDots marks a body in which some line begins with a dot.
const flagDots = 1

// recordHead is the header of a record.
type recordHead struct {
	kind   recordKind
	flags  uint8
	offset int64      // its own
	stored int64      // of the whole record
	octets int64      // of the octets, without metadata
	meta   int64      // of the metadata
	id     message.ID // of a body
	synced int64      // everything before this offset was durable when the record was written
}

// put writes the header into b[:recordHeaderLen].
func (h *recordHead) put(b []byte, s *salt) {
	copy(b, recordMagic)
	b[4] = recordVersion
	b[5] = byte(h.kind)
	binary.BigEndian.PutUint16(b[6:], recordHeaderLen)
	copy(b[8:24], s[:])
	binary.BigEndian.PutUint64(b[24:], uint64(h.offset))
	binary.BigEndian.PutUint64(b[32:], uint64(h.stored))
	binary.BigEndian.PutUint64(b[40:], uint64(h.octets))
	binary.BigEndian.PutUint32(b[48:], uint32(h.meta))
	b[52] = 0 // codec: plain
	b[53] = h.flags
	b[54], b[55] = 0, 0
	binary.BigEndian.PutUint32(b[56:], 0) // key id: none
	copy(b[60:76], h.id[:])
	binary.BigEndian.PutUint64(b[76:], uint64(h.synced))
	binary.BigEndian.PutUint32(b[84:], updateCRC(0, b[:84]))
}

// parseRecordHead reads the header of the record at offset in the segment with
// that salt. The error wraps ErrDamaged or ErrNewer.
func parseRecordHead(b []byte, s *salt, offset int64) (recordHead, error) {
	var h recordHead
	if len(b) < recordHeaderLen || string(b[:4]) != recordMagic {
		return h, fmt.Errorf("no record header at %d: %w", offset, ErrDamaged)
	}
	if binary.BigEndian.Uint32(b[84:]) != updateCRC(0, b[:84]) {
		return h, fmt.Errorf("record header at %d has a wrong checksum: %w", offset, ErrDamaged)
	}
	if !bytes.Equal(b[8:24], s[:]) || int64(binary.BigEndian.Uint64(b[24:])) != offset {
		return h, fmt.Errorf("record header at %d belongs elsewhere: %w", offset, ErrDamaged)
	}
	h = recordHead{
		kind: recordKind(b[5]), flags: b[53], offset: offset,
		stored: int64(binary.BigEndian.Uint64(b[32:])),
		octets: int64(binary.BigEndian.Uint64(b[40:])),
		meta:   int64(binary.BigEndian.Uint32(b[48:])),
		synced: int64(binary.BigEndian.Uint64(b[76:])),
	}
	copy(h.id[:], b[60:76])
	if b[4] != recordVersion || binary.BigEndian.Uint16(b[6:]) != recordHeaderLen || b[52] != 0 || binary.BigEndian.Uint32(b[56:]) != 0 {
		return h, fmt.Errorf("record at %d (version %d, codec %d, key %d): %w", offset, b[4], b[52], binary.BigEndian.Uint32(b[56:]), ErrNewer)
	}
	if h.octets < 0 || h.meta > MaxMetaOctets || h.stored != recordHeaderLen+h.meta+h.octets+recordTrailer {
		return h, fmt.Errorf("record header at %d has impossible lengths: %w", offset, ErrDamaged)
	}
	return h, nil
}

// sum completes the CRC-32C of a record from that of its metadata and octets.
func recordSum(body uint32, head []byte) uint32 { return updateCRC(body, head[:recordHeaderLen]) }
