package tlsconf_test

import (
	"bytes"
	"crypto/tls"
	"net"
	"testing"

	"poczta.example/poczta/internal/tlsconf"
)

// TestNoted: what the server presents is known to it, by server name, and nothing
// is claimed of a session that was resumed or that another configuration serves.
func TestNoted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certs := load(t, tlsconf.Config{Mode: tlsconf.Files, Pairs: []tlsconf.Pair{
		issue(t, dir, "one", "mail.example.org"), issue(t, dir, "two", "mail.example.com")}})
	ours := certs.Server(tlsconf.People)
	foreign := &tls.Config{Certificates: []tls.Certificate{*chosen(t, certs)}}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cache := tls.NewLRUClientSessionCache(4)
		for _, tt := range []struct {
			name   string
			server *tls.Config
			sni    string
			cache  tls.ClientSessionCache
			known  bool
		}{
			{"first name", ours, "mail.example.org", nil, true},
			{"second name", ours, "mail.example.com", cache, true},
			{"resumed", ours, "mail.example.com", cache, false},
			{"configuration of others", foreign, "mail.example.org", nil, false},
		} {
			seen, noted := notedShake(t, tt.server, &tls.Config{ServerName: tt.sni, InsecureSkipVerify: true, MaxVersion: version, ClientSessionCache: tt.cache})
			switch {
			case seen.DidResume != (tt.name == "resumed"):
				t.Errorf("TLS %x: %s: resumed %v", version, tt.name, seen.DidResume)
			case tt.known != (noted != nil) || tt.known && !bytes.Equal(noted, seen.PeerCertificates[0].Raw):
				t.Errorf("TLS %x: %s: the certificate noted is not the client's", version, tt.name)
			}
		}
	}
}

// chosen is a certificate of certs.
func chosen(t *testing.T, certs *tlsconf.Certs) *tls.Certificate {
	t.Helper()
	c, err := certs.Server(tlsconf.People).GetCertificate(&tls.ClientHelloInfo{ServerName: "mail.example.org"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// notedShake does a handshake and one octet back, so that tickets arrive. noted
// is the certificate that the server noted, nil for none.
func notedShake(t *testing.T, server, client *tls.Config) (seen tls.ConnectionState, noted []byte) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan []byte, 1)
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		below := &tlsconf.Noted{Conn: conn}
		s := tls.Server(below, server)
		if s.Handshake() != nil {
			return
		}
		_, _ = s.Write([]byte("x"))
		st := s.ConnectionState()
		if c := below.Presented(&st); c != nil {
			done <- c.Raw
		}
	}()
	c, err := tls.Dial("tcp", l.Addr().String(), client)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return c.ConnectionState(), <-done
}
