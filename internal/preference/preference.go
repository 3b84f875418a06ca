// Package preference is what people wish of the filters: how strict, what becomes of spam, the
// digest, and the lists of senders they always or never want. Account 0 stands for the server:
// its lists hold for everybody, and it has the spam traps.
//
// Answers come from memory and are compared with the version in the database every two
// seconds, so a change by another node counts that much later; one through this object at once.
package preference

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/memo"
	"poczta.example/poczta/internal/verdict"
)

// Common is the account number of lists that hold for everybody.
const Common envelope.AccountID = 0

// Limits of what is stored.
const (
	MaxEntries       = 1000   // of an account's lists together
	MaxCommonEntries = 20_000 // of the server's
	MaxTraps         = 1000
	MaxNoteOctets    = 200
	MaxPage          = 500 // entries that List returns
)

// Errors that callers branch on; test with errors.Is.
var (
	ErrInvalid  = errors.New("is not valid")
	ErrFull     = errors.New("list is full")
	ErrNotFound = errors.New("not found")
)

// Component is this package's tables, for db.Migrate. preference_account is an account's
// settings, words or "" for what the server does; its version rises with each change of the
// account's rows. preference_entry is the lists, by pattern as Entry.Pattern prints it.
func Component() db.Component {
	return db.Component{Name: "preference", Steps: []db.Step{{Number: 1, SQL: `
CREATE TABLE preference_account (
	account {int} NOT NULL PRIMARY KEY, version {int} NOT NULL, level {text} NOT NULL, wish {text} NOT NULL,
	digest {text} NOT NULL, language {text} NOT NULL, bulk {text} NOT NULL) {rowid};
CREATE TABLE preference_entry (
	account {int} NOT NULL, pattern {text} NOT NULL, allow {int} NOT NULL, note {text} NOT NULL, added {int} NOT NULL,
	PRIMARY KEY (account, pattern)) {rowid};
CREATE TABLE preference_trap (address {text} NOT NULL PRIMARY KEY, added {int} NOT NULL) {rowid}`}}}
}

// Hooks are optional functions for metrics. They must return at once.
type Hooks struct {
	// Looked is called for each question: whether memory had the answer.
	Looked func(cached bool)
}

// Config builds Preferences. DB is required.
type Config struct {
	DB db.Database
	// Fresh is for how long an answer is given without asking the database for its version;
	// 0 is 2 s.
	Fresh  time.Duration
	Hooks  Hooks
	Logger *slog.Logger     // nil discards
	Now    func() time.Time // nil is time.Now
}

// maxCached is how many accounts are kept in memory.
const maxCached = 8192

// Preferences is the room. Safe for concurrent use.
type Preferences struct {
	cfg    Config
	cached *memo.Memo[envelope.AccountID, *known]
	// changes rises after each commit of this object: what was read before is then not kept.
	changes atomic.Uint64
}

// known is all of an account, as of a version. It never changes.
type known struct {
	version  int64
	settings Settings
	lists    lists
	traps    traps // of Common
}

