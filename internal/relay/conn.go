package relay

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"

	"poczta.example/poczta/internal/mx"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/smtpclient"
	"poczta.example/poczta/internal/tlspolicy"
)

// conn is a connection to one host, used by one worker.
type conn struct {
	sess     Session
	host     mx.Host
	addr     netip.AddrPort
	label    string // the host, for traces
	mta      string // its name, for reports
	route    *Route
	way      *way // of the destination for which verdict was made
	verdict  tlspolicy.Verdict
	tls      string // for traces
	opened   time.Time
	used     time.Time // when the last transaction ended
	mails    int
	dialogue smtpclient.Dialogue
}

// candidate is one address to try.
type candidate struct {
	host mx.Host
	addr netip.AddrPort
}

// attemptTime is after what time a task tries no further address, beyond the two of
// RFC 5321 §5.1: eight hosts that say nothing would hold a connection for 40 minutes.
const attemptTime = 9 * time.Minute

// candidates are the addresses to try for a way, at most Config.Addresses: those that have
// just failed come in only when all have.
func (s *shift) candidates(w *way) []candidate {
	if w.route.Socket != "" {
		return []candidate{{}}
	}
	var fresh, failed []candidate
	now := s.cfg.Now()
	for _, h := range w.hosts {
		for _, a := range h.Addrs {
			c := candidate{h, netip.AddrPortFrom(a, w.port)}
			if s.down.has(c.addr, now) {
				failed = append(failed, c)
			} else {
				fresh = append(fresh, c)
			}
		}
	}
	if len(fresh) == 0 {
		fresh = failed
	}
	return fresh[:min(len(fresh), s.cfg.Addresses)]
}

// demand is what a message asks of TLS.
func demand(t *task, ext *smtpclient.Extensions) tlspolicy.Demand {
	return tlspolicy.Demand{RequireTLS: t.msg.RequireTLS, TLSOptional: t.msg.TLSOptional, NullSender: t.from == "", Offered: ext.RequireTLS}
}

// requirement is what a host must offer for a task. For a host that must not be tried it
// is an error, unless the message does not mind (TLS-Required: No).
func (s *shift) requirement(ctx context.Context, t *task, w *way, h mx.Host) (tlspolicy.Requirement, error) {
	switch {
	case s.cfg.TLS == nil || w.route.Socket != "":
		return tlspolicy.Requirement{}, nil
	case w.plan == nil:
		return s.cfg.TLS.Fixed(w.route.Host, w.route.Level), nil
	}
	req, err := w.plan.Host(ctx, h)
	if err == nil {
		return req, nil
	}
	skipped, ok := errors.AsType[*tlspolicy.HostError](err)
	if !ok {
		return req, err
	}
	s.cfg.TLS.Note(ctx, tlspolicy.Result{Skipped: skipped})
	if t.msg.TLSOptional && !t.msg.RequireTLS {
		return skipped.Requirement(), nil
	}
	return req, &smtp.Error{Reply: smtp.Reply{Code: 451, Subject: 7, Detail: 5, Text: err.Error()}, Err: err}
}

// connect opens a session with one host, with the TLS that the task's destination demands,
// and logs in where the route says so.
func (s *shift) connect(ctx context.Context, t *task, w *way, to candidate) (*conn, error) {
	req, err := s.requirement(ctx, t, w, to.host)
	if err != nil {
		s.hooked(w.site, "policy")
		return nil, err
	}
	c := &conn{host: to.host, addr: to.addr, route: w.route, way: w, opened: s.cfg.Now(), mta: to.host.Name.String()}
	c.label = label(w.route, to)
	handshake, err := s.open(ctx, c, w, req, false)
	if err == nil && handshake == nil && s.offered(c, w, req) {
		handshake = c.sess.StartTLS(ctx, req.TLS(s.cfg.TLSConfig))
	}
	if err == nil && handshake != nil && !c.sess.Usable() && (!req.Needed() || t.msg.TLSOptional && !t.msg.RequireTLS) {
		_ = c.sess.Close() // RFC 7435: no encryption is better than no mail where nothing else was asked for
		_, err = s.open(ctx, c, w, req, true)
	}
	if err != nil {
		s.failed(c, w, err)
		return nil, err
	}
	if !c.sess.Usable() {
		if handshake == nil { // ctx ended as the last reply came, which is an error for nobody
			handshake = &smtpclient.Error{Stage: smtpclient.StageHello, Err: cmp.Or(ctx.Err(), smtpclient.ErrClosed)}
		}
		s.failed(c, w, handshake)
		return nil, handshake
	}
	if err := s.admit(ctx, t, c, req, handshake); err != nil {
		s.hooked(w.site, "policy")
		s.leave(ctx, c)
		return nil, err
	}
	if w.route.Login != nil {
		if err := c.sess.Auth(ctx, *w.route.Login); err != nil {
			s.hooked(w.site, "auth")
			s.cfg.Logger.Error("relay can't log in", "route", w.route.Name, "host", c.label, "error", err)
			s.leave(ctx, c)
			return nil, authError(err)
		}
	}
	s.hooked(w.site, "ok")
	s.down.clear(c.addr)
	return c, nil
}

