package clamd_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/clamd"
	"poczta.example/poczta/internal/verdict"
)

// fake is a clamd that does as serve says with each connection.
func fake(t *testing.T, serve func(net.Conn)) clamd.Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "clamd.sock")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { defer conn.Close(); serve(conn) })
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return clamd.Config{Network: "unix", Address: path, Timeout: time.Minute}
}

// receive reads a command and, after INSTREAM, the message.
func receive(conn net.Conn) (command string, message []byte, err error) {
	one := make([]byte, 1)
	for {
		if _, err := io.ReadFull(conn, one); err != nil {
			return command, nil, err
		}
		if one[0] == 0 {
			break
		}
		command += string(one)
	}
	for command == "zINSTREAM" {
		var size [4]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return command, message, err
		}
		n := binary.BigEndian.Uint32(size[:])
		if n == 0 {
			break
		}
		chunk := make([]byte, n)
		if _, err := io.ReadFull(conn, chunk); err != nil {
			return command, message, err
		}
		message = append(message, chunk...)
	}
	return command, message, nil
}

// answer replies to each command with s, once the command is whole.
func answer(s string) func(net.Conn) {
	return func(conn net.Conn) {
		if _, _, err := receive(conn); err == nil {
			_, _ = io.WriteString(conn, s)
		}
	}
}

