// Package arctest seals messages for tests of those who validate (RFC 8617 §5.1).
package arctest

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"testing"

	"poczta.example/poczta/internal/dkim"
	"poczta.example/poczta/internal/message"
)

// Sealer is a host that seals.
type Sealer struct {
	Domain   string
	Selector string
	Key      ed25519.PrivateKey
	Time     int64  // t=
	Extra    string // tags of the ARC-Message-Signature beside the usual, as in "l=10; "
}

// New makes a Sealer with a key that depends on its domain alone.
func New(domain string) *Sealer {
	seed := sha256.Sum256([]byte(domain))
	return &Sealer{Domain: domain, Selector: "arc", Key: ed25519.NewKeyFromSeed(seed[:]), Time: 12345}
}

// Record is the Sealer's key record, and Name where it lies.
func (s *Sealer) Record() string {
	pub, _ := s.Key.Public().(ed25519.PublicKey)
	r, _ := dkim.Record(pub)
	return r
}

// Name is where the key record lies.
func (s *Sealer) Name() string { return s.Selector + "._domainkey." + s.Domain }

// Seal puts a set with instance i on top of a message: results are what follows the instance of
// ARC-Authentication-Results.
func (s *Sealer) Seal(t testing.TB, msg string, i int, cv, results string) string {
	t.Helper()
	header, rest, _ := message.SplitHeader([]byte(msg))
	aar := fmt.Sprintf("ARC-Authentication-Results: i=%d; %s\r\n", i, results)
	m := dkim.NewMessage(header)
	tags := fmt.Sprintf("i=%d; a=ed25519-sha256; c=relaxed/relaxed; d=%s; s=%s; t=%d; %sh=from:to:subject:date; ", i, s.Domain, s.Selector, s.Time, s.Extra)
	sig, err := dkim.ReadSignature(dkim.ARCMessage, parse(t, tags+"bh="+base64.StdEncoding.EncodeToString(make([]byte, 32))+"; b=AA=="))
	if err != nil {
		t.Fatal(err)
	}
	body := m.Body(dkim.Relaxed, sig.Length)
	_, _ = m.Write(dkim.AfterEmptyLine(rest))
	m.Close()
	ams := s.sign(t, "ARC-Message-Signature: "+tags+"bh="+base64.StdEncoding.EncodeToString(body.Sum())+"; b=", func(field string) []byte {
		return dkim.NewMessage(append([]byte(field+"\r\n"), header...)).Digest(sig, 0)
	})
	as := s.sign(t, fmt.Sprintf("ARC-Seal: i=%d; a=ed25519-sha256; cv=%s; d=%s; s=%s; t=%d; b=", i, cv, s.Domain, s.Selector, s.Time), func(field string) []byte {
		return sealed(aar+ams+field+"\r\n", string(header), i)
	})
	return as + ams + aar + msg
}

func parse(t testing.TB, s string) []dkim.Tag {
	t.Helper()
	tags, err := dkim.ParseTags(s)
	if err != nil {
		t.Fatal(err)
	}
	return tags
}

// sign completes a field that ends in "b=".
func (s *Sealer) sign(t testing.TB, field string, digest func(field string) []byte) string {
	t.Helper()
	return field + base64.StdEncoding.EncodeToString(ed25519.Sign(s.Key, digest(field))) + "\r\n"
}

// sealed hashes the sets in front of instance i, which lie in header, then the set itself, whose
// last field is the seal (RFC 8617 §5.1.1).
func sealed(own, header string, i int) []byte {
	h := sha256.New()
	for n := 1; n < i; n++ {
		for _, name := range []string{"ARC-Authentication-Results", "ARC-Message-Signature", "ARC-Seal"} {
			for f := range message.Fields([]byte(header)) {
				if f.Is(name) && has(f, n) {
					h.Write(dkim.Relaxed.AppendField(nil, f))
				}
			}
		}
	}
	for f := range message.Fields([]byte(own)) {
		if f.Is("ARC-Seal") {
			h.Write(dkim.Relaxed.Unvalued(nil, f))
		} else {
			h.Write(dkim.Relaxed.AppendField(nil, f))
		}
	}
	return h.Sum(nil)
}

func has(f message.Field, i int) bool {
	var n int
	_, err := fmt.Sscanf(f.Value(), "i=%d;", &n)
	return err == nil && n == i
}
