package peer

import (
	"bufio"
	"crypto/tls"
	"net"
	"slices"
	"strings"
	"time"

	"poczta.example/poczta/internal/sasl"
)

// session is one connection.
type session struct {
	p    *Peer
	conn net.Conn
	n    int // number of the connection
	r    *bufio.Reader
	w    *bufio.Writer
	tls  *tls.ConnectionState

	helo, login string
	mail        int // number of the transaction
	tx          *transaction
}

// transaction is an open mail transaction.
type transaction struct {
	from, params string
	rcpts        []Recipient
	tried        int // RCPT commands
	chunks       []byte
	chunked      bool
	broken       bool // a BDAT was refused
}

func newSession(p *Peer, conn net.Conn, n int) *session {
	s := &session{p: p, n: n}
	s.use(conn)
	return s
}

func (s *session) use(conn net.Conn) {
	s.conn, s.r, s.w = conn, bufio.NewReader(conn), bufio.NewWriter(conn)
}

// run serves the connection until it ends.
func (s *session) run() {
	s.serve()
	_ = s.w.Flush() // what was said before leaves, if it can
}

func (s *session) serve() {
	if f := s.rule(Connect, ""); f != nil && !s.act(f, "") {
		return
	}
	if s.p.cfg.ImplicitTLS && !s.handshake() {
		return
	}
	if !s.answer(Greeting, "", "220 "+s.p.cfg.Name+" ESMTP") {
		return
	}
	for {
		if s.r.Buffered() == 0 && s.w.Flush() != nil {
			return
		}
		line, err := s.r.ReadString('\n')
		if err != nil {
			return
		}
		verb, arg, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		if !s.command(strings.ToUpper(verb), arg) {
			return
		}
	}
}

// command does one command; false ends the connection.
func (s *session) command(verb, arg string) bool {
	switch verb {
	case "EHLO", "HELO", "LHLO":
		return s.hello(verb, arg)
	case "STARTTLS":
		return s.startTLS()
	case "AUTH":
		return s.auth(arg)
	case "MAIL":
		return s.mailFrom(arg)
	case "RCPT":
		return s.rcptTo(arg)
	case "DATA":
		return s.data()
	case "BDAT":
		return s.bdat(arg)
	case "RSET":
		s.tx = nil
		return s.answer(Reset, arg, "250 2.0.0 forgotten")
	case "NOOP":
		return s.say("250 2.0.0 nothing done")
	case "QUIT":
		s.answer(Quit, arg, "221 2.0.0 goodbye")
		return false
	}
	return s.say("500 5.5.1 unknown command")
}

// rule looks for the fault at a stage.
func (s *session) rule(stage Stage, arg string) *Fault {
	m := moment{stage: stage, conn: s.n, mail: s.mail, arg: arg}
	if s.tx != nil {
		m.rcpt = s.tx.tried
	}
	return s.p.rule(m)
}

// say sends a reply when the client waits for it, lines parted by "\n".
func (s *session) say(text string) bool {
	_, err := s.w.WriteString(strings.ReplaceAll(text, "\n", "\r\n") + "\r\n")
	return err == nil
}

// answer gives the usual reply or what a rule has in its place; false ends the connection.
func (s *session) answer(stage Stage, arg, usual string) bool {
	_, ok := s.decide(stage, arg, usual)
	return ok
}

// decide is answer that tells whether the client was told yes.
func (s *session) decide(stage Stage, arg, usual string) (yes, ok bool) {
	f := s.rule(stage, arg)
	if f == nil {
		return usual[0] < '4', s.say(usual)
	}
	return f.positive() && (usual[0] < '4' || !f.Usual), s.act(f, usual)
}

// act does what a fault says; false ends the connection. What needs no time leaves in one
// piece with the replies around it, so that a client that reads any of it can see it all.
func (s *session) act(f *Fault, usual string) bool {
	if !f.atOnce() && s.w.Flush() != nil {
		return false
	}
	if f.Delay != 0 && !s.wait(f.Delay) {
		return false
	}
	if f.Flood != 0 && !s.flood(f) {
		return false
	}
	if f.Usual && usual != "" && !s.drip(f, strings.ReplaceAll(usual, "\n", "\r\n")+"\r\n") {
		return false
	}
	if len(f.Lines) > 0 && !s.drip(f, strings.Join(f.Lines, "\r\n")+"\r\n") {
		return false
	}
	if len(f.Raw) > 0 && !s.drip(f, string(f.Raw)) {
		return false
	}
	if c, ok := s.conn.(interface{ SetLinger(sec int) error }); ok && f.RST {
		_ = c.SetLinger(0)
	}
	return !f.Close && !f.RST && (f.atOnce() || s.w.Flush() == nil)
}

// wait lets time pass, for ever when it is negative; false when the peer is closed meanwhile.
func (s *session) wait(d time.Duration) bool {
	var timer <-chan time.Time
	if d >= 0 {
		timer = time.After(d)
	}
	select {
	case <-timer:
		return true
	case <-s.p.Done():
		return false
	}
}

