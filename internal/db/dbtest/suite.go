package dbtest

import (
	"bytes"
	"context"
	"errors"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"poczta.example/poczta/internal/db"
)

// tables are what the suite works on.
func tables() []db.Component {
	return []db.Component{{Name: "suite", Steps: []db.Step{{Number: 1, SQL: `
CREATE TABLE parent (id {id}, name {text} NOT NULL UNIQUE, size {int} NOT NULL DEFAULT 0 CHECK (size >= 0), data {blob}) {strict};
CREATE TABLE child (parent {int} NOT NULL REFERENCES parent (id), n {int} NOT NULL, PRIMARY KEY (parent, n)) {rowid};
`}}}}
}

// Run tests an engine. open returns a fresh database and closes it at the end of
// the test it is given.
func Run(t *testing.T, open func(t *testing.T) db.Database) {
	t.Helper()
	tests := []struct {
		name string
		fn   func(*testing.T, db.Database)
	}{
		{"values", testValues},
		{"named types", testNamedTypes},
		{"text", testText},
		{"wrong use", testWrongUse},
		{"not found", testNotFound},
		{"conflict", testConflict},
		{"constraints", testConstraints},
		{"failed statement ends the transaction", testSticky},
		{"rollback", testRollback},
		{"returning", testReturning},
		{"sums", testSums},
		{"order of text", testTextOrder},
		{"rows", testRows},
		{"view is read-only", testViewReadOnly},
		{"view is a snapshot", testViewSnapshot},
		{"view is bounded", testViewBounded},
		{"panic", testPanic},
		{"goexit", testGoexit},
		{"cancelled", testCancelled},
		{"ids are not used again", testIDs},
		{"chunks", testChunks},
		{"closed", testClosed},
		{"store id", testStoreID},
		{"model", testModel},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := open(t)
			migrate(t, d, tables())
			test.fn(t, d)
		})
	}
}

