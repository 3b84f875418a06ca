package dbtest_test

import (
	"testing"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
)

// visit is a table with a key of two columns and one that grows old.
var visit = db.Component{Name: "visit", Steps: []db.Step{{Number: 1, SQL: `
CREATE TABLE visit (who {int} NOT NULL, place {int} NOT NULL, seen {int} NOT NULL, PRIMARY KEY (who, place))`}}}

// visits counts the rows.
func visits(t *testing.T, d db.Database) (n int64) {
	t.Helper()
	if err := d.View(t.Context(), func(tx db.Tx) error { return tx.QueryRow(`SELECT COUNT(*) FROM visit`).Scan(&n) }); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestDropWhere removes what matches, of many rows, and nothing else.
func TestDropWhere(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, []db.Component{visit}, func(t *testing.T, d db.Database) {
		for who := range int64(3) {
			err := d.Update(t.Context(), func(tx db.Tx) error {
				for place := range int64(400) {
					if _, err := tx.Exec(`INSERT INTO visit (who, place, seen) VALUES (?, ?, ?)`, who, place, place); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := db.DropWhere(t.Context(), d, "visit", "who, place", "seen < ? AND who <> ?", int64(390), int64(1)); err != nil {
			t.Fatal(err)
		}
		if n := visits(t, d); n != 10+400+10 {
			t.Errorf("%d rows are left, want 420", n)
		}
	})
}

// TestDropWhereChanged has a row made young by a transaction that DropWhere waits for: it stays.
func TestDropWhereChanged(t *testing.T) {
	t.Parallel()
	d := dbtest.Postgres(t)
	if err := db.Migrate(t.Context(), d, []db.Component{visit}); err != nil {
		t.Fatal(err)
	}
	run := func(query string) func(tx db.Tx) error {
		return func(tx db.Tx) error {
			_, err := tx.Exec(query)
			return err
		}
	}
	if err := d.Update(t.Context(), run(`INSERT INTO visit (who, place, seen) VALUES (1, 1, 1), (2, 2, 1)`)); err != nil {
		t.Fatal(err)
	}
	m := &dbtest.Meanwhile{Database: d}
	end := func() {}
	m.Arm("SELECT", func() {
		end = dbtest.Begin(t, d, func() error { return db.DropWhere(t.Context(), d, "visit", "who, place", "seen < ?", int64(5)) })
	})
	err := m.Update(t.Context(), func(tx db.Tx) error {
		if err := run(`UPDATE visit SET seen = 9 WHERE who = 1`)(tx); err != nil {
			return err
		}
		var n int64
		return tx.QueryRow(`SELECT COUNT(*) FROM visit`).Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	end()
	if n := visits(t, d); n != 1 {
		t.Errorf("%d rows are left, want the one that became young", n)
	}
}
