package tlsconf

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// Lifetimes of a self-signed certificate.
const (
	selfSignedLife  = 3 * 365 * 24 * time.Hour
	selfSignedRenew = 60 * 24 * time.Hour // before the end
)

// selfSignedFile holds certificate and key together, so that one atomic write
// replaces both.
const selfSignedFile = "self-signed.pem"

// selfSigned returns the certificate kept in the folder, or makes a new one when
// there is none, when it ends soon, or when it lacks a name.
func (t *Certs) selfSigned() (*tls.Certificate, error) {
	file := filepath.Join(t.cfg.Dir, selfSignedFile)
	data, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	if err == nil {
		c, err := tls.X509KeyPair(data, data)
		if err == nil && t.stillGood(c.Leaf) {
			return &c, nil
		}
		t.log.Info("certificate replaced", "file", file, "error", err)
	}
	data, err = makeSelfSigned(t.cfg.Names, t.now())
	if err != nil {
		return nil, err
	}
	if err := t.cfg.Save(file, data); err != nil {
		return nil, fmt.Errorf("write certificate %s: %w", file, err)
	}
	c, err := tls.X509KeyPair(data, data)
	if err != nil {
		return nil, fmt.Errorf("read the certificate just made: %w", err)
	}
	return &c, nil
}

func (t *Certs) stillGood(leaf *x509.Certificate) bool {
	for _, n := range t.cfg.Names {
		if leaf.VerifyHostname(n) != nil {
			return false
		}
	}
	now := t.now()
	return now.After(leaf.NotBefore) && now.Add(selfSignedRenew).Before(leaf.NotAfter)
}

// makeSelfSigned makes a key and a certificate for names, as PEM. It is its own
// authority, so that a program can be told to trust it alone.
func makeSelfSigned(names []string, now time.Time) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make serial number: %w", err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: names[0]},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(selfSignedLife),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA:        true, BasicConstraintsValid: true, MaxPathLenZero: true,
	}
	for _, n := range names {
		if a, err := netip.ParseAddr(n); err == nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, a.AsSlice())
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("write key: %w", err)
	}
	out := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return append(out, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})...), nil
}
