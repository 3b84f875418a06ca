// Package identity reads what a person proves themself with to servers: a client certificate with
// its private key, as PEM (RFC 7468) or PKCS#12 (RFC 7292).
package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// Bounds of what is read.
const (
	MaxFile  = 256 << 10 // octets
	maxParts = 64        // certificates and keys in a file
	maxRSA   = 8192      // bits: crypto/tls takes no larger ones
	maxWork  = 2_000_000 // rounds that a password is hashed
)

// Errors that callers branch on.
var (
	ErrUnreadable    = errors.New("the file holds neither PEM nor PKCS#12 that can be read")
	ErrLarge         = errors.New("the file is larger than 256 KiB, which no certificate with its key is")
	ErrNeedsPassword = errors.New("the file is protected by a password: give it")
	ErrPassword      = errors.New("the password of the file is wrong")
	ErrNoKey         = errors.New("the file holds a certificate without its private key")
	ErrNoCertificate = errors.New("the file holds a private key without its certificate")
	ErrMismatch      = errors.New("the private key does not belong to the certificate")
	ErrOldKey        = errors.New("the key is encrypted in a way that is not read here; convert it: openssl pkcs8 -topk8 -in FILE -out NEW")
	// ErrKeyGone is for who has the certificate and not its key any more.
	ErrKeyGone = errors.New("the private key of the certificate is not known here")
)

// ExpiredError says that a certificate is not valid now.
type ExpiredError struct{ From, Until time.Time }

// Error implements error.
func (e *ExpiredError) Error() string {
	return fmt.Sprintf("the certificate is valid from %s until %s alone", e.From.Format(time.DateOnly), e.Until.Format(time.DateOnly))
}

// Identity is a certificate with its key. It is a secret; what it prints is not.
type Identity struct {
	chain []*x509.Certificate // the person's first; never empty
	key   crypto.Signer
}

// Read reads a file, or PEM files behind each other, and takes the certificate that has its key in
// it and is valid now. password opens what is encrypted; "" is none.
func Read(data []byte, password string, now time.Time) (*Identity, error) {
	if len(data) > MaxFile {
		return nil, ErrLarge
	}
	var f found
	var err error
	if bytes.Contains(data, []byte("-----BEGIN ")) {
		err = f.pem(data, password)
	} else if list, cerr := x509.ParseCertificates(data); cerr == nil { // a certificate alone
		f.certificates = list
	} else {
		err = f.pkcs12(data, password)
	}
	if err != nil {
		return nil, err
	}
	return f.choose(now)
}

// found is what a file holds.
type found struct {
	certificates []*x509.Certificate
	keys         []crypto.Signer
}

// pem reads PEM. Its other parts, such as parameters of curves, are passed over.
func (f *found) pem(data []byte, password string) error {
	for range maxParts {
		b, rest := pem.Decode(data)
		if b == nil {
			break
		}
		data = rest
		var err error
		switch b.Type {
		case "CERTIFICATE":
			err = f.certificate(b.Bytes)
		case "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY":
			if b.Headers["DEK-Info"] != "" {
				return ErrOldKey
			}
			err = f.privateKey(b.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			var plain []byte
			if plain, err = shrouded(b.Bytes, password); err == nil && f.privateKey(plain) != nil {
				err = ErrPassword
			}
			if errors.Is(err, errOld) {
				return ErrOldKey
			}
		}
		if err != nil {
			return err
		}
	}
	if len(f.certificates)+len(f.keys) == 0 {
		return ErrUnreadable
	}
	return nil
}

func (f *found) certificate(der []byte) error {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("%w: a certificate in it is damaged", ErrUnreadable)
	}
	f.certificates = append(f.certificates, c)
	return nil
}

// privateKey reads a key in any of its forms (RFC 5958, RFC 8017 §A.1.2, RFC 5915).
func (f *found) privateKey(der []byte) error {
	var key any
	var err error
	if key, err = x509.ParsePKCS8PrivateKey(der); err != nil {
		if key, err = x509.ParsePKCS1PrivateKey(der); err != nil {
			key, err = x509.ParseECPrivateKey(der)
		}
	}
	if err != nil {
		return fmt.Errorf("%w: a key in it is damaged or of an unknown kind", ErrUnreadable)
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if k.N.BitLen() > maxRSA {
			return fmt.Errorf("%w: its RSA key has over %d bits", ErrUnreadable, maxRSA)
		}
		f.keys = append(f.keys, k)
	case *ecdsa.PrivateKey:
		f.keys = append(f.keys, k)
	case ed25519.PrivateKey:
		f.keys = append(f.keys, k)
	default:
		return fmt.Errorf("%w: a key in it can't sign", ErrUnreadable)
	}
	return nil
}

