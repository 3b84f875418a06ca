package db_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/mailtest/pgtest"
)

// Three releases of two components.
var (
	stepsA = []db.Step{
		{Number: 1, SQL: "CREATE TABLE a (id {id}, name {text} NOT NULL) {strict};\nCREATE INDEX a_name ON a (name);\n"},
		{Number: 2, SQL: "ALTER TABLE a ADD COLUMN size {int} NOT NULL DEFAULT 7"},
		{Number: 3, SQL: "DROP INDEX a_name", Incompatible: true},
	}
	stepsB = []db.Step{{Number: 1, SQL: "CREATE TABLE b (k {text} NOT NULL, v {blob}, PRIMARY KEY (k)) {rowid}"}}

	release1 = []db.Component{{Name: "a", Steps: stepsA[:1]}}
	release2 = []db.Component{{Name: "a", Steps: stepsA[:2]}, {Name: "b", Steps: stepsB}}
	release3 = []db.Component{{Name: "a", Steps: stepsA}, {Name: "b", Steps: stepsB}}
)

func TestMigrate(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, nil, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		migrate := func(c []db.Component) {
			t.Helper()
			if err := db.Migrate(ctx, d, c); err != nil {
				t.Fatal(err)
			}
		}
		migrate(release1)
		exec(t, d, "INSERT INTO a (name) VALUES (?)", "old")
		pending, err := db.Pending(ctx, d, release2)
		if diff := cmp.Diff([]string{"a 2", "b 1"}, pending); diff != "" || err != nil {
			t.Errorf("pending (-want +got): %s%v", diff, err)
		}
		if err := db.Check(ctx, d, release2); !errors.Is(err, db.ErrSchema) || !strings.Contains(err.Error(), "a 2, b 1") {
			t.Errorf("check of an older schema: got %v", err)
		}
		migrate(release2)
		migrate(release2) // nothing left to do
		if n := number(t, d, "SELECT size FROM a WHERE name = 'old'"); n != 7 {
			t.Errorf("got %d in the new column, want 7", n)
		}
		if err := db.Check(ctx, d, release1); err != nil {
			t.Errorf("release 1 on the additive schema of release 2: %v", err)
		}
		migrate(release1)
		migrate(release3)
		for name, err := range map[string]error{
			"Check":   db.Check(ctx, d, release2),
			"Migrate": db.Migrate(ctx, d, release2),
		} {
			if !errors.Is(err, db.ErrNewer) {
				t.Errorf("%s by release 2 of release 3's schema: got %v, want ErrNewer", name, err)
			}
		}
		if n := number(t, d, "SELECT COUNT(*) FROM schema_step WHERE applied > 0"); n != 4 {
			t.Errorf("got %d steps recorded, want 4", n)
		}
	})
}

func TestMigrateStopsAtAStepThatFails(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, nil, func(t *testing.T, d db.Database) {
		bad := []db.Component{{Name: "a", Steps: []db.Step{
			stepsA[0],
			{Number: 2, SQL: "CREATE TABLE half (n {int}) {strict};\nCREATE TABLE broken broken"},
		}}}
		if err := db.Migrate(context.Background(), d, bad); err == nil || !strings.Contains(err.Error(), "step a 2") {
			t.Errorf("got %v, want an error that names the step", err)
		}
		if _, err := try(d, "INSERT INTO half VALUES (1)"); err == nil {
			t.Error("half of a failed step stays")
		}
		if err := db.Migrate(context.Background(), d, release3); err != nil {
			t.Errorf("after the step was mended: %v", err)
		}
	})
}

// try runs one statement.
func try(d db.Database, query string, args ...any) (n int64, err error) {
	err = d.Update(context.Background(), func(tx db.Tx) error {
		n, err = tx.Exec(query, args...)
		return err
	})
	return n, err
}

