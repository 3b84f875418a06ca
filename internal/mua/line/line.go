// Package line opens sessions with the servers of a person's accounts: connection, TLS by the
// account's settings, login by its secrets. A certificate that no authority vouches for is refused
// unless it is the one that the person has accepted; nothing secret goes over a line without TLS.
package line

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/mua/identity"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/pop3client"
	"poczta.example/poczta/internal/sasl"
	"poczta.example/poczta/internal/smtpclient"
)

// dialTimeout bounds connecting, handshakes not included.
const dialTimeout = 30 * time.Second

// maxAuthority is the largest file of certificates that is read, in octets.
const maxAuthority = 4 << 20

// Secrets gives the password or token of an account's server.
type Secrets interface {
	// Password returns the password.
	Password(ctx context.Context, a *profile.Account, outgoing bool) (string, error)
	// Token returns an OAuth2 access token that is still good.
	Token(ctx context.Context, a *profile.Account) (string, error)
}

// Keys are implemented by Secrets that keep the keys of uploaded client certificates.
type Keys interface {
	// Key returns the key of an account's Certificate, as identity.Join takes it.
	Key(ctx context.Context, a *profile.Account) (string, error)
}

// Config is what Lines need. Secrets are required.
type Config struct {
	Secrets Secrets
	Roots   *x509.CertPool // authorities that are trusted; nil is the system's
	// Dial connects to host:port; nil is the system's way.
	Dial func(ctx context.Context, network, hostport string) (net.Conn, error)
	// Hello is our name in EHLO; "" is localhost's literal, which tells nothing about the person.
	Hello string
	// POP3 and SMTP are the timeouts of the sessions.
	POP3 pop3client.Timeouts
	SMTP smtpclient.Timeouts
}

// Lines opens sessions. Safe for concurrent use.
type Lines struct{ c Config }

