package message

import (
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"time"
)

// IDLength is the length of an ID's text in octets.
const IDLength = 26

// ErrBadID is returned by ParseID for text that is not a message id.
var ErrBadID = errors.New("message id must be 26 characters of 0-9 and a-v")

// idEncoding is base32 with the extended hex alphabet (RFC 4648 §7) in lower
// case, so that the text of ids sorts as their octets do.
var idEncoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// ID names one accepted message for ever: in the queue, in the trace, in the
// Received field, and as the POP3 unique-id of its mailbox entries. It is 128
// bits: 48 bits of Unix milliseconds, so that ids are nearly in order of
// arrival, and 80 random bits. The zero ID names nothing.
type ID [16]byte

// NewID makes an ID for a message that arrives at now, with randomness from
// rnd (crypto/rand.Reader outside tests).
func NewID(now time.Time, rnd io.Reader) (ID, error) {
	var id ID
	ms := uint64(now.UnixMilli())
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	if _, err := io.ReadFull(rnd, id[6:]); err != nil {
		return ID{}, fmt.Errorf("read randomness for a message id: %w", err)
	}
	return id, nil
}

// ParseID reads the text form that String writes.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != IDLength {
		return ID{}, ErrBadID
	}
	b, err := idEncoding.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return ID{}, ErrBadID
	}
	copy(id[:], b)
	if id.String() != s { // the last character carries three unused bits
		return ID{}, ErrBadID
	}
	return id, nil
}

// String returns the 26-character text form.
func (id ID) String() string { return idEncoding.EncodeToString(id[:]) }

// AppendTo appends the text form to b and returns the extended slice.
func (id ID) AppendTo(b []byte) []byte { return idEncoding.AppendEncode(b, id[:]) }

// IsZero reports whether id names nothing.
func (id ID) IsZero() bool { return id == ID{} }

// Time returns the time the id was made, to the millisecond.
func (id ID) Time() time.Time {
	var ms int64
	for i := range 6 {
		ms = ms<<8 | int64(id[i])
	}
	return time.UnixMilli(ms)
}
