// Package rspamd asks Rspamd about messages and teaches it, over HTTP, HTTPS or a UNIX socket.
//
// A message is streamed to /checkv2 with its envelope in header fields; the reply is JSON,
// bounded in size and believed in nothing but its opinion. Whether mail passes when Rspamd can't
// be asked is the caller's decision.
package rspamd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Errors of Check and Learn; test with errors.Is. Each is wrapped with what happened.
var (
	// ErrUnavailable: no connection, or one that was cut off.
	ErrUnavailable = errors.New("rspamd is not available")
	// ErrTimeout: no answer in time.
	ErrTimeout = errors.New("rspamd does not answer")
	// ErrReply: an answer that is none: a refusal, too large, or no JSON.
	ErrReply = errors.New("rspamd's answer is of no use")
	// ErrTooLarge: the message is over Config.MaxSize and was not sent.
	ErrTooLarge = errors.New("message is too large for rspamd")
)

// Defaults of Config.
const (
	DefaultTimeout     = 30 * time.Second
	DefaultMaxSize     = 50 << 20 // Rspamd's own max_message
	DefaultMaxReply    = 1 << 20
	DefaultConnections = 32
	DefaultMaxIdle     = 4
	DefaultIdle        = 30 * time.Second
)

// maxHeaderReply bounds the header section of an answer, octets.
const maxHeaderReply = 64 << 10

// Hooks tell what happens; each may be nil.
type Hooks struct {
	// Asked is called after each Check with the action's word, or "unavailable", "timeout",
	// "reply", "too_large", "cancelled" or "failed" (our own side).
	Asked func(outcome string, took time.Duration)
	// Learned is called after each Learn, with "learned" or one of the errors above.
	Learned func(outcome string, took time.Duration)
}

// Config is what a Client works with. URL is required; zero means default.
type Config struct {
	// URL leads to a worker that checks: "http://127.0.0.1:11333", "https://HOST:PORT" or
	// "unix:/PATH".
	URL string
	// Controller leads to the worker that learns, in the same forms; "" when Learn is not used.
	Controller string
	Password   string
	Hostname   string // our name, header field MTA-Name
	AllFilters bool   // Pass: all, so that Rspamd does not stop when it is sure
	// Obey has Rspamd's action count as a demand; otherwise its score alone counts.
	Obey bool

	Timeout     time.Duration // for all of a call
	MaxSize     int64         // octets of a message that is sent
	MaxReply    int64         // octets of an answer
	Connections int           // at a time; further messages wait within Timeout
	MaxIdle     int           // connections kept open
	Idle        time.Duration // how long
	Roots       *x509.CertPool
	// Dial connects; nil is a net.Dialer. Network is "unix" or "tcp".
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
	Logger *slog.Logger // nil discards
	Hooks  Hooks
}

func (c *Config) defaults() {
	if c.Timeout <= 0 {
		c.Timeout = DefaultTimeout
	}
	if c.MaxSize <= 0 {
		c.MaxSize = DefaultMaxSize
	}
	if c.MaxReply <= 0 {
		c.MaxReply = DefaultMaxReply
	}
	if c.Connections <= 0 {
		c.Connections = DefaultConnections
	}
	if c.MaxIdle <= 0 {
		c.MaxIdle = DefaultMaxIdle
	}
	if c.Idle <= 0 {
		c.Idle = DefaultIdle
	}
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// Client asks one Rspamd. Safe for concurrent use.
type Client struct {
	cfg        Config
	check      endpoint
	controller endpoint
}

// New makes a Client; it connects with the first message.
func New(c Config) (*Client, error) {
	c.defaults()
	check, err := c.endpoint(c.URL)
	if err != nil {
		return nil, err
	}
	client := &Client{cfg: c, check: check}
	if c.Controller != "" {
		if client.controller, err = c.endpoint(c.Controller); err != nil {
			return nil, err
		}
	}
	return client, nil
}

// Close closes the connections that nobody uses.
func (c *Client) Close() error {
	for _, e := range []endpoint{c.check, c.controller} {
		if e.transport != nil {
			e.transport.CloseIdleConnections()
		}
	}
	return nil
}

// endpoint is one worker of Rspamd.
type endpoint struct {
	base      string // of the URL, without a final slash
	transport *http.Transport
}

// endpoint reads where a worker is. No proxy, cookie or redirect is ever used.
func (c Config) endpoint(address string) (endpoint, error) {
	t := &http.Transport{
		DialContext:            c.Dial,
		TLSClientConfig:        &tls.Config{RootCAs: c.Roots, MinVersion: tls.VersionTLS12},
		DisableCompression:     true,
		MaxConnsPerHost:        c.Connections,
		MaxIdleConnsPerHost:    c.MaxIdle,
		IdleConnTimeout:        c.Idle,
		MaxResponseHeaderBytes: maxHeaderReply,
	}
	if path, ok := strings.CutPrefix(address, "unix:"); ok && path != "" {
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return c.Dial(ctx, "unix", path) }
		return endpoint{"http://localhost", t}, nil
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return endpoint{}, fmt.Errorf("rspamd: address %q is unknown: write http://HOST:PORT, https://HOST:PORT or unix:/PATH", address)
	}
	return endpoint{strings.TrimSuffix(u.Scheme+"://"+u.Host+u.Path, "/"), t}, nil
}

