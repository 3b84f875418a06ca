package clamd_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"poczta.example/poczta/internal/clamd"
	"poczta.example/poczta/internal/mailtest/ports"
	"poczta.example/poczta/internal/verdict"
)

// eicar is the file that stands for a virus in tests, in two parts so that no scanner finds it here.
func eicar() string {
	return `X5O!P%@AP[4\PZX54(P^)7CC)7}$` + `EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`
}

// daemon is a real clamd with one signature, of its own for a test.
type daemon struct {
	path string // of its socket
	port string
	pid  int
	dead chan struct{}
}

const streamMaxMiB = 40

// startReal starts Debian's clamd. The test is skipped without it, and fails if services are required.
func startReal(tb testing.TB) *daemon {
	tb.Helper()
	program, err := exec.LookPath("clamd")
	if err != nil {
		program = "/usr/sbin/clamd"
		if _, err := os.Stat(program); err != nil {
			if os.Getenv("POCZTA_REQUIRE_SERVICES") == "1" {
				tb.Fatal("no clamd: install the package clamav-daemon")
			}
			tb.Skip("skipped: no clamd: install the package clamav-daemon")
		}
	}
	// A UNIX socket's path may have 108 octets, which a test's own folder can exceed.
	dir, err := os.MkdirTemp("", "clamd")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	port := strconv.Itoa(ports.Free(tb))
	d := &daemon{path: filepath.Join(dir, "s"), port: port, dead: make(chan struct{})}
	conf := fmt.Sprintf("Foreground true\nLocalSocket %s\nTCPSocket %s\nTCPAddr 127.0.0.1\nDatabaseDirectory %s\nTemporaryDirectory %s\nStreamMaxLength %dM\nMaxScanSize 200M\nMaxFileSize 100M\nMaxThreads 4\n",
		d.path, port, dir, dir, streamMaxMiB)
	write(tb, filepath.Join(dir, "conf"), conf)
	write(tb, filepath.Join(dir, "local.ndb"), "Poczta.Test.EICAR:0:*:"+hex.EncodeToString([]byte(eicar()))+"\n")
	cmd := exec.Command(program, "-c", filepath.Join(dir, "conf"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	d.pid = cmd.Process.Pid
	ready := make(chan struct{})
	go func() {
		defer close(d.dead)
		told := false
		for s := bufio.NewScanner(out); s.Scan(); {
			if strings.Contains(s.Text(), "Self checking") && !told {
				told = true
				close(ready)
			}
		}
		_ = cmd.Wait()
	}()
	tb.Cleanup(func() {
		_ = syscall.Kill(d.pid, syscall.SIGKILL)
		<-d.dead
	})
	select {
	case <-ready:
	case <-d.dead:
		tb.Fatalf("clamd ended at its start: %s", stderr.String())
	case <-time.After(60 * time.Second):
		tb.Fatalf("clamd is not ready after a minute: %s", stderr.String())
	}
	return d
}

func write(tb testing.TB, name, text string) {
	tb.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		tb.Fatal(err)
	}
}

func (d *daemon) client(tb testing.TB, network string, timeout time.Duration) *clamd.Client {
	tb.Helper()
	c := clamd.Config{Network: network, Address: d.path, Timeout: timeout, ConnectTimeout: min(timeout, clamd.DefaultConnectTimeout)}
	if network == "tcp" {
		c.Address = "127.0.0.1:" + d.port
	}
	got, err := clamd.New(c)
	if err != nil {
		tb.Fatal(err)
	}
	return got
}

// mail is a message with an attachment in base64.
func mail(attachment string) string {
	return "From: a@example.org\r\nTo: b@example.org\r\nSubject: a file\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" +
		"--b\r\nContent-Type: text/plain\r\n\r\nHere it is.\r\n--b\r\nContent-Type: application/octet-stream; name=a.com\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
		base64.StdEncoding.EncodeToString([]byte(attachment)) + "\r\n--b--\r\n"
}

func TestRealClamd(t *testing.T) {
	t.Parallel()
	d := startReal(t)
	for _, network := range []string{"unix", "tcp"} {
		c := d.client(t, network, time.Minute)
		if err := c.Ping(t.Context()); err != nil {
			t.Errorf("%s: PING: %v", network, err)
		}
		if v, err := c.Version(t.Context()); err != nil || v.Engine == "" {
			t.Errorf("%s: VERSION: %+v, %v", network, v, err)
		}
		got, err := c.Scan(t.Context(), strings.NewReader(mail(eicar())))
		if items := got.Items(); err != nil || len(items) != 1 || items[0].Name != verdict.Virus || !strings.HasPrefix(got.Signature, "Poczta.Test.EICAR") {
			t.Errorf("%s: EICAR in a message: got %+v, %v", network, got, err)
		}
		if got, err = c.Scan(t.Context(), strings.NewReader(mail("harmless"))); err != nil || got.Infected {
			t.Errorf("%s: a harmless message: got %+v, %v", network, got, err)
		}
		const large = 30 << 20
		if got, err = c.Scan(t.Context(), io.LimitReader(text{}, large)); err != nil || got.Infected || got.Octets != large {
			t.Errorf("%s: 30 MiB: got %+v, %v", network, got, err)
		}
		if got, err = c.Scan(t.Context(), io.MultiReader(io.LimitReader(text{}, large), strings.NewReader("\r\n"+eicar()))); err != nil || !got.Infected {
			t.Errorf("%s: EICAR behind 30 MiB: got %+v, %v", network, got, err)
		}
		if got, err = c.Scan(t.Context(), io.LimitReader(text{}, (streamMaxMiB+5)<<20)); !errors.Is(err, clamd.ErrTooLarge) {
			t.Errorf("%s: over StreamMaxLength: got %+v, %v", network, got, err)
		}
	}
}

// text is an endless plain text.
type text struct{}

func (text) Read(p []byte) (int, error) {
	for n := 0; n < len(p); {
		n += copy(p[n:], "The quick brown fox jumps over the lazy dog.\r\n")
	}
	return len(p), nil
}

// gate reads to a point, tells, and goes on when told.
type gate struct {
	io.Reader
	reached, open chan struct{}
	once          bool
}

func (g *gate) Read(p []byte) (int, error) {
	if !g.once {
		g.once = true
		return g.Reader.Read(p)
	}
	if g.reached != nil {
		close(g.reached)
		g.reached = nil
		<-g.open
	}
	return g.Reader.Read(p)
}

// TestRealClamdKilled ends clamd in mid-stream.
func TestRealClamdKilled(t *testing.T) {
	t.Parallel()
	d := startReal(t)
	c := d.client(t, "unix", time.Minute)
	g := &gate{Reader: io.LimitReader(text{}, 20<<20), reached: make(chan struct{}), open: make(chan struct{})}
	reached := g.reached
	go func() {
		<-reached
		_ = syscall.Kill(d.pid, syscall.SIGKILL)
		<-d.dead
		close(g.open)
	}()
	if got, err := c.Scan(t.Context(), g); !errors.Is(err, clamd.ErrCut) {
		t.Errorf("got %+v, %v, want %v", got, err, clamd.ErrCut)
	}
	if err := c.Ping(t.Context()); !errors.Is(err, clamd.ErrConnect) {
		t.Errorf("PING of a dead clamd: got %v, want %v", err, clamd.ErrConnect)
	}
}

// TestRealClamdFrozen stops clamd: the kernel still takes connections for it. It is left alone
// meanwhile, and asked again once it goes on.
func TestRealClamdFrozen(t *testing.T) {
	t.Parallel()
	d := startReal(t)
	if err := syscall.Kill(d.pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{100, 20 << 20} {
		c := d.client(t, "unix", 200*time.Millisecond)
		if got, err := c.Scan(t.Context(), io.LimitReader(text{}, size)); !errors.Is(err, clamd.ErrTimeout) {
			t.Errorf("%d octets: got %+v, %v, want %v", size, got, err, clamd.ErrTimeout)
		}
	}
	c := d.client(t, "unix", 200*time.Millisecond)
	for n := range 2 {
		_, err := c.Scan(t.Context(), strings.NewReader("x"))
		if rests := err != nil && strings.Contains(err.Error(), "PING"); !errors.Is(err, clamd.ErrTimeout) || rests != (n == 1) {
			t.Errorf("scan %d: got %v", n, err)
		}
	}
	if err := syscall.Kill(d.pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if got, err := d.client(t, "unix", time.Minute).Scan(t.Context(), strings.NewReader(mail(eicar()))); err != nil || !got.Infected {
		t.Errorf("after it goes on: got %+v, %v", got, err)
	}
	for tick, end := time.Tick(100*time.Millisecond), time.Now().Add(time.Minute); ; <-tick {
		got, err := c.Scan(t.Context(), strings.NewReader(mail(eicar())))
		if err == nil && got.Infected {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("still not asked: got %+v, %v", got, err)
		}
	}
}

// BenchmarkScan measures a scan with a connection of its own, as the client does it.
func BenchmarkScan(b *testing.B) {
	d := startReal(b)
	message := mail(strings.Repeat("harmless ", 400))
	for _, network := range []string{"unix", "tcp"} {
		b.Run(network, func(b *testing.B) {
			c := d.client(b, network, time.Minute)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Scan(b.Context(), strings.NewReader(message)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSession measures the alternative: one connection for all, within IDSESSION.
func BenchmarkSession(b *testing.B) {
	d := startReal(b)
	message := mail(strings.Repeat("harmless ", 400))
	for network, address := range map[string]string{"unix": d.path, "tcp": "127.0.0.1:" + d.port} {
		b.Run(network, func(b *testing.B) {
			conn, err := new(net.Dialer).DialContext(b.Context(), network, address)
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, "zIDSESSION\x00"); err != nil {
				b.Fatal(err)
			}
			r := bufio.NewReader(conn)
			for b.Loop() {
				n := len(message)
				if _, err := io.WriteString(conn, "zINSTREAM\x00"+string([]byte{0, 0, byte(n >> 8), byte(n)})+message+"\x00\x00\x00\x00"); err != nil {
					b.Fatal(err)
				}
				if s, err := r.ReadString(0); err != nil || !strings.HasSuffix(s, "stream: OK\x00") {
					b.Fatal(s, err)
				}
			}
		})
	}
}
