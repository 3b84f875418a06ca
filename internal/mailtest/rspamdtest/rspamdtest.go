// Package rspamdtest runs a real Rspamd for tests: on loopback, without network, Redis or any
// rule but GTUBE and a classifier of its own, as a user who is not root.
package rspamdtest

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"poczta.example/poczta/internal/mailtest/ports"
)

// RequireEnv, when set, makes a missing Rspamd a failure.
const RequireEnv = "POCZTA_REQUIRE_SERVICES"

// Password is what the controller asks for.
const Password = "secret"

// GTUBE is a line that Rspamd rejects.
const GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"

// Server is a running Rspamd. All addresses are HOST:PORT.
type Server struct {
	Check      string // worker that checks
	Controller string // worker that learns
	Milter     string // worker that speaks the milter protocol
	Process    *os.Process
	folder     string
	path, conf string
}

const config = `
options {
  pidfile = "%[1]s/pid"; tempdir = "%[1]s"; url_tld = "%[1]s/tld"; hs_cache_dir = "%[1]s"; disable_hyperscan = true;
  dynamic_conf = "%[1]s/dyn"; history_file = "%[1]s/hist"; stats_file = "%[1]s/stats"; control_socket = "%[1]s/control mode=0600";
  filters = ""; dns { nameserver = ["127.0.0.1:9"]; timeout = 0.1s; retransmits = 1; }
}
logging { type = "console"; level = "warning"; }
actions { reject = 15; add_header = 6; greylist = 4; }
worker "normal" { bind_socket = "%[2]s"; count = 1; task_timeout = 60s; }
worker "controller" { bind_socket = "%[3]s"; count = 1; password = "` + Password + `"; enable_password = "` + Password + `"; secure_ip = ""; }
classifier "bayes" { tokenizer { name = "osb"; } cache { type = "sqlite3"; path = "%[1]s/learned.sqlite"; } backend = "sqlite3"; min_learns = 1; min_tokens = 1;
  statfile { symbol = "BAYES_SPAM"; path = "%[1]s/spam.sqlite"; spam = true; } statfile { symbol = "BAYES_HAM"; path = "%[1]s/ham.sqlite"; spam = false; } }
worker "rspamd_proxy" { bind_socket = "%[4]s"; count = 1; milter = yes; timeout = 60s; upstream "local" { default = yes; hosts = "%[2]s"; } }
`

// Start starts an Rspamd that ends with the test; without one the test is skipped.
func Start(t testing.TB) *Server {
	t.Helper()
	path, err := exec.LookPath("rspamd")
	who, uerr := user.Lookup("_rspamd")
	if err != nil || uerr != nil || os.Getuid() != 0 {
		if os.Getenv(RequireEnv) != "" {
			t.Fatal("rspamd is not installed, or the test does not run as root")
		}
		t.Skip("rspamd is not installed, or the test does not run as root")
	}
	s := &Server{Check: free(t), Controller: free(t), Milter: free(t)}
	if s.folder, err = os.MkdirTemp("", "pr"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(s.folder) })
	uid, _ := strconv.Atoi(who.Uid)
	gid, _ := strconv.Atoi(who.Gid)
	if err := os.Chown(s.folder, uid, gid); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(s.folder, "rspamd.conf")
	for name, text := range map[string]string{conf: fmt.Sprintf(config, s.folder, s.Check, s.Controller, s.Milter), filepath.Join(s.folder, "tld"): "com\ntest\n"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.path, s.conf = path, conf
	for try := 1; !s.start(t); try++ {
		if try == 5 {
			t.Fatalf("rspamd cannot open its own statistics: %s", s.said())
		}
	}
	return s
}

// start starts the process, and reports whether its workers have all they need: they make the
// files of the statistics at the same moment, and one that finds a file half made does without
// it. At the next start the files are there.
func (s *Server) start(t testing.TB) bool {
	t.Helper()
	log, err := os.Create(filepath.Join(s.folder, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(s.path, "-f", "-u", "_rspamd", "-g", "_rspamd", "-c", s.conf)
	cmd.Stdout, cmd.Stderr = log, log
	err = cmd.Start()
	log.Close()
	if err != nil {
		t.Fatal(err)
	}
	s.Process = cmd.Process
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	var once sync.Once
	stop := func() { once.Do(func() { s.stop(cmd.Process, ended) }) }
	t.Cleanup(stop)
	s.await(t, ended)
	if strings.Contains(s.said(), "cannot init backend") {
		stop()
		return false
	}
	return true
}

// said is what Rspamd has logged since its start.
func (s *Server) said() string {
	text, err := os.ReadFile(filepath.Join(s.folder, "log"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// stop ends the main process, which ends its workers; those of a main process that was killed
// leave by themselves or are ended by their ids.
func (s *Server) stop(main *os.Process, ended chan struct{}) {
	for _, id := range append(workers(main), main.Pid) {
		if p, err := os.FindProcess(id); err == nil {
			_ = p.Kill()
		}
	}
	<-ended
}

// Workers are the process ids of the workers, found by the folder they were started with.
func (s *Server) Workers() []int { return workers(s.Process) }

func workers(main *os.Process) []int {
	var ids []int
	task := fmt.Sprintf("/proc/%d/task/%d/children", main.Pid, main.Pid)
	text, err := os.ReadFile(task)
	if err != nil {
		return nil
	}
	for _, f := range strings.Fields(string(text)) {
		if id, err := strconv.Atoi(f); err == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

func (s *Server) await(t testing.TB, ended chan struct{}) {
	t.Helper()
	late := time.After(2 * time.Minute)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		up := 0
		for _, address := range []string{s.Check, s.Controller} {
			if r, err := client.Get("http://" + address + "/ping"); err == nil {
				r.Body.Close()
				up++
			}
		}
		if c, err := net.Dial("tcp", s.Milter); err == nil && up == 2 {
			c.Close()
			return
		}
		select {
		case <-ended:
			t.Fatalf("rspamd ended: %s", s.said())
		case <-late:
			t.Fatal("rspamd does not answer")
		case <-tick.C:
		}
	}
}

// Learned is how many messages Rspamd says it has learned.
func (s *Server) Learned(t testing.TB) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Controller+"/stat", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Password", Password)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	r, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var said struct{ Learned int }
	if err := json.NewDecoder(r.Body).Decode(&said); err != nil {
		t.Fatal(err)
	}
	return said.Learned
}

func free(t testing.TB) string {
	t.Helper()
	return "127.0.0.1:" + strconv.Itoa(ports.Free(t))
}
