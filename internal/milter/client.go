package milter

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"
)

// Defaults of Config.
const (
	DefaultConnect = 10 * time.Second
	DefaultReply   = 15 * time.Second
	DefaultEnd     = time.Minute
	DefaultTotal   = 3 * time.Minute

	DefaultMaxPacket   = 1 << 20
	DefaultMaxChanges  = 1000
	DefaultMaxHeader   = 1 << 20
	DefaultMaxBody     = 64 << 20
	DefaultConnections = 32
	DefaultIdle        = 30 * time.Second
)

// Spool takes a body that a milter writes anew. It is the caller's, who removes it after the
// message is stored or given up, whatever Filter returned.
type Spool interface {
	io.Writer
	io.ReaderAt
}

// Hooks tell what happens; each may be nil.
type Hooks struct {
	// Dialled is called after each attempt to connect, negotiation included.
	Dialled func(took time.Duration, err error)
	// Filtered is called after each message with the action's word, or "unavailable",
	// "timeout", "protocol", "cancelled" or "failed" (our own side).
	Filtered func(outcome string, took time.Duration)
	// Reused is called when a message goes over a connection that served another before.
	Reused func()
}

// Config is what a Client works with. Name and Address are required; zero means default.
type Config struct {
	Name string // what the operator calls the milter; for errors and the log
	// Address is "unix:/PATH" or "local:/PATH", "inet:PORT@HOST", "tcp:HOST:PORT" or "HOST:PORT".
	Address  string
	Hostname string // macro j: our name
	Daemon   string // macro {daemon_name}
	Software string // macro v

	Connect time.Duration // to connect and negotiate
	Reply   time.Duration // for a reply before the end of the message
	End     time.Duration // for one at the end; each packet that comes, such as progress, begins it anew
	Total   time.Duration // for all of a message, whatever the milter says

	MaxPacket   int   // octets of a packet that comes in
	MaxChanges  int   // changes of a message
	MaxHeader   int   // octets of all header fields that are added or changed
	MaxBody     int64 // octets of a body written anew
	Connections int   // at a time; further messages wait within Total
	MaxIdle     int   // connections kept open for the next message; 0: 4, negative: none
	Idle        time.Duration
	Version     int // highest protocol version offered, 2 to 6; 0 is 6
	// Chunk is the largest piece of body sent: 64 KiB, or 256 KiB or 1 MiB where the milter takes it.
	Chunk int

	// Spool makes the place for a body written anew; nil forbids milters to replace bodies.
	Spool func(ctx context.Context) (Spool, error)
	// Dial connects; nil is a net.Dialer. Network is "unix" or "tcp".
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
	Logger *slog.Logger // nil discards
	Hooks  Hooks
}

