package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The scripts in testdata/script drive the whole program. A script is lines of
// commands, then files in txtar's form ("-- name --"). Commands:
//
//	[!|?] poczta ARGS…   run it; ! wants exit 1 or 2, ? takes any, else 0
//	stdin TEXT           of the next command
//	stdout RE, stderr RE the last command's output matches (! : does not)
//	exit N               the last command's exit code
//	start, stop          the server of $CONF; stop sends SIGTERM and wants exit 0
//	hup RE               send SIGHUP and wait until the log matches
//	grep RE FILE         a file matches (! : does not)
//	exists FILE          it is there (! : is not)
//	append FILE TEXT     add a line
//	replace FILE OLD NEW replace text
//	send FROM TO SUBJECT send a message by SMTP; ! wants a refusal
//
// Words may be quoted with '. $WORK, $CONF, $BASE are replaced.
func TestScripts(t *testing.T) {
	t.Parallel()
	scripts, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, path := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			s := &script{t: t, work: t.TempDir(), base: freeBase(t)}
			s.conf = filepath.Join(s.work, "poczta.toml")
			lines := s.extract(string(text))
			for i, line := range lines {
				if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
					s.where = fmt.Sprintf("%s:%d: %s", filepath.Base(path), i+1, line)
					s.step(s.words(line))
				}
			}
		})
	}
}

// TestMain lets the test's own binary be the program, so that nothing is built.
func TestMain(m *testing.M) {
	if os.Getenv("POCZTA_AS_PROGRAM") == "1" {
		main()
	}
	os.Exit(m.Run())
}

// script is one run.
type script struct {
	t          *testing.T
	work, conf string
	base       int
	where      string
	in         string
	out, err   string
	code       int
	server     *exec.Cmd
	log        *logBuffer
	ended      chan error
}

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

var bases struct {
	sync.Mutex
	next int
}

// freeBase finds a base below the system's ephemeral ports whose ports are free.
func freeBase(t *testing.T) int {
	t.Helper()
	bases.Lock()
	defer bases.Unlock()
	for range 60 {
		base := 12000 + (os.Getpid()*7+bases.next*1100)%16000
		bases.next++
		free := true
		for _, p := range []int{24, 25, 110, 465, 587, 995, 3025} {
			l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(base+p))
			if err != nil {
				free = false
				break
			}
			l.Close()
		}
		if free {
			return base
		}
	}
	t.Fatal("no free ports on loopback")
	return 0
}

// extract writes the archive's files and returns the lines of the script.
func (s *script) extract(text string) []string {
	var lines []string
	name, content := "", ""
	flush := func() {
		if name == "" {
			return
		}
		path := filepath.Join(s.work, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			s.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(s.expand(content)), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	for line := range strings.Lines(text) {
		if n, ok := strings.CutPrefix(strings.TrimSpace(line), "-- "); ok && strings.HasSuffix(n, " --") {
			flush()
			name, content = strings.TrimSuffix(n, " --"), ""
		} else if name != "" {
			content += line
		} else {
			lines = append(lines, line)
		}
	}
	flush()
	return lines
}

func (s *script) expand(text string) string {
	return strings.NewReplacer("$WORK", s.work, "$CONF", s.conf, "$BASE", strconv.Itoa(s.base), "$SMTP", strconv.Itoa(s.base+25),
		"$POP3", strconv.Itoa(s.base+110)).Replace(text)
}

var word = regexp.MustCompile(`'[^']*'|\S+`)

func (s *script) words(line string) []string {
	var out []string
	for _, w := range word.FindAllString(line, -1) {
		out = append(out, s.expand(strings.Trim(w, "'")))
	}
	return out
}

func (s *script) fail(format string, args ...any) {
	s.t.Helper()
	log := ""
	if s.log != nil {
		log = "\nserver's log:\n" + s.log.String()
	}
	s.t.Fatalf("%s\n%s\nexit %d\nstdout: %s\nstderr: %s%s", s.where, fmt.Sprintf(format, args...), s.code, s.out, s.err, log)
}

func (s *script) step(w []string) {
	s.t.Helper()
	not := w[0] == "!"
	any := w[0] == "?"
	if not || any {
		w = w[1:]
	}
	switch w[0] {
	case "poczta":
		s.poczta(w[1:])
		if !any && (s.code == 0) == not {
			s.fail("exit code %d is not what was wanted", s.code)
		}
	case "stdin":
		s.in = strings.Join(w[1:], " ") + "\n"
	case "stdout":
		s.match(s.out, w[1], not)
	case "stderr":
		s.match(s.err, w[1], not)
	case "exit":
		if strconv.Itoa(s.code) != w[1] {
			s.fail("want exit %s", w[1])
		}
	case "start":
		s.start()
	case "stop":
		s.stop()
	case "hup":
		s.hup(w[1])
	case "send":
		s.send(w[1], w[2], w[3], not)
	default:
		s.files(w, not)
	}
}

func (s *script) files(w []string, not bool) {
	s.t.Helper()
	path := func(name string) string {
		if filepath.IsAbs(name) {
			return name
		}
		return filepath.Join(s.work, name)
	}
	switch w[0] {
	case "exists":
		if _, err := os.Stat(path(w[1])); (err == nil) == not {
			s.fail("stat: %v", err)
		}
	case "grep":
		s.match(s.read(path(w[2])), w[1], not)
	case "append":
		s.write(path(w[1]), s.read(path(w[1]))+w[2]+"\n")
	case "replace":
		old := s.read(path(w[1]))
		if !strings.Contains(old, w[2]) {
			s.fail("%q is not in the file", w[2])
		}
		s.write(path(w[1]), strings.Replace(old, w[2], w[3], 1))
	default:
		s.fail("unknown command")
	}
}

func (s *script) read(path string) string {
	s.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		s.fail("%v", err)
	}
	return string(text)
}

func (s *script) write(path, text string) {
	s.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.fail("%v", err)
	}
}