// New checks the configuration.
func New(c Config) (*Lines, error) {
	if c.Secrets == nil {
		return nil, errors.New("line needs Config.Secrets")
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	if c.Hello == "" {
		c.Hello = "[127.0.0.1]"
	}
	return &Lines{c: c}, nil
}

// CertificateError refuses a server's certificate.
type CertificateError struct {
	Host   string
	SHA256 string // of the certificate, in hexadecimal: what a person may accept
	Err    error
}

// Error says why, and how the certificate could be accepted.
func (e *CertificateError) Error() string {
	return fmt.Sprintf("the certificate of %s is not trusted: %v; if you know by another way that it is right, accept it: poczta mail server --accept %s", e.Host, e.Err, e.SHA256)
}

// Unwrap returns what is wrong with it.
func (e *CertificateError) Unwrap() error { return e.Err }

// POP3 opens a session with an account's incoming server and logs in.
func (l *Lines) POP3(ctx context.Context, a profile.Account) (*pop3client.Session, error) {
	conn, conf, err := l.connect(ctx, &a, &a.Incoming)
	if err != nil {
		return nil, err
	}
	s, err := pop3client.Open(ctx, conn, pop3client.Config{Timeouts: l.c.POP3, Host: a.Incoming.Host, Port: int(a.Incoming.Port),
		Plaintext: a.Incoming.Security == clientconfig.Plain})
	if err != nil {
		return nil, silent(ctx, &a.Incoming, conn, err)
	}
	if a.Incoming.Security == clientconfig.StartTLS {
		err = s.StartTLS(ctx, conf)
	}
	var cred sasl.Credentials
	if err == nil {
		cred, err = l.credentials(ctx, &a, false)
	}
	if err == nil {
		err = s.Login(ctx, cred)
	}
	if err != nil {
		s.Close()
		return nil, certificate(err)
	}
	return s, nil
}

// SMTP opens a session with an account's outgoing server and logs in.
func (l *Lines) SMTP(ctx context.Context, a profile.Account) (*smtpclient.Session, error) {
	conn, conf, err := l.connect(ctx, &a, &a.Outgoing)
	if err != nil {
		return nil, err
	}
	s, err := smtpclient.Open(ctx, conn, smtpclient.Config{Hello: l.c.Hello, Timeouts: l.c.SMTP})
	if err != nil {
		return nil, silent(ctx, &a.Outgoing, conn, err)
	}
	if a.Outgoing.Security == clientconfig.StartTLS {
		err = s.StartTLS(ctx, conf)
	}
	if err == nil && a.Outgoing.Login != "" {
		var cred sasl.Credentials
		if cred, err = l.credentials(ctx, &a, true); err == nil {
			err = s.Auth(ctx, cred)
		}
	}
	if err != nil {
		s.Close()
		return nil, certificate(err)
	}
	return s, nil
}

// connect makes the connection, under TLS where that comes first.
func (l *Lines) connect(ctx context.Context, a *profile.Account, s *profile.Server) (net.Conn, *tls.Config, error) {
	conf, err := l.config(ctx, a, s)
	if err != nil {
		return nil, nil, err
	}
	if s.Security == clientconfig.Plain && !loopback(s.Host) {
		return nil, nil, fmt.Errorf("%s has no TLS, so anybody on the way could read your password; only a server on this computer may be used like that", s.Host)
	}
	conn, err := l.c.Dial(ctx, "tcp", net.JoinHostPort(s.Host, strconv.Itoa(int(s.Port))))
	if err != nil {
		return nil, nil, unreached(s, err)
	}
	if s.Security != clientconfig.TLS {
		return &listener{Conn: conn}, conf, nil
	}
	t := tls.Client(conn, conf)
	hello, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := t.HandshakeContext(hello); err != nil {
		conn.Close()
		return nil, nil, certificate(noTLS(s, err))
	}
	return t, conf, nil
}

// loopback reports whether a host is this computer.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// own is the person's client certificate for a server; nil is none.
func (l *Lines) own(ctx context.Context, a *profile.Account, s *profile.Server) (*tls.Certificate, error) {
	if s.CertificateFile != "" {
		pair, err := tls.LoadX509KeyPair(s.CertificateFile, s.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read your certificate: %w", err)
		}
		return &pair, nil
	}
	if a.Certificate == "" || s.Security == clientconfig.Plain {
		return nil, nil
	}
	keys, ok := l.c.Secrets.(Keys)
	if !ok {
		return nil, identity.ErrKeyGone
	}
	key, err := keys.Key(ctx, a)
	if err != nil {
		return nil, err
	}
	i, err := identity.Join(a.Certificate, key)
	if err != nil {
		return nil, fmt.Errorf("read your certificate: %w", err)
	}
	return i.TLS(), nil
}

// config is the TLS configuration for a server.
func (l *Lines) config(ctx context.Context, a *profile.Account, s *profile.Server) (*tls.Config, error) {
	c := &tls.Config{ServerName: s.Host, RootCAs: l.c.Roots, MinVersion: tls.VersionTLS12}
	if s.AuthorityFile != "" {
		pool, err := authorities(s.AuthorityFile)
		if err != nil {
			return nil, err
		}
		c.RootCAs = pool
	}
	own, err := l.own(ctx, a, s)
	if err != nil {
		return nil, err
	}
	if own != nil {
		c.Certificates = []tls.Certificate{*own}
	}
	// The check is done here in every case, so that a refusal can name the certificate.
	c.InsecureSkipVerify = true
	roots, host, accepted := c.RootCAs, s.Host, strings.ToLower(s.Accepted)
	c.VerifyConnection = func(state tls.ConnectionState) error { return verify(state, roots, host, accepted) }
	return c, nil
}

// verify checks the chain and name of a server's certificate, or that it is the accepted one.
func verify(state tls.ConnectionState, roots *x509.CertPool, host, accepted string) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the server shows no certificate")
	}
	leaf := state.PeerCertificates[0]
	sum := sha256.Sum256(leaf.Raw)
	name := hex.EncodeToString(sum[:])
	if accepted != "" && subtle.ConstantTimeCompare([]byte(name), []byte(accepted)) == 1 {
		return nil
	}
	between := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: host})
	if err == nil && accepted == "" {
		return nil
	}
	if accepted != "" { // a person who accepted one certificate has said that no other is right
		err = errors.New("it is another than the one that was accepted")
	}
	return &CertificateError{Host: host, SHA256: name, Err: err}
}

func authorities(file string) (*x509.CertPool, error) {
	info, err := os.Stat(file)
	if err == nil && info.Size() > maxAuthority {
		err = errors.New("it is too large")
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, fmt.Errorf("read the certificates of your authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("read the certificates of your authority: %s holds none in PEM form", file)
	}
	return pool, nil
}

// credentials are what logs in.
func (l *Lines) credentials(ctx context.Context, a *profile.Account, outgoing bool) (c sasl.Credentials, err error) {
	s := &a.Incoming
	if outgoing {
		s = &a.Outgoing
	}
	c.Username, c.Certificate = s.Login, s.External
	switch {
	case s.External:
	case a.OAuth != nil:
		c.Token, err = l.c.Secrets.Token(ctx, a)
	default:
		c.Password, err = l.c.Secrets.Password(ctx, a, outgoing)
	}
	if err != nil {
		return c, fmt.Errorf("log in to %s: %w", s.Host, err)
	}
	return c, nil
}

// certificate puts a refused certificate first, so that people see how to accept it.
func certificate(err error) error {
	if e, ok := errors.AsType[*CertificateError](err); ok {
		return e
	}
	return err
}
