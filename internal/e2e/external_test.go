package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"testing"
	"time"
)

// clientAuthority signs client certificates.
type clientAuthority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// certificate issues one for an address.
func (a clientAuthority) certificate(t *testing.T, addr string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "somebody"}, EmailAddresses: []string{addr},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// newAuthority makes an authority and the file that holds its certificate.
func newAuthority(t *testing.T) (a clientAuthority, file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of clients"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return clientAuthority{template, key}, keep(t, t.TempDir(), "clients.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
}

// TestExternal logs in by client certificate (RFC 4422 appendix A): for the
// address in it, for no other, and only with one from the authority configured.
func TestExternal(t *testing.T) {
	t.Parallel()
	ours, file := newAuthority(t)
	theirs, _ := newAuthority(t)
	s := setup(t, "[tls]\nclient_ca = \""+file+"\"")
	s.start()
	ola := "ola@" + domain
	s.run(password+"\n", "account", "add", ola)
	for name, tt := range map[string]struct {
		cert    *tls.Certificate
		authzid string
		good    bool
	}{
		"ala":                    {ptr(ours.certificate(t, "ala@"+domain)), "", true},
		"ala by name":            {ptr(ours.certificate(t, "ala@"+domain)), "ala@" + domain, true},
		"ola with ala's":         {ptr(ours.certificate(t, "ala@"+domain)), ola, false},
		"nobody":                 {ptr(ours.certificate(t, "nobody@"+domain)), "", false},
		"without a certificate":  {nil, "", false},
		"from another authority": {ptr(theirs.certificate(t, "ala@"+domain)), "", false},
	} {
		for service, p := range map[string]struct {
			port        int
			greet, good string
			refused     string
		}{"submissions": {465, "220", "235", "5"}, "pop3s": {995, "+OK", "+OK", "-ERR"}} {
			t.Run(service+"/"+name, func(t *testing.T) {
				t.Parallel()
				c := dial(t, s.addr(p.port))
				conf := &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12} // a refused certificate ends this handshake
				if tt.cert != nil {
					conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return tt.cert, nil }
				}
				secure := tls.Client(c.conn, conf)
				if err := secure.Handshake(); err != nil {
					if tt.good || name != "from another authority" {
						t.Fatal(err)
					}
					return
				}
				if name == "from another authority" {
					t.Fatal("the certificate was taken")
				}
				c.conn = secure
				c.r.Reset(secure)
				c.expect(p.greet)
				if service == "submissions" {
					c.say("EHLO client.test", "250")
				}
				initial := base64.StdEncoding.EncodeToString([]byte(tt.authzid))
				if initial == "" {
					initial = "="
				}
				want := p.refused
				if tt.good {
					want = p.good
				}
				c.say("AUTH EXTERNAL "+initial, want)
				if tt.good && service == "submissions" {
					c.message("ala@"+domain, ola, "From: ala@"+domain+"\r\nSubject: by certificate\r\n\r\ntext\r\n")
				}
			})
		}
	}
}

func ptr[T any](v T) *T { return &v }