func client(t *testing.T, c clamd.Config) *clamd.Client {
	t.Helper()
	got, err := clamd.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestScan(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		reply string
		want  clamd.Result
		items []verdict.Item
	}{
		{"clean", "stream: OK\x00", clamd.Result{}, nil},
		{"found", "stream: Win.Test.EICAR_HDB-1 FOUND\x00", clamd.Result{Infected: true, Signature: "Win.Test.EICAR_HDB-1"},
			[]verdict.Item{{Name: verdict.Virus, Detail: "ClamAV names it Win.Test.EICAR_HDB-1"}}},
		{"rule of thumb", "stream: Heuristics.Phishing.Email.SpoofedDomain FOUND\x00",
			clamd.Result{Infected: true, Heuristic: true, Signature: "Heuristics.Phishing.Email.SpoofedDomain"},
			[]verdict.Item{{Name: verdict.VirusHeurist, Detail: "ClamAV names it Heuristics.Phishing.Email.SpoofedDomain"}}},
		{"perhaps wanted", "stream: PUA.Win.Packer.Upx FOUND\x00", clamd.Result{Infected: true, Heuristic: true, Signature: "PUA.Win.Packer.Upx"},
			[]verdict.Item{{Name: verdict.VirusHeurist, Detail: "ClamAV names it PUA.Win.Packer.Upx"}}},
		{"encrypted", "stream: Heuristics.Encrypted.Zip FOUND\x00", clamd.Result{Infected: true, Heuristic: true, Signature: "Heuristics.Encrypted.Zip"},
			[]verdict.Item{{Name: verdict.Encrypted, Detail: "ClamAV names it Heuristics.Encrypted.Zip"}}},
		{"limits", "stream: Heuristics.Limits.Exceeded.MaxFiles FOUND\x00", clamd.Result{Infected: true, Heuristic: true, Signature: "Heuristics.Limits.Exceeded.MaxFiles"},
			[]verdict.Item{{Name: verdict.Uninspected, Detail: "ClamAV names it Heuristics.Limits.Exceeded.MaxFiles"}}},
		{"name with controls", "stream: a\x1b[2Jb\xff FOUND\x00", clamd.Result{Infected: true, Signature: "a?[2Jb?"},
			[]verdict.Item{{Name: verdict.Virus, Detail: "ClamAV names it a?[2Jb?"}}},
		{"name too long", "stream: " + strings.Repeat("x", 1000) + " FOUND\x00", clamd.Result{Infected: true, Signature: strings.Repeat("x", 128)},
			[]verdict.Item{{Name: verdict.Virus, Detail: "ClamAV names it " + strings.Repeat("x", 128)}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := client(t, fake(t, answer(tc.reply))).Scan(t.Context(), strings.NewReader("hello"))
			if err != nil {
				t.Fatal(err)
			}
			tc.want.Octets = 5
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(tc.items, got.Items()); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestStream holds what arrives against what was sent, for sizes about those of a chunk.
func TestStream(t *testing.T) {
	t.Parallel()
	arrived := make(chan []byte, 1)
	c := client(t, fake(t, func(conn net.Conn) {
		if _, message, err := receive(conn); err == nil {
			arrived <- message
			_, _ = io.WriteString(conn, "stream: OK\x00")
		}
	}))
	for _, n := range []int{0, 1, clamd.ChunkOctets - 1, clamd.ChunkOctets, clamd.ChunkOctets + 1, 3*clamd.ChunkOctets + 7} {
		want := bytes.Repeat([]byte("0123456789abcde"), n/15+1)[:n]
		got, err := c.Scan(t.Context(), bytes.NewReader(want))
		if err != nil || got.Octets != int64(n) {
			t.Fatalf("%d octets: got %+v, %v", n, got, err)
		}
		if !bytes.Equal(want, <-arrived) {
			t.Errorf("%d octets: others arrived", n)
		}
	}
}

func TestMisbehaviour(t *testing.T) {
	t.Parallel()
	type testCase struct {
		name  string
		serve func(net.Conn)
		alter func(*clamd.Config)
		size  int
		want  error
	}
	short := func(c *clamd.Config) { c.Timeout, c.ConnectTimeout = 50*time.Millisecond, 50*time.Millisecond }
	hold := func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }
	for _, tc := range []testCase{
		{name: "over StreamMaxLength, in mid-stream", size: 4 << 20, want: clamd.ErrTooLarge, serve: func(conn net.Conn) {
			_, _ = io.CopyN(io.Discard, conn, 100000)
			_, _ = io.WriteString(conn, "INSTREAM size limit exceeded. ERROR\x00")
		}},
		{name: "over StreamMaxLength, and reads no more", size: 4 << 20, want: clamd.ErrTooLarge, serve: func(conn net.Conn) {
			_, _ = io.WriteString(conn, "INSTREAM size limit exceeded. ERROR\x00")
			one := make([]byte, 1)
			_, _ = io.ReadFull(conn, one)
			// The client closes; what it sent lies unread.
			for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
				if _, err := conn.Write(one); err != nil {
					return
				}
			}
		}},
		{name: "over our own limit", size: 1000, want: clamd.ErrTooLarge, serve: hold, alter: func(c *clamd.Config) { c.MaxOctets = 999 }},
		{name: "an error", want: clamd.ErrRefused, serve: answer("Can't allocate memory ERROR\x00")},
		{name: "closed at once", want: clamd.ErrCut, serve: func(net.Conn) {}},
		{name: "closed in mid-stream", size: 4 << 20, want: clamd.ErrCut, serve: func(conn net.Conn) { _, _ = io.CopyN(io.Discard, conn, 100000) }},
		{name: "closed without a reply", want: clamd.ErrCut, serve: answer("")},
		{name: "a reply cut off", want: clamd.ErrCut, serve: answer("stream: OK")},
		{name: "garbage", want: clamd.ErrReply, serve: answer("HTTP/1.1 400 Bad Request\r\n\r\n\x00")},
		{name: "another command's reply", want: clamd.ErrReply, serve: answer("PONG\x00")},
		{name: "an endless reply", want: clamd.ErrReply, serve: func(conn net.Conn) {
			for {
				if _, err := conn.Write(bytes.Repeat([]byte("x"), 500)); err != nil {
					return
				}
			}
		}},
		{name: "OK before the end", size: 4 << 20, want: clamd.ErrReply, serve: func(conn net.Conn) {
			_, _ = io.CopyN(io.Discard, conn, 100)
			_, _ = io.WriteString(conn, "stream: OK\x00")
		}},
		{name: "silent", want: clamd.ErrTimeout, serve: hold, alter: short},
		{name: "reads nothing", size: 4 << 20, want: clamd.ErrTimeout, alter: short, serve: func(conn net.Conn) {
			one := make([]byte, 1)
			for { // until the client is gone, which takes the socket's buffer and then an error
				if _, err := conn.Read(one); err != nil {
					return
				}
				if _, err := conn.Write(nil); err != nil {
					return
				}
			}
		}},
		{name: "drips", want: clamd.ErrTimeout, alter: short, serve: func(conn net.Conn) {
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for range tick.C {
				if _, err := io.WriteString(conn, "s"); err != nil {
					return
				}
			}
		}},
		{name: "absent", want: clamd.ErrConnect, serve: hold, alter: func(c *clamd.Config) { c.Address += ".gone" }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var failed atomic.Int32
			config := fake(t, tc.serve)
			config.Hooks.Failed = func(error, time.Duration) { failed.Add(1) }
			if tc.alter != nil {
				tc.alter(&config)
			}
			got, err := client(t, config).Scan(t.Context(), bytes.NewReader(make([]byte, tc.size)))
			if !errors.Is(err, tc.want) {
				t.Fatalf("got %+v, %v, want %v", got, err, tc.want)
			}
			if e, ok := errors.AsType[*clamd.Error](err); !ok || e.Address != config.Address {
				t.Errorf("got %#v, want an error with the address", err)
			}
			if failed.Load() != 1 {
				t.Errorf("told of %d failures, want 1", failed.Load())
			}
		})
	}
}

// TestSource: a message that can't be read is no clean one, and the connection ends at once.
func TestSource(t *testing.T) {
	t.Parallel()
	cause := errors.New("disk on fire")
	c := client(t, fake(t, func(conn net.Conn) {
		_, _, _ = receive(conn)
		_, _ = io.WriteString(conn, "stream: OK\x00")
	}))
	r := io.MultiReader(bytes.NewReader(make([]byte, 200000)), errorReader{cause})
	_, err := c.Scan(t.Context(), r)
	if !errors.Is(err, clamd.ErrSource) || !errors.Is(err, cause) {
		t.Errorf("got %v, want %v because of %v", err, clamd.ErrSource, cause)
	}
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }

// TestCancel: who waits for a scan can give up.
func TestCancel(t *testing.T) {
	t.Parallel()
	started := make(chan struct{})
	c := client(t, fake(t, func(conn net.Conn) { close(started); _, _ = io.Copy(io.Discard, conn) }))
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-started; cancel() }()
	if _, err := c.Scan(ctx, strings.NewReader("x")); !errors.Is(err, context.Canceled) || !errors.Is(err, clamd.ErrTimeout) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

// TestScansAtOnce: Scans of them run, the others wait their turn, within their time.
func TestScansAtOnce(t *testing.T) {
	t.Parallel()
	var now, most atomic.Int32
	release, entered := make(chan struct{}), make(chan struct{}, 100)
	config := fake(t, func(conn net.Conn) {
		if _, _, err := receive(conn); err != nil {
			return
		}
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		entered <- struct{}{}
		<-release
		now.Add(-1)
		_, _ = io.WriteString(conn, "stream: OK\x00")
	})
	config.Scans = 3
	var running atomic.Int64
	config.Hooks.Running = func(n int) {
		if n > 3 {
			t.Errorf("told that %d scans run", n)
		}
		running.Add(1)
	}
	c := client(t, config)
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			if _, err := c.Scan(t.Context(), strings.NewReader("x")); err != nil {
				t.Error(err)
			}
		})
	}
	for range 3 {
		<-entered
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Scan(ctx, strings.NewReader("x")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want that the time of waiting ended", err)
	}
	close(release)
	all.Wait()
	if most.Load() != 3 || running.Load() != 20 {
		t.Errorf("%d scans at once, %d changes told; want 3 and 20", most.Load(), running.Load())
	}
}

