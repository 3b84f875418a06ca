package dkim

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strconv"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/message"
)

// SigningKey is one key that signs for a domain.
type SigningKey struct {
	Selector string        // under which the key record lies
	Private  crypto.Signer // *rsa.PrivateKey of at least MinRSABits, or ed25519.PrivateKey
}

// Signer signs messages for one domain, with relaxed canonicalisation of header
// section and body, and never with l=. Safe for concurrent use.
type Signer struct {
	domain address.Domain
	keys   []signingKey
}

type signingKey struct {
	SigningKey
	algorithm Algorithm
}

// NewSigner makes a Signer that adds one signature for each key, in their order
// (RFC 8463 §6: each needs a selector of its own).
func NewSigner(domain address.Domain, keys ...SigningKey) (*Signer, error) {
	if len(keys) == 0 || domain.IsZero() || domain.IsLiteral() {
		return nil, fmt.Errorf("%w: a domain and a key are needed", ErrNoSignature)
	}
	s := &Signer{domain: domain}
	for _, k := range keys {
		sel, err := ParseSelector(k.Selector)
		if err != nil {
			return nil, fmt.Errorf("key of %s: %w", domain, err)
		}
		if slices.ContainsFunc(s.keys, func(o signingKey) bool { return o.Selector == sel }) {
			return nil, fmt.Errorf("key of %s: selector %s is there twice", domain, sel)
		}
		k.Selector = sel
		a, err := algorithmOf(k.Private)
		if err != nil {
			return nil, fmt.Errorf("key %s of %s: %w", sel, domain, err)
		}
		s.keys = append(s.keys, signingKey{k, a})
	}
	return s, nil
}

func algorithmOf(private crypto.Signer) (Algorithm, error) {
	if private == nil {
		return UnknownAlgorithm, ErrNoSignature
	}
	switch pub := private.Public().(type) {
	case ed25519.PublicKey:
		return Ed25519SHA256, nil
	case *rsa.PublicKey:
		if bits := pub.N.BitLen(); bits < MinRSABits || bits > MaxRSABits {
			return UnknownAlgorithm, fmt.Errorf("%w: %d bits", ErrKeySize, bits)
		}
		return RSASHA256, nil
	}
	return UnknownAlgorithm, ErrKeyType
}

// Domain is d= of the signatures.
func (s *Signer) Domain() address.Domain { return s.domain }

// Selectors are s= of the signatures, in their order.
func (s *Signer) Selectors() []string {
	names := make([]string, len(s.keys))
	for i, k := range s.keys {
		names[i] = k.Selector
	}
	return names
}

// Options are of one message. The zero value is right for ordinary mail.
type Options struct {
	// Lifetime sets x= so much after t=, in whole seconds; 0 leaves x= out.
	Lifetime time.Duration
}

// Signing is one message being signed. It is an io.Writer for the body, the
// octets behind the empty line. Used by one goroutine.
type Signing struct {
	s      *Signer
	opt    Options
	names  []string  // h=
	header hash.Hash // over the fields that names choose
	body   hash.Hash
	canon  *Body
}

// Begin takes the header section as it will be stored and sent, without the empty
// line; it is not needed afterwards.
func (s *Signer) Begin(header []byte, opt Options) *Signing {
	fields := chosen(header)
	g := &Signing{s: s, opt: opt, names: signedNames(fields), header: sha256.New(), body: sha256.New()}
	lower := make([]string, len(g.names))
	for i, n := range g.names {
		lower[i] = strings.ToLower(n)
	}
	newIndex(fields).hash(g.header, Relaxed, fields, lower, -1)
	g.canon = NewBody(Relaxed, g.body)
	return g
}

// Write takes the next octets of the body; it never fails.
func (g *Signing) Write(p []byte) (int, error) { return g.canon.Write(p) }

// Fields ends the body and returns the DKIM-Signature fields, one for each key,
// folded, with CRLF, to stand in front of the header section. now becomes t=. It
// is called once.
func (g *Signing) Fields(now time.Time) ([]byte, error) {
	if err := g.canon.Close(); err != nil {
		return nil, err
	}
	sum := g.body.Sum(nil)
	var out []byte
	for _, k := range g.s.keys {
		field := g.frame(k, sum, now)
		sig, err := g.sign(k, field)
		if err != nil {
			return nil, fmt.Errorf("sign with key %s of %s: %w", k.Selector, g.s.domain, err)
		}
		out = append(appendFolded(append(out, field...), base64.StdEncoding.EncodeToString(sig)), crlf...)
	}
	return out, nil
}

// sign hashes the field behind the others and signs the digest.
func (g *Signing) sign(k signingKey, field []byte) ([]byte, error) {
	cloner, ok := g.header.(hash.Cloner)
	if !ok {
		return nil, errors.New("the hash can't be copied")
	}
	h, err := cloner.Clone()
	if err != nil {
		return nil, err
	}
	for f := range message.Fields(field) {
		_, _ = h.Write(ownField(Relaxed, f))
	}
	digest := h.Sum(nil)
	if k.algorithm == Ed25519SHA256 { // RFC 8463 §3: PureEdDSA over the digest
		return k.Private.Sign(rand.Reader, digest, crypto.Hash(0))
	}
	return k.Private.Sign(rand.Reader, digest, crypto.SHA256)
}

// foldAt is where lines of the field end at the latest (RFC 5322 §2.1.1).
const foldAt = 78

// frame is the field up to "b=". Domain and selector are A-labels even where RFC
// 8616 §5 prefers U-labels: the header section stays ASCII, and every verifier
// knows them.
func (g *Signing) frame(k signingKey, bodyHash []byte, now time.Time) []byte {
	tags := []string{"v=1;", "a=" + k.algorithm.String() + ";", "c=relaxed/relaxed;", "d=" + g.s.domain.String() + ";", "s=" + k.Selector + ";",
		"t=" + strconv.FormatInt(now.Unix(), 10) + ";"}
	if g.opt.Lifetime > 0 {
		tags = append(tags, "x="+strconv.FormatInt(now.Unix()+int64(g.opt.Lifetime/time.Second), 10)+";")
	}
	b := []byte("DKIM-Signature:")
	line := len(b)
	word := func(w string) {
		if line+1+len(w) > foldAt {
			b, line = append(b, "\r\n\t"...), 8
		} else {
			b, line = append(b, ' '), line+1
		}
		b, line = append(b, w...), line+len(w)
	}
	for _, t := range tags {
		word(t)
	}
	for i, n := range g.names {
		if i == 0 {
			n = "h=" + n
		}
		end := ":"
		if i+1 == len(g.names) {
			end = ";"
		}
		if i == 0 || line+len(n)+len(end) > foldAt {
			word(n + end) // folding is allowed around the colons
			continue
		}
		b, line = append(append(b, n...), end...), line+len(n)+len(end)
	}
	word("bh=" + base64.StdEncoding.EncodeToString(bodyHash) + ";")
	return append(b, "\r\n\tb="...)
}

// appendFolded appends base64 in lines.
func appendFolded(dst []byte, s string) []byte {
	room := foldAt - 10
	for len(s) > room {
		dst = append(append(dst, s[:room]...), "\r\n\t "...)
		s, room = s[room:], foldAt-9
	}
	return append(dst, s...)
}
