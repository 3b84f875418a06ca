// Package hook asks a program of the operator's about messages: one POST of JSON over HTTP,
// HTTPS or a UNIX socket, with the message if wanted, signed with a shared secret. docs/hook.md
// describes both sides. Whether mail passes when the program can't be asked is the caller's
// decision.
package hook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Errors of Ask; test with errors.Is. Each is wrapped with what happened.
var (
	// ErrUnavailable: no connection, or one that was cut off.
	ErrUnavailable = errors.New("hook is not available")
	// ErrTimeout: no answer in time.
	ErrTimeout = errors.New("hook does not answer")
	// ErrReply: an answer that is none: another status than 200 and 204, too large, or not of the form.
	ErrReply = errors.New("hook's answer is of no use")
	// ErrTooLarge: the message is over Config.MaxSize and was to be sent.
	ErrTooLarge = errors.New("message is too large for the hook")
)

// Send says what the program is given beside the facts.
type Send uint8

// What can be sent.
const (
	SendFacts   Send = iota // nothing more
	SendHeader              // the header section, in the facts
	SendMessage             // all of the message, as a second part of multipart/form-data
	numSend
)

// Defaults of Config.
const (
	DefaultTimeout     = 10 * time.Second
	DefaultMaxSize     = 25 << 20
	DefaultMaxReply    = 64 << 10
	DefaultConnections = 32
	DefaultMaxIdle     = 4
	DefaultIdle        = 30 * time.Second
)

const maxHeaderReply = 64 << 10 // of an answer, octets

// MinSecret is how short a secret may be, octets.
const MinSecret = 16

// Header fields of a request.
const (
	// SignatureField holds "t=SECONDS,v1=HEX": the time, and HMAC-SHA-256 under the secret of
	// the time in decimal, a full stop and the octets of the request's body.
	SignatureField = "Poczta-Signature"
	// KeyField holds the queue-id, the same when a request is repeated.
	KeyField = "Idempotency-Key"
)

// Hooks tell what happens; each may be nil.
type Hooks struct {
	// Asked is called after each Ask with the action's word, or "unavailable", "timeout",
	// "reply", "too_large", "cancelled" or "failed" (our own side).
	Asked func(outcome string, took time.Duration)
}

// Config is what a Client works with. URL is required; zero means default.
type Config struct {
	Name   string // what the operator calls the hook; for evidence, errors and the log
	URL    string // "http://…", "https://…", or "unix:/PATH" followed by nothing or ":/path"
	Secret []byte // signs requests; empty: no signature
	Send   Send

	Timeout     time.Duration // for all of a call
	MaxSize     int64         // octets of a message that is sent
	MaxReply    int64         // octets of an answer
	Connections int           // at a time; further messages wait within Timeout
	MaxIdle     int           // connections kept open
	Idle        time.Duration // how long
	Roots       *x509.CertPool
	// Dial connects; nil is a net.Dialer. Network is "unix" or "tcp".
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
	Now    func() time.Time // of signatures; nil is time.Now
	Logger *slog.Logger     // nil discards
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
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// Client asks one program. Safe for concurrent use.
type Client struct {
	cfg       Config
	url       string
	transport *http.Transport
}

// New makes a Client; it connects with the first message.
func New(c Config) (*Client, error) {
	c.defaults()
	if n := len(c.Secret); n > 0 && n < MinSecret {
		return nil, fmt.Errorf("hook %s: the secret has %d octets; give it %d at least, as from openssl rand -hex 32", c.Name, n, MinSecret)
	}
	if c.Send >= numSend {
		return nil, fmt.Errorf("hook %s: nothing of the kind %d can be sent", c.Name, c.Send)
	}
	t := &http.Transport{
		DialContext:            c.Dial,
		TLSClientConfig:        &tls.Config{RootCAs: c.Roots, MinVersion: tls.VersionTLS12},
		DisableCompression:     true,
		MaxConnsPerHost:        c.Connections,
		MaxIdleConnsPerHost:    c.MaxIdle,
		IdleConnTimeout:        c.Idle,
		MaxResponseHeaderBytes: maxHeaderReply,
	}
	if rest, ok := strings.CutPrefix(c.URL, "unix:"); ok && strings.HasPrefix(rest, "/") {
		socket, path, _ := strings.Cut(rest, ":")
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return c.Dial(ctx, "unix", socket) }
		return &Client{c, "http://localhost/" + strings.TrimPrefix(path, "/"), t}, nil
	}
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" {
		return nil, fmt.Errorf("hook %s: address %q is unknown: write http://HOST:PORT/PATH, https://HOST/PATH or unix:/SOCKET", c.Name, c.URL)
	}
	return &Client{c, u.String(), t}, nil
}

// Name is the configured name.
func (c *Client) Name() string { return c.cfg.Name }

// Close closes the connections that nobody uses.
func (c *Client) Close() error {
	c.transport.CloseIdleConnections()
	return nil
}

