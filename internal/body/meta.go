package body

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// Metadata is a list of fields: type (16 bits, the highest set when a reader must
// understand the field), length (32 bits), value.
const (
	fieldRequired = 0x8000

	fieldReceived    = 1 // Unix microseconds, 64 bits
	fieldReversePath = 2
	fieldOwner       = 3                 // repeated
	fieldQueued      = 4                 // repeated
	fieldSHA256      = 5                 // of the staged octets
	fieldHead        = 6 | fieldRequired // octets of the head, uvarint
	fieldSource      = 7                 // in a seal: a segment whose content this one took over; repeated
	fieldTotals      = 8                 // in a seal: octets of body records, octets of event records, uvarints
)

// appendField appends one metadata field.
func appendField[T string | []byte](b []byte, kind uint16, value T) []byte {
	b = binary.BigEndian.AppendUint16(b, kind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(value)))
	return append(b, value...)
}

// appendText appends a length and a text.
func appendText[T string | []byte](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// bodyMeta is the metadata of a body record.
type bodyMeta struct {
	Meta
	head   int64
	sha256 [32]byte
}

// appendTo appends the encoded fields.
func (m *bodyMeta) appendTo(b []byte) []byte {
	var scratch [64]byte
	b = appendField(b, fieldHead, binary.AppendUvarint(scratch[:0], uint64(m.head)))
	b = appendField(b, fieldSHA256, m.sha256[:])
	if !m.Received.IsZero() {
		b = appendField(b, fieldReceived, binary.BigEndian.AppendUint64(scratch[:0], uint64(m.Received.UnixMicro())))
	}
	b = appendField(b, fieldReversePath, m.ReversePath)
	for i := range m.Owners {
		o := &m.Owners[i]
		b = binary.BigEndian.AppendUint16(b, fieldOwner)
		start := len(b)
		b = append(b, 0, 0, 0, 0)
		b = binary.AppendVarint(b, o.Account)
		b = binary.AppendUvarint(b, uint64(o.Flags))
		b = appendText(b, o.Login)
		b = appendText(b, o.Mailbox)
		b = appendText(b, o.UniqueID)
		b = appendText(b, o.Prefix)
		binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-4))
	}
	for _, path := range m.Queued {
		b = appendField(b, fieldQueued, path)
	}
	return b
}

// eachField calls fn for every field; fn returns false for a type it does not
// know, which is an error (ErrNewer) only if the field is required.
func eachField(b []byte, fn func(kind uint16, r *reader) bool) error {
	for len(b) > 0 {
		if len(b) < 6 {
			return fmt.Errorf("metadata ends within a field: %w", ErrDamaged)
		}
		kind, n := binary.BigEndian.Uint16(b), int64(binary.BigEndian.Uint32(b[2:]))
		if n > int64(len(b)-6) {
			return fmt.Errorf("metadata field %d is cut off: %w", kind, ErrDamaged)
		}
		r := reader{b: b[6 : 6+n]}
		if !fn(kind, &r) && kind&fieldRequired != 0 {
			return fmt.Errorf("metadata field %d: %w", kind, ErrNewer)
		}
		if r.bad {
			return fmt.Errorf("metadata field %d is malformed: %w", kind, ErrDamaged)
		}
		b = b[6+n:]
	}
	return nil
}

// parseBodyMeta reads the metadata of a body record. What it returns does not
// share memory with b.
func parseBodyMeta(b []byte) (bodyMeta, error) {
	var m bodyMeta
	err := eachField(b, func(kind uint16, r *reader) bool {
		switch kind {
		case fieldHead:
			m.head = int64(min(r.uvarint(), math.MaxInt64))
		case fieldSHA256:
			r.copyTo(m.sha256[:])
		case fieldReceived:
			m.Received = time.UnixMicro(int64(r.uint64()))
		case fieldReversePath:
			m.ReversePath = string(r.rest())
		case fieldQueued:
			m.Queued = append(m.Queued, string(r.rest()))
		case fieldOwner:
			m.Owners = append(m.Owners, r.owner())
		default:
			return false
		}
		return true
	})
	return m, err
}

// reader takes values off the front of b; bad is set, and zeros are returned,
// once b is too short.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) owner() Owner {
	o := Owner{Account: r.varint(), Flags: uint32(r.uvarint())}
	o.Login, o.Mailbox, o.UniqueID = r.text(), r.text(), r.text()
	if prefix := r.text(); prefix != "" {
		o.Prefix = []byte(prefix)
	}
	return o
}

func (r *reader) rest() []byte {
	b := r.b
	r.b = nil
	return b
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) copyTo(p []byte) { copy(p, r.take(uint64(len(p)))) }

func (r *reader) uint64() uint64 {
	b := r.take(8)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) text() string { return string(r.take(r.uvarint())) }
