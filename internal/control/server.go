package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"
)

// Limits of a Server.
const (
	requestTimeout = 10 * time.Second // for the request, and for a peer to take a frame's reply
	writeTimeout   = time.Minute
	maxSessions    = 64
	minPause       = 5 * time.Millisecond // after a failed accept, doubled
	maxPause       = time.Second
)

// Streams are the standard streams of a command. In gives io.EOF at its end.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// Handler runs one command and returns its exit code. ctx ends when the client
// is interrupted or gone, or the server stops.
type Handler func(ctx context.Context, args []string, s Streams) int

// Config of a Server.
type Config struct {
	Handler Handler      // required
	Version string       // of this program; told to clients that speak another protocol
	Logger  *slog.Logger // nil discards
	// Owner is the user whose processes may connect, beside root. -1 is the
	// process's own effective user.
	Owner int
}

// Server runs commands for clients. Safe for concurrent use.
type Server struct {
	cfg Config
	log *slog.Logger
	sem chan struct{}
}

// New makes a Server.
func New(c Config) (*Server, error) {
	if c.Handler == nil {
		return nil, errors.New("configure control socket: a Handler is required")
	}
	if c.Owner < 0 {
		c.Owner = os.Geteuid()
	}
	s := &Server{cfg: c, log: c.Logger, sem: make(chan struct{}, maxSessions)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	return s, nil
}

// Listen opens the socket with mode 0600. One that a dead server left is
// replaced; the caller holds the data folder's lock, so no live server has it.
func Listen(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("replace control socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("open control socket %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("protect control socket: %w", err)
	}
	return l, nil
}

// Serve takes sessions from l until ctx ends, and returns after the last one
// ended. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	var pause time.Duration
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("accept on control socket: %w", err)
		}
		if err != nil { // no descriptors left, or a client that gave up: the server must not end for it
			pause = min(max(2*pause, minPause), maxPause)
			s.log.Error("cannot accept a control connection", "error", err, "retry_in", pause)
			if !wait(ctx, pause) {
				return nil
			}
			continue
		}
		pause = 0
		select {
		case s.sem <- struct{}{}:
			wg.Go(func() {
				defer func() { <-s.sem }()
				defer conn.Close()
				s.session(ctx, conn)
			})
		default:
			refuse(conn, fmt.Sprintf("%d commands run already; try again when one is done", maxSessions))
			conn.Close()
		}
	}
}

// wait waits for d, or until ctx ends; then it returns false.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// ServeConn runs the one session of a connection and returns at its end; it
// closes conn, a UNIX socket whose peer may be checked as one of Serve's is.
func (s *Server) ServeConn(ctx context.Context, conn net.Conn) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	s.session(ctx, conn)
}

func refuse(conn net.Conn, why string) {
	_ = conn.SetWriteDeadline(time.Now().Add(requestTimeout))
	_ = writeFrame(conn, kindRefused, []byte(why))
}

func (s *Server) session(ctx context.Context, conn net.Conn) {
	uid, err := peerUID(conn)
	if err != nil || uid != s.cfg.Owner && uid != 0 {
		s.log.Warn("control connection refused", "uid", uid, "error", err)
		refuse(conn, fmt.Sprintf("user %d may not control this server; run as user %d or root", uid, s.cfg.Owner))
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(requestTimeout))
	req, err := readRequest(conn)
	if err != nil {
		if !errors.Is(err, io.EOF) { // somebody only looks whether a server runs, as poczta check does
			s.log.Warn("control request", "error", err)
		}
		refuse(conn, "the request is malformed: "+err.Error())
		return
	}
	if req.Protocol != Version {
		refuse(conn, fmt.Sprintf("the running server is %s and speaks another control protocol; use its own program, or restart it", s.cfg.Version))
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := newPeer(conn, cancel)
	var wg sync.WaitGroup
	wg.Go(p.read)
	started := time.Now()
	code := s.handle(ctx, req.Args, Streams{In: &input{p: p, ctx: ctx}, Out: &output{p: p, kind: kindOut}, Err: &output{p: p, kind: kindErr}})
	_ = p.send(kindExit, []byte{byte(code)})
	conn.Close()
	wg.Wait()
	s.log.Info("command", "args", safeArgs(req.Args), "uid", uid, "exit", code, "took", time.Since(started))
}

// exitPanic is the exit code of a command that panicked.
const exitPanic = 1

// handle runs the Handler. Its panic ends the command, not the server.
func (s *Server) handle(ctx context.Context, args []string, st Streams) (code int) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("command panicked", "args", safeArgs(args), "panic", p, "stack", string(debug.Stack()))
			fmt.Fprintln(st.Err, "poczta: the command failed by a fault of the program; the server's log tells more")
			code = exitPanic
		}
	}()
	return s.cfg.Handler(ctx, args, st)
}

// safeArgs is what the log tells of a command: its words, not its flags' values.
func safeArgs(args []string) []string { return args[:min(len(args), 3)] }

func readRequest(conn net.Conn) (request, error) {
	var req request
	k, payload, err := readFrame(conn, make([]byte, maxPayload))
	if err != nil {
		return req, err
	}
	if k != kindRequest {
		return req, fmt.Errorf("%w: it begins with kind %q", errFrame, byte(k))
	}
	if err := json.Unmarshal(payload, &req); err != nil {
		return req, fmt.Errorf("%w: %w", errFrame, err)
	}
	return req, nil
}

// peer is the client's end of a session.
type peer struct {
	conn   net.Conn
	cancel context.CancelFunc
	in     chan []byte // answers to want frames; closed when the client is gone
	mu     sync.Mutex  // guards writes
}

func newPeer(conn net.Conn, cancel context.CancelFunc) *peer {
	return &peer{conn: conn, cancel: cancel, in: make(chan []byte, 1)}
}

// read hands on standard input until the connection ends, which cancels the command.
func (p *peer) read() {
	defer close(p.in)
	defer p.cancel()
	for {
		buf := make([]byte, maxPayload)
		k, payload, err := readFrame(p.conn, buf)
		if err != nil || k != kindIn {
			return
		}
		select {
		case p.in <- payload:
		default:
			return // it was not asked for: a client that does not keep to the protocol
		}
	}
}

func (p *peer) send(k kind, payload []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	err := writeFrame(p.conn, k, payload)
	if err != nil {
		p.cancel()
	}
	return err
}

// input pulls standard input. Used by one goroutine.
type input struct {
	p    *peer
	ctx  context.Context // the session's; a Reader has no other way to get it
	rest []byte
	eof  bool
}

// Read implements io.Reader.
func (r *input) Read(b []byte) (int, error) {
	if len(r.rest) == 0 && !r.eof {
		if err := r.p.send(kindWant, nil); err != nil {
			return 0, err
		}
		select {
		case data, ok := <-r.p.in:
			if !ok {
				return 0, io.ErrUnexpectedEOF
			}
			r.rest, r.eof = data, len(data) == 0
		case <-r.ctx.Done():
			return 0, r.ctx.Err()
		}
	}
	if r.eof {
		return 0, io.EOF
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// output sends what a command writes.
type output struct {
	p    *peer
	kind kind
}

// Write implements io.Writer.
func (w *output) Write(b []byte) (int, error) {
	for done := 0; done < len(b); {
		n := min(len(b)-done, maxPayload)
		if err := w.p.send(w.kind, b[done:done+n]); err != nil {
			return done, err
		}
		done += n
	}
	return len(b), nil
}
