package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/dkim"
	"poczta.example/poczta/internal/keys"
	"poczta.example/poczta/internal/report"
	"poczta.example/poczta/internal/submit"
)

// newKeys opens the signing keys. They ask DNS without a cache: a record that was
// not there a minute ago may be there now.
func newKeys(d db.Database, c *config.Config, o RoomOptions) (*keys.Keys, error) {
	dns, err := NewStub(c)
	if err != nil {
		return nil, err
	}
	kc := keys.Config{DB: d, Records: keys.DNS{Resolver: dns}, Logger: o.Logger, Hooks: o.Metrics.Keys()}
	for _, a := range c.DKIM.Algorithms {
		kc.Algorithms = append(kc.Algorithms, keys.Algorithm(a))
	}
	return keys.New(kc)
}

// signers are what submission and reports sign with; nil when nothing is signed.
func signers(r *Rooms) (submit.Signers, report.Signers) {
	if !r.Config.DKIM.Sign {
		return nil, nil
	}
	return r.Keys, r.Keys
}

// resigner signs what does not come by submission: what relay had to re-encode, and
// reports of TLS.
type resigner struct{ keys *keys.Keys }

// signing is what dkim's Signing and Whole have in common.
type signing interface {
	io.Writer
	Fields(now time.Time) ([]byte, error)
}

// Sign implements relay.Signer.
func (s resigner) Sign(ctx context.Context, domain address.Domain, header []byte, body io.Reader) ([]byte, error) {
	return s.fields(ctx, domain, body, func(signer *dkim.Signer) signing { return signer.Begin(header, dkim.Options{}) })
}

// signWhole is tlsreport.Config.Sign.
func (s resigner) signWhole(ctx context.Context, domain address.Domain, msg []byte) ([]byte, error) {
	return s.fields(ctx, domain, bytes.NewReader(msg), func(signer *dkim.Signer) signing { return signer.Whole(dkim.Options{}) })
}

// fields signs what octets has; a domain without keys has no fields.
func (s resigner) fields(ctx context.Context, domain address.Domain, octets io.Reader, begin func(*dkim.Signer) signing) ([]byte, error) {
	signer, err := s.keys.Signer(ctx, domain)
	if errors.Is(err, keys.ErrNoKey) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	g := begin(signer)
	if _, err := io.Copy(g, octets); err != nil {
		return nil, fmt.Errorf("sign for %s: %w", domain, err)
	}
	return g.Fields(time.Now())
}
