package reputation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/upkeep"
)

// Component is this package's tables, for db.Migrate.
//
// reputation is a row of fixed size for each network, domain and address, known by a keyed
// hash alone; its counts are explained at record. correspondent is whom an account wrote to
// and got wanted mail from: days since 1970, and the day on which the row goes.
func Component() db.Component {
	return db.Component{Name: "reputation", Steps: []db.Step{{Number: 1, SQL: `
CREATE TABLE reputation (
	kind {int} NOT NULL, hash {int} NOT NULL, period {int} NOT NULL, good {int} NOT NULL, bad {int} NOT NULL,
	trap {int} NOT NULL, day {int} NOT NULL, PRIMARY KEY (kind, hash)) {rowid};
CREATE INDEX reputation_day ON reputation (day);
CREATE TABLE correspondent (
	account {int} NOT NULL, hash {int} NOT NULL, wrote {int} NOT NULL, received {int} NOT NULL, expires {int} NOT NULL,
	PRIMARY KEY (account, hash)) {rowid};
CREATE INDEX correspondent_expires ON correspondent (expires)`}}}
}

// faded is 2 to the power of a number of periods; nothing is left of counts after 16.
const faded = `CASE WHEN %[1]s <= 0 THEN 1 WHEN %[1]s = 1 THEN 2 WHEN %[1]s = 2 THEN 4 WHEN %[1]s = 3 THEN 8 WHEN %[1]s = 4 THEN 16
	WHEN %[1]s = 5 THEN 32 WHEN %[1]s < 16 THEN 1024 ELSE 9223372036854775807 END`

var upsertRecord = func() string {
	old := fmt.Sprintf(faded, "(excluded.period - reputation.period)")
	late := fmt.Sprintf(faded, "(reputation.period - excluded.period)")
	sum := func(c string) string {
		v := "reputation." + c + " / " + old + " + excluded." + c + " / " + late
		return c + " = CASE WHEN " + v + " > 0 THEN " + v + " ELSE 0 END"
	}
	return `INSERT INTO reputation (kind, hash, period, good, bad, trap, day) VALUES (?, ?, ?, ?, ?, ?, ?)
	ON CONFLICT (kind, hash) DO UPDATE SET ` + sum("good") + ", " + sum("bad") + `,
	period = CASE WHEN excluded.period > reputation.period THEN excluded.period ELSE reputation.period END,
	trap = CASE WHEN excluded.trap > reputation.trap THEN excluded.trap ELSE reputation.trap END, day = excluded.day`
}()

const upsertMark = `INSERT INTO correspondent (account, hash, wrote, received, expires) VALUES (?, ?, ?, ?, ?)
	ON CONFLICT (account, hash) DO UPDATE SET
	wrote = CASE WHEN excluded.wrote > correspondent.wrote THEN excluded.wrote ELSE correspondent.wrote END,
	received = CASE WHEN excluded.received > correspondent.received THEN excluded.received ELSE correspondent.received END,
	expires = CASE WHEN excluded.expires > correspondent.expires THEN excluded.expires ELSE correspondent.expires END`

// Run writes what was noted every few seconds and drops what is old, until ctx ends; then it
// writes once more.
func (s *Store) Run(ctx context.Context) error {
	return upkeep.Rounds{Write: s.Flush, Sweep: s.Sweep, WriteEvery: writeEvery, SweepEvery: sweepEvery, Kick: s.kick,
		Logger: s.cfg.Logger, Failed: "reputation could not be kept"}.Run(ctx)
}

// flight is a batch on its way to the database.
type flight struct {
	noted map[key]record
	met   map[pair]mark
}

// Flush writes what was noted until a batch is not full: what comes in meanwhile may wait for the
// next call, as does what could not be written.
func (s *Store) Flush(ctx context.Context) error {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	for {
		b := s.batch()
		rows := len(b.noted) + len(b.met)
		if rows == 0 {
			return nil
		}
		begun := time.Now()
		err := s.cfg.DB.UpdateLow(ctx, func(tx db.Tx) error { return s.write(tx, b) })
		s.land(b, err != nil && !errors.Is(err, db.ErrUnknownOutcome))
		if err != nil {
			return fmt.Errorf("write reputation: %w", err)
		}
		if s.cfg.Hooks.Written != nil {
			s.cfg.Hooks.Written(rows, time.Since(begun))
		}
		if len(b.noted) < batchRows && len(b.met) < batchRows {
			return nil
		}
	}
}

