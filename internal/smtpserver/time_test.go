package smtpserver_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailtest/memconn"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/smtpserver"
)

// bubble runs a server in simulated time and hands its client's end to fn. The
// bubble ends only when no goroutine is left: a leak fails the test.
func bubble(t *testing.T, cfg smtpserver.Config, fn func(t *testing.T, srv *smtpserver.Server, c *memconn.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &box{}
		cfg.Hostname = "mx.example.org"
		if cfg.Service == nil {
			cfg.Service = b
		}
		srv, err := smtpserver.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		l := memconn.Listen()
		served := make(chan error, 1)
		go func() { served <- srv.Serve(context.Background(), l) }()
		c, err := l.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		fn(t, srv, c)
		_ = c.Close()
		gone, cancel := context.WithCancel(context.Background())
		cancel()
		_ = srv.Shutdown(gone)
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if b.open != 0 {
			t.Errorf("%d transactions have no end", b.open)
		}
	})
}

// TestStall stops a client at every octet of a dialogue. The server must end the
// session in time, and tell the client where it can.
func TestStall(t *testing.T) {
	t.Parallel()
	dialogue := "EHLO h\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@foo.com>\r\nDATA\r\ntext\r\n.\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@foo.com>\r\nBDAT 4\r\nabcdBDAT 4 LAST\r\nabcd"
	for n := 0; n <= len(dialogue); n++ {
		bubble(t, smtpserver.Config{}, func(t *testing.T, _ *smtpserver.Server, c *memconn.Conn) {
			begin := time.Now()
			if _, err := c.Write([]byte(dialogue[:n])); err != nil {
				t.Fatal(err)
			}
			replies := readAll(t, c)
			if !strings.Contains(replies, "421 4.4.2 Timeout") {
				t.Errorf("stall behind %q: replies %q", dialogue[:n], replies)
			}
			if took := time.Since(begin); took < 3*time.Minute || took > 6*time.Minute {
				t.Errorf("stall behind %q lasted %v", dialogue[:n], took)
			}
		})
	}
}

// TestStallTLS stops a client before and inside its handshake.
func TestStallTLS(t *testing.T) {
	t.Parallel()
	server, _ := certificates()
	for _, hello := range []string{"", "\x16\x03\x01\x02\x00\x01\x00"} {
		bubble(t, smtpserver.Config{TLS: server, ImplicitTLS: true}, func(t *testing.T, _ *smtpserver.Server, c *memconn.Conn) {
			begin := time.Now()
			if _, err := c.Write([]byte(hello)); err != nil {
				t.Fatal(err)
			}
			readAll(t, c)
			if took := time.Since(begin); took != 30*time.Second {
				t.Errorf("the handshake ended after %v, want 30s", took)
			}
		})
	}
}

