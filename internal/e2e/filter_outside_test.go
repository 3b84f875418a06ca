package e2e_test

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/mailtest/rspamdtest"
)

// scored has strangers at loopback tell whom they stand for, and asks no name server but the test's.
func scored(n *names) []string {
	return []string{plaintext, unlimited, "[xclient]\nfrom = [\"127.0.0.1\"]", fmt.Sprintf("[dns]\nservers = [%q]\ntimeout = \"10s\"", n.addr),
		"[spam]\ngreylist = false", "[tls_reports]\nsend = false", "[dmarc_reports]\nsend = false"}
}

// far is a domain with a host in good order at 192.0.2.10, as lines of a zone.
func far(more ...string) []string {
	return append([]string{`far.test. TXT "v=spf1 ip4:192.0.2.10 -all"`, "far.test. MX 10 mx.far.test.", "mx.far.test. A 192.0.2.10",
		"10.2.0.192.in-addr.arpa. PTR mx.far.test."}, more...)
}

// written is a message that nothing speaks against but what its author writes.
func written(from, to, subject, body string) string {
	return "From: " + from + "\r\nTo: " + to + "\r\nSubject: " + subject + "\r\nDate: " + time.Now().Format(time.RFC1123Z) +
		"\r\nMessage-ID: <" + strings.ReplaceAll(subject, " ", ".") + "@x.test>\r\n\r\n" + body + "\r\n"
}

// incoming sends a letter from jan@far.test to ala as the host of far.test does.
func (s *server) incoming(text, prefix string) string {
	s.t.Helper()
	c := s.outsider("192.0.2.10", "mx.far.test")
	defer c.conn.Close()
	return c.data("jan@far.test", ala, text, prefix)
}

// outgoing submits a letter of ala's to jan@far.test.
func (s *server) outgoing(text, prefix string) string {
	s.t.Helper()
	c := s.submits()
	defer c.conn.Close()
	return c.data(ala, "jan@far.test", text, prefix)
}

// figures are what /metrics says now, by name with labels.
func (s *server) figures() map[string]float64 {
	s.t.Helper()
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get("http://" + s.addr(9025) + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	all := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		i := strings.LastIndexByte(line, ' ')
		if i < 0 || line[0] == '#' {
			continue
		}
		if all[line[:i]], err = strconv.ParseFloat(strings.TrimSpace(line[i:]), 64); err != nil {
			s.t.Fatalf("%s: %v", line, err)
		}
	}
	return all
}

// figure wants a figure to be at least so much.
func (s *server) figure(name string, least float64) {
	s.t.Helper()
	all := s.figures()
	if all[name] >= least {
		return
	}
	kin, _, _ := strings.Cut(name, "{")
	s.t.Errorf("%s is %v, want %v at least", name, all[name], least)
	for k, v := range all {
		if strings.HasPrefix(k, kin) {
			s.t.Logf("%s is %v", k, v)
		}
	}
}

// program is a program of the system's that a test starts, ends, and starts again.
type program struct {
	t             *testing.T
	network, addr string // where it listens
	args          []string
	cmd           *exec.Cmd
	ended         chan struct{}
}

// newProgram finds a program, or skips the test where it may.
func newProgram(t *testing.T, network, addr string, args ...string) *program {
	t.Helper()
	args[0] = tool(t, args[0])
	p := &program{t: t, network: network, addr: addr, args: args}
	t.Cleanup(p.stop)
	return p
}

