package smtpserver_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/xdg-go/scram"
	"poczta.example/poczta/internal/sasl"
	"poczta.example/poczta/internal/smtpserver"
)

// scramVerifier knows ala's SCRAM keys.
type scramVerifier struct {
	sasl.Verifier

	keys sasl.Keys
}

func newScramVerifier(t *testing.T) scramVerifier {
	t.Helper()
	c, err := scram.SHA256.NewClient("ala", "kot", "")
	if err != nil {
		t.Fatal(err)
	}
	salt := "0123456789abcdef"
	stored, err := c.GetStoredCredentialsWithError(scram.KeyFactors{Salt: salt, Iters: 4096})
	if err != nil {
		t.Fatal(err)
	}
	return scramVerifier{keys: sasl.Keys{Salt: []byte(salt), Iterations: 4096, StoredKey: stored.StoredKey, ServerKey: stored.ServerKey}}
}

func (v scramVerifier) ScramKeys(context.Context, sasl.Peer, string) (sasl.Keys, error) {
	return v.keys, nil
}

func (scramVerifier) ScramResult(_ context.Context, _ sasl.Peer, _, authcid string, ok bool) (sasl.Identity, error) {
	if !ok || authcid != "ala" {
		return sasl.Identity{}, sasl.ErrCredentials
	}
	return sasl.Identity{Account: 7, Login: "ala@example.org"}, nil
}

// TestScram authenticates with a foreign SCRAM client, with and without channel
// binding; under TLS through STARTTLS, whose binding is that of the new connection.
func TestScram(t *testing.T) {
	t.Parallel()
	server, client := certificates()
	for _, tt := range []struct {
		name, mechanism, password string
		bind                      func(*tls.ConnectionState) (scram.ChannelBinding, error)
		want                      string
	}{
		{"SCRAM-SHA-256", "SCRAM-SHA-256", "kot", nil, "235"},
		{"wrong password", "SCRAM-SHA-256", "pies", nil, "535"},
		{"tls-exporter", "SCRAM-SHA-256-PLUS", "kot", scram.NewTLSExporterBinding, "235"},
		{"tls-server-end-point", "SCRAM-SHA-256-PLUS", "kot", func(st *tls.ConnectionState) (scram.ChannelBinding, error) {
			return scram.NewTLSServerEndpointBinding(st)
		}, "235"},
		{"binding of another connection", "SCRAM-SHA-256-PLUS", "kot", func(*tls.ConnectionState) (scram.ChannelBinding, error) {
			return scram.ChannelBinding{Type: scram.ChannelBindingTLSExporter, Data: make([]byte, 32)}, nil
		}, "535"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := open(t, smtpserver.Config{TLS: server, Auth: smtpserver.Auth{Verifier: newScramVerifier(t)}})
			c := h.dial(t)
			if err := command(c, bufio.NewReader(c), "", "220"); err != nil {
				t.Fatal(err)
			}
			r := bufio.NewReader(c)
			for _, s := range []string{"EHLO h", "STARTTLS"} {
				if err := command(c, r, s, "2"); err != nil {
					t.Fatal(err)
				}
			}
			secure := tls.Client(c, client)
			if err := secure.Handshake(); err != nil {
				t.Fatal(err)
			}
			r = bufio.NewReader(secure)
			if err := command(secure, r, "EHLO h", "250"); err != nil {
				t.Fatal(err)
			}
			sc, err := scram.SHA256.NewClient("ala", tt.password, "")
			if err != nil {
				t.Fatal(err)
			}
			conv := sc.NewConversation()
			if tt.bind != nil {
				st := secure.ConnectionState()
				cb, err := tt.bind(&st)
				if err != nil {
					t.Fatal(err)
				}
				conv = sc.NewConversationWithChannelBinding(cb)
			}
			if got := authenticate(t, secure, r, tt.mechanism, conv); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// authenticate runs the exchange and returns the code that ended it.
func authenticate(t *testing.T, c net.Conn, r *bufio.Reader, mechanism string, conv *scram.ClientConversation) string {
	t.Helper()
	send, challenge := "AUTH "+mechanism+" ", ""
	for range 5 {
		response, err := conv.Step(challenge)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, send+base64.StdEncoding.EncodeToString([]byte(response))+"\r\n"); err != nil {
			t.Fatal(err)
		}
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(line, "334 ") {
			return line[:3]
		}
		text, err := base64.StdEncoding.DecodeString(strings.TrimSpace(line[4:]))
		if err != nil {
			t.Fatal(err)
		}
		send, challenge = "", string(text)
	}
	t.Fatal(errors.New("the exchange does not end"))
	return ""
}

// command sends a line, unless it is empty, and reads a whole reply.
func command(c net.Conn, r *bufio.Reader, send, want string) error {
	if send != "" {
		if _, err := io.WriteString(c, send+"\r\n"); err != nil {
			return err
		}
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, want) {
			return fmt.Errorf("%s: got %q, %w", send, line, err)
		}
		if line[3] == ' ' {
			return nil
		}
	}
}
