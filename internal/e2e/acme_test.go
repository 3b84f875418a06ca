package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"poczta.example/poczta/internal/mailtest/ports"
)

// TestACME obtains certificates from a real ACME server (Pebble) for two names, and for
// the name under which mail programs look for settings, as it leads here; it serves each
// by SNI on the mail ports.
func TestACME(t *testing.T) {
	t.Parallel()
	names := []string{"mx." + domain, "mail." + domain}
	s := setup(t)
	ca := startPebble(t, s.base+80, s.base+443)
	s.configure("[listen]\nhttp = [\"127.0.0.1:80\"]\nhttps = [\"127.0.0.1:443\"]")
	s.rewrite(`mode = "self-signed"`, `mode = "acme"`)
	s.configure("[tls]\nnames = [\"" + names[0] + "\", \"" + names[1] + "\"]")
	s.configure("[tls.acme]\ndirectory = \"" + ca.directory + "\"\nroot = \"" + ca.root + "\"\nemail = \"hostmaster@example.org\"")
	zone := newNames(t, "mx."+domain+". A 127.0.0.1", "autoconfig."+domain+". A 127.0.0.1", "autodiscover."+domain+". A 192.0.2.9")
	s.configure("[dns]\nservers = [\"" + zone.addr + "\"]")
	s.start()
	for _, name := range append(names, "autoconfig."+domain) {
		var issuer string
		s.await("a certificate for "+name+" is served", time.Minute, func() bool {
			conn, err := tls.Dial("tcp", s.addr(995), &tls.Config{ServerName: name, InsecureSkipVerify: true}) // the issuer is looked at below
			if err != nil {
				return false
			}
			defer conn.Close()
			cert := conn.ConnectionState().PeerCertificates[0]
			issuer = cert.Issuer.CommonName
			return cert.VerifyHostname(name) == nil && cert.Issuer.CommonName != cert.Subject.CommonName
		})
		t.Logf("%s was signed by %s", name, issuer)
	}
	conn, err := tls.Dial("tcp", s.addr(443), &tls.Config{ServerName: "autodiscover." + domain, InsecureSkipVerify: true}) // looked at below
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if conn.ConnectionState().PeerCertificates[0].VerifyHostname("autodiscover."+domain) == nil {
		t.Error("a certificate for a name that leads elsewhere")
	}
}

// rewrite replaces text of the configuration that must be there.
func (s *server) rewrite(old, replacement string) {
	s.t.Helper()
	text, err := os.ReadFile(s.conf)
	if err != nil {
		s.t.Fatal(err)
	}
	next := strings.Replace(string(text), old, replacement, 1)
	if next == string(text) {
		s.t.Fatalf("the configuration has no %q:\n%s", old, text)
	}
	if err := os.WriteFile(s.conf, []byte(next), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// authority is a running Pebble.
type authority struct {
	directory string // URL
	root      string // PEM file that signs its HTTPS
}

// startPebble builds and starts Pebble, with a name server that knows every name
// as 127.0.0.1.
func startPebble(t *testing.T, httpPort, tlsPort int) authority {
	t.Helper()
	dir := t.TempDir()
	bin := filepath.Join(dir, "pebble")
	if out, err := exec.Command("go", "build", "-modfile=../../tools/go.mod", "-o", bin, "github.com/letsencrypt/pebble/v2/cmd/pebble").CombinedOutput(); err != nil {
		t.Fatalf("build pebble: %v: %s", err, out)
	}
	cert, key := ownCertificate(t, dir)
	listen, manage := freeAddr(t), freeAddr(t)
	conf, err := json.Marshal(map[string]any{"pebble": map[string]any{"listenAddress": listen, "managementListenAddress": manage,
		"certificate": cert, "privateKey": key, "httpPort": httpPort, "tlsPort": tlsPort,
		"profiles": map[string]any{"default": map[string]any{"description": "as usual", "validityPeriod": 7776000}}}})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "-config", keep(t, dir, "pebble.json", string(conf)), "-dnsserver", startNames(t))
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log := &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("pebble: %s", log)
		}
	})
	(&server{t: t, log: log}).await("pebble listens", 10*time.Second, func() bool {
		c, err := net.Dial("tcp", listen)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return authority{directory: "https://" + listen + "/dir", root: cert}
}

// startNames answers every A question with 127.0.0.1.
func startNames(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") // Pebble asks over TCP
	if err != nil {
		t.Fatal(err)
	}
	srv := &dns.Server{Listener: l, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if q.Question[0].Qtype == dns.TypeA {
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.IPv4(127, 0, 0, 1)})
		}
		_ = w.WriteMsg(m)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.ActivateAndServe() }()
	t.Cleanup(func() { _ = srv.Shutdown(); <-done })
	return l.Addr().String()
}

// ownCertificate makes a certificate for 127.0.0.1 that signs itself.
func ownCertificate(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return keep(t, dir, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))),
		keep(t, dir, "ca.key", string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private})))
}

func freeAddr(t *testing.T) string {
	t.Helper()
	return loopback(ports.Free(t))
}
