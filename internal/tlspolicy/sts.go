package tlspolicy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mtasts"
	"poczta.example/poczta/internal/tlsrpt"
)

// Times of MTA-STS policies.
const (
	retryFetch   = 5 * time.Minute     // after a fetch that failed, for one id (RFC 8461 §3.3)
	recordWait   = 15 * time.Second    // for the record in DNS: who answers late has none, or the one in the cache
	minAge       = 5 * time.Minute     // a policy that lives shorter is kept so long, or every message would fetch it
	refreshEvery = 24 * time.Hour      // RFC 8461 §3.3
	unusedFor    = 30 * 24 * time.Hour // a policy that no mail has asked for is not refreshed any more
)

// stsRow is a row of tls_sts.
type stsRow struct {
	id       string
	policy   string // "": none was ever fetched
	fetched  time.Time
	expires  time.Time
	used     time.Time
	failedID string
	failed   time.Time
	failure  string
}

// valid returns the policy if it still holds at now.
func (r stsRow) valid(now time.Time) (mtasts.Policy, bool) {
	if r.policy == "" || !now.Before(r.expires) {
		return mtasts.Policy{}, false
	}
	p, err := mtasts.ParsePolicy(r.policy)
	return p, err == nil
}

// flight is a policy that is being fetched.
type flight struct {
	done chan struct{}
	row  stsRow
	err  error
}

// discover finds the MTA-STS policy that holds (RFC 8461 §5.1). The record is
// asked for each time, from the resolver's cache, so that a new policy is found at
// once and no message is returned for an old one.
func (p *Plan) discover(ctx context.Context, row stsRow) error {
	s, now := p.store, p.store.cfg.Now()
	policy, valid := row.valid(now)
	limit, cancel := context.WithTimeout(ctx, recordWait)
	rec, err := mtasts.LookupRecord(limit, s.cfg.Resolver, p.Domain)
	cancel()
	switch {
	case err != nil && !valid:
		if errors.Is(err, mtasts.ErrSyntax) {
			p.fetching, p.detail = tlsrpt.STSPolicyInvalid, "record"
		}
		return nil // RFC 8461 §3.1: as if there were no policy
	case err != nil || valid && rec.ID == row.id:
		p.Policy, p.PolicyID = policy, row.id
		return s.use(ctx, p.Domain, row)
	case rec.ID == row.failedID && now.Sub(row.failed) < retryFetch && !now.Before(row.failed):
		p.fetching, p.detail = tlsrpt.STSPolicyFetchError, row.failure
	default:
		row, err = s.fetch(ctx, p.Domain, rec.ID, row)
		if err != nil {
			return err
		}
		if row.failure != "" {
			p.fetching, p.detail = tlsrpt.STSPolicyFetchError, row.failure
		}
		policy, valid = row.valid(now)
	}
	if valid {
		p.Policy, p.PolicyID, p.fetching, p.detail = policy, row.id, tlsrpt.Success, ""
	}
	return nil
}

// fetch gets a domain's policy and keeps what came of it; askers of one domain
// share one fetch. The error is the database's or ctx's.
func (s *Store) fetch(ctx context.Context, domain address.Domain, id string, row stsRow) (stsRow, error) {
	name := domain.String()
	for {
		s.mu.Lock()
		f := s.flights[name]
		if f == nil {
			f = &flight{done: make(chan struct{})}
			s.flights[name] = f
			s.mu.Unlock()
			f.row, f.err = s.fetchNow(ctx, domain, id, row)
			s.mu.Lock()
			delete(s.flights, name)
			s.mu.Unlock()
			close(f.done)
			return f.row, f.err
		}
		s.mu.Unlock()
		select {
		case <-f.done:
			if f.err == nil || ctx.Err() != nil {
				return f.row, f.err
			} // who fetched was interrupted: try ourselves
		case <-ctx.Done():
			return row, ctx.Err()
		}
	}
}

// fetchNow asks the policy host and writes the row, unless somebody did since row
// was read.
func (s *Store) fetchNow(ctx context.Context, domain address.Domain, id string, row stsRow) (stsRow, error) {
	known, err := s.load(ctx, domain)
	if err != nil {
		return row, err
	}
	if x := known.sts; x.id == id && x.fetched.After(row.fetched) || x.failedID == id && x.failed.After(row.failed) {
		return x, nil
	}
	p, err := s.cfg.Fetcher.Fetch(ctx, domain)
	if err != nil && ctx.Err() != nil {
		return row, fmt.Errorf("fetch the MTA-STS policy of %s: %w", domain, ctx.Err())
	}
	now := s.cfg.Now()
	if s.cfg.Hooks.Fetched != nil {
		s.cfg.Hooks.Fetched(err == nil)
	}
	if err == nil {
		row = stsRow{id: id, policy: p.String(), fetched: now, expires: now.Add(max(p.MaxAge, minAge)), used: now}
	} else {
		s.failed(domain, row, err, now)
		row.failedID, row.failed, row.failure = id, now, db.Text(clip(err.Error(), 200))
	}
	return row, s.cfg.DB.Update(ctx, func(tx db.Tx) error {
		_, err := tx.Exec(`INSERT INTO tls_sts (domain, id, policy, fetched, expires, checked, used, failed_id, failed, failure)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (domain) DO UPDATE SET id = excluded.id, policy = excluded.policy, fetched = excluded.fetched, expires = excluded.expires,
				checked = excluded.checked, failed_id = excluded.failed_id, failed = excluded.failed, failure = excluded.failure
			WHERE tls_sts.fetched <= excluded.fetched`,
			domain.String(), row.id, row.policy, db.Micros(row.fetched), db.Micros(row.expires), db.Micros(now), db.Micros(now),
			row.failedID, db.Micros(row.failed), row.failure)
		return err
	})
}

