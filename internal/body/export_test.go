package body

import (
	"bytes"
	"context"
)

// CombineCRC and UpdateCRC are tested against each other.
var (
	CombineCRC = combineCRC
	UpdateCRC  = updateCRC
)

// ScanOctets scans octets as a segment file and returns how many octets the pieces
// cover; ok is false when
// records overlap or go backwards, or a piece lies outside.
func ScanOctets(ctx context.Context, b []byte) (covered int64, ok bool, err error) {
	head, err := parseSegmentHead(b)
	if err != nil {
		return 0, true, nil
	}
	end, ok := head.first, true
	err = newScanner(bytes.NewReader(b), int64(len(b)), head.salt).run(ctx, head.first, func(p *piece) error {
		if p.damage == nil && p.offset < end || p.stored <= 0 || p.offset+p.stored > int64(len(b)) {
			ok = false
		}
		if p.damage == nil {
			end = p.offset + p.stored
		}
		covered += p.stored
		p.item("x")
		return nil
	})
	return covered, ok, err
}

// FixSegment makes the checksum of the segment header right, so that a fuzzer gets
// behind it.
func FixSegment(b []byte) {
	if len(b) < segmentHeader {
		return
	}
	h := segmentHead{first: segmentHeader, origin: "x"}
	copy(h.salt[:], b[16:32])
	copy(b, h.encode())
}

// FixRecord makes the header of the record at offset at right in all but its
// lengths, and its checksums.
func FixRecord(b []byte, at int) {
	if at < segmentHeader || at+recordHeaderLen > len(b) {
		return
	}
	var s salt
	copy(s[:], b[16:32])
	var own salt
	copy(own[:], b[at+8:at+24])
	h, _ := parseRecordHead(b[at:], &own, int64(at))
	h.offset = int64(at)
	if h.stored <= 0 || h.stored > int64(len(b)-at) {
		h.stored = int64(len(b) - at)
	}
	h.meta = min(h.meta, max(h.stored-recordHeaderLen-recordTrailer, 0))
	h.octets = h.stored - h.meta - recordHeaderLen - recordTrailer
	if h.octets < 0 {
		return
	}
	h.kind = kindBody + recordKind(b[at+5]%3)
	h.put(b[at:], &s)
	rec := b[at : int64(at)+h.stored]
	sum := recordSum(updateCRC(0, rec[recordHeaderLen:len(rec)-recordTrailer]), rec)
	rec[len(rec)-4], rec[len(rec)-3], rec[len(rec)-2], rec[len(rec)-1] = byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum)
}

// EncodeMeta and DecodeMeta round-trip the metadata of a body record.
func EncodeMeta(m Meta) []byte { return (&bodyMeta{Meta: m}).appendTo(nil) }

// DecodeMeta reads what EncodeMeta wrote.
func DecodeMeta(b []byte) (Meta, error) {
	m, err := parseBodyMeta(b)
	return m.Meta, err
}

// EncodeEvents and DecodeEvents round-trip journal events.
func EncodeEvents(events []Event) (b []byte) {
	for i := range events {
		b = appendEvent(b, &events[i])
	}
	return b
}

// DecodeEvents reads what EncodeEvents wrote.
func DecodeEvents(b []byte) ([]Event, error) { return parseEvents(b) }

// AppendField appends a metadata field of any type.
func AppendField(b []byte, kind uint16, value []byte) []byte { return appendField(b, kind, value) }
