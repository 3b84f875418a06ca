// Package dbtest tests engines of package db, and the packages that live on them.
//
// Run is the conformance suite that every engine passes. Each runs a test of a
// domain package on every engine this machine has.
package dbtest

import (
	"context"
	"path/filepath"
	"testing"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mailtest/pgtest"
)

// Each runs fn on SQLite and on PostgreSQL, as parallel subtests "sqlite" and "postgresql",
// on a fresh database with the steps of components. Without PostgreSQL that
// subtest is skipped with the reason, or fails if the environment says
// POCZTA_REQUIRE_SERVICES=1. The databases are closed and removed afterwards.
// PostgreSQL runs without fsync here: tests of durability open their own.
func Each(t *testing.T, components []db.Component, fn func(t *testing.T, d db.Database)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		d := SQLite(t)
		migrate(t, d, components)
		fn(t, d)
	})
	t.Run("postgresql", func(t *testing.T) {
		t.Parallel()
		d := Postgres(t)
		migrate(t, d, components)
		fn(t, d)
	})
}

// SQLite opens a fresh database in a folder of the test.
func SQLite(tb testing.TB) *db.SQLite {
	tb.Helper()
	d, err := db.OpenSQLite(context.Background(), db.SQLiteConfig{Path: filepath.Join(tb.TempDir(), "poczta.db")})
	if err != nil {
		tb.Fatal(err)
	}
	closeLater(tb, d)
	return d
}

// Postgres opens a fresh database on the shared server of the test binary, or
// skips the test, as Each says.
func Postgres(tb testing.TB) *db.Postgres {
	tb.Helper()
	return OpenPostgres(tb, pgtest.URL(tb, pgtest.Options{NoSync: true}))
}

// OpenPostgres opens the database of url until the end of the test; a second call
// with the same url is a second node.
func OpenPostgres(tb testing.TB, url string) *db.Postgres {
	tb.Helper()
	d, err := db.OpenPostgres(context.Background(), db.PostgresConfig{URL: url, MaxConns: 8})
	if err != nil {
		tb.Fatal(err)
	}
	closeLater(tb, d)
	return d
}

func closeLater(tb testing.TB, d db.Database) {
	tb.Cleanup(func() {
		if err := d.Close(); err != nil {
			tb.Errorf("close database: %v", err)
		}
	})
}

func migrate(t *testing.T, d db.Database, components []db.Component) {
	t.Helper()
	if err := db.Migrate(context.Background(), d, components); err != nil {
		t.Fatal(err)
	}
}
