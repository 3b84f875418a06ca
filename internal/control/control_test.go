package control_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"poczta.example/poczta/internal/control"
)

// start serves h on a socket in a folder of its own.
func start(t *testing.T, owner int, h control.Handler) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "control.sock")
	l, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := control.New(control.Config{Handler: h, Version: "1.2.3", Owner: owner})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return path
}

func dial(t *testing.T, path string) net.Conn {
	t.Helper()
	conn, err := control.Dial(t.Context(), path, os.Geteuid())
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestCommand(t *testing.T) {
	t.Parallel()
	path := start(t, -1, func(_ context.Context, args []string, s control.Streams) int {
		sum := sha256.New()
		n, err := io.Copy(sum, s.In)
		fmt.Fprintf(s.Out, "%q %d %x %v", args, n, sum.Sum(nil), err)
		fmt.Fprint(s.Err, "a warning")
		return 7
	})
	data := make([]byte, 1<<20+17)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	for _, in := range [][]byte{nil, []byte("x"), data} {
		var out, errs bytes.Buffer
		code, err := control.Run(t.Context(), dial(t, path), "1.2.3", []string{"account", "add", "żółć@example.org"},
			control.Streams{In: bytes.NewReader(in), Out: &out, Err: &errs})
		want := fmt.Sprintf("%q %d %x <nil>", []string{"account", "add", "żółć@example.org"}, len(in), sha256.Sum256(in))
		if err != nil || code != 7 || out.String() != want || errs.String() != "a warning" {
			t.Errorf("got exit %d, %v, %q, %q; want %q", code, err, out.String(), errs.String(), want)
		}
	}
}

func TestSocketMode(t *testing.T) {
	t.Parallel()
	path := start(t, -1, func(context.Context, []string, control.Streams) int { return 0 })
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v; want mode 0600", info.Mode(), err)
	}
}

// TestProgressIsLive has the command wait until the client has seen its first line.
func TestProgressIsLive(t *testing.T) {
	t.Parallel()
	seen := make(chan struct{})
	path := start(t, -1, func(ctx context.Context, _ []string, s control.Streams) int {
		fmt.Fprintln(s.Out, "half")
		select {
		case <-seen:
			return 0
		case <-ctx.Done():
			return 1
		}
	})
	pr, pw := io.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		if line, err := bufio.NewReader(pr).ReadString('\n'); err == nil && line == "half\n" {
			close(seen)
		}
	})
	code, err := control.Run(t.Context(), dial(t, path), "v", []string{"x"}, control.Streams{Out: pw, Err: io.Discard})
	pw.Close()
	wg.Wait()
	if code != 0 || err != nil {
		t.Errorf("got %d, %v", code, err)
	}
}

func TestInterruptionCancels(t *testing.T) {
	t.Parallel()
	for _, reading := range []bool{false, true} {
		began, ended := make(chan struct{}), make(chan error, 1)
		path := start(t, -1, func(ctx context.Context, _ []string, s control.Streams) int {
			close(began)
			if reading {
				_, err := s.In.Read(make([]byte, 1))
				if err == nil {
					err = errors.New("read something")
				}
				ended <- err
				return 1
			}
			<-ctx.Done()
			ended <- ctx.Err()
			return 1
		})
		ctx, cancel := context.WithCancel(t.Context())
		pr, pw := io.Pipe() // never has anything
		var wg sync.WaitGroup
		wg.Go(func() { <-began; cancel(); pw.Close() })
		code, err := control.Run(ctx, dial(t, path), "v", []string{"x"}, control.Streams{In: pr, Out: io.Discard, Err: io.Discard})
		if code == 0 || !errors.Is(err, context.Canceled) {
			t.Errorf("client: got %d, %v", code, err)
		}
		select {
		case err := <-ended:
			if err == nil {
				t.Error("the command ended without an error")
			}
		case <-time.After(time.Minute):
			t.Fatal("the command was not told to stop")
		}
		wg.Wait()
	}
}

// TestWrongOwner connects as a user who is neither the owner nor root. The
// thread that takes the user's identity is thrown away.
func TestWrongOwner(t *testing.T) {
	t.Parallel()
	owner, uid := os.Geteuid()+1, os.Geteuid()
	if uid == 0 {
		owner, uid = 0, 65534
	}
	path := start(t, owner, func(context.Context, []string, control.Streams) int {
		t.Error("a command ran")
		return 0
	})
	if err := os.Chmod(path, 0o666); err != nil { // so that SO_PEERCRED alone stands in the way
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(filepath.Dir(path)), 0o755); err != nil {
		t.Fatal(err)
	}
	type result struct {
		conn net.Conn
		err  error
	}
	got := make(chan result)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if os.Geteuid() == 0 {
			if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
				got <- result{nil, errno}
				return
			}
		}
		conn, err := net.Dial("unix", path)
		got <- result{conn, err}
	}()
	r := <-got
	if r.err != nil {
		t.Skipf("user %d can't reach the folder of the test: %v", uid, r.err)
	}
	_, err := control.Run(t.Context(), r.conn, "v", []string{"x"}, control.Streams{})
	if err == nil || !strings.Contains(err.Error(), "may not control this server") {
		t.Errorf("got %v", err)
	}
}