// drip sends text, slowly if the fault says so.
func (s *session) drip(f *Fault, text string) bool {
	if f.Drip == 0 {
		_, err := s.w.WriteString(text)
		return err == nil
	}
	for i := range len(text) {
		if _, err := s.conn.Write([]byte{text[i]}); err != nil || !s.wait(f.Drip) {
			return false
		}
	}
	return true
}

// flood sends a reply that is too long, or never ends.
func (s *session) flood(f *Fault) bool {
	line := "250-" + strings.Repeat("x", 500) + "\r\n"
	if f.OneLine {
		if !s.drip(f, "250-") {
			return false
		}
		line = strings.Repeat("x", 500)
	}
	for sent := int64(0); f.Flood < 0 || sent < f.Flood; sent += int64(len(line)) {
		if !s.drip(f, line) {
			return false
		}
	}
	return true
}

// hello answers EHLO, HELO and LHLO.
func (s *session) hello(verb, arg string) bool {
	usual := "250 " + s.p.cfg.Name
	switch {
	case s.p.cfg.LMTP != (verb == "LHLO"), verb == "EHLO" && s.p.cfg.NoEHLO:
		usual = "502 5.5.1 not here"
	case verb != "HELO":
		usual = ehloText(append([]string{s.p.cfg.Name + " greets " + arg}, s.offer()...))
	}
	yes, ok := s.decide(Hello, verb+" "+arg, usual)
	if yes {
		s.helo, s.tx = arg, nil
	}
	return ok
}

func (s *session) offer() []string {
	lines := slices.Clone(s.p.cfg.Extensions)
	if s.p.cfg.TLS != nil && s.tls == nil {
		lines = append(lines, "STARTTLS")
	}
	if s.p.cfg.Login != "" {
		lines = append(lines, "AUTH "+strings.Join(s.mechanisms(), " "))
	}
	return lines
}

func ehloText(lines []string) string {
	for i := range lines {
		sep := "-"
		if i == len(lines)-1 {
			sep = " "
		}
		lines[i] = "250" + sep + lines[i]
	}
	return strings.Join(lines, "\n")
}

// startTLS answers STARTTLS and does the handshake.
func (s *session) startTLS() bool {
	usual := "220 2.0.0 go on"
	if s.p.cfg.TLS == nil || s.tls != nil {
		usual = "502 5.5.1 not here"
	}
	yes, ok := s.decide(StartTLS, "", usual)
	if !ok || !yes || usual[0] != '2' {
		return ok
	}
	return s.handshake()
}

func (s *session) handshake() bool {
	if f := s.rule(Handshake, ""); f != nil {
		if !s.act(f, "") || !f.Usual {
			return false
		}
	}
	if s.w.Flush() != nil {
		return false
	}
	t := tls.Server(s.conn, s.p.cfg.TLS)
	if t.Handshake() != nil {
		return false
	}
	state := t.ConnectionState()
	s.tls, s.helo, s.tx = &state, "", nil
	s.use(t)
	return true
}

// mailFrom answers MAIL.
func (s *session) mailFrom(arg string) bool {
	path, params, found := cutCommand(arg, "FROM:")
	usual := "250 2.1.0 sender fine"
	switch {
	case !found:
		usual = "501 5.5.2 syntax"
	case s.helo == "":
		usual = "503 5.5.1 say EHLO first"
	case s.tx != nil:
		usual = "503 5.5.1 a transaction is open"
	default:
		s.p.mu.Lock()
		s.p.mails++
		s.mail = s.p.mails
		s.p.mu.Unlock()
	}
	yes, ok := s.decide(Mail, arg, usual)
	if yes {
		s.tx = &transaction{from: path, params: params}
	}
	return ok
}

// rcptTo answers RCPT.
func (s *session) rcptTo(arg string) bool {
	path, params, found := cutCommand(arg, "TO:")
	usual := "250 2.1.5 recipient fine"
	switch {
	case !found:
		usual = "501 5.5.2 syntax"
	case s.tx == nil:
		return s.say("503 5.5.1 MAIL first")
	}
	s.tx.tried++
	yes, ok := s.decide(Rcpt, arg, usual)
	if yes {
		s.tx.rcpts = append(s.tx.rcpts, Recipient{path, params})
	}
	return ok
}

// cutCommand parts "FROM:<path> params".
func cutCommand(arg, word string) (path, params string, ok bool) {
	if len(arg) < len(word) || !strings.EqualFold(arg[:len(word)], word) {
		return "", "", false
	}
	path, params, ok = strings.Cut(strings.TrimPrefix(arg[len(word):], "<"), ">")
	return path, strings.TrimSpace(params), ok
}

// options are what package sasl needs to know.
func (s *session) options() sasl.Options {
	return sasl.Options{Verifier: account{s.p.cfg.Login, s.p.cfg.Password}, TLS: s.tls != nil, Binding: sasl.BindingOf(s.tls, nil), PlaintextAllowed: true}
}

func (s *session) mechanisms() []string {
	if s.p.cfg.Mechanisms != nil {
		return s.p.cfg.Mechanisms
	}
	return sasl.Mechanisms(s.options())
}
