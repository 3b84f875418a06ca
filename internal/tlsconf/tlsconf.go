// Package tlsconf provides certificates: from files, made by itself, or obtained
// by ACME (RFC 8555), chosen by the client's server name (SNI, RFC 6066 §3), and
// replaced while connections live.
package tlsconf

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Mode says where certificates come from.
type Mode string

// The modes.
const (
	Files      Mode = "files"
	SelfSigned Mode = "self-signed"
	ACME       Mode = "acme"
)

// Pair names the two files of a certificate, in PEM.
type Pair struct{ Cert, Key string }

// Authority is an ACME authority.
type Authority struct {
	Directory string // URL; required
	Email     string
	Root      string // PEM file of the root of the authority's own HTTPS; "" is the system's roots
	Host      string // where solvers listen when HTTPPort and TLSPort are not listened on; "" is everywhere
	HTTPPort  int    // the port that reaches us as 80; 0 is 80
	TLSPort   int    // the port that reaches us as 443; 0 is 443
}

// Config of Certs.
type Config struct {
	Mode      Mode
	Names     []string  // SelfSigned, ACME: host names; the first is for clients that name none
	Pairs     []Pair    // Files: the first is for clients that name none
	Dir       string    // SelfSigned, ACME: an absolute folder for keys
	Authority Authority // ACME
	// Save writes a file with mode 0600, atomically and durably. Required for
	// SelfSigned and ACME.
	Save       func(path string, data []byte) error
	ClientCA   string       // PEM file; "" asks no client for a certificate
	MinVersion uint16       // 0 is TLS 1.2
	Logger     *slog.Logger // nil discards
	Now        func() time.Time
}

// Validate reports every problem of c, joined.
func (c Config) Validate() error {
	var errs []error
	switch c.Mode {
	case Files:
		if len(c.Pairs) == 0 {
			errs = append(errs, errors.New("no certificate files are named"))
		}
	case SelfSigned, ACME:
		if len(c.Names) == 0 {
			errs = append(errs, errors.New("no host names for certificates"))
		}
		if !filepath.IsAbs(c.Dir) || c.Save == nil {
			errs = append(errs, errors.New("absolute Dir and Save are required"))
		}
		if c.Mode == ACME && c.Authority.Directory == "" {
			errs = append(errs, errors.New("the ACME directory URL is missing"))
		}
	default:
		errs = append(errs, fmt.Errorf("mode %q is not one of files, self-signed, acme", c.Mode))
	}
	return errors.Join(errs...)
}

// Certs provides certificates to any number of listeners. Safe for concurrent use.
type Certs struct {
	cfg     Config
	log     *slog.Logger
	now     func() time.Time
	current atomic.Pointer[state]
	acme    *acmeManager
}

// state is what a Load found; it is replaced as a whole.
type state struct {
	certs    []*tls.Certificate // in the order of configuration
	clientCA *x509.CertPool
	plain    *tls.Config // without session tickets
	tickets  *tls.Config
	clients  *tls.Config // with tickets, asks for client certificates
}

// New makes a Certs. It opens nothing; call Load before use.
func New(c Config) (*Certs, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("configure TLS: %w", err)
	}
	t := &Certs{cfg: c, log: c.Logger, now: c.Now}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	if t.now == nil {
		t.now = time.Now
	}
	return t, nil
}

// Load reads the files, or makes the self-signed certificate if none is there or
// it is about to expire. In mode ACME the self-signed one serves until Run has
// obtained the real one. A failed Load leaves what was loaded before; so Load is
// also the reload.
func (t *Certs) Load() error {
	st := new(state)
	var err error
	switch t.cfg.Mode {
	case Files:
		for _, p := range t.cfg.Pairs {
			c, err := tls.LoadX509KeyPair(p.Cert, p.Key)
			if err != nil {
				return fmt.Errorf("load certificate %s with key %s: %w; check that both exist, belong together and are readable", p.Cert, p.Key, err)
			}
			st.certs = append(st.certs, &c)
		}
	default:
		c, err := t.selfSigned()
		if err != nil {
			return err
		}
		st.certs = []*tls.Certificate{c}
	}
	if t.cfg.Mode == ACME && t.acme == nil {
		if t.acme, err = newACME(t.cfg, t.log); err != nil {
			return err
		}
	}
	if t.cfg.ClientCA != "" {
		if st.clientCA, err = readPool(t.cfg.ClientCA); err != nil {
			return err
		}
	}
	t.configs(st)
	t.current.Store(st)
	return nil
}

func readPool(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read authority %s: it holds no certificate in PEM", file)
	}
	return pool, nil
}