// choose takes the pair that is valid longest.
func (f *found) choose(now time.Time) (*Identity, error) {
	switch {
	case len(f.keys) == 0 && len(f.certificates) == 0:
		return nil, ErrUnreadable
	case len(f.keys) == 0:
		return nil, ErrNoKey
	case len(f.certificates) == 0:
		return nil, ErrNoCertificate
	}
	var best *Identity
	for _, c := range f.certificates {
		for _, k := range f.keys {
			if same(c, k) && (best == nil || c.NotAfter.After(best.chain[0].NotAfter)) {
				best = &Identity{chain: []*x509.Certificate{c}, key: k}
			}
		}
	}
	if best == nil {
		return nil, ErrMismatch
	}
	leaf := best.chain[0]
	if now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
		return nil, &ExpiredError{leaf.NotBefore, leaf.NotAfter}
	}
	best.above(f.certificates)
	return best, nil
}

func same(c *x509.Certificate, k crypto.Signer) bool {
	pub, ok := k.Public().(interface{ Equal(x crypto.PublicKey) bool })
	return ok && pub.Equal(c.PublicKey)
}

// above puts the certificates between the person's and the authority's behind it, in their order
// (RFC 8446 §4.4.2); the authority's own the server has.
func (i *Identity) above(all []*x509.Certificate) {
	for at := i.chain[0]; len(i.chain) < maxParts; {
		var next *x509.Certificate
		for _, c := range all {
			root := bytes.Equal(c.RawIssuer, c.RawSubject)
			if !root && !c.Equal(at) && bytes.Equal(c.RawSubject, at.RawIssuer) {
				next = c
			}
		}
		if next == nil {
			return
		}
		for _, c := range i.chain {
			if c.Equal(next) { // they name each other
				return
			}
		}
		i.chain = append(i.chain, next)
		at = next
	}
}

// Chain is the public part, as PEM, the person's certificate first.
func (i *Identity) Chain() string {
	var b bytes.Buffer
	for _, c := range i.chain {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // a buffer takes all
	}
	return b.String()
}

// Key is the secret part, in a line of text for a vault (PKCS#8 in base64).
func (i *Identity) Key() (string, error) {
	der, err := x509.MarshalPKCS8PrivateKey(i.key)
	if err != nil {
		return "", fmt.Errorf("write the key: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(der), nil
}

// TLS is the certificate as a handshake takes it.
func (i *Identity) TLS() *tls.Certificate {
	out := &tls.Certificate{PrivateKey: i.key, Leaf: i.chain[0]}
	for _, c := range i.chain {
		out.Certificate = append(out.Certificate, c.Raw)
	}
	return out
}

// String tells no secrets.
func (i *Identity) String() string {
	return "certificate " + Fingerprint(i.chain[0])
}

// GoString tells no secrets.
func (i *Identity) GoString() string { return i.String() }

// Join makes an Identity again of what Chain and Key gave.
func Join(chain, key string) (*Identity, error) {
	var f found
	if err := f.pem([]byte(chain), ""); err != nil {
		return nil, err
	}
	der, err := base64.RawURLEncoding.DecodeString(key)
	if err == nil {
		err = f.privateKey(der)
	}
	if err != nil || len(f.keys) != 1 {
		return nil, fmt.Errorf("%w: what the vault holds is damaged", ErrKeyGone)
	}
	if len(f.certificates) == 0 {
		return nil, ErrNoCertificate
	}
	if !same(f.certificates[0], f.keys[0]) {
		return nil, ErrMismatch
	}
	return &Identity{f.certificates, f.keys[0]}, nil
}

// Leaf is the person's certificate of what Chain gave.
func Leaf(chain string) (*x509.Certificate, error) {
	b, _ := pem.Decode([]byte(chain))
	if b == nil {
		return nil, ErrNoCertificate
	}
	c, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: the certificate is damaged", ErrUnreadable)
	}
	return c, nil
}

// Fingerprint names a certificate: its SHA-256 in hexadecimal.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}
