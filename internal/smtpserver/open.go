package smtpserver

import (
	"bufio"
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/pires/go-proxyproto"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/tlsconf"
)

// open prepares the connection and greets: PROXY header, admission, TLS, 220.
func (s *session) open() error {
	s.client.peer = addrPort(s.conn.RemoteAddr())
	s.client.local = addrPort(s.conn.LocalAddr())
	if contains(s.srv.cfg.ProxyFrom, s.client.peer) {
		if err := s.readProxy(); err != nil {
			s.srv.refused("proxy")
			s.log(slog.LevelWarn, "proxy header refused", slog.Any("error", err))
			return errClosing
		}
	}
	s.trusted = s.client.peer
	if err := s.admit(); err != nil {
		return err
	}
	if s.srv.cfg.ImplicitTLS {
		if len(s.early) > 0 {
			s.conn = &earlyConn{Conn: s.conn, early: s.early}
		}
		if err := s.secure(s.srv.cfg.Limits.Greeting); err != nil {
			return err
		}
	} else {
		s.in.reset(s.conn)
		s.in.preload(s.early)
		s.out.reset(s.conn)
	}
	s.early = nil
	s.greet()
	return nil
}

// greet sends the 220 greeting (RFC 5321 §4.3.1).
func (s *session) greet() {
	s.setState(stateConnected, nil)
	s.verb = smtp.VerbUnknown
	text := s.srv.cfg.Hostname + " ESMTP Poczta"
	if s.srv.cfg.LMTP {
		text = s.srv.cfg.Hostname + " LMTP Poczta"
	}
	s.out.reply(smtp.Reply{Code: 220, Text: text}, true)
}

// admit asks the Admit hook.
func (s *session) admit() error {
	if s.srv.cfg.Admit == nil {
		return nil
	}
	release, err := s.srv.cfg.Admit(s.client.peer)
	if err == nil {
		s.release = release
		return nil
	}
	s.srv.refused("admit")
	if !s.srv.cfg.ImplicitTLS {
		r := smtp.Reply{Code: 421, Subject: 7, Text: s.srv.cfg.Hostname + " has too many connections, try again later"}
		if e, ok := errors.AsType[*smtp.Error](err); ok {
			r = e.Reply
		}
		s.out.reset(s.conn)
		s.out.reply(r, false)
	}
	s.log(slog.LevelInfo, "smtp connection refused", slog.Any("error", err))
	return errClosing
}

// readProxy reads a PROXY protocol header, version 1 or 2. The address it names
// counts from now on; a LOCAL or UNKNOWN one leaves the peer's own.
func (s *session) readProxy() error {
	if err := s.conn.SetReadDeadline(time.Now().Add(s.srv.cfg.Limits.Greeting)); err != nil {
		return err
	}
	br := bufio.NewReader(s.conn)
	h, err := proxyproto.Read(br)
	if err != nil {
		return fmt.Errorf("read PROXY header: %w", err)
	}
	if n := br.Buffered(); n > 0 {
		s.early = make([]byte, n)
		_, _ = br.Read(s.early) // what is buffered is read whole
	}
	if h.Command.IsLocal() {
		return nil
	}
	src, dst, ok := h.TCPAddrs()
	if !ok {
		return nil
	}
	s.client.peer, s.client.local = addrPort(src), addrPort(dst)
	return nil
}

// secure runs the TLS handshake as a server.
func (s *session) secure(timeout time.Duration) error {
	begin := time.Now()
	below := &tlsconf.Noted{Conn: s.conn}
	conn := tls.Server(below, s.srv.cfg.TLS)
	if err := s.conn.SetDeadline(begin.Add(timeout)); err != nil {
		return err
	}
	if err := conn.HandshakeContext(s.ctx); err != nil {
		s.srv.refused("tls")
		s.log(slog.LevelInfo, "tls handshake ended", slog.Any("error", err))
		return errClosing
	}
	s.mu.Lock()
	s.conn, s.readBy = conn, time.Time{}
	s.mu.Unlock()
	s.in.reset(conn)
	s.out.reset(conn)
	st := conn.ConnectionState()
	s.facts = sessionFacts{tls: &st, certificate: cmp.Or(below.Presented(&st), s.srv.ownCert), identity: s.client.identity}
	s.info = nil
	if f := s.srv.cfg.Hooks.Secured; f != nil {
		f(st.Version, time.Since(begin))
	}
	return nil
}

// close ends a session in every case, after a panic too.
func (s *session) close() {
	if p := recover(); p != nil {
		s.log(slog.LevelError, "smtp session panicked", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
	}
	s.abortAtLast()
	if s.linger && s.out.err == nil {
		s.lingerOn()
	}
	_ = s.conn.Close() // nothing more to lose
	s.in.drop()
	s.in.release()
	s.out.drop()
	if s.release != nil {
		s.release()
	}
}

// abortAtLast ends the transaction of a session that ends. A Service that panicked
// may do so again.
func (s *session) abortAtLast() {
	defer func() {
		if p := recover(); p != nil {
			s.log(slog.LevelError, "smtp service panicked in Abort", slog.Any("panic", p))
		}
	}()
	s.abort()
}

// lingerOn lets the peer read our last reply: closing with octets unread would
// reset the connection and take the reply away.
func (s *session) lingerOn() {
	if cw, ok := s.conn.(interface{ CloseWrite() error }); !ok || cw.CloseWrite() != nil {
		return
	}
	if s.conn.SetReadDeadline(time.Now().Add(s.srv.cfg.Limits.Linger)) != nil {
		return
	}
	buf := inputPool.Get().(*[inputOctets]byte)
	defer inputPool.Put(buf)
	for total := 0; total < maxSwallow; {
		n, err := s.conn.Read(buf[:])
		if err != nil {
			return
		}
		total += n
	}
}

// addrPort is the address of a TCP peer, invalid for others.
func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

func contains(nets []netip.Prefix, a netip.AddrPort) bool {
	if len(nets) == 0 || !a.IsValid() {
		return false
	}
	addr := a.Addr().WithZone("")
	for _, p := range nets {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// earlyConn gives out octets that came together with a PROXY header first.
type earlyConn struct {
	net.Conn

	early []byte
}

func (c *earlyConn) Read(p []byte) (int, error) {
	if len(c.early) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.early)
	c.early = c.early[n:]
	return n, nil
}
