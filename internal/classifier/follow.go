package classifier

import (
	"context"
	"errors"
	"fmt"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
)

// pageRows is how many samples are read at a time.
const pageRows = 128

// tally is a model and how far in an account's samples and removals it has come.
type tally struct {
	model        *Model
	sample, gone int64
	seen         int64 // the account's counter when all had been read
}

// change is a sample, or a removal of one.
type change struct {
	seq, sample, class int64
	features           []byte
}

// page is what follows some numbers in one snapshot of the database. Samples are read only
// behind the last removal: then none of them has been removed, and a removal that comes later
// finds its sample counted.
type page struct {
	seq, floor    int64
	gone, samples []change
	more          bool
}

// read reads the page that follows t.
func (t *tally) read(ctx context.Context, d db.Database, account envelope.AccountID) (p page, err error) {
	err = d.View(ctx, func(tx db.Tx) error {
		p = page{}
		err := tx.QueryRow(`SELECT seq, floor FROM classifier_model WHERE account = ?`, int64(account)).Scan(&p.seq, &p.floor)
		if errors.Is(err, db.ErrNotFound) {
			return nil
		}
		if err != nil || t.seen >= p.seq {
			return err // nothing has happened
		}
		p.gone, err = changes(tx, `SELECT seq, sample, class, features FROM classifier_gone WHERE account = ? AND seq > ? ORDER BY seq LIMIT ?`, account, t.gone)
		if p.more = len(p.gone) == pageRows; p.more || err != nil {
			return err
		}
		p.samples, err = changes(tx, `SELECT seq, seq, class, features FROM classifier_sample WHERE account = ? AND seq > ? ORDER BY seq LIMIT ?`, account, t.sample)
		p.more = len(p.samples) == pageRows
		return err
	})
	if err != nil {
		return p, fmt.Errorf("read samples of account %d: %w", account, err)
	}
	return p, nil
}

func changes(tx db.Tx, query string, account envelope.AccountID, after int64) (out []change, err error) {
	rows, err := tx.Query(query, int64(account), after, int64(pageRows))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var c change
		if err := rows.Scan(&c.seq, &c.sample, &c.class, &c.features); err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, rows.Err()
}

// stale reports that removals are gone which t has not seen: it must count anew.
func (t *tally) stale(p page) bool { return t.gone < p.floor && t.sample > 0 }

// reset forgets everything.
func (t *tally) reset() {
	clear(t.model.counts)
	*t.model = Model{shift: t.model.shift, counts: t.model.counts}
	*t = tally{model: t.model}
}

// apply counts a page and returns how many samples it changed and how many it could not read.
func (t *tally) apply(p page) (changed, broken int) {
	count := func(c change, add func(Features, bool)) {
		f, known, err := unpack(c.features)
		switch {
		case err != nil:
			broken++
		case known:
			add(f, c.class == classSpam)
			changed++
		}
	}
	for _, g := range p.gone {
		if g.sample <= t.sample {
			count(g, t.model.Remove)
		}
		t.gone = g.seq
	}
	for _, s := range p.samples {
		count(s, t.model.Add)
		t.sample = s.seq
	}
	if len(p.gone) < pageRows { // there were no more
		t.gone = max(t.gone, p.seq)
	}
	if !p.more {
		t.seen = p.seq
	}
	return changed, broken
}

// Load reads what the whole server has learned; Run begins with it. It costs some 10 µs a
// sample behind the last checkpoint, and well under a second in all. Judge is unsure until
// it has returned.
func (c *Classifier) Load(ctx context.Context) error {
	c.following.Lock()
	defer c.following.Unlock()
	if c.ready {
		return nil
	}
	start := c.cfg.Now()
	if err := c.restore(ctx); err != nil {
		return err
	}
	return c.follow(ctx, start)
}

