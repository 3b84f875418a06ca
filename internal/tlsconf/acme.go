package tlsconf

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// acmeManager obtains and renews certificates by ACME with a configuration and a
// cache of its own; nothing of certmagic's package state is used.
type acmeManager struct {
	names  []string
	mu     sync.Mutex
	extra  []string
	cfg    *certmagic.Config
	cache  *certmagic.Cache
	issuer *certmagic.ACMEIssuer
}

// newACME prepares the manager. Its cache owns a goroutine that run ends.
func newACME(c Config, log *slog.Logger) (*acmeManager, error) {
	m := &acmeManager{names: c.Names}
	logger := zap.New(slogCore{log: log.With("component", "acme")})
	issuer := certmagic.ACMEIssuer{
		CA: c.Authority.Directory, Email: c.Authority.Email, Agreed: true,
		ListenHost: c.Authority.Host, AltHTTPPort: c.Authority.HTTPPort, AltTLSALPNPort: c.Authority.TLSPort, Logger: logger,
	}
	if c.Authority.Root != "" {
		pool, err := readPool(c.Authority.Root)
		if err != nil {
			return nil, err
		}
		issuer.TrustedRoots = pool
	}
	m.cache = certmagic.NewCache(certmagic.CacheOptions{Logger: logger,
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return m.cfg, nil }})
	m.cfg = certmagic.New(m.cache, certmagic.Config{
		Storage: &certmagic.FileStorage{Path: filepath.Join(c.Dir, "acme")}, Logger: logger,
		DefaultServerName: c.Names[0], FallbackServerName: c.Names[0],
	})
	m.issuer = certmagic.NewACMEIssuer(m.cfg, issuer)
	m.cfg.Issuers = []certmagic.Issuer{m.issuer}
	return m, nil
}

// run manages the certificates until ctx ends. Failures are retried by the
// library with growing pauses, for 30 days, and logged.
func (m *acmeManager) run(ctx context.Context) error {
	defer m.cache.Stop()
	if err := m.cfg.ManageAsync(ctx, m.names); err != nil {
		return fmt.Errorf("manage certificates: %w", err)
	}
	<-ctx.Done()
	return nil
}

// set replaces the further names.
func (m *acmeManager) set(ctx context.Context, names []string) error {
	m.mu.Lock()
	before := m.extra
	m.extra = slices.Clone(names)
	m.mu.Unlock()
	var gone []certmagic.SubjectIssuer
	for _, n := range before {
		if !slices.Contains(names, n) && !slices.Contains(m.names, n) {
			gone = append(gone, certmagic.SubjectIssuer{Subject: n})
		}
	}
	m.cache.RemoveManaged(gone)
	fresh := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return slices.Contains(before, n) })
	return m.cfg.ManageAsync(ctx, fresh)
}

// all are the names that certificates are for.
func (m *acmeManager) all() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Concat(m.names, m.extra)
}

// certificate answers a ClientHello, challenges included; nil when there is none yet.
func (m *acmeManager) certificate(h *tls.ClientHelloInfo) *tls.Certificate {
	challenge := slices.Contains(h.SupportedProtos, "acme-tls/1")
	if !challenge && !m.any() {
		return nil
	}
	c, err := m.cfg.GetCertificate(h)
	if err != nil {
		return nil
	}
	return c
}

// any reports whether there is a certificate.
func (m *acmeManager) any() bool {
	return slices.ContainsFunc(m.all(), func(n string) bool { return len(m.cache.AllMatchingCertificates(n)) > 0 })
}

func (m *acmeManager) leaves() []*x509.Certificate {
	var out []*x509.Certificate
	for _, n := range m.all() {
		for _, c := range m.cache.AllMatchingCertificates(n) {
			if c.Leaf != nil && !slices.ContainsFunc(out, c.Leaf.Equal) {
				out = append(out, c.Leaf)
			}
		}
	}
	return out
}

func (m *acmeManager) http(next http.Handler) http.Handler {
	return m.issuer.HTTPChallengeHandler(next)
}

// slogCore carries the library's log into ours. Its debug level is left out: it
// is long and holds challenge tokens.
type slogCore struct {
	log    *slog.Logger
	fields []zapcore.Field
}

func (c slogCore) level(l zapcore.Level) slog.Level {
	switch {
	case l >= zapcore.ErrorLevel:
		return slog.LevelError
	case l == zapcore.WarnLevel:
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

// Enabled implements zapcore.Core.
func (c slogCore) Enabled(l zapcore.Level) bool {
	return l >= zapcore.InfoLevel && c.log.Enabled(context.Background(), c.level(l))
}

// With implements zapcore.Core.
func (c slogCore) With(f []zapcore.Field) zapcore.Core {
	return slogCore{log: c.log, fields: append(slices.Clip(c.fields), f...)}
}

// Check implements zapcore.Core.
func (c slogCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write implements zapcore.Core.
func (c slogCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range append(slices.Clip(c.fields), fields...) {
		f.AddTo(enc)
	}
	args := make([]any, 0, 2*len(enc.Fields))
	for _, k := range slices.Sorted(maps.Keys(enc.Fields)) {
		args = append(args, k, enc.Fields[k])
	}
	c.log.Log(context.Background(), c.level(e.Level), strings.TrimSpace(e.Message), args...)
	return nil
}

// Sync implements zapcore.Core.
func (c slogCore) Sync() error { return nil }
