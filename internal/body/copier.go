package body

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/message"
)

const (
	lookupCount = 64  // ids in one query
	moveCount   = 500 // rows in one transaction of the low-priority lane
)

// copier copies what lives in the sources of a merge to one segment. Not for
// concurrent use.
type copier struct {
	merge *merge
	to    *writer

	file    io.ReaderAt
	waiting []waitingRecord        // not yet looked up, in order
	ids     map[message.ID]rowHome // to be looked up, then what was found
	held    int64                  // octets of waiting records

	buf    []byte // copies not yet written
	events int64  // octets of event records in buf
	moves  []move
}

// rowHome is where the row of a body says it lies; the zero value is no row.
type rowHome struct {
	segment string
	offset  int64
}

// waitingRecord is a record of the source whose fate is not yet known.
type waitingRecord struct {
	recordHead
	sum    uint32
	events []Event
}

// move is a row that has to follow its body.
type move struct {
	id       message.ID
	from, to rowHome
}

// copy copies one source, and returns when the rows of its bodies have followed.
func (c *copier) copy(ctx context.Context, from *source) error {
	f, err := c.merge.s.config.FS.Open(c.merge.s.path(from.name))
	if err != nil {
		return fmt.Errorf("open segment %s: %w", from.name, err)
	}
	defer f.Close()
	c.file = f
	err = c.merge.scan(ctx, from, func(p *piece) error {
		if p.damage != nil && !p.torn {
			return fmt.Errorf("segment %s was whole and is no more: %w", from.name, p.damage)
		}
		if p.damage != nil || p.kind == kindSeal || p.kind == kindEvents && from.info.unfinished() {
			return nil
		}
		return c.take(ctx, from, p)
	})
	if err != nil {
		return err
	}
	if err := c.settle(ctx, from); err != nil {
		return err
	}
	return c.flush(ctx)
}

// take lets a record wait for its lookup.
func (c *copier) take(ctx context.Context, from *source, p *piece) error {
	r := waitingRecord{recordHead: p.recordHead, sum: p.sum}
	if c.ids == nil {
		c.ids = map[message.ID]rowHome{}
	}
	switch p.kind {
	case kindBody:
		c.ids[p.id] = rowHome{}
	case kindEvents:
		var err error
		if r.events, err = parseEvents(p.octets); err != nil {
			return fmt.Errorf("segment %s: %w", from.name, err)
		}
		for i := range r.events {
			c.ids[r.events[i].ID] = rowHome{}
		}
	default:
		return fmt.Errorf("segment %s holds a record of kind %d: %w", from.name, p.kind, ErrNewer)
	}
	c.waiting = append(c.waiting, r)
	c.held += p.stored
	if len(c.ids) >= lookupCount || c.held >= maxGroupOctets {
		return c.settle(ctx, from)
	}
	return nil
}

// settle looks the waiting records up and copies those that live.
func (c *copier) settle(ctx context.Context, from *source) error {
	if err := c.lookup(ctx); err != nil {
		return err
	}
	for i := range c.waiting {
		r := &c.waiting[i]
		if r.kind == kindEvents {
			c.putEvents(r.events)
		} else if home := c.ids[r.id]; home.segment == from.name && home.offset == r.offset {
			if err := c.putBody(from, r); err != nil {
				return err
			}
		}
		if len(c.buf) >= maxGroupOctets || len(c.moves) >= moveCount {
			if err := c.flush(ctx); err != nil {
				return err
			}
		}
	}
	c.waiting, c.held = c.waiting[:0], 0
	clear(c.ids)
	return nil
}