// start starts it and returns when it takes connections.
func (p *program) start() {
	p.t.Helper()
	var said lockedBuffer
	p.cmd = exec.Command(p.args[0], p.args[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = &said, &said
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	cmd, ended := p.cmd, make(chan struct{})
	p.ended = ended
	go func() { _ = cmd.Wait(); close(ended) }()
	(&server{t: p.t, log: &said}).await(p.args[0]+" listens", 20*time.Second, func() bool {
		select {
		case <-ended:
			p.t.Fatalf("%v ended: %s", p.args, said.String())
		default:
		}
		c, err := net.Dial(p.network, p.addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

// stop ends it at once. Harmless when it has ended.
func (p *program) stop() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	<-p.ended
	if p.network == "unix" {
		_ = os.Remove(p.addr)
	}
	p.cmd = nil
}

// shortDir is a temporary folder whose name leaves room for sockets.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// outside is a filter that is another program, as TestOutsideFilters tries each.
type outside struct {
	name  string // of its figures
	conf  string // TOML, with when_down = "accept"
	start func() // nil: it does not come back
	stop  func()

	in, out string // text that it refuses, coming in and going out; "" for none
	refused string // what the refusal says
	came    string // a line of good mail that came in
	went    string // a line of good mail that went out
	spared  bool   // it is not asked about what goes out
}

// TestOutsideFilters has a whole server ask each kind of filter that is another program, the real
// one where there is one: about mail from outside and about what people send. Then the filter dies:
// mail passes, or waits, as when_down says, and the figures tell. When it is back, mail passes.
func TestOutsideFilters(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(t *testing.T, n *names) outside{
		"clamd": withClamd, "Rspamd": withRspamd, "OpenDKIM": withOpenDKIM, "OpenDMARC": withOpenDMARC, "hook": withHook,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNames(t, far()...)
			f := begin(t, n)
			p := peer.Start(t, peer.Config{})
			s := setup(t, append(scored(n), hub(p.Listen(t)), f.conf)...)
			s.start()
			s.asks(&f, p)
			s.goesOn(&f)
			s.stop()
			s.rewrite(`when_down = "accept"`, `when_down = "defer"`)
			s.start()
			s.waits(&f)
		})
	}
}

// asks tries a filter that is well.
func (s *server) asks(f *outside, p *peer.Peer) {
	s.t.Helper()
	asked := 0.0
	for range 2 { // over a connection that was used before, too
		s.incoming(written("jan@far.test", ala, "good in", "Hello."), "250")
		asked++
	}
	if f.in != "" {
		if got := s.incoming(f.in, "550"); !strings.Contains(got, f.refused) {
			s.t.Errorf("refused by %q, want %q", got, f.refused)
		}
		asked++
	}
	s.outgoing(written(ala, "jan@far.test", "good out", "Hello."), "250")
	if f.out != "" {
		if got := s.outgoing(f.out, "55"); !strings.Contains(got, f.refused) {
			s.t.Errorf("what people send is refused by %q, want %q", got, f.refused)
		}
		asked++
	}
	if !f.spared {
		asked++
	}
	s.idle(20 * time.Second)
	m, ok := came(p, "good.out@x.test")
	if !ok || !strings.Contains(string(m.Data), f.went) {
		s.t.Errorf("what went out lacks %q:\n%s", f.went, m.Data)
	}
	texts := s.texts(ala)
	if len(texts) != 2 || !strings.Contains(texts[0], f.came) {
		s.t.Errorf("%d messages came in, want 2, with %q:\n%s", len(texts), f.came, strings.Join(texts, "\n"))
	}
	if got := f.asked(s, false); got != asked {
		s.t.Errorf("%v questions are counted, want %v", got, asked)
	}
	if got := f.asked(s, true); got != 0 {
		s.t.Errorf("%v questions are counted as failed", got)
	}
	s.figure(fmt.Sprintf("poczta_filter_asked_seconds_count{filter=%q}", f.name), asked)
}

// asked counts the questions to the filter, all or those without an answer that the documentation
// tells people to watch.
func (f *outside) asked(s *server, failed bool) (sum float64) {
	s.t.Helper()
	for name, v := range s.figures() {
		if !strings.HasPrefix(name, "poczta_filter_asked_total{filter=\""+f.name+"\"") {
			continue
		}
		if !failed || strings.Contains(name, `outcome="unavailable"`) || strings.Contains(name, `outcome="timeout"`) {
			sum += v
		}
	}
	return sum
}

// goesOn tries a filter that is dead while mail is to pass.
func (s *server) goesOn(f *outside) {
	s.t.Helper()
	f.stop()
	failed := 1.0
	if got := s.fate(s.incoming(written("jan@far.test", ala, "in without", "Hello."), "250")); !strings.Contains(got, "filter_unavailable") || !strings.Contains(got, "deliver") {
		s.t.Errorf("the trace does not say that a filter is gone:\n%s", got)
	}
	got := s.fate(s.outgoing(written(ala, "jan@far.test", "out without", "Hello."), "250"))
	if !f.spared {
		failed++
		if !strings.Contains(got, "filter_unavailable") {
			s.t.Errorf("the trace of what went out does not say that a filter is gone:\n%s", got)
		}
	}
	if got := f.asked(s, true); got != failed {
		s.t.Errorf("%v questions are counted as without an answer, want %v", got, failed)
		s.figure("poczta_filter_asked_total{}", 1)
	}
	s.figure(`poczta_filter_evidence_total{name="filter_unavailable"}`, failed)
	s.figure(`poczta_filter_decisions_total{action="deliver",direction="incoming"}`, 1)
	if !strings.Contains(s.log.String(), "filter could not look at a message") {
		s.t.Error("the log does not warn of a filter that is gone")
	}
}

// waits tries a filter that is dead while mail is to wait, and then comes back.
func (s *server) waits(f *outside) {
	s.t.Helper()
	if got := s.incoming(written("jan@far.test", ala, "later", "Hello."), "451"); !strings.Contains(got, "4.7.1") {
		s.t.Errorf("mail that has to wait is answered %q", got)
	}
	then := "451"
	if f.spared {
		then = "250"
	}
	s.outgoing(written(ala, "jan@far.test", "out later", "Hello."), then)
	s.figure(`poczta_filter_decisions_total{action="defer",direction="incoming"}`, 1)
	if !f.spared {
		s.figure(`poczta_filter_decisions_total{action="defer",direction="outgoing"}`, 1)
	}
	if f.start == nil {
		return
	}
	f.start()
	s.incoming(written("jan@far.test", ala, "later", "Hello."), "250")
	s.outgoing(written(ala, "jan@far.test", "out later again", "Hello."), "250")
	if n := s.letters(ala); n != 4 {
		s.t.Errorf("%d messages are in the mailbox, want 4: what was put off came once", n)
	}
}

func withClamd(t *testing.T, _ *names) outside {
	socket, stop := scanner(t)
	return outside{name: "clamd", conf: fmt.Sprintf("[clamd]\naddress = %q\nwhen_down = \"accept\"", "unix:"+socket), stop: stop,
		in: written("jan@far.test", ala, "bad in", eicar()), out: written(ala, "jan@far.test", "bad out", eicar()), refused: "virus"}
}

func withRspamd(t *testing.T, _ *names) outside {
	r := rspamdtest.Start(t)
	stop := func() {
		for _, id := range append([]int{r.Process.Pid}, r.Workers()...) {
			if p, err := os.FindProcess(id); err == nil {
				_ = p.Kill()
			}
		}
		(&server{t: t, log: &lockedBuffer{}}).await("Rspamd is gone", 20*time.Second, func() bool {
			c, err := net.Dial("tcp", r.Check)
			if err == nil {
				_ = c.Close()
			}
			return err != nil
		})
	}
	return outside{name: "rspamd", conf: fmt.Sprintf("[rspamd]\nurl = \"http://%s\"\nobey = true\noutgoing = true\nwhen_down = \"accept\"", r.Check), stop: stop,
		in: written("jan@far.test", ala, "bad in", rspamdtest.GTUBE), out: written(ala, "jan@far.test", "bad out", rspamdtest.GTUBE), refused: "a filter of this server objects"}
}

// withOpenDKIM verifies what comes in, refusing broken signatures, and signs what goes out.
func withOpenDKIM(t *testing.T, _ *names) outside {
	dir := shortDir(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	file := keep(t, dir, "key", string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})))
	zone := keep(t, dir, "zone", fmt.Sprintf("s1._domainkey.far.test v=DKIM1; k=rsa; p=%s\n", base64.StdEncoding.EncodeToString(public)))
	socket := filepath.Join(dir, "s")
	conf := keep(t, dir, "conf", fmt.Sprintf("Mode sv\nAlwaysAddARHeader yes\nSyslog no\nRequireSafeKeys no\nAuthservID milter.test\nOn-BadSignature reject\nDomain %s\nSelector od\nKeyFile %s\nSocket local:%s\nTestDNSData file:%s\n",
		domain, file, socket, zone))
	p := newProgram(t, "unix", socket, "opendkim", "-f", "-x", conf)
	p.start()
	forged := strings.Replace(signedBy(t, key, "far.test", written("jan@far.test", ala, "bad in", "Hello.")), "Hello.", "Send money.", 1)
	return outside{name: "milter opendkim", conf: fmt.Sprintf("[[milter]]\nname = \"opendkim\"\naddress = %q\noutgoing = true\nwhen_down = \"accept\"", "unix:"+socket),
		start: p.start, stop: p.stop, in: forged, refused: "DKIM", came: "milter.test; dkim=none", went: "d=" + domain + "; s=od;"}
}

// withOpenDMARC asks a DNS of its own, in which alone far.test has a policy.
func withOpenDMARC(t *testing.T, _ *names) outside {
	dir := shortDir(t)
	socket := filepath.Join(dir, "s")
	resolv := nameserverOn53(t, dir, newNames(t, far(`_dmarc.strict.test. TXT "v=DMARC1; p=reject"`)...))
	conf := keep(t, dir, "conf", fmt.Sprintf("AuthservID milter.test\nRejectFailures true\nSyslog false\nSocket local:%s\n", socket))
	p := newProgram(t, "unix", socket, "unshare", "-m", "sh", "-c", `mount --bind "$1" /etc/resolv.conf && exec "$2" -f -c "$3"`, "sh", resolv, tool(t, "opendmarc"), conf)
	p.start()
	return outside{name: "milter opendmarc", conf: fmt.Sprintf("[[milter]]\nname = \"opendmarc\"\naddress = %q\nwhen_down = \"accept\"", "unix:"+socket),
		start: p.start, stop: p.stop, in: written("boss@strict.test", ala, "bad in", "Hello."), refused: "DMARC", came: "milter.test; dmarc=", spared: true}
}

// nameserverOn53 puts a name server on port 53 of a loopback address, and returns a resolv.conf that
// leads there. Only root can.
func nameserverOn53(t *testing.T, dir string, n *names) string {
	t.Helper()
	var conn net.PacketConn
	var err error
	host := ""
	for i := range 50 {
		host = fmt.Sprintf("127.54.%d.%d", os.Getpid()%250+1, i+1)
		if conn, err = net.ListenPacket("udp", host+":53"); err == nil {
			break
		}
	}
	if err != nil {
		if os.Getenv("POCZTA_REQUIRE_SERVICES") != "" {
			t.Fatal(err)
		}
		t.Skipf("skipped: no name server for the milter: %v", err)
	}
	ready, ended := make(chan struct{}), make(chan error, 1)
	s := &dns.Server{PacketConn: conn, Handler: n, NotifyStartedFunc: func() { close(ready) }}
	go func() { ended <- s.ActivateAndServe() }()
	<-ready
	t.Cleanup(func() { _ = s.Shutdown(); <-ended })
	return keep(t, dir, "resolv.conf", "nameserver "+host+"\noptions timeout:2 attempts:1\n")
}

// withHook asks an HTTP server of ours, which checks that the requests are signed.
func withHook(t *testing.T, _ *names) outside {
	const secret = "sixteen octets at least"
	dir := shortDir(t)
	socket, file := filepath.Join(dir, "s"), keep(t, dir, "secret", secret+"\n")
	handler := http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		stamp, sum, _ := strings.Cut(strings.TrimPrefix(q.Header.Get("Poczta-Signature"), "t="), ",v1=")
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write(append([]byte(stamp+"."), body...))
		var facts struct {
			Outgoing bool     `json:"outgoing"`
			Login    string   `json:"login"`
			To       []string `json:"recipients"`
			Header   string   `json:"header"`
		}
		if err != nil || hex.EncodeToString(mac.Sum(nil)) != sum || json.Unmarshal(body, &facts) != nil || len(facts.To) != 1 || facts.Outgoing != (facts.Login == ala) {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if strings.Contains(facts.Header, "Subject: bad") {
			_, _ = io.WriteString(w, `{"action": "refuse", "reason": "house rule 7"}`)
			return
		}
		_, _ = io.WriteString(w, `{"add_headers": [{"name": "X-Hook", "value": "seen"}]}`)
	})
	var running *http.Server
	ended := make(chan error, 1)
	start := func() {
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		running = &http.Server{Handler: handler}
		go func(s *http.Server) { ended <- s.Serve(l) }(running)
	}
	stop := func() {
		if running != nil {
			_ = running.Close()
			<-ended
			running = nil
		}
	}
	t.Cleanup(stop)
	start()
	return outside{name: "hook", conf: fmt.Sprintf("[hook]\nurl = \"unix:%s:/check\"\nsecret_file = %q\nsend = \"header\"\noutgoing = true\nwhen_down = \"accept\"", socket, file),
		start: start, stop: stop, in: written("jan@far.test", ala, "bad in", "Hello."), out: written(ala, "jan@far.test", "bad out", "Hello."), refused: "house rule 7", came: "X-Hook: seen", went: "X-Hook: seen"}
}