// New returns Preferences; it does no I/O.
func New(c Config) (*Preferences, error) {
	if c.DB == nil {
		return nil, errors.New("preference: DB is required")
	}
	if c.Fresh <= 0 {
		c.Fresh = 2 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Preferences{cfg: c, cached: memo.New[envelope.AccountID, *known](maxCached, c.Fresh)}, nil
}

// of returns what is known of an account: from memory when it is fresh, else after one small
// read of the version, and of all when that has changed.
func (p *Preferences) of(ctx context.Context, id envelope.AccountID) (*known, error) {
	now := p.cfg.Now()
	k, fresh := p.cached.Get(id, now)
	if p.cfg.Hooks.Looked != nil {
		p.cfg.Hooks.Looked(fresh)
	}
	if fresh {
		return k, nil
	}
	changes := p.changes.Load()
	row, err := p.row(ctx, id)
	if err == nil && (k == nil || k.version != row.version) {
		// The lists are read after the version: what changes meanwhile is seen at the next look.
		if k = row; row.version > 0 {
			err = p.load(ctx, id, row)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read filter preferences of account %d: %w", id, err)
	}
	if p.cached.Put(id, k, now); p.changes.Load() != changes {
		p.cached.Forget(id)
	}
	return k, nil
}

// row reads the settings of an account and its version, 0 when it has none.
func (p *Preferences) row(ctx context.Context, id envelope.AccountID) (*known, error) {
	var k *known
	err := p.cfg.DB.View(ctx, func(tx db.Tx) (err error) {
		k, err = readRow(tx, id)
		return err
	})
	return k, err
}

func readRow(tx db.Tx, id envelope.AccountID) (*known, error) {
	k := &known{}
	err := tx.QueryRow(`SELECT version, level, wish, digest, language, bulk FROM preference_account WHERE account = ?`, int64(id)).
		Scan(&k.version, &k.settings.Level, &k.settings.Wish, &k.settings.Digest, &k.settings.Language, &k.settings.Bulk)
	if errors.Is(err, db.ErrNotFound) {
		err = nil
	}
	return k, err
}

// load reads the lists of an account, page by page.
func (p *Preferences) load(ctx context.Context, id envelope.AccountID, k *known) error {
	for after := ""; ; {
		page, err := p.List(ctx, id, after)
		if err != nil {
			return err
		}
		for _, e := range page {
			k.lists.add(e.Pattern, e.Allow)
		}
		if len(page) < MaxPage {
			break
		}
		after = page[len(page)-1].Pattern
	}
	if id != Common {
		return nil
	}
	all, err := p.Traps(ctx)
	k.traps = newTraps(all)
	return err
}

// change runs fn and raises the version of an account, whose row it makes if need be and holds
// locked meanwhile.
func (p *Preferences) change(ctx context.Context, id envelope.AccountID, fn func(tx db.Tx) error) error {
	err := p.cfg.DB.Update(ctx, func(tx db.Tx) error {
		// Versions go up from the clock, so that they never repeat after Purge.
		now := db.Micros(p.cfg.Now())
		_, err := tx.Exec(`INSERT INTO preference_account (account, version, level, wish, digest, language, bulk) VALUES (?, ?, '', '', '', '', '')
			ON CONFLICT (account) DO UPDATE SET version = CASE WHEN excluded.version > preference_account.version THEN excluded.version ELSE preference_account.version + 1 END`,
			int64(id), now)
		if err != nil {
			return err
		}
		return fn(tx)
	})
	p.changes.Add(1)
	p.cached.Forget(id)
	return err
}

// Purge removes all of an account within tx, as when the account is removed. Memory follows
// within Config.Fresh.
func (p *Preferences) Purge(tx db.Tx, id envelope.AccountID) error {
	if _, err := tx.Exec(`DELETE FROM preference_entry WHERE account = ?`, int64(id)); err != nil {
		return err
	}
	_, err := tx.Exec(`DELETE FROM preference_account WHERE account = ?`, int64(id))
	return err
}

// Adopt gives an account that was just made within tx settings and entries that it had before, as
// when it is restored; entries keep their times. ErrInvalid.
func (p *Preferences) Adopt(tx db.Tx, id envelope.AccountID, s Settings, entries []Entry) error {
	if err := s.Validate(); err != nil {
		return err
	}
	if len(entries) > MaxEntries {
		entries = entries[:MaxEntries]
	}
	_, err := tx.Exec(`INSERT INTO preference_account (account, version, level, wish, digest, language, bulk) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		int64(id), db.Micros(p.cfg.Now()), s.Level, s.Wish, s.Digest, s.Language, s.Bulk)
	for _, e := range entries {
		pattern, invalid := ParsePattern(e.Pattern, false)
		if invalid != nil { // the compared form of an address need not be one to write
			pattern = db.Text(e.Pattern)
		}
		if err == nil && len(pattern) <= maxPatternOctets {
			_, err = tx.Exec(`INSERT INTO preference_entry (account, pattern, allow, note, added) VALUES (?, ?, ?, ?, ?) ON CONFLICT (account, pattern) DO NOTHING`,
				int64(id), pattern, e.Allow, db.Text(e.Note), db.Micros(e.Added))
		}
	}
	if err != nil {
		return fmt.Errorf("restore filter settings of account %d: %w", id, err)
	}
	return nil
}

// Settings returns the settings of an account; the zero Settings of one that never said anything.
func (p *Preferences) Settings(ctx context.Context, id envelope.AccountID) (Settings, error) {
	k, err := p.of(ctx, id)
	if err != nil {
		return Settings{}, err
	}
	return k.settings, nil
}

// Set stores the settings of an account in place of those it had. ErrInvalid.
func (p *Preferences) Set(ctx context.Context, id envelope.AccountID, s Settings) error {
	if err := s.Validate(); err != nil {
		return err
	}
	_, err := p.Change(ctx, id, func(Settings) Settings { return s })
	return err
}

// Change stores what edit makes of the settings of an account, and returns that: nobody else changes them
// in between. edit may be called more than once. ErrInvalid.
func (p *Preferences) Change(ctx context.Context, id envelope.AccountID, edit func(Settings) Settings) (s Settings, err error) {
	err = p.change(ctx, id, func(tx db.Tx) error {
		k, err := readRow(tx, id)
		if err != nil {
			return err
		}
		if s = edit(k.settings); s == k.settings {
			return nil
		}
		if err := s.Validate(); err != nil {
			return err
		}
		_, err = tx.Exec(`UPDATE preference_account SET level = ?, wish = ?, digest = ?, language = ?, bulk = ? WHERE account = ?`,
			s.Level, s.Wish, s.Digest, s.Language, s.Bulk, int64(id))
		return err
	})
	if err != nil {
		return Settings{}, fmt.Errorf("store filter settings of account %d: %w", id, err)
	}
	return s, nil
}

// Match is the evidence of the lists, the account's and the server's. Cost as Settings.
func (p *Preferences) Match(ctx context.Context, id envelope.AccountID, s Sender) ([]verdict.Item, error) {
	items, err := p.MatchCommon(ctx, s)
	if err != nil || id == Common {
		return items, err
	}
	k, err := p.of(ctx, id)
	if err != nil {
		return nil, err
	}
	return append(items, k.lists.items(s, verdict.Allowed, verdict.Blocked)...), nil
}

// MatchCommon is Match for the server's lists alone.
func (p *Preferences) MatchCommon(ctx context.Context, s Sender) ([]verdict.Item, error) {
	k, err := p.of(ctx, Common)
	if err != nil {
		return nil, err
	}
	return k.lists.items(s, verdict.AllowedCommon, verdict.BlockedCommon), nil
}
