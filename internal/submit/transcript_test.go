package submit_test

import (
	"context"
	"crypto/x509"
	"net"
	"net/netip"
	"testing"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/mailtest/memconn"
	"poczta.example/poczta/internal/mailtest/transcript"
	"poczta.example/poczta/internal/sasl"
	"poczta.example/poczta/internal/smtpserver"
	"poczta.example/poczta/internal/submit"
)

// verifier knows ala with the password tajne.
type verifier struct{}

func (verifier) VerifyPlain(_ context.Context, _ sasl.Peer, _, authcid, password string) (sasl.Identity, error) {
	if authcid == "ala" && password == "tajne" {
		return sasl.Identity{Account: 1, Login: "ala"}, nil
	}
	return sasl.Identity{}, sasl.ErrCredentials
}

func (verifier) ScramKeys(context.Context, sasl.Peer, string) (sasl.Keys, error) {
	return sasl.Keys{}, sasl.ErrUnavailable
}

func (verifier) ScramResult(context.Context, sasl.Peer, string, string, bool) (sasl.Identity, error) {
	return sasl.Identity{}, sasl.ErrUnavailable
}

func (verifier) VerifyExternal(context.Context, sasl.Peer, string, *x509.Certificate) (sasl.Identity, error) {
	return sasl.Identity{}, sasl.ErrCredentials
}

// TestTranscripts runs golden dialogues against the real server with this
// service. Options of a script: device=yes makes the client a named host.
func TestTranscripts(t *testing.T) {
	t.Parallel()
	transcript.Runner{}.RunFiles(t, "testdata/*.txt", func(t *testing.T, s *transcript.Script) net.Conn {
		o := newOffice(t, func(c *submit.Config) {
			c.PerHour = 3
			if s.Options["device"] == "yes" {
				c.Hosts = []submit.Host{{From: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}, Addresses: []address.Address{intaketest.Addr(t, "scanner@example.org")}}}
			}
		})
		server, err := smtpserver.New(smtpserver.Config{Hostname: "mx.example.org", Service: o.Service, Auth: smtpserver.Auth{
			Verifier: verifier{}, PlaintextFrom: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
		}})
		if err != nil {
			t.Fatal(err)
		}
		return memconn.Serve(t, server.Serve)
	})
}
