package dane

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Errors of Verify; test with errors.Is.
var (
	ErrNoMatch = errors.New("no TLSA record matches the server's certificates")
	ErrName    = errors.New("the certificate is for another name")
	ErrExpired = errors.New("a certificate of the chain has expired or is not yet valid")
)

// Verify checks the certificates that a server has shown, its own first, against
// the usable records. names are those it may have, without final dots (RFC 7672
// §3.2.2); they count for DANE-TA only: a DANE-EE record that matches binds the
// key to the name by itself, whatever names and dates the certificate has (RFC
// 7672 §3.1.1). It returns the record that matched; the error wraps ErrNoMatch,
// ErrName or ErrExpired.
func (r Records) Verify(certs []*x509.Certificate, names []string, now time.Time) (Record, error) {
	if len(certs) == 0 {
		return Record{}, fmt.Errorf("%w: it has shown none", ErrNoMatch)
	}
	usable := r.Usable()
	for _, x := range usable {
		if x.Usage == DANEEE && x.matches(certs[0]) {
			return x, nil
		}
	}
	failed := ErrNoMatch
	for _, x := range usable {
		if x.Usage != DANETA {
			continue
		}
		for _, anchor := range x.anchors(certs) {
			err := chain(certs, anchor, now)
			if err == nil {
				err = named(certs[0], names)
			}
			if err == nil {
				return x, nil
			}
			failed = err
		}
	}
	return Record{}, failed
}

// matches compares a record with a certificate (RFC 6698 §2.1.3).
func (r Record) matches(c *x509.Certificate) bool {
	octets := c.Raw
	if r.Selector == PublicKey {
		octets = c.RawSubjectPublicKeyInfo
	}
	switch r.Matching {
	case SHA256:
		sum := sha256.Sum256(octets)
		return bytes.Equal(sum[:], r.Data)
	case SHA512:
		sum := sha512.Sum512(octets)
		return bytes.Equal(sum[:], r.Data)
	}
	return bytes.Equal(octets, r.Data)
}

// maxChain bounds the certificates of a server that are looked at.
const maxChain = 20

// anchors are the certificates that a DANE-TA record makes trust anchors: those
// the server has shown above its own, or one that the record itself holds, or
// any that a bare key in the record has signed (RFC 7671 §5.2).
func (r Record) anchors(certs []*x509.Certificate) []*x509.Certificate {
	certs = certs[:min(len(certs), maxChain)]
	var out []*x509.Certificate
	for _, c := range certs[1:] {
		if r.matches(c) {
			out = append(out, c)
		}
	}
	if r.Matching != Exact || len(out) > 0 {
		return out
	}
	if r.Selector == FullCertificate {
		if c, err := x509.ParseCertificate(r.Data); err == nil {
			out = append(out, c)
		}
		return out
	}
	key, err := x509.ParsePKIXPublicKey(r.Data)
	if err != nil {
		return nil
	}
	signer := &x509.Certificate{PublicKey: key} // CheckSignature looks at the key alone
	for _, c := range certs {
		if c.SignatureAlgorithm == x509.SHA1WithRSA || c.SignatureAlgorithm == x509.ECDSAWithSHA1 {
			continue
		}
		if signer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil {
			out = append(out, c)
		}
	}
	return out
}

// chain checks that the server's certificate leads to the anchor.
func chain(certs []*x509.Certificate, anchor *x509.Certificate, now time.Time) error {
	opts := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now}
	opts.Roots.AddCert(anchor)
	for _, c := range certs[1:min(len(certs), maxChain)] {
		opts.Intermediates.AddCert(c)
	}
	_, err := certs[0].Verify(opts)
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return fmt.Errorf("%w: %w", ErrExpired, err)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoMatch, err)
	}
	return nil
}

// named checks that the certificate is for one of names.
func named(c *x509.Certificate, names []string) error {
	for _, n := range names {
		if isNamed(c, n) {
			return nil
		}
	}
	return fmt.Errorf("%w: want one of %s", ErrName, strings.Join(names, ", "))
}

// isNamed reports whether a certificate is for a host, by its DNS names, or by its
// common name if it has no name of any other sort (RFC 7672 §3.2.3, RFC 6125 §6.4.4).
func isNamed(c *x509.Certificate, host string) bool {
	if len(c.DNSNames)+len(c.IPAddresses)+len(c.EmailAddresses)+len(c.URIs) == 0 && c.Subject.CommonName != "" {
		c = &x509.Certificate{DNSNames: []string{c.Subject.CommonName}}
	}
	return c.VerifyHostname(host) == nil
}
