package transcript

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// DefaultTimeout bounds each wait for the server.
const DefaultTimeout = 10 * time.Second

// Runner runs scripts. Its zero value works for dialogues without TLS.
type Runner struct {
	TLS     *tls.Config   // for the step TLS
	Timeout time.Duration // for each wait; default DefaultTimeout
}

// player is a script being run.
type player struct {
	Runner

	conn    net.Conn
	r       *bufio.Reader
	pending []byte
	written chan error // of the write under way, if any
	log     []string   // the last lines, for errors
}

// Run runs a script over conn, which it closes. The error names file and line,
// what was wanted and what came, with the lines before it.
func (r Runner) Run(s *Script, conn net.Conn) error {
	if r.Timeout == 0 {
		r.Timeout = DefaultTimeout
	}
	p := &player{Runner: r, conn: conn, r: bufio.NewReader(conn)}
	defer func() { _ = p.conn.Close() }()
	for i := range s.steps {
		st := &s.steps[i]
		if err := p.play(st); err != nil {
			return fmt.Errorf("%s:%d: %s: %w\n  before it: %s", s.File, st.line, s.Name, err, strings.Join(p.log, "\n             "))
		}
	}
	return p.flush()
}

func (p *player) play(st *step) error {
	if st.verb == send {
		p.pending = append(p.pending, st.text...)
		return nil
	}
	if err := p.flush(); err != nil {
		return err
	}
	if err := p.conn.SetReadDeadline(time.Now().Add(p.Timeout)); err != nil && st.verb != closeConn {
		return fmt.Errorf("set read deadline: %w", err)
	}
	switch st.verb {
	case expect:
		return p.expect(st)
	case skipTo:
		return p.skipTo(st)
	case expectReply:
		return p.expectReply(st)
	case startTLS:
		return p.startTLS()
	case closeWrite:
		return p.closeWrite()
	case closeConn:
		return p.conn.Close()
	case expectEOF:
		return p.expectEOF()
	}
	return nil
}

// flush writes what was sent so far, beside the reading: a server may answer
// before it has read all.
func (p *player) flush() error {
	if len(p.pending) == 0 {
		return nil
	}
	if err := p.join(); err != nil {
		return err
	}
	b, conn := p.pending, p.conn
	p.pending = nil
	p.note("C", b)
	p.written = make(chan error, 1)
	go func(done chan<- error) {
		err := conn.SetWriteDeadline(time.Now().Add(p.Timeout))
		if err == nil {
			_, err = conn.Write(b)
		}
		done <- err
	}(p.written)
	return nil
}

// join waits for the write under way. A peer that has hung up is no error here:
// the next step that reads will see it.
func (p *player) join() error {
	if p.written == nil {
		return nil
	}
	err := <-p.written
	p.written = nil
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("server did not read what was sent: %w", err)
	}
	return nil
}

func (p *player) readLine() (string, error) {
	line, err := p.r.ReadString('\n')
	if err != nil {
		return line, fmt.Errorf("read line, got %q: %w", line, err)
	}
	p.note("S", []byte(line))
	text, ok := strings.CutSuffix(line, "\r\n")
	if !ok {
		return line, fmt.Errorf("line %q does not end with CRLF", line)
	}
	return text, nil
}

func (p *player) expect(st *step) error {
	line, err := p.readLine()
	if err != nil {
		return fmt.Errorf("want %v: %w", st, err)
	}
	if !st.matches(line) {
		return fmt.Errorf("got %q, want %v", line, st)
	}
	return nil
}

// maxSkip bounds how many lines a step may pass over.
const maxSkip = 10_000_000

func (p *player) skipTo(st *step) error {
	for range maxSkip {
		line, err := p.readLine()
		if err != nil {
			return fmt.Errorf("skip to %v: %w", st, err)
		}
		if st.matches(line) {
			return nil
		}
	}
	return fmt.Errorf("skip to %v: it is not among %d lines", st, maxSkip)
}

// expectReply reads an SMTP reply, whose last line has a blank behind the code.
func (p *player) expectReply(st *step) error {
	for range maxSkip {
		line, err := p.readLine()
		if err != nil {
			return fmt.Errorf("want a reply %s: %w", st.text, err)
		}
		if !strings.HasPrefix(line, st.text) || len(line) > 3 && line[3] != ' ' && line[3] != '-' {
			return fmt.Errorf("got %q, want a reply %s", line, st.text)
		}
		if len(line) == 3 || line[3] == ' ' {
			return nil
		}
	}
	return fmt.Errorf("the reply %s does not end", st.text)
}

func (p *player) startTLS() error {
	if err := p.join(); err != nil {
		return err
	}
	if p.TLS == nil {
		return errors.New("the step TLS needs a configuration in the Runner")
	}
	if n := p.r.Buffered(); n > 0 {
		return fmt.Errorf("server sent %d octets too many before the handshake", n)
	}
	c := tls.Client(p.conn, p.TLS)
	if err := c.SetDeadline(time.Now().Add(p.Timeout)); err != nil {
		return fmt.Errorf("set deadline: %w", err)
	}
	if err := c.Handshake(); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	p.conn, p.r = c, bufio.NewReader(c)
	p.note("-", []byte("TLS"))
	return nil
}

func (p *player) closeWrite() error {
	if err := p.join(); err != nil {
		return err
	}
	c, ok := p.conn.(interface{ CloseWrite() error })
	if !ok {
		return fmt.Errorf("a %T can't be closed by half", p.conn)
	}
	return c.CloseWrite()
}

func (p *player) expectEOF() error {
	line, err := p.r.ReadString('\n')
	switch {
	case line != "":
		return fmt.Errorf("got %q, want the end of the connection", line)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New("server did not close the connection")
	}
	return nil // io.EOF, or a reset because of what it had not read
}

// keepLines is how many lines an error shows.
const keepLines = 12

func (p *player) note(who string, b []byte) {
	for line := range strings.Lines(string(b)) {
		if len(line) > 200 {
			line = line[:200]
		}
		p.log = append(p.log, fmt.Sprintf("%s %q", who, line))
	}
	if n := len(p.log); n > keepLines {
		p.log = append(p.log[:0], p.log[n-keepLines:]...)
	}
}

// RunFiles runs every script of the files that match pattern as a subtest, in parallel.
// connect makes the connection that a script's options ask for; it may use t.Cleanup.
func (r Runner) RunFiles(t *testing.T, pattern string, connect func(t *testing.T, s *Script) net.Conn) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcript matches %s (%v)", pattern, err)
	}
	for _, file := range files {
		scripts, err := ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i := range scripts {
			s := &scripts[i]
			t.Run(strings.TrimSuffix(filepath.Base(file), ".txt")+"/"+s.Name, func(t *testing.T) {
				t.Parallel()
				if err := r.Run(s, connect(t, s)); err != nil {
					t.Error(err)
				}
			})
		}
	}
}
