package queue_test

import (
	"path/filepath"
	"testing"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/post/posttest"
	"poczta.example/poczta/internal/queue"
)

// TestOldMailGetsItsTime has a message queued before messages had a time at which to give up:
// it gets its five days, so that the first 4xx does not return it.
func TestOldMailGetsItsTime(t *testing.T) {
	t.Parallel()
	d, err := db.OpenSQLite(t.Context(), db.SQLiteConfig{Path: filepath.Join(t.TempDir(), "q.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	old := posttest.Components()
	for i := range old {
		if old[i].Name == queue.Schema.Name {
			old[i].Steps = old[i].Steps[:1]
		}
	}
	if err := db.Migrate(t.Context(), d, old); err != nil {
		t.Fatal(err)
	}
	const queued = 1_700_000_000_000_000
	err = d.Update(t.Context(), func(tx db.Tx) error {
		_, err := tx.Exec(`INSERT INTO queued_message (id, queued, reverse_path, reverse_key, body_type, smtputf8, ret, envid, octets, account, login, priority, recipients)
			VALUES (?, ?, '', '', 0, 0, 0, '', 1, 0, '', 0, 1)`, []byte("0123456789abcdef"), int64(queued))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Migrate(t.Context(), d, posttest.Components()); err != nil {
		t.Fatal(err)
	}
	var expires int64
	if err := d.View(t.Context(), func(tx db.Tx) error { return tx.QueryRow(`SELECT expires FROM queued_message`).Scan(&expires) }); err != nil {
		t.Fatal(err)
	}
	if want := int64(queued) + queue.DefaultLifetime.Microseconds(); expires != want {
		t.Errorf("expires %d, want %d", expires, want)
	}
}
