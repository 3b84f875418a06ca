package admin_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/admin"
	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/backup/place"
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/daemon"
)

// TestCheckBackups looks at backups that are not configured, can't be opened, were never
// made, and are there.
func TestCheckBackups(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	c := config.Default()
	c.Data = filepath.Join(folder, "data")
	c.Listen = config.Listen{}
	look := func(level admin.Level, text string) {
		t.Helper()
		all := admin.CheckHost(t.Context(), c, false, nil)
		i := slices.IndexFunc(all, func(f admin.Finding) bool { return f.Area == "backup" })
		if text == "" {
			if i >= 0 {
				t.Errorf("found %v", all[i])
			}
			return
		}
		if i < 0 || all[i].Level != level || !strings.Contains(all[i].String(), text) {
			t.Errorf("found %v, want %s: %s", all, level, text)
		}
	}
	look("", "")
	c.Backup.To, c.Backup.KeyFile = filepath.Join(folder, "copies"), filepath.Join(folder, "key")
	look(admin.Failed, "poczta backup key")
	key, err := backup.NewKeyFile()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.Backup.KeyFile, []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	look(admin.Warning, "no backup in")
	rooms, err := daemon.OpenRooms(t.Context(), c, daemon.RoomOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer rooms.Close()
	r, end, err := daemon.OpenBackups(t.Context(), c.Backup, place.Options{Make: true})
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	look(admin.Warning, "no backup was made yet")
	m, err := rooms.Moment(t.Context(), "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, err := r.Create(t.Context(), m, time.Now().Add(-48*time.Hour)); err != nil {
		t.Fatal(err)
	}
	look(admin.Failed, "the newest backup is of")
	if _, err := r.Create(t.Context(), m, time.Time{}); err != nil {
		t.Fatal(err)
	}
	look(admin.Fine, "the newest backup is of")
}
