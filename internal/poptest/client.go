// Package poptest checks any POP3 server against the standards: RFC 1939, 2449,
// 2595, 3206, 5034 and 6856. Each check is numbered, named and cites its source.
package poptest

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"poczta.example/poczta/internal/pop3"
)

// maxLine bounds a line that the server sends, maxBody a multi-line reply.
const (
	maxLine = 1 << 20
	maxBody = 256 << 20
)

// client is one connection to the server under test.
type client struct {
	suite *Suite
	conn  net.Conn
	tls   *tls.Conn
	r     *bufio.Reader
}

// connect opens a connection with TLS as configured for implicit TLS, and reads
// the greeting.
func (s *Suite) connect(ctx context.Context) (*client, error) {
	d := net.Dialer{Timeout: s.config.Timeout}
	conn, err := d.DialContext(ctx, "tcp", s.config.Addr)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	c := &client{suite: s, conn: conn}
	s.open = append(s.open, conn)
	if s.config.TLS {
		if err := c.handshake(ctx); err != nil {
			return nil, err
		}
	}
	c.r = bufio.NewReaderSize(c.conn, 64<<10)
	if r, err := c.reply(); err != nil || r.Status != pop3.StatusOK {
		return nil, fmt.Errorf("read greeting: got %q, %w", r.Text, errors.Join(err, errNotOK))
	}
	return c, nil
}

var errNotOK = errors.New("server did not say +OK")

// secure opens a connection and, when asked for, does STLS.
func (s *Suite) secure(ctx context.Context) (*client, error) {
	c, err := s.connect(ctx)
	if err != nil || !s.config.StartTLS {
		return c, err
	}
	if err := c.ok("STLS"); err != nil {
		return nil, err
	}
	return c, c.handshake(ctx)
}

// login opens a connection, secured as configured, and logs in.
func (s *Suite) login(ctx context.Context) (*client, error) {
	c, err := s.secure(ctx)
	if err != nil {
		return nil, err
	}
	if r, err := c.do("USER " + s.config.User); err != nil || r.Status != pop3.StatusOK {
		return nil, fmt.Errorf("USER: %s %s: %w", r.Code, r.Text, errors.Join(err, errNotOK))
	}
	r, err := c.do("PASS " + s.config.Password)
	if err != nil || r.Status != pop3.StatusOK {
		return nil, fmt.Errorf("PASS: %s %s: %w", r.Code, r.Text, errors.Join(err, errNotOK))
	}
	return c, nil
}

// handshake puts TLS on the connection.
func (c *client) handshake(ctx context.Context) error {
	if c.r != nil && c.r.Buffered() > 0 {
		return errors.New("server sent more than the reply to STLS before TLS")
	}
	t := tls.Client(c.conn, c.suite.config.TLSConfig)
	ctx, cancel := context.WithTimeout(ctx, c.suite.config.Timeout)
	defer cancel()
	if err := t.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	c.conn, c.tls = t, t
	c.r = bufio.NewReaderSize(t, 64<<10)
	return nil
}

// send writes octets as they are.
func (c *client) send(text string) error {
	if err := c.conn.SetDeadline(time.Now().Add(c.suite.config.Timeout)); err != nil {
		return err
	}
	_, err := io.WriteString(c.conn, text)
	return err
}

// line reads one line without its line end.
func (c *client) line() (string, error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(c.suite.config.Timeout)); err != nil {
		return "", err
	}
	var line []byte
	for {
		part, err := c.r.ReadSlice('\n')
		line = append(line, part...)
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return string(line), err
		}
		if len(line) > maxLine {
			return "", fmt.Errorf("server sends a line of more than %d octets", maxLine)
		}
	}
	if !strings.HasSuffix(string(line), "\r\n") {
		c.suite.style("line %.60q is not ended by CRLF", line)
	}
	return strings.TrimRight(string(line), "\r\n"), nil
}

// reply reads a status line.
func (c *client) reply() (pop3.Reply, error) {
	line, err := c.line()
	if err != nil {
		return pop3.Reply{}, err
	}
	r, err := pop3.ParseReply([]byte(line))
	if err != nil {
		c.suite.style("%.60q is no status line", line)
		return r, fmt.Errorf("%w: %.60q", err, line)
	}
	c.suite.statusLine(line, r)
	return r, nil
}

// do sends a command and reads its status line.
func (c *client) do(command string) (pop3.Reply, error) {
	if err := c.send(command + "\r\n"); err != nil {
		return pop3.Reply{}, err
	}
	return c.reply()
}

// body reads the rest of a multi-line reply, unstuffed.
func (c *client) body() ([]byte, error) {
	var u pop3.Unstuffer
	var out []byte
	for {
		if err := c.conn.SetReadDeadline(time.Now().Add(c.suite.config.Timeout)); err != nil {
			return nil, err
		}
		if _, err := c.r.Peek(1); err != nil {
			return out, fmt.Errorf("read multi-line reply after %d octets: %w", len(out), err)
		}
		block, _ := c.r.Peek(c.r.Buffered())
		var used int
		var done bool
		out, used, done = u.Append(out, block)
		_, _ = c.r.Discard(used)
		if done {
			return out, nil
		}
		if len(out) > maxBody {
			return nil, fmt.Errorf("server sends more than %d octets in one reply", maxBody)
		}
	}
}

// multi sends a command and reads its multi-line reply.
func (c *client) multi(command string) ([]byte, error) {
	r, err := c.do(command)
	if err != nil {
		return nil, err
	}
	if r.Status != pop3.StatusOK {
		return nil, fail(command+": +OK and lines", show(r))
	}
	return c.body()
}

// ok sends a command that must be answered +OK.
func (c *client) ok(command string) error { return c.answered(command, pop3.StatusOK) }

// err sends a command that must be answered -ERR.
func (c *client) err(command string) error { return c.answered(command, pop3.StatusErr) }

func (c *client) answered(command string, want pop3.Status) error {
	r, err := c.do(command)
	if err != nil {
		return fmt.Errorf("%.40q: %w", command, err)
	}
	if r.Status != want {
		return fail(fmt.Sprintf("%.40q: %s", command, statusName(want)), show(r))
	}
	return nil
}

// quiet reports whether the server sends nothing and keeps the connection for a moment.
func (c *client) quiet(d time.Duration) bool {
	_ = c.conn.SetReadDeadline(time.Now().Add(d))
	_, err := c.r.Peek(1)
	n, ok := errors.AsType[net.Error](err)
	return ok && n.Timeout()
}

// ended reports whether the server closes the connection in time.
func (c *client) ended() bool {
	_ = c.conn.SetReadDeadline(time.Now().Add(c.suite.config.Timeout))
	_, err := io.Copy(io.Discard, io.LimitReader(c.r, maxBody))
	n, ok := errors.AsType[net.Error](err)
	return !ok || !n.Timeout()
}

func statusName(s pop3.Status) string {
	switch s {
	case pop3.StatusOK:
		return "+OK"
	case pop3.StatusErr:
		return "-ERR"
	case pop3.StatusChallenge:
		return "a challenge"
	}
	return "nothing"
}

// show prints a reply for the report.
func show(r pop3.Reply) string {
	s := statusName(r.Status)
	if r.Code != "" {
		s += " [" + string(r.Code) + "]"
	}
	if r.Text != "" {
		s += " " + r.Text
	}
	if len(s) > 120 {
		s = s[:120]
	}
	return s
}