// lookup fills c.ids with what the table says.
func (c *copier) lookup(ctx context.Context) error {
	ids := make([]message.ID, 0, len(c.ids))
	for id := range c.ids {
		ids = append(ids, id)
	}
	query := `SELECT id, segment, start FROM body WHERE id IN (?` + strings.Repeat(", ?", lookupCount-1) + `)`
	for len(ids) > 0 {
		n := min(len(ids), lookupCount)
		args := make([]any, lookupCount)
		for i := range args {
			args[i] = ids[min(i, n-1)][:] // the last one fills the rest
		}
		ids = ids[n:]
		err := c.merge.s.config.DB.View(ctx, func(tx db.Tx) error { return c.readHomes(tx, query, args) })
		if err != nil {
			return fmt.Errorf("look up bodies: %w", err)
		}
	}
	return nil
}

func (c *copier) readHomes(tx db.Tx, query string, args []any) error {
	rows, err := tx.Query(query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id []byte
		var home rowHome
		if err := rows.Scan(&id, &home.segment, &home.offset); err != nil {
			return err
		}
		c.ids[message.ID(id)] = home
	}
	return rows.Err()
}

// putEvents copies those events that are still of use.
func (c *copier) putEvents(events []Event) {
	var octets []byte
	for i := range events {
		if c.ids[events[i].ID] == (rowHome{}) && events[i].Time.Before(c.merge.horizon) {
			continue // its body is gone from every segment, and every snapshot knows
		}
		octets = appendEvent(octets, &events[i])
	}
	if len(octets) == 0 {
		return
	}
	h := recordHead{kind: kindEvents, offset: c.to.end + int64(len(c.buf)), synced: c.to.end}
	c.buf = appendRecord(c.buf, &h, &c.to.head.salt, nil, octets)
	c.events += h.stored
}

// putBody copies a body; metadata and octets stay as they are.
func (c *copier) putBody(from *source, r *waitingRecord) error {
	h := r.recordHead
	h.offset, h.synced = c.to.end+int64(len(c.buf)), c.to.end
	start := len(c.buf)
	c.buf = append(c.buf, make([]byte, h.stored)...)
	b := c.buf[start:]
	h.put(b, &c.to.head.salt)
	inner := b[recordHeaderLen : len(b)-recordTrailer]
	if err := readFull(c.file, inner, r.offset+recordHeaderLen); err != nil {
		return fmt.Errorf("copy from segment %s: %w", from.name, err)
	}
	if updateCRC(0, inner) != r.sum {
		return fmt.Errorf("copy from segment %s: octets changed: %w", from.name, ErrDamaged)
	}
	binary.BigEndian.PutUint32(b[len(b)-recordTrailer:], recordSum(r.sum, b))
	c.moves = append(c.moves, move{id: r.id,
		from: rowHome{from.name, r.offset}, to: rowHome{c.to.name, h.offset}})
	return nil
}

// flush makes the copies durable and has their rows follow.
func (c *copier) flush(ctx context.Context) error {
	if len(c.buf) == 0 {
		return nil
	}
	if err := c.merge.wait(ctx, int64(len(c.buf))); err != nil {
		return err
	}
	if _, err := c.to.append(c.buf); err != nil {
		return err
	}
	c.to.events += c.events
	c.to.body += int64(len(c.buf)) - c.events
	c.buf, c.events = c.buf[:0], 0
	for len(c.moves) > 0 {
		n := min(len(c.moves), moveCount)
		if err := c.moveRows(ctx, c.moves[:n]); err != nil {
			return fmt.Errorf("move rows of bodies: %w", err)
		}
		c.moves = c.moves[n:]
	}
	c.moves = nil
	return nil
}

// moveRows changes the rows that still say what the copier found.
func (c *copier) moveRows(ctx context.Context, moves []move) error {
	return c.merge.s.config.DB.UpdateLow(ctx, func(tx db.Tx) error {
		for i := range moves {
			m := &moves[i]
			_, err := tx.Exec(`UPDATE body SET segment = ?, start = ? WHERE id = ? AND segment = ? AND start = ?`,
				m.to.segment, m.to.offset, m.id[:], m.from.segment, m.from.offset)
			if err != nil {
				return err
			}
		}
		return nil
	})
}
