package dkim

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"

	"poczta.example/poczta/internal/message"
)

// HashedHeader is what the signature in field index of a header section hashes of it.
func HashedHeader(header []byte, index int, c Canonicalization, names []string) []byte {
	fields := slices.Collect(message.Fields(header))
	for i, n := range names {
		names[i] = strings.ToLower(trimFWS(n))
	}
	var out bytes.Buffer
	newIndex(fields).hash(&out, c, fields, names, index)
	out.Write(ownField(c, fields[index]))
	return out.Bytes()
}

// Forge signs a message with tags that a Signer never writes, l= honoured.
func Forge(key ed25519.PrivateKey, domain, selector, extra, msg string) string {
	header, rest, _ := message.SplitHeader([]byte(msg))
	m := &measure{}
	m.canon = NewBody(Relaxed, m)
	limit := int64(-1)
	if tags, err := ParseTags(extra); err == nil && tags[0].Name == "l" {
		limit, _, _ = number(tags[0].Value, 10)
	}
	l := m.upTo(limit)
	_, _ = m.canon.Write(AfterEmptyLine(rest))
	_ = m.canon.Close()
	field := "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed; d=" + domain + "; s=" + selector + "; h=From; " + extra +
		"bh=" + base64.StdEncoding.EncodeToString(l.h.Sum(nil)) + "; b="
	all := append([]byte(field+"\r\n"), header...)
	sum := sha256.Sum256(HashedHeader(all, 0, Relaxed, []string{"From"}))
	return field + base64.StdEncoding.EncodeToString(ed25519.Sign(key, sum[:])) + "\r\n" + msg
}

// CachedKeys is how many parsed keys a Verifier keeps.
func CachedKeys(v *Verifier) int { return len(v.keys.keys) }
