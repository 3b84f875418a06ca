package daemon_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/control"
	"poczta.example/poczta/internal/daemon"
)

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// server is a daemon that runs in the test's own process, on a UNIX socket for
// LMTP and on what extra says.
type server struct {
	t      *testing.T
	file   string
	data   string
	log    *logBuffer
	reload chan struct{}
	stop   context.CancelFunc
	ended  chan error
}

const noPorts = `hostname = "mx.example.org"
[listen]
hosts = ["127.0.0.1"]
smtp = []
submission = []
submissions = []
lmtp = ["unix:lmtp.sock"]
pop3 = ["unix:pop3.sock"]
pop3s = []
`

func parse(t *testing.T, dir, extra string) (*config.Config, string) {
	t.Helper()
	text := "data = \"" + filepath.Join(dir, "data") + "\"\n" + noPorts + extra + "\n[store]\nreserve = \"1MiB\"\n"
	file := filepath.Join(dir, "poczta.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	return c, file
}

func start(t *testing.T, extra string, env daemon.Environment) *server {
	t.Helper()
	dir := t.TempDir()
	c, file := parse(t, dir, extra)
	s := &server{t: t, file: file, data: c.Data, log: &logBuffer{}, reload: make(chan struct{}), ended: make(chan error, 1)}
	ready := make(chan struct{})
	d, err := daemon.New(daemon.Config{File: file, Config: c, Output: s.log, Environment: env, Version: "test", Ready: func() { close(ready) },
		Commands: func(context.Context, *daemon.Rooms, []string, control.Streams) int { return 3 }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	go func() { s.ended <- d.Run(ctx, s.reload); close(s.ended) }()
	t.Cleanup(func() { cancel(); <-s.ended })
	select {
	case <-ready:
	case err := <-s.ended:
		t.Fatalf("the server ended: %v\n%s", err, s.log)
	case <-time.After(2 * time.Minute):
		t.Fatalf("not ready\n%s", s.log)
	}
	return s
}

// end stops the server and wants it to end well.
func (s *server) end() {
	s.t.Helper()
	s.stop()
	select {
	case err := <-s.ended:
		if err != nil {
			s.t.Errorf("the server ended badly: %v\n%s", err, s.log)
		}
	case <-time.After(2 * time.Minute):
		s.t.Fatalf("the server did not end\n%s", s.log)
	}
}

// hello connects and returns the first line.
func hello(t *testing.T, network, addr string) (net.Conn, string) {
	t.Helper()
	conn, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Fatalf("%s: %v", addr, err)
	}
	return conn, line
}

// notifications listens as the service manager does.
func notifications(t *testing.T) (addr string, next func(want string)) {
	t.Helper()
	addr = filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: addr, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	buf := make([]byte, 4096)
	return addr, func(want string) {
		t.Helper()
		_ = l.SetReadDeadline(time.Now().Add(2 * time.Minute))
		for {
			n, err := l.Read(buf)
			if err != nil {
				t.Fatalf("waiting for %s: %v", want, err)
			}
			if strings.Contains(string(buf[:n]), want) {
				return
			}
		}
	}
}

func TestServiceManager(t *testing.T) {
	t.Parallel()
	addr, next := notifications(t)
	s := start(t, "", daemon.Environment{NotifySocket: addr, Watchdog: 50 * time.Millisecond})
	next("READY=1")
	next("WATCHDOG=1")
	next("WATCHDOG=1")
	s.reload <- struct{}{}
	next("RELOADING=1\nMONOTONIC_USEC=")
	next("READY=1")
	if err := os.WriteFile(s.file, []byte("nonsense = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.reload <- struct{}{}
	next("STATUS=Serving; the last reload was refused")
	if !strings.Contains(s.log.String(), "nonsense: is not a known key") {
		t.Errorf("the log does not say why:\n%s", s.log)
	}
	s.stop()
	next("STOPPING=1")
	s.end()
}

// TestInheritedSocket has the service manager open port 25.
func TestInheritedSocket(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := syscall.Dup(int(f.Fd())) // the daemon owns and closes it
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	s := start(t, "", daemon.Environment{Sockets: []daemon.Inherited{{Name: "smtp", FD: fd}}})
	if _, line := hello(t, "tcp", l.Addr().String()); !strings.HasPrefix(line, "220 mx.example.org") {
		t.Errorf("got %q", line)
	}
	s.end()
}

func TestUnknownInheritedSocket(t *testing.T) {
	t.Parallel()
	c, file := parse(t, t.TempDir(), "")
	d, err := daemon.New(daemon.Config{File: file, Config: c, Output: io.Discard, Environment: daemon.Environment{Sockets: []daemon.Inherited{{Name: "gopher", FD: 999}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Run(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "gopher") {
		t.Errorf("got %v", err)
	}
}

func TestDrainTellsIdleSessions(t *testing.T) {
	t.Parallel()
	s := start(t, "", daemon.Environment{})
	conn, line := hello(t, "unix", filepath.Join(s.data, "lmtp.sock"))
	if !strings.HasPrefix(line, "220 ") {
		t.Fatalf("got %q", line)
	}
	s.stop()
	last, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.HasPrefix(last, "421 ") {
		t.Errorf("got %q, %v; want 421", last, err)
	}
	s.end()
	for _, name := range []string{"control.sock", "lmtp.sock"} {
		if _, err := os.Stat(filepath.Join(s.data, name)); err == nil {
			t.Errorf("%s is left", name)
		}
	}
}

func TestConnectionLimitAndReload(t *testing.T) {
	t.Parallel()
	s := start(t, "[limits]\nconnections = 2\n", daemon.Environment{})
	sock := filepath.Join(s.data, "pop3.sock")
	for range 2 {
		if _, line := hello(t, "unix", sock); !strings.HasPrefix(line, "+OK") {
			t.Fatalf("got %q", line)
		}
	}
	if _, line := hello(t, "unix", sock); !strings.HasPrefix(line, "-ERR [SYS/TEMP]") {
		t.Errorf("the third: got %q", line)
	}
	if _, line := hello(t, "unix", filepath.Join(s.data, "lmtp.sock")); !strings.HasPrefix(line, "421 ") {
		t.Errorf("LMTP beyond the limit: got %q", line)
	}
	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.file, bytes.Replace(text, []byte("connections = 2"), []byte("connections = 9"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	s.reload <- struct{}{}
	s.reload <- struct{}{} // taken only after the first was done
	if _, line := hello(t, "unix", sock); !strings.HasPrefix(line, "+OK") {
		t.Errorf("after the reload: got %q", line)
	}
}

func TestMetricsAndHealth(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	start(t, fmt.Sprintf("[metrics]\nlisten = [%q]\n", addr), daemon.Environment{})
	for path, want := range map[string]string{"/healthz": "ok\n", "/metrics": "process_open_fds"} {
		resp, err := http.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || !strings.Contains(string(body), want) {
			t.Errorf("%s: got %d, %v, %.100s", path, resp.StatusCode, err, body)
		}
	}
}

func TestControlSocketRunsCommands(t *testing.T) {
	t.Parallel()
	s := start(t, "", daemon.Environment{})
	conn, err := control.Dial(t.Context(), filepath.Join(s.data, "control.sock"), os.Geteuid())
	if err != nil {
		t.Fatal(err)
	}
	if code, err := control.Run(t.Context(), conn, "test", []string{"x"}, control.Streams{Out: io.Discard, Err: io.Discard}); code != 3 || err != nil {
		t.Errorf("got %d, %v", code, err)
	}
}

func TestOneProcessHoldsTheFolder(t *testing.T) {
	t.Parallel()
	c, _ := parse(t, t.TempDir(), "")
	r, err := daemon.OpenRooms(t.Context(), c, daemon.RoomOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := daemon.OpenRooms(t.Context(), c, daemon.RoomOptions{}); !errors.Is(err, daemon.ErrBusy) {
		t.Errorf("got %v, want ErrBusy", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := daemon.OpenRooms(t.Context(), c, daemon.RoomOptions{})
	if err != nil {
		t.Fatalf("after Close: %v", err)
	}
	file, err := again.Snapshot(t.Context(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if files, err := again.Snapshots(); err != nil || len(files) != 1 || files[0] != file {
		t.Errorf("snapshots: got %v, %v, want %s", files, err, file)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestBadStart(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	for name, tt := range map[string]struct{ extra, want string }{
		"port":        {fmt.Sprintf("[metrics]\nlisten = [%q]\n", taken.Addr()), "another program has this port"},
		"certificate": {"[tls]\nmode = \"files\"\n[[tls.certificate]]\ncert = \"/none\"\nkey = \"/none\"\n", "check that both exist"},
		"client CA":   {"[tls]\nclient_ca = \"/none\"\n", "read authority"},
		"postgresql":  {"", `user "p" to database "none": 127.0.0.1:1: connection refused; make it answer`},
		"a file":      {"", "no socket"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, file := parse(t, t.TempDir(), tt.extra)
			if name == "postgresql" {
				c.Store.Engine, c.Store.URL = "postgresql", "postgres://p@127.0.0.1:1/none?connect_timeout=1"
			}
			if name == "a file" { // what a slip of the pen names stays
				c.Listen.LMTP = []string{"unix:" + file}
			}
			d, err := daemon.New(daemon.Config{File: file, Config: c, Output: io.Discard})
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Run(t.Context(), nil); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("the configuration is gone: %v", err)
			}
		})
	}
}