func (s *script) match(text, pattern string, not bool) {
	s.t.Helper()
	if regexp.MustCompile("(?m)"+pattern).MatchString(text) == not {
		s.fail("match of %q: %v", pattern, !not)
	}
}

func (s *script) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), "POCZTA_AS_PROGRAM=1", "POCZTA_CONFIG="+s.conf)
	cmd.Dir = s.work
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func (s *script) poczta(args []string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := s.command(ctx, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(s.in), &out, &errs
	err := cmd.Run()
	s.in, s.out, s.err, s.code = "", out.String(), errs.String(), cmd.ProcessState.ExitCode()
	if err != nil && s.code < 0 {
		s.fail("%v", err)
	}
}

func (s *script) start() {
	s.t.Helper()
	s.log = &logBuffer{}
	s.server = s.command(context.Background(), "serve")
	s.server.Stderr, s.server.Stdout = s.log, s.log
	if err := s.server.Start(); err != nil {
		s.fail("%v", err)
	}
	server, ended := s.server, make(chan error, 1)
	s.ended = ended
	go func() { ended <- server.Wait(); close(ended) }()
	s.t.Cleanup(func() { _ = server.Process.Kill(); <-ended })
	s.await("ready", 0)
}

// await polls until the log matches behind an offset.
func (s *script) await(pattern string, from int) {
	s.t.Helper()
	re := regexp.MustCompile(pattern)
	deadline, tick := time.After(30*time.Second), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for !re.MatchString(s.log.String()[from:]) {
		select {
		case err := <-s.ended:
			s.fail("the server ended: %v", err)
		case <-deadline:
			s.fail("the log never said %q", pattern)
		case <-tick.C:
		}
	}
}

func (s *script) stop() {
	s.t.Helper()
	if err := s.server.Process.Signal(syscall.SIGTERM); err != nil {
		s.fail("%v", err)
	}
	select {
	case err := <-s.ended:
		if err != nil {
			s.fail("the server ended badly: %v", err)
		}
	case <-time.After(40 * time.Second):
		s.fail("the server did not end")
	}
}

func (s *script) hup(pattern string) {
	s.t.Helper()
	from := len(s.log.String())
	if err := s.server.Process.Signal(syscall.SIGHUP); err != nil {
		s.fail("%v", err)
	}
	s.await(pattern, from)
}

// send delivers a message to port 25.
func (s *script) send(from, to, subject string, refused bool) {
	s.t.Helper()
	conn, err := net.DialTimeout("tcp", "127.0.0.1:"+strconv.Itoa(s.base+25), 5*time.Second)
	if err != nil {
		s.fail("%v", err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	buf := make([]byte, 4096)
	last := ""
	for _, line := range []string{"", "EHLO client.test", "MAIL FROM:<" + from + ">", "RCPT TO:<" + to + ">", "DATA",
		"Subject: " + subject + "\r\n\r\ntext\r\n."} {
		if line != "" {
			fmt.Fprintf(conn, "%s\r\n", line)
		}
		n, err := conn.Read(buf)
		if err != nil {
			s.fail("%v", err)
		}
		if last = string(buf[:n]); last[0] > '3' {
			break
		}
	}
	if s.out = last; (last[0] == '2') == refused {
		s.fail("the reply is %s", last)
	}
}
