package mailbox

import (
	"fmt"

	"poczta.example/poczta/internal/message"
)

// textMark is the first octet of a stored unique-id that is verbatim text. No id
// of ours begins with it before the year 10000.
const textMark = 0xff

// storeUniqueID returns the column's octets for a unique-id; "" and the body's
// own id are stored as nothing.
func storeUniqueID(uniqueID string, body message.ID) []byte {
	if uniqueID == "" {
		return []byte{}
	}
	if id, err := message.ParseID(uniqueID); err == nil && id[0] != textMark {
		if id == body {
			return []byte{}
		}
		return id[:]
	}
	return append([]byte{textMark}, uniqueID...)
}

// appendUniqueID appends the text of a column's octets to b.
func appendUniqueID(b, column []byte, body message.ID) []byte {
	switch {
	case len(column) == 0:
		return body.AppendTo(b)
	case column[0] == textMark:
		return append(b, column[1:]...)
	default:
		return message.ID(column).AppendTo(b)
	}
}

// loadUniqueID is appendUniqueID with a check of what the database gave.
func loadUniqueID(column []byte, body message.ID) (string, error) {
	if n := len(column); n > 0 && column[0] != textMark && n != len(body) {
		return "", fmt.Errorf("read unique-id: %d octets in the database, want 16", n)
	}
	return string(appendUniqueID(nil, column, body)), nil
}

// loadID turns a column into an id.
func loadID(column []byte) (message.ID, error) {
	if len(column) != len(message.ID{}) {
		return message.ID{}, fmt.Errorf("read body id: %d octets in the database, want 16", len(column))
	}
	return message.ID(column), nil
}

// UniqueIDOf is the text of a unique-id whose column in the tables entry and retained
// holds these octets, as backups keep it.
func UniqueIDOf(column []byte, body message.ID) (string, error) { return loadUniqueID(column, body) }