// follow reads all that is new of the whole server. The caller holds following.
func (c *Classifier) follow(ctx context.Context, start time.Time) error {
	for {
		p, err := c.common.read(ctx, c.cfg.DB, Common)
		if err != nil {
			return err
		}
		c.mu.Lock()
		if c.common.stale(p) {
			c.common.reset()
			c.ready, c.unsaved = false, 0
			c.mu.Unlock()
			continue
		}
		changed, broken := c.common.apply(p)
		c.unsaved += changed
		first := !c.ready && !p.more
		c.ready = c.ready || first
		spam, ham := c.common.model.Samples()
		c.mu.Unlock()
		if broken > 0 {
			c.cfg.Logger.Error("classifier samples can't be read", "count", broken)
		}
		if first && c.cfg.Hooks.Loaded != nil {
			c.cfg.Hooks.Loaded(spam+ham, c.cfg.Now().Sub(start))
		}
		if !p.more {
			return nil
		}
	}
}

// catchUp makes what was just learned for an account count on this node.
func (c *Classifier) catchUp(ctx context.Context, account envelope.AccountID) error {
	if account != Common {
		c.owns.expire(account)
		if c.cfg.ShareDaily <= 0 {
			return nil
		}
	}
	c.following.Lock()
	defer c.following.Unlock()
	if !c.ready { // Load will read it
		return nil
	}
	if err := c.follow(ctx, c.cfg.Now()); err != nil { // it is learned: Run reads it later
		c.cfg.Logger.Warn("classifier can't read what it learned", "error", err)
	}
	return nil
}

// Run loads the common model and keeps it true until ctx ends: it reads what other nodes
// learned, writes checkpoints and drops old notes of removals. Errors are logged and what
// failed is tried again.
func (c *Classifier) Run(ctx context.Context) error {
	poll, tidy := time.NewTicker(c.cfg.Poll), time.NewTicker(time.Hour)
	defer poll.Stop()
	defer tidy.Stop()
	c.round(ctx, "load", c.Load)
	c.round(ctx, "tidy", c.Tidy)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-poll.C:
			c.round(ctx, "load", c.refresh)
		case <-tidy.C:
			c.round(ctx, "tidy", c.Tidy)
		}
	}
}

func (c *Classifier) round(ctx context.Context, what string, fn func(context.Context) error) {
	if err := fn(ctx); err != nil && ctx.Err() == nil {
		c.cfg.Logger.Error("classifier maintenance failed", "work", what, "error", err)
	}
}

// refresh reads what is new, or all at first.
func (c *Classifier) refresh(ctx context.Context) error {
	if err := c.Load(ctx); err != nil {
		return err
	}
	c.following.Lock()
	defer c.following.Unlock()
	return c.follow(ctx, c.cfg.Now())
}

// Tidy does what Run does every hour: it writes a checkpoint if one is due and drops notes of
// removals that are older than a week.
func (c *Classifier) Tidy(ctx context.Context) error {
	return errors.Join(c.checkpoint(ctx), c.dropParts(ctx), c.dropGone(ctx))
}

// dropGone drops old removals, and notes up to which, account by account.
func (c *Classifier) dropGone(ctx context.Context) error {
	before := db.Micros(c.cfg.Now().Add(-keepGone))
	for {
		var rows int64
		err := c.cfg.DB.UpdateLow(ctx, func(tx db.Tx) error {
			rows = 0
			var account, seq int64
			err := tx.QueryRow(`SELECT account, seq FROM classifier_gone WHERE removed < ? ORDER BY removed, account, seq LIMIT 1`, before).Scan(&account, &seq)
			if errors.Is(err, db.ErrNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			// Numbers rise with time: what is below the last of a chunk is old too.
			err = tx.QueryRow(`SELECT MAX(seq) FROM (SELECT seq FROM classifier_gone WHERE account = ? AND removed < ? ORDER BY seq LIMIT ?) AS old`,
				account, before, int64(pageRows)).Scan(&seq)
			if err != nil {
				return err
			}
			if _, err = tx.Exec(`UPDATE classifier_model SET floor = ? WHERE account = ? AND floor < ?`, seq, account, seq); err != nil {
				return err
			}
			rows, err = tx.Exec(`DELETE FROM classifier_gone WHERE account = ? AND seq <= ?`, account, seq)
			return err
		})
		if err != nil {
			return fmt.Errorf("drop old removals of samples: %w", err)
		}
		if rows == 0 {
			return nil
		}
	}
}
