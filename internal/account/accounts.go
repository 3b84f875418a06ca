package account

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/limit"
	"poczta.example/poczta/internal/sasl"
)

// Accounts is the room. Safe for concurrent use. On SQLite one Accounts must see
// every write to the database; it answers from memory.
type Accounts struct {
	config   Config
	db       db.Database
	failures *limit.Failures
	pool     *hashPool

	routes      *cache[string, Route]
	locals      *cache[string, bool] // domains, ours or not
	grants      *cache[grant, struct{}]
	credentials *cache[string, *credential]
	successes   *cache[[macOctets]byte, struct{}]
	macKey      [32]byte // of this process; keys of successes are made with it

	secretOnce sync.Mutex
	secretKey  []byte // store-wide; nil until first needed
	mix        iterationMix
}

var _ sasl.Verifier = (*Accounts)(nil)

// New makes the room; it does no I/O.
func New(c Config) (*Accounts, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	failures, err := limit.NewFailures(c.Failures)
	if err != nil {
		return nil, fmt.Errorf("account: throttle of failures: %w", err)
	}
	entries := c.CacheEntries
	if c.DB.Engine() != "sqlite" {
		entries = 0 // other nodes write too
	}
	a := &Accounts{
		config:      c,
		db:          c.DB,
		failures:    failures,
		pool:        newHashPool(c.HashWorkers, c.HashQueue, c.Hooks.Hashed),
		routes:      newCache[string, Route](entries),
		locals:      newCache[string, bool](min(entries, maxLocals)),
		grants:      newCache[grant, struct{}](entries),
		credentials: newCache[string, *credential](entries),
		successes:   newCache[[macOctets]byte, struct{}](c.CacheEntries),
	}
	if _, err := rand.Read(a.macKey[:]); err != nil {
		return nil, fmt.Errorf("account: read randomness: %w", err)
	}
	return a, nil
}

// update runs a write and makes what was read before it stale, also after an
// error: its outcome may be unknown.
func (a *Accounts) update(ctx context.Context, fn func(db.Tx) error) error {
	defer a.bump()
	return a.db.Update(ctx, fn)
}

func (a *Accounts) bump() {
	a.routes.bump()
	a.locals.bump()
	a.grants.bump()
	a.credentials.bump()
}

// updateCredential is update for writes that change credentials alone: routes
// stay known.
func (a *Accounts) updateCredential(ctx context.Context, fn func(db.Tx) error) error {
	defer a.credentials.bump()
	return a.db.Update(ctx, fn)
}

// changeAccount runs an UPDATE of one account that exists. The statement's last
// parameters are the id and Removed.
func (a *Accounts) changeAccount(ctx context.Context, id envelope.AccountID, set string, args ...any) error {
	return a.update(ctx, func(tx db.Tx) error { return changeRow(tx, id, set, args...) })
}

func changeRow(tx db.Tx, id envelope.AccountID, set string, args ...any) error {
	n, err := tx.Exec(`UPDATE account SET `+set+` WHERE id = ? AND state <> ?`, append(args, int64(id), int64(Removed))...)
	if err == nil && n == 0 {
		err = fmt.Errorf("account %d %w", id, ErrNotFound)
	}
	return err
}

// secret returns the store-wide secret, made by whoever needs it first. Keys of
// unknown logins come from it, so that they are the same on every node.
func (a *Accounts) secret(ctx context.Context) ([]byte, error) {
	a.secretOnce.Lock()
	defer a.secretOnce.Unlock()
	if a.secretKey != nil {
		return a.secretKey, nil
	}
	read := func(tx db.Tx) (key []byte, err error) {
		err = tx.QueryRow(`SELECT octets FROM account_secret WHERE name = ?`, secretName).Scan(&key)
		return key, err
	}
	var key []byte
	err := a.db.View(ctx, func(tx db.Tx) (err error) { key, err = read(tx); return err })
	if errors.Is(err, db.ErrNotFound) {
		fresh := make([]byte, 32)
		if _, err := io.ReadFull(a.config.Rand, fresh); err != nil {
			return nil, fmt.Errorf("read randomness for the store's secret: %w", err)
		}
		err = a.db.Update(ctx, func(tx db.Tx) (err error) {
			_, err = tx.Exec(`INSERT INTO account_secret (name, octets) VALUES (?, ?) ON CONFLICT (name) DO NOTHING`, secretName, fresh)
			if err == nil {
				key, err = read(tx)
			}
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("read the store's secret: %w", err)
	}
	a.secretKey = append([]byte(nil), key...)
	return a.secretKey, nil
}

const secretName = "logins"
