package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/pop3server"
	"poczta.example/poczta/internal/pop3server/droptest"
	"poczta.example/poczta/internal/poptest"
)

// serve starts our POP3 server, and a least SMTP server that delivers to ala.
func serve(t *testing.T) (pop, smtp string) {
	t.Helper()
	post := droptest.New("secret", "ala")
	s, err := pop3server.New(pop3server.Config{Maildrops: post, Verifier: post, Hostname: "localhost", ErrorDelay: time.Millisecond,
		PlaintextFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	if err != nil {
		t.Fatal(err)
	}
	var l [2]net.Listener
	for i := range l {
		if l[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	served, received := make(chan error, 1), make(chan struct{})
	go func() { served <- s.Serve(ctx, l[0]) }()
	go func() {
		defer close(received)
		for {
			c, err := l[1].Accept()
			if err != nil {
				return
			}
			receive(c, post)
		}
	}()
	t.Cleanup(func() {
		cancel()
		_ = l[1].Close()
		<-received
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return l[0].Addr().String(), l[1].Addr().String()
}

// receive answers 250 to all and keeps what DATA brings.
func receive(conn net.Conn, post *droptest.Post) {
	c := textproto.NewConn(conn)
	defer c.Close()
	_ = c.PrintfLine("220 test")
	for {
		line, err := c.ReadLine()
		switch {
		case err != nil:
			return
		case line == "QUIT":
			_ = c.PrintfLine("221 bye")
			return
		case line == "DATA":
			_ = c.PrintfLine("354 go on")
			text, err := c.ReadDotBytes()
			if err != nil {
				return
			}
			all := post.Messages("ala")
			text = bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))
			post.Fill("ala", append(all[:len(all):len(all)], droptest.Message{UniqueID: fmt.Sprint(len(all)), Octets: text})...)
		}
		if line != "DATA" || err == nil {
			_ = c.PrintfLine("250 ok")
		}
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	pop, smtp := serve(t)
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("secret\nmore\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errOut bytes.Buffer
	code := run(t.Context(), []string{pop, "-user", "ala", "-password-file", file, "-send", smtp, "-to", "ala@example.org", "-destructive", "-json"}, strings.NewReader(""), &out, &errOut)
	if code != 0 {
		t.Fatalf("exit status %d, stderr %q, stdout %.2000s", code, &errOut, &out)
	}
	var results []poptest.Result
	if err := json.Unmarshal(out.Bytes(), &results); err != nil {
		t.Fatal(err)
	}
	passed := map[int]bool{}
	for _, r := range results {
		passed[r.Number] = r.Outcome == poptest.Pass
	}
	for _, n := range []int{1, 50, 80, 100, 102, 110, 124} {
		if !passed[n] {
			t.Errorf("check %d did not pass", n)
		}
	}
	out.Reset()
	if code := run(t.Context(), []string{"-user", "ala", pop, "-seeded", "1"}, strings.NewReader("secret\n"), &out, &errOut); code != 0 || !strings.Contains(out.String(), " 0 fail") {
		t.Errorf("flags before the address, password by stdin: exit status %d, stdout %.2000s", code, &out)
	}
	if code := run(t.Context(), []string{pop, "-user", "ala"}, strings.NewReader("wrong\n"), &out, &errOut); code != 1 || !strings.Contains(errOut.String(), "AUTH") {
		t.Errorf("wrong password: exit status %d, stderr %q", code, &errOut)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{}, {"h:1"}, {"-user", "u"}, {"h:1", "h:2", "-user", "u"}, {"h:1", "-user", "u", "-nonsense"}, {"h:1", "-user", "u", "-password-file", "/does/not/exist"}} {
		var out, errOut bytes.Buffer
		if code := run(t.Context(), args, strings.NewReader("x\n"), &out, &errOut); code != 2 {
			t.Errorf("%v: exit status %d, want 2", args, code)
		}
	}
}
