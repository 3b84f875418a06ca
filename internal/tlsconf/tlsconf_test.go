package tlsconf_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/tlsconf"
)

// issue writes a certificate for names, signed by itself, and returns its files.
func issue(t *testing.T, dir, base string, names ...string) tlsconf.Pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: base},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: names,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	p := tlsconf.Pair{Cert: filepath.Join(dir, base+".pem"), Key: filepath.Join(dir, base+".key")}
	write(t, p.Cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, p.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	return p
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func load(t *testing.T, c tlsconf.Config) *tlsconf.Certs {
	t.Helper()
	certs, err := tlsconf.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := certs.Load(); err != nil {
		t.Fatal(err)
	}
	return certs
}

// shake does a handshake over loopback and one octet each way, so that tickets arrive.
func shake(t *testing.T, server, client *tls.Config) (seen, served tls.ConnectionState, err error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan tls.ConnectionState, 1)
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		s := tls.Server(conn, server)
		if s.Handshake() != nil {
			return
		}
		buf := make([]byte, 1)
		_, _ = s.Read(buf)
		_, _ = s.Write(buf)
		done <- s.ConnectionState()
	}()
	client = client.Clone()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	c := tls.Client(raw, client)
	if err = c.Handshake(); err == nil {
		_, _ = c.Write([]byte("x"))
		_, err = c.Read(make([]byte, 1))
	}
	seen = c.ConnectionState()
	raw.Close()
	served = <-done
	return seen, served, err
}

func name(t *testing.T, certs *tlsconf.Certs, sni string) string {
	t.Helper()
	seen, _, err := shake(t, certs.Server(tlsconf.People), &tls.Config{ServerName: sni, InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	return seen.PeerCertificates[0].Subject.CommonName
}

func TestServerNameChooses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certs := load(t, tlsconf.Config{Mode: tlsconf.Files, Pairs: []tlsconf.Pair{
		issue(t, dir, "one", "mail.example.org"), issue(t, dir, "two", "*.example.com", "example.com")}})
	for sni, want := range map[string]string{"mail.example.org": "one", "MAIL.example.org": "one", "pop.example.com": "two",
		"example.com": "two", "a.b.example.com": "one", "other.example": "one", "": "one"} {
		if got := name(t, certs, sni); got != want {
			t.Errorf("server name %q: got certificate %s, want %s", sni, got, want)
		}
	}
	if n := len(certs.List()); n != 2 {
		t.Errorf("List: got %d certificates, want 2", n)
	}
}

func TestReload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := issue(t, dir, "one", "a.example")
	certs := load(t, tlsconf.Config{Mode: tlsconf.Files, Pairs: []tlsconf.Pair{p}})
	listener := certs.Server(tlsconf.People) // made before the reload, follows it
	fresh := issue(t, dir, "new", "a.example")
	for from, to := range map[string]string{fresh.Cert: p.Cert, fresh.Key: p.Key} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	if err := certs.Load(); err != nil {
		t.Fatal(err)
	}
	seen, _, err := shake(t, listener, &tls.Config{ServerName: "a.example", InsecureSkipVerify: true})
	if err != nil || seen.PeerCertificates[0].Subject.CommonName != "new" {
		t.Errorf("after the reload: got %v, %v", seen.PeerCertificates, err)
	}
	write(t, p.Key, []byte("not a key"))
	if err := certs.Load(); err == nil || !strings.Contains(err.Error(), p.Key) {
		t.Errorf("a broken key was loaded, or the error does not name it: %v", err)
	}
	if got := name(t, certs, "a.example"); got != "new" {
		t.Errorf("after a failed reload: got %s, want the old certificate", got)
	}
}

