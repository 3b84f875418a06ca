package dbtest_test

import (
	"context"
	"testing"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
)

func TestSQLite(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, func(t *testing.T) db.Database { return dbtest.SQLite(t) })
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, func(t *testing.T) db.Database { return dbtest.Postgres(t) })
}

func TestEach(t *testing.T) {
	t.Parallel()
	components := []db.Component{{Name: "x", Steps: []db.Step{{Number: 1, SQL: "CREATE TABLE x (a {int} NOT NULL) {strict}"}}}}
	dbtest.Each(t, components, func(t *testing.T, d db.Database) {
		err := d.Update(context.Background(), func(tx db.Tx) error {
			_, err := tx.Exec("INSERT INTO x (a) VALUES (?)", 1)
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
}
