package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"net"
)

// Noted is a connection that notes which certificate of Certs a handshake over it
// presents: the channel binding tls-server-end-point (RFC 5929 §4) needs it, and
// crypto/tls does not tell. Give it to tls.Server in place of Conn. Used by one
// goroutine.
type Noted struct {
	net.Conn

	cert *tls.Certificate
}

// Presented returns the certificate of a finished handshake. It is nil after a
// handshake that resumed a session, in which none is presented, and where the
// configuration is not one of Certs.
func (n *Noted) Presented(st *tls.ConnectionState) *x509.Certificate {
	if n.cert == nil || st.DidResume || len(n.cert.Certificate) == 0 {
		return nil
	}
	if n.cert.Leaf != nil {
		return n.cert.Leaf
	}
	leaf, err := x509.ParseCertificate(n.cert.Certificate[0])
	if err != nil {
		return nil
	}
	return leaf
}

// present chooses the certificate for a client and notes it.
func (t *Certs) present(st *state, h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	c, err := t.choose(st, h)
	if n, ok := h.Conn.(*Noted); ok {
		n.cert = c
	}
	return c, err
}
