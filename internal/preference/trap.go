package preference

import (
	"context"
	"fmt"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
)

// ParseTrap reads a spam trap and returns the form that is stored and compared: an address, or a
// pattern, "*@example.org" for all addresses of a domain and "jan*@example.org" for those that
// begin so. Errors wrap ErrInvalid.
func ParseTrap(s string) (string, error) {
	s = strings.TrimSpace(s)
	prefix, domain, pattern := cutTrap(s)
	if pattern { // an address with something in the star's place
		s = prefix + "x@" + domain
	}
	a, err := address.Parse(s)
	if err != nil || len(s) > maxPatternOctets {
		return "", fmt.Errorf("spam trap %.100q %w: write an address, *@example.org or prefix*@example.org", s, ErrInvalid)
	}
	if !pattern {
		return a.Key(), nil
	}
	if strings.ContainsAny(prefix, `*"`) {
		return "", fmt.Errorf("spam trap %.100q %w: a star stands once, in front of the @", s, ErrInvalid)
	}
	at := strings.LastIndexByte(a.Key(), '@')
	return a.Key()[:at-1] + "*" + a.Key()[at:], nil
}

// cutTrap parts a pattern. An address whose local-part ends with a star is taken for one.
func cutTrap(s string) (prefix, domain string, pattern bool) {
	at := strings.LastIndexByte(s, '@')
	if at < 1 || s[at-1] != '*' {
		return "", "", false
	}
	return s[:at-1], s[at+1:], true
}

// traps are the spam traps, made for look-ups.
type traps struct {
	exact    map[string]bool
	prefixes map[string][]string // by domain; "" is every address
}

func newTraps(all []string) traps {
	t := traps{exact: make(map[string]bool, len(all))}
	for _, s := range all {
		prefix, domain, pattern := cutTrap(s)
		if !pattern {
			t.exact[s] = true
			continue
		}
		if t.prefixes == nil {
			t.prefixes = map[string][]string{}
		}
		t.prefixes[domain] = append(t.prefixes[domain], prefix)
	}
	return t
}

// Trap says how an address is a spam trap.
type Trap uint8

// The kinds of traps.
const (
	NoTrap      Trap = iota
	PatternTrap      // a pattern fits; an address that somebody has is none for that
	ExactTrap        // it is named itself
)

// IsTrap reports whether an address is a spam trap: one that was never given to anybody, so
// that whoever writes to it has guessed or stolen it. Cost as Settings.
func (p *Preferences) IsTrap(ctx context.Context, a address.Address) (Trap, error) {
	k, err := p.of(ctx, Common)
	if err != nil {
		return NoTrap, err
	}
	if len(k.traps.exact) > 0 && k.traps.exact[a.Key()] {
		return ExactTrap, nil
	}
	if len(k.traps.prefixes) == 0 {
		return NoTrap, nil
	}
	key := a.Key()
	at := strings.LastIndexByte(key, '@')
	for _, prefix := range k.traps.prefixes[key[at+1:]] {
		if strings.HasPrefix(key[:at], prefix) {
			return PatternTrap, nil
		}
	}
	return NoTrap, nil
}

// AddTrap makes an address, or all that fit a pattern, spam traps; twice is no error. ErrInvalid,
// ErrFull.
func (p *Preferences) AddTrap(ctx context.Context, trap string) error {
	key, err := ParseTrap(trap)
	if err != nil {
		return err
	}
	now := p.cfg.Now()
	err = p.change(ctx, Common, func(tx db.Tx) error {
		_, err := tx.Exec(`INSERT INTO preference_trap (address, added) VALUES (?, ?) ON CONFLICT (address) DO NOTHING`, key, db.Micros(now))
		if err != nil {
			return err
		}
		var rows int64
		if err := tx.QueryRow(`SELECT COUNT(*) FROM preference_trap`).Scan(&rows); err != nil {
			return err
		}
		if rows > MaxTraps {
			return fmt.Errorf("%w: at most %d spam traps are kept", ErrFull, MaxTraps)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("add spam trap %s: %w", key, err)
	}
	return nil
}

// RemoveTrap takes a trap away that AddTrap has made. ErrInvalid, ErrNotFound.
func (p *Preferences) RemoveTrap(ctx context.Context, trap string) error {
	key, err := ParseTrap(trap)
	if err != nil {
		return err
	}
	err = p.change(ctx, Common, func(tx db.Tx) error {
		n, err := tx.Exec(`DELETE FROM preference_trap WHERE address = ?`, key)
		if err == nil && n == 0 {
			err = ErrNotFound
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("remove spam trap %s: %w", key, err)
	}
	return nil
}

// Traps lists the spam traps in their compared form, sorted.
func (p *Preferences) Traps(ctx context.Context) (all []string, err error) {
	err = p.cfg.DB.View(ctx, func(tx db.Tx) error {
		all = nil
		rows, err := tx.Query(`SELECT address FROM preference_trap ORDER BY address`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var a string
			if err := rows.Scan(&a); err != nil {
				return err
			}
			all = append(all, a)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("read spam traps: %w", err)
	}
	return all, nil
}
