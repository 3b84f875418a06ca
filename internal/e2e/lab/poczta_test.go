package lab_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const password = "Correct Horse 7"

// longest is how long the laboratory stands for a person who looks at it.
const longest = 8 * time.Hour

// binary is cmd/poczta, built once for the whole test run.
var binary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("POCZTA_LAB_BINARY"); path != "" {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "poczta-lab-bin-")
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, "poczta")
	cmd := exec.Command("go", "build", "-o", out, "poczta.example/poczta/cmd/poczta")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w: %s", err, text)
	}
	return out, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := binary(); err == nil && os.Getenv("POCZTA_LAB_BINARY") == "" {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// poczta is an installation of ours on a host.
type poczta struct {
	*host
	bin, conf string
	env       []string
	p         *process
}

// setup installs Poczta on h with one domain and account; extra is TOML for the end
// of the configuration, after the tables that setup writes.
func setup(t *testing.T, h *host, ca *x509.Certificate, cert tls.Certificate, domain, account, extra string) *poczta {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	s := &poczta{host: h, bin: bin, conf: filepath.Join(h.dir, "poczta.toml")}
	s.env = []string{"SSL_CERT_FILE=" + keep(t, h.dir, "ca.pem", certPEM(tls.Certificate{Certificate: [][]byte{ca.Raw}}))}
	keep(t, h.dir, "cert.pem", certPEM(cert))
	keep(t, h.dir, "key.pem", keyPEM(t, cert))
	listen := []string{"--listen-host", h.addr}
	if h.pid != 0 {
		listen = append(listen, "--listen-host", h.addr6())
	}
	s.poczta(password+"\n", append(listen, "setup", "--data", filepath.Join(h.dir, "data"), "--hostname", h.name, "--domain", domain, "--account", account,
		"--tls", "self-signed", "--yes")...)
	text, err := os.ReadFile(s.conf)
	if err != nil {
		t.Fatal(err)
	}
	conf := strings.Replace(string(text), `mode = "self-signed"`, fmt.Sprintf("mode = \"files\"\ncertificate = [{cert = %q, key = %q}]\n#", h.dir+"/cert.pem", h.dir+"/key.pem"), 1)
	conf = strings.NewReplacer("127.0.0.1:9025", h.local()+":9025", "[listen]\n", "[listen]\nlmtp = [\"unix:lmtp.sock\"]\n").Replace(conf)
	keep(t, h.dir, "poczta.toml", conf+fmt.Sprintf("\n[dns]\nservers = [%q]\ntrusted = true\n", h.w.net4+resolverHost)+
		"\n[verify]\nenabled = false\n[spam]\nenabled = false\n[conduct]\nenabled = false\n"+extra) // the laboratory is about the ways of mail
	return s
}

// on is the installation for a subtest.
func (s *poczta) on(t *testing.T) *poczta {
	c := *s
	c.host = s.host.on(t)
	return &c
}

// poczta runs a command that must succeed.
func (s *poczta) poczta(stdin string, args ...string) string {
	s.t.Helper()
	out, err := s.try(stdin, args...)
	if err != nil {
		s.t.Fatalf("%s: poczta %s: %v\n%s", s.name, strings.Join(args, " "), err, out)
	}
	return out
}

// try runs a command and returns standard output and error together when it fails.
func (s *poczta) try(stdin string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute*patience)
	defer cancel()
	cmd := s.command(ctx, append([]string{s.bin, "--config", s.conf}, args...)...)
	var out, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = strings.NewReader(stdin), &out, &stderr, append(os.Environ(), s.env...)
	err := cmd.Run()
	if err != nil {
		out.Write(stderr.Bytes())
	}
	return out.String(), err
}

// serve starts the server and waits until it is ready.
func (s *poczta) serve() {
	s.t.Helper()
	before := 0
	if s.p != nil {
		before = len(s.p.text())
	}
	s.p = s.start("poczta", s.env, s.bin, "serve", "--config", s.conf)
	await(s.t, s.name+" is ready", 30*time.Second, func() bool {
		select {
		case <-s.p.done:
			s.t.Fatalf("%s ended:\n%s", s.name, s.p.text())
		default:
		}
		return strings.Contains(s.p.text()[before:], "ready")
	})
}

