package mua_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/backup/holdings"
	"poczta.example/poczta/internal/backup/place"
	"poczta.example/poczta/internal/mailtest/poppeer"
	"poczta.example/poczta/internal/mua"
	"poczta.example/poczta/internal/mua/profile"
)

// clock is a time that the test sets.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
}

// scheduled opens mail under a clock of the test's.
func scheduled(t *testing.T) (*house, *clock) {
	t.Helper()
	h, c := &house{t: t, folder: t.TempDir()}, &clock{now: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)}
	var err error
	h.Mail, err = mua.Open(t.Context(), mua.Config{Folder: h.folder, VaultFile: true, VaultWork: 10, Ask: func(bool) (string, error) { return "correct horse battery", nil }, Now: c.Now, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h, c
}

func (h *house) status() mua.BackupStatus {
	h.t.Helper()
	s, err := h.BackupStatus(h.t.Context())
	h.must(err)
	return s
}

// look looks at the clock and wants so many backups afterwards.
func (h *house) look(at place.Place, want int) {
	h.t.Helper()
	h.must(h.BackupIfDue(h.t.Context()))
	r, end, err := place.Open(h.t.Context(), at, place.Options{})
	if errors.Is(err, backup.ErrNoRepository) && want == 0 {
		return
	}
	h.must(err)
	defer end()
	names, err := r.Names(h.t.Context())
	if err != nil || len(names) != want {
		h.t.Fatalf("there are %d backups, want %d: %v; %+v", len(names), want, err, h.status())
	}
}

// TestScheduledBackup has backups made by the clock: each when it is due and none before, old ones
// forgotten, a restore tried; a disk that is away is told of by accounts and sync until it is there.
func TestScheduledBackup(t *testing.T) {
	t.Parallel()
	h, c := scheduled(t)
	begin := c.Now()
	at := place.Place{To: filepath.Join(t.TempDir(), "copies")}
	h.look(at, 0) // nobody wished one
	h.must(h.desk("", false).BackupSchedule(t.Context(), mua.Schedule{To: at.To, Every: 24 * 3600, Keep: backup.Rules{Last: 2}, DrillEvery: 48 * 3600}))
	h.look(at, 1)
	if s := h.status(); s.Made == nil || s.Drilled == nil || !s.Made.Equal(begin) || s.Error != "" || s.Late || s.Trouble("en") != "" {
		t.Errorf("after the first: %+v", s)
	}
	c.set(begin.Add(23 * time.Hour))
	h.look(at, 1)
	c.set(begin.Add(24 * time.Hour))
	h.look(at, 2)
	if s := h.status(); !s.Drilled.Equal(begin) {
		t.Errorf("a restore was tried too early: %+v", s)
	}
	c.set(begin.Add(48 * time.Hour))
	h.look(at, 2) // the oldest is forgotten
	if s := h.status(); !s.Drilled.Equal(c.Now()) {
		t.Errorf("no restore was tried: %+v", s)
	}
	if left, _ := filepath.Glob(filepath.Join(h.folder, "backup-drill-*")); len(left) > 0 {
		t.Errorf("the drill left %v", left)
	}
	h.away(at, c)
	made := c.Now()
	c.set(made.Add(49 * time.Hour)) // nothing ran
	for _, language := range []string{"en", "pl"} {
		if s := h.status(); !s.Late || !strings.Contains(s.Trouble(language), "poczta mail open") {
			t.Errorf("late: %+v %q", s, s.Trouble(language))
		}
	}
	h.must(h.desk("", true).BackupScheduled(t.Context()))
	var shown mua.BackupStatus
	if err := json.Unmarshal(h.out.Bytes(), &shown); err != nil || shown.Schedule == nil || shown.Schedule.Keep.Last != 2 || !shown.Late {
		t.Errorf("shown: %s %v", &h.out, err)
	}
	h.must(h.desk("", false).BackupUnschedule(t.Context()))
	if s := h.status(); s.Schedule != nil || s.Trouble("en") != "" || !strings.Contains(h.out.String(), "No backup is made by itself") {
		t.Errorf("ended: %+v %s", s, &h.out)
	}
	h.look(at, 2)
}

// TestScheduledElsewhere has a person wish backups in another place while one is made: the one in the first place does not
// count for the second, whose repository is made at the next look.
func TestScheduledElsewhere(t *testing.T) {
	t.Parallel()
	h, _ := scheduled(t)
	wish := func(to string) place.Place {
		h.must(h.desk("", false).BackupSchedule(t.Context(), mua.Schedule{To: to, Every: 24 * 3600, Keep: mua.DefaultKeep()}))
		return place.Place{To: to}
	}
	first := wish(filepath.Join(t.TempDir(), "first"))
	var second place.Place
	h.must(h.BackupLate(t.Context(), func() { second = wish(filepath.Join(t.TempDir(), "second")) }))
	if s := h.status(); s.Made != nil || s.Backup != "" {
		t.Errorf("nothing was made there yet: %+v", s)
	}
	h.look(second, 1)
	h.look(first, 1)
	if s := h.status(); s.Made == nil || s.Error != "" {
		t.Errorf("after the look: %+v", s)
	}
}

// away has the disk with the backups away for three hours, a day after the newest one.
func (h *house) away(at place.Place, c *clock) {
	t := h.t
	t.Helper()
	gone := at.To + ".unmounted"
	h.must(os.Rename(at.To, gone))
	h.must(os.Mkdir(at.To, 0o700)) // where it was mounted
	due := c.Now().Add(24 * time.Hour)
	c.set(due)
	h.must(h.BackupIfDue(t.Context()))
	for i, f := range []func(*mua.Desk) error{
		func(d *mua.Desk) error { return d.Accounts(t.Context()) },
		func(d *mua.Desk) error { return d.Sync(t.Context(), nil) },
	} {
		h.must(f(h.desk("", true)))
		if !strings.Contains(h.err.String(), "Backups to "+at.To+" fail since") || strings.Contains(h.out.String(), "fail since") {
			t.Errorf("command %d says nothing of it: %s %s", i, &h.out, &h.err)
		}
	}
	c.set(due.Add(30 * time.Minute))
	h.must(h.BackupIfDue(t.Context()))
	if s := h.status(); !s.Next.Equal(due.Add(time.Hour)) || !s.Failing.Equal(due) {
		t.Errorf("after a failure: %+v", s)
	}
	c.set(due.Add(time.Hour))
	h.must(h.BackupIfDue(t.Context()))
	if files, err := os.ReadDir(at.To); err != nil || len(files) > 0 {
		t.Errorf("a backup was made where nothing is mounted: %v %v", files, err)
	}
	if s := h.status(); !s.Failing.Equal(due) {
		t.Errorf("it fails since %s, want %s", s.Failing, due)
	}
	h.must(os.Remove(at.To))
	h.must(os.Rename(gone, at.To))
	c.set(due.Add(3 * time.Hour))
	h.look(at, 2)
	if s := h.status(); s.Failing != nil || s.Error != "" || !s.Made.Equal(c.Now()) {
		t.Errorf("when it is there again: %+v", s)
	}
}

// TestScheduleRefused says what is wrong with a wish, and keeps the one before.
func TestScheduleRefused(t *testing.T) {
	t.Parallel()
	h, _ := scheduled(t)
	folder := t.TempDir()
	good := mua.Schedule{To: folder, Every: 3600, Keep: mua.DefaultKeep()}
	h.must(h.desk("", false).BackupSchedule(t.Context(), good))
	tests := []struct {
		name   string
		change func(*mua.Schedule)
		usage  bool
		text   string
	}{
		{"no place", func(s *mua.Schedule) { s.To = "" }, true, "--to"},
		{"too often", func(s *mua.Schedule) { s.Every = 60 }, true, "--every"},
		{"drills in the past", func(s *mua.Schedule) { s.DrillEvery = -1 }, true, "--drill-every"},
		{"no key", func(s *mua.Schedule) { s.KeyFile = filepath.Join(folder, "none") }, false, "poczta backup key"},
		{"no credentials", func(s *mua.Schedule) { s.To, s.Credentials = "s3://a/b", filepath.Join(folder, "none") }, false, "credentials"},
	}
	for _, tt := range tests {
		s := good
		tt.change(&s)
		err := h.desk("", false).BackupSchedule(t.Context(), s)
		if err == nil || errors.Is(err, mua.ErrUsage) != tt.usage || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if s := h.status(); s.Schedule == nil || *s.Schedule != good {
		t.Errorf("the wish is %+v, want the one before", s.Schedule)
	}
	for _, tt := range []struct {
		text string
		want backup.Rules
		ok   bool
	}{{"all", backup.Rules{}, true}, {"last=3, daily=14,weekly=8,monthly=24", mua.DefaultKeep(), true}, {"monthly=1", backup.Rules{Monthly: 1}, true},
		{"", backup.Rules{}, false}, {"last=0", backup.Rules{}, false}, {"last=-1", backup.Rules{}, false}, {"yearly=1", backup.Rules{}, false}, {"last=3x", backup.Rules{}, false}} {
		got, err := mua.ParseKeep(tt.text)
		if (err == nil) != tt.ok || tt.ok && got != tt.want {
			t.Errorf("--keep %q: %+v, %v", tt.text, got, err)
		}
	}
}

// TestWatchBacksUp watches an account, and the backup is made and told of meanwhile; a command that
// makes one at the same time is told to wait.
func TestWatchBacksUp(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.add(poppeer.Dovecot(t, letters(3)), profile.Leave)
	at := place.Place{To: filepath.Join(t.TempDir(), "copies")}
	h.must(h.desk("", false).BackupSchedule(t.Context(), mua.Schedule{To: at.To, Every: 3600, Keep: mua.DefaultKeep(), DrillEvery: 3600}))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	out := &until{word: `"backup":{"schedule"`, stop: cancel}
	d := h.desk("", true)
	d.Out = out
	if err := d.Watch(ctx); err != nil {
		t.Fatal(err)
	}
	if s := h.status(); s.Made == nil || s.Drilled == nil || s.Failing != nil || !strings.Contains(out.String(), s.Backup) {
		t.Errorf("%+v\n%s", s, out)
	}
	h.must(h.desk("", false).BackupCreate(t.Context(), at, "test"))
}

// until stops when a word was written.
type until struct {
	mu   sync.Mutex
	b    bytes.Buffer
	word string
	stop func()
}

func (u *until) Write(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	n, err := u.b.Write(p)
	if strings.Contains(u.b.String(), u.word) {
		u.stop()
	}
	return n, err
}

func (u *until) String() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.b.String()
}

// TestBackupPlace makes a backup by hand, then has them made by themselves there: the newest is known
// at once, and no command needs the place any more.
func TestBackupPlace(t *testing.T) {
	t.Parallel()
	h, c := scheduled(t)
	a := h.add(&poppeer.Real{Plain: "127.0.0.1:9"}, profile.Leave)
	if err := h.desk("", false).BackupCreate(t.Context(), place.Place{}, "test"); !errors.Is(err, mua.ErrUsage) {
		t.Errorf("without a place: %v", err)
	}
	to := filepath.Join(t.TempDir(), "backups")
	h.must(h.desk("", false).BackupCreate(t.Context(), place.Place{To: to}, "test"))
	made := c.Now()
	c.set(made.Add(time.Hour))
	h.must(h.desk("", false).BackupSchedule(t.Context(), mua.Schedule{To: to, Every: 12 * 3600}))
	if s, err := h.BackupStatus(t.Context()); err != nil || s.Made == nil || !s.Made.Equal(made) || s.Backup == "" || !s.Next.Equal(made.Add(12*time.Hour)) {
		t.Errorf("the backup made before the schedule: %+v, %v", s, err)
	}
	if !strings.Contains(h.out.String(), "every 12h,") || strings.Contains(h.out.String(), "Newest: never") {
		t.Errorf("shown: %s", &h.out)
	}
	h.must(h.desk("", false).BackupCreate(t.Context(), place.Place{}, "test"))
	if err := h.desk("", false).BackupRestore(t.Context(), place.Place{}, mua.BackupRestoring{Selection: holdings.Selection{Account: a.Address}}); err == nil || !strings.Contains(err.Error(), "no letter of the backup matches") {
		t.Errorf("restored from a backup without letters: %v", err)
	}
	if s, err := h.BackupStatus(t.Context()); err != nil || s.Made == nil || !s.Made.Equal(c.Now()) {
		t.Errorf("one made by hand meanwhile: %+v, %v", s, err)
	}
	s, err := h.BackupStatus(t.Context())
	h.must(err)
	p, err := s.Place(place.Place{KeyFile: "own"})
	if want := (place.Place{To: to, KeyFile: "own"}); err != nil || p != want {
		t.Errorf("the place with a key of its own: %+v, %v", p, err)
	}
	if p, err = s.Place(place.Place{To: "elsewhere"}); err != nil || p != (place.Place{To: "elsewhere"}) {
		t.Errorf("another place: %+v, %v", p, err)
	}
}

func TestInterval(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{24 * time.Hour: "24h", 90 * time.Minute: "1h30m", time.Hour + time.Second: "1h0m1s", 100 * time.Hour: "100h", 10 * time.Minute: "10m"} {
		if got := mua.Interval(d); got != want {
			t.Errorf("%s is written %s", d, got)
		}
	}
}
