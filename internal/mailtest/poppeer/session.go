package poppeer

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"poczta.example/poczta/internal/pop3"
)

// session is one connection.
type session struct {
	p     *Peer
	conn  net.Conn
	n     int // number of the connection
	r     *bufio.Reader
	w     *bufio.Writer
	tls   *tls.ConnectionState
	count map[Stage]int

	user   string
	in     bool // logged in
	lock   bool
	drop   []Message // as it was at login
	marked []bool
}

func newSession(p *Peer, conn net.Conn, n int) *session {
	s := &session{p: p, n: n, count: map[Stage]int{}}
	s.use(conn)
	return s
}

func (s *session) use(conn net.Conn) {
	s.conn, s.r, s.w = conn, bufio.NewReader(conn), bufio.NewWriterSize(conn, 16<<10)
}

// run serves the connection until it ends.
func (s *session) run() {
	s.serve()
	_ = s.w.Flush() // what was said before leaves, if it can
	if s.lock {
		s.p.mu.Lock()
		s.p.locked = false
		s.p.mu.Unlock()
	}
}

func (s *session) serve() {
	if f := s.rule(Connect, ""); f != nil && !s.act(f, nil) {
		return
	}
	if s.p.cfg.ImplicitTLS && !s.handshake() {
		return
	}
	if !s.answer(Greeting, "", "+OK peer.example POP3") {
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
	case "CAPA":
		return s.capa()
	case "QUIT":
		return s.quit()
	case "NOOP":
		return s.answer(Noop, arg, "+OK nothing done")
	}
	if s.in {
		return s.transaction(verb, arg)
	}
	switch verb {
	case "STLS":
		return s.startTLS()
	case "UTF8":
		return s.answer(UTF8, arg, "+OK UTF-8 it is")
	case "AUTH":
		return s.auth(arg)
	case "USER":
		s.user = arg
		return s.answer(User, arg, "+OK password?")
	case "PASS":
		return s.enter(Pass, arg, "USER", s.user == s.p.cfg.Login && arg == s.p.cfg.Password)
	}
	return s.say("-ERR unknown command or wrong state")
}

// transaction does a command of the TRANSACTION state.
func (s *session) transaction(verb, arg string) bool {
	switch verb {
	case "STAT":
		n, octets := 0, 0
		for i, m := range s.drop {
			if !s.marked[i] {
				n, octets = n+1, octets+len(m.Data)
			}
		}
		return s.answer(Stat, arg, fmt.Sprintf("+OK %d %d", n, octets))
	case "LIST":
		return s.listing(List, arg, func(m Message) string { return strconv.Itoa(len(m.Data)) })
	case "UIDL":
		if s.p.cfg.NoUIDL {
			return s.answer(Uidl, arg, "-ERR no UIDL here")
		}
		return s.listing(Uidl, arg, func(m Message) string { return m.ID })
	case "RETR":
		return s.text(Retr, arg, -1)
	case "TOP":
		number, lines, _ := strings.Cut(arg, " ")
		n, err := strconv.Atoi(lines)
		if err != nil || s.p.cfg.NoTOP {
			return s.answer(Top, number, "-ERR no such TOP here")
		}
		return s.text(Top, number, n)
	case "DELE":
		return s.dele(arg)
	case "RSET":
		clear(s.marked)
		return s.answer(Rset, arg, "+OK forgotten")
	}
	return s.say("-ERR unknown command or wrong state")
}

// rule looks for the fault at a stage.
func (s *session) rule(stage Stage, arg string) *Fault {
	s.count[stage]++
	return s.p.rule(stage, s.n, s.count[stage], arg)
}

// say sends a reply when the client waits for it.
func (s *session) say(line string) bool {
	_, err := s.w.WriteString(line + "\r\n")
	return err == nil
}

// reply is what is usual at a stage.
type reply struct {
	status string
	multi  bool
	lines  []string
	text   []byte // stuffed, in place of lines
}

// dot ends a reply of many lines.
const dot = ".\r\n"

// octets makes the reply as the fault wants it.
func (r *reply) octets(f *Fault) []byte {
	b := []byte(r.status + "\r\n")
	if !r.multi || r.status[0] != '+' {
		return b
	}
	b = append(b, r.text...)
	lines := r.lines
	if f != nil && f.Edit != nil && r.text == nil {
		lines = f.Edit(lines)
	}
	for _, l := range lines {
		if strings.HasPrefix(l, ".") {
			b = append(b, '.')
		}
		b = append(append(b, l...), '\r', '\n')
	}
	if f != nil && f.NoDot {
		return b
	}
	return append(b, dot...)
}

