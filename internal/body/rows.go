package body

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/message"
)

var (
	_ Store    = (*Rows)(nil)
	_ Journal  = (*Rows)(nil)
	_ OpenerAt = (*Rows)(nil)
)

// A body is a row n = 0 with the head and the first firstOctets of the message,
// then rows of chunkOctets.
const (
	firstOctets = 128 << 10
	chunkOctets = 256 << 10
)

// RowsConfig is what Rows need; DB is required.
type RowsConfig struct {
	DB db.Database
	// MemoryOctets bounds the memory of all staged messages, DefaultMemoryOctets if
	// zero; more is ErrBudget. MaxOctets is the largest message, DefaultMaxOctets if
	// zero; more is ErrTooLarge.
	MemoryOctets int64
	MaxOctets    int64
	Logger       *slog.Logger // nil discards
}

// Rows keeps bodies in rows of ≤ 256 KiB (more only for a head over 128 KiB). It
// implements Store, Journal (which does nothing: the database is the log) and
// OpenerAt, and is safe for concurrent use, also by several nodes. Messages over
// 1 MiB are written to the database while they arrive, under an id of their own.
type Rows struct {
	config RowsConfig
	mem    *memory
}

// NewRows makes the store.
func NewRows(config RowsConfig) (*Rows, error) {
	setDefault(&config.MemoryOctets, DefaultMemoryOctets)
	setDefault(&config.MaxOctets, DefaultMaxOctets)
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.DB == nil || config.MemoryOctets < 0 || config.MaxOctets < 0 {
		return nil, errors.New("body: RowsConfig needs a DB, and no limit below zero")
	}
	return &Rows{config: config, mem: &memory{limit: config.MemoryOctets}}, nil
}

// Append implements Journal; the database needs none.
func (r *Rows) Append(...Event) {}

// Stage implements Store.
func (r *Rows) Stage(ctx context.Context, hint int64) (Staged, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// A spill takes firstOctets and chunkOctets of memory: a shorter message costs less than its spill.
	return newStaged(staging{r.mem, chunkOctets, DefaultLargeOctets, r.config.MaxOctets, func() (overflow, error) { return r.newSpill(ctx) }}, hint)
}

// rowsError wraps an error of the database met while doing what.
func rowsError(what string, err error) error {
	kind := ErrFailed
	if errors.Is(err, db.ErrFull) {
		kind = ErrFull
	}
	return fmt.Errorf("%s: %w: %w", what, kind, err)
}

// insertChunk adds one row of a body.
func insertChunk(tx db.Tx, id message.ID, n int64, octets []byte) error {
	_, err := tx.Exec(`INSERT INTO body_chunk (id, n, crc, octets) VALUES (?, ?, ?, ?)`, id[:], n, int64(updateCRC(0, octets)), octets)
	return err
}

