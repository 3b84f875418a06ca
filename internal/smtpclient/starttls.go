package smtpclient

import (
	"context"
	"crypto/tls"
	"fmt"
)

// StartTLS says STARTTLS, does the handshake with c and says EHLO again (RFC 3207).
// What the server offered before is forgotten. c decides over certificates; its
// ServerName must be set unless it verifies by itself.
//
// The error is *Unsupported when the server does not offer STARTTLS or TLS is on
// already, or an *Error: at StageStartTLS with a Reply the session is usable, in
// plaintext; a failed handshake (StageTLS) ends it, and its Err is that of crypto/tls.
// Plaintext that arrived behind the reply is ErrInjected.
func (s *Session) StartTLS(ctx context.Context, c *tls.Config) error {
	if !s.ext.StartTLS || s.tls != nil {
		return &Unsupported{Extension: "STARTTLS", Need: "an encrypted connection"}
	}
	end, err := s.begin(ctx, StageStartTLS)
	if err != nil {
		return err
	}
	return end(s.startTLS(c))
}

func (s *Session) startTLS(c *tls.Config) error {
	r, err := s.ask(StageStartTLS, "STARTTLS")
	if err != nil {
		return err
	}
	if r.Code/100 != 2 {
		return s.refused(StageStartTLS, r)
	}
	if s.r != s.w { // they would be taken for encrypted ones
		s.fail()
		return &Error{Stage: StageStartTLS, Reply: &r, Err: ErrInjected}
	}
	t := tls.Client(s.raw, c)
	s.arm(StageTLS)
	if err := t.Handshake(); err != nil {
		s.cfg.Dialogue.note("TLS handshake failed: " + err.Error())
		s.fail()
		return &Error{Stage: StageTLS, Err: handshakeCause(err)}
	}
	state := t.ConnectionState()
	s.conn, s.tls = t, &state
	s.cfg.Dialogue.note(fmt.Sprintf("TLS handshake done: %s %s", tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite)))
	return s.hello()
}

// handshakeCause keeps the errors of certificates and alerts as they are and gives
// those of the connection their usual form.
func handshakeCause(err error) error { return fmt.Errorf("TLS handshake: %w", cause(err)) }
