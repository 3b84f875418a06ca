package trace

import (
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/message"
)

// The kinds of keys; they keep an address apart from a Message-ID of the same text.
const (
	keyAddress   = 'a'
	keyMessageID = 'm'
)

// hashKey is FNV-1a, 64 bits, of a kind and a key; zero, which means no key, is
// avoided. Collisions are found when the row is read.
func hashKey(kind byte, key string) int64 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := (uint64(offset) ^ uint64(kind)) * prime
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * prime
	}
	if h == 0 {
		h = 1
	}
	return int64(h)
}

// addressHash is the hash of an address as printed, "" has none.
func addressHash(s string) int64 {
	if s == "" {
		return 0
	}
	return hashKey(keyAddress, addressKey(s))
}

// addressKey folds an address as printed; ASCII, the usual, without parsing.
func addressKey(s string) string {
	for i := range len(s) {
		if s[i] >= 0x80 {
			if a, err := address.Parse(s); err == nil {
				return a.Key()
			}
			break
		}
	}
	return strings.ToLower(s)
}

// messageIDHash is the hash of a Message-ID field, with or without brackets.
func messageIDHash(s string) int64 {
	if s = trimMessageID(s); s == "" {
		return 0
	}
	return hashKey(keyMessageID, s)
}

func trimMessageID(s string) string {
	s = strings.TrimSpace(s)
	return strings.TrimSuffix(strings.TrimPrefix(s, "<"), ">")
}

// dayOf is the number of the day, UTC, on which an id was made.
func dayOf(id message.ID) int64 { return id.Time().Unix() / 86400 }

// floorID is the least id made at t.
func floorID(t time.Time) message.ID {
	var id message.ID
	ms := uint64(max(t.UnixMilli(), 0))
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	return id
}