// source is the message on its way. net/http may still read when it has returned already; Close
// waits for that and ends it. An error of the message itself is noted: it is not Rspamd's fault.
type source struct {
	mu     sync.Mutex
	r      io.Reader
	closed bool
	err    error
}

// Read implements io.Reader.
func (s *source) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, io.ErrClosedPipe
	}
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// Close implements io.Closer.
func (s *source) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

// failed returns the error of the message, if it had one.
func (s *source) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// post sends a message and returns status and text of the answer. When a kept connection turns
// out to be closed and r can be read again, it is sent once more over a new one.
func (c *Client) post(ctx context.Context, e endpoint, path string, fields http.Header, r io.Reader, size int64) (int, []byte, error) {
	if size > c.cfg.MaxSize {
		return 0, nil, fmt.Errorf("%w: %d octets, %d are the limit", ErrTooLarge, size, c.cfg.MaxSize)
	}
	inner, cancel := context.WithTimeoutCause(ctx, c.cfg.Timeout, fmt.Errorf("%w within %s", ErrTimeout, c.cfg.Timeout))
	defer cancel()
	again, start := io.Seeker(nil), int64(0)
	if seeker, ok := r.(io.Seeker); ok {
		if at, err := seeker.Seek(0, io.SeekCurrent); err == nil {
			again, start = seeker, at
		}
	}
	status, text, stale, err := c.once(inner, e, path, fields, r, size)
	if err != nil && stale && again != nil && inner.Err() == nil {
		e.transport.CloseIdleConnections()
		if _, err := again.Seek(start, io.SeekStart); err != nil {
			return 0, nil, fmt.Errorf("rspamd: reading the message: %w", err)
		}
		status, text, _, err = c.once(inner, e, path, fields, r, size)
	}
	return status, text, err
}

// once sends a message over one connection. stale means that it served before and said nothing.
func (c *Client) once(ctx context.Context, e endpoint, path string, fields http.Header, r io.Reader, size int64) (status int, text []byte, stale bool, err error) {
	src := &source{r: r}
	defer func() { _ = src.Close() }()
	var reused, heard atomic.Bool
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:              func(i httptrace.GotConnInfo) { reused.Store(i.Reused) },
		GotFirstResponseByte: func() { heard.Store(true) },
	})
	req, err := http.NewRequestWithContext(traced, http.MethodPost, e.base+path, src)
	if err != nil {
		return 0, nil, false, err
	}
	req.Header, req.ContentLength = fields, size
	if size == 0 {
		req.Body = http.NoBody
	}
	status, text, err = c.roundTrip(e, req)
	stale = reused.Load() && !heard.Load()
	switch {
	case err == nil, errors.Is(err, ErrReply):
	case src.failed() != nil:
		stale, err = false, fmt.Errorf("rspamd: reading the message: %w", src.failed())
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = fmt.Errorf("%w: %w", ErrTimeout, err)
	default:
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return status, text, stale, err
}

func (c *Client) roundTrip(e endpoint, req *http.Request) (int, []byte, error) {
	reply, err := e.transport.RoundTrip(req) // follows no redirect
	if err != nil {
		return 0, nil, err
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(io.LimitReader(reply.Body, c.cfg.MaxReply+1))
	if err != nil {
		return 0, nil, err
	}
	if int64(len(text)) > c.cfg.MaxReply {
		return 0, nil, fmt.Errorf("%w: more than %d octets", ErrReply, c.cfg.MaxReply)
	}
	return reply.StatusCode, text, nil
}

func outcomeOf(err error) string {
	switch {
	case errors.Is(err, ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, ErrUnavailable):
		return "unavailable"
	case errors.Is(err, ErrReply):
		return "reply"
	case errors.Is(err, ErrTooLarge):
		return "too_large"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	}
	return "failed"
}