// update runs one statement and returns the rows it changed.
func update(t *testing.T, d db.Database, query string, args ...any) int64 {
	t.Helper()
	n, err := try(d, query, args...)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// try runs one statement in an Update.
func try(d db.Database, query string, args ...any) (n int64, err error) {
	err = d.Update(context.Background(), func(tx db.Tx) error {
		n, err = tx.Exec(query, args...)
		return err
	})
	return n, err
}

// read reads one row.
func read(d db.Database, dest []any, query string, args ...any) error {
	return d.View(context.Background(), func(tx db.Tx) error {
		return tx.QueryRow(query, args...).Scan(dest...)
	})
}

// count reads one integer.
func count(t *testing.T, d db.Database, query string, args ...any) int64 {
	t.Helper()
	var n int64
	if err := read(d, []any{&n}, query, args...); err != nil {
		t.Fatal(err)
	}
	return n
}

func testValues(t *testing.T, d db.Database) {
	data := make([]byte, 100_000)
	for i := range data {
		data[i] = byte(i * i)
	}
	rows := []struct {
		name string
		size int64
		data []byte
	}{
		{"small", 0, []byte{}},
		{"null", 1, nil},
		{"large", math.MaxInt64, data},
		{"zażółć gęślą jaźń 📮", 7, []byte{0, 1, 255}},
		{"", 8, []byte("text")},
	}
	for _, want := range rows {
		update(t, d, "INSERT INTO parent (name, size, data) VALUES (?, ?, ?)", want.name, want.size, want.data)
		got := want
		got.data = []byte("before")
		err := read(d, []any{&got.name, &got.size, &got.data}, "SELECT name, size, data FROM parent WHERE name = ?", want.name)
		if err != nil {
			t.Fatal(err)
		}
		if got.name != want.name || got.size != want.size || !bytes.Equal(got.data, want.data) || (got.data == nil) != (want.data == nil) {
			t.Errorf("row %q: got %q, %d, %d octets; want %d, %d octets", want.name, got.name, got.size, len(got.data), want.size, len(want.data))
		}
	}
	if n := update(t, d, "UPDATE parent SET size = size - 1 WHERE size > 0"); n != 4 {
		t.Errorf("got %d rows changed, want 4", n)
	}
	if n := update(t, d, "UPDATE parent SET size = 3 WHERE name = '? -- ?' OR name = ?", "nobody"); n != 0 {
		t.Errorf("got %d rows changed, want 0", n)
	}
}

func testNamedTypes(t *testing.T, d db.Database) {
	type (
		uid  uint32
		name string
		key  [4]byte
	)
	var none *string
	size := 5
	update(t, d, "INSERT INTO parent (id, name, size, data) VALUES (?, ?, ?, ?)", uid(9), name("x"), &size, key{1, 2, 3, 4})
	update(t, d, "INSERT INTO parent (name, data) VALUES (?, ?)", "y", none)
	var (
		gotUID  uid
		gotName name
		gotKey  key
		flag    bool
		opt     *int64
	)
	if err := read(d, []any{&gotUID, &gotName, &flag, &opt, &gotKey}, "SELECT id, name, size, size, data FROM parent WHERE name = ?", "x"); err != nil {
		t.Fatal(err)
	}
	if gotUID != 9 || gotName != "x" || !flag || opt == nil || *opt != 5 || gotKey != (key{1, 2, 3, 4}) {
		t.Errorf("got %v %v %v %v %v", gotUID, gotName, flag, opt, gotKey)
	}
	if err := read(d, []any{&opt}, "SELECT MAX(size) FROM parent WHERE name = ?", "nobody"); err != nil || opt != nil {
		t.Errorf("got %v, %v; want NULL as nil", opt, err)
	}
	var small int8
	update(t, d, "UPDATE parent SET size = 1000")
	if err := read(d, []any{&small}, "SELECT size FROM parent WHERE name = ?", "x"); err == nil {
		t.Errorf("1000 was stored in an int8 as %d", small)
	}
}

func testText(t *testing.T, d db.Database) {
	for _, bad := range []string{"a\x00b", "\xff", "a\xc3"} {
		if _, err := try(d, "INSERT INTO parent (name) VALUES (?)", bad); err == nil || !strings.Contains(err.Error(), "db.Text") {
			t.Errorf("text %q: got %v, want an error that names db.Text", bad, err)
		}
		update(t, d, "INSERT INTO parent (name, size) VALUES (?, ?) ON CONFLICT (name) DO NOTHING", db.Text(bad), len(bad))
	}
}

func testWrongUse(t *testing.T, d db.Database) {
	for _, test := range []struct {
		name  string
		query string
		args  []any
	}{
		{"too few parameters", "INSERT INTO parent (name, size) VALUES (?, ?)", []any{"a"}},
		{"too many parameters", "INSERT INTO parent (name) VALUES (?)", []any{"a", 1}},
		{"a float", "INSERT INTO parent (name, size) VALUES (?, ?)", []any{"a", 1.5}},
		{"no such table", "INSERT INTO nothing (name) VALUES (?)", []any{"a"}},
		{"no SQL", "INSERT INTO", nil},
	} {
		if _, err := try(d, test.query, test.args...); err == nil {
			t.Errorf("%s: got no error", test.name)
		}
	}
	var a, b int64
	if err := read(d, []any{&a, &b}, "SELECT COUNT(*) FROM parent"); err == nil {
		t.Error("two destinations for one column: got no error")
	}
	var s string
	if err := read(d, []any{&s}, "SELECT COUNT(*) FROM parent"); err == nil {
		t.Error("an integer in a string: got no error")
	}
}

func testNotFound(t *testing.T, d db.Database) {
	err := d.Update(context.Background(), func(tx db.Tx) error {
		var n int64
		if err := tx.QueryRow("SELECT size FROM parent WHERE name = ?", "a").Scan(&n); !errors.Is(err, db.ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
		_, err := tx.Exec("INSERT INTO parent (name) VALUES (?)", "a")
		return err
	})
	if err != nil {
		t.Errorf("ErrNotFound ended the transaction: %v", err)
	}
}

func testConflict(t *testing.T, d db.Database) {
	update(t, d, "INSERT INTO parent (id, name) VALUES (?, ?)", 5, "a")
	update(t, d, "INSERT INTO child (parent, n) VALUES (5, 1)")
	for _, query := range []string{
		"INSERT INTO parent (name) VALUES ('a')",
		"INSERT INTO parent (id, name) VALUES (5, 'b')",
		"INSERT INTO child (parent, n) VALUES (5, 1)",
	} {
		_, err := try(d, query)
		var e *db.Error
		if !errors.Is(err, db.ErrConflict) || !errors.As(err, &e) || e.Engine != d.Engine() || e.Query != query {
			t.Errorf("%s: got %v, want ErrConflict in an *Error", query, err)
		}
	}
	if n := update(t, d, "INSERT INTO parent (name) VALUES (?) ON CONFLICT (name) DO NOTHING", "a"); n != 0 {
		t.Errorf("got %d rows inserted, want 0", n)
	}
}

func testConstraints(t *testing.T, d db.Database) {
	for _, query := range []string{
		"INSERT INTO parent (name) VALUES (NULL)",
		"INSERT INTO parent (name, size) VALUES ('a', -1)",
		"INSERT INTO child (parent, n) VALUES (99, 1)",
	} {
		if _, err := try(d, query); !errors.Is(err, db.ErrConstraint) || errors.Is(err, db.ErrConflict) {
			t.Errorf("%s: got %v, want ErrConstraint", query, err)
		}
	}
}

func testSticky(t *testing.T, d db.Database) {
	update(t, d, "INSERT INTO parent (name) VALUES ('a')")
	err := d.Update(context.Background(), func(tx db.Tx) error {
		tx.Exec("INSERT INTO parent (name) VALUES ('b')")
		tx.Exec("INSERT INTO parent (name) VALUES ('a')")
		_, err := tx.Exec("INSERT INTO parent (name) VALUES ('c')")
		if !errors.Is(err, db.ErrConflict) {
			t.Errorf("statement after a failure: got %v, want the failure", err)
		}
		return nil
	})
	if !errors.Is(err, db.ErrConflict) {
		t.Errorf("got %v, want ErrConflict", err)
	}
	if n := count(t, d, "SELECT COUNT(*) FROM parent"); n != 1 {
		t.Errorf("got %d rows, want 1", n)
	}
}

func testRollback(t *testing.T, d db.Database) {
	mine := errors.New("mine")
	err := d.Update(context.Background(), func(tx db.Tx) error {
		if _, err := tx.Exec("INSERT INTO parent (name) VALUES ('a')"); err != nil {
			return err
		}
		return mine
	})
	if err != mine {
		t.Errorf("got %v, want the function's own error, as it is", err)
	}
	if err := d.View(context.Background(), func(db.Tx) error { return mine }); err != mine {
		t.Errorf("View: got %v, want the function's own error, as it is", err)
	}
	if n := count(t, d, "SELECT COUNT(*) FROM parent"); n != 0 {
		t.Errorf("got %d rows, want none", n)
	}
}

func testReturning(t *testing.T, d db.Database) {
	var ids []int64
	for _, name := range []string{"a", "b"} {
		var id int64
		err := d.Update(context.Background(), func(tx db.Tx) error {
			return tx.QueryRow("INSERT INTO parent (name) VALUES (?) RETURNING id", name).Scan(&id)
		})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if ids[0] <= 0 || ids[1] <= ids[0] {
		t.Errorf("got ids %v, want them to rise", ids)
	}
	var uid int64
	err := d.Update(context.Background(), func(tx db.Tx) error {
		return tx.QueryRow("UPDATE parent SET size = size + 1 WHERE name = ? RETURNING size", "a").Scan(&uid)
	})
	if err != nil || uid != 1 {
		t.Errorf("got %d, %v; want 1", uid, err)
	}
}

func testSums(t *testing.T, d db.Database) {
	for i, size := range []int64{10_000, 1, math.MaxInt64 - 20_001, 0} {
		update(t, d, "INSERT INTO parent (name, size) VALUES (?, ?)", string(rune('a'+i)), size)
	}
	var got []int64
	for _, query := range []string{
		"SELECT SUM(size) FROM parent",
		"SELECT COALESCE(SUM(size), 0) FROM parent WHERE name = 'z'",
		"SELECT -SUM(size) FROM parent WHERE name < 'c'",
		"SELECT SUM(size) FROM parent WHERE name = 'a'",
		"SELECT MAX(size) - MIN(size) FROM parent WHERE name < 'c'",
		"SELECT CASE WHEN COUNT(*) = 4 THEN 1 ELSE 0 END FROM parent",
		"SELECT LENGTH(LOWER(name)) FROM parent WHERE name = 'a'",
	} {
		got = append(got, count(t, d, query))
	}
	want := []int64{math.MaxInt64 - 10_000, 0, -10_001, 10_000, 9_999, 1, 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sums (-want +got):\n%s", diff)
	}
}

func testTextOrder(t *testing.T, d db.Database) {
	for _, name := range []string{"b", "a", "B", "ą", "Z", "z", "_", "10", "9"} {
		update(t, d, "INSERT INTO parent (name) VALUES (?)", name)
	}
	got := names(t, d, "SELECT name FROM parent WHERE name > ? ORDER BY name", "10")
	if diff := cmp.Diff([]string{"9", "B", "Z", "_", "a", "b", "z", "ą"}, got); diff != "" {
		t.Errorf("order of octets (-want +got):\n%s", diff)
	}
}

// names reads one column of text.
func names(t *testing.T, d db.Database, query string, args ...any) []string {
	t.Helper()
	var list []string
	err := d.View(context.Background(), func(tx db.Tx) error {
		list = nil
		rows, err := tx.Query(query, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var s string
			if err := rows.Scan(&s); err != nil {
				return err
			}
			list = append(list, s)
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func testGoexit(t *testing.T, d db.Database) {
	done := make(chan bool)
	go func() {
		returned := false
		defer func() { done <- returned }()
		d.Update(context.Background(), func(tx db.Tx) error {
			tx.Exec("INSERT INTO parent (name) VALUES ('exit')")
			runtime.Goexit()
			return nil
		})
		returned = true
	}()
	if <-done {
		t.Error("Update returned after runtime.Goexit in its function")
	}
	update(t, d, "INSERT INTO parent (name) VALUES ('after')")
	if diff := cmp.Diff([]string{"after"}, names(t, d, "SELECT name FROM parent")); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}
