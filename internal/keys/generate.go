package keys

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base32"
	"fmt"
	"io"
	"slices"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/dkim"
)

// rsaBits is the length of new RSA keys: a longer record does not fit into some
// name servers' forms, and RFC 8301 §3.2 asks for no more.
const rsaBits = 2048

// fresh is a key that was made and is not stored yet.
type fresh struct {
	Key
	private []byte // PKCS #8
}

// generate makes one key of each configured algorithm, outside of any
// transaction: an RSA key takes some 100 ms.
func (k *Keys) generate(domain address.Domain) ([]fresh, error) {
	var all []fresh
	for _, a := range k.c.Algorithms {
		if slices.ContainsFunc(all, func(f fresh) bool { return f.Algorithm == a }) {
			continue
		}
		f, err := k.generateOne(domain, a)
		if err != nil {
			return nil, fmt.Errorf("make %s key of %s: %w", a, domain, err)
		}
		all = append(all, f)
	}
	return all, nil
}

func (k *Keys) generateOne(domain address.Domain, a Algorithm) (f fresh, err error) {
	var private crypto.Signer
	if a == RSA {
		private, err = rsa.GenerateKey(rand.Reader, rsaBits)
	} else {
		_, private, err = generateEd25519()
	}
	if err != nil {
		return f, err
	}
	f.Domain, f.Algorithm = domain, a
	if f.Selector, err = k.selector(a); err != nil {
		return f, err
	}
	if f.Record, err = dkim.Record(private.Public()); err != nil {
		return f, err
	}
	f.private, err = x509.MarshalPKCS8PrivateKey(private)
	return f, err
}

func generateEd25519() (ed25519.PublicKey, crypto.Signer, error) {
	return ed25519.GenerateKey(rand.Reader)
}

// selector makes a name that was never used in the domain: caches may still know
// an old one.
func (k *Keys) selector(a Algorithm) (string, error) {
	var random [5]byte
	if _, err := io.ReadFull(k.c.Random, random[:]); err != nil {
		return "", fmt.Errorf("make selector: %w", err)
	}
	prefix := map[Algorithm]string{Ed25519: "ed", RSA: "rsa"}[a]
	return fmt.Sprintf("%s-%s-%s", prefix, k.c.Now().UTC().Format("20060102"), strings.ToLower(base32.StdEncoding.EncodeToString(random[:])[:5])), nil
}

// insert stores made keys at a stage.
func insert(tx db.Tx, keys []fresh, stage Stage, now int64) error {
	activated := int64(0)
	if stage == Active {
		activated = now
	}
	for _, f := range keys {
		_, err := tx.Exec(`INSERT INTO dkim_key (`+keyColumns+`, private) VALUES (?, ?, ?, ?, ?, ?, 0, ?, 0, 0, ?)`,
			f.Domain.String(), f.Selector, string(f.Algorithm), int64(stage), f.Record, now, activated, f.private)
		if err != nil {
			return err
		}
	}
	return nil
}

// Create gives a domain its first keys, which sign at once: until their records
// are in DNS others find no key, which counts like no signature (RFC 6376 §6.1).
// A domain that has active keys keeps them. It returns the domain's keys.
func (k *Keys) Create(ctx context.Context, domain address.Domain) (all []Key, err error) {
	var made []fresh
	err = k.again(func() error {
		version, have, err := k.state(ctx, domain)
		if err != nil || slices.ContainsFunc(have, func(x Key) bool { return x.Stage == Active }) {
			return err
		}
		if made == nil {
			if made, err = k.generate(domain); err != nil {
				return err
			}
		}
		err = k.change(ctx, domain, version, func(tx db.Tx, now int64) error { return insert(tx, made, Active, now) })
		if err == nil {
			k.moved(domain, Active, len(made))
		}
		return err
	}, "create keys of "+domain.String())
	if err != nil {
		return nil, err
	}
	return k.List(ctx, domain)
}
