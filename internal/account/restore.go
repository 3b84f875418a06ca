package account

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
)

// Former is an account as a backup knows it: the columns of its row, and all that is its own in
// other tables of this package.
type Former struct {
	NewAccount   // without Password
	Disabled     bool
	Salt         []byte
	Iterations   int
	StoredKey    []byte
	ServerKey    []byte
	ForeignHash  string
	Addresses    []address.Address
	Apps         []FormerApp
	SendAs       []SendAs
	Certificates [][32]byte
	Forward      Forward
	Vacation     *Vacation        // nil for none; Changed is kept
	Aliases      []Alias          // that lead to the account; Targets holds the address of its that they name
	Postmaster   []address.Domain // whose postmaster it was
}

// FormerApp is an app password of a Former.
type FormerApp struct {
	Label      string
	Quick      []byte // the column of that name
	QuickSalt  []byte // see FormerAppSalt
	Salt       []byte
	Iterations int
	StoredKey  []byte
	ServerKey  []byte
	Created    time.Time
}

// FormerSecret is the name of the row of account_secret that FormerAppSalt needs.
const FormerSecret = secretName

// FormerForwardsKeep is what account.forwards holds of an account that keeps a copy.
const FormerForwardsKeep = int64(forwardsKeep)

// FormerAppSalt is the salt of the app passwords of an account of another store, or of one that
// had another id: secret is that store's, the octets of the row FormerSecret.
func FormerAppSalt(secret []byte, id envelope.AccountID) []byte {
	return keyed(secret, "app:", fmt.Sprint(id))[:saltOctets]
}

// maxFormerSalts bounds how many salts of former accounts the app passwords of one account have,
// since a login derives a key under each.
const maxFormerSalts = 3

// quickKey is account_app.quick taken apart: behind the key stands its salt, when that is not the
// account's own.
func quickKey(quick []byte) (key, salt []byte) {
	if len(quick) <= sha256.Size {
		return quick, nil
	}
	return quick[:sha256.Size], quick[sha256.Size:]
}

// Readd makes an account that was removed anew, under a new id, as f says, all in one transaction,
// in which within runs last (nil for nothing): either all is there afterwards or nothing. What can't be its own any
// more is left out and named: addresses and certificates that somebody else has by now, aliases whose
// address is an account's or whose domain is gone, forwards that lead nowhere. Errors are those of Add.
func (a *Accounts) Readd(ctx context.Context, f Former, within func(tx db.Tx, id envelope.AccountID) error) (made Account, leftOut []string, err error) {
	f.Password = ""
	row, err := prepareRow(f.NewAccount)
	if err != nil {
		return Account{}, nil, err
	}
	row.keys = scramKeys{salt: f.Salt, iterations: f.Iterations, stored: f.StoredKey, server: f.ServerKey}
	row.foreign = f.ForeignHash
	var w *readding
	err = a.update(ctx, func(tx db.Tx) error {
		if err := needDomain(tx, f.Address.Domain()); err != nil {
			return err
		}
		id, err := a.insertAccount(tx, row)
		if err != nil {
			return err
		}
		w = &readding{a: a, tx: tx, id: id, f: &f}
		for _, step := range []func() error{w.addresses, w.apps, w.grants, w.vacation, w.aliases, w.forward, w.state} {
			if err := step(); err != nil {
				return err
			}
		}
		if within == nil {
			return nil
		}
		return within(tx, id)
	})
	if err != nil {
		return Account{}, nil, err
	}
	made, err = a.ByID(ctx, w.id)
	return made, w.leftOut, err
}

// readding is one run of Readd's transaction.
type readding struct {
	a       *Accounts
	tx      db.Tx
	id      envelope.AccountID
	f       *Former
	leftOut []string
}

// skip notes what an error means that is none of the database's, and returns the others.
func (w *readding) skip(what string, err error) error {
	for _, e := range []error{ErrExists, ErrNotLocal, ErrInvalid, ErrUnknownUser, ErrLoop} {
		if errors.Is(err, e) {
			w.leftOut = append(w.leftOut, fmt.Sprintf("%s (%v)", what, err))
			return nil
		}
	}
	return err
}

func (w *readding) addresses() error {
	for _, addr := range w.f.Addresses {
		if addr.Key() == w.f.Address.Key() {
			continue
		}
		err := checkNewAddress(addr)
		if err == nil {
			err = needDomain(w.tx, addr.Domain())
		}
		if err == nil {
			err = w.a.insertName(w.tx, int64(w.id), kindAddress, addr)
		}
		if err := w.skip("address "+addr.String(), err); err != nil {
			return err
		}
	}
	return nil
}

