package line_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/mailtest/poppeer"
	"poczta.example/poczta/internal/mailtest/ports"
	"poczta.example/poczta/internal/mua/line"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/pop3client"
	"poczta.example/poczta/internal/smtpclient"
)

// TestWrongPortsAreSaidWithARemedy connects in the ways that people mistake for another.
func TestWrongPortsAreSaidWithARemedy(t *testing.T) {
	t.Parallel()
	cert, pool := peer.Certificate(t, "127.0.0.1")
	begins := poppeer.Start(t, poppeer.Config{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}, ImplicitTLS: true}).Listen(t).String()
	open := poppeer.Start(t, poppeer.Config{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}}).Listen(t).String()
	none := net.JoinHostPort("127.0.0.1", strconv.Itoa(ports.Free(t)))
	for name, tt := range map[string]struct {
		at       string
		host     string
		security clientconfig.Security
		outgoing bool
		says     []string
		is       error
	}{
		"TLS to a port without":          {open, "127.0.0.1", clientconfig.TLS, false, []string{"does not begin with TLS", "--security starttls"}, nil},
		"the same, outgoing":             {open, "127.0.0.1", clientconfig.TLS, true, []string{"does not begin with TLS", "--outgoing-security starttls"}, nil},
		"STARTTLS to a port with TLS":    {begins, "127.0.0.1", clientconfig.StartTLS, false, []string{"says nothing", "--security tls"}, nil},
		"no TLS to a port with, going":   {begins, "127.0.0.1", clientconfig.Plain, true, []string{"says nothing", "--outgoing-security tls"}, nil},
		"nobody listens":                 {none, "127.0.0.1", clientconfig.TLS, false, []string{"nobody listens at " + none, "host and port are right"}, syscall.ECONNREFUSED},
		"nobody listens, outgoing":       {none, "127.0.0.1", clientconfig.Plain, true, []string{"nobody listens at " + none}, syscall.ECONNREFUSED},
		"no such host":                   {none, "no-host.invalid", clientconfig.TLS, false, []string{"no host named no-host.invalid", "how it is spelled"}, nil},
		"no answer to the connection":    {none, "late.invalid", clientconfig.TLS, false, []string{"no answer from late.invalid:"}, context.DeadlineExceeded},
		"the network's own word is kept": {none, "odd.invalid", clientconfig.TLS, false, []string{"connect to odd.invalid: ", "odd indeed"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dial := func(ctx context.Context, network, hostport string) (net.Conn, error) {
				switch {
				case strings.HasPrefix(hostport, "no-host"):
					return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", IsNotFound: true}}
				case strings.HasPrefix(hostport, "late"):
					return nil, &net.OpError{Op: "dial", Err: context.DeadlineExceeded}
				case strings.HasPrefix(hostport, "odd"):
					return nil, errors.New("odd indeed")
				}
				return new(net.Dialer).DialContext(ctx, network, hostport)
			}
			limit := time.Minute
			if tt.at == begins { // which will say nothing
				limit = 300 * time.Millisecond
			}
			l, err := line.New(line.Config{Secrets: secrets{password: "x"}, Roots: pool, Dial: dial,
				POP3: pop3client.Timeouts{Greeting: limit}, SMTP: smtpclient.Timeouts{Greeting: limit}})
			if err != nil {
				t.Fatal(err)
			}
			_, port, _ := net.SplitHostPort(tt.at)
			n, err := strconv.ParseUint(port, 10, 16)
			if err != nil {
				t.Fatal(err)
			}
			server := profile.Server{Login: "us", Server: clientconfig.Server{Protocol: clientconfig.POP3, Host: tt.host, Port: uint16(n), Security: tt.security}}
			if tt.outgoing {
				server.Protocol = clientconfig.SMTP
				_, err = l.Trial().SMTP(t.Context(), profile.Account{Outgoing: server})
			} else {
				_, err = l.Trial().POP3(t.Context(), profile.Account{Incoming: server})
			}
			if err == nil {
				t.Fatal("a session was opened")
			}
			for _, want := range tt.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q; want %q in it", err, want)
				}
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("%#v does not lead to %v", err, tt.is)
			}
		})
	}
}
