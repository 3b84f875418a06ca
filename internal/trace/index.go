package trace

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/message"
)

// Rows of one low-priority transaction, and how often Run looks.
const (
	chunkRows  = 500
	indexRows  = chunkRows / 4 // each brings up to four keys
	indexEvery = 30 * time.Second
	dropEvery  = time.Hour
)

// place is a row's key, and what of the work of Run is done.
type place struct {
	id message.ID
	n  int64
}

// indexKey is a row of trace_key.
type indexKey struct {
	day  int64
	hash int64
	id   message.ID
}

func compareKeys(a, b indexKey) int {
	return cmp.Or(cmp.Compare(a.day, b.day), cmp.Compare(a.hash, b.hash), bytes.Compare(a.id[:], b.id[:]))
}

// Run indexes rows and drops old ones until ctx ends. Several nodes may run it.
// A round that fails is logged and tried again.
func (t *Trace) Run(ctx context.Context) error {
	index, drop := time.NewTicker(indexEvery), time.NewTicker(dropEvery)
	defer index.Stop()
	defer drop.Stop()
	t.round(ctx, "drop", t.Drop)
	for {
		t.round(ctx, "index", t.Index)
		select {
		case <-ctx.Done():
			return nil
		case <-drop.C:
			t.round(ctx, "drop", t.Drop)
		case <-index.C:
		}
	}
}

func (t *Trace) round(ctx context.Context, what string, fn func(context.Context) error) {
	if err := fn(ctx); err != nil && ctx.Err() == nil {
		t.cfg.Logger.Error("trace maintenance failed", "work", what, "error", err)
	}
}

// Index copies the keys of all rows whose ids are old enough into the index.
func (t *Trace) Index(ctx context.Context) error {
	limit := floorID(t.cfg.Now().Add(-indexLag))
	for {
		n, err := t.indexChunk(ctx, limit)
		if err != nil || n == 0 {
			return err
		}
		if t.cfg.Hooks.Indexed != nil {
			t.cfg.Hooks.Indexed(n)
		}
	}
}