// Commit implements Store; all records are one transaction.
func (r *Rows) Commit(ctx context.Context, recs []Record) ([]Location, func(), error) {
	locs := make([]Location, len(recs))
	stagings := make([]*staged, len(recs))
	for i := range recs {
		st, err := stagedFor(&recs[i], r.mem)
		if err != nil {
			return nil, nil, err
		}
		stagings[i] = st
		if l, ok := st.over.(*spill); ok {
			if err := l.finish(ctx); err != nil {
				return nil, nil, err
			}
		}
		octets := int64(len(recs[i].Head)) + st.octets
		locs[i] = Location{Stored: octets, Octets: octets, SHA256: st.SHA256(), Dots: st.dots}
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	if len(recs) > 0 {
		err := r.config.DB.Update(ctx, func(tx db.Tx) error {
			for i := range recs {
				if err := insertBody(tx, &recs[i], stagings[i]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return nil, nil, rowsError("commit bodies", err)
		}
	}
	for _, st := range stagings {
		if l, ok := st.over.(*spill); ok {
			l.kept = true
		}
		st.Discard()
	}
	return locs, func() {}, nil
}

// insertBody stores one record.
func insertBody(tx db.Tx, rec *Record, st *staged) error {
	var rest []byte
	first := rec.Head[:len(rec.Head):len(rec.Head)]
	if l, ok := st.over.(*spill); ok {
		first = append(first, l.first.b[:min(st.octets, firstOctets)]...)
		if _, err := tx.Exec(`UPDATE body_chunk SET id = ? WHERE id = ?`, rec.ID[:], l.id[:]); err != nil {
			return err
		}
	} else {
		n := min(st.octets, firstOctets)
		first, rest = append(first, st.buf.b[:n]...), st.buf.b[n:st.octets]
	}
	if first == nil {
		first = []byte{}
	}
	if err := insertChunk(tx, rec.ID, 0, first); err != nil {
		return err
	}
	for n := int64(1); len(rest) > 0; n++ {
		part := rest[:min(len(rest), chunkOctets)]
		if err := insertChunk(tx, rec.ID, n, part); err != nil {
			return err
		}
		rest = rest[len(part):]
	}
	return nil
}

// Remove implements Store: the octets are gone when it returns.
func (r *Rows) Remove(ctx context.Context, ids []message.ID) error {
	for len(ids) > 0 {
		n := min(len(ids), 20)
		err := r.config.DB.UpdateLow(ctx, func(tx db.Tx) error {
			for _, id := range ids[:n] {
				if _, err := tx.Exec(`DELETE FROM body_chunk WHERE id = ?`, id[:]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("remove bodies: %w", err)
		}
		ids = ids[n:]
	}
	return nil
}

// Sweep removes octets that belong to no body: what a node left that stopped
// between Stage and the Accept's transaction. It spares ids younger than age,
// which must exceed the longest mail transaction (a day is ample), and returns
// how many bodies it removed.
func (r *Rows) Sweep(ctx context.Context, age time.Duration) (int, error) {
	var after, before message.ID
	ms := uint64(time.Now().Add(-age).UnixMilli())
	for i := range 6 {
		before[i] = byte(ms >> (40 - 8*i))
	}
	removed := 0
	for {
		var orphans []message.ID
		last, n := after, 0
		err := r.config.DB.View(ctx, func(tx db.Tx) error {
			orphans, last, n = orphans[:0], after, 0
			rows, err := tx.Query(`SELECT DISTINCT c.id, b.refs FROM body_chunk c LEFT JOIN body b ON b.id = c.id WHERE c.id > ? AND c.id < ? ORDER BY c.id LIMIT 200`, after[:], before[:])
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				var id []byte
				var refs any
				if err := rows.Scan(&id, &refs); err != nil {
					return err
				}
				n++
				if last = message.ID(id); refs == nil {
					orphans = append(orphans, last)
				}
			}
			return rows.Err()
		})
		if err != nil {
			return removed, fmt.Errorf("look for octets without a body: %w", err)
		}
		if err := r.Remove(ctx, orphans); err != nil {
			return removed, err
		}
		removed += len(orphans)
		if n < 200 {
			return removed, nil
		}
		after = last
	}
}

// Check reads every body that has a row and lies in rows, and calls fn for each
// that is damaged.
func (r *Rows) Check(ctx context.Context, fn func(Finding) error) error {
	return eachRow(ctx, r.config.DB, func(row bodyRow) error {
		if row.loc.Segment != "" {
			return nil
		}
		rd, err := r.OpenAt(ctx, row.id, row.loc, 0, -1)
		if err == nil {
			_, err = io.Copy(io.Discard, rd)
		}
		if errors.Is(err, ErrDamaged) {
			return fn(Finding{Stored: row.loc.Stored, ID: row.id, Err: err})
		}
		if errors.Is(err, ErrNotFound) { // removed meanwhile
			return nil
		}
		return err
	})
}

// Open implements Store.
func (r *Rows) Open(ctx context.Context, id message.ID, from, n int64) (io.ReadCloser, error) {
	loc, err := locateIn(r.config.DB)(ctx, id)
	if err != nil {
		return nil, err
	}
	return r.OpenAt(ctx, id, loc, from, n)
}

// OpenAt implements OpenerAt. One row at a time is read, in a View of its own, and
// verified; ctx is used until the reader is closed.
func (r *Rows) OpenAt(ctx context.Context, id message.ID, loc Location, from, n int64) (io.ReadCloser, error) {
	if from < 0 {
		return nil, fmt.Errorf("open body %s at %d: %w", id, from, ErrNotFound)
	}
	end := loc.Octets
	if n >= 0 && n < loc.Octets-min(from, loc.Octets) {
		end = from + n
	}
	rd := &rowsReader{ctx: ctx, r: r, id: id, at: min(from, end), end: end}
	if err := rd.begin(); err != nil {
		return nil, err
	}
	return rd, nil
}

// rowsReader reads a body row by row. It keeps the context of OpenAt, as io.Reader
// has no place for one. Not for concurrent use.
type rowsReader struct {
	ctx     context.Context
	r       *Rows
	id      message.ID
	at, end int64 // offsets in the body
	first   int64 // octets of row 0
	part    []byte
	closed  bool
}

// begin finds out how long row 0 is.
func (d *rowsReader) begin() error {
	if d.at < firstOctets {
		part, err := d.r.chunk(d.ctx, d.id, 0)
		d.first = int64(len(part))
		d.part = part[min(d.at, d.first):]
		return err
	}
	err := d.r.config.DB.View(d.ctx, func(tx db.Tx) error {
		return tx.QueryRow(`SELECT LENGTH(octets) FROM body_chunk WHERE id = ? AND n = 0`, d.id[:]).Scan(&d.first)
	})
	return d.r.chunkError(d.ctx, d.id, 0, err)
}

// chunk returns row n of a body, verified.
func (r *Rows) chunk(ctx context.Context, id message.ID, n int64) (octets []byte, err error) {
	var sum int64
	err = r.config.DB.View(ctx, func(tx db.Tx) error {
		return tx.QueryRow(`SELECT crc, octets FROM body_chunk WHERE id = ? AND n = ?`, id[:], n).Scan(&sum, &octets)
	})
	if err != nil {
		return nil, r.chunkError(ctx, id, n, err)
	}
	if uint32(sum) != updateCRC(0, octets) {
		return nil, fmt.Errorf("row %d of body %s has a wrong checksum: %w", n, id, ErrDamaged)
	}
	return octets, nil
}

// chunkError says why row n could not be read; a missing row of a body that has
// not been removed is damage.
func (r *Rows) chunkError(ctx context.Context, id message.ID, n int64, err error) error {
	if err == nil {
		return nil
	}
	if !errors.Is(err, db.ErrNotFound) {
		return fmt.Errorf("read row %d of body %s: %w", n, id, err)
	}
	if _, err := locateIn(r.config.DB)(ctx, id); err != nil {
		return err
	}
	return fmt.Errorf("row %d of body %s is missing: %w", n, id, ErrDamaged)
}

// Read implements io.Reader.
func (d *rowsReader) Read(p []byte) (int, error) {
	if d.closed {
		return 0, fs.ErrClosed
	}
	if d.at >= d.end {
		return 0, io.EOF
	}
	if len(d.part) == 0 {
		if err := d.load(); err != nil {
			return 0, err
		}
	}
	n := copy(p, d.part[:min(int64(len(d.part)), d.end-d.at)])
	d.part = d.part[n:]
	d.at += int64(n)
	return n, nil
}

// load reads the row that holds the octet at d.at.
func (d *rowsReader) load() error {
	n, skip := int64(0), d.at
	if d.at >= d.first {
		n, skip = 1+(d.at-d.first)/chunkOctets, (d.at-d.first)%chunkOctets
	}
	part, err := d.r.chunk(d.ctx, d.id, n)
	if err != nil {
		return err
	}
	if int64(len(part)) <= skip {
		return fmt.Errorf("row %d of body %s is cut off: %w", n, d.id, ErrDamaged)
	}
	d.part = part[skip:]
	return nil
}

// Close implements io.Closer.
func (d *rowsReader) Close() error {
	d.closed, d.part = true, nil
	return nil
}

// spillID returns the id under which a large message is written while it arrives.
func spillID() (message.ID, error) { return message.NewID(time.Now(), rand.Reader) }
