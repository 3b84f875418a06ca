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
	hashes []*limited
}

// limited is the hash of the first octets of a canonical body.
type limited struct {
	h     hash.Hash
	limit int64 // -1 is all
	taken int64
}

// upTo returns the hash of the first octets, -1 for all; made at its first use.
func (m *measure) upTo(octets int64) *limited {
	for _, l := range m.hashes {
		if l.limit == octets {
			return l
		}
	}
	l := &limited{h: sha256.New(), limit: octets}
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

// unsigned is how many octets of a body the limit leaves out.
func (l *limited) unsigned(octets int64) int64 {
	if l.limit < 0 {
		return 0
	}
	return max(0, octets-l.limit)
}