// indexChunk indexes some rows and returns how many; zero at the end, or when
// another node does the work.
func (t *Trace) indexChunk(ctx context.Context, limit message.ID) (int, error) {
	var from, to place
	var keys []indexKey
	rows := 0
	err := t.cfg.DB.View(ctx, func(tx db.Tx) (err error) {
		if from, err = readPlace(tx, "indexed"); err != nil {
			return err
		}
		keys, to, rows, err = readKeys(tx, from, limit)
		return err
	})
	if err != nil || rows == 0 {
		return 0, wrap("index trace", err)
	}
	slices.SortFunc(keys, compareKeys)
	keys = slices.Compact(keys)
	err = t.cfg.DB.UpdateLow(ctx, func(tx db.Tx) error {
		moved, err := movePlace(tx, "indexed", from, to)
		if err != nil {
			return err
		}
		if !moved {
			return errBusy
		}
		for _, k := range keys {
			if err := insertKey(tx, k); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, errBusy) {
		return 0, nil
	}
	return rows, wrap("index trace", err)
}

// errBusy rolls back a chunk that another node has done meanwhile.
var errBusy = errors.New("another node does this work")

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// readKeys reads the keys of the rows that follow from, up to limit.
func readKeys(tx db.Tx, from place, limit message.ID) (keys []indexKey, to place, n int, err error) {
	rows, err := tx.Query(`SELECT id, n, rkey, tkey, skey, mkey FROM trace WHERE (id, n) > (?, ?) AND id < ? ORDER BY id, n LIMIT ?`,
		from.id[:], from.n, limit[:], int64(indexRows))
	if err != nil {
		return nil, to, 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var id []byte
		var h [4]int64
		if err := rows.Scan(&id, &to.n, &h[0], &h[1], &h[2], &h[3]); err != nil {
			return nil, to, 0, err
		}
		if copy(to.id[:], id) != len(to.id) {
			return nil, to, 0, fmt.Errorf("id of %d octets in the database, want 16", len(id))
		}
		for _, hash := range h {
			if hash != 0 {
				keys = append(keys, indexKey{dayOf(to.id), hash, to.id})
			}
		}
		n++
	}
	return keys, to, n, rows.Err()
}

func insertKey(tx db.Tx, k indexKey) error {
	if k.hash == 0 {
		return nil
	}
	_, err := tx.Exec(`INSERT INTO trace_key (day, hash, id) VALUES (?, ?, ?) ON CONFLICT (day, hash, id) DO NOTHING`, k.day, k.hash, k.id[:])
	return err
}

// readPlace returns how far a work has come; the zero place at first.
func readPlace(tx db.Tx, name string) (place, error) {
	p := place{n: -1}
	var id []byte
	err := tx.QueryRow(`SELECT id, n FROM trace_state WHERE name = ?`, name).Scan(&id, &p.n)
	if errors.Is(err, db.ErrNotFound) {
		return p, nil
	}
	copy(p.id[:], id)
	return p, err
}

// movePlace sets how far a work has come, unless another node did.
func movePlace(tx db.Tx, name string, from, to place) (bool, error) {
	if from.id.IsZero() {
		_, err := tx.Exec(`INSERT INTO trace_state (name, id, n) VALUES (?, ?, ?) ON CONFLICT (name) DO NOTHING`, name, from.id[:], from.n)
		if err != nil {
			return false, err
		}
	}
	n, err := tx.Exec(`UPDATE trace_state SET id = ?, n = ? WHERE name = ? AND id = ? AND n = ?`, to.id[:], to.n, name, from.id[:], from.n)
	return n > 0, err
}

// Drop removes evidence and events past KeepEvents and fates past KeepFates, in
// chunks. A fate that is not final stays.
func (t *Trace) Drop(ctx context.Context) error {
	now := t.cfg.Now()
	events, fates := floorID(now.Add(-t.cfg.KeepEvents)), floorID(now.Add(-t.cfg.KeepFates))
	return errors.Join(
		t.chunks(ctx, "evidence", `SELECT id, n FROM trace WHERE (id, n) > (?, ?) AND id < ? ORDER BY id, n LIMIT ?`, events,
			`UPDATE trace SET peer = '', conn_id = '', login = '', sha256 = NULL WHERE (id, n) > (?, ?) AND (id, n) <= (?, ?) AND n = 0`),
		t.chunks(ctx, "", `SELECT id, happened FROM trace_event WHERE (id, happened) > (?, ?) AND id < ? ORDER BY id, happened LIMIT ?`, events,
			`DELETE FROM trace_event WHERE (id, happened) > (?, ?) AND (id, happened) <= (?, ?)`),
		t.chunks(ctx, "", `SELECT id, n FROM trace_dialogue WHERE (id, n) > (?, ?) AND id < ? ORDER BY id, n LIMIT ?`, events,
			`DELETE FROM trace_dialogue WHERE (id, n) > (?, ?) AND (id, n) <= (?, ?)`),
		t.chunks(ctx, "", `SELECT id, n FROM trace WHERE (id, n) > (?, ?) AND id < ? ORDER BY id, n LIMIT ?`, fates,
			`DELETE FROM trace WHERE (id, n) > (?, ?) AND (id, n) <= (?, ?) AND state NOT IN (2, 3)`),
		t.dropKeys(ctx, dayOf(fates)),
	)
}

// chunks runs change over the rows that read finds, chunk by chunk: from the place remembered
// under a name, or from the beginning.
func (t *Trace) chunks(ctx context.Context, name, read string, limit message.ID, change string) error {
	from := place{n: -1}
	for {
		var to place
		n := 0
		err := t.cfg.DB.View(ctx, func(tx db.Tx) (err error) {
			if name != "" {
				if from, err = readPlace(tx, name); err != nil {
					return err
				}
			}
			to, n, err = lastPlace(tx, read, from, limit)
			return err
		})
		if err != nil || n == 0 {
			return wrap("drop old trace", err)
		}
		var changed int64
		err = t.cfg.DB.UpdateLow(ctx, func(tx db.Tx) error {
			if name != "" {
				if moved, err := movePlace(tx, name, from, to); err != nil || !moved {
					return cmp.Or(err, errBusy)
				}
			}
			var err error
			changed, err = tx.Exec(change, from.id[:], from.n, to.id[:], to.n)
			return err
		})
		if errors.Is(err, errBusy) {
			return nil
		}
		if err != nil {
			return wrap("drop old trace", err)
		}
		if t.cfg.Hooks.Dropped != nil {
			t.cfg.Hooks.Dropped(int(changed))
		}
		from = to
	}
}

// lastPlace returns the last place of a chunk and how many rows it has.
func lastPlace(tx db.Tx, read string, from place, limit message.ID) (to place, n int, err error) {
	rows, err := tx.Query(read, from.id[:], from.n, limit[:], int64(chunkRows))
	if err != nil {
		return to, 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var id []byte
		if err := rows.Scan(&id, &to.n); err != nil {
			return to, 0, err
		}
		copy(to.id[:], id)
		n++
	}
	return to, n, rows.Err()
}

// dropKeys removes the index of days before the given one.
func (t *Trace) dropKeys(ctx context.Context, day int64) error {
	for {
		var n int64
		err := t.cfg.DB.UpdateLow(ctx, func(tx db.Tx) (err error) {
			n, err = tx.Exec(`DELETE FROM trace_key WHERE (day, hash, id) IN (SELECT day, hash, id FROM trace_key WHERE day < ? ORDER BY day, hash, id LIMIT ?)`, day, int64(chunkRows))
			return err
		})
		if err != nil || n < chunkRows {
			return wrap("drop old index of the trace", err)
		}
	}
}