// configs makes the configurations that connections get until the next Load.
// Session ticket keys belong to the listener's configuration and outlive a reload.
func (t *Certs) configs(st *state) {
	minVersion := t.cfg.MinVersion
	if minVersion == 0 {
		minVersion = tls.VersionTLS12
	}
	st.tickets = &tls.Config{MinVersion: minVersion, GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) { return t.present(st, h) }}
	st.plain = st.tickets.Clone()
	st.plain.SessionTicketsDisabled = true
	st.clients = st.tickets.Clone()
	if st.clientCA != nil {
		st.clients.ClientAuth = tls.VerifyClientCertIfGiven
		st.clients.ClientCAs = st.clientCA
	}
}

// Purpose is what a listener's configuration is for.
type Purpose int

// The purposes. MTA is port 25: no session tickets, which large peers stumble
// over. People is submission and POP3: session tickets, and client certificates
// when Config.ClientCA is set.
const (
	MTA Purpose = iota
	People
)

// Server returns a configuration for a listener; it follows every later Load.
func (t *Certs) Server(p Purpose) *tls.Config {
	pick := func() *tls.Config {
		st := t.current.Load()
		if p == MTA {
			return st.plain
		}
		return st.clients
	}
	c := pick().Clone()
	c.GetCertificate = func(h *tls.ClientHelloInfo) (*tls.Certificate, error) { return t.present(t.current.Load(), h) }
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return pick(), nil }
	return c
}

// choose picks the certificate for a client: the first that covers its server
// name and that it can use; failing that, the first it can use.
func (t *Certs) choose(st *state, h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if t.acme != nil {
		if c := t.acme.certificate(h); c != nil {
			return c, nil
		}
	}
	name := strings.TrimSuffix(h.ServerName, ".")
	var usable *tls.Certificate
	for _, c := range st.certs {
		if h.SupportsCertificate(c) == nil {
			return c, nil // it covers the name too
		}
		bare := *h
		bare.ServerName = ""
		if usable == nil && bare.SupportsCertificate(c) == nil {
			usable = c
		}
	}
	if usable == nil {
		usable = st.certs[0]
	}
	t.log.Debug("no certificate for server name", "server_name", name)
	return usable, nil
}

// Info tells of one certificate in use.
type Info struct {
	Names      []string
	Issuer     string
	NotAfter   time.Time
	SelfSigned bool
}

// List returns the certificates in use, those that ACME obtained first.
func (t *Certs) List() []Info {
	var out []Info
	if t.acme != nil {
		for _, leaf := range t.acme.leaves() {
			out = append(out, infoOf(leaf))
		}
		if len(out) > 0 {
			return out
		}
	}
	for _, c := range t.current.Load().certs {
		out = append(out, infoOf(c.Leaf))
	}
	return out
}

func infoOf(leaf *x509.Certificate) Info {
	return Info{Names: slices.Clone(leaf.DNSNames), Issuer: leaf.Issuer.String(), NotAfter: leaf.NotAfter,
		SelfSigned: leaf.CheckSignatureFrom(leaf) == nil || leaf.Subject.String() == leaf.Issuer.String()}
}

// Run keeps certificates fresh until ctx ends: it obtains and renews those of
// ACME, and remakes the self-signed one before it expires. Load must have been called.
func (t *Certs) Run(ctx context.Context) error {
	if t.acme != nil {
		return t.acme.run(ctx)
	}
	tick := time.NewTicker(24 * time.Hour)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if t.cfg.Mode != SelfSigned {
				continue
			}
			if err := t.Load(); err != nil {
				t.log.Error("renew certificate", "error", err)
			}
		}
	}
}

// SetExtra replaces the names for which ACME obtains certificates beside Config.Names,
// each a certificate of its own: one that fails is tried again with growing pauses and
// holds up no other. ctx ends the management, as that of Run. In other modes it does
// nothing. Load must have been called.
func (t *Certs) SetExtra(ctx context.Context, names []string) error {
	if t.acme == nil {
		return nil
	}
	return t.acme.set(ctx, names)
}

// Extra returns what SetExtra was given.
func (t *Certs) Extra() []string {
	if t.acme == nil {
		return nil
	}
	t.acme.mu.Lock()
	defer t.acme.mu.Unlock()
	return slices.Clone(t.acme.extra)
}

// HTTP answers the ACME HTTP challenge (RFC 8555 §8.3) and gives other requests to next.
func (t *Certs) HTTP(next http.Handler) http.Handler {
	if t.acme == nil {
		return next
	}
	return t.acme.http(next)
}

// HTTPS is the configuration of the HTTPS listener, which answers the ACME
// challenge by TLS-ALPN (RFC 8737) beside ordinary connections.
func (t *Certs) HTTPS() *tls.Config {
	c := t.Server(People)
	c.GetConfigForClient = nil
	c.ClientAuth = tls.NoClientCert
	c.NextProtos = []string{"http/1.1", "acme-tls/1"}
	return c
}
