package e2e_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/dsn"
	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/trace"
)

// Configuration of servers that send mail to other hosts in tests.
const (
	unlimited = "[submission]\nhourly_limit = 1000000\ndaily_limit = 1000000"
	unwatched = "[conduct]\nenabled = false" // for loads that no person would send
	ala       = "ala@" + domain
)

// hub is a route for all mail to one host of the test.
func hub(to netip.AddrPort) string {
	return fmt.Sprintf("[[relay.route]]\nname = \"hub\"\nhost = %q\ntls = \"none\"", to)
}

// relayPort is the port of other hosts in a test with DNS; no sum of freeBase meets it.
func (s *server) relayPort() int { return s.base + 26 }

// outward lets the server ask the names and deliver to loopback; relay is more of [relay].
func (s *server) outward(n *names, relay string) {
	s.configure(unlimited, "[conduct]\nenabled = false", fmt.Sprintf("[dns]\nservers = [%q]\ntimeout = \"2s\"", n.addr),
		fmt.Sprintf("[relay]\nport = %d\nallow_loopback = true\nfamilies = \"ipv4\"\n%s", s.relayPort(), relay))
}

// listenAt has a peer listen on an address of loopback.
func listenAt(t *testing.T, p *peer.Peer, addr string, port int) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(addr, fmt.Sprint(port)))
	if err != nil {
		t.Fatal(err)
	}
	p.Serve(l)
}

// names is a name server on loopback, with the faults that a test gives it.
type names struct {
	addr string

	mu     sync.Mutex
	secure bool                // set the AD bit, as a server that validates does
	zone   map[string][]dns.RR // by lower-case name with its dot
	silent map[string]bool     // names of which nothing is answered
	broken map[string]bool     // names that are answered SERVFAIL
	asked  map[string]int      // by name and type
}

// newNames starts a name server with records as in a zone file.
func newNames(t *testing.T, lines ...string) *names {
	t.Helper()
	n := &names{zone: map[string][]dns.RR{}, silent: map[string]bool{}, broken: map[string]bool{}, asked: map[string]int{}}
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		rr.Header().Ttl = 60
		n.zone[rr.Header().Name] = append(n.zone[rr.Header().Name], rr)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.addr = l.Addr().String()
	conn, err := net.ListenPacket("udp", n.addr)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{Listener: l, Handler: n}, {PacketConn: conn, Handler: n}} {
		ready, ended := make(chan struct{}), make(chan error, 1)
		s.NotifyStartedFunc = func() { close(ready) }
		go func() { ended <- s.ActivateAndServe() }()
		<-ready
		t.Cleanup(func() { _ = s.Shutdown(); <-ended })
	}
	return n
}

// ServeDNS answers a question.
func (n *names) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	n.mu.Lock()
	defer n.mu.Unlock()
	question := q.Question[0]
	name := strings.ToLower(question.Name)
	n.asked[name+" "+dns.TypeToString[question.Qtype]]++
	m := new(dns.Msg).SetReply(q)
	switch {
	case n.silent[name]:
		return
	case n.broken[name]:
		m.Rcode = dns.RcodeServerFailure
	default:
		n.answer(m, name, question.Qtype)
		m.AuthenticatedData = n.secure
	}
	if opt := q.IsEdns0(); w.LocalAddr().Network() == "udp" {
		size := dns.MinMsgSize
		if opt != nil {
			size = int(opt.UDPSize())
		}
		m.Truncate(size)
	}
	_ = w.WriteMsg(m)
}

// answer adds the records, following CNAMEs as far as a good server does.
func (n *names) answer(m *dns.Msg, name string, kind uint16) {
	for range 10 {
		next := ""
		for _, rr := range n.zone[name] {
			switch c, ok := rr.(*dns.CNAME); {
			case rr.Header().Rrtype == kind:
				m.Answer = append(m.Answer, rr)
			case ok:
				m.Answer = append(m.Answer, rr)
				next = c.Target
			}
		}
		if next == "" {
			break
		}
		name = next
	}
	if len(m.Answer) == 0 && len(n.zone[name]) == 0 {
		m.Rcode = dns.RcodeNameError
	}
}

// misbehave sets the names of which nothing is answered, and those that are answered SERVFAIL.
func (n *names) misbehave(silent, broken []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.silent)
	clear(n.broken)
	for _, name := range silent {
		n.silent[name] = true
	}
	for _, name := range broken {
		n.broken[name] = true
	}
}

// times is how often a question was asked.
func (n *names) times(question string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked[question]
}

// post is one message of ala's as a test submits it.
type post struct {
	id string // Message-ID without brackets
	to []string
}

// log is what was submitted, by Message-ID.
type log struct {
	mu    sync.Mutex
	tried map[string]post
	acked map[string]bool // got its 250
}

// accepted is how many messages got their 250.
func (l *log) accepted() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

func newLog() *log { return &log{tried: map[string]post{}, acked: map[string]bool{}} }

// login begins a session of ala's; nil when the server is gone.
func login(addr string) (net.Conn, *bufio.Reader) {
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second*patience)
	if err != nil {
		return nil, nil
	}
	_ = conn.SetDeadline(time.Now().Add(time.Minute * patience))
	r := bufio.NewReader(conn)
	if !converse(conn, r, "", "220") || !converse(conn, r, "EHLO client.test", "250") || !converse(conn, r, "AUTH PLAIN "+plain(ala, password), "235") {
		_ = conn.Close()
		return nil, nil
	}
	return conn, r
}

