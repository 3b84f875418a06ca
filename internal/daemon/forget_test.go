package daemon_test

import (
	"log/slog"
	"testing"
	"time"

	"poczta.example/poczta/internal/daemon"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/preference"
)

// TestForget: nothing of an account is left in the filters' rooms when it is removed, and
// another's stays.
func TestForget(t *testing.T) {
	t.Parallel()
	c, _ := parse(t, t.TempDir(), "")
	r, err := daemon.OpenRooms(t.Context(), c, daemon.RoomOptions{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	for id := range 2 {
		if err := r.Preferences.Add(t.Context(), envelope.AccountID(1+id), preference.Entry{Pattern: "jan@far.test", Allow: true}); err != nil {
			t.Fatal(err)
		}
		err := r.DB.Update(t.Context(), func(tx db.Tx) error {
			_, err := tx.Exec(`INSERT INTO digest_sent (account, day) VALUES (?, ?)`, int64(1+id), time.Now().Unix()/86400)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Forget(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for id, want := range []int64{0, 1} {
		for _, table := range []string{"preference_entry", "digest_sent"} {
			var n int64
			err := r.DB.View(t.Context(), func(tx db.Tx) error {
				return tx.QueryRow(`SELECT COUNT(*) FROM `+table+` WHERE account = ?`, int64(1+id)).Scan(&n)
			})
			if err != nil || n != want {
				t.Errorf("%s has %d rows of account %d, want %d (%v)", table, n, 1+id, want, err)
			}
		}
	}
}