func TestCommands(t *testing.T) {
	t.Parallel()
	c := client(t, fake(t, func(conn net.Conn) {
		command, _, err := receive(conn)
		if err != nil {
			return
		}
		replies := map[string]string{"zPING": "PONG\x00", "zVERSION": "ClamAV 1.4.6/27811/Sun Nov 22 09:24:55 2026\x00"}
		_, _ = io.WriteString(conn, replies[command])
	}))
	if err := c.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	got, err := c.Version(t.Context())
	want := clamd.Version{Text: "ClamAV 1.4.6/27811/Sun Nov 22 09:24:55 2026", Engine: "1.4.6", Database: 27811, Built: time.Date(2026, 11, 22, 9, 24, 55, 0, time.UTC)}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Error(d, err)
	}
	for reply, want := range map[string]error{"no\x00": clamd.ErrReply, "": clamd.ErrCut, "UNKNOWN COMMAND ERROR\x00": clamd.ErrRefused, "ClamAV 1.4.6/x/y\x00": clamd.ErrReply} {
		c := client(t, fake(t, answer(reply)))
		if err := c.Ping(t.Context()); !errors.Is(err, want) {
			t.Errorf("PING answered by %q: got %v, want %v", reply, err, want)
		}
		if _, err := c.Version(t.Context()); !errors.Is(err, want) {
			t.Errorf("VERSION answered by %q: got %v, want %v", reply, err, want)
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		config clamd.Config
		good   bool
	}{
		{"path", clamd.Config{Network: "unix", Address: "/run/clamav/clamd.ctl"}, true},
		{"address", clamd.Config{Network: "tcp", Address: "127.0.0.1:3310"}, true},
		{"IPv6", clamd.Config{Network: "tcp", Address: "[::1]:3310"}, true},
		{"localhost", clamd.Config{Network: "tcp", Address: "localhost:3310"}, true},
		{"host name", clamd.Config{Network: "tcp", Address: "clamav.example:3310"}, false},
		{"no port", clamd.Config{Network: "tcp", Address: "127.0.0.1"}, false},
		{"no path", clamd.Config{Network: "unix"}, false},
		{"nothing", clamd.Config{}, false},
		{"negative", clamd.Config{Network: "unix", Address: "x", Scans: -1}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if _, err := clamd.New(tc.config); (err == nil) != tc.good || err != nil && !errors.Is(err, clamd.ErrConfig) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func FuzzReply(f *testing.F) {
	for _, s := range []string{"stream: OK", "stream: a FOUND", "INSTREAM size limit exceeded. ERROR", "ClamAV 1.4.6/1/Sun Nov 22 09:24:55 2026", " FOUND", "stream:  FOUND"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		res, err := clamd.ParseReply(s)
		if err == nil && !res.Infected && s != "stream: OK" {
			t.Errorf("%q counts as clean", s)
		}
		for _, it := range res.Items() {
			if len(it.Detail) > verdict.MaxDetailOctets || verdict.Rows[it.Name].Meaning == "" {
				t.Errorf("item %+v", it)
			}
		}
		_, _ = clamd.ParseVersion(s)
	})
}
