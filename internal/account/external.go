package account

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/sasl"
)

// maxCertNames is how many addresses of a certificate are looked up.
const maxCertNames = 20

// VerifyExternal implements sasl.Verifier. A certificate speaks for the account
// that AddCert gave it to; else for the accounts that have its rfc822Names
// (subjectAltName) as login or address: for the one authzid names, or without
// authzid for the only one.
func (a *Accounts) VerifyExternal(ctx context.Context, peer sasl.Peer, authzid string, cert *x509.Certificate) (sasl.Identity, error) {
	at := a.attempt(peer, "external", authzid)
	if err := at.begin(); err != nil {
		return sasl.Identity{}, err
	}
	found, err := a.certCredentials(ctx, cert)
	if err != nil {
		return sasl.Identity{}, at.unavailable(err)
	}
	if authzid != "" {
		want, err := a.credential(ctx, authzid)
		if err != nil {
			return sasl.Identity{}, at.unavailable(err)
		}
		if c := found[want.id]; c != nil && want.id != 0 {
			return at.succeed(c, "ok")
		}
		return sasl.Identity{}, at.fail(ctx, &credential{})
	}
	if len(found) == 1 {
		for _, c := range found {
			return at.succeed(c, "ok")
		}
	}
	return sasl.Identity{}, at.fail(ctx, &credential{})
}

// certCredentials returns the accounts a certificate may speak for.
func (a *Accounts) certCredentials(ctx context.Context, cert *x509.Certificate) (map[envelope.AccountID]*credential, error) {
	found := map[envelope.AccountID]*credential{}
	if cert == nil {
		return found, nil
	}
	print := sha256.Sum256(cert.Raw)
	var c *credential
	err := a.db.View(ctx, func(tx db.Tx) (err error) {
		c, err = readCredential(tx, `n.account = (SELECT x.account FROM account_cert x WHERE x.fingerprint = ?)`, print[:])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look up certificate: %w", err)
	}
	if c.id != 0 {
		found[c.id] = c
		return found, nil
	}
	for i, name := range cert.EmailAddresses {
		if i >= maxCertNames {
			break
		}
		c, err := a.credential(ctx, name)
		if err != nil {
			return nil, err
		}
		if c.id != 0 {
			found[c.id] = c
		}
	}
	return found, nil
}

// AddCert lets whoever holds a certificate with that SHA-256 fingerprint log in
// by EXTERNAL. The TLS listener must still ask for and verify it. Errors:
// ErrNotFound, ErrExists.
func (a *Accounts) AddCert(ctx context.Context, id envelope.AccountID, fingerprint [32]byte) error {
	return a.update(ctx, func(tx db.Tx) error {
		if err := changeRow(tx, id, `version = version`); err != nil {
			return err
		}
		n, err := tx.Exec(`INSERT INTO account_cert (fingerprint, account) VALUES (?, ?) ON CONFLICT (fingerprint) DO NOTHING`, fingerprint[:], int64(id))
		if err == nil && n == 0 {
			err = fmt.Errorf("certificate %x %w", fingerprint, ErrExists)
		}
		return err
	})
}

// Certs lists the fingerprints of an account.
func (a *Accounts) Certs(ctx context.Context, id envelope.AccountID) (prints [][32]byte, err error) {
	err = a.db.View(ctx, func(tx db.Tx) error {
		prints = nil
		return each(tx, `SELECT fingerprint FROM account_cert WHERE account = ? ORDER BY fingerprint`, []any{int64(id)}, func(scan scanFunc) error {
			var b []byte
			err := scan(&b)
			var print [32]byte
			copy(print[:], b)
			prints = append(prints, print)
			return err
		})
	})
	return prints, err
}

// RemoveCert takes a fingerprint away. ErrNotFound.
func (a *Accounts) RemoveCert(ctx context.Context, id envelope.AccountID, fingerprint [32]byte) error {
	return a.update(ctx, func(tx db.Tx) error {
		n, err := tx.Exec(`DELETE FROM account_cert WHERE fingerprint = ? AND account = ?`, fingerprint[:], int64(id))
		if err == nil && n == 0 {
			err = fmt.Errorf("certificate %x %w", fingerprint, ErrNotFound)
		}
		return err
	})
}