func TestMigrateRefusesWrongLists(t *testing.T) {
	t.Parallel()
	d := openSQLite(t, db.SQLiteConfig{})
	for name, list := range map[string][]db.Component{
		"gap":   {{Name: "a", Steps: stepsA[1:]}},
		"twice": {{Name: "a", Steps: stepsA[:1]}, {Name: "a", Steps: stepsA[:1]}},
	} {
		if err := db.Migrate(context.Background(), d, list); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

func TestMigrateCopiesFirst(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := openSQLite(t, db.SQLiteConfig{Path: filepath.Join(dir, "poczta.db")})
	ctx := context.Background()
	copies := func() []string {
		list, err := filepath.Glob(filepath.Join(dir, "snapshots", "before-migrate-*.db"))
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	if err := db.Migrate(ctx, d, release1); err != nil {
		t.Fatal(err)
	}
	if n := len(copies()); n != 0 {
		t.Errorf("an empty database was copied %d times", n)
	}
	exec(t, d, "INSERT INTO a (name) VALUES (?)", "kept")
	for range 2 {
		if err := db.Migrate(ctx, d, release2); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(copies()); n != 1 {
		t.Fatalf("got %d copies, want one", n)
	}
	old := openSQLite(t, db.SQLiteConfig{Path: copies()[0]})
	if err := db.Check(ctx, old, release1); err != nil {
		t.Error(err)
	}
	if old.StoreID() != d.StoreID() || number(t, old, "SELECT COUNT(*) FROM a WHERE name = 'kept'") != 1 {
		t.Error("the copy is not the database as it was")
	}
}

func TestNodesMigrateAtOnce(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t, pgtest.Options{NoSync: true})
	var wg sync.WaitGroup
	ids := make([]string, 4)
	for i := range ids {
		wg.Go(func() {
			d, err := db.OpenPostgres(context.Background(), db.PostgresConfig{URL: url, MaxConns: 4})
			if err != nil {
				t.Error(err)
				return
			}
			defer d.Close()
			ids[i] = d.StoreID()
			if err := db.Migrate(context.Background(), d, release3); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id == "" || id != ids[0] {
			t.Errorf("nodes see the store ids %q, want one", ids)
			break
		}
	}
}

func TestSnapshot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := openSQLite(t, db.SQLiteConfig{Path: filepath.Join(dir, "poczta.db"), CheckpointPages: 50})
	exec(t, d, "CREATE TABLE t (id INTEGER PRIMARY KEY, data BLOB) STRICT")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { // each transaction adds two rows: a snapshot has none or both
		for i := 0; ; i += 2 {
			select {
			case <-stop:
				return
			default:
				writeRows(t, d, i, 2)
			}
		}
	})
	for number(t, d, "SELECT COUNT(*) FROM t") < 200 {
	}
	path := filepath.Join(dir, "copy.db")
	err := d.Snapshot(context.Background(), path)
	close(stop)
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("snapshot has mode %v, %v; want readable by the owner alone", info.Mode(), err)
	}
	copied := openSQLite(t, db.SQLiteConfig{Path: path})
	if n := number(t, copied, "SELECT COUNT(*) FROM t"); n < 200 || n%2 != 0 {
		t.Errorf("snapshot has %d rows, want an even number from 200", n)
	}
	if err := d.Snapshot(context.Background(), path); err == nil {
		t.Error("a snapshot replaced a file")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := d.Snapshot(ctx, filepath.Join(dir, "no.db")); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "no.db*")); len(left) > 0 {
		t.Errorf("cancelled snapshot left %v", left)
	}
}

// TestMigrateKeepsThreeCopies: older copies go when a migration is done, and not
// while migrations fail: then the oldest may be the one that is wanted.
func TestMigrateKeepsThreeCopies(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := openSQLite(t, db.SQLiteConfig{Path: filepath.Join(dir, "poczta.db")})
	snapshots := filepath.Join(dir, "snapshots")
	copies := func() []string {
		list, err := filepath.Glob(filepath.Join(snapshots, "before-migrate-*"))
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	release := func(n int, last string) []db.Component {
		c := db.Component{Name: "a"}
		for i := range n {
			c.Steps = append(c.Steps, db.Step{Number: i + 1, SQL: fmt.Sprintf("CREATE TABLE a%d (one {int}) {strict}", i)})
		}
		c.Steps = append(c.Steps, db.Step{Number: n + 1, SQL: last})
		return []db.Component{c}
	}
	if err := db.Migrate(t.Context(), d, release(0, "CREATE TABLE a0 (one {int}) {strict}")); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := db.Migrate(t.Context(), d, release(1, "CREATE nonsense")); err == nil {
			t.Fatal("a wrong step: got no error")
		}
	}
	failed := copies()
	if len(failed) != 5 {
		t.Fatalf("after five migrations that failed: got %d copies, want all", len(failed))
	}
	others := []string{"20260101T000000.000Z.db", "before-migrate-20260101T000000.000000.db.part"}
	for _, name := range others {
		if err := os.WriteFile(filepath.Join(snapshots, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Migrate(t.Context(), d, release(1, "CREATE TABLE last (one {int}) {strict}")); err != nil {
		t.Fatal(err)
	}
	left := copies()
	if len(left) != 3 || !slices.Equal(left[:2], failed[3:]) {
		t.Errorf("got %q, want the newest three", left)
	}
	if _, err := os.Stat(filepath.Join(snapshots, others[0])); err != nil {
		t.Errorf("a daily snapshot: %v", err)
	}
}
