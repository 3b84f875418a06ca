package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/mailtest/certtest"
)

// selfSigned is a certificate that vouches for itself.
func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

var acceptable = regexp.MustCompile(`--accept ([0-9a-f]{64})`)

// TestMailRefusesCertificates sets up accounts at servers whose certificates are not right: no
// password goes there, and the refusal says which certificate may be accepted.
func TestMailRefusesCertificates(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		cert func(*certtest.CA) tls.Certificate
		ca   bool   // the person trusts the provider's authority
		says string // of what is wrong
	}{
		"self-signed":          {func(*certtest.CA) tls.Certificate { return selfSigned(t) }, false, "unknown authority"},
		"an unknown authority": {nil, false, "unknown authority"},
		"expired": {func(ca *certtest.CA) tls.Certificate {
			return local(ca, func(c *x509.Certificate) {
				c.NotBefore, c.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
			})
		}, true, "expired"},
		"another name": {func(ca *certtest.CA) tls.Certificate {
			return ca.From(func(c *x509.Certificate) {
				c.DNSNames, c.IPAddresses = []string{"elsewhere.test"}, []net.IP{net.IPv4(127, 0, 0, 9)}
			})
		}, true, "valid for"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProvider(t, tt.cert, "")
			l := newLaptop(t)
			l.write("password", secret+"\n")
			add := append([]string{"add", "ala@provider.test", "--password-file", "password"}, p.servers()...)
			if tt.ca {
				add = append(add, "--ca", p.authority(l))
			}
			said := l.fails("is not trusted", add...)
			if !strings.Contains(said, tt.says) || !acceptable.MatchString(said) {
				t.Errorf("want %q and a way to accept the certificate in %s", tt.says, said)
			}
			l.fails("there is no mail in", "list")
			if log := readFile(t, filepath.Join(p.dir, "dovecot.log")); strings.Contains(log, "Login") || strings.Contains(log, "auth failed") {
				t.Errorf("somebody has logged in: %s", log)
			}
		})
	}
}

// TestMailAcceptsOneCertificate accepts a self-signed certificate, and then no other, not even one
// that an authority vouches for; and that one once it is accepted.
func TestMailAcceptsOneCertificate(t *testing.T) {
	t.Parallel()
	p := newProvider(t, func(*certtest.CA) tls.Certificate { return selfSigned(t) }, "").postfix()
	l := newLaptop(t)
	l.write("password", secret+"\n")
	add := append([]string{"add", "ala@provider.test", "--password-file", "password", "--ca", p.authority(l)}, p.servers()...)
	sha := acceptable.FindStringSubmatch(l.fails("is not trusted", add...))
	if sha == nil {
		t.Fatal("no way to accept the certificate is told")
	}
	l.fails("is not trusted", append(add, "--accept", strings.Repeat("0", 64))...)
	l.does("", append(add, "--accept", strings.ToUpper(sha[1]))...) // as other programs print it
	p.drop("ala", numbered(0, 3)...)
	l.says("3 new letters", "sync")
	pems(t, p.dir, local(p.ca, nil))
	p.reload()
	var said string
	l.await("the new certificate is refused", func() bool {
		cmd, out := l.start("", "sync")
		err := cmd.Wait() // while Dovecot reads its files again it may drop a connection
		said = out.String()
		return err != nil && strings.Contains(said, "another than the one that was accepted")
	})
	next := acceptable.FindStringSubmatch(said)
	if next == nil || next[1] == sha[1] {
		t.Fatalf("a new certificate: %s", said)
	}
	// Postfix shows the old one for a while, so only the incoming server changes.
	l.does("", "server", "--accept", next[1], "--accept-outgoing", sha[1], "--untried")
	p.drop("ala", numbered(3, 4)...)
	l.says("1 new letter", "sync")
}

// TestMailByClientCertificate logs in by certificate alone at Dovecot and at our server.
func TestMailByClientCertificate(t *testing.T) {
	t.Parallel()
	p := newProvider(t, nil, "")
	ca := certtest.New(t)
	s := setup(t, "[tls]\nclient_ca = \""+p.clients+"\"")
	cert, key := pems(t, filepath.Join(s.dir, "server"), local(ca, nil))
	s.rewrite(`mode = "self-signed"`, `mode = "files"`)
	s.configure("[[tls.certificate]]\ncert = \"" + cert + "\"\nkey = \"" + key + "\"")
	s.start()
	mine := p.client.certificate(t, "ala@"+domain)
	theirs, _ := newAuthority(t)
	other := theirs.certificate(t, "ala@"+domain)
	for name, incoming := range map[string]string{"our server": s.addr(995), "Dovecot": loopback(p.pop3s)} {
		t.Run(name, func(t *testing.T) {
			l := newLaptop(t)
			certFile, keyFile := pems(t, l.dir, mine)
			otherCert, otherKey := pems(t, filepath.Join(l.dir, "other"), other)
			add := []string{"add", "ala@" + domain, "--external", "--incoming", incoming, "--outgoing", s.addr(465), "--security", "tls",
				"--ca", l.write("ca.pem", authorityPEM(ca.Cert.Raw)+authorityPEM(p.ca.Cert.Raw))}
			l.fails("nothing is saved", append(add, "--cert", otherCert, "--key", otherKey)...)
			l.does("", append(add, "--cert", certFile, "--key", keyFile)...)
			l.does("", "send", "ala@"+domain, "-s", "by certificate "+name, "--text", "no password", "--unchecked")
			if name == "our server" {
				l.arrives("by certificate " + name)
				return
			}
			p.drop("ala", numbered(0, 2)...)
			l.does("", "sync")
		})
	}
}
