package db_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/mailtest/pgtest"
)

// openPostgres opens a database on a server with fsync, with the table t.
func openPostgres(tb testing.TB) (*db.Postgres, string) {
	tb.Helper()
	url := pgtest.URL(tb, pgtest.Options{})
	d := dbtest.OpenPostgres(tb, url)
	exec(tb, d, "CREATE TABLE t (id BIGINT PRIMARY KEY, a BIGINT NOT NULL DEFAULT 0)")
	return d, url
}

// TestFrozenTransactionEnds has a transaction stop with a row locked, as when its process is
// frozen: the server ends it, others go on, and it learns that nothing was written.
func TestFrozenTransactionEnds(t *testing.T) {
	t.Parallel()
	d, url := openPostgres(t)
	exec(t, d, "INSERT INTO t (id) VALUES (1)")
	if n := number(t, d, "SELECT CAST(setting AS BIGINT) FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout'"); n != 20_000 {
		t.Errorf("a transaction may wait %d ms for its client, want 20000", n)
	}
	impatient := dbtest.OpenPostgres(t, url+"&options=-c%20idle_in_transaction_session_timeout%3D1s")
	locked, thaw, frozen := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		frozen <- impatient.Update(context.Background(), func(tx db.Tx) error {
			if _, err := tx.Exec("UPDATE t SET a = a + 100 WHERE id = 1"); err != nil {
				return err
			}
			close(locked)
			<-thaw
			return nil
		})
	}()
	select {
	case <-locked:
	case err := <-frozen:
		t.Fatalf("it ended before it held the row: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := d.Update(ctx, func(tx db.Tx) error {
		_, err := tx.Exec("UPDATE t SET a = a + 1 WHERE id = 1")
		return err
	}); err != nil {
		t.Errorf("others wait for a frozen transaction: %v", err)
	}
	close(thaw)
	if err := <-frozen; err == nil {
		t.Error("the frozen transaction believes that it has committed")
	}
	if n := number(t, d, "SELECT a FROM t"); n != 1 {
		t.Errorf("got %d, want 1", n)
	}
}

func TestDeadlockRunsAgain(t *testing.T) {
	t.Parallel()
	d, _ := openPostgres(t)
	exec(t, d, "INSERT INTO t (id) VALUES (1), (2)")
	var runs atomic.Int64
	var meet [2]chan struct{}
	for i := range meet {
		meet[i] = make(chan struct{})
	}
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			var once sync.Once
			err := d.Update(context.Background(), func(tx db.Tx) error {
				runs.Add(1)
				if _, err := tx.Exec("UPDATE t SET a = a + 1 WHERE id = ?", i+1); err != nil {
					return err
				}
				once.Do(func() { // both hold their first row before they ask for the other
					close(meet[i])
					<-meet[1-i]
				})
				_, err := tx.Exec("UPDATE t SET a = a + 1 WHERE id = ?", 2-i)
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := number(t, d, "SELECT SUM(a) FROM t"); n != 4 {
		t.Errorf("got a sum of %d, want 4", n)
	}
	if n := runs.Load(); n < 3 {
		t.Errorf("the functions ran %d times, want one of them again", n)
	}
}

func TestCommitOfUnknownOutcome(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t, pgtest.Options{})
	d, err := db.OpenPostgres(context.Background(), db.PostgresConfig{URL: s.URL("postgres")})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	exec(t, d, "CREATE TABLE t (id BIGINT PRIMARY KEY)")
	err = d.Update(context.Background(), func(tx db.Tx) error {
		_, err := tx.Exec("INSERT INTO t (id) VALUES (1)")
		s.Stop() // between the last statement and the commit
		return err
	})
	if !errors.Is(err, db.ErrUnknownOutcome) {
		t.Errorf("got %v, want ErrUnknownOutcome", err)
	}
	err = d.Update(context.Background(), func(tx db.Tx) error { return nil })
	if err == nil || errors.Is(err, db.ErrUnknownOutcome) {
		t.Errorf("without a server: got %v, want an error that is certain", err)
	}
}

func TestDeadConnectionsAreReplaced(t *testing.T) {
	t.Parallel()
	d, url := openPostgres(t)
	other := dbtest.OpenPostgres(t, url)
	var wg sync.WaitGroup
	for i := range 8 { // several connections
		wg.Go(func() { exec(t, d, "INSERT INTO t (id) VALUES (?)", i) })
	}
	wg.Wait()
	killed := number(t, other, `SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	if killed == 0 {
		t.Fatal("no connection was there to be ended")
	}
	for i := range 4 {
		exec(t, d, "INSERT INTO t (id) VALUES (?)", 100+i)
	}
	wantRows(t, d, 12)
}

func TestChangedSchemaUnderPreparedStatements(t *testing.T) {
	t.Parallel()
	d, url := openPostgres(t)
	other := dbtest.OpenPostgres(t, url)
	exec(t, d, "INSERT INTO t (id) VALUES (1)")
	read := func() (id int64, err error) {
		err = d.View(context.Background(), func(tx db.Tx) error {
			return tx.QueryRow("SELECT a FROM t WHERE id = ?", 1).Scan(&id)
		})
		return id, err
	}
	if _, err := read(); err != nil {
		t.Fatal(err)
	}
	exec(t, other, "ALTER TABLE t ALTER COLUMN a TYPE INTEGER")
	if _, err := read(); err != nil {
		t.Errorf("after another node changed the table: %v", err)
	}
}

func TestUpdateIsBounded(t *testing.T) {
	t.Parallel()
	d, err := db.OpenPostgres(context.Background(), db.PostgresConfig{
		URL: pgtest.URL(t, pgtest.Options{}), TxTimeout: 300 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	_, err = try(d, "SELECT pg_sleep(?)", 30)
	if err == nil || !strings.Contains(err.Error(), "300ms") {
		t.Errorf("got %v, want an error that names the limit", err)
	}
	// A busy machine may need more than 300 ms for a new connection.
	for end := time.Now().Add(time.Minute); ; {
		err := d.Update(context.Background(), func(tx db.Tx) error { return nil })
		if err == nil {
			break
		}
		if !strings.Contains(err.Error(), "300ms") || time.Now().After(end) {
			t.Fatalf("afterwards: %v", err)
		}
	}
}

func TestCheckServer(t *testing.T) {
	t.Parallel()
	d, _ := openPostgres(t)
	if err := d.CheckServer(context.Background()); err != nil {
		t.Errorf("a durable server: got %v", err)
	}
	loose := dbtest.Postgres(t)
	if err := loose.CheckServer(context.Background()); err == nil || !strings.Contains(err.Error(), "fsync = off") {
		t.Errorf("a server without fsync: got %v", err)
	}
}

func TestCommitsAreSynchronous(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t, pgtest.Options{})
	for setting, want := range map[string]string{"off": "on", "local": "on", "remote_apply": "remote_apply"} {
		d := dbtest.OpenPostgres(t, url+"&synchronous_commit="+setting)
		var got string
		err := d.View(context.Background(), func(tx db.Tx) error {
			return tx.QueryRow("SELECT current_setting('synchronous_commit')").Scan(&got)
		})
		if err != nil || got != want {
			t.Errorf("asked for %s: got %q, %v; want %s", setting, got, err, want)
		}
	}
}

func TestOpenPostgresSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "postgres://[", "postgres:///x?host=/nowhere&user=postgres"} {
		if _, err := db.OpenPostgres(context.Background(), db.PostgresConfig{URL: url}); err == nil || !strings.Contains(err.Error(), "database") {
			t.Errorf("%q: got %v", url, err)
		}
	}
}