// row is a line of a list command.
type row struct {
	Name  string `json:"name"` // domain dns
	Type  string `json:"type"`
	Value string `json:"value"`

	ID          string `json:"id"` // queue list, trace
	ReversePath string `json:"reverse_path"`
	Recipients  []struct {
		ForwardPath string `json:"forward_path"`
		State       string `json:"state"`
		Attempts    int    `json:"attempts"`
		LastStatus  string `json:"last_status"`
	} `json:"recipients"`
	Fates  []fate `json:"fates"`
	Events []struct {
		Kind   string `json:"kind"`
		Detail string `json:"detail"`
	} `json:"events"`

	Level string `json:"level"` // check
	Area  string `json:"area"`
	Text  string `json:"text"`
}

type fate struct {
	Recipient string `json:"recipient"`
	Target    string `json:"target"`
	State     string `json:"state"`
	Detail    string `json:"detail"`
}

// list runs a list command.
func (s *poczta) list(args ...string) []row {
	s.t.Helper()
	out, err := s.try("", append(args, "--json")...)
	var rows []row
	if json.NewDecoder(strings.NewReader(out)).Decode(&rows) != nil {
		s.t.Fatalf("poczta %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return rows
}

// lines are the domain's zone lines as the server prints them.
func (s *poczta) lines(domain string) []string {
	var out []string
	for _, r := range s.list("domain", "dns", domain) {
		out = append(out, r.Name+" "+r.Type+" "+r.Value)
	}
	return out
}

// fate waits until the message with a token has come to an end for the recipient,
// and returns it with the events of the way as text.
func (s *poczta) fate(token, recipient string, limit time.Duration, states ...string) (fate, string) {
	s.t.Helper()
	var last []row
	limit *= patience
	deadline, tick := time.After(limit), time.NewTicker(100*time.Millisecond)
	defer tick.Stop()
	for {
		last = s.list("trace", "<"+token+"@lab.test>")
		for _, r := range last {
			for _, f := range r.Fates {
				if f.Recipient == recipient && slices.Contains(states, f.State) {
					return f, events(r)
				}
			}
		}
		select {
		case <-deadline:
			s.t.Fatalf("%s: waited %s in vain until %s for %s is %v: %+v\nlog:\n%s", s.name, limit, token, recipient, states, last, tail(s.p.text()))
		case <-tick.C:
		}
	}
}

func events(r row) string {
	var out strings.Builder
	for _, e := range r.Events {
		fmt.Fprintf(&out, "%s %s\n", e.Kind, e.Detail)
	}
	return out.String()
}

// waiting waits until the queue has the message with the last reply as wanted.
func (s *poczta) waiting(recipient string, limit time.Duration, words ...string) string {
	s.t.Helper()
	var status string
	limit *= patience
	deadline, tick := time.After(limit), time.NewTicker(100*time.Millisecond)
	defer tick.Stop()
	for {
		for _, r := range s.list("queue", "list", "--to", recipient) {
			for _, c := range r.Recipients {
				if status = c.LastStatus; c.ForwardPath == recipient && containsAll(status, words) {
					return status
				}
			}
		}
		select {
		case <-deadline:
			s.t.Fatalf("%s: waited %s in vain until %s waits with %q: %q\nlog:\n%s", s.name, limit, recipient, words, status, tail(s.p.text()))
		case <-tick.C:
		}
	}
}

func containsAll(s string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(strings.ToLower(s), strings.ToLower(w)) {
			return false
		}
	}
	return true
}

// tail is the end of a log, without the sessions of those who only looked.
func tail(s string) string {
	var kept strings.Builder
	for line := range strings.Lines(s) {
		if !strings.Contains(line, `msg="session ended"`) && !strings.Contains(line, `msg=command`) {
			kept.WriteString(line)
		}
	}
	return kept.String()[max(0, kept.Len()-6000):]
}

func (h *host) on(t *testing.T) *host {
	c := *h
	c.t = t
	return &c
}

func certPEM(c tls.Certificate) string {
	var out strings.Builder
	for _, der := range c.Certificate {
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	return out.String()
}

func keyPEM(t *testing.T, c tls.Certificate) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// find returns a file of a Maildir that holds the token, waiting for it.
func find(t *testing.T, h *host, local, token string) string {
	t.Helper()
	var found string
	deadline, tick := time.After(2*time.Minute*patience), time.NewTicker(50*time.Millisecond)
	defer tick.Stop()
	for {
		names, err := filepath.Glob(filepath.Join(h.dir, "mail", local, "new/*"))
		for _, n := range names {
			text, readErr := os.ReadFile(n)
			if err = errors.Join(err, readErr); strings.Contains(string(text), token) {
				found = string(text)
			}
		}
		if found != "" {
			return found
		}
		select {
		case <-deadline:
			t.Fatalf("%s: no mail with %s for %s (%v)", h.name, token, local, err)
		case <-tick.C:
		}
	}
}
