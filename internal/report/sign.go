package report

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/dkim"
	"poczta.example/poczta/internal/keys"
	"poczta.example/poczta/internal/post"
)

// Signers makes what signs for a domain; *keys.Keys is one. The error wraps
// keys.ErrNoKey when the domain has no keys here.
type Signers interface {
	Signer(ctx context.Context, domain address.Domain) (*dkim.Signer, error)
}

// write stages what content writes, and signs it for from, the domain of its From
// field, if it leaves this house.
func (r *Reporter) write(ctx context.Context, from address.Domain, content func(io.Writer) error, d *post.Delivery) error {
	var signer *dkim.Signer
	if len(d.Remotes) > 0 && r.c.Signers != nil {
		var err error
		if signer, err = r.signer(ctx, from); err != nil {
			return fmt.Errorf("sign report %s: %w", d.ID, err)
		}
	}
	if signer == nil {
		return content(d.Staged)
	}
	signing := signer.Whole(dkim.Options{})
	if err := content(io.MultiWriter(d.Staged, signing)); err != nil {
		return err
	}
	fields, err := signing.Fields(d.Envelope.Origin.Time)
	if err != nil {
		return fmt.Errorf("sign report %s: %w", d.ID, err)
	}
	d.Head = append(d.Head, fields...)
	return nil
}

// signer signs for the domain of From, as our host name is in reports, or for the nearest
// domain above it that has keys: DMARC takes both for aligned (RFC 9989). It is nil
// when there is none.
func (r *Reporter) signer(ctx context.Context, from address.Domain) (*dkim.Signer, error) {
	for name := from.String(); strings.Contains(name, "."); _, name, _ = strings.Cut(name, ".") {
		domain, err := address.ParseDomain(name)
		if err != nil {
			return nil, err
		}
		s, err := r.c.Signers.Signer(ctx, domain)
		if err == nil || !errors.Is(err, keys.ErrNoKey) {
			return s, err
		}
	}
	return nil, nil
}
