package account

import (
	"context"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"strings"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
)

// changeTries is how often a change begins again when another came between.
const changeTries = 5

// SetPassword sets the password of an account, in place of any it had and of an
// imported hash; "" removes it. App passwords stay. On return no session can
// log in with the old one. Errors: ErrNotFound, ErrInvalid.
func (a *Accounts) SetPassword(ctx context.Context, id envelope.AccountID, password string) error {
	if password != "" {
		if err := checkPassword(password); err != nil {
			return err
		}
	}
	for range changeTries {
		c, err := a.credentialOf(ctx, id)
		if err != nil {
			return err
		}
		// App passwords work with SCRAM only under the account's own salt.
		var keys scramKeys
		switch keep := len(c.apps) > 0 && c.keys.iterations >= a.config.Iterations; {
		case keep && password == "":
			keys = scramKeys{salt: c.keys.salt, iterations: c.keys.iterations, stored: []byte{}, server: []byte{}}
		case keep:
			keys, err = a.deriveIn(ctx, prepare(password), c.keys.salt, c.keys.iterations)
		default:
			keys, err = a.newKeys(ctx, password, a.config.Iterations)
		}
		if err != nil {
			return err
		}
		var n int64
		err = a.update(ctx, func(tx db.Tx) (err error) {
			n, err = tx.Exec(`UPDATE account SET salt = ?, iterations = ?, stored_key = ?, server_key = ?, foreign_hash = '', version = version + 1
				WHERE id = ? AND version = ? AND state <> ?`,
				keys.salt, int64(keys.iterations), keys.stored, keys.server, int64(id), c.version, int64(Removed))
			if err != nil || n == 0 || len(c.apps) > 0 {
				return err
			}
			return noApps(tx, id)
		})
		if !errors.Is(err, errChanged) && (err != nil || n > 0) {
			return err
		}
	}
	return fmt.Errorf("set password of account %d: it changes all the time", id)
}

// errChanged: the account's keys or app passwords are not what the caller saw.
var errChanged = errors.New("credentials changed meanwhile")

// noApps returns errChanged when an account whose row tx has holds app passwords, which keys under a new salt would part from
// SCRAM.
func noApps(tx db.Tx, id envelope.AccountID) error {
	var n int64
	err := tx.QueryRow(`SELECT COUNT(*) FROM account_app WHERE account = ?`, int64(id)).Scan(&n)
	if err == nil && n > 0 {
		err = errChanged
	}
	return err
}

// freshKeys derives keys of a prepared password under a new salt, without the pool: its
// callers run in it.
func (a *Accounts) freshKeys(prepared string) (*scramKeys, error) {
	salt := make([]byte, saltOctets)
	if _, err := io.ReadFull(a.config.Rand, salt); err != nil {
		return nil, fmt.Errorf("read randomness for a salt: %w", err)
	}
	keys, err := a.derive(prepared, salt, a.config.Iterations)
	return &keys, err
}

// credentialOf reads the credential of an account that exists. ErrNotFound.
func (a *Accounts) credentialOf(ctx context.Context, id envelope.AccountID) (c *credential, err error) {
	err = a.db.View(ctx, func(tx db.Tx) (err error) {
		c, err = readCredential(tx, `n.name = (SELECT MIN(m.name) FROM account_name m WHERE m.account = ?)`, int64(id))
		return err
	})
	if err == nil && (c.id == 0 || id == 0) {
		err = fmt.Errorf("account %d %w", id, ErrNotFound)
	}
	return c, err
}

// App passwords are 25 characters of base32 in five groups: 125 random bits.
// Characters are those of RFC 4648 §6 in lower case, which can't be mistaken for each
// other when read aloud.
const (
	appCharacters = 25
	appGroup      = 5
)

var appEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// parseAppPassword returns the form of an app password that is hashed: without
// hyphens and spaces, in lower case. ok is false for what is not of its shape.
func parseAppPassword(s string) (canonical string, ok bool) {
	if len(s) < appCharacters || len(s) > 2*appCharacters {
		return "", false
	}
	b := make([]byte, 0, appCharacters)
	for i := range len(s) {
		switch c := s[i]; {
		case c == '-' || c == ' ':
			continue
		case c >= 'a' && c <= 'z' || c >= '2' && c <= '7':
			b = append(b, c)
		case c >= 'A' && c <= 'Z':
			b = append(b, c|0x20)
		default:
			return "", false
		}
	}
	return string(b), len(b) == appCharacters
}

// showApp is the form of an app password that people are shown, and that SCRAM
// knows.
func showApp(canonical string) string {
	var groups []string
	for at := 0; at < appCharacters; at += appGroup {
		groups = append(groups, canonical[at:at+appGroup])
	}
	return strings.Join(groups, "-")
}