// answer gives the usual reply or what a rule has in its place; false ends the connection.
func (s *session) answer(stage Stage, arg, usual string) bool {
	_, ok := s.decide(stage, arg, reply{status: usual})
	return ok
}

// decide is answer that tells whether the client was told yes.
func (s *session) decide(stage Stage, arg string, usual reply) (yes, ok bool) {
	f := s.rule(stage, arg)
	if f == nil {
		_, err := s.w.Write(usual.octets(nil))
		return usual.status[0] == '+', err == nil
	}
	return f.positive() && (usual.status[0] == '+' || !f.Usual), s.act(f, &usual)
}

// act does what a fault says; false ends the connection. What needs no time leaves in one
// piece with the replies around it, so that a client that reads any of it can see it all.
func (s *session) act(f *Fault, usual *reply) bool {
	if !f.atOnce() && s.w.Flush() != nil {
		return false
	}
	if f.Delay != 0 && !s.wait(f.Delay) {
		return false
	}
	if f.Flood != 0 && !s.flood(f) {
		return false
	}
	if f.Usual && usual != nil && !s.drip(f, usual.octets(f)) {
		return false
	}
	if len(f.Lines) > 0 && !s.drip(f, []byte(strings.Join(f.Lines, "\r\n")+"\r\n")) {
		return false
	}
	if len(f.Raw) > 0 && !s.drip(f, f.Raw) {
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

// drip sends octets, slowly if the fault says so.
func (s *session) drip(f *Fault, b []byte) bool {
	if f.Drip == 0 {
		_, err := s.w.Write(b)
		return err == nil
	}
	for i := range b {
		if _, err := s.conn.Write(b[i : i+1]); err != nil || !s.wait(f.Drip) {
			return false
		}
	}
	return true
}

// flood sends lines that are too many, or never end.
func (s *session) flood(f *Fault) bool {
	if f.Flood < 0 && !s.drip(f, []byte("+OK ")) {
		return false
	}
	line := bytes.Repeat([]byte("x"), 500)
	if !f.OneLine {
		line = append([]byte("flood\r\n1 "), append(line, '\r', '\n')...)
	}
	for sent := int64(0); f.Flood < 0 || sent < f.Flood; sent += int64(len(line)) {
		if !s.drip(f, line) {
			return false
		}
	}
	return true
}

// capa answers CAPA.
func (s *session) capa() bool {
	if s.p.cfg.NoCAPA {
		return s.answer(Capa, "", "-ERR no CAPA here")
	}
	lines := append([]string(nil), s.p.cfg.Capabilities...)
	if s.in && s.p.cfg.Later != nil {
		lines = append([]string(nil), s.p.cfg.Later...)
	}
	if s.p.cfg.TLS != nil && s.tls == nil {
		lines = append(lines, "STLS")
	}
	if len(s.p.cfg.Mechanisms) > 0 {
		lines = append(lines, "SASL "+strings.Join(s.p.cfg.Mechanisms, " "))
	}
	_, ok := s.decide(Capa, "", reply{status: "+OK what there is", multi: true, lines: lines})
	return ok
}

// startTLS answers STLS and does the handshake.
func (s *session) startTLS() bool {
	usual := "+OK go on"
	if s.p.cfg.TLS == nil || s.tls != nil {
		usual = "-ERR no STLS here"
	}
	yes, ok := s.decide(Stls, "", reply{status: usual})
	if !ok || !yes || usual[0] != '+' {
		return ok
	}
	return s.handshake()
}

func (s *session) handshake() bool {
	if f := s.rule(Handshake, ""); f != nil {
		if !s.act(f, nil) || !f.Usual {
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
	s.tls, s.user = &state, ""
	s.use(t)
	return true
}

// enter answers what ends a login, and opens the maildrop.
func (s *session) enter(stage Stage, arg, how string, right bool) bool {
	usual := "+OK maildrop is yours"
	s.p.mu.Lock()
	switch {
	case !right:
		usual = "-ERR [AUTH] who?"
	case s.p.cfg.Exclusive && s.p.locked:
		usual = "-ERR [IN-USE] another session has it"
	}
	s.p.mu.Unlock()
	yes, ok := s.decide(stage, arg, reply{status: usual})
	if !yes {
		return ok
	}
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.in = true
	s.lock = s.p.cfg.Exclusive
	s.p.locked = s.p.locked || s.lock
	s.p.logins = append(s.p.logins, how)
	s.drop = append([]Message(nil), s.p.drop...)
	s.marked = make([]bool, len(s.drop))
	return ok
}

// find returns the index of a message that is not marked.
func (s *session) find(arg string) (int, bool) {
	n, err := strconv.Atoi(arg)
	return n - 1, err == nil && n >= 1 && n <= len(s.drop) && !s.marked[n-1]
}

// listing answers LIST and UIDL.
func (s *session) listing(stage Stage, arg string, word func(Message) string) bool {
	if arg != "" {
		i, found := s.find(arg)
		if !found {
			return s.answer(stage, arg, "-ERR no such message")
		}
		return s.answer(stage, arg, "+OK "+arg+" "+word(s.drop[i]))
	}
	var lines []string
	for i, m := range s.drop {
		if !s.marked[i] {
			lines = append(lines, strconv.Itoa(i+1)+" "+word(m))
		}
	}
	_, ok := s.decide(stage, arg, reply{status: "+OK listing follows", multi: true, lines: lines})
	return ok
}

// dele answers DELE.
func (s *session) dele(arg string) bool {
	i, found := s.find(arg)
	if !found {
		return s.answer(Dele, arg, "-ERR no such message")
	}
	yes, ok := s.decide(Dele, arg, reply{status: "+OK marked"})
	s.marked[i] = yes
	return ok
}

// text answers RETR and TOP.
func (s *session) text(stage Stage, number string, lines int) bool {
	i, found := s.find(number)
	if !found {
		return s.answer(stage, number, "-ERR no such message")
	}
	data := s.drop[i].Data
	if lines >= 0 {
		n, _ := pop3.NewTopCutter(int64(lines)).Cut(data)
		data = data[:n]
	}
	var stuffer pop3.Stuffer
	text := stuffer.Append(nil, data)
	end := stuffer.End(nil)
	usual := reply{status: fmt.Sprintf("+OK %d octets", len(data)), multi: true, text: append(text[:len(text):len(text)], end[:len(end)-len(dot)]...)}
	if f := s.rule(stage, number); f != nil {
		if !s.act(f, &usual) {
			return false
		}
	} else if !s.say(usual.status) || !s.body(number, usual.text) {
		return false
	}
	if stage == Retr {
		s.p.mu.Lock()
		s.p.given[s.drop[i].ID]++
		s.p.mu.Unlock()
	}
	return true
}

// body sends a text and its end, with what a rule has for the middle of it.
func (s *session) body(number string, text []byte) bool {
	end := dot
	if f := s.rule(Body, number); f != nil {
		cut := int(min(f.After, int64(len(text))))
		if f.NoDot {
			end = ""
		}
		if _, err := s.w.Write(text[:cut]); err != nil {
			return false
		}
		text = text[cut:]
		if !s.act(f, nil) {
			return false
		}
		if f.Drip > 0 && f.Flood == 0 {
			return s.drip(f, text) && s.drip(f, []byte(end))
		}
	}
	if _, err := s.w.Write(text); err != nil {
		return false
	}
	_, err := s.w.WriteString(end)
	return err == nil
}

// quit removes what is marked, as far as it should, and answers.
func (s *session) quit() bool {
	f := s.rule(Quit, "")
	removed := -1
	if f != nil {
		removed = f.Removed
	}
	s.p.mu.Lock()
	for i, m := range s.drop {
		if s.marked[i] && removed != 0 {
			removed--
			s.p.remove(m.ID)
		}
	}
	s.p.mu.Unlock()
	if f == nil {
		_ = s.say("+OK goodbye") // the connection ends in any case
	} else {
		s.act(f, &reply{status: "+OK goodbye"})
	}
	return false
}

// remove takes a message out of the maildrop; p.mu is held.
func (p *Peer) remove(id string) {
	for i, m := range p.drop {
		if m.ID == id {
			p.drop = append(p.drop[:i:i], p.drop[i+1:]...)
			p.deleted = append(p.deleted, id)
			return
		}
	}
}