// TestForeignSocket has a socket that another user than the data folder's owner made.
func TestForeignSocket(t *testing.T) {
	t.Parallel()
	path := start(t, -1, func(context.Context, []string, control.Streams) int { return 0 })
	if _, err := control.Dial(t.Context(), path, os.Geteuid()+1); err == nil || errors.Is(err, control.ErrNoServer) {
		t.Errorf("got %v, want a refusal", err)
	}
	file := filepath.Join(t.TempDir(), "control.sock")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := control.Dial(t.Context(), file, os.Geteuid()); err == nil || errors.Is(err, control.ErrNoServer) {
		t.Errorf("a plain file: got %v, want a refusal", err)
	}
}

func TestNoServer(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "control.sock")
	if _, err := control.Dial(t.Context(), path, os.Geteuid()); !errors.Is(err, control.ErrNoServer) {
		t.Errorf("absent: got %v", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if _, err := control.Dial(t.Context(), path, os.Geteuid()); !errors.Is(err, control.ErrNoServer) {
		t.Errorf("left by a dead server: got %v", err)
	}
	again, err := control.Listen(path)
	if err != nil {
		t.Fatalf("replace the dead server's socket: %v", err)
	}
	again.Close()
}

func frame(k byte, n uint32, payload string) []byte {
	b := binary.BigEndian.AppendUint32([]byte{k}, n)
	return append(b, payload...)
}

// TestGarbage sends what no client of ours would; the server answers with a
// refusal or hangs up, and runs nothing.
func TestGarbage(t *testing.T) {
	t.Parallel()
	path := start(t, -1, func(context.Context, []string, control.Streams) int {
		t.Error("a command ran")
		return 0
	})
	tests := map[string][]byte{
		"HTTP":            []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"huge frame":      frame('R', 1<<31, ""),
		"over the limit":  frame('R', 64<<10+1, ""),
		"not JSON":        frame('R', 4, "{{{{"),
		"wrong kind":      frame('I', 2, "{}"),
		"other version":   frame('R', 16, `{"protocol":999}`),
		"nothing":         nil,
		"half a frame":    frame('R', 100, "{"),
		"wrong arguments": frame('R', 25, `{"protocol":1,"args":"x"}`),
	}
	for name, data := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := dial(t, path)
			defer conn.Close()
			if _, err := conn.Write(data); err != nil {
				t.Fatal(err)
			}
			if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
			reply, err := io.ReadAll(conn)
			if err != nil && !strings.Contains(err.Error(), "reset") {
				t.Fatal(err)
			}
			if len(reply) > 0 && reply[0] != 'N' {
				t.Errorf("got %q, want a refusal", reply)
			}
			if name == "other version" && !bytes.Contains(reply, []byte("1.2.3")) {
				t.Errorf("got %q, want the server's version named", reply)
			}
		})
	}
}

// TestUnaskedInput floods a command that reads nothing.
func TestUnaskedInput(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	path := start(t, -1, func(ctx context.Context, _ []string, _ control.Streams) int {
		<-ctx.Done()
		close(ended)
		return 1
	})
	conn := dial(t, path)
	defer conn.Close()
	if _, err := conn.Write(frame('R', 27, `{"protocol":1,"args":["x"]}`)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		_, _ = conn.Write(frame('I', 4, "data"))
	}
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("the flood was taken")
	}
}

func TestLongArguments(t *testing.T) {
	t.Parallel()
	path := start(t, -1, func(context.Context, []string, control.Streams) int { return 0 })
	_, err := control.Run(t.Context(), dial(t, path), "v", []string{strings.Repeat("x", 70000)}, control.Streams{})
	if err == nil || !strings.Contains(err.Error(), "several commands") {
		t.Errorf("got %v", err)
	}
}

// scarce is a listener that has no descriptors left at first.
type scarce struct {
	net.Listener

	left int
}

// Accept implements net.Listener.
func (l *scarce) Accept() (net.Conn, error) {
	if l.left--; l.left >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "unix", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

// TestNoDescriptors: a server that can't accept a command at the moment goes on,
// and takes it as soon as it can.
func TestNoDescriptors(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "control.sock")
	l, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := control.New(control.Config{Version: "1", Owner: -1, Handler: func(context.Context, []string, control.Streams) int { return 7 }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, &scarce{l, 3}) }()
	code, err := control.Run(t.Context(), dial(t, path), "1", nil, control.Streams{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard})
	if err != nil || code != 7 {
		t.Errorf("got %d, %v", code, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// TestPanic wants a command that panics to end with a word, and the server to go on.
func TestPanic(t *testing.T) {
	t.Parallel()
	path := start(t, -1, func(_ context.Context, args []string, s control.Streams) int {
		if args[0] == "panic" {
			panic("asked for by the test")
		}
		return 0
	})
	for _, tt := range []struct {
		command, stderr string
		code            int
	}{{"panic", "a fault of the program", 1}, {"fine", "", 0}} {
		var stderr bytes.Buffer
		code, err := control.Run(t.Context(), dial(t, path), "test", []string{tt.command}, control.Streams{Out: io.Discard, Err: &stderr})
		if err != nil || code != tt.code || !strings.Contains(stderr.String(), tt.stderr) {
			t.Errorf("%s: exit %d (%v), %q; want %d", tt.command, code, err, &stderr, tt.code)
		}
	}
}
