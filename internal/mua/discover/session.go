package discover

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"

	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/pop3client"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/smtpclient"
)

// probe connects, and wants TLS with a certificate for the host's name and the
// protocol's greeting; nothing about the person is told.
func (s *search) probe(ctx context.Context, x Server) (Result, string) {
	if ctx.Err() != nil {
		return Late, ""
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Request)
	defer cancel()
	if x.Protocol == clientconfig.POP3 {
		return s.popSession(ctx, x, nil, func(*pop3client.Session) (Result, string) { return Found, "" })
	}
	return s.smtpSession(ctx, x, nil, func(c *smtpclient.Session) (Result, string) {
		if len(c.Extensions().Auth) == 0 { // an MX host, not one for its people
			return NoMechanism, ""
		}
		return Found, ""
	})
}

// config is the TLS configuration for a server.
func (f *Finder) config(s Server, cert *tls.Certificate) *tls.Config {
	c := &tls.Config{ServerName: s.Host, RootCAs: f.cfg.Roots, MinVersion: tls.VersionTLS12}
	if cert != nil {
		c.Certificates = []tls.Certificate{*cert}
	}
	return c
}

// dial connects, with TLS where the server has it from the first octet.
func (f *Finder) dial(ctx context.Context, s Server, cert *tls.Certificate) (net.Conn, error) {
	conn, err := f.cfg.Dial(ctx, "tcp", net.JoinHostPort(s.Host, strconv.Itoa(int(s.Port))))
	if err != nil || s.Security != clientconfig.TLS {
		return conn, err
	}
	t := tls.Client(conn, f.config(s, cert))
	if err := t.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	return t, nil
}

// popSession opens a session under TLS, gives it to do, and leaves.
func (f *Finder) popSession(ctx context.Context, s Server, cert *tls.Certificate, do func(*pop3client.Session) (Result, string)) (Result, string) {
	conn, err := f.dial(ctx, s, cert)
	if err != nil {
		return failure(err)
	}
	x, err := pop3client.Open(ctx, conn, pop3client.Config{Host: s.Host, Port: int(s.Port)})
	if err != nil {
		return popFailure(err)
	}
	defer x.Close()
	if s.Security == clientconfig.StartTLS {
		if err := x.StartTLS(ctx, f.config(s, cert)); err != nil {
			return popFailure(err)
		}
	}
	result, detail := do(x)
	if x.Usable() {
		_ = x.Quit(ctx) // nothing was marked: nothing depends on it
	}
	return result, detail
}

// popFailure says why there is no session under TLS.
func popFailure(err error) (Result, string) {
	e, ok := errors.AsType[*pop3client.Error](err)
	switch kind := pop3client.KindOf(err); {
	case kind == pop3client.KindUnsupported, ok && e.Command == "STLS" && e.Refused, errors.Is(err, pop3client.ErrInjected):
		return NoTLS, ""
	case kind == pop3client.KindProtocol:
		return OtherProtocol, ""
	case kind == pop3client.KindInUse, kind == pop3client.KindDelay, kind == pop3client.KindTemporary:
		return Later, clip(e.Reply)
	case ok && e.Refused:
		return Trouble, clip(e.Reply)
	case errors.Is(err, pop3client.ErrHangup):
		return Lost, ""
	}
	return failure(err)
}

// smtpSession is popSession for SMTP.
func (f *Finder) smtpSession(ctx context.Context, s Server, cert *tls.Certificate, do func(*smtpclient.Session) (Result, string)) (Result, string) {
	conn, err := f.dial(ctx, s, cert)
	if err != nil {
		return failure(err)
	}
	x, err := smtpclient.Open(ctx, conn, smtpclient.Config{Hello: f.cfg.Hello})
	if err != nil {
		return smtpFailure(err)
	}
	defer x.Close()
	if s.Security == clientconfig.StartTLS {
		if err := x.StartTLS(ctx, f.config(s, cert)); err != nil {
			return smtpFailure(err)
		}
	}
	result, detail := do(x)
	if x.Usable() {
		_ = x.Quit(ctx) // no transaction was begun: nothing depends on it
	}
	return result, detail
}

// smtpFailure says why there is no session under TLS.
func smtpFailure(err error) (Result, string) {
	if _, ok := errors.AsType[*smtpclient.Unsupported](err); ok || errors.Is(err, smtpclient.ErrInjected) {
		return NoTLS, ""
	}
	e, ok := errors.AsType[*smtpclient.Error](err)
	switch {
	case ok && e.Reply != nil && e.Stage == smtpclient.StageStartTLS:
		return NoTLS, clip(e.Reply.Text)
	case ok && e.Reply != nil && e.Reply.Code/100 == 4:
		return Later, clip(e.Reply.Text)
	case ok && e.Reply != nil:
		return Trouble, clip(e.Reply.Text)
	case errors.Is(err, smtp.ErrReplySyntax), errors.Is(err, smtpclient.ErrProtocol), errors.Is(err, smtpclient.ErrUnsolicited):
		return OtherProtocol, ""
	case errors.Is(err, smtpclient.ErrHangup):
		return Lost, ""
	}
	return failure(err)
}