// land ends a flight. What memory has of its rows is read anew; unwritten, it waits again.
func (s *Store) land(b flight, unwritten bool) {
	s.flushes.Add(1)
	for k := range b.noted {
		s.cached.Forget(k)
	}
	for p := range b.met {
		s.known.Forget(p)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flying = flight{}
	if !unwritten {
		return
	}
	for k, r := range b.noted {
		s.noted[k] = s.noted[k].plus(r)
	}
	for p, m := range b.met {
		s.met[p] = s.met[p].later(m)
	}
}

// write runs the statements of a batch; rows are locked in one order by all nodes.
func (s *Store) write(tx db.Tx, b flight) error {
	noted, met := b.noted, b.met
	today := day(s.cfg.Now())
	byKey := func(a, b key) int { return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.hash, b.hash)) }
	for _, k := range slices.SortedFunc(maps.Keys(noted), byKey) {
		r := noted[k]
		if _, err := tx.Exec(upsertRecord, int64(k.kind), k.hash, r.period, r.good, r.bad, r.trap, today); err != nil {
			return err
		}
	}
	byPair := func(a, b pair) int { return cmp.Or(cmp.Compare(a.account, b.account), cmp.Compare(a.hash, b.hash)) }
	for _, p := range slices.SortedFunc(maps.Keys(met), byPair) {
		m := met[p]
		if _, err := tx.Exec(upsertMark, int64(p.account), p.hash, m.wrote, m.received, m.expires()); err != nil {
			return err
		}
	}
	return nil
}

// batch takes some of what waits.
func (s *Store) batch() flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	noted, met := map[key]record{}, map[pair]mark{}
	for k, r := range s.noted {
		if len(noted) == batchRows {
			break
		}
		noted[k] = r
		delete(s.noted, k)
	}
	for p, m := range s.met {
		if len(met) == batchRows {
			break
		}
		met[p] = m
		delete(s.met, p)
		if len(s.touched) < maxPending {
			s.touched[p.account] = struct{}{}
		}
	}
	s.flying = flight{noted, met}
	return s.flying
}

// keepDays is how long a subject is kept after it was last seen: after three half-lives little
// is left of it.
const keepDays = 90

// Sweep drops what is old and what is beyond the bounds, in chunks. Run calls it each hour.
func (s *Store) Sweep(ctx context.Context) error {
	today := day(s.cfg.Now())
	err := db.DropWhere(ctx, s.cfg.DB, "reputation", "kind, hash", "day < ?", today-keepDays)
	if err == nil {
		err = db.DropWhere(ctx, s.cfg.DB, "correspondent", "account, hash", "expires < ?", today)
	}
	if err != nil {
		return fmt.Errorf("drop old reputation: %w", err)
	}
	var rows int64
	if err := s.cfg.DB.View(ctx, func(tx db.Tx) error { return tx.QueryRow(`SELECT COUNT(*) FROM reputation`).Scan(&rows) }); err != nil {
		return fmt.Errorf("count reputation: %w", err)
	}
	if err := s.drop(ctx, `DELETE FROM reputation WHERE (kind, hash) IN (SELECT kind, hash FROM reputation ORDER BY day LIMIT ?)`, rows-s.cfg.MaxRows); err != nil {
		return fmt.Errorf("drop reputation beyond %d rows: %w", s.cfg.MaxRows, err)
	}
	return s.sweepAccounts(ctx)
}

// drop runs a DELETE with a LIMIT as its last parameter until it has removed n rows or finds none.
func (s *Store) drop(ctx context.Context, query string, n int64, args ...any) error {
	removed := int64(0)
	return db.Chunks(ctx, s.cfg.DB, func(tx db.Tx, most int) (int, error) {
		left := n - removed
		if left <= 0 {
			return 0, nil
		}
		done, err := tx.Exec(query, append(slices.Clone(args), min(int64(most), left))...)
		removed += done
		return int(done), err
	})
}

// sweepAccounts bounds the correspondents of the accounts that got new ones here.
func (s *Store) sweepAccounts(ctx context.Context) error {
	s.mu.Lock()
	touched := s.touched
	s.touched = map[envelope.AccountID]struct{}{}
	s.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(touched)) {
		var rows int64
		err := s.cfg.DB.View(ctx, func(tx db.Tx) error {
			return tx.QueryRow(`SELECT COUNT(*) FROM correspondent WHERE account = ?`, int64(id)).Scan(&rows)
		})
		if err == nil && rows > s.cfg.MaxCorrespondents {
			err = s.drop(ctx, `DELETE FROM correspondent WHERE (account, hash) IN
				(SELECT account, hash FROM correspondent WHERE account = ? ORDER BY expires LIMIT ?)`, rows-s.cfg.MaxCorrespondents, int64(id))
		}
		if err != nil {
			return fmt.Errorf("drop correspondents of account %d: %w", id, err)
		}
	}
	return nil
}
