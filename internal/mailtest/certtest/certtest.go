// Package certtest makes authorities and certificates for tests, in memory.
package certtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"
)

// CA is a certificate authority.
type CA struct {
	Cert *x509.Certificate
	key  *ecdsa.PrivateKey
	tb   testing.TB
}

// New makes a root authority that is valid from an hour ago for ten years.
func New(tb testing.TB) *CA {
	tb.Helper()
	ca := &CA{tb: tb}
	ca.Cert, ca.key = ca.make(authority("root"), nil)
	return ca
}

// Sub makes an authority below ca.
func (ca *CA) Sub() *CA {
	ca.tb.Helper()
	sub := &CA{tb: ca.tb}
	sub.Cert, sub.key = ca.make(authority("intermediate"), ca)
	return sub
}

// Pool holds ca's certificate.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.Cert)
	return pool
}

// Leaf makes a server's certificate for names, valid for ten years.
func (ca *CA) Leaf(names ...string) tls.Certificate {
	ca.tb.Helper()
	return ca.From(func(c *x509.Certificate) { c.DNSNames = names })
}

// From makes a server's certificate that change has adapted.
func (ca *CA) From(change func(*x509.Certificate)) tls.Certificate {
	ca.tb.Helper()
	tmpl := template("leaf")
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	change(tmpl)
	leaf, key := ca.make(tmpl, ca)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw, ca.Cert.Raw}, PrivateKey: key, Leaf: leaf}
}

func template(name string) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature,
	}
}

func authority(name string) *x509.Certificate {
	c := template(name)
	c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	return c
}

// make signs tmpl by parent, or by itself.
func (ca *CA) make(tmpl *x509.Certificate, parent *CA) (*x509.Certificate, *ecdsa.PrivateKey) {
	ca.tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		ca.tb.Fatal(err)
	}
	issuer, signer := tmpl, key
	if parent != nil {
		issuer, signer = parent.Cert, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, issuer, key.Public(), signer)
	if err != nil {
		ca.tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		ca.tb.Fatal(err)
	}
	return cert, key
}
