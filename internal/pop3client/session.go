package pop3client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"
)

// Limits on what a server may send.
const (
	MaxItems         = 2_000_000       // messages of a listing
	MaxMessageOctets = int64(2) << 30  // octets of one message
	MaxUniqueID      = 255             // octets of a unique-id; RFC 1939 §7 has 70, which some servers exceed
	maxLine          = 16 << 10        // octets of a line but those of messages: a challenge may have 12288
	maxCapabilities  = 200             // lines of CAPA
	inputOctets      = 256 << 10       // the buffer
	commandTLS       = "TLS handshake" // Error.Command of a handshake
)

// Config is what a session needs to know. The zero value is ready.
type Config struct {
	// Timeouts bound each step.
	Timeouts Timeouts
	// Plaintext lets Login show password or token without TLS.
	Plaintext bool
	// UTF8 asks for UTF8 (RFC 6856) at login where it is offered: headers may then come as
	// RFC 6532 has them, instead of a surrogate.
	UTF8 bool
	// Host and Port are the server's, for OAUTHBEARER, which tells them.
	Host string
	Port int
	// MaxItems and MaxMessageOctets replace the limits of these names; 0 means those.
	MaxItems         int
	MaxMessageOctets int64
	// Dialogue records the session; nil records nothing.
	Dialogue *Dialogue
}

// Session is a client's session. It is used by one goroutine at a time; it owns no
// goroutine. After an error ask Usable. Whoever holds a session ends it with Quit or Close.
type Session struct {
	conn net.Conn
	raw  net.Conn // below TLS; its deadline ends waiting at any time
	cfg  Config
	tls  *tls.ConnectionState

	greeting string
	caps     Capabilities
	asked    bool // CAPA, in this state
	utf8     bool
	loggedIn bool
	marked   int // messages marked as deleted
	sizes    []size

	buf    []byte // buf[r:w] was read and not taken
	r, w   int
	bareLF bool // the last status line was ended by LF alone
	out    []byte
	body   body

	idle      time.Duration // how long the reply may take, or a pause in what flows
	flows     bool
	spent     time.Duration // waited for the reply so far
	came      int64         // octets of what flows
	armed     time.Time     // the deadline in force
	cancelled atomic.Bool
	broken    bool
}

// Open reads the server's greeting. conn may be a *tls.Conn whose handshake is done
// (RFC 8314). When ctx ends, waiting ends. The error is an *Error; conn is then closed.
func Open(ctx context.Context, conn net.Conn, cfg Config) (*Session, error) {
	cfg.Timeouts = cfg.Timeouts.withDefaults()
	if cfg.MaxItems <= 0 {
		cfg.MaxItems = MaxItems
	}
	if cfg.MaxMessageOctets <= 0 {
		cfg.MaxMessageOctets = MaxMessageOctets
	}
	s := &Session{conn: conn, raw: conn, cfg: cfg, buf: make([]byte, inputOctets)}
	s.body.s = s
	if t, ok := conn.(*tls.Conn); ok {
		state := t.ConnectionState()
		s.tls, s.raw = &state, t.NetConn()
	}
	end, err := s.begin(ctx, "greeting")
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	s.watch(cfg.Timeouts.Greeting)
	r, err := s.reply("greeting", 0)
	if err == nil {
		s.greeting = r.Text
		err = s.positive("greeting", 0, r)
	}
	if err = end(err); err != nil {
		s.fail()
		return nil, err
	}
	return s, nil
}

// Greeting returns the text of the server's greeting, for people.
func (s *Session) Greeting() string { return s.greeting }

// TLS returns the state of the connection's TLS; nil without.
func (s *Session) TLS() *tls.ConnectionState { return s.tls }

// UTF8 reports whether the session is in UTF-8 mode (RFC 6856).
func (s *Session) UTF8() bool { return s.utf8 }

// Usable reports whether the session can go on: the connection is open as far as is known,
// and what the server says can be told apart.
func (s *Session) Usable() bool { return !s.broken }

// Conn returns the connection, for its addresses.
func (s *Session) Conn() net.Conn { return s.conn }

// Noop says NOOP, so that the server does not log the session out. The error is an *Error.
func (s *Session) Noop(ctx context.Context) error { return s.command(ctx, "NOOP") }

// Reset says RSET: no message is marked as deleted any more. The error is an *Error.
func (s *Session) Reset(ctx context.Context) error {
	err := s.command(ctx, "RSET")
	if err == nil {
		s.marked = 0
	}
	return err
}

// command says a command that has a reply of one line.
func (s *Session) command(ctx context.Context, line string) error {
	end, err := s.begin(ctx, line)
	if err != nil {
		return err
	}
	return end(s.ask(line, s.cfg.Timeouts.Command))
}

// Quit says QUIT, waits for the reply, and closes the connection, whatever comes. Nil means
// that all messages that were marked as deleted are removed (RFC 1939 §6). If some were
// marked, the error wraps ErrNotRemoved when the server refused, and ErrRemovalUnknown when
// it did not answer; the messages may then be there or not.
func (s *Session) Quit(ctx context.Context) error {
	end, err := s.begin(ctx, "QUIT")
	if err != nil {
		return err
	}
	patience := s.cfg.Timeouts.Bye
	if s.marked > 0 {
		patience = s.cfg.Timeouts.Quit
	}
	err = s.ask("QUIT", patience)
	if err == nil && s.marked > 0 {
		err = s.over()
	}
	s.r = s.w
	err = end(err)
	if e, ok := errors.AsType[*Error](err); ok && s.marked > 0 {
		what, cause := ErrRemovalUnknown, e.Err
		if e.Refused && !errors.Is(err, ErrUnsolicited) {
			what = ErrNotRemoved
		}
		if e.Err = what; cause != nil {
			e.Err = fmt.Errorf("%w: %w", what, cause)
		}
	}
	s.fail()
	return err
}

// over waits a moment for the server to close the connection. Another reply shows that the
// one before was not QUIT's.
func (s *Session) over() error {
	s.watch(lastWordsTimeout)
	for s.r == s.w {
		if s.fill() != nil {
			return nil // closed, or silent: in any case nothing more was said
		}
	}
	return s.quiet("QUIT")
}

// Close closes the connection without QUIT; harmless twice. Nothing is removed.
func (s *Session) Close() error {
	if s.broken {
		return nil
	}
	s.broken = true
	return s.raw.Close()
}