// pour writes piece n times, one each interval of simulated time, and then last. The
// returned function ends it and waits for its end.
func pour(c net.Conn, n int, piece string, every time.Duration, last string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range n + 1 {
			if i == n {
				piece = last
			}
			if _, err := c.Write([]byte(piece)); err != nil {
				return
			}
			select {
			case <-time.After(every):
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		cancel()
		_ = c.Close()
		wg.Wait()
	}
}

// TestTrickle sends a command octet by octet: the line as a whole has the time of
// one command, not each octet of it.
func TestTrickle(t *testing.T) {
	t.Parallel()
	bubble(t, smtpserver.Config{}, func(t *testing.T, _ *smtpserver.Server, c *memconn.Conn) {
		begin := time.Now()
		defer pour(c, 100, "N", time.Minute, "")()
		if replies := readAll(t, c); !strings.Contains(replies, "421 4.4.2") {
			t.Errorf("replies %q", replies)
		}
		if took := time.Since(begin); took > 6*time.Minute {
			t.Errorf("the session lasted %v", took)
		}
	})
}

// TestSlowData sends mail data just fast enough for the wait for a block and far too
// slowly as a whole.
func TestSlowData(t *testing.T) {
	t.Parallel()
	bubble(t, smtpserver.Config{}, func(t *testing.T, _ *smtpserver.Server, c *memconn.Conn) {
		begin := time.Now()
		if _, err := c.Write([]byte("EHLO h\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@foo.com>\r\nDATA\r\n")); err != nil {
			t.Fatal(err)
		}
		defer pour(c, 1000, "x\r\n", 2*time.Minute, "")()
		if replies := readAll(t, c); !strings.Contains(replies, "421 4.4.2") {
			t.Errorf("replies %q", replies)
		}
		if took := time.Since(begin); took < 9*time.Minute || took > 14*time.Minute {
			t.Errorf("the session lasted %v, want about 10 minutes", took)
		}
	})
}

// TestSlowChunks sends chunk after chunk of one octet, each in time and all of them
// far too slowly; the octet comes with its command, so no wait for data sees it.
func TestSlowChunks(t *testing.T) {
	t.Parallel()
	bubble(t, smtpserver.Config{}, func(t *testing.T, _ *smtpserver.Server, c *memconn.Conn) {
		begin := time.Now()
		if _, err := c.Write([]byte("EHLO h\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@foo.com>\r\n")); err != nil {
			t.Fatal(err)
		}
		defer pour(c, 1000, "BDAT 1\r\nx", 2*time.Minute, "")()
		if replies := readAll(t, c); !strings.Contains(replies, "421 4.4.2") {
			t.Errorf("replies %q", replies)
		}
		if took := time.Since(begin); took < 9*time.Minute || took > 14*time.Minute {
			t.Errorf("the session lasted %v, want about 10 minutes", took)
		}
	})
}

// TestSlowButSteady sends mail data for an hour at four times the least rate.
func TestSlowButSteady(t *testing.T) {
	t.Parallel()
	bubble(t, smtpserver.Config{}, func(t *testing.T, _ *smtpserver.Server, c *memconn.Conn) {
		if _, err := c.Write([]byte("EHLO h\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@foo.com>\r\nDATA\r\n")); err != nil {
			t.Fatal(err)
		}
		defer pour(c, 60, strings.Repeat("6octet\r\n", 7500), time.Minute, ".\r\nQUIT\r\n")()
		if replies := readAll(t, c); !strings.Contains(replies, "250 2.0.0 Took 3600000 octets") {
			t.Errorf("replies %q", replies)
		}
	})
}

// TestDeafPeer sends commands and reads no reply: the server gives up.
func TestDeafPeer(t *testing.T) {
	t.Parallel()
	bubble(t, smtpserver.Config{Limits: smtpserver.Limits{Idle: 1 << 30}}, func(t *testing.T, _ *smtpserver.Server, c *memconn.Conn) {
		begin := time.Now()
		for {
			if _, err := c.Write([]byte(strings.Repeat("HELP\r\n", 100))); err != nil {
				break
			}
		}
		if took := time.Since(begin); took > 2*time.Minute {
			t.Errorf("the session lasted %v", took)
		}
	})
}

// slow is a Service whose Data waits for release.
type slow struct {
	release chan struct{}
}

func (s slow) Begin(context.Context, *smtpserver.Session, envelope.Envelope) (smtpserver.Transaction, error) {
	return s, nil
}
func (s slow) Rcpt(context.Context, envelope.Recipient) error { return nil }
func (s slow) Abort()                                         {}
func (s slow) Data(ctx context.Context, msg io.Reader) (smtpserver.Outcome, error) {
	if _, err := io.Copy(io.Discard, msg); err != nil {
		return smtpserver.Outcome{}, err
	}
	select {
	case <-s.release:
		return smtpserver.Outcome{Reply: smtp.Reply{Code: 250, Text: "Ok"}}, nil
	case <-ctx.Done():
		return smtpserver.Outcome{}, ctx.Err()
	}
}

// begin talks up to the reply before the mark, which must be the last.
func begin(t *testing.T, c net.Conn, send, last string) {
	t.Helper()
	if _, err := c.Write([]byte(send)); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	buf := make([]byte, 4096)
	for !strings.Contains(got.String(), last) {
		n, err := c.Read(buf)
		if err != nil {
			t.Fatalf("got %q, want %q: %v", got.String(), last, err)
		}
		got.Write(buf[:n])
	}
}

// TestShutdownIdle ends sessions that wait for a command with 421, at once.
func TestShutdownIdle(t *testing.T) {
	t.Parallel()
	for _, send := range []string{"", "EHLO h\r\n", "EHLO h\r\nNOO"} {
		bubble(t, smtpserver.Config{}, func(t *testing.T, srv *smtpserver.Server, c *memconn.Conn) {
			last := "220 "
			if send != "" {
				last = "250 LIMITS"
			}
			begin(t, c, send, last)
			synctest.Wait()
			at := time.Now()
			done := make(chan error, 1)
			go func() { done <- srv.Shutdown(t.Context()) }()
			if replies := readAll(t, c); !strings.Contains(replies, "421 4.3.2 ") {
				t.Errorf("%q: replies %q", send, replies)
			}
			_ = c.Close()
			if err := <-done; err != nil || time.Since(at) > 0 {
				t.Errorf("%q: Shutdown took %v: %v", send, time.Since(at), err)
			}
		})
	}
}

// TestShutdownLetsFinish holds that a transaction finishes, its reply arrives, and the
// next command is answered 421.
func TestShutdownLetsFinish(t *testing.T) {
	t.Parallel()
	bubble(t, smtpserver.Config{}, func(t *testing.T, srv *smtpserver.Server, c *memconn.Conn) {
		begin(t, c, "EHLO h\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@foo.com>\r\n", "250 2.1.5")
		synctest.Wait()
		done := make(chan error, 1)
		go func() { done <- srv.Shutdown(t.Context()) }()
		synctest.Wait()
		begin(t, c, "DATA\r\n", "354 ")
		if _, err := c.Write([]byte("text\r\n.\r\n")); err != nil {
			t.Fatal(err)
		}
		at := time.Now()
		if replies := readAll(t, c); !strings.HasPrefix(replies, "250 2.0.0 Took 6 octets\r\n421 4.3.2 ") || time.Since(at) > time.Minute {
			t.Errorf("replies %q after %v", replies, time.Since(at))
		}
		_ = c.Close()
		if err := <-done; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
}

// TestShutdownCuts holds that what does not finish in time is cut off, and its
// context cancelled.
func TestShutdownCuts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv, err := smtpserver.New(smtpserver.Config{Hostname: "mx.example.org", Service: slow{make(chan struct{})}})
		if err != nil {
			t.Fatal(err)
		}
		l := memconn.Listen()
		served := make(chan error, 1)
		go func() { served <- srv.Serve(context.Background(), l) }()
		c, err := l.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		begin(t, c, "EHLO h\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@foo.com>\r\nDATA\r\n", "354 ")
		if _, err := c.Write([]byte(".\r\n")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		grace, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		at := time.Now()
		if err := srv.Shutdown(grace); !errors.Is(err, context.DeadlineExceeded) || time.Since(at) != 20*time.Second {
			t.Errorf("Shutdown after %v: %v", time.Since(at), err)
		}
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if strings.Contains(readAll(t, c), "250") {
			t.Error("a message that was cut off got a 250")
		}
		if err := srv.Serve(t.Context(), memconn.Listen()); err != nil {
			t.Errorf("Serve after Shutdown: %v", err)
		}
	})
}

// TestServeContext holds that the end of Serve's context cuts its sessions off.
func TestServeContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv, err := smtpserver.New(smtpserver.Config{Hostname: "mx.example.org", Service: &box{}})
		if err != nil {
			t.Fatal(err)
		}
		l := memconn.Listen()
		ctx, cancel := context.WithCancel(context.Background())
		served := make(chan error, 1)
		go func() { served <- srv.Serve(ctx, l) }()
		c, err := l.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		begin(t, c, "", "220 ")
		cancel()
		if err := <-served; !errors.Is(err, context.Canceled) {
			t.Errorf("Serve: %v", err)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the connection is open: %v", err)
		}
	})
}

