package conduct

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

// Run writes what was counted every few seconds and drops what is old, until ctx ends; then it
// writes once more.
func (w *Watch) Run(ctx context.Context) error {
	return upkeep.Rounds{Write: w.Flush, Sweep: w.Sweep, WriteEvery: writeEvery, SweepEvery: sweepEvery, Kick: w.kick,
		Logger: w.cfg.Logger, Failed: "what accounts send could not be counted"}.Run(ctx)
}

// Flush writes what was counted until a batch is not full: what comes in meanwhile may wait for the
// next call, as does what could not be written.
func (w *Watch) Flush(ctx context.Context) error {
	for {
		if more, err := w.flush(ctx); err != nil || !more {
			return err
		}
	}
}

// flush writes a batch and reports whether more may wait. It doesn't use the low lane: Judge waits.
func (w *Watch) flush(ctx context.Context) (bool, error) {
	w.flushing.Lock()
	defer w.flushing.Unlock()
	sent, networks := w.batch()
	if len(sent)+len(networks) == 0 {
		return false, nil
	}
	err := w.cfg.DB.Update(ctx, func(tx db.Tx) error {
		if err := w.writeSent(tx, sent); err != nil {
			return err
		}
		return writeNetworks(tx, networks)
	})
	if err != nil {
		if !errors.Is(err, db.ErrUnknownOutcome) {
			w.putBack(sent, networks)
		}
		return false, fmt.Errorf("write conduct: %w", err)
	}
	for k := range sent {
		w.cached.Forget(k.account)
	}
	for k := range networks {
		w.cached.Forget(k.account)
	}
	return len(sent) == batchRows || len(networks) == batchRows, nil
}

// writeSent adds to the slots, and raises the day's busiest hour.
func (w *Watch) writeSent(tx db.Tx, sent map[slotKey]Sent) error {
	order := func(a, b slotKey) int { return cmp.Or(cmp.Compare(a.account, b.account), cmp.Compare(a.slot, b.slot)) }
	keys := slices.SortedFunc(maps.Keys(sent), order) // rows are locked in one order by all nodes
	for _, k := range keys {
		s := sent[k]
		_, err := tx.Exec(`INSERT INTO conduct_slot (account, slot, messages, recipients, fresh, refused, spam) VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (account, slot) DO UPDATE SET messages = conduct_slot.messages + excluded.messages, recipients = conduct_slot.recipients + excluded.recipients,
			fresh = conduct_slot.fresh + excluded.fresh, refused = conduct_slot.refused + excluded.refused, spam = conduct_slot.spam + excluded.spam`,
			int64(k.account), k.slot, s.Messages, s.Recipients, s.Fresh, s.Refused, s.Spam)
		if err != nil {
			return err
		}
	}
	now := w.cfg.Now()
	last := envelope.AccountID(0)
	for _, k := range keys {
		if k.account == last {
			continue
		}
		last = k.account
		hour, err := readSent(tx, k.account, now)
		if err != nil {
			return err
		}
		most := func(c string) string {
			return c + " = CASE WHEN excluded." + c + " > conduct_habit." + c + " THEN excluded." + c + " ELSE conduct_habit." + c + " END"
		}
		_, err = tx.Exec(`INSERT INTO conduct_habit (account, day, messages, recipients, fresh, void) VALUES (?, ?, ?, ?, ?, 0)
			ON CONFLICT (account, day) DO UPDATE SET `+most("messages")+", "+most("recipients")+", "+most("fresh"),
			int64(k.account), day(now), hour.Messages, hour.Recipients, hour.Fresh)
		if err != nil {
			return err
		}
	}
	return nil
}

func writeNetworks(tx db.Tx, networks map[networkKey]int64) error {
	order := func(a, b networkKey) int {
		return cmp.Or(cmp.Compare(a.account, b.account), cmp.Compare(a.network, b.network))
	}
	for _, k := range slices.SortedFunc(maps.Keys(networks), order) {
		_, err := tx.Exec(`INSERT INTO conduct_network (account, network, seen) VALUES (?, ?, ?)
			ON CONFLICT (account, network) DO UPDATE SET seen = excluded.seen WHERE conduct_network.seen < excluded.seen`, int64(k.account), k.network, networks[k])
		if err != nil {
			return err
		}
	}
	return nil
}

// batch takes some of what waits.
func (w *Watch) batch() (map[slotKey]Sent, map[networkKey]int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	sent, networks := map[slotKey]Sent{}, map[networkKey]int64{}
	for k, s := range w.sent {
		if len(sent) == batchRows {
			break
		}
		sent[k] = s
		delete(w.sent, k)
	}
	for k, t := range w.networks {
		if len(networks) == batchRows {
			break
		}
		networks[k] = t
		delete(w.networks, k)
	}
	return sent, networks
}

func (w *Watch) putBack(sent map[slotKey]Sent, networks map[networkKey]int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for k, s := range sent {
		w.sent[k] = w.sent[k].plus(s)
	}
	for k, t := range networks {
		w.networks[k] = max(t, w.networks[k])
	}
}

// Sweep drops what is old, in chunks. Run calls it every ten minutes.
func (w *Watch) Sweep(ctx context.Context) error {
	now := w.cfg.Now()
	for _, q := range []struct {
		table, key, old string
		args            []any
	}{
		{"conduct_slot", "account, slot", "slot < ?", []any{slot(now) - 2*hourSlots}},
		{"conduct_network", "account, network", "seen < ?", []any{db.Micros(now.Add(-2 * time.Hour))}},
		{"conduct_habit", "account, day", "day < ?", []any{day(now) - habitDays}},
		{"conduct_trip", "account", "until < ? AND quiet < ?", []any{db.Micros(now.Add(-habitDays * 24 * time.Hour)), db.Micros(now)}},
	} {
		if err := db.DropWhere(ctx, w.cfg.DB, q.table, q.key, q.old, q.args...); err != nil {
			return fmt.Errorf("drop old conduct: %w", err)
		}
	}
	return nil
}
