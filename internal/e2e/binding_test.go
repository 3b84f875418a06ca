package e2e_test

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/xdg-go/scram"
)

// TestChannelBinding logs in by SCRAM-SHA-256-PLUS with a foreign client, bound to
// the connection and to the certificate, which the server chooses by name.
func TestChannelBinding(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.start()
	endPoint := func(st *tls.ConnectionState) (scram.ChannelBinding, error) {
		return scram.NewTLSServerEndpointBinding(st)
	}
	other := func(st *tls.ConnectionState) (scram.ChannelBinding, error) {
		b, err := endPoint(st)
		b.Data = make([]byte, len(b.Data))
		return b, err
	}
	for _, tt := range []struct {
		name    string
		version uint16
		bind    func(*tls.ConnectionState) (scram.ChannelBinding, error)
		good    bool
	}{
		{"tls-exporter", tls.VersionTLS13, scram.NewTLSExporterBinding, true},
		{"tls-server-end-point", tls.VersionTLS13, endPoint, true},
		{"tls-server-end-point under TLS 1.2", tls.VersionTLS12, endPoint, true},
		{"another certificate", tls.VersionTLS13, other, false},
	} {
		for service, p := range map[string]struct {
			port                              int
			greet, hello, more, good, refused string
		}{
			"submissions": {465, "220", "EHLO client.test", "334 ", "235", "535"},
			"pop3s":       {995, "+OK", "CAPA", "+ ", "+OK", "-ERR [AUTH]"},
		} {
			t.Run(service+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				c := dial(t, s.addr(p.port))
				secure := tls.Client(c.conn, &tls.Config{ServerName: "mx." + domain, InsecureSkipVerify: true, MaxVersion: tt.version})
				if err := secure.Handshake(); err != nil {
					t.Fatal(err)
				}
				c.conn, c.r = secure, bufio.NewReader(secure)
				c.expect(p.greet)
				c.say(p.hello, p.greet[:1])
				if service == "pop3s" {
					c.lines()
				}
				st := secure.ConnectionState()
				binding, err := tt.bind(&st)
				if err != nil {
					t.Fatal(err)
				}
				sc, err := scram.SHA256.NewClient("ala@"+domain, password, "")
				if err != nil {
					t.Fatal(err)
				}
				want := p.good
				if !tt.good {
					want = p.refused
				}
				if got := bound(t, c, sc.NewConversationWithChannelBinding(binding), p.more); !strings.HasPrefix(got, want) {
					t.Errorf("got %q, want %s", got, want)
				}
			})
		}
	}
}

// bound runs an exchange of SCRAM-SHA-256-PLUS and returns the reply that ends it.
func bound(t *testing.T, c *client, conv *scram.ClientConversation, more string) string {
	t.Helper()
	send, challenge := "AUTH SCRAM-SHA-256-PLUS ", ""
	for range 5 {
		response, err := conv.Step(challenge)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.conn.SetDeadline(time.Now().Add(30 * time.Second * patience))
		fmt.Fprintf(c.conn, "%s%s\r\n", send, base64.StdEncoding.EncodeToString([]byte(response)))
		line, err := c.r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		coded, ok := strings.CutPrefix(line, more)
		if !ok {
			return line
		}
		text, err := base64.StdEncoding.DecodeString(strings.TrimSpace(coded))
		if err != nil {
			t.Fatal(err)
		}
		send, challenge = "", string(text)
	}
	t.Fatal("the exchange does not end")
	return ""
}