// failingListener fails a few times and then works.
type failingListener struct {
	net.Listener

	fails int
}

func (l *failingListener) Accept() (net.Conn, error) {
	if l.fails > 0 {
		l.fails--
		return nil, errors.New("too many open files")
	}
	return l.Listener.Accept()
}

// TestAcceptFails holds that a failed Accept is tried again.
func TestAcceptFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv, err := smtpserver.New(smtpserver.Config{Hostname: "mx.example.org", Service: &box{}})
		if err != nil {
			t.Fatal(err)
		}
		l := memconn.Listen()
		served := make(chan error, 1)
		go func() { served <- srv.Serve(context.Background(), &failingListener{l, 20}) }()
		c, err := l.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		begin(t, c, "QUIT\r\n", "221 ")
		_ = c.Close()
		if err := srv.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

// TestShutdownTLS holds that the 421 reaches a client under TLS too.
func TestShutdownTLS(t *testing.T) {
	t.Parallel()
	server, client := certificates()
	bubble(t, smtpserver.Config{TLS: server, ImplicitTLS: true}, func(t *testing.T, srv *smtpserver.Server, c *memconn.Conn) {
		secure := tls.Client(c, client)
		begin(t, secure, "EHLO h\r\n", "250 LIMITS")
		synctest.Wait()
		done := make(chan error, 1)
		go func() { done <- srv.Shutdown(t.Context()) }()
		if replies := readAll(t, secure); !strings.Contains(replies, "421 4.3.2 ") {
			t.Errorf("replies %q", replies)
		}
		_ = c.Close()
		if err := <-done; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
}

// TestHandshakeFails holds that a client that speaks plaintext behind STARTTLS, where
// a handshake is due, gets nothing done.
func TestHandshakeFails(t *testing.T) {
	t.Parallel()
	server, _ := certificates()
	refused := ""
	cfg := smtpserver.Config{TLS: server}
	cfg.Hooks.Refused = func(why string) { refused = why }
	bubble(t, cfg, func(t *testing.T, _ *smtpserver.Server, c *memconn.Conn) {
		begin(t, c, "EHLO h\r\n", "250 STARTTLS")
		begin(t, c, "STARTTLS\r\n", "220 2.0.0")
		if _, err := c.Write([]byte("MAIL FROM:<injected@a.example>\r\nRCPT TO:<b@foo.com>\r\n")); err != nil {
			t.Fatal(err)
		}
		if replies := readAll(t, c); strings.Contains(replies, "250") {
			t.Errorf("replies %q", replies)
		}
	})
	if refused != "tls" {
		t.Errorf("Refused said %q, want tls", refused)
	}
}

// TestUnixSocket runs LMTP on a UNIX socket, whose peers have no address.
func TestUnixSocket(t *testing.T) {
	t.Parallel()
	h := open(t, smtpserver.Config{LMTP: true})
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "lmtp"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- h.Serve(t.Context(), l) }()
	t.Cleanup(func() { <-done })
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	run(t, c, "S: 220\nC: LHLO h\nS: 250\n"+transact+"C: QUIT\nS: 221\nEOF\n")
	letters := h.box.taken()
	if len(letters) != 1 || letters[0].Envelope.Origin.Peer.IsValid() {
		t.Errorf("got %+v, want one message of a peer without an address", letters)
	}
}
