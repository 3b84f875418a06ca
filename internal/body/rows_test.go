package body_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/body/bodytest"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/message"
)

func TestRowsConform(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, []db.Component{body.Schema}, func(t *testing.T, d db.Database) {
		bodytest.Run(t, func(t *testing.T) bodytest.Subject {
			return bodytest.Subject{
				Store:  newRows(t, d, 8<<20),
				Keep:   func(t *testing.T, id message.ID, loc body.Location) { keepRow(t, d, id, loc) },
				Forget: func(t *testing.T, id message.ID) { forgetRow(t, d, id) },
			}
		})
	})
}

func newRows(t *testing.T, d db.Database, limit int64) *body.Rows {
	t.Helper()
	r, err := body.NewRows(body.RowsConfig{DB: d, MaxOctets: limit})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// countChunks returns the rows of all bodies.
func countChunks(t *testing.T, d db.Database) (n int64) {
	t.Helper()
	err := d.View(t.Context(), func(tx db.Tx) error { return tx.QueryRow(`SELECT COUNT(*) FROM body_chunk`).Scan(&n) })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRowsLeaveNothing(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, []db.Component{body.Schema}, func(t *testing.T, d db.Database) {
		r := newRows(t, d, 0)
		st, err := bodytest.Stage(t.Context(), r, bodytest.Octets(3<<20, 1), 0)
		if err != nil {
			t.Fatal(err)
		}
		if countChunks(t, d) == 0 {
			t.Error("a large message is held in memory")
		}
		st.Discard()
		if n := countChunks(t, d); n != 0 {
			t.Errorf("%d rows are left of a discarded message", n)
		}
		kept, loc := mustCommit(t, r, bodytest.Octets(2<<20, 1))
		keepRow(t, d, kept, loc)
		before := countChunks(t, d)
		mustCommit(t, r, bodytest.Octets(2<<20, 2)) // its Accept never came to its end
		if n, err := r.Sweep(t.Context(), time.Hour); n != 0 || err != nil {
			t.Errorf("sweep of young octets: %d, %v", n, err)
		}
		if n, err := r.Sweep(t.Context(), -time.Hour); n != 1 || err != nil {
			t.Errorf("sweep: %d, %v; want one body", n, err)
		}
		if n := countChunks(t, d); n != before {
			t.Errorf("%d rows after the sweep, want %d", n, before)
		}
	})
}

func TestRowsDamage(t *testing.T) {
	t.Parallel()
	for name, query := range map[string]string{
		"flipped": `UPDATE body_chunk SET crc = 1 WHERE id = ? AND n = 2`,
		"missing": `DELETE FROM body_chunk WHERE id = ? AND n = 2`,
		"first":   `DELETE FROM body_chunk WHERE id = ? AND n = 0`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := dbtest.SQLite(t)
			if err := db.Migrate(context.Background(), d, []db.Component{body.Schema}); err != nil {
				t.Fatal(err)
			}
			r := newRows(t, d, 0)
			var ids []message.ID
			for range 2 {
				id, loc := mustCommit(t, r, bodytest.Octets(800<<10, 1))
				keepRow(t, d, id, loc)
				ids = append(ids, id)
			}
			err := d.Update(t.Context(), func(tx db.Tx) error { _, err := tx.Exec(query, ids[0][:]); return err })
			if err != nil {
				t.Fatal(err)
			}
			if _, err := bodytest.Read(t.Context(), r, ids[0], 0, -1); !errors.Is(err, body.ErrDamaged) {
				t.Errorf("read: %v, want ErrDamaged", err)
			}
			var found []message.ID
			if err := r.Check(t.Context(), func(f body.Finding) error { found = append(found, f.ID); return nil }); err != nil {
				t.Fatal(err)
			}
			if len(found) != 1 || found[0] != ids[0] {
				t.Errorf("check found %v, want %s", found, ids[0])
			}
		})
	}
}

// TestRowsStalledMessages: long messages that are half sent leave half of the
// memory to others; what finds no memory goes to rows, short as it may be yet.
func TestRowsStalledMessages(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, []db.Component{body.Schema}, func(t *testing.T, d db.Database) {
		r, err := body.NewRows(body.RowsConfig{DB: d, MemoryOctets: 4 << 20})
		if err != nil {
			t.Fatal(err)
		}
		octets := bodytest.Octets(1<<20, 1)
		var held []body.Staged
		for i := range 5 {
			st, err := r.Stage(t.Context(), 0)
			if err != nil {
				t.Fatalf("message %d: %v", i, err)
			}
			held = append(held, st)
			for _, part := range [][]byte{octets[:100], octets[100:700_000]} {
				if _, err := st.Write(part); err != nil {
					t.Fatalf("message %d: %v", i, err)
				}
			}
		}
		for _, n := range []int{100, 256 << 10, 1 << 20} {
			if _, err := bodytest.Commit(t.Context(), r, bodytest.NewID(t), nil, octets[:n]); err != nil {
				t.Errorf("a message of %d octets beside them: %v", n, err)
			}
		}
		for _, st := range held {
			got := make([]byte, st.Octets())
			if _, err := st.ReadAt(got, 0); err != nil || !bytes.Equal(got, octets[:700_000]) {
				t.Errorf("a stalled message reads otherwise than written (%v)", err)
			}
			st.Discard()
		}
	})
}
