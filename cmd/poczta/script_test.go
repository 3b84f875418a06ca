package main

import (
	"bufio"
	"bytes"
	"errors"
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

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts drives the whole program by the scripts in testdata/script, which
// are testscript's. Beside its commands there are:
//
//	poczta ARGS…            the program
//	exits N poczta ARGS…    run it; it must end with exit code N
//	start [SERVICE]         the server of $CONF; with a socket for SERVICE as a service manager gives it, at $INHERITED
//	stop                    SIGTERM to it; it must exit with 0
//	hup RE                  send SIGHUP and wait until the log matches
//	append FILE TEXT        add a line
//	replace FILE OLD NEW    replace text
//	[!] send FROM TO TEXT   send a message with this subject by SMTP; ! wants a refusal; the reply is stdout
//	dns FILE                a name server with the zone lines of a file; $DNS is its address
//	quarantined             $ID becomes the id of the first message in quarantine
//	uidl LOGIN PASSWORD     what LIST and UIDL say by POP3 becomes stdout
//
// $CONF is the configuration, also of commands without --config; $BASE is added
// to the standard ports.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{Dir: "testdata/script", RequireUniqueNames: true, Setup: setupScript, Cmds: map[string]func(*testscript.TestScript, bool, []string){
		"exits": cmdExits, "start": cmdStart, "stop": cmdStop, "hup": cmdHup, "append": cmdAppend, "replace": cmdReplace, "send": cmdSend, "uidl": cmdUIDL, "dns": cmdDNS, "quarantined": cmdQuarantined,
	}})
}

func TestMain(m *testing.M) {
	testscript.Main(swift{m}, map[string]func(){"poczta": main})
}

// swift runs the tests with commands that begin quickly. Under the race detector a process of this
// program needs five times as long to begin, and the scripts begin hundreds; the servers, whose
// goroutines meet, stay under it.
type swift struct{ *testing.M }

// Run implements testscript.TestingM.
func (s swift) Run() int {
	if detector {
		dir, err := os.MkdirTemp("", "poczta-scripts-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		build := exec.Command("go", "build", "-o", filepath.Join(dir, "poczta"), ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build: %v: %s", err, out)
			return 1
		}
		quick = dir
	}
	return s.M.Run()
}

// quick is the folder of the program for the scripts' commands; "" where that of the servers will do.
var quick string

// runner is what a script has beside testscript's own things.
type runner struct {
	base   int
	server *exec.Cmd
	log    *logBuffer
	ended  chan error
}

func setupScript(env *testscript.Env) error {
	base, release, err := freeBase()
	if err != nil {
		return err
	}
	env.Defer(release)
	conf := filepath.Join(env.WorkDir, "poczta.toml")
	env.Setenv("BASE", strconv.Itoa(base))
	env.Setenv("CONF", conf)
	env.Setenv("POCZTA_CONFIG", conf)
	if quick != "" {
		env.Setenv("PATH", quick+string(os.PathListSeparator)+env.Getenv("PATH"))
	}
	env.Values["runner"] = &runner{base: base}
	return nil
}

func runnerOf(ts *testscript.TestScript) *runner { return ts.Value("runner").(*runner) }

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

// freeBase finds a base below the system's ephemeral ports whose ports are free, and keeps it from
// others, in this process or in another, until it is released.
func freeBase() (base int, release func(), err error) {
	bases.Lock()
	defer bases.Unlock()
	for range 60 {
		// Sums of steps of 505 never meet, nor those of internal/e2e, which begins at 10000.
		base = 10041 + (os.Getpid()+bases.next)%25*505
		bases.next++
		mark, err := net.Listen("unix", "@poczta-script-"+strconv.Itoa(base)) // ends with the process, leaves no file
		if err != nil {
			continue
		}
		free := true
		for _, p := range []int{24, 25, 80, 110, 443, 465, 587, 995, 3025, 9025} {
			l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(base+p))
			if err != nil {
				free = false
				break
			}
			l.Close()
		}
		if free {
			return base, func() { _ = mark.Close() }, nil
		}
		_ = mark.Close()
	}
	return 0, nil, errors.New("no free ports on loopback")
}

// want ends the script when the number of arguments is another.
func want(ts *testscript.TestScript, neg, mayNeg bool, args []string, n int, usage string) {
	if len(args) != n || neg && !mayNeg {
		ts.Fatalf("usage: %s", usage)
	}
}

func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || neg {
		ts.Fatalf("usage: exits N program args...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code is %d, want %s", code, args[0])
	}
}

func cmdAppend(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, false, args, 2, "append file text")
	writeText(ts, args[0], ts.ReadFile(args[0])+args[1]+"\n")
}

func cmdReplace(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, false, args, 3, "replace file old new")
	old := ts.ReadFile(args[0])
	if !strings.Contains(old, args[1]) {
		ts.Fatalf("%q is not in the file", args[1])
	}
	writeText(ts, args[0], strings.Replace(old, args[1], args[2], 1))
}

