package smtpclient

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"poczta.example/poczta/internal/smtp"
)

// Config is what a session needs to know.
type Config struct {
	// Hello is our name in EHLO: a domain or an address literal.
	Hello string
	// LMTP speaks LHLO, and expects a reply for each recipient (RFC 2033).
	LMTP bool
	// HELO leaves EHLO out, for servers that close the connection at it.
	HELO bool
	// Timeouts bound each step; zero fields have the values of RFC 5321 §4.5.3.2.
	Timeouts Timeouts
	// Dialogue records the session; nil records nothing.
	Dialogue *Dialogue
}

// Extensions is what the server offers.
type Extensions = smtp.Offer

// inputOctets is the size of a session's buffer for replies.
const inputOctets = 4 << 10

// Session is a client's session. It is used by one goroutine at a time; it owns no
// goroutine. After an error ask Usable. Whoever holds a session ends it with Quit or Close.
type Session struct {
	conn net.Conn
	raw  net.Conn // below TLS; its deadline ends waiting at any time
	came arrivals // of raw; nil when it can't tell
	cfg  Config
	tls  *tls.ConnectionState
	ext  Extensions

	parser smtp.ReplyParser
	buf    [inputOctets]byte
	r, w   int // buf[r:w] was read and not parsed

	armed     time.Time // the deadline in force
	limit     time.Time // no deadline goes beyond; zero for none
	cancelled atomic.Bool
	broken    bool
	reset     bool // a transaction is open: RSET comes before the next
	mails     int  // transactions since EHLO
}

// Open reads the server's greeting and says EHLO, with HELO as fallback, or LHLO. conn
// may be a *tls.Conn whose handshake is done (RFC 8314). When ctx ends, waiting ends.
// The error is an *Error; conn is then closed. A server that closes the connection at
// EHLO (StageHello, ErrHangup) may be tried again with Config.HELO.
func Open(ctx context.Context, conn net.Conn, cfg Config) (*Session, error) {
	cfg.Timeouts = cfg.Timeouts.withDefaults()
	s := &Session{conn: conn, raw: conn, cfg: cfg}
	if t, ok := conn.(*tls.Conn); ok {
		state := t.ConnectionState()
		s.tls, s.raw = &state, t.NetConn()
	}
	s.came = watch(s.raw)
	if !printable(cfg.Hello) || strings.ContainsAny(cfg.Hello, " <>") {
		_ = conn.Close()
		return nil, &Error{Stage: StageHello, Local: true, Err: ErrArgument}
	}
	end, err := s.begin(ctx, StageGreeting)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	err = end(s.greet())
	if err == nil && s.broken { // ctx ended as the last reply came
		err = &Error{Stage: StageHello, Local: true, Err: ctx.Err()}
	}
	if err != nil {
		s.fail()
		return nil, err
	}
	return s, nil
}

// greet waits for the greeting and says hello.
func (s *Session) greet() error {
	s.arm(StageGreeting)
	s.parser.Hello = true
	r, err := s.reply(StageGreeting)
	if err != nil {
		return err
	}
	if r.Code/100 != 2 {
		return s.refused(StageGreeting, r)
	}
	return s.hello()
}

// hello says EHLO or LHLO, and HELO when the server knows no EHLO (RFC 5321 §4.1.1.1).
func (s *Session) hello() error {
	s.ext, s.reset, s.mails = Extensions{}, false, 0
	word := "EHLO "
	switch {
	case s.cfg.LMTP:
		word = "LHLO "
	case s.cfg.HELO:
		word = "HELO "
	}
	r, err := s.sayHello(word)
	if err == nil && r.Code/100 == 5 && word == "EHLO " {
		word = "HELO "
		r, err = s.sayHello(word)
	}
	switch {
	case err != nil:
		return err
	case r.Code/100 != 2:
		return s.refused(StageHello, r)
	case word == "HELO ":
		s.ext.Name, _, _ = strings.Cut(r.Text, " ")
	default:
		s.ext = smtp.ParseOffer(r.Text)
	}
	return nil
}

func (s *Session) sayHello(word string) (smtp.Reply, error) {
	s.parser.Hello = true
	defer func() { s.parser.Hello = false }()
	return s.ask(StageHello, word+s.cfg.Hello)
}

// Extensions returns what the server offered in its last reply to EHLO or LHLO.
func (s *Session) Extensions() Extensions { return s.ext }

// TLS returns the state of the connection's TLS; nil without.
func (s *Session) TLS() *tls.ConnectionState { return s.tls }

// Usable reports whether the session can go on: the connection is open as far as is
// known, and the server did not say 421.
func (s *Session) Usable() bool { return !s.broken }

// Full reports whether the server takes no more transactions in this session
// (RFC 9422, MAILMAX).
func (s *Session) Full() bool { return s.ext.MailMax > 0 && s.mails >= s.ext.MailMax }

// Conn returns the connection, for its addresses.
func (s *Session) Conn() net.Conn { return s.conn }

// Reset says RSET (RFC 5321 §4.1.1.5): it ends a transaction that was not completed, and
// shows whether the server is still there. Send does so by itself where it must. The
// error is an *Error.
func (s *Session) Reset(ctx context.Context) error {
	end, err := s.begin(ctx, StageReset)
	if err != nil {
		return err
	}
	r, err := s.ask(StageReset, "RSET")
	if err == nil {
		err = s.tookReset(r)
	}
	return end(err)
}

// tookReset judges the reply to RSET.
func (s *Session) tookReset(r smtp.Reply) error {
	if r.Code/100 != 2 {
		return s.protocol(StageReset, r)
	}
	s.reset = false
	return nil
}

// Quit says QUIT, waits for the reply for Timeouts.Quit, and closes the connection,
// whatever the server answers. The error says that it did not answer 221 (RFC 5321
// §4.1.1.10); nothing depends on it.
func (s *Session) Quit(ctx context.Context) error {
	end, err := s.begin(ctx, StageQuit)
	if err != nil {
		return err
	}
	r, err := s.ask(StageQuit, "QUIT")
	if err == nil && r.Code/100 != 2 {
		err = s.refused(StageQuit, r)
	}
	err = end(err)
	return errors.Join(err, s.Close())
}

// Close closes the connection without QUIT; harmless twice. An open transaction is
// dropped by the server.
func (s *Session) Close() error {
	if s.broken {
		return nil
	}
	s.broken = true
	return s.raw.Close()
}

// printable reports whether v is not empty and ASCII without controls.
func printable(v string) bool {
	for i := range len(v) {
		if v[i] < ' ' || v[i] > '~' {
			return false
		}
	}
	return v != ""
}
