package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	domain   = "example.org"
	password = "Correct Horse 7"
)

// binary is cmd/poczta, built once for the whole test run.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "poczta-e2e-")
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, "poczta")
	cmd := exec.Command("go", "build", "-o", out, "../../cmd/poczta")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w: %s", err, text)
	}
	return out, os.Chmod(dir, 0o755)
})

// atOnce is how many tests run at one time on a small machine: they wait for disks, clocks and other
// programs most of the time, and two at once take half as long again as four.
const atOnce = 4

func TestMain(m *testing.M) {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen && runtime.GOMAXPROCS(0) < atOnce {
		if err := flag.Set("test.parallel", strconv.Itoa(atOnce)); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	if path, err := binary(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// server is one installation: a configuration, a data folder, perhaps a process.
type server struct {
	t    *testing.T
	dir  string // holds everything
	conf string
	base int // added to standard ports
	cmd  *exec.Cmd
	log  *lockedBuffer
	done chan error
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// setup installs a server with the account ala@example.org in a temporary folder.
// extra is TOML that is added to the configuration.
func setup(t *testing.T, extra ...string) *server {
	t.Helper()
	return setupIn(t, t.TempDir(), extra...)
}

func setupIn(t *testing.T, dir string, extra ...string) *server {
	t.Helper()
	s := &server{t: t, dir: dir, conf: filepath.Join(dir, "poczta.toml"), base: freeBase(t)}
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.run("", "setup", "--data", filepath.Join(dir, "data"), "--hostname", "mx."+domain, "--domain", domain, "--account", "ala@"+domain,
		"--password-file", secret, "--listen-host", "127.0.0.1", "--port-base", strconv.Itoa(s.base), "--tls", "self-signed", "--yes")
	s.configure(extra...)
	return s
}

// configure adds TOML to the configuration: tables are merged into those that setup wrote.
func (s *server) configure(extra ...string) {
	s.t.Helper()
	text, err := os.ReadFile(s.conf)
	if err != nil {
		s.t.Fatal(err)
	}
	conf := string(text)
	for _, e := range extra {
		head, rest, isTable := strings.Cut(e, "\n")
		if isTable && strings.HasPrefix(head, "[") && strings.Contains("\n"+conf, "\n"+head+"\n") {
			conf = strings.Replace("\n"+conf, "\n"+head+"\n", "\n"+head+"\n"+rest+"\n", 1)[1:]
		} else {
			conf += "\n" + e + "\n"
		}
	}
	if err := os.WriteFile(s.conf, []byte(conf), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

var nextBase = struct {
	sync.Mutex
	n int
}{n: 10000 + os.Getpid()%25*505}

// freeBase finds a port base whose sums with the standard ports are free.
func freeBase(t *testing.T) int {
	t.Helper()
	nextBase.Lock()
	defer nextBase.Unlock()
	for range 50 {
		// Below the kernel's range of ephemeral ports; no two sums of steps of 505 meet.
		if nextBase.n += 505; nextBase.n > 22600 {
			nextBase.n = 10000
		}
		// Other processes that run these tests see whom a base belongs to.
		mark, err := net.Listen("unix", "@poczta-e2e-"+strconv.Itoa(nextBase.n))
		if err != nil {
			continue
		}
		free := true
		for _, p := range []int{24, 25, 80, 110, 443, 465, 587, 995, 9025} {
			l, err := net.Listen("tcp", loopback(nextBase.n+p))
			if err != nil {
				free = false
				break
			}
			_ = l.Close()
		}
		if free {
			t.Cleanup(func() { _ = mark.Close() })
			return nextBase.n
		}
		_ = mark.Close()
	}
	t.Fatal("no free range of ports on loopback")
	return 0
}

func loopback(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

// addr is where the service of a standard port listens.
func (s *server) addr(port int) string { return loopback(s.base + port) }

// port is the moved port as text.
func (s *server) port(standard int) string { return strconv.Itoa(s.base + standard) }

// command runs a poczta command and returns stdout, stderr and the exit status.
func (s *server) command(stdin string, args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	bin, err := binary()
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, append(args, "--config", s.conf)...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errOut
	err = cmd.Run()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		s.t.Fatalf("poczta %s: %v", strings.Join(args, " "), err)
	}
	return out.String(), errOut.String(), code
}

// run runs a command that must succeed.
func (s *server) run(stdin string, args ...string) string {
	s.t.Helper()
	stdout, stderr, code := s.command(stdin, args...)
	if code != 0 {
		s.t.Fatalf("poczta %s: exit %d\nstdout: %s\nstderr: %s", strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout
}

// list runs a list command with --json.
func (s *server) list(args ...string) []map[string]any {
	s.t.Helper()
	var rows []map[string]any
	out := s.run("", append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), &rows); err != nil {
		s.t.Fatalf("poczta %s --json: %v: %s", strings.Join(args, " "), err, out)
	}
	return rows
}

// start starts the server and waits for the word ready.
func (s *server) start() {
	s.t.Helper()
	bin, err := binary()
	if err != nil {
		s.t.Fatal(err)
	}
	s.log = &lockedBuffer{}
	s.cmd = exec.Command(bin, "serve", "--config", s.conf)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	cmd, done := s.cmd, make(chan error, 1)
	s.done = done
	go func() { done <- cmd.Wait(); close(done) }()
	s.t.Cleanup(func() { s.kill() })
	s.await("the server is ready", 20*time.Second, func() bool {
		select {
		case err := <-done:
			s.t.Fatalf("the server ended: %v\n%s", err, s.log)
		default:
		}
		return strings.Contains(s.log.String(), "msg=ready")
	})
}

// patience is how many times longer than on a quiet machine the tests wait before they say
// that something does not come. A test of ours that fails only because a machine is busy
// tells nothing; nobody waits longer when all is well.
const patience = 5

// await polls until f holds. A limit is what a quiet machine keeps by far.
func (s *server) await(what string, limit time.Duration, f func() bool) {
	s.t.Helper()
	limit = max(limit*patience, time.Minute)
	deadline := time.After(limit)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-deadline:
			s.dump()
			s.t.Fatalf("waited %s in vain until %s; log:\n%s", limit, what, s.log)
		case <-tick.C:
		}
	}
}

// dump ends a server that does not do what it should, with what its goroutines are at on its log.
func (s *server) dump() {
	if s.cmd == nil || s.cmd.Process.Signal(syscall.SIGQUIT) != nil {
		return
	}
	select {
	case <-s.done:
		s.cmd = nil
	case <-time.After(20 * time.Second):
	}
}

// kill ends the server at once, as a crash does. Harmless when it has ended.
func (s *server) kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	<-s.done
	s.cmd = nil
}

// stop asks the server to end and wants it to end well.
func (s *server) stop() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	select {
	case err := <-s.done:
		if err != nil {
			s.t.Errorf("the server ended badly after SIGTERM: %v\n%s", err, s.log)
		}
	case <-time.After(40 * time.Second * patience):
		s.t.Errorf("the server did not end after SIGTERM\n%s", s.log)
		s.kill()
	}
	s.cmd = nil
}
