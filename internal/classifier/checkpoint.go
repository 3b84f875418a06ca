package classifier

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"poczta.example/poczta/internal/db"
)

const (
	// A checkpoint is written after so many samples; fewer are quickly counted again.
	checkpointEvery = 2000
	// Slots of a part of it.
	partSlots = 1 << 16
)

// saved is a row of classifier_saved.
type saved struct {
	generation, version, parts, bits, sample, gone, spam, ham, written int64
}

func readSaved(tx db.Tx) (s saved, err error) {
	err = tx.QueryRow(`SELECT generation, version, parts, bits, sample, gone, spam, ham, written FROM classifier_saved WHERE id = 0`).
		Scan(&s.generation, &s.version, &s.parts, &s.bits, &s.sample, &s.gone, &s.spam, &s.ham, &s.written)
	if errors.Is(err, db.ErrNotFound) {
		return saved{}, nil
	}
	return s, err
}

// restore makes the common model that of the checkpoint, if there is one that fits. The
// caller holds following.
func (c *Classifier) restore(ctx context.Context) error {
	var s saved
	err := c.cfg.DB.View(ctx, func(tx db.Tx) (err error) {
		s, err = readSaved(tx)
		return err
	})
	if err != nil {
		return fmt.Errorf("read classifier's checkpoint: %w", err)
	}
	if s.generation == 0 || s.version != version || s.bits != int64(c.cfg.Bits) {
		return nil
	}
	t := tally{model: NewModel(c.cfg.Bits), sample: s.sample, gone: s.gone}
	t.model.spam, t.model.ham = int(s.spam), int(s.ham)
	for part := range s.parts {
		var counts []byte
		err := c.cfg.DB.View(ctx, func(tx db.Tx) error {
			return tx.QueryRow(`SELECT counts FROM classifier_checkpoint WHERE generation = ? AND part = ?`, s.generation, part).Scan(&counts)
		})
		if errors.Is(err, db.ErrNotFound) { // a newer one replaced it
			return nil
		}
		if err != nil {
			return fmt.Errorf("read classifier's checkpoint: %w", err)
		}
		if err := t.model.readPart(int(part), counts); err != nil {
			c.cfg.Logger.Error("classifier's checkpoint is broken; counting anew", "error", err)
			return nil
		}
	}
	c.mu.Lock()
	c.common = t
	c.mu.Unlock()
	return nil
}

// checkpoint writes the common model, if enough has changed since the last was written by any
// node.
func (c *Classifier) checkpoint(ctx context.Context) error {
	c.following.Lock()
	defer c.following.Unlock()
	if !c.ready || c.unsaved < checkpointEvery {
		return nil
	}
	var old saved
	err := c.cfg.DB.View(ctx, func(tx db.Tx) (err error) {
		old, err = readSaved(tx)
		return err
	})
	if err != nil {
		return fmt.Errorf("read classifier's checkpoint: %w", err)
	}
	if old.version == version && old.bits == int64(c.cfg.Bits) && c.common.gone-old.gone < checkpointEvery/2 {
		c.unsaved = 0
		return nil
	}
	now := db.Micros(c.cfg.Now())
	s := saved{generation: max(now, old.generation+1), version: version, bits: int64(c.cfg.Bits), sample: c.common.sample, gone: c.common.gone, written: now}
	if err := c.writeParts(ctx, &s); err != nil {
		return fmt.Errorf("write classifier's checkpoint: %w", err)
	}
	err = c.cfg.DB.Update(ctx, func(tx db.Tx) error {
		_, err := tx.Exec(`INSERT INTO classifier_saved (id, generation, version, parts, bits, sample, gone, spam, ham, written) VALUES (0, ?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET generation = excluded.generation, version = excluded.version, parts = excluded.parts, bits = excluded.bits,
			sample = excluded.sample, gone = excluded.gone, spam = excluded.spam, ham = excluded.ham, written = excluded.written`,
			s.generation, s.version, s.parts, s.bits, s.sample, s.gone, s.spam, s.ham, s.written)
		return err
	})
	if err != nil {
		return fmt.Errorf("write classifier's checkpoint: %w", err)
	}
	c.unsaved = 0
	return nil
}

// writeParts writes the parts of a checkpoint, and counts them. The model can't change
// meanwhile: the caller holds following.
func (c *Classifier) writeParts(ctx context.Context, s *saved) error {
	m := c.common.model
	s.spam, s.ham = int64(m.spam), int64(m.ham)
	var buf []byte
	for part := 0; part*partSlots < len(m.counts); part++ {
		buf = m.appendPart(buf[:0], part)
		err := c.cfg.DB.UpdateLow(ctx, func(tx db.Tx) error {
			_, err := tx.Exec(`INSERT INTO classifier_checkpoint (generation, part, counts) VALUES (?, ?, ?)`, s.generation, int64(part), buf)
			return err
		})
		if err != nil {
			return err
		}
		s.parts++
	}
	return nil
}

// dropParts removes what no checkpoint needs, but for what a node may be writing.
func (c *Classifier) dropParts(ctx context.Context) error {
	before := db.Micros(c.cfg.Now().Add(-time.Hour))
	for {
		var n int64
		err := c.cfg.DB.UpdateLow(ctx, func(tx db.Tx) error {
			s, err := readSaved(tx)
			if err != nil {
				return err
			}
			n, err = tx.Exec(`DELETE FROM classifier_checkpoint WHERE (generation, part) IN (SELECT generation, part FROM classifier_checkpoint
				WHERE generation <> ? AND generation < ? ORDER BY generation, part LIMIT 16)`, s.generation, before)
			return err
		})
		if err != nil {
			return fmt.Errorf("drop old checkpoints: %w", err)
		}
		if n == 0 {
			return nil
		}
	}
}

// appendPart writes the slots of a part that count something: the slots skipped, ham, spam.
func (m *Model) appendPart(b []byte, part int) []byte {
	skipped := uint64(0)
	for _, c := range m.counts[part*partSlots : min((part+1)*partSlots, len(m.counts))] {
		if c == ([2]uint16{}) {
			skipped++
			continue
		}
		b = binary.AppendUvarint(b, skipped)
		b = binary.AppendUvarint(b, uint64(c[0]))
		b = binary.AppendUvarint(b, uint64(c[1]))
		skipped = 0
	}
	return b
}

// readPart reads what appendPart wrote into an empty model.
func (m *Model) readPart(part int, b []byte) error {
	if part < 0 || part*partSlots >= len(m.counts) {
		return fmt.Errorf("part %d of a model of %d slots", part, len(m.counts))
	}
	slots := m.counts[part*partSlots : min((part+1)*partSlots, len(m.counts))]
	for at := uint64(0); len(b) > 0; at++ {
		var v [3]uint64
		for i := range v {
			n := 0
			if v[i], n = binary.Uvarint(b); n <= 0 {
				return fmt.Errorf("part %d ends within a number", part)
			}
			b = b[n:]
		}
		if at += v[0]; v[0] > partSlots || at >= uint64(len(slots)) || v[1] > maxSamples || v[2] > maxSamples {
			return fmt.Errorf("part %d counts what can't be", part)
		}
		slots[at] = [2]uint16{uint16(v[1]), uint16(v[2])}
		m.sums[classHam] += int64(v[1])
		m.sums[classSpam] += int64(v[2])
	}
	return nil
}
