package db_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
)

var momentTables = []db.Component{{Name: "things", Steps: []db.Step{{Number: 1, SQL: `
CREATE TABLE thing (id {id}, name {text} NOT NULL, octets {blob}) {strict};
CREATE TABLE pair (b {int} NOT NULL, a {text} NOT NULL, PRIMARY KEY (a, b)) {rowid}`}}}}

func count(t *testing.T, d db.Database) (n int64) {
	t.Helper()
	err := d.View(t.Context(), func(tx db.Tx) error { return tx.QueryRow(`SELECT COUNT(*) FROM thing`).Scan(&n) })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func insertThing(t *testing.T, d db.Database, name string) {
	t.Helper()
	err := d.Update(t.Context(), func(tx db.Tx) error {
		_, err := tx.Exec(`INSERT INTO thing (name, octets) VALUES (?, ?)`, name, []byte{0})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestMoment(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, momentTables, func(t *testing.T, d db.Database) {
		for i := range 5 {
			insertThing(t, d, fmt.Sprint(i))
		}
		scratch := filepath.Join(t.TempDir(), "copy.db")
		if err := os.WriteFile(scratch, []byte("left by a crash"), 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := d.(momentary).Moment(t.Context(), scratch)
		if err != nil {
			t.Fatal(err)
		}
		insertThing(t, d, "later")
		for range 2 {
			if n := count(t, m); n != 5 {
				t.Errorf("the moment shows %d rows, want 5", n)
			}
		}
		if n := count(t, d); n != 6 {
			t.Errorf("the database shows %d rows, want 6", n)
		}
		if err := m.Update(t.Context(), func(db.Tx) error { return nil }); err == nil {
			t.Error("a moment took an Update")
		}
		for range 2 {
			if err := m.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			if _, sqlite := d.(*db.SQLite); sqlite {
				break
			}
		}
		if d.Engine() == "sqlite" {
			for _, suffix := range []string{"", "-wal", "-shm"} {
				if _, err := os.Stat(scratch + suffix); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("the copy%s stays: %v", suffix, err)
				}
			}
		}
		insertThing(t, d, "last")
	})
}

type momentary interface {
	Moment(ctx context.Context, scratch string) (db.Database, error)
}

func TestTables(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, momentTables, func(t *testing.T, d db.Database) {
		all, err := db.Tables(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		want := []db.Table{
			{Name: "pair", Key: []string{"a", "b"}, Columns: []db.Column{{Name: "a", Kind: db.TextColumn}, {Name: "b", Kind: db.IntColumn}}},
			{Name: "schema_step", Key: []string{"component", "number"}, Columns: []db.Column{{Name: "applied", Kind: db.IntColumn}, {Name: "component", Kind: db.TextColumn}, {Name: "incompatible", Kind: db.IntColumn}, {Name: "number", Kind: db.IntColumn}}},
			{Name: "store", Key: []string{"one"}, Columns: []db.Column{{Name: "id", Kind: db.TextColumn}, {Name: "one", Kind: db.IntColumn}}},
			{Name: "thing", Key: []string{"id"}, Generated: "id", Columns: []db.Column{{Name: "id", Kind: db.IntColumn}, {Name: "name", Kind: db.TextColumn}, {Name: "octets", Kind: db.BlobColumn}}},
		}
		if diff := cmp.Diff(want, all); diff != "" {
			t.Errorf("tables (-want +got):\n%s", diff)
		}
	})
}

func TestNumbered(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, momentTables, func(t *testing.T, d db.Database) {
		err := d.Update(t.Context(), func(tx db.Tx) error {
			_, err := tx.Exec(`INSERT INTO thing (id, name) VALUES (41, 'restored')`)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Numbered(t.Context(), d, db.Table{Name: "thing", Generated: "id"}); err != nil {
			t.Fatal(err)
		}
		insertThing(t, d, "next")
		var id int64
		err = d.View(t.Context(), func(tx db.Tx) error { return tx.QueryRow(`SELECT id FROM thing WHERE name = 'next'`).Scan(&id) })
		if err != nil || id != 42 {
			t.Errorf("the next row has number %d, want 42: %v", id, err)
		}
	})
}
