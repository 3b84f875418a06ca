package smtpserver_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/smtpserver"
)

// sink is a Service that discards everything.
type sink struct{}

func (sink) Begin(context.Context, *smtpserver.Session, envelope.Envelope) (smtpserver.Transaction, error) {
	return sink{}, nil
}
func (sink) Rcpt(context.Context, envelope.Recipient) error { return nil }
func (sink) Abort()                                         {}
func (sink) Data(_ context.Context, msg io.Reader) (smtpserver.Outcome, error) {
	_, err := io.Copy(io.Discard, msg)
	return smtpserver.Outcome{Reply: smtp.Reply{Code: 250, Text: "Ok"}}, err
}

// listenTCP serves a sink on loopback, under TLS from the first octet if secure is not nil.
func listenTCP(tb testing.TB, secure *tls.Config) string {
	tb.Helper()
	srv, err := smtpserver.New(smtpserver.Config{Hostname: "mx.example.org", Service: sink{}, Limits: smtpserver.Limits{Transactions: 1 << 30}, TLS: secure, ImplicitTLS: secure != nil})
	if err != nil {
		tb.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(context.Background(), l) }()
	tb.Cleanup(func() {
		gone, cancel := context.WithCancel(context.Background())
		cancel()
		_ = srv.Shutdown(gone)
		<-done
	})
	return l.Addr().String()
}

// BenchmarkSession sends one 4 KiB message a connection, command by command.
func BenchmarkSession(b *testing.B) {
	addr := os.Getenv("POCZTA_BENCH_PEER") // another server to compare with
	if addr == "" {
		addr = listenTCP(b, nil)
	}
	data := strings.Repeat(strings.Repeat("x", 62)+"\r\n", 64) + ".\r\n"
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		r := bufio.NewReader(nil)
		for pb.Next() {
			if err := sendOne(addr, r, data); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func sendOne(addr string, r *bufio.Reader, data string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	r.Reset(c)
	for _, s := range []string{"", "EHLO a.example\r\n", "MAIL FROM:<a@a.example>\r\n", "RCPT TO:<b@foo.com>\r\n", "DATA\r\n", data, "QUIT\r\n"} {
		if _, err := io.WriteString(c, s); err != nil {
			return err
		}
		for {
			line, err := r.ReadSlice('\n')
			if err != nil {
				return err
			}
			if line[0] != '2' && line[0] != '3' {
				return fmt.Errorf("reply %q", line)
			}
			if line[3] == ' ' {
				break
			}
		}
	}
	return nil
}

// BenchmarkData sends 6 MiB a transaction, in the clear and under TLS.
func BenchmarkData(b *testing.B) {
	server, client := certificates()
	b.Run("clear", func(b *testing.B) {
		c, err := net.Dial("tcp", listenTCP(b, nil))
		if err != nil {
			b.Fatal(err)
		}
		benchData(b, c)
	})
	b.Run("tls", func(b *testing.B) {
		c, err := tls.Dial("tcp", listenTCP(b, server), client)
		if err != nil {
			b.Fatal(err)
		}
		benchData(b, c)
	})
}

func benchData(b *testing.B, c net.Conn) {
	b.Helper()
	defer func() { _ = c.Close() }()
	piece := []byte(strings.Repeat(strings.Repeat("x", 76)+"\r\n", 800))
	r := bufio.NewReader(c)
	say := func(s, want string) {
		if _, err := io.WriteString(c, s); err != nil {
			b.Fatal(err)
		}
		for {
			line, err := r.ReadString('\n')
			if err != nil || !strings.HasPrefix(line, want) {
				b.Fatalf("%q: got %q, %v", s, line, err)
			}
			if line[3] == ' ' {
				return
			}
		}
	}
	say("", "220")
	say("EHLO a.example\r\n", "250")
	b.SetBytes(int64(len(piece)) * 100)
	for b.Loop() {
		say("MAIL FROM:<a@a.example>\r\n", "250")
		say("RCPT TO:<b@foo.com>\r\n", "250")
		say("DATA\r\n", "354")
		for range 100 {
			if _, err := c.Write(piece); err != nil {
				b.Fatal(err)
			}
		}
		say(".\r\n", "250")
	}
}

// TestIdleMemory holds that idle strangers cost little: their sessions wait for a
// command without buffers. The bound is for what the server and the runtime hold for
// each, the client's end in this process included.
func TestIdleMemory(t *testing.T) { // not parallel: it measures the process
	if testing.Short() {
		t.Skip("opens thousands of connections")
	}
	addr := listenTCP(t, nil)
	const n = 2000
	conns := make([]net.Conn, 0, n)
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	before := held()
	greeting := make([]byte, 512)
	for range n {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Skipf("can't open %d connections: %v", n, err)
		}
		conns = append(conns, c)
		if _, err := c.Read(greeting); err != nil {
			t.Fatal(err)
		}
	}
	each := (held() - before) / n
	t.Logf("%d octets for each of %d idle connections, both ends", each, n)
	if limit := int64(8 << 10); each > limit {
		t.Errorf("an idle connection holds %d octets, at most %d are allowed", each, limit)
	}
}

// held is the memory in use for heap and stacks.
func held() int64 {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}