// failed tells the operator, once a day for each domain, that a policy which is
// wanted can't be had (RFC 8461 §3.3).
func (s *Store) failed(domain address.Domain, row stsRow, err error, now time.Time) {
	old, valid := row.valid(now)
	if valid && old.Mode == mtasts.None {
		return
	}
	s.mu.Lock()
	last, again := s.told[domain.String()]
	again = again && now.Sub(last) < refreshEvery
	if !again {
		if len(s.told) >= maxNoticed {
			clear(s.told)
		}
		s.told[domain.String()] = now
	}
	s.mu.Unlock()
	if again {
		return
	}
	s.cfg.Logger.Warn("MTA-STS policy cannot be fetched", "domain", domain.String(), "old_policy_holds", valid, "error", err)
}

// use notes, once a day, that mail asks for a policy.
func (s *Store) use(ctx context.Context, domain address.Domain, row stsRow) error {
	now := s.cfg.Now()
	if now.Sub(row.used) < refreshEvery {
		return nil
	}
	return s.cfg.DB.Update(ctx, func(tx db.Tx) error {
		_, err := tx.Exec("UPDATE tls_sts SET used = ? WHERE domain = ? AND used < ?", db.Micros(now), domain.String(), db.Micros(now))
		return err
	})
}

// Refresh fetches the policies anew that are in use and were looked at a day ago,
// so that nobody can make them expire by standing in the way just then, and drops
// those long expired. It does at most limit of them and returns how many it did.
// Run calls it; several nodes share the work.
func (s *Store) Refresh(ctx context.Context, limit int) (int, error) {
	if s.cfg.Fetcher == nil {
		return 0, nil
	}
	now := s.cfg.Now()
	due, err := s.due(ctx, now, limit)
	if err != nil {
		return 0, fmt.Errorf("refresh MTA-STS policies: %w", err)
	}
	done := 0
	for _, d := range due {
		if err := s.refresh(ctx, d, now); err != nil {
			return done, fmt.Errorf("refresh MTA-STS policy of %s: %w", d.domain, err)
		}
		done++
	}
	return done, nil
}

// dueRow is a policy to refresh.
type dueRow struct {
	domain  string
	checked int64
	row     stsRow
}

func (s *Store) due(ctx context.Context, now time.Time, limit int) (due []dueRow, err error) {
	err = s.cfg.DB.View(ctx, func(tx db.Tx) error {
		due = nil
		rows, err := tx.Query(`SELECT domain, checked, `+stsColumns+` FROM tls_sts WHERE checked <= ? ORDER BY checked LIMIT ?`,
			db.Micros(now.Add(-refreshEvery)), int64(limit))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var d dueRow
			if err := d.row.scan(rows, &d.domain, &d.checked); err != nil {
				return err
			}
			due = append(due, d)
		}
		return rows.Err()
	})
	return due, err
}

// refresh takes one policy, unless another node has, and fetches or drops it.
func (s *Store) refresh(ctx context.Context, d dueRow, now time.Time) error {
	domain, err := address.ParseDomain(d.domain)
	_, valid := d.row.valid(now)
	wanted := err == nil && valid && now.Sub(d.row.used) < unusedFor
	mine := int64(0)
	err = s.cfg.DB.UpdateLow(ctx, func(tx db.Tx) error {
		var err error
		if valid || now.Sub(d.row.failed) < refreshEvery {
			mine, err = tx.Exec("UPDATE tls_sts SET checked = ? WHERE domain = ? AND checked = ?", db.Micros(now), d.domain, d.checked)
		} else {
			_, err = tx.Exec("DELETE FROM tls_sts WHERE domain = ? AND checked = ?", d.domain, d.checked)
		}
		return err
	})
	if err != nil || mine == 0 || !wanted {
		return err
	}
	id := d.row.id
	if rec, err := mtasts.LookupRecord(ctx, s.cfg.Resolver, domain); err == nil {
		id = rec.ID
	} // without a record the policy holds all the same, and is asked for (RFC 8461 §5.1)
	_, err = s.fetch(ctx, domain, id, d.row)
	return err
}

const stsColumns = "id, policy, fetched, expires, used, failed_id, failed, failure"

// scan reads stsColumns behind other columns.
func (r *stsRow) scan(row db.Row, before ...any) error {
	var fetched, expires, used, failed int64
	err := row.Scan(append(before, &r.id, &r.policy, &fetched, &expires, &used, &r.failedID, &failed, &r.failure)...)
	r.fetched, r.expires, r.used, r.failed = db.FromMicros(fetched), db.FromMicros(expires), db.FromMicros(used), db.FromMicros(failed)
	return err
}

func clip(s string, n int) string { return s[:min(len(s), n)] }