func writeText(ts *testscript.TestScript, name, text string) {
	ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o600))
}

func cmdStart(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, false, args, min(len(args), 1), "start [service]")
	s := runnerOf(ts)
	program, err := exec.LookPath("poczta")
	ts.Check(err)
	s.log = &logBuffer{}
	s.server = exec.Command(program, "serve")
	s.server.Env, s.server.Dir = append(os.Environ(), "POCZTA_CONFIG="+ts.Getenv("CONF")), ts.Getenv("WORK")
	if len(args) == 1 {
		inherit(ts, s.server, args[0])
	}
	s.server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s.server.Stderr, s.server.Stdout = s.log, s.log
	ts.Check(s.server.Start())
	server, ended, log := s.server, make(chan error, 1), s.log
	s.ended = ended
	go func() { ended <- server.Wait(); close(ended) }()
	ts.Defer(func() {
		_ = server.Process.Kill()
		<-ended
		ts.Logf("[server's log]\n%s", log)
	})
	s.await(ts, "ready", 0)
}

// inherit opens a socket for cmd as a service manager does: it names the process
// in LISTEN_PID, which the shell knows that becomes it.
func inherit(ts *testscript.TestScript, cmd *exec.Cmd, service string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	ts.Check(err)
	ts.Defer(func() { f.Close() })
	ts.Setenv("INHERITED", l.Addr().String())
	cmd.ExtraFiles = []*os.File{f}
	cmd.Env = append(cmd.Env, "LISTEN_FDS=1", "LISTEN_FDNAMES=poczta-"+service)
	cmd.Args = append([]string{"sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
}

// await polls until the log matches behind an offset.
func (s *runner) await(ts *testscript.TestScript, pattern string, from int) {
	re := regexp.MustCompile(pattern)
	deadline, tick := time.After(2*time.Minute), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for !re.MatchString(s.log.String()[from:]) {
		select {
		case err := <-s.ended:
			ts.Fatalf("the server ended: %v\n%s", err, s.log)
		case <-deadline:
			ts.Fatalf("the log never said %q\n%s", pattern, s.log)
		case <-tick.C:
		}
	}
}

func cmdStop(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, false, args, 0, "stop")
	s := runnerOf(ts)
	ts.Check(s.server.Process.Signal(syscall.SIGTERM))
	select {
	case err := <-s.ended:
		if err != nil {
			ts.Fatalf("the server ended badly: %v\n%s", err, s.log)
		}
	case <-time.After(2 * time.Minute):
		ts.Fatalf("the server did not end\n%s", s.log)
	}
}

func cmdHup(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, false, args, 1, "hup pattern")
	s := runnerOf(ts)
	from := len(s.log.String())
	ts.Check(s.server.Process.Signal(syscall.SIGHUP))
	s.await(ts, args[0], from)
}

// dialogue sends lines, each when the reply to the one before has come; last is
// the last reply, whole. It ends with a reply that refuses.
func (s *runner) dialogue(ts *testscript.TestScript, port int, lines ...string) (last string) {
	conn, err := net.DialTimeout("tcp", "127.0.0.1:"+strconv.Itoa(s.base+port), time.Minute)
	ts.Check(err)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
	in := bufio.NewReader(conn)
	for _, line := range append([]string{""}, lines...) {
		if line != "" {
			fmt.Fprintf(conn, "%s\r\n", line)
		}
		last = ""
		for whole := false; !whole; {
			text, err := in.ReadString('\n')
			ts.Check(err)
			last += text
			whole = text == ".\r\n" || last[0] == '-' || last[0] == '+' && line != "LIST" && line != "UIDL" || last[0] != '+' && text[3] != '-'
		}
		if last[0] == '4' || last[0] == '5' || last[0] == '-' {
			break
		}
	}
	return last
}

func cmdSend(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, true, args, 3, "[!] send from to subject")
	reply := runnerOf(ts).dialogue(ts, 25, "EHLO client.test", "MAIL FROM:<"+args[0]+">", "RCPT TO:<"+args[1]+">", "DATA",
		"Subject: "+args[2]+"\r\nTo: "+args[1]+"\r\n\r\ntext\r\n.")
	fmt.Fprint(ts.Stdout(), reply)
	if (reply[0] == '2') == neg {
		ts.Fatalf("the reply is %s", reply)
	}
}

func cmdQuarantined(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, false, args, 0, "quarantined")
	ts.Check(ts.Exec("poczta", "quarantine", "list", "--kind", "quarantine", "--json"))
	id := regexp.MustCompile(`"id":"([^"]+)"`).FindStringSubmatch(ts.ReadFile("stdout"))
	if id == nil {
		ts.Fatalf("nothing is set apart")
	}
	ts.Setenv("ID", id[1])
}

func cmdUIDL(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, false, args, 2, "uidl login password")
	s := runnerOf(ts)
	for _, list := range []string{"LIST", "UIDL"} {
		fmt.Fprint(ts.Stdout(), s.dialogue(ts, 110, "USER "+args[0], "PASS "+args[1], list))
	}
}
