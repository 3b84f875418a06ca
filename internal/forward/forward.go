// Package forward is the care for mail that aliases and accounts here send on to other
// hosts: the reverse-path of such a copy (package srs), where mail to it goes when it
// comes back, and what follows when a forward fails.
//
// A failure is told to the sender only when the reverse-path was verified: otherwise the
// report might go to somebody whose name was used. Then the owner of the forward is told,
// by a notice in the mailbox here, once a day; and a target that fails again and again is
// suspended.
package forward

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/srs"
)

// When a target is suspended: so many failures in so long a time without a success.
const (
	MaxFailures = 5
	Window      = 7 * 24 * time.Hour
	NoticeEvery = 24 * time.Hour // of one alias or account
	keepFailure = 30 * 24 * time.Hour
)

// Times of secrets. An address is valid for srs.Validity after its secret made it.
const (
	secretSigns  = 30 * 24 * time.Hour
	secretReads  = 60 * 24 * time.Hour
	reloadAfter  = 10 * time.Minute
	reloadSooner = 10 * time.Second // when an address is not known: another node may have a new secret
)

// Schema is the tables of this package. forward_failure has a row for each target of an
// alias or account (source, as account.Forwarder.Source names it) that has failed lately,
// forward_notice one for each source whose owner was told.
var Schema = db.Component{Name: "forward", Steps: []db.Step{{Number: 1, SQL: `
CREATE TABLE forward_secret (octets {blob} NOT NULL PRIMARY KEY, made {int} NOT NULL) {rowid};
CREATE TABLE forward_failure (
	source {text} NOT NULL, target {text} NOT NULL, failures {int} NOT NULL, since {int} NOT NULL,
	last {int} NOT NULL, PRIMARY KEY (source, target)) {rowid};
CREATE INDEX forward_failure_last ON forward_failure (last);
CREATE TABLE forward_notice (source {text} NOT NULL PRIMARY KEY, noticed {int} NOT NULL) {rowid}`}}}

// Router says where mail goes; *account.Accounts is one.
type Router interface {
	Route(ctx context.Context, to address.ForwardPath) (account.Route, error)
	Home(ctx context.Context, to address.ForwardPath) (account.Route, error)
	IsLocal(ctx context.Context, domain address.Domain) (bool, error)
}

// Owners are the accounts whose forwards they are; *account.Accounts is one.
type Owners interface {
	ByID(ctx context.Context, id envelope.AccountID) (account.Account, error)
	SuspendForward(ctx context.Context, source string, target address.Address, reason string) (bool, error)
}

// Config is what a Forwarding needs. DB, Router, Owners, Accepter and Hostname are required.
type Config struct {
	DB       db.Database
	Router   Router
	Owners   Owners
	Accepter post.Accepter
	Hostname address.Domain
	Now      func() time.Time // default time.Now
	Random   io.Reader        // default crypto/rand
	Logger   *slog.Logger     // nil discards
	Hooks    Hooks
}

// Hooks are optional functions for metrics.
type Hooks struct {
	Failed    func() // a forwarded copy has failed for good
	Suspended func() // a target was suspended
}

// Forwarding implements intake.Forwarding and relay.Forwards. Safe for concurrent use.
type Forwarding struct {
	c Config

	mu       sync.Mutex
	rewriter *srs.Rewriter
	loaded   time.Time
}