// submit sends one message in an open session and notes its 250.
func (l *log) submit(conn net.Conn, r *bufio.Reader, p post) bool {
	l.mu.Lock()
	l.tried[p.id] = p
	l.mu.Unlock()
	if !converse(conn, r, "MAIL FROM:<"+ala+">", "250") {
		return false
	}
	for _, to := range p.to {
		if !converse(conn, r, "RCPT TO:<"+to+">", "250") {
			return false
		}
	}
	text := "From: " + ala + "\r\nMessage-ID: <" + p.id + ">\r\nSubject: " + p.id + "\r\n\r\nFor everybody.\r\n."
	if !converse(conn, r, "DATA", "354") || !converse(conn, r, text, "250") {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked[p.id] = true
	return true
}

// send submits messages in one session; all must get their 250.
func (s *server) send(l *log, posts ...post) {
	s.t.Helper()
	conn, r := login(s.addr(587))
	if conn == nil {
		s.t.Fatalf("no login at %s\n%s", s.addr(587), s.log)
	}
	defer conn.Close()
	for _, p := range posts {
		if !l.submit(conn, r, p) {
			s.t.Fatalf("message %s was not accepted\n%s", p.id, s.log)
		}
	}
}

// copies is how often each recipient got each message from all peers, by Message-ID and address.
func copies(peers ...*peer.Peer) map[peer.Copy]int {
	all := map[peer.Copy]int{}
	for _, p := range peers {
		for c, n := range p.Copies() {
			all[peer.Copy{MessageID: strings.Trim(c.MessageID, "<>"), Rcpt: c.Rcpt}] += n
		}
	}
	return all
}

// idle waits until nothing is in the queue.
func (s *server) idle(limit time.Duration) {
	s.t.Helper()
	limit = max(limit*patience, time.Minute)
	deadline := time.Now().Add(limit)
	for {
		rows := s.list("queue", "list")
		if len(rows) == 0 {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("after %s the queue still has %d messages, the first is %v\n%s", limit, len(rows), rows[0], s.log)
		}
		<-time.After(50 * time.Millisecond)
	}
}

// returned is what notifications in ala's mailbox say, by Message-ID and recipient.
func (s *server) returned() map[peer.Copy][]dsn.ReturnedRecipient {
	s.t.Helper()
	c := dial(s.t, s.addr(110))
	c.expect("+OK")
	c.say("USER "+ala, "+OK")
	c.say("PASS "+password, "+OK")
	c.say("UIDL", "+OK")
	all := map[peer.Copy][]dsn.ReturnedRecipient{}
	for i := range c.lines() {
		c.say(fmt.Sprintf("RETR %d", i+1), "+OK")
		text := strings.Join(c.lines(), "\r\n") + "\r\n"
		report, err := dsn.Parse(strings.NewReader(text))
		if err != nil || report.Guessed {
			s.t.Fatalf("message %d is no notification for machines: %v\n%s", i+1, err, text)
		}
		id := ""
		for line := range strings.SplitSeq(string(report.Header), "\r\n") {
			if v, ok := strings.CutPrefix(line, "Message-ID: "); ok {
				id = strings.Trim(v, "<>")
			}
		}
		for _, r := range report.Recipients {
			key := peer.Copy{MessageID: id, Rcpt: r.Final}
			all[key] = append(all[key], r)
		}
	}
	c.say("QUIT", "+OK")
	return all
}

// open opens the index of a server that does not run.
func (s *server) open() db.Database {
	s.t.Helper()
	d, err := db.OpenSQLite(context.Background(), db.SQLiteConfig{Path: s.dir + "/data/poczta.db"})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = d.Close() })
	return d
}

// number is the one number that a query finds.
func number(t *testing.T, d db.Database, query string, args ...any) int64 {
	t.Helper()
	var n int64
	if err := d.View(context.Background(), func(tx db.Tx) error { return tx.QueryRow(query, args...).Scan(&n) }); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// settled wants the index of a stopped server to hold no queue, final fates, and no body but
// those in mailboxes, each with one reference.
func (s *server) settled() {
	s.t.Helper()
	d := s.open()
	for query, want := range map[string]int64{
		`SELECT COUNT(*) FROM queued_message`:                                                       0,
		`SELECT COUNT(*) FROM queued_recipient`:                                                     0,
		`SELECT COUNT(*) FROM body WHERE id NOT IN (SELECT body FROM entry)`:                        0,
		`SELECT COUNT(*) FROM body WHERE refs <> 1`:                                                 0,
		fmt.Sprintf(`SELECT COUNT(*) FROM trace WHERE state IN (%d, %d)`, trace.Queued, trace.Held): 0,
	} {
		if got := number(s.t, d, query); got != want {
			s.t.Errorf("%s: %d, want %d", query, got, want)
		}
	}
	if err := d.Close(); err != nil {
		s.t.Error(err)
	}
	if out, errOut, code := s.command("", "store", "check"); code != 0 {
		s.t.Errorf("store check: exit %d\n%s%s", code, out, errOut)
	}
}

// events are the details of what the trace noted of a message, in order.
func (s *server) events(id string) (all []string) {
	s.t.Helper()
	for _, row := range s.list("trace", id) {
		events, _ := row["events"].([]any)
		for _, e := range events {
			x := e.(map[string]any)
			all = append(all, fmt.Sprint(x["kind"], ": ", x["detail"]))
		}
	}
	return all
}

// fates are the states of a message's recipients in the trace, by recipient.
func (s *server) fates(id string) map[string]string {
	s.t.Helper()
	all := map[string]string{}
	for _, row := range s.list("trace", id) {
		for _, f := range row["fates"].([]any) {
			x := f.(map[string]any)
			all[fmt.Sprint(x["recipient"])] = fmt.Sprint(x["state"])
		}
	}
	return all
}
