package smtpserver

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"strings"

	"poczta.example/poczta/internal/smtp"
)

// starttls answers STARTTLS (RFC 3207). What a client, or somebody on the way, sent
// behind the command before the handshake would be read as if it had come under
// TLS; such a session ends here.
func (s *session) starttls(cmd smtp.Command) error {
	if err := cmd.NoArgument(); err != nil {
		return s.fault(s.replyOf(err))
	}
	if s.facts.tls != nil {
		return s.fault(smtp.Reply{Code: 503, Subject: 5, Detail: 1, Text: "TLS is active already"})
	}
	if s.in.buffered() > 0 {
		s.in.drop()
		s.log(slog.LevelWarn, "smtp commands behind STARTTLS, session ended")
		return s.hangUp(421, 7, 0, "Commands behind STARTTLS are not accepted, closing the connection")
	}
	s.abort()
	_ = s.say(220, 0, 0, "Ready to start TLS")
	if err := s.out.flush(); err != nil {
		return err
	}
	if err := s.secure(s.srv.cfg.Limits.Handshake); err != nil {
		return err
	}
	s.setState(stateConnected, nil) // the client greets again (RFC 3207 §4.2)
	return nil
}

// tlsText is version and cipher suite as trace fields show them.
func tlsText(st *tls.ConnectionState) string {
	return strings.ReplaceAll(tls.VersionName(st.Version), " ", "") + " " + tls.CipherSuiteName(st.CipherSuite)
}

// ownCertificate is the certificate that the server sent where the configuration has
// one for all names; what package tlsconf chose is noted by the handshake.
func ownCertificate(cfg *tls.Config) *x509.Certificate {
	if cfg == nil || len(cfg.Certificates) != 1 || cfg.GetCertificate != nil || cfg.GetConfigForClient != nil {
		return nil
	}
	c := &cfg.Certificates[0]
	if c.Leaf != nil || len(c.Certificate) == 0 {
		return c.Leaf
	}
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil { // then no handshake succeeds either
		return nil
	}
	return leaf
}
