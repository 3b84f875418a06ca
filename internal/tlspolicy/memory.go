package tlspolicy

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
)

// Bounds of the memory of hosts.
const (
	maxNoticed  = 10_000              // downgrades and failures that are remembered as told
	maxHosts    = 200                 // hosts of one domain
	rememberFor = 60 * 24 * time.Hour // since a host was last seen
	seenEvery   = 24 * time.Hour      // a host that shows what it did is written down so often
)

// memoryKey is one host of a domain.
type memoryKey struct{ domain, host string }

// memory is what a host has shown.
type memory struct {
	known   bool
	level   Level
	seen    time.Time
	lowered time.Time // since when it shows less; zero if it does not
}

// sight is a level that was shown and is not yet written.
type sight struct {
	level Level
	// expected of a host that is new: it is taken to have shown that before, and to show less
	// since at, or whoever forges an MX record would be refused only once.
	expected Level
	at       time.Time
}

// loaded is what the database knows of a domain.
type loaded struct {
	sts    stsRow
	memory map[string]memory
}

// load reads all of a domain in one transaction.
func (s *Store) load(ctx context.Context, domain address.Domain) (out loaded, err error) {
	err = s.cfg.DB.View(ctx, func(tx db.Tx) error {
		out = loaded{memory: map[string]memory{}}
		err := out.sts.scan(tx.QueryRow("SELECT "+stsColumns+" FROM tls_sts WHERE domain = ?", domain.String()))
		if err != nil && !errors.Is(err, db.ErrNotFound) {
			return err
		}
		rows, err := tx.Query("SELECT host, level, seen, lowered FROM tls_memory WHERE domain = ? AND seen >= ? LIMIT ?",
			domain.String(), db.Micros(s.cfg.Now().Add(-rememberFor)), int64(maxHosts))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var host string
			var level, seen, lowered int64
			if err := rows.Scan(&host, &level, &seen, &lowered); err != nil {
				return err
			}
			m := memory{known: true, level: Level(level), seen: db.FromMicros(seen)}
			if lowered > 0 {
				m.lowered = db.FromMicros(lowered)
			}
			out.memory[host] = m
		}
		return rows.Err()
	})
	return out, err
}

// expected is what a host has shown before; a new host is expected to be no worse
// than the worst of the domain, or whoever can forge an MX record would be
// expected nothing of.
func (p *Plan) expected(host string) (memory, Level) {
	if m, ok := p.memory[host]; ok {
		return m, m.level
	}
	if len(p.memory) == 0 {
		return memory{}, None
	}
	least := DANE
	for _, m := range p.memory {
		least = min(least, m.level)
	}
	return memory{}, least
}

// remember notes what a host has shown, and tells of a downgrade. The caller holds mu.
func (s *Store) remember(r Requirement, shown Level) (downgrade bool) {
	now, key := s.cfg.Now(), memoryKey{r.Domain.String(), r.Host.String()}
	if r.Host.IsZero() {
		return false
	}
	lower := shown < r.Expected
	switch told, ok := s.noticed[key]; {
	case !lower:
		delete(s.noticed, key)
	case r.memory.lowered.IsZero() && !(ok && now.Sub(told) < s.cfg.Forget):
		if len(s.noticed) >= maxNoticed {
			clear(s.noticed)
		}
		s.noticed[key] = now
		downgrade = true
	}
	if r.memory.known && r.memory.level == shown && r.memory.lowered.IsZero() && now.Sub(r.memory.seen) < seenEvery {
		return downgrade // the row says so already
	}
	if r.crowded {
		return downgrade
	}
	if last, ok := s.seen[key]; ok {
		shown = min(shown, last.level) // the worst of a batch counts
	} else if len(s.seen) >= maxPending {
		return downgrade
	}
	x := sight{level: shown, expected: shown, at: now}
	if !r.memory.known {
		x.expected = max(shown, r.Expected)
	}
	s.seen[key] = x
	return downgrade
}

// writeSights writes what hosts have shown. A level rises at once and falls when
// it has been lower for forget.
func writeSights(tx db.Tx, batch map[memoryKey]sight, forget time.Duration) error {
	const settled = "? >= tls_memory.level OR (tls_memory.lowered > 0 AND excluded.seen - tls_memory.lowered >= ?)"
	order := func(a, b memoryKey) int {
		return cmp.Or(strings.Compare(a.domain, b.domain), strings.Compare(a.host, b.host))
	}
	for _, key := range slices.SortedFunc(maps.Keys(batch), order) { // rows are locked in one order by all nodes
		x := batch[key]
		level, lowered, pause := int64(x.level), int64(0), forget.Microseconds()
		if x.expected > x.level {
			lowered = db.Micros(x.at)
		}
		_, err := tx.Exec(`INSERT INTO tls_memory (domain, host, level, seen, lowered) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (domain, host) DO UPDATE SET
			level = CASE WHEN `+settled+` THEN ? ELSE tls_memory.level END,
			lowered = CASE WHEN `+settled+` THEN 0 WHEN tls_memory.lowered > 0 THEN tls_memory.lowered ELSE excluded.seen END,
			seen = excluded.seen`,
			key.domain, key.host, int64(x.expected), db.Micros(x.at), lowered, level, pause, level, level, pause)
		if err != nil {
			return err
		}
	}
	return nil
}
