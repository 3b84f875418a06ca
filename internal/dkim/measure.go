package dkim

import (
	"crypto/sha256"
	"hash"
)

// measure takes a canonical body: it counts it, and hashes it once for each
// length that signatures ask for.
type measure struct {
	canon  *Body
	octets int64
	hashes []*BodyHash
}

// BodyHash is the hash of the first octets of a canonical body.
type BodyHash struct {
	of    *measure
	h     hash.Hash
	limit int64 // -1 is all
	taken int64
}

// upTo returns the hash of the first octets, -1 for all; made at its first use.
func (m *measure) upTo(octets int64) *BodyHash {
	for _, l := range m.hashes {
		if l.limit == octets {
			return l
		}
	}
	l := &BodyHash{of: m, h: sha256.New(), limit: octets}
	m.hashes = append(m.hashes, l)
	return l
}

// Write implements io.Writer.
func (m *measure) Write(p []byte) (int, error) {
	m.octets += int64(len(p))
	for _, l := range m.hashes {
		part := p
		if l.limit >= 0 {
			part = p[:min(int64(len(p)), l.limit-l.taken)]
		}
		l.h.Write(part)
		l.taken += int64(len(part))
	}
	return len(p), nil
}

// Sum is the SHA-256 hash, once the body is closed.
func (l *BodyHash) Sum() []byte { return l.h.Sum(nil) }

// Octets is how long the whole canonical body is.
func (l *BodyHash) Octets() int64 { return l.of.octets }

// Short reports that the body has fewer octets than were to be hashed.
func (l *BodyHash) Short() bool { return l.limit > l.of.octets }

// Unsigned is how many octets of the canonical body the limit leaves out.
func (l *BodyHash) Unsigned() int64 {
	if l.limit < 0 {
		return 0
	}
	return max(0, l.of.octets-l.limit)
}
