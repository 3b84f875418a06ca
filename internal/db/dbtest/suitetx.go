package dbtest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"poczta.example/poczta/internal/db"
)

func testRows(t *testing.T, d db.Database) {
	for i := range 100 {
		update(t, d, "INSERT INTO parent (id, name) VALUES (?, ?)", i+1, fmt.Sprint(i))
	}
	ctx := context.Background()
	err := d.View(ctx, func(tx db.Tx) error {
		rows, err := tx.Query("SELECT id FROM parent ORDER BY id")
		if err != nil {
			return err
		}
		var id int64
		if err := rows.Scan(&id); err == nil {
			t.Error("Scan before Next: got no error")
			return nil
		}
		for n := int64(1); n <= 10 && rows.Next(); n++ {
			if err := rows.Scan(&id); err != nil || id != n {
				t.Errorf("got id %d, %v; want %d", id, err, n)
			}
		}
		if err := rows.Close(); err != nil {
			t.Error(err)
		}
		if rows.Next() {
			t.Error("Next after Close is true")
		}
		return tx.QueryRow("SELECT COUNT(*) FROM parent").Scan(&id) // the cursor is gone
	})
	if err != nil {
		t.Error(err)
	}
	err = d.View(ctx, func(tx db.Tx) error {
		if _, err := tx.Query("SELECT id FROM parent"); err != nil {
			return err
		}
		_, err := tx.Query("SELECT id FROM parent")
		return err
	})
	if err == nil {
		t.Error("two cursors at once: got no error")
	}
	if n := count(t, d, "SELECT COUNT(*) FROM parent"); n != 100 {
		t.Errorf("after a cursor left open: got %d rows, want 100", n)
	}
}

func testViewReadOnly(t *testing.T, d db.Database) {
	err := d.View(context.Background(), func(tx db.Tx) error {
		_, err := tx.Exec("INSERT INTO parent (name) VALUES ('a')")
		return err
	})
	if err == nil {
		t.Error("a View wrote")
	}
	if n := count(t, d, "SELECT COUNT(*) FROM parent"); n != 0 {
		t.Errorf("got %d rows, want none", n)
	}
}

