package dkim

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Key is a key record as read (RFC 6376 §3.6.1).
type Key struct {
	Public  crypto.PublicKey // *rsa.PublicKey or ed25519.PublicKey; nil when Revoked
	Type    string           // k=: "rsa" or "ed25519"
	Hashes  []string         // h=; nil is all
	Revoked bool             // p= is empty
	Testing bool             // t=y: the domain tries DKIM out
	Strict  bool             // t=s: i= must have d= itself as its domain
	Email   bool             // s= allows e-mail, or is absent
}

// ParseKey reads a key record, the strings of its TXT record joined. Unknown tags
// are ignored, g= of RFC 4871 among them. Errors wrap ErrKeySyntax or ErrKeyType.
func ParseKey(record string) (*Key, error) {
	if len(record) > MaxRecordOctets {
		return nil, fmt.Errorf("%w: more than %d octets", ErrKeySyntax, MaxRecordOctets)
	}
	tags, err := ParseTags(record)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeySyntax, err)
	}
	k := &Key{Type: "rsa", Email: true}
	material, there := "", false
	for i, t := range tags {
		switch t.Name {
		case "v": // must come first, and then must be DKIM1
			if i > 0 || t.Value != "DKIM1" {
				return nil, fmt.Errorf("%w: v=%.20q", ErrKeySyntax, t.Value)
			}
		case "k":
			k.Type = strings.ToLower(t.Value)
		case "h":
			k.Hashes = list(strings.ToLower(t.Value))
		case "s":
			services := list(t.Value)
			k.Email = slices.Contains(services, "*") || slices.Contains(services, "email")
		case "t":
			flags := list(t.Value)
			k.Testing, k.Strict = slices.Contains(flags, "y"), slices.Contains(flags, "s")
		case "p":
			material, there = dropFWS(t.Value), true
		}
	}
	if !there {
		return nil, fmt.Errorf("%w: p= is missing", ErrKeySyntax)
	}
	if k.Revoked = material == ""; k.Revoked {
		return k, nil
	}
	k.Public, err = parsePublic(k.Type, material)
	return k, err
}

// parsePublic reads p=. An RSA key is a SubjectPublicKeyInfo, as everybody writes
// it, or an RSAPublicKey, as the grammar of RFC 6376 §3.6.1 has it.
func parsePublic(kind, material string) (crypto.PublicKey, error) {
	octets, err := base64.StdEncoding.DecodeString(material)
	if err != nil {
		return nil, fmt.Errorf("%w: p= is not base64", ErrKeySyntax)
	}
	switch kind {
	case "ed25519": // RFC 8463 §4: the 32 octets themselves
		if len(octets) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("%w: an Ed25519 key of %d octets instead of %d", ErrKeySyntax, len(octets), ed25519.PublicKeySize)
		}
		return ed25519.PublicKey(octets), nil
	case "rsa":
		if pub, err := x509.ParsePKIXPublicKey(octets); err == nil {
			if key, ok := pub.(*rsa.PublicKey); ok {
				return key, nil
			}
			return nil, fmt.Errorf("%w: p= holds no RSA key", ErrKeyType)
		}
		key, err := x509.ParsePKCS1PublicKey(octets)
		if err != nil {
			return nil, fmt.Errorf("%w: p= holds no RSA key", ErrKeySyntax)
		}
		return key, nil
	}
	return nil, fmt.Errorf("%w: k=%.20q", ErrKeyType, kind)
}

// Bits is the length of an RSA key, 256 for Ed25519, 0 when revoked.
func (k *Key) Bits() int {
	switch pub := k.Public.(type) {
	case *rsa.PublicKey:
		return pub.N.BitLen()
	case ed25519.PublicKey:
		return 256
	}
	return 0
}

// Same reports whether both records publish the same key.
func (k *Key) Same(other *Key) bool {
	switch pub := k.Public.(type) {
	case *rsa.PublicKey:
		return pub.Equal(other.Public)
	case ed25519.PublicKey:
		return pub.Equal(other.Public)
	}
	return k.Revoked && other.Revoked
}

// Record writes the key record of a public key, an *rsa.PublicKey or an
// ed25519.PublicKey.
func Record(pub crypto.PublicKey) (string, error) {
	switch key := pub.(type) {
	case ed25519.PublicKey:
		return "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(key), nil
	case *rsa.PublicKey:
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			return "", fmt.Errorf("write key record: %w", err)
		}
		return "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der), nil
	}
	return "", fmt.Errorf("write key record: %w: %T", ErrKeyType, pub)
}

// Allows checks whether the key may be used for a signature, in the order of RFC
// 6376 §6.1.2. The error wraps one of ErrKeyHash, ErrKeyRevoked, ErrKeyType, ErrKeyService,
// ErrKeyStrict and ErrKeySize.
func (k *Key) Allows(s *Signature) error {
	switch {
	case k.Hashes != nil && !slices.Contains(k.Hashes, "sha256"):
		return fmt.Errorf("%w: h=%s", ErrKeyHash, strings.Join(k.Hashes, ":"))
	case k.Revoked:
		return ErrKeyRevoked
	case k.Type != s.Algorithm.keyType():
		return fmt.Errorf("%w: k=%s, a=%s", ErrKeyType, k.Type, s.Algorithm)
	case !k.Email:
		return ErrKeyService
	case k.Strict && s.identityDomain() != s.Domain.String():
		return fmt.Errorf("%w: i=%s, d=%s", ErrKeyStrict, s.Identity, s.Domain)
	}
	if bits := k.Bits(); k.Type == "rsa" && (bits < MinRSABits || bits > MaxRSABits) {
		return fmt.Errorf("%w: %d bits", ErrKeySize, bits)
	}
	return nil
}

// maxKeys is how many parsed keys are kept.
const maxKeys = 1024

// keyCache remembers keys by the text of their records, at most maxKeys of them. How long a
// record may be believed is the resolver's affair. Safe for concurrent use.
type keyCache struct {
	mu   sync.Mutex
	keys map[string]*Key
}

// parse is ParseKey with memory.
func (c *keyCache) parse(record string) (*Key, error) {
	c.mu.Lock()
	k := c.keys[record]
	c.mu.Unlock()
	if k != nil {
		return k, nil
	}
	k, err := ParseKey(record)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys == nil {
		c.keys = map[string]*Key{}
	}
	for old := range c.keys { // any one goes
		if len(c.keys) < maxKeys {
			break
		}
		delete(c.keys, old)
	}
	c.keys[record] = k
	return k, nil
}
