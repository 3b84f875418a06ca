package line

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/mua/profile"
)

// trialGreeting is how long a server may be silent at first while somebody waits for a trial of
// it. A port that begins with TLS says nothing until we do.
const trialGreeting = 15 * time.Second

// Trial returns Lines that wait for a greeting as long as somebody does who is setting up an
// account, which is less than a fetch has patience for.
func (l *Lines) Trial() *Lines {
	c := l.c
	if c.POP3.Greeting == 0 {
		c.POP3.Greeting = trialGreeting
	}
	if c.SMTP.Greeting == 0 {
		c.SMTP.Greeting = trialGreeting
	}
	return &Lines{c: c}
}

// trouble is an error in words that say what can be done; what it was is beneath.
type trouble struct {
	text string
	err  error
}

func (t *trouble) Error() string { return t.text }
func (t *trouble) Unwrap() error { return t.err }

// refusals are the system's words for a port where nobody listens: POSIX's, and Windows'
// WSAECONNREFUSED.
var refusals = []error{syscall.ECONNREFUSED, syscall.Errno(10061)}

// unreached explains why there is no connection.
func unreached(s *profile.Server, err error) error {
	place := net.JoinHostPort(s.Host, strconv.Itoa(int(s.Port)))
	dns, ok := errors.AsType[*net.DNSError](err)
	var late interface{ Timeout() bool }
	switch {
	case errors.Is(err, context.Canceled):
	case ok && dns.IsNotFound:
		return &trouble{fmt.Sprintf("there is no host named %s: look how it is spelled", s.Host), err}
	case errors.Is(err, refusals[0]), errors.Is(err, refusals[1]):
		return &trouble{fmt.Sprintf("nobody listens at %s: look whether host and port are right", place), err}
	case errors.Is(err, os.ErrDeadlineExceeded), !ok && errors.As(err, &late) && late.Timeout():
		return &trouble{fmt.Sprintf("no answer from %s: look whether host and port are right, and whether the network lets you through", place), err}
	}
	return fmt.Errorf("connect to %s: %w", s.Host, err)
}

// noTLS explains a handshake that failed because the server speaks before it, in the clear.
func noTLS(s *profile.Server, err error) error {
	if _, ok := errors.AsType[tls.RecordHeaderError](err); !ok {
		return fmt.Errorf("TLS with %s: %w", s.Host, err)
	}
	return &trouble{fmt.Sprintf("port %d of %s does not begin with TLS; no password was sent. Try %s starttls, or another port", s.Port, s.Host, securityFlag(s)), err}
}

// securityFlag is the flag by which a person says how TLS begins.
func securityFlag(s *profile.Server) string {
	if s.Protocol == clientconfig.SMTP {
		return "--outgoing-security"
	}
	return "--security"
}

// listener notes whether a server has said anything.
type listener struct {
	net.Conn
	heard atomic.Bool
}

// Read implements net.Conn.
func (l *listener) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if n > 0 {
		l.heard.Store(true)
	}
	return n, err
}

// silent explains why a session could not be opened with a server that has said nothing: its
// port may begin with TLS, where it is the client that speaks first.
func silent(ctx context.Context, s *profile.Server, conn net.Conn, err error) error {
	if l, ok := conn.(*listener); !ok || l.heard.Load() || ctx.Err() != nil {
		return err
	}
	return &trouble{fmt.Sprintf("port %d of %s says nothing, as ports do that begin with TLS. Try %s tls, or another port", s.Port, s.Host, securityFlag(s)), err}
}
