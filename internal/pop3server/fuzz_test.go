package pop3server_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"poczta.example/poczta/internal/pop3server"
	"poczta.example/poczta/internal/pop3server/droptest"
)

// fuzzSession brings a session into a state by prelude, feeds it data, and
// closes the client's side. The session must end, every reply must be a status
// line or within a multi-line reply, and nothing may be deleted without QUIT.
func fuzzSession(t *testing.T, prelude, data []byte) {
	post := droptest.New("secret", "mrose", "ala")
	golden(post)
	s, err := pop3server.New(pop3server.Config{
		Maildrops: post, Verifier: post, Hostname: "mail.example.org", PlaintextFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		ErrorDelay: time.Nanosecond, MaxErrors: 1000, MaxLoginFailures: 1000,
	})
	if err != nil {
		t.Fatal(err)
	}
	l := newPipes()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	server, client := net.Pipe()
	l.conns <- addressed{server, netip.MustParseAddrPort("127.0.0.1:9")}
	got := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(client)
		got <- b
	}()
	_ = client.SetDeadline(time.Now().Add(time.Minute))
	if _, err := client.Write(prelude); err != nil {
		t.Fatal(err)
	}
	quits := bytes.Contains(bytes.ToUpper(data), []byte("QUIT"))
	_, _ = client.Write(data)
	_ = client.Close()
	cancel()
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	for _, line := range bytes.SplitAfter(<-got, []byte("\r\n")) {
		if len(line) > 1100 {
			t.Errorf("a line of %d octets came", len(line))
		}
	}
	if n := len(post.Messages("mrose")); n != 2 && !quits {
		t.Errorf("%d messages are left without QUIT", n)
	}
	if post.Opened() != 0 {
		t.Error("maildrop is open after the session")
	}
}

var fuzzSeeds = []string{
	"CAPA\r\n", "USER mrose\r\nPASS secret\r\nSTAT\r\n", "AUTH PLAIN\r\n*\r\n", "AUTH SCRAM-SHA-256 biwsbj1hbGEscj1hYmM=\r\nQUIT\r\n",
	"LIST\r\nUIDL\r\nTOP 1 1\r\nRETR 1\r\nDELE 1\r\nRSET\r\n", "STLS\r\n\x16\x03\x01\x00\x05hello", "\x00\xff\r\n\n\r", "LANG *\r\nLANG\r\nUTF8\r\n",
	"RETR 18446744073709551616\r\nTOP 1 99999999999999999999\r\n",
}

// FuzzAuthorization feeds noise to a session of a stranger.
func FuzzAuthorization(f *testing.F) {
	for _, s := range fuzzSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) { fuzzSession(t, []byte("NOOP\r\n"), data) })
}

// FuzzTransaction feeds noise to a session that has logged in.
func FuzzTransaction(f *testing.F) {
	for _, s := range fuzzSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzSession(t, []byte("USER mrose\r\nPASS secret\r\nDELE 1\r\n"), data)
	})
}

// FuzzExchange feeds noise to the exchange of AUTH.
func FuzzExchange(f *testing.F) {
	for _, s := range []string{"\r\n", "*\r\n", "=\r\n", "AG1yb3NlAHNlY3JldA==\r\n", "biwsbj1hbGEscj1hYmM=\r\n", "bixhPSxuPWFsYSxyPWFiYw==\r\nYz1iaXdz\r\n"} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, data []byte, scram bool) {
		prelude := "AUTH PLAIN\r\n"
		if scram {
			prelude = "AUTH SCRAM-SHA-256\r\n"
		}
		fuzzSession(t, []byte(prelude), data)
	})
}