// New checks the configuration; it does no I/O.
func New(c Config) (*Forwarding, error) {
	var errs []error
	for _, need := range []struct {
		missing bool
		what    string
	}{{c.DB == nil, "DB"}, {c.Router == nil, "Router"}, {c.Owners == nil, "Owners"}, {c.Accepter == nil, "Accepter"}, {c.Hostname.IsZero(), "Hostname"}} {
		if need.missing {
			errs = append(errs, errors.New("forward: Config."+need.what+" is required"))
		}
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
	return &Forwarding{c: c}, errors.Join(errs...)
}

// Rewrite implements intake.Forwarding: a reverse-path in the domain that the mail came to.
// The null reverse-path is returned, which means that the envelope's is used, when that is
// null or of a domain of ours, for which SPF speaks of this host anyway, or too long for SRS.
func (f *Forwarding) Rewrite(ctx context.Context, from address.ReversePath, by account.Forwarder, verified bool) (address.ReversePath, error) {
	if from.IsNull() || by.Domain.IsZero() {
		return address.ReversePath{}, nil
	}
	ours, err := f.c.Router.IsLocal(ctx, from.Address().Domain())
	if err != nil || ours {
		return address.ReversePath{}, err
	}
	w, err := f.secrets(ctx, reloadAfter)
	if err != nil {
		return address.ReversePath{}, err
	}
	a, err := w.Forward(srs.Sender{Address: from.Address(), Owner: int64(by.Account), Verified: verified}, by.Domain, f.c.Now())
	if errors.Is(err, srs.ErrTooLong) {
		f.c.Logger.Warn("forwarded with the sender's own reverse-path, which is too long for SRS", "forward", by.Source, "reverse_path", from.String())
		return address.ReversePath{}, nil
	}
	return address.NewReversePath(a), err
}

// Marks implements intake.Forwarding.
func (f *Forwarding) Marks(ctx context.Context, by account.Forwarder) ([]string, error) {
	alias, err := account.ParseAlias(by.Source)
	if err != nil {
		return nil, nil
	}
	a := alias.Source
	if a.IsZero() { // a catch-all
		if a, err = address.New("@", alias.Domain); err != nil {
			return nil, fmt.Errorf("mark of %s: %w", by.Source, err)
		}
	}
	w, err := f.secrets(ctx, reloadAfter)
	if err != nil {
		return nil, err
	}
	return w.Mark(a), nil
}

// Return implements intake.Forwarding. A report to a sender who was verified goes on to
// them; another goes to the owner of the forward.
func (f *Forwarding) Return(ctx context.Context, to address.ForwardPath) (account.Route, error) {
	a := to.Address()
	ours, err := f.c.Router.IsLocal(ctx, a.Domain())
	if err == nil && !ours {
		err = fmt.Errorf("%s: %w", a, account.ErrNotLocal)
	}
	if err != nil {
		return account.Route{}, err
	}
	s, err := f.reverse(ctx, a)
	if err != nil {
		return account.Route{}, err
	}
	if !s.Verified {
		return f.ownerRoute(ctx, envelope.AccountID(s.Owner), a.Domain())
	}
	route, err := f.c.Router.Route(ctx, address.NewForwardPath(s.Address))
	if errors.Is(err, account.ErrNotLocal) {
		return account.Route{Match: account.MatchAlias, Remotes: []address.Address{s.Address},
			Forwarders: []account.Forwarder{{Source: a.String(), Domain: a.Domain()}}}, nil
	}
	return route, err
}

// reverse reads an address of ours; others are account.ErrUnknownUser.
func (f *Forwarding) reverse(ctx context.Context, a address.Address) (srs.Sender, error) {
	w, err := f.secrets(ctx, reloadAfter)
	if err != nil {
		return srs.Sender{}, err
	}
	s, err := w.Reverse(a, f.c.Now())
	if errors.Is(err, srs.ErrForged) {
		if w, err = f.secrets(ctx, reloadSooner); err != nil {
			return srs.Sender{}, err
		}
		s, err = w.Reverse(a, f.c.Now())
	}
	if err != nil {
		return srs.Sender{}, fmt.Errorf("%s: %w: %w", a, account.ErrUnknownUser, err)
	}
	return s, nil
}

// ownerRoute is the mailbox of whoever's forward it is: the account's, or for an alias that of
// the domain's postmaster. It is never forwarded.
func (f *Forwarding) ownerRoute(ctx context.Context, id envelope.AccountID, domain address.Domain) (account.Route, error) {
	if id != 0 {
		if acc, err := f.c.Owners.ByID(ctx, id); err == nil && acc.State == account.Active {
			return f.home(ctx, acc.Address)
		} else if err != nil && !errors.Is(err, account.ErrNotFound) {
			return account.Route{}, err
		}
	}
	master, err := address.New("postmaster", domain)
	if err != nil {
		return account.Route{}, err
	}
	return f.home(ctx, master)
}

func (f *Forwarding) home(ctx context.Context, a address.Address) (account.Route, error) {
	r, err := f.c.Router.Home(ctx, address.NewForwardPath(a))
	if err == nil && len(r.Locals) == 0 {
		err = fmt.Errorf("%s has no mailbox here: %w", a, account.ErrUnknownUser)
	}
	if err != nil {
		return account.Route{}, err
	}
	return account.Route{Match: account.MatchAlias, Locals: r.Locals}, nil
}

// secrets returns a Rewriter over the store's secrets, read not longer ago than age. A
// new one is made every month; each reads until the last address made with it is too old.
func (f *Forwarding) secrets(ctx context.Context, age time.Duration) (*srs.Rewriter, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.c.Now()
	if f.rewriter != nil && now.Sub(f.loaded).Abs() < age {
		return f.rewriter, nil
	}
	list, newest, err := f.readSecrets(ctx)
	if err == nil && (len(list) == 0 || now.Sub(newest) > secretSigns) {
		if err = f.makeSecret(ctx); err == nil {
			list, _, err = f.readSecrets(ctx)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read secrets of forwarding: %w", err)
	}
	w, err := srs.New(list...)
	if err != nil {
		return nil, err
	}
	f.rewriter, f.loaded = w, now
	return w, nil
}

func (f *Forwarding) readSecrets(ctx context.Context) (list [][]byte, newest time.Time, err error) {
	err = f.c.DB.View(ctx, func(tx db.Tx) error {
		list, newest = nil, time.Time{}
		rows, err := tx.Query(`SELECT octets, made FROM forward_secret WHERE made > ? ORDER BY made DESC, octets`, db.Micros(f.c.Now().Add(-secretReads)))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var octets []byte
			var made int64
			if err := rows.Scan(&octets, &made); err != nil {
				return err
			}
			if newest.IsZero() {
				newest = db.FromMicros(made)
			}
			list = append(list, octets)
		}
		return rows.Err()
	})
	return list, newest, err
}

func (f *Forwarding) makeSecret(ctx context.Context) error {
	fresh := make([]byte, 32)
	if _, err := io.ReadFull(f.c.Random, fresh); err != nil {
		return fmt.Errorf("read randomness: %w", err)
	}
	return f.c.DB.Update(ctx, func(tx db.Tx) error {
		if _, err := tx.Exec(`DELETE FROM forward_secret WHERE made <= ?`, db.Micros(f.c.Now().Add(-secretReads))); err != nil {
			return err
		}
		_, err := tx.Exec(`INSERT INTO forward_secret (octets, made) VALUES (?, ?) ON CONFLICT (octets) DO NOTHING`, fresh, db.Micros(f.c.Now()))
		return err
	})
}
