package reputation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/verdict"
)

// How long correspondents are remembered, in days, and how often a row is written that says
// the same.
const (
	wroteFor     = 730
	receivedFor  = 180
	refreshAfter = 7
)

// correspondence separates hashes of correspondents from those of the kinds.
const correspondence Kind = 0

// pair is an account and somebody it knows.
type pair struct {
	account envelope.AccountID
	hash    int64
}

// mark is when an account last wrote to somebody, and got mail that it wanted: days since
// 1970, 0 is never.
type mark struct{ wrote, received int64 }

func (m mark) later(o mark) mark { return mark{max(m.wrote, o.wrote), max(m.received, o.received)} }

func (m mark) expires() int64 {
	return max(m.wrote+wroteFor*min(m.wrote, 1), m.received+receivedFor*min(m.received, 1))
}

func day(t time.Time) int64 { return t.Unix() / 86400 }

// Acquaintance is what an account has to do with somebody.
type Acquaintance struct {
	Account envelope.AccountID
	Address address.Address
	// Wrote: the account has sent mail to the address within two years.
	Wrote bool
	// Received: the account has got mail from it that was no spam, within half a year.
	Received bool
}

// Items is the evidence for a message that claims to come from the address. Where nothing
// proves that, an acquaintance speaks neither for the message nor against it: the names of
// friends are what forgers use.
func (a Acquaintance) Items(proven bool) []verdict.Item {
	switch {
	case !a.Wrote && !a.Received:
		return []verdict.Item{{Name: verdict.FirstTime, Detail: clip(a.Address.Unicode()) + " has not written before"}}
	case a.Wrote && proven:
		return []verdict.Item{{Name: verdict.Correspondent, Detail: "the recipient has written to " + clip(a.Address.Unicode())}}
	}
	return nil
}

func (s *Store) pair(account envelope.AccountID, a address.Address) pair {
	return pair{account, s.hash(correspondence, a.Key())}
}

// Wrote notes that an account sends mail to addresses. It only touches memory; Run writes.
func (s *Store) Wrote(_ context.Context, account envelope.AccountID, addresses ...address.Address) {
	s.meet(account, mark{wrote: day(s.cfg.Now())}, addresses)
}

// Received notes that an account got mail from a proven address that was no spam.
func (s *Store) Received(_ context.Context, account envelope.AccountID, from address.Address) {
	s.meet(account, mark{received: day(s.cfg.Now())}, []address.Address{from})
}

func (s *Store) meet(account envelope.AccountID, m mark, addresses []address.Address) {
	now := s.cfg.Now()
	for _, a := range addresses {
		if a.IsZero() || account == 0 {
			continue
		}
		p := s.pair(account, a)
		if was, fresh := s.known.Get(p, now); fresh && (m.wrote == 0 || m.wrote-was.wrote < refreshAfter) &&
			(m.received == 0 || m.received-was.received < refreshAfter) {
			continue // the row says so already
		}
		s.mu.Lock()
		if was, ok := s.met[p]; ok || len(s.met) < maxPending {
			s.met[p] = was.later(m)
		} else {
			s.dropped()
		}
		s.wake(len(s.met))
		s.mu.Unlock()
	}
}

// Knows tells what an account has to do with an address. It reads one small row at most, and
// what was asked within a minute not at all.
func (s *Store) Knows(ctx context.Context, account envelope.AccountID, a address.Address) (Acquaintance, error) {
	marks, err := s.marks(ctx, account, []address.Address{a})
	if err != nil {
		return Acquaintance{}, err
	}
	return s.acquaintance(account, a, marks[0]), nil
}

func (s *Store) acquaintance(account envelope.AccountID, a address.Address, m mark) Acquaintance {
	today := day(s.cfg.Now())
	return Acquaintance{Account: account, Address: a, Wrote: m.wrote > 0 && today-m.wrote < wroteFor, Received: m.received > 0 && today-m.received < receivedFor}
}

// Strangers counts the addresses that an account has neither written to nor heard from.
func (s *Store) Strangers(ctx context.Context, account envelope.AccountID, addresses []address.Address) (n int, err error) {
	for len(addresses) > 0 {
		some := addresses[:min(len(addresses), batchRows)]
		addresses = addresses[len(some):]
		marks, err := s.marks(ctx, account, some)
		if err != nil {
			return 0, err
		}
		for i, m := range marks {
			if a := s.acquaintance(account, some[i], m); !a.Wrote && !a.Received {
				n++
			}
		}
	}
	return n, nil
}

// marks reads what an account has to do with addresses, at most batchRows.
func (s *Store) marks(ctx context.Context, account envelope.AccountID, addresses []address.Address) ([]mark, error) {
	now := s.cfg.Now()
	pairs, out := make([]pair, len(addresses)), make([]mark, len(addresses))
	var missing []int
	for i, a := range addresses {
		pairs[i] = s.pair(account, a)
		m, fresh := s.known.Get(pairs[i], now)
		if out[i] = m; !fresh {
			missing = append(missing, i)
		}
	}
	if s.cfg.Hooks.Looked != nil {
		s.cfg.Hooks.Looked(len(missing) == 0)
	}
	if len(missing) > 0 {
		flushes := s.flushes.Load()
		err := s.cfg.DB.View(ctx, func(tx db.Tx) error {
			for _, i := range missing {
				m := mark{}
				err := tx.QueryRow(`SELECT wrote, received FROM correspondent WHERE account = ? AND hash = ?`, int64(account), pairs[i].hash).Scan(&m.wrote, &m.received)
				if err != nil && !errors.Is(err, db.ErrNotFound) {
					return err
				}
				out[i] = m
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read correspondents of account %d: %w", account, err)
		}
		for _, i := range missing {
			if s.known.Put(pairs[i], out[i], now); s.flushes.Load() != flushes {
				s.known.Forget(pairs[i])
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, p := range pairs {
		out[i] = out[i].later(s.flying.met[p]).later(s.met[p])
	}
	return out, nil
}

// Purge removes the correspondents of an account within tx. What this node has in memory of
// it is dropped by Forget, after the commit.
func (s *Store) Purge(tx db.Tx, account envelope.AccountID) error {
	_, err := tx.Exec(`DELETE FROM correspondent WHERE account = ?`, int64(account))
	return err
}

// Forget drops what memory holds of an account.
func (s *Store) Forget(account envelope.AccountID) {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	s.mu.Lock()
	for p := range s.met {
		if p.account == account {
			delete(s.met, p)
		}
	}
	s.mu.Unlock()
	s.known.ForgetAll(func(p pair) bool { return p.account == account })
}