func (c *Config) defaults() {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	num := func(n *int, v int) {
		if *n <= 0 {
			*n = v
		}
	}
	set(&c.Connect, DefaultConnect)
	set(&c.Reply, DefaultReply)
	set(&c.End, DefaultEnd)
	set(&c.Total, DefaultTotal)
	set(&c.Idle, DefaultIdle)
	num(&c.MaxPacket, DefaultMaxPacket)
	num(&c.MaxChanges, DefaultMaxChanges)
	num(&c.MaxHeader, DefaultMaxHeader)
	num(&c.Connections, DefaultConnections)
	num(&c.Version, 6)
	num(&c.Chunk, chunk64K)
	if c.MaxBody <= 0 {
		c.MaxBody = DefaultMaxBody
	}
	if c.MaxIdle == 0 {
		c.MaxIdle = 4
	}
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// Client asks one milter. Safe for concurrent use.
type Client struct {
	cfg              Config
	network, address string
	slots            chan struct{}

	mu     sync.Mutex
	idle   []*conn // the last used is the last
	closed bool
}

// New makes a Client; it connects with the first message.
func New(c Config) (*Client, error) {
	network, address, err := ParseAddress(c.Address)
	if err != nil {
		return nil, fmt.Errorf("milter %s: %w", c.Name, err)
	}
	if c.Version != 0 && (c.Version < 2 || c.Version > 6) {
		return nil, fmt.Errorf("milter %s: version %d is not one of 2 to 6", c.Name, c.Version)
	}
	c.defaults()
	return &Client{cfg: c, network: network, address: address, slots: make(chan struct{}, c.Connections)}, nil
}

// ParseAddress reads a milter's address as Config.Address has it.
func ParseAddress(s string) (network, address string, err error) {
	kind, rest, _ := strings.Cut(s, ":")
	switch kind {
	case "unix", "local":
		if rest == "" {
			return "", "", fmt.Errorf("address %q names no socket: write unix:/PATH", s)
		}
		return "unix", rest, nil
	case "inet", "inet6":
		port, host, ok := strings.Cut(rest, "@")
		if !ok {
			host = "localhost"
		}
		s = net.JoinHostPort(strings.Trim(host, "[]"), port)
	case "tcp":
		s = rest
	}
	if host, port, err := net.SplitHostPort(s); err != nil || host == "" || port == "" {
		return "", "", fmt.Errorf("address %q is unknown: write unix:/PATH, inet:PORT@HOST or HOST:PORT", s)
	}
	return "tcp", s, nil
}

// Name is the configured name.
func (c *Client) Name() string { return c.cfg.Name }

// Close closes the connections that nobody uses; the others end with their message.
func (c *Client) Close() error {
	c.mu.Lock()
	idle := c.idle
	c.idle, c.closed = nil, true
	c.mu.Unlock()
	for _, k := range idle {
		k.quit()
	}
	return nil
}

// Filter runs one message through all stages and returns the milter's verdict. It never takes
// longer than Config.Total nor than ctx. The error wraps ErrUnavailable, ErrTimeout or
// ErrProtocol, the cause of ctx, or an error of m.Body or the spool. Body is read once, or
// twice when a connection that served before turns out to be closed.
func (c *Client) Filter(ctx context.Context, m Message) (Result, error) {
	began := time.Now()
	inner, cancel := context.WithTimeoutCause(ctx, c.cfg.Total, fmt.Errorf("%w: not done after %s", ErrTimeout, c.cfg.Total))
	defer cancel()
	r, err := c.filter(inner, m)
	if err != nil {
		if inner.Err() != nil {
			err = context.Cause(inner)
		}
		err = fmt.Errorf("milter %s: %w", c.cfg.Name, err)
		r = Result{}
	}
	outcome := outcomeOf(r, err)
	c.cfg.Logger.LogAttrs(ctx, slog.LevelDebug, "milter asked", slog.String("milter", c.cfg.Name), slog.String("queue_id", m.QueueID),
		slog.String("outcome", outcome), slog.Int("changes", len(r.Changes)))
	if c.cfg.Hooks.Filtered != nil {
		c.cfg.Hooks.Filtered(outcome, time.Since(began))
	}
	return r, err
}

func outcomeOf(r Result, err error) string {
	switch {
	case err == nil:
		return r.Action.String()
	case errors.Is(err, ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, ErrProtocol):
		return "protocol"
	case errors.Is(err, ErrUnavailable):
		return "unavailable"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	}
	return "failed"
}

func (c *Client) filter(ctx context.Context, m Message) (Result, error) {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
	if k := c.takeIdle(); k != nil {
		if c.cfg.Hooks.Reused != nil {
			c.cfg.Hooks.Reused()
		}
		r, err := c.over(ctx, k, m)
		// A milter that was restarted has closed the connection: nothing was answered yet.
		if err == nil || k.heard || ctx.Err() != nil || !errors.Is(err, ErrUnavailable) {
			return r, err
		}
	}
	k, err := c.connect(ctx)
	if err != nil {
		return Result{}, err
	}
	return c.over(ctx, k, m)
}

// over runs a message over a connection and then keeps or closes it.
func (c *Client) over(ctx context.Context, k *conn, m Message) (Result, error) {
	stop := context.AfterFunc(ctx, k.interrupt)
	s := session{c: c, k: k, m: m, ctx: ctx}
	r, err := s.run()
	switch {
	case !stop() || err != nil:
		_ = k.Conn.Close()
	case s.whole:
		c.keep(k)
	default:
		k.quit()
	}
	return r, err
}

func (c *Client) takeIdle() *conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	for n := len(c.idle); n > 0; n = len(c.idle) {
		k := c.idle[n-1]
		c.idle = c.idle[:n-1]
		if k.timer.Stop() {
			k.heard = false
			return k
		} // else its time is over and it is being closed
	}
	return nil
}

// keep ends a message and makes the connection ready for another. Only version 6 knows how, and
// libmilter only where it has said "continue" at the end of the message: after any other verdict
// its state table (engine.c) has no way to the next connection, and it passes over what is said.
func (c *Client) keep(k *conn) {
	if k.version < 6 || c.cfg.MaxIdle < 0 {
		k.quit()
		return
	}
	writePacket(k.w, cmdQuitNC, nil)
	_ = k.SetDeadline(time.Now().Add(quitTime))
	if k.w.Flush() != nil || k.r.Buffered() > 0 {
		_ = k.Conn.Close()
		return
	}
	_ = k.SetDeadline(time.Time{})
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.idle) >= c.cfg.MaxIdle {
		_ = k.Conn.Close()
		return
	}
	k.timer = time.AfterFunc(c.cfg.Idle, func() { c.expire(k) })
	c.idle = append(c.idle, k)
}

func (c *Client) expire(k *conn) {
	c.mu.Lock()
	for i, other := range c.idle {
		if other == k {
			c.idle = append(c.idle[:i], c.idle[i+1:]...)
			break
		}
	}
	c.mu.Unlock()
	k.quit()
}

// conn is a connection with what was negotiated for it. One message uses it at a time.
type conn struct {
	net.Conn
	r       *bufio.Reader
	w       *bufio.Writer
	version int
	actions action
	steps   step
	macros  map[macroStage]map[string]bool // the macros asked for; a stage that is absent gets the usual ones
	chunk   int
	heard   bool // something came for the message at hand
	timer   *time.Timer
}

// interrupt ends all waiting on the connection.
func (k *conn) interrupt() { _ = k.SetDeadline(time.Unix(1, 0)) }

// deadline sets until when the connection may be waited for; ctx that ended stays ended.
func (k *conn) deadline(ctx context.Context, t time.Time) {
	if d, ok := ctx.Deadline(); ok && d.Before(t) {
		t = d
	}
	_ = k.SetDeadline(t)
	if ctx.Err() != nil {
		k.interrupt()
	}
}

// quitTime bounds the good-bye, for which nobody waits.
const quitTime = time.Second

// quit says good-bye, as far as that goes at once, and closes.
func (k *conn) quit() {
	_ = k.SetDeadline(time.Now().Add(quitTime))
	writePacket(k.w, cmdQuit, nil)
	_ = k.w.Flush()
	_ = k.Conn.Close()
}
