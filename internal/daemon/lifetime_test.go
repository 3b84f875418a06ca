package daemon_test

import (
	"testing"
	"time"

	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/daemon"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/queue"
)

// TestLifetime: relay.lifetime is how long queued mail is tried.
func TestLifetime(t *testing.T) {
	t.Parallel()
	c := config.Default()
	c.Hostname, c.Data, c.Relay.Lifetime = "mx.example.org", t.TempDir(), config.Duration(7*time.Minute)
	r, err := daemon.OpenRooms(t.Context(), c, daemon.RoomOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	now := time.Now().UTC().Truncate(time.Second)
	m := &queue.Message{ID: message.ID{1}, Queued: now, Recipients: []queue.Recipient{{ForwardPath: "a@far.example"}}}
	if err := r.DB.Update(t.Context(), func(tx db.Tx) error { return r.Queue.Enqueue(tx, m) }); err != nil {
		t.Fatal(err)
	}
	got, err := r.Queue.Show(t.Context(), m.ID)
	if err != nil || !got.Expires.Equal(now.Add(7*time.Minute)) {
		t.Errorf("queued %s, expires %s, %v; want seven minutes later", now, got.Expires, err)
	}
}
