package account

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/sasl"
)

// credential is what a login needs of an account. The zero credential, with id
// 0, is that of a login name nobody has. It is never changed: caches share it.
type credential struct {
	id      envelope.AccountID
	login   string
	state   State
	version int64
	keys    scramKeys
	foreign string // an imported hash; then keys holds the salt alone
	apps    []appKeys
}

// appKeys is one app password's keys.
type appKeys struct {
	id    int64
	quick []byte // StoredKey under appIterations and appSalt
	scram scramKeys
}

func (c *credential) identity() sasl.Identity {
	return sasl.Identity{Account: c.id, Login: c.login, Version: c.version}
}

// credential reads who has a login name. A name that nobody has is no error.
func (a *Accounts) credential(ctx context.Context, login string) (*credential, error) {
	key, ok := loginKey(login)
	if !ok {
		return &credential{}, nil
	}
	if c, ok := a.credentials.get(key); ok {
		return c, nil
	}
	generation := a.credentials.generation.Load()
	var c *credential
	err := a.db.View(ctx, func(tx db.Tx) (err error) {
		c, err = readCredential(tx, `n.name = ?`, key)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read credential: %w: %w", sasl.ErrUnavailable, err)
	}
	if c.id != 0 { // names that strangers make up are not kept
		a.credentials.put(key, generation, c)
	}
	return c, nil
}

// readCredential reads the credential of the name, with its app passwords: one
// row for each of them, or one row.
func readCredential(tx db.Tx, where string, args ...any) (*credential, error) {
	c := &credential{}
	err := each(tx, `SELECT c.id, c.login, c.state, c.version, c.salt, c.iterations, c.stored_key, c.server_key, c.foreign_hash,
		COALESCE(p.id, 0), p.quick, p.salt, COALESCE(p.iterations, 0), p.stored_key, p.server_key
		FROM account_name n JOIN account c ON c.id = n.account LEFT JOIN account_app p ON p.account = c.id
		WHERE `+where+` ORDER BY p.id`, args, func(scan scanFunc) error {
		var id, state, iterations, appIterations int64
		var app appKeys
		err := scan(&id, &c.login, &state, &c.version, &c.keys.salt, &iterations, &c.keys.stored, &c.keys.server, &c.foreign,
			&app.id, &app.quick, &app.scram.salt, &appIterations, &app.scram.stored, &app.scram.server)
		c.id, c.state, c.keys.iterations = envelope.AccountID(id), State(state), int(iterations)
		if app.scram.iterations = int(appIterations); app.id != 0 {
			c.apps = append(c.apps, app)
		}
		return err
	})
	return c, err
}

// macOctets is the length of a success's key.
const macOctets = 16

// successKey is the key under which a right password is remembered: a keyed hash
// of it under the account's credential version, so that a change forgets it.
func (a *Accounts) successKey(c *credential, password string) (key [macOctets]byte) {
	var head [16]byte
	binary.BigEndian.PutUint64(head[:8], uint64(c.id))
	binary.BigEndian.PutUint64(head[8:], uint64(c.version))
	m := hmac.New(sha256.New, a.macKey[:])
	m.Write(head[:])
	io.WriteString(m, password)
	copy(key[:], m.Sum(nil))
	return key
}

// iterationMix is the iteration counts in use, from which unknown logins get
// theirs: were it always the present one, another would mean a known login.
type iterationMix struct {
	mu     sync.Mutex
	read   time.Time
	counts []mixCount // highest iterations first
	total  int64
}

type mixCount struct{ iterations, accounts int64 }

// mixAge is how long counts are used, mixSample how many of the oldest and of
// the newest accounts are counted.
const (
	mixAge    = 10 * time.Minute
	mixSample = 500
)

// dummyIterations chooses the iterations of an unknown login by a number made
// from its name: the same for a name as long as the mix stays.
func (a *Accounts) dummyIterations(ctx context.Context, number uint32) (int, error) {
	m := &a.mix
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := a.config.Now(); m.read.IsZero() || now.Sub(m.read) > mixAge {
		if err := a.readMix(ctx); err != nil {
			return 0, err
		}
		m.read = now
	}
	at := int64(uint64(number) * uint64(m.total) >> 32)
	for _, c := range m.counts {
		if at -= c.accounts; at < 0 {
			return int(c.iterations), nil
		}
	}
	return a.config.Iterations, nil
}

func (a *Accounts) readMix(ctx context.Context) error {
	m := &a.mix
	err := a.db.View(ctx, func(tx db.Tx) error {
		m.counts, m.total = nil, 0
		return each(tx, `SELECT s.iterations, COUNT(*) FROM (
			SELECT o.id, o.iterations FROM (SELECT id, iterations FROM account WHERE state = 0 AND LENGTH(stored_key) > 0 ORDER BY id LIMIT ?) o
			UNION SELECT w.id, w.iterations FROM (SELECT id, iterations FROM account WHERE state = 0 AND LENGTH(stored_key) > 0 ORDER BY id DESC LIMIT ?) w
			) s GROUP BY s.iterations ORDER BY s.iterations DESC`, []any{int64(mixSample), int64(mixSample)}, func(scan scanFunc) error {
			var c mixCount
			err := scan(&c.iterations, &c.accounts)
			m.counts = append(m.counts, c)
			m.total += c.accounts
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("read iteration counts: %w: %w", sasl.ErrUnavailable, err)
	}
	return nil
}

// dummyKeys are the keys of a login that has none: no password fits them, and
// they are the same each time and on every node.
func (a *Accounts) dummyKeys(ctx context.Context, login string) (sasl.Keys, error) {
	secret, err := a.secret(ctx)
	if err != nil {
		return sasl.Keys{}, errors.Join(sasl.ErrUnavailable, err)
	}
	key, ok := loginKey(login)
	if !ok {
		key = login
	}
	number := binary.BigEndian.Uint32(keyed(secret, "iterations:", key))
	iterations, err := a.dummyIterations(ctx, number)
	if err != nil {
		return sasl.Keys{}, err
	}
	return sasl.Keys{
		Salt:       keyed(secret, "salt:", key)[:saltOctets],
		Iterations: iterations,
		StoredKey:  keyed(secret, "stored:", key),
		ServerKey:  keyed(secret, "server:", key),
	}, nil
}