func testViewSnapshot(t *testing.T, d db.Database) {
	err := d.View(context.Background(), func(tx db.Tx) error {
		var before, after int64
		if err := tx.QueryRow("SELECT COUNT(*) FROM parent").Scan(&before); err != nil {
			return err
		}
		if _, err := try(d, "INSERT INTO parent (name) VALUES ('a')"); err != nil {
			return err
		}
		err := tx.QueryRow("SELECT COUNT(*) FROM parent").Scan(&after)
		if before != 0 || after != 0 {
			t.Errorf("got %d rows, then %d; want 0 and 0", before, after)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if n := count(t, d, "SELECT COUNT(*) FROM parent"); n != 1 {
		t.Errorf("the next View: got %d rows, want 1", n)
	}
}

// endless takes for ever on either engine.
const endless = "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x > 0 AND x < 1000000000000) SELECT COUNT(*) FROM c"

func testViewBounded(t *testing.T, d db.Database) {
	var n int64
	if err := read(d, []any{&n}, endless); !errors.Is(err, db.ErrTooLong) {
		t.Errorf("got %d, %v; want ErrTooLong", n, err)
	}
	if n := count(t, d, "SELECT COUNT(*) FROM parent"); n != 0 {
		t.Errorf("got %d rows, want none", n)
	}
}

func testPanic(t *testing.T, d db.Database) {
	func() {
		defer func() {
			if got := recover(); got != "mine" {
				t.Errorf("recovered %v, want what the function panicked with", got)
			}
		}()
		d.Update(context.Background(), func(tx db.Tx) error {
			tx.Exec("INSERT INTO parent (name) VALUES ('a')")
			panic("mine")
		})
	}()
	func() {
		defer func() { recover() }()
		d.View(context.Background(), func(tx db.Tx) error { panic("mine") })
	}()
	if n := count(t, d, "SELECT COUNT(*) FROM parent"); n != 0 {
		t.Errorf("got %d rows, want none", n)
	}
	update(t, d, "INSERT INTO parent (name) VALUES ('a')")
}

func testCancelled(t *testing.T, d db.Database) {
	ctx, cancel := context.WithCancel(context.Background())
	err := d.Update(ctx, func(tx db.Tx) error {
		cancel() // too late: it runs
		_, err := tx.Exec("INSERT INTO parent (name) VALUES ('a')")
		return err
	})
	if err != nil {
		t.Errorf("cancelled while it ran: got %v, want it done", err)
	}
	never := func(tx db.Tx) error {
		t.Error("a function ran under a cancelled context")
		return nil
	}
	for name, do := range map[string]func(context.Context, func(db.Tx) error) error{
		"Update": d.Update, "UpdateLow": d.UpdateLow, "View": d.View,
	} {
		if err := do(ctx, never); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want context.Canceled", name, err)
		}
	}
	ctx, cancel = context.WithCancel(context.Background())
	err = d.View(ctx, func(tx db.Tx) error {
		cancel()
		var n int64
		return tx.QueryRow("SELECT COUNT(*) FROM parent").Scan(&n)
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("View cancelled while it ran: got %v, want context.Canceled", err)
	}
	if n := count(t, d, "SELECT COUNT(*) FROM parent"); n != 1 {
		t.Errorf("got %d rows, want 1", n)
	}
}

func testIDs(t *testing.T, d db.Database) {
	insert := func() (id int64) {
		err := d.Update(context.Background(), func(tx db.Tx) error {
			return tx.QueryRow("INSERT INTO parent (name) VALUES ('a') RETURNING id").Scan(&id)
		})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	first := insert()
	update(t, d, "DELETE FROM parent")
	if second := insert(); second <= first {
		t.Errorf("got id %d after %d was deleted, want a larger one", second, first)
	}
}

func testClosed(t *testing.T, d db.Database) {
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	never := func(db.Tx) error { return nil }
	ctx := context.Background()
	for name, err := range map[string]error{
		"Update": d.Update(ctx, never), "UpdateLow": d.UpdateLow(ctx, never), "View": d.View(ctx, never),
	} {
		if !errors.Is(err, db.ErrClosed) {
			t.Errorf("%s: got %v, want ErrClosed", name, err)
		}
	}
}

func testStoreID(t *testing.T, d db.Database) {
	var id string
	if err := read(d, []any{&id}, "SELECT id FROM store"); err != nil {
		t.Fatal(err)
	}
	if len(id) < 20 || id != d.StoreID() {
		t.Errorf("got store id %q, the table says %q; want the same, at least 20 characters", d.StoreID(), id)
	}
}

func testChunks(t *testing.T, d db.Database) {
	ctx := context.Background()
	const rows = 1100
	err := d.Update(ctx, func(tx db.Tx) error {
		for i := range rows {
			if _, err := tx.Exec("INSERT INTO parent (id, name) VALUES (?, ?)", i+1, fmt.Sprint(i)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sum, calls := 0, 0
	remove := func(tx db.Tx, limit int) (int, error) {
		n, err := tx.Exec("DELETE FROM parent WHERE id IN (SELECT id FROM parent WHERE id <= ? ORDER BY id LIMIT ?)", rows-100, limit)
		if limit > db.MaxChunk || n > int64(limit) {
			t.Errorf("got a limit of %d, %d rows deleted", limit, n)
		}
		sum, calls = sum+int(n), calls+1
		return int(n), err
	}
	if err := db.Chunks(ctx, d, remove); err != nil || sum != rows-100 || calls < 3 {
		t.Errorf("got %d rows in %d chunks, %v; want %d in several", sum, calls, err, rows-100)
	}
	mine := errors.New("mine")
	if err := db.Chunks(ctx, d, func(db.Tx, int) (int, error) { return 0, mine }); err != mine {
		t.Errorf("got %v, want the step's error", err)
	}
	if n := count(t, d, "SELECT COUNT(*) FROM parent"); n != 100 {
		t.Errorf("got %d rows left, want 100", n)
	}
}
