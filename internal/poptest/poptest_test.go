package poptest_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/pop3server"
	"poczta.example/poczta/internal/pop3server/droptest"
	"poczta.example/poczta/internal/poptest"
)

// TestOurServer runs the whole suite against our server: nothing may fail, and
// only what a connection can't have is skipped.
func TestOurServer(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change  func(*poptest.Config)
		skipped []int
	}{
		"plain":    {func(*poptest.Config) {}, []int{58, 60}},
		"STLS":     {func(c *poptest.Config) { c.StartTLS = true }, []int{58}},
		"TLS":      {func(c *poptest.Config) { c.TLS = true }, []int{40, 41, 42, 44, 45, 46, 58}},
		"gentle":   {func(c *poptest.Config) { c.Destructive = false }, []int{58, 60, 120, 121, 122, 123, 124, 125}},
		"unseeded": {func(c *poptest.Config) { c.Seeds = nil }, []int{58, 60, 102}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seeds := poptest.Messages("a@example.org", "ala@example.org")
			c := poptest.Config{User: "ala", Password: "secret", Destructive: true, Seeds: seeds,
				TLSConfig: &tls.Config{InsecureSkipVerify: true}}
			tt.change(&c)
			c.Addr = ours(t, seeds, c.TLS)
			var skipped []int
			for _, r := range runSuite(t, c) {
				switch r.Outcome {
				case poptest.Fail:
					t.Errorf("%d %s (%s): expected %s, got %s", r.Number, r.Name, r.Source, r.Expected, r.Got)
				case poptest.Skip:
					skipped = append(skipped, r.Number)
				}
			}
			if !slices.Equal(skipped, tt.skipped) {
				t.Errorf("skipped %v, want %v", skipped, tt.skipped)
			}
		})
	}
}

func runSuite(t *testing.T, c poptest.Config) []poptest.Result {
	t.Helper()
	s, err := poptest.New(c)
	if err != nil {
		t.Fatal(err)
	}
	var results []poptest.Result
	if err := s.Run(t.Context(), func(r poptest.Result) { results = append(results, r) }); err != nil {
		t.Fatal(err)
	}
	return results
}

// ours starts our server with the seeds in ala's maildrop.
func ours(t *testing.T, seeds []poptest.Message, implicit bool) string {
	t.Helper()
	post := droptest.New("secret", "ala")
	var drop []droptest.Message
	for i, m := range seeds {
		drop = append(drop, droptest.Message{UniqueID: fmt.Sprintf("id-%d", i), Octets: m.Octets})
	}
	post.Fill("ala", drop...)
	cert, _, err := droptest.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	s, err := pop3server.New(pop3server.Config{
		Maildrops: post, Verifier: post, Hostname: "localhost", TLS: &tls.Config{Certificates: []tls.Certificate{cert}},
		PlaintextFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, ErrorDelay: time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	serve := s.Serve
	if implicit {
		serve = s.ServeTLS
	}
	go func() { done <- serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// TestBadServers shows that checks can fail: servers with known faults must be found.
func TestBadServers(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		answer func(command string) string
		found  []int // checks that must fail
	}{
		"yes to all": {func(string) string { return "+OK 1 1\r\n" },
			[]int{4, 5, 6, 7, 8, 9, 10, 54, 72, 73, 76, 80, 82, 83, 84, 85, 86, 87}},
		"no CRLF":     {func(string) string { return "+OK 0 0\n" }, []int{151}},
		"long":        {func(string) string { return "+OK 0 " + strings.Repeat("0", 600) + "\r\n" }, []int{150}},
		"bad ids":     {lying("UIDL", "+OK\r\n1 a b\r\n.\r\n"), []int{88}},
		"same ids":    {lying("UIDL", "+OK\r\n1 a\r\n2 a\r\n.\r\n"), []int{88}},
		"wrong sums":  {lying("LIST", "+OK\r\n1 120\r\n2 9\r\n.\r\n"), []int{80}},
		"wrong size":  {lying("RETR 1", "+OK\r\nA: b\r\n\r\nx\r\n.\r\n"), []int{100}},
		"no brackets": {lying("PASS not-secret", "-ERR [no such user]\r\n"), nil},
		"no cut":      {lying("TOP 1 0", "+OK\r\nA: b\r\n\r\nx\r\n.\r\n"), []int{110}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := poptest.Config{Addr: fake(t, tt.answer), User: "ala", Password: "secret", Destructive: false, Timeout: 60 * time.Millisecond}
			failed := map[int]bool{}
			for _, r := range runSuite(t, c) {
				failed[r.Number] = r.Outcome == poptest.Fail
			}
			for _, n := range tt.found {
				if !failed[n] {
					t.Errorf("check %d did not find the fault", n)
				}
			}
		})
	}
}

// lying answers one command with a lie and others sensibly.
func lying(about, lie string) func(string) string {
	return func(command string) string {
		if command == about {
			return lie
		}
		switch verb, _, _ := strings.Cut(command, " "); verb {
		case "LIST":
			return "+OK\r\n1 5\r\n.\r\n"
		case "UIDL":
			return "+OK\r\n1 a\r\n.\r\n"
		case "STAT":
			return "+OK 1 5\r\n"
		case "RETR", "TOP":
			return "+OK\r\nA: b\r\n\r\n.\r\n"
		case "USER", "PASS", "NOOP", "QUIT":
			return "+OK\r\n"
		}
		return "-ERR\r\n"
	}
}

// fake serves answers without any state.
func fake(t *testing.T, answer func(string) string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the connection
				defer c.Close()
				fmt.Fprint(c, "+OK fake\r\n")
				for in := bufio.NewScanner(c); in.Scan(); {
					fmt.Fprint(c, answer(strings.TrimSuffix(in.Text(), "\r")))
					if strings.EqualFold(in.Text(), "QUIT") {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}