// authError makes an error of a failed login that is the route's, not the message's.
func authError(err error) error {
	if _, ok := errors.AsType[*smtpclient.Error](err); ok {
		return err
	}
	return &smtp.Error{Reply: smtp.Reply{Code: 454, Subject: 7, Detail: 0, Text: "The smart host does not offer a way to log in"}, Err: err}
}

// offered reports whether STARTTLS is to be tried.
func (s *shift) offered(c *conn, w *way, req tlspolicy.Requirement) bool {
	return c.sess.Extensions().StartTLS && req.Offered() && c.sess.TLS() == nil && s.cfg.TLS != nil && w.route.Socket == ""
}

// label is a host as traces name it.
func label(r *Route, to candidate) string {
	if r.Socket != "" {
		return r.Socket
	}
	name := to.host.Name.String()
	if name == "" {
		name = to.addr.Addr().String()
	}
	at := name + " [" + to.addr.Addr().String() + "]"
	if to.addr.Port() != 25 {
		at += ":" + strconv.Itoa(int(to.addr.Port()))
	}
	if r.Name != "" && r != byMX {
		at += " by " + r.Name
	}
	return at
}

// open dials and begins a session; plain says that TLS failed before. handshake is
// the error of implicit TLS, after which there is no session to go on with.
func (s *shift) open(ctx context.Context, c *conn, w *way, req tlspolicy.Requirement, plain bool) (handshake, err error) {
	raw, err := s.dial(ctx, c, w)
	if err != nil {
		return nil, err
	}
	if w.route.Implicit && !plain && s.cfg.TLS != nil {
		t := tls.Client(raw, req.TLS(s.cfg.TLSConfig))
		limit, cancel := context.WithTimeout(ctx, smtpclient.TLSTimeout)
		err := t.HandshakeContext(limit)
		cancel()
		if err != nil {
			_ = raw.Close()
			return nil, &smtpclient.Error{Stage: smtpclient.StageTLS, Err: err}
		}
		raw = t
	}
	c.sess, err = s.session(ctx, c, w, raw, false)
	if e, ok := errors.AsType[*smtpclient.Error](err); ok && e.Stage == smtpclient.StageHello && e.Reply == nil && errors.Is(err, smtpclient.ErrHangup) && !w.route.LMTP && !w.route.Implicit {
		if raw, err = s.dial(ctx, c, w); err == nil { // some old servers close at EHLO
			c.sess, err = s.session(ctx, c, w, raw, true)
		}
	}
	return nil, err
}

func (s *shift) session(ctx context.Context, c *conn, w *way, raw net.Conn, helo bool) (Session, error) {
	sess, err := s.cfg.Open(ctx, raw, smtpclient.Config{Hello: s.cfg.Hello, LMTP: w.route.LMTP, HELO: helo, Timeouts: s.cfg.Timeouts, Dialogue: &c.dialogue})
	if err == nil && s.cfg.Hooks.Open != nil {
		s.cfg.Hooks.Open(1)
	}
	return sess, err
}

// dial connects, and watches whether the way out is open at all.
func (s *shift) dial(ctx context.Context, c *conn, w *way) (net.Conn, error) {
	limit, cancel := context.WithTimeout(ctx, s.cfg.ConnectTimeout)
	defer cancel()
	if w.route.Socket != "" {
		return s.cfg.Dial(limit, "unix", w.route.Socket, netip.Addr{})
	}
	source, ok := s.source(w.route, c.addr.Addr())
	if !ok {
		return nil, errors.New("none of the source addresses is of the host's family")
	}
	raw, err := s.cfg.Dial(limit, "tcp", c.addr.String(), source)
	watched := c.addr.Port() == 25 && !w.route.fixed()
	switch {
	case ctx.Err() != nil || !watched:
	case err == nil || errors.Is(err, syscall.ECONNREFUSED):
		s.blocked.answered()
	case isTimeout(err) || errors.Is(err, syscall.EHOSTUNREACH):
		if s.blocked.timedOut(c.addr.Addr(), s.cfg.Now()) {
			s.cfg.Logger.Error("port 25 outward seems to be blocked: no host of several networks answers; if the provider blocks it, set a smart host ([[relay.route]])")
			if s.cfg.Hooks.Blocked != nil {
				s.cfg.Hooks.Blocked()
			}
		}
	}
	return raw, err
}

