package pop3server

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/pires/go-proxyproto"

	"poczta.example/poczta/internal/pop3"
	"poczta.example/poczta/internal/sasl"
	"poczta.example/poczta/internal/tlsconf"
)

// lingerOctets and lingerTime bound how long we read on after a last -ERR, so
// that a peer who still sends gets to read it instead of a reset.
const (
	lingerOctets = 256 << 10
	lingerTime   = 2 * time.Second
)

// proxy learns the client's address. A peer named in ProxyFrom must begin with
// a PROXY protocol header; no other peer's header is looked at.
func (s *session) proxy() bool {
	s.peer = addrPort(s.raw.RemoteAddr())
	if !contains(s.server.config.ProxyFrom, s.peer.Addr()) {
		return true
	}
	r := bufio.NewReaderSize(s.raw, 512)
	header, err := proxyproto.ReadHeaderTimeout(s.raw, r, s.server.config.ProxyTimeout)
	if err != nil {
		s.server.config.Logger.Warn("PROXY header is missing or malformed", slog.String("peer", s.peer.String()), slog.Any("error", err))
		s.refused("proxy")
		return false
	}
	if header.Command.IsProxy() {
		if a := addrPort(header.SourceAddr); a.IsValid() {
			s.peer = a
		}
	}
	if n := r.Buffered(); n > 0 {
		rest := make([]byte, n)
		_, _ = io.ReadFull(r, rest)
		s.conn = &replayConn{Conn: s.raw, rest: rest}
		s.out.conn = s.conn
	}
	return true
}

// replayConn is a connection of which some octets have been read already.
type replayConn struct {
	net.Conn
	rest []byte
}

func (c *replayConn) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// CloseWrite lets linger work through the wrapper.
func (c *replayConn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}

// admit asks whether the connection is taken. A refused peer of implicit TLS is
// closed without a word: it would not understand one.
func (s *session) admit() (release func(), ok bool) {
	if s.server.config.Admit == nil {
		return func() {}, true
	}
	release, err := s.server.config.Admit(s.peer)
	if err == nil {
		if release == nil {
			release = func() {}
		}
		return release, true
	}
	s.refused("admit")
	if !s.implicit {
		if e, ok := errors.AsType[*pop3.Error](err); ok {
			s.errReply(e.Code, e.In(s.lang))
		} else {
			s.errReply(pop3.CodeSysTemp, pop3.TextRefused.In(s.lang))
		}
		s.out.timeout = time.Second
		s.out.release()
	}
	return nil, false
}

func (s *session) refused(reason string) {
	if h := s.server.config.Hooks.Refused; h != nil {
		h(reason)
	}
}

// startTLS is STLS. RFC 2595 §4
func (s *session) startTLS(ctx context.Context, _ pop3.Command) error {
	switch {
	case s.tls != nil:
		return refuse(pop3.TextTLSActive)
	case s.server.config.TLS == nil:
		return refuse(pop3.TextNoTLS)
	case s.auth.utf8:
		return refuse(pop3.TextTLSAfterUTF8) // RFC 6856 §2.1
	case !s.in.empty():
		// Plaintext after STLS is a mistake or an attack: it must not be run, and
		// what it was meant to be can't be known.
		s.in.forget()
		s.why = "errors"
		return &refusal{text: pop3.TextTLSPipelined, end: true}
	}
	s.okReply(pop3.TextBeginTLS.In(s.lang))
	s.out.release()
	if s.out.err != nil || !s.handshake(ctx) {
		return errEnd
	}
	return nil
}

// handshake puts TLS on the connection. All that was learnt from the peer in the
// clear is forgotten.
func (s *session) handshake(ctx context.Context) bool {
	below := &tlsconf.Noted{Conn: s.conn}
	c := tls.Server(below, s.server.config.TLS)
	ctx, cancel := context.WithTimeout(ctx, s.server.config.HandshakeTimeout)
	defer cancel()
	s.renew = time.Time{}
	if err := s.conn.SetReadDeadline(time.Time{}); err != nil {
		s.why = "connection broke"
		return false
	}
	if s.draining.Load() {
		s.why = "shutdown"
		return false
	}
	if err := c.HandshakeContext(ctx); err != nil {
		s.why = "tls"
		s.refused("tls")
		s.server.config.Logger.Info("TLS handshake failed", slog.String("conn_id", s.id), slog.String("peer", s.peer.String()), slog.Any("error", err))
		return false
	}
	st := c.ConnectionState()
	s.conn, s.tls, s.out.conn = c, c, c
	s.certificate = below.Presented(&st)
	s.lang = pop3.English
	s.auth = authorization{}
	if h := s.server.config.Hooks.TLS; h != nil {
		h(st.Version, st.CipherSuite)
	}
	return true
}

// saslOptions is the connection as mechanisms see it.
func (s *session) saslOptions() sasl.Options {
	o := sasl.Options{
		Verifier:         s.server.config.Verifier,
		Peer:             s.saslPeer(),
		PlaintextAllowed: s.plaintextAllowed(),
	}
	if s.tls == nil {
		return o
	}
	st := s.tls.ConnectionState()
	o.TLS = true
	o.Binding = sasl.BindingOf(&st, cmp.Or(s.certificate, s.server.ownCertificate()))
	if len(st.VerifiedChains) > 0 {
		o.Cert = st.VerifiedChains[0][0]
	}
	return o
}

func (s *session) saslPeer() sasl.Peer { return sasl.Peer{Addr: s.peer.Addr(), Protocol: "pop3"} }

// plaintextAllowed reports whether a password may come as it is (RFC 5034 §4).
func (s *session) plaintextAllowed() bool {
	return s.tls != nil || contains(s.server.config.PlaintextFrom, s.peer.Addr())
}

// ownCertificate is the certificate of tls-server-end-point where the configuration
// has exactly one, as in tests; what package tlsconf chose is noted by the handshake.
func (s *Server) ownCertificate() *x509.Certificate {
	c := s.config.TLS
	if c.GetCertificate != nil || c.GetConfigForClient != nil || len(c.Certificates) != 1 {
		return nil
	}
	return c.Certificates[0].Leaf
}

// linger closes our side and reads what the peer still sends, for a short time.
func linger(c net.Conn) {
	w, ok := c.(interface{ CloseWrite() error })
	if !ok || w.CloseWrite() != nil || c.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, c, lingerOctets)
}

func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
	}
	return netip.AddrPort{}
}

func contains(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