func (w *readding) apps() error {
	var salts [][]byte
	for _, p := range w.f.Apps {
		key, own := quickKey(p.Quick)
		if own == nil {
			own = p.QuickSalt
		}
		known := slices.ContainsFunc(salts, func(s []byte) bool { return bytes.Equal(s, own) })
		if !known && (len(salts) == maxFormerSalts || len(own) != saltOctets || len(key) != sha256.Size) {
			w.leftOut = append(w.leftOut, "app password "+p.Label)
			continue
		}
		if !known {
			salts = append(salts, own)
		}
		app := AppPassword{Label: p.Label, Created: p.Created}
		err := insertApp(w.tx, w.id, &app, appKeys{quick: slices.Concat(key, own),
			scram: scramKeys{salt: p.Salt, iterations: p.Iterations, stored: p.StoredKey, server: p.ServerKey}})
		if err := w.skip("app password "+p.Label, err); err != nil {
			return err
		}
	}
	return nil
}

// grants are what the account may: send as others, log in by certificates, answer for domains.
func (w *readding) grants() error {
	for _, g := range w.f.SendAs {
		_, err := w.tx.Exec(`INSERT INTO account_send_as (account, name, written) VALUES (?, ?, ?) ON CONFLICT (account, name) DO NOTHING`,
			int64(w.id), sourceKey(g.Address, g.Domain), g.String())
		if err != nil {
			return err
		}
	}
	for _, c := range w.f.Certificates {
		n, err := w.tx.Exec(`INSERT INTO account_cert (fingerprint, account) VALUES (?, ?) ON CONFLICT (fingerprint) DO NOTHING`, c[:], int64(w.id))
		if err != nil {
			return err
		}
		if n == 0 {
			w.leftOut = append(w.leftOut, fmt.Sprintf("certificate %x, which another account has", c))
		}
	}
	for _, d := range w.f.Postmaster {
		_, err := w.tx.Exec(`UPDATE account_domain SET postmaster = ? WHERE name = ? AND postmaster = 0`, int64(w.id), d.String())
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *readding) vacation() error {
	v := w.f.Vacation
	if v == nil {
		return nil
	}
	if err := v.check(); err != nil {
		return w.skip("out-of-office reply", err)
	}
	if err := changeRow(w.tx, w.id, `vacation = 1`); err != nil {
		return err
	}
	_, err := w.tx.Exec(`INSERT INTO account_vacation (account, starts, ends, subject, body, days, changed) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		int64(w.id), db.Micros(v.From), db.Micros(v.Until), v.Subject, v.Text, int64(v.Days), db.Micros(v.Changed))
	return err
}

// aliases has those lead to the account again that did.
func (w *readding) aliases() error {
	for _, alias := range w.f.Aliases {
		if !alias.Source.IsZero() {
			alias.Domain = alias.Source.Domain()
		}
		if err := w.skip("alias "+alias.String(), w.alias(alias)); err != nil {
			return err
		}
	}
	return nil
}

func (w *readding) alias(alias Alias) error {
	if !alias.Source.IsZero() {
		if err := checkNewAddress(alias.Source); err != nil {
			return err
		}
	}
	if err := needDomain(w.tx, alias.Domain); err != nil {
		return err
	}
	for _, t := range alias.Targets { // only to addresses that are the account's
		var n int64
		err := w.tx.QueryRow(`SELECT COUNT(*) FROM account_name WHERE name = ? AND account = ?`, t.Key(), int64(w.id)).Scan(&n)
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("target %s: %w", t, ErrUnknownUser)
		}
	}
	var others int64
	err := w.tx.QueryRow(`SELECT COUNT(*) FROM account_target WHERE source = ?`, alias.Key()).Scan(&others)
	if err != nil {
		return err
	}
	if others+int64(len(alias.Targets)) > MaxAliasTargets {
		return fmt.Errorf("it has %d targets already: %w", others, ErrInvalid)
	}
	return w.a.insertAlias(w.tx, alias)
}

// forward brings the targets back that lead somewhere, suspended if they were.
func (w *readding) forward() error {
	set := 0
	for _, t := range w.f.Forward.Targets {
		if set == MaxForwardTargets {
			break
		}
		if err := w.a.checkForward(w.tx, w.id, t.Address); err != nil {
			if err := w.skip("forward to "+t.Address.String(), err); err != nil {
				return err
			}
			continue
		}
		_, err := w.tx.Exec(`INSERT INTO account_forward (account, name, written, suspended, reason) VALUES (?, ?, ?, ?, ?) ON CONFLICT (account, name) DO NOTHING`,
			int64(w.id), t.Address.Key(), t.Address.String(), db.Micros(t.Suspended), db.Text(t.Reason))
		if err != nil {
			return err
		}
		set++
	}
	if set == 0 {
		return nil // mail stays in the mailbox
	}
	how := forwardsAway
	if w.f.Forward.Keep {
		how = forwardsKeep
	}
	return changeRow(w.tx, w.id, `forwards = ?`, int64(how))
}

func (w *readding) state() error {
	if !w.f.Disabled {
		return nil
	}
	return changeRow(w.tx, w.id, `state = ?`, int64(Disabled))
}
