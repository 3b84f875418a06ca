package pop3client

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"
)

// StartTLS says STLS and does the handshake with c (RFC 2595 §4). What the server offered
// before is forgotten. c decides over certificates; its ServerName must be set unless it
// verifies by itself.
//
// The error is *Unsupported when the server's CAPA has no STLS or TLS is on already, or an
// *Error: a refused STLS leaves the session usable, in plaintext; a failed handshake ends
// it, and its Err is that of crypto/tls. Plaintext behind the reply is ErrInjected.
func (s *Session) StartTLS(ctx context.Context, c *tls.Config) error {
	missing := &Unsupported{Extension: "STLS", Need: "an encrypted connection"}
	if s.tls != nil || s.loggedIn {
		return missing
	}
	end, err := s.begin(ctx, "STLS")
	if err != nil {
		return err
	}
	if err := s.know(); err != nil {
		return end(err)
	}
	if s.caps.Known && !s.caps.STLS {
		return end(missing)
	}
	return end(s.startTLS(c))
}

func (s *Session) startTLS(c *tls.Config) error {
	if err := s.ask("STLS", s.cfg.Timeouts.TLS); err != nil {
		return err
	}
	if s.r != s.w { // they would be taken for encrypted ones
		s.fail()
		return &Error{Command: "STLS", Err: ErrInjected}
	}
	t := tls.Client(s.raw, c)
	_ = s.raw.SetDeadline(time.Now().Add(s.cfg.Timeouts.TLS))
	s.stopped()
	if err := t.Handshake(); err != nil {
		s.cfg.Dialogue.note("TLS handshake failed: " + err.Error())
		s.fail()
		return &Error{Command: commandTLS, Err: fmt.Errorf("TLS handshake: %w", cause(err))}
	}
	state := t.ConnectionState()
	s.conn, s.tls, s.armed = t, &state, time.Time{}
	s.caps, s.asked = Capabilities{}, false // RFC 2595 §4
	s.cfg.Dialogue.note(fmt.Sprintf("TLS handshake done: %s %s", tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite)))
	return nil
}