// appSalt is the salt of an account's app passwords for PLAIN. They are random,
// so sharing it costs nothing, and one derivation checks them all.
func (a *Accounts) appSalt(ctx context.Context, id envelope.AccountID) ([]byte, error) {
	secret, err := a.secret(ctx)
	if err != nil {
		return nil, err
	}
	return keyed(secret, "app:", fmt.Sprint(id))[:saltOctets], nil
}

// AddAppPassword makes a random password for one program and returns it; it is
// never shown again. It works beside the account's password, for PLAIN at 4,096
// iterations and for SCRAM under the account's own parameters; for SCRAM it must be given as printed.
// Errors: ErrNotFound, ErrInvalid (the label, or MaxAppPasswords reached).
func (a *Accounts) AddAppPassword(ctx context.Context, id envelope.AccountID, label string) (AppPassword, string, error) {
	if err := checkText("label", label, MaxNameOctets); err != nil {
		return AppPassword{}, "", err
	}
	raw := make([]byte, 16)
	if _, err := io.ReadFull(a.config.Rand, raw); err != nil {
		return AppPassword{}, "", fmt.Errorf("read randomness for a password: %w", err)
	}
	canonical := appEncoding.EncodeToString(raw)[:appCharacters]
	app := AppPassword{Label: label, Created: db.FromMicros(db.Micros(a.config.Now()))}
	err := errChanged
	for try := 0; try < changeTries && errors.Is(err, errChanged); try++ {
		err = a.addApp(ctx, id, &app, canonical)
	}
	if err != nil {
		return AppPassword{}, "", err
	}
	return app, showApp(canonical), nil
}

// addApp stores an app password; errChanged when the account got another salt meanwhile.
func (a *Accounts) addApp(ctx context.Context, id envelope.AccountID, app *AppPassword, canonical string) error {
	c, err := a.credentialOf(ctx, id)
	if err != nil {
		return err
	}
	salt, err := a.appSalt(ctx, id)
	if err != nil {
		return err
	}
	quick, err := a.deriveIn(ctx, canonical, salt, appIterations)
	if err != nil {
		return err
	}
	scram, err := a.deriveIn(ctx, showApp(canonical), c.keys.salt, c.keys.iterations)
	if err != nil {
		return err
	}
	return a.updateCredential(ctx, func(tx db.Tx) error {
		if err := insertApp(tx, id, app, appKeys{quick: quick.stored, scram: scram}); err != nil {
			return err
		}
		var now scramKeys
		var iterations int64
		err := tx.QueryRow(`SELECT salt, iterations FROM account WHERE id = ?`, int64(id)).Scan(&now.salt, &iterations)
		if now.iterations = int(iterations); err == nil && !sameSalt(now, c.keys) {
			err = errChanged
		}
		return err
	})
}

func insertApp(tx db.Tx, id envelope.AccountID, app *AppPassword, keys appKeys) error {
	if err := changeRow(tx, id, `version = version`); err != nil { // locks the account's row
		return err
	}
	var n int64
	if err := tx.QueryRow(`SELECT COUNT(*) FROM account_app WHERE account = ?`, int64(id)).Scan(&n); err != nil {
		return err
	}
	if n >= MaxAppPasswords {
		return fmt.Errorf("app password %w: the account has %d, which is as many as are allowed; remove one", ErrInvalid, n)
	}
	return tx.QueryRow(`INSERT INTO account_app (account, label, quick, salt, iterations, stored_key, server_key, created)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id`, int64(id), app.Label, keys.quick, keys.scram.salt, int64(keys.scram.iterations),
		keys.scram.stored, keys.scram.server, db.Micros(app.Created)).Scan(&app.ID)
}

// AppPasswords lists an account's app passwords by id.
func (a *Accounts) AppPasswords(ctx context.Context, id envelope.AccountID) (apps []AppPassword, err error) {
	err = a.db.View(ctx, func(tx db.Tx) error {
		apps = nil
		return each(tx, `SELECT id, label, created FROM account_app WHERE account = ? ORDER BY id`, []any{int64(id)}, func(scan scanFunc) error {
			var app AppPassword
			var created int64
			err := scan(&app.ID, &app.Label, &created)
			app.Created = db.FromMicros(created)
			apps = append(apps, app)
			return err
		})
	})
	return apps, err
}

// RemoveAppPassword removes one; on return nobody can log in with it. ErrNotFound.
func (a *Accounts) RemoveAppPassword(ctx context.Context, id envelope.AccountID, app int64) error {
	return a.update(ctx, func(tx db.Tx) error {
		if err := changeRow(tx, id, `version = version + 1`); err != nil {
			return err
		}
		n, err := tx.Exec(`DELETE FROM account_app WHERE id = ? AND account = ?`, app, int64(id))
		if err == nil && n == 0 {
			err = fmt.Errorf("app password %d of account %d %w", app, id, ErrNotFound)
		}
		return err
	})
}
