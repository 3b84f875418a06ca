package keys

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/dkim"
)

// maxCached bounds the domains that are remembered, those without keys included.
const maxCached = 10_000

// cached is a domain's signer, nil when it has no keys.
type cached struct {
	signer  *dkim.Signer
	version int64
	looked  time.Time
}

// Signer returns what signs for a domain with its active keys, Ed25519 first; the
// error wraps ErrNoKey when it has none. A change by this process counts at once,
// one by another node after Config.Fresh; till then the version alone is read, and
// keys only when it has changed.
func (k *Keys) Signer(ctx context.Context, domain address.Domain) (*dkim.Signer, error) {
	k.mu.Lock()
	c := k.cache[domain]
	k.mu.Unlock()
	now := k.c.Now()
	if c == nil || now.Sub(c.looked) >= k.c.Fresh || now.Before(c.looked) {
		next, err := k.load(ctx, domain, c)
		if err != nil {
			return nil, fmt.Errorf("load keys of %s: %w", domain, err)
		}
		next.looked = now
		k.remember(domain, c, next)
		c = next
	}
	if c.signer == nil {
		return nil, fmt.Errorf("%w: %s", ErrNoKey, domain)
	}
	return c.signer, nil
}

// remember stores what was loaded, unless a change came in between.
func (k *Keys) remember(domain address.Domain, old, now *cached) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.cache[domain] != old {
		return
	}
	for d := range k.cache {
		if len(k.cache) < maxCached {
			break
		}
		delete(k.cache, d) // any of them
	}
	k.cache[domain] = now
}

// forget makes the next Signer read the keys. What another goroutine is loading
// now is not remembered: it may be older.
func (k *Keys) forget(domain address.Domain) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cache[domain] = &cached{version: -1}
}

// stored is a key as it lies in the table.
type stored struct {
	selector string
	private  []byte
}

// load reads the version, and the keys if it is not that of old.
func (k *Keys) load(ctx context.Context, domain address.Domain, old *cached) (*cached, error) {
	c := &cached{}
	var found []stored
	err := k.c.DB.View(ctx, func(tx db.Tx) (err error) {
		found = nil
		if c.version, err = versionOf(tx, domain); err != nil || old != nil && old.version == c.version {
			return err
		}
		found, err = activeKeys(tx, domain)
		return err
	})
	if err != nil {
		return nil, err
	}
	if old != nil && old.version == c.version {
		c.signer = old.signer
		return c, nil
	}
	var signing []dkim.SigningKey
	for _, s := range found {
		private, err := x509.ParsePKCS8PrivateKey(s.private)
		if err != nil {
			return nil, fmt.Errorf("key %s can't be read; replace it with: poczta domain rotate %s --force", s.selector, domain)
		}
		signer, ok := private.(crypto.Signer)
		if !ok {
			return nil, errors.New("key " + s.selector + " can't sign")
		}
		signing = append(signing, dkim.SigningKey{Selector: s.selector, Private: signer})
	}
	if len(signing) > 0 {
		c.signer, err = dkim.NewSigner(domain, signing...)
	}
	return c, err
}

func activeKeys(tx db.Tx, domain address.Domain) ([]stored, error) {
	rows, err := tx.Query(`SELECT selector, private FROM dkim_key WHERE domain = ? AND stage = ? ORDER BY algorithm, selector`, domain.String(), int64(Active))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []stored
	for rows.Next() {
		var s stored
		if err := rows.Scan(&s.selector, &s.private); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, rows.Err()
}
