// Package tlsreport tells domains once a day what TLS sessions with their hosts
// came to, if their DNS asks for it (RFC 8460): by mail, which enters the house by
// post.Accept like any other, or by HTTPS.
package tlsreport

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/resolver"
	"poczta.example/poczta/internal/tlsrpt"
)

// Store has the counts; *tlspolicy.Store is one.
type Store interface {
	Unreported(ctx context.Context, day int64, after string, limit int) ([]address.Domain, error)
	Sessions(ctx context.Context, day int64, domain address.Domain) ([]tlsrpt.PolicyResult, error)
	MarkReported(tx db.Tx, day int64, domain address.Domain) error
	ClearReported(ctx context.Context, day int64, domain address.Domain) error
}

// Router says where mail for a forward-path goes; *account.Accounts is one.
type Router interface {
	Route(ctx context.Context, to address.ForwardPath) (account.Route, error)
}

// Config is what a Reporter needs. All but the last group is required.
type Config struct {
	Store    Store
	Reported error // what Store.MarkReported returns when somebody else reports: tlspolicy.ErrReported
	DB       db.Database
	Resolver resolver.Resolver
	Accepter post.Accepter
	Router   Router
	// From is the sender of reports and their contact. Its domain must have a DKIM key.
	From address.Address
	// Sign returns the DKIM-Signature fields of a message, with CRLF; none if the domain
	// has no key: then no report goes by mail, since nobody would read it (RFC 8460 §3).
	Sign func(ctx context.Context, domain address.Domain, msg []byte) ([]byte, error)

	Organization string                       // who reports; "" is From's domain
	Barred       func(addr netip.Addr) string // says why we connect to no host at addr, or ""
	Roots        *x509.CertPool               // for HTTPS; nil: those of the system
	Delay        time.Duration                // reports of a day begin so long after its end; 0 is random, 30 min to 4 h (RFC 8460 §4.1)
	Now          func() time.Time             // nil is time.Now
	Random       io.Reader                    // nil is crypto/rand
	Logger       *slog.Logger                 // nil discards
}

// Reporter sends reports. Safe for concurrent use; several nodes may each have one.
type Reporter struct {
	cfg    Config
	client *http.Client
}

