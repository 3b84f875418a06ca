package pop3client_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"poczta.example/poczta/internal/mailtest/poppeer"
	"poczta.example/poczta/internal/pop3client"
	"poczta.example/poczta/internal/pop3server"
	"poczta.example/poczta/internal/pop3server/droptest"
)

var ala = pop3client.Credentials{Username: "ala", Password: "secret"}

// dial opens a session over TCP, with implicit TLS if secure.
func dial(t *testing.T, addr string, secure *tls.Config, cfg pop3client.Config) *pop3client.Session {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if secure != nil {
		c := tls.Client(conn, secure)
		if err := c.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		conn = c
	}
	s, err := pop3client.Open(t.Context(), conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// fetch lists and retrieves everything and compares it with the letters.
func fetch(t *testing.T, s *pop3client.Session, letters []poppeer.Message) []pop3client.Item {
	t.Helper()
	items, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(items) != len(letters) {
		t.Fatalf("%d items, want %d", len(items), len(letters))
	}
	want := map[string]bool{}
	for _, m := range letters {
		want[string(m.Data)] = true
	}
	err = s.Retrieve(t.Context(), numbersOf(items), func(n int, r io.Reader) error {
		b, err := io.ReadAll(r)
		if it := items[n-1]; err == nil && (!want[string(b)] || int64(len(b)) != it.Octets || it.UniqueID == "" || it.Illegal || it.Shared) {
			return fmt.Errorf("%+v is not as it was sent: %d octets %.60q", it, len(b), b)
		}
		delete(want, string(b))
		return err
	})
	if err != nil || len(want) != 0 {
		t.Fatalf("%v; %d letters are missing", err, len(want))
	}
	return items
}

// away deletes some messages, and looks from another session whether they are gone.
func away(t *testing.T, s, later func() *pop3client.Session) {
	t.Helper()
	first := s()
	if err := first.Login(t.Context(), ala); err != nil {
		t.Fatal(err)
	}
	before, err := first.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = first.Delete(t.Context(), []int{1, 3, len(before)})
	if err == nil {
		err = first.Quit(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	second := later()
	if err := second.Login(t.Context(), ala); err != nil {
		t.Fatal(err)
	}
	after, err := second.List(t.Context())
	var want, got []string
	for i, it := range before {
		if i != 0 && i != 2 && i != len(before)-1 {
			want = append(want, it.UniqueID)
		}
	}
	for _, it := range after {
		got = append(got, it.UniqueID)
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("left are %v, want %v: %v", got, want, err)
	}
	if err := second.Quit(t.Context()); err != nil {
		t.Error(err)
	}
}

// letters are the maildrop for servers of all houses: enough to fill a window, and a long one.
func letters() []poppeer.Message {
	all := poppeer.Letters(2000, 600)
	all[7] = poppeer.Letters(8, 3<<20)[7]
	return all
}

// TestDovecot fetches from a real Dovecot: in the clear, by STLS, by implicit TLS.
func TestDovecot(t *testing.T) {
	t.Parallel()
	all := letters()
	d := poppeer.Dovecot(t, all)
	s := dial(t, d.Plain, nil, pop3client.Config{})
	caps, err := s.Capabilities(t.Context())
	if err != nil || !caps.Pipelining || !caps.STLS || !caps.UIDL || !caps.TOP || !caps.AuthRespCode {
		t.Errorf("%+v, %v", caps, err)
	}
	if err := s.StartTLS(t.Context(), d.TLS); err != nil {
		t.Fatal(err)
	}
	if err := s.Login(t.Context(), pop3client.Credentials{Username: "ala", Password: "wrong"}); pop3client.KindOf(err) != pop3client.KindCredentials {
		t.Errorf("a wrong password: %v of kind %v", err, pop3client.KindOf(err))
	}
	if err := s.Login(t.Context(), ala); err != nil {
		t.Fatal(err)
	}
	items := fetch(t, s, all)
	tops := map[int]string{}
	if err := s.Top(t.Context(), numbersOf(items)[:3], 0, keep(tops)); err != nil || len(tops) != 3 || len(tops[1]) > 200 {
		t.Errorf("TOP: %v, %q", err, tops[1])
	}
	if err := s.Quit(t.Context()); err != nil {
		t.Error(err)
	}
	secure := func() *pop3client.Session { return dial(t, d.Secure, d.TLS, pop3client.Config{}) }
	for _, mechanism := range []string{"SCRAM-SHA-256", "PLAIN", "LOGIN", "USER"} {
		s := secure()
		if err := s.Login(t.Context(), pop3client.Credentials{Username: "ala", Password: "secret", Mechanisms: []string{mechanism}}); err != nil {
			t.Errorf("%s: %v", mechanism, err)
		}
		if err := s.Quit(t.Context()); err != nil {
			t.Errorf("%s: %v", mechanism, err)
		}
	}
	away(t, secure, secure)
	clear := dial(t, d.Plain, nil, pop3client.Config{Plaintext: true})
	if err := clear.Login(t.Context(), ala); err != nil {
		t.Error(err)
	}
}

// TestCourier fetches from a real Courier.
func TestCourier(t *testing.T) {
	t.Parallel()
	all := letters()
	c := poppeer.Courier(t, all)
	open := func() *pop3client.Session { return dial(t, c.Plain, nil, pop3client.Config{Plaintext: true}) }
	s := open()
	if err := s.Login(t.Context(), pop3client.Credentials{Username: "ala", Password: "wrong"}); pop3client.KindOf(err) != pop3client.KindCredentials {
		t.Errorf("a wrong password: %v of kind %v", err, pop3client.KindOf(err))
	}
	if err := s.Login(t.Context(), ala); err != nil {
		t.Fatal(err)
	}
	if caps, err := s.Capabilities(t.Context()); err != nil || !caps.Pipelining || caps.RespCodes || !strings.Contains(caps.Implementation, "Courier") {
		t.Errorf("%+v, %v", caps, err)
	}
	items := fetch(t, s, all)
	tops := map[int]string{}
	if err := s.Top(t.Context(), numbersOf(items)[:3], 0, keep(tops)); err != nil || len(tops) != 3 || len(tops[1]) > 200 {
		t.Errorf("TOP: %v, %q", err, tops[1])
	}
	if err := s.Quit(t.Context()); err != nil {
		t.Error(err)
	}
	away(t, open, open)
}

// TestOurServer fetches from the server of this house.
func TestOurServer(t *testing.T) {
	t.Parallel()
	all := letters()
	post := droptest.New("secret", "ala")
	var messages []droptest.Message
	for _, m := range all {
		messages = append(messages, droptest.Message{UniqueID: m.ID, Octets: m.Data})
	}
	post.Fill("ala", messages...)
	cert, pool, err := droptest.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	srv, err := pop3server.New(pop3server.Config{Maildrops: post, Verifier: post, Hostname: "mail.example.org",
		PlaintextFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, TLS: &tls.Config{Certificates: []tls.Certificate{cert}}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(context.Background(), l) }()
	t.Cleanup(func() { _ = srv.Shutdown(context.Background()); <-done })
	config := &tls.Config{RootCAs: pool, ServerName: "localhost"}
	open := func() *pop3client.Session {
		s := dial(t, l.Addr().String(), nil, pop3client.Config{UTF8: true})
		if err := s.StartTLS(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	if err := s.Login(t.Context(), ala); err != nil || !s.UTF8() {
		t.Fatal(err)
	}
	if caps, err := s.Capabilities(t.Context()); err != nil || !slices.Contains(caps.SASL, "SCRAM-SHA-256") && len(caps.SASL) > 0 {
		t.Errorf("%+v, %v", caps, err)
	}
	fetch(t, s, all)
	if err := s.Quit(t.Context()); err != nil {
		t.Error(err)
	}
	away(t, open, open)
}