func save(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

func TestSelfSignedIsKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Now()
	conf := tlsconf.Config{Mode: tlsconf.SelfSigned, Names: []string{"mail.example.org"}, Dir: dir, Save: save, Now: func() time.Time { return now }}
	fingerprint := func(c tlsconf.Config) string {
		seen, _, err := shake(t, load(t, c).Server(tlsconf.MTA), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		leaf := seen.PeerCertificates[0]
		for _, n := range c.Names {
			if err := leaf.VerifyHostname(n); err != nil {
				t.Error(err)
			}
		}
		pool := x509.NewCertPool()
		pool.AddCert(leaf)
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: c.Names[0], CurrentTime: now}); err != nil {
			t.Errorf("a program that trusts it alone: %v", err)
		}
		return string(leaf.Raw)
	}
	first := fingerprint(conf)
	if fingerprint(conf) != first {
		t.Error("another certificate was made at the second start")
	}
	if list := load(t, conf).List(); len(list) != 1 || !list[0].SelfSigned {
		t.Errorf("List: got %+v", list)
	}
	more := conf
	more.Names = []string{"mail.example.org", "127.0.0.1"}
	if fingerprint(more) == first {
		t.Error("the certificate lacks a name and was kept")
	}
	second := fingerprint(conf)
	now = now.Add(3*365*24*time.Hour - 30*24*time.Hour)
	if fingerprint(conf) == second {
		t.Error("the certificate ends within 30 days and was kept")
	}
	write(t, filepath.Join(dir, "self-signed.pem"), []byte("damaged"))
	fingerprint(conf)
}

func TestSessionTickets(t *testing.T) {
	t.Parallel()
	certs := load(t, tlsconf.Config{Mode: tlsconf.SelfSigned, Names: []string{"m.example"}, Dir: t.TempDir(), Save: save})
	for p, want := range map[tlsconf.Purpose]bool{tlsconf.MTA: false, tlsconf.People: true} {
		server := certs.Server(p)
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			client := &tls.Config{ServerName: "m.example", InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(4), MaxVersion: version}
			if _, _, err := shake(t, server, client); err != nil {
				t.Fatal(err)
			}
			seen, _, err := shake(t, server, client)
			if err != nil || seen.DidResume != want {
				t.Errorf("purpose %d, TLS %x: resumed %v (%v), want %v", p, version, seen.DidResume, err, want)
			}
		}
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	certs := load(t, tlsconf.Config{Mode: tlsconf.SelfSigned, Names: []string{"m.example"}, Dir: t.TempDir(), Save: save})
	if _, _, err := shake(t, certs.Server(tlsconf.MTA), &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 was spoken")
	}
}

func TestClientCertificates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	own, foreign := issue(t, dir, "ala"), issue(t, dir, "stranger")
	certs := load(t, tlsconf.Config{Mode: tlsconf.SelfSigned, Names: []string{"m.example"}, Dir: dir, Save: save, ClientCA: own.Cert})
	present := func(p tlsconf.Pair) *tls.Config {
		c, err := tls.LoadX509KeyPair(p.Cert, p.Key)
		if err != nil {
			t.Fatal(err)
		}
		return &tls.Config{InsecureSkipVerify: true, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c, nil }}
	}
	if _, served, err := shake(t, certs.Server(tlsconf.People), present(own)); err != nil || len(served.VerifiedChains) != 1 {
		t.Errorf("own certificate: %d chains, %v", len(served.VerifiedChains), err)
	}
	if _, _, err := shake(t, certs.Server(tlsconf.People), present(foreign)); err == nil {
		t.Error("a certificate of another authority was let in")
	}
	if _, served, err := shake(t, certs.Server(tlsconf.MTA), present(foreign)); err != nil || len(served.PeerCertificates) != 0 {
		t.Errorf("port 25 asks for no certificate: got %d, %v", len(served.PeerCertificates), err)
	}
	if _, _, err := shake(t, certs.Server(tlsconf.People), &tls.Config{InsecureSkipVerify: true}); err != nil {
		t.Errorf("no certificate: %v", err)
	}
}

func TestBadConfig(t *testing.T) {
	t.Parallel()
	for _, c := range []tlsconf.Config{{}, {Mode: tlsconf.Files}, {Mode: tlsconf.SelfSigned}, {Mode: tlsconf.ACME, Names: []string{"a"}, Dir: "/x", Save: save}} {
		if _, err := tlsconf.New(c); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
	certs, err := tlsconf.New(tlsconf.Config{Mode: tlsconf.SelfSigned, Names: []string{"a.example"}, Dir: t.TempDir(), Save: save, ClientCA: "/nonexistent"})
	if err != nil {
		t.Fatal(err)
	}
	if err := certs.Load(); err == nil {
		t.Error("an absent authority was accepted")
	}
}
