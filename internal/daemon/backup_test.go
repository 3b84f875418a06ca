package daemon_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/backup/holdings"
	"poczta.example/poczta/internal/backup/place"
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/daemon"
)

func TestBackupDue(t *testing.T) {
	t.Parallel()
	at := func(day, hour int) time.Time { return time.Date(2026, 11, day, hour, 0, 0, 0, time.UTC) }
	tests := []struct {
		name      string
		now, made time.Time
		want      bool
	}{
		{"never made", at(23, 12), time.Time{}, true},
		{"made today", at(23, 12), at(23, 3), false},
		{"made yesterday, before the hour", at(23, 2), at(22, 3), false},
		{"made yesterday, behind the hour", at(23, 3), at(22, 3), true},
		{"made by hand in the evening", at(23, 3), at(22, 22), true},
		{"three days ago", at(23, 1), at(20, 3), true},
		{"by a clock that was wrong", at(23, 12), at(25, 3), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := daemon.BackupDue(tt.now, tt.made, 3*time.Hour); got != tt.want {
				t.Errorf("due at %s, made %s: %v, want %v", tt.now, tt.made, got, tt.want)
			}
		})
	}
}

// TestBackupToBucket backs an empty store up to S3, as configured, and restores it.
func TestBackupToBucket(t *testing.T) {
	t.Parallel()
	back := s3mem.New()
	if err := back.CreateBucket("mail"); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gofakes3.New(back, gofakes3.WithLogger(gofakes3.DiscardLog())).Server())
	t.Cleanup(server.Close)
	folder := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(folder, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	key, err := backup.NewKeyFile()
	if err != nil {
		t.Fatal(err)
	}
	c := config.Default()
	c.Data = filepath.Join(folder, "data")
	c.Backup = config.Backup{To: "s3://mail/a/b", Endpoint: server.URL, Region: "us-east-1", Credentials: write("s3", "access\nsecret\n"), KeyFile: write("key", key)}
	r, err := daemon.OpenRooms(t.Context(), c, daemon.RoomOptions{File: write("poczta.toml", "# mine\n")})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := daemon.OpenBackups(t.Context(), c.Backup, place.Options{}); !errors.Is(err, backup.ErrNoRepository) {
		t.Errorf("open what is not there: %v", err)
	}
	to, end, err := daemon.OpenBackups(t.Context(), c.Backup, place.Options{Make: true})
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	report, err := r.Backup(t.Context(), to, "test", nil)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	s, err := to.Snapshot(t.Context(), report.Snapshot)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := daemon.BackupConfiguration(t.Context(), to, s); err != nil || string(text) != "# mine\n" {
		t.Errorf("configuration: %q, %v", text, err)
	}
	if _, err := daemon.Drill(t.Context(), to, s, folder); err != nil {
		t.Errorf("drill: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(folder, "backup-drill-*")); len(left) > 0 {
		t.Errorf("the drill left %v", left)
	}
	if _, err := daemon.Restore(t.Context(), c, daemon.RoomOptions{}, to, s, nil); !errors.Is(err, holdings.ErrNotEmpty) {
		t.Errorf("restore over what is there: %v", err)
	}
	c.Data = filepath.Join(folder, "half")
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // it is broken off before the database has a table
	if _, err := daemon.Restore(ctx, c, daemon.RoomOptions{}, to, s, nil); err == nil {
		t.Error("a restore that was broken off has no error")
	}
	if _, err := daemon.OpenRooms(t.Context(), c, daemon.RoomOptions{}); !errors.Is(err, holdings.ErrUnfinished) {
		t.Errorf("a restore that was broken off at its begin is opened: %v", err)
	}
	c.Data = filepath.Join(folder, "new")
	if _, err := daemon.Restore(t.Context(), c, daemon.RoomOptions{}, to, s, nil); err != nil {
		t.Fatal(err)
	}
	again, err := daemon.OpenRooms(t.Context(), c, daemon.RoomOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// TestScheduledBackup looks at the clock for a month: a backup a day, one drill, and figures that
// tell of each, of failures too, and after a restart.
func TestScheduledBackup(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	c := config.Default()
	c.Data = filepath.Join(folder, "data")
	c.Backup.To = filepath.Join(folder, "copies")
	file := filepath.Join(folder, "poczta.toml")
	if err := os.WriteFile(file, []byte("# mine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	start := func() *daemon.Scheduled {
		s, err := daemon.NewScheduled(t.Context(), daemon.Config{File: file, Config: c, Output: &log, Version: "test"})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := start()
	figure := func(name string) float64 {
		t.Helper()
		w := httptest.NewRecorder()
		s.Metrics().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		_, rest, ok := strings.Cut(w.Body.String(), "\n"+name+" ")
		if !ok {
			t.Fatalf("there is no figure %s; log:\n%s", name, &log)
		}
		line, _, _ := strings.Cut(rest, "\n")
		v, err := strconv.ParseFloat(line, 64)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	want := func(name string, v float64) {
		t.Helper()
		if got := figure(name); got != v {
			t.Errorf("%s is %v, want %v; log:\n%s", name, got, v, &log)
		}
	}
	const success, drill = "poczta_backup_last_success_timestamp_seconds", "poczta_backup_last_drill_timestamp_seconds"
	first := time.Date(2026, 11, 1, 12, 0, 0, 0, time.Local)
	tried := s.Look(t.Context(), time.Time{}, first)
	want(success, float64(first.Unix()))
	want(drill, float64(first.Unix()))
	if all := figure(`poczta_backup_last_octets{of="all"}`); all <= 0 || figure("poczta_backup_last_duration_seconds") < 0 {
		t.Errorf("the backup holds %v octets", all)
	}
	again := s.Look(t.Context(), tried, first.Add(10*time.Minute))
	if !again.Equal(tried) {
		t.Error("a second backup on the same day")
	}
	if err := os.Rename(c.Backup.To, c.Backup.To+".unmounted"); err != nil {
		t.Fatal(err)
	}
	next := first.AddDate(0, 0, 1)
	tried = s.Look(t.Context(), tried, next)
	want(success, float64(first.Unix()))
	want(`poczta_backup_failures_total{work="backup"}`, 1)
	if again := s.Look(t.Context(), tried, next.Add(30*time.Minute)); !again.Equal(tried) {
		t.Error("a backup that failed is tried again within the hour")
	}
	if err := os.Rename(c.Backup.To+".unmounted", c.Backup.To); err != nil {
		t.Fatal(err)
	}
	tried = s.Look(t.Context(), tried, next.Add(2*time.Hour))
	want(success, float64(next.Add(2*time.Hour).Unix()))
	want(drill, float64(first.Unix()))
	want(`poczta_backup_failures_total{work="drill"}`, 0)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = start()
	defer func() { _ = s.Close() }()
	s.Look(t.Context(), tried, next.Add(3*time.Hour))
	want(success, float64(next.Add(2*time.Hour).Unix())) // known from before the restart
	s.Look(t.Context(), time.Time{}, first.AddDate(0, 0, 31))
	want(drill, float64(first.AddDate(0, 0, 31).Unix()))
}