// Ask asks about one message. It takes no longer than Config.Timeout and ctx. A kept connection
// that turns out to be closed is made good by another one, with the same KeyField. Redirects are
// refused. The error wraps one of those above, the cause of ctx, or an error of m.Content, which
// is not read any more when Ask has returned.
func (c *Client) Ask(ctx context.Context, m Message) (Result, error) {
	began := time.Now()
	inner, cancel := context.WithTimeoutCause(ctx, c.cfg.Timeout, fmt.Errorf("%w within %s", ErrTimeout, c.cfg.Timeout))
	defer cancel()
	result, err := c.ask(inner, m)
	if err != nil {
		if inner.Err() != nil {
			err = context.Cause(inner)
		}
		if c.cfg.Name != "hook" { // that it is one the error says
			err = fmt.Errorf("hook %s: %w", c.cfg.Name, err)
		}
	}
	outcome := outcomeOf(result, err)
	c.cfg.Logger.LogAttrs(ctx, slog.LevelDebug, "hook asked", slog.String("hook", c.cfg.Name), slog.String("queue_id", m.QueueID), slog.String("outcome", outcome))
	if c.cfg.Hooks.Asked != nil {
		c.cfg.Hooks.Asked(outcome, time.Since(began))
	}
	return result, err
}

func outcomeOf(r Result, err error) string {
	switch {
	case err == nil:
		return r.Action.String()
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

// ask sends the request, and once more when a kept connection turns out to be closed.
func (c *Client) ask(ctx context.Context, m Message) (Result, error) {
	b, err := c.bodyOf(m)
	if err != nil {
		return Result{}, err
	}
	fields := http.Header{"User-Agent": {"poczta"}, "Accept": {"application/json"}, "Content-Type": {b.kind}, KeyField: {headerValue(m.QueueID)}}
	if len(c.cfg.Secret) > 0 {
		signature, err := c.sign(b.open(ctx))
		if err != nil {
			return Result{}, fmt.Errorf("reading the message: %w", err)
		}
		fields.Set(SignatureField, signature)
	}
	r, stale, err := c.once(ctx, b, fields)
	if err != nil && stale && ctx.Err() == nil {
		c.transport.CloseIdleConnections()
		r, _, err = c.once(ctx, b, fields)
	}
	return r, err
}

// once sends the request over one connection. stale means that it served before and said nothing.
func (c *Client) once(ctx context.Context, b *body, fields http.Header) (r Result, stale bool, err error) {
	src := b.open(ctx)
	defer func() { _ = src.Close() }()
	var reused, heard atomic.Bool
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:              func(i httptrace.GotConnInfo) { reused.Store(i.Reused) },
		GotFirstResponseByte: func() { heard.Store(true) },
	})
	req, err := http.NewRequestWithContext(traced, http.MethodPost, c.url, src)
	if err != nil {
		return Result{}, false, err
	}
	req.ContentLength, req.Header = b.size, fields.Clone()
	reply, err := c.transport.RoundTrip(req) // follows no redirect
	if err != nil {
		if e := src.failed(); e != nil && ctx.Err() == nil {
			return Result{}, false, fmt.Errorf("reading the message: %w", e)
		}
		return Result{}, reused.Load() && !heard.Load(), fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer reply.Body.Close()
	r, err = c.read(reply)
	return r, false, err
}

// headerValue takes out what can't stand in an HTTP header field.
func headerValue(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f {
			return -1
		}
		return r
	}, s)
}

// sign makes the value of SignatureField.
func (c *Client) sign(body io.Reader) (string, error) {
	at := strconv.FormatInt(c.cfg.Now().Unix(), 10)
	mac := hmac.New(sha256.New, c.cfg.Secret)
	_, _ = io.WriteString(mac, at+".")
	if _, err := io.Copy(mac, body); err != nil {
		return "", err
	}
	return "t=" + at + ",v1=" + hex.EncodeToString(mac.Sum(nil)), nil
}

// read reads an answer.
func (c *Client) read(reply *http.Response) (Result, error) {
	switch s := reply.StatusCode; {
	case s == http.StatusNoContent:
		return Result{name: c.cfg.Name}, nil
	case s >= 300 && s <= 399:
		return Result{}, fmt.Errorf("%w: it redirects (%d), which is refused; configure the address it leads to", ErrReply, s)
	case s == http.StatusUnauthorized, s == http.StatusForbidden:
		return Result{}, fmt.Errorf("%w: it answers %d; has it the same secret?", ErrReply, s)
	case s != http.StatusOK:
		return Result{}, fmt.Errorf("%w: it answers %d", ErrReply, s)
	}
	text, err := io.ReadAll(io.LimitReader(reply.Body, c.cfg.MaxReply+1))
	if err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if int64(len(text)) > c.cfg.MaxReply {
		return Result{}, fmt.Errorf("%w: more than %d octets", ErrReply, c.cfg.MaxReply)
	}
	r, err := parseResult(text)
	r.name = c.cfg.Name
	return r, err
}

// source is a request's body on its way. net/http may still read when it has returned already;
// Close waits for that and ends it.
type source struct {
	mu     sync.Mutex
	r      io.Reader
	ctx    context.Context // of the request that this is the body of
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
	if err := s.ctx.Err(); err != nil {
		return 0, err
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