// New makes a Reporter.
func New(c Config) (*Reporter, error) {
	if c.Store == nil || c.Reported == nil || c.DB == nil || c.Resolver == nil || c.Accepter == nil || c.Router == nil || c.Sign == nil {
		return nil, errors.New("tlsreport: Store, Reported, DB, Resolver, Accepter, Router and Sign are needed")
	}
	if c.From.IsZero() || !c.From.IsASCII() {
		return nil, fmt.Errorf("tlsreport: the sender of reports %q must be an ASCII address", c.From)
	}
	if c.Organization == "" {
		c.Organization = c.From.Domain().String()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Random == nil {
		c.Random = rand.Reader
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Delay <= 0 {
		var b [1]byte
		if _, err := io.ReadFull(c.Random, b[:]); err != nil {
			return nil, err
		}
		c.Delay = 30*time.Minute + time.Duration(b[0])*210*time.Minute/255
	}
	transport := &http.Transport{
		DialContext:       resolver.Dialer{Resolver: c.Resolver, Barred: c.Barred}.Dial,
		TLSClientConfig:   &tls.Config{RootCAs: c.Roots, MinVersion: tls.VersionTLS12},
		DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10,
	}
	return &Reporter{cfg: c, client: &http.Client{
		Transport: transport, Timeout: time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Run sends the reports of each day after its end, until ctx ends. Those that
// can't be sent are tried again each hour until the next day ends.
func (r *Reporter) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		if now := r.cfg.Now().UTC(); now.Sub(now.Truncate(24*time.Hour)) >= r.cfg.Delay {
			sent, err := r.Send(ctx, now.Unix()/86400-1)
			if err != nil && ctx.Err() == nil {
				r.cfg.Logger.Warn("TLS reports could not all be sent", "sent", sent, "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// pause between reports, so that they don't come as a wave; and how long one domain's
// places may take altogether, so that those who stall don't keep the others from theirs.
const (
	pause     = 200 * time.Millisecond
	placeTime = time.Minute
)

// Send sends a day's reports, to each domain that asks for one and has none yet.
// It returns how many went, and the last reason why one could not go, which is no
// reason not to send the others.
func (r *Reporter) Send(ctx context.Context, day int64) (sent int, failed error) {
	for after := ""; ; {
		domains, err := r.cfg.Store.Unreported(ctx, day, after, 100)
		if err != nil || len(domains) == 0 {
			return sent, errors.Join(failed, err)
		}
		for _, d := range domains {
			ok, err := r.report(ctx, day, d)
			if err != nil {
				failed = fmt.Errorf("report to %s: %w", d, err)
			}
			after = d.String()
			if !ok {
				continue
			}
			sent++
			select {
			case <-ctx.Done():
				return sent, ctx.Err()
			case <-time.After(pause):
			}
		}
	}
}

// report sends one domain its report. A domain that asks for none is marked as done.
func (r *Reporter) report(ctx context.Context, day int64, domain address.Domain) (sent bool, err error) {
	rec, err := tlsrpt.LookupRecord(ctx, r.cfg.Resolver, domain)
	if errors.Is(err, tlsrpt.ErrNoRecord) || errors.Is(err, tlsrpt.ErrSyntax) {
		return false, r.mark(ctx, day, domain)
	}
	if err != nil {
		return false, err
	}
	policies, err := r.cfg.Store.Sessions(ctx, day, domain)
	if err != nil {
		return false, err
	}
	id, err := message.NewID(r.cfg.Now(), r.cfg.Random)
	if err != nil {
		return false, err
	}
	rep := tlsrpt.Report{
		Organization: r.cfg.Organization, Range: tlsrpt.Day(day), Contact: r.cfg.From.String(),
		ID: id.String() + "@" + r.cfg.From.Domain().String(), Policies: policies,
	}
	var failed error
	limited, cancel := context.WithTimeout(ctx, placeTime)
	defer cancel()
	for _, u := range rec.URIs { // one that takes it is enough (RFC 8460 §3)
		if u.Scheme == "mailto" {
			err = r.mail(ctx, u, letter{day: day, domain: domain, id: id, report: rep})
		} else {
			err = r.upload(limited, u, day, domain, rep)
		}
		if err == nil {
			return true, nil
		}
		if errors.Is(err, r.cfg.Reported) {
			return false, nil
		}
		failed = fmt.Errorf("%s: %w", u.Redacted(), err)
	}
	return false, failed
}

func (r *Reporter) mark(ctx context.Context, day int64, domain address.Domain) error {
	err := r.cfg.DB.Update(ctx, func(tx db.Tx) error { return r.cfg.Store.MarkReported(tx, day, domain) })
	if errors.Is(err, r.cfg.Reported) {
		return nil
	}
	return err
}

// upload sends the report by HTTPS (RFC 8460 §5.4).
func (r *Reporter) upload(ctx context.Context, u *url.URL, day int64, domain address.Domain, rep tlsrpt.Report) error {
	file, err := rep.Gzip()
	if err != nil {
		return err
	}
	// Marked first: a report lost in a crash costs less than one that each node sends.
	if err := r.cfg.DB.Update(ctx, func(tx db.Tx) error { return r.cfg.Store.MarkReported(tx, day, domain) }); err != nil {
		return err
	}
	if err := r.put(ctx, u, file); err != nil {
		return errors.Join(err, r.cfg.Store.ClearReported(context.WithoutCancel(ctx), day, domain))
	}
	return nil
}

func (r *Reporter) put(ctx context.Context, u *url.URL, file []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(file))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", tlsrpt.MediaGzip)
	req.Header.Set("User-Agent", "poczta")
	reply, err := r.client.Do(req)
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	if reply.StatusCode/100 != 2 {
		return fmt.Errorf("the server answers %d", reply.StatusCode)
	}
	return nil
}