func isTimeout(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return true
	}
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// source chooses an address of ours to connect from; the invalid one leaves it to the system.
func (s *shift) source(r *Route, to netip.Addr) (netip.Addr, bool) {
	list := r.Sources
	if len(list) == 0 {
		list = s.cfg.Sources
	}
	if len(list) == 0 {
		return netip.Addr{}, true
	}
	first := int(s.cfg.Random() * float64(len(list)))
	for i := range list {
		if a := list[(first+i)%len(list)]; a.Is4() == to.Unmap().Is4() {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// admit judges the session's TLS for a task; the error is the reason why not.
func (s *shift) admit(ctx context.Context, t *task, c *conn, req tlspolicy.Requirement, handshake error) error {
	if s.cfg.TLS == nil || c.route.Socket != "" {
		if t.msg.RequireTLS && t.from != "" {
			return smtp.Refuse(550, 7, 10, "the message requires TLS, which is not used to this host")
		}
		return nil
	}
	c.way, c.verdict = t.way, req.Check(c.sess.TLS(), handshake)
	c.tls = ""
	if state := c.sess.TLS(); state != nil {
		c.tls = tls.VersionName(state.Version) + " " + tls.CipherSuiteName(state.CipherSuite) + " " + c.verdict.Words()
	}
	if t.way.plan != nil {
		s.cfg.TLS.Note(ctx, tlspolicy.Result{Verdict: c.verdict, Addr: c.addr.Addr()})
	}
	ext := c.sess.Extensions()
	return c.verdict.Permit(demand(t, &ext))
}

// askAfter is how long a connection may have been idle before the host is asked whether it
// is still there: a message sent into a closed one could not be told from a delivered one.
const askAfter = time.Second

// alive reports whether the host is still there.
func (s *shift) alive(ctx context.Context, c *conn) bool {
	return s.cfg.Now().Sub(c.used) < askAfter || c.sess.Reset(ctx) == nil && c.sess.Usable()
}

// fits reports whether an open connection may carry a task.
func (s *shift) fits(ctx context.Context, c *conn, t *task) bool {
	if !c.sess.Usable() || c.sess.Full() || c.mails >= s.cfg.PerConnection || c.route != t.route || s.cfg.Now().Sub(c.opened) >= s.cfg.ConnectionAge {
		return false
	}
	if c.way == t.way || s.cfg.TLS == nil || t.way.route.Socket != "" {
		if s.cfg.TLS == nil {
			return hasHost(t.way, c)
		}
		ext := c.sess.Extensions()
		return c.verdict.Permit(demand(t, &ext)) == nil
	}
	if !hasHost(t.way, c) {
		return false
	}
	req, err := s.requirement(ctx, t, t.way, c.host)
	return err == nil && s.admit(ctx, t, c, req, nil) == nil
}

// hasHost reports whether the connection's host is one of a way's.
func hasHost(w *way, c *conn) bool {
	if w.route.fixed() {
		return w.route == c.route
	}
	for _, h := range w.hosts {
		if h.Name == c.host.Name {
			for _, a := range h.Addrs {
				if a == c.addr.Addr() {
					return true
				}
			}
		}
	}
	return false
}

// failed notes a host that could not be used.
func (s *shift) failed(c *conn, w *way, err error) {
	outcome := "refused"
	e, session := errors.AsType[*smtpclient.Error](err)
	switch {
	case session && (e.Stage == smtpclient.StageTLS || e.Stage == smtpclient.StageStartTLS):
		outcome = "tls"
	case session:
		outcome = "greeting"
	case isTimeout(err):
		outcome = "timeout"
	}
	s.hooked(w.site, outcome)
	if outcome != "tls" && c.addr.IsValid() {
		s.down.note(c.addr, s.cfg.Now())
	}
	if c.sess != nil {
		s.shut(c)
	}
}

func (s *shift) hooked(x *site, outcome string) {
	if s.cfg.Hooks.Connection != nil {
		s.cfg.Hooks.Connection(x.name, outcome)
	}
}

// leave ends a session politely.
func (s *shift) leave(ctx context.Context, c *conn) {
	if c.sess.Usable() {
		_ = c.sess.Quit(ctx) // nothing depends on it
	}
	s.shut(c)
}

// shut closes a session's connection.
func (s *shift) shut(c *conn) {
	_ = c.sess.Close()
	if s.cfg.Hooks.Open != nil {
		s.cfg.Hooks.Open(-1)
	}
}
