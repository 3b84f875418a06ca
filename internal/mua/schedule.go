package mua

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/backup/holdings"
	"poczta.example/poczta/internal/backup/place"
	"poczta.example/poczta/internal/db"
)

// scheduleSchema is the person's wish of backups, and what became of it: one row, or none.
var scheduleSchema = db.Component{Name: "mua-backup", Steps: []db.Step{{Number: 1, SQL: `
CREATE TABLE backup_schedule (
	one {int} NOT NULL PRIMARY KEY, wish {text} NOT NULL, since {int} NOT NULL, made {int} NOT NULL, drilled {int} NOT NULL,
	tried {int} NOT NULL, failed {int} NOT NULL, error {text} NOT NULL, snapshot {text} NOT NULL) {rowid}`}}}

// Schedule is a person's wish of backups that are made by themselves, while Run runs with watch.
type Schedule struct {
	To          string       `json:"to"` // as place.Place
	KeyFile     string       `json:"key_file,omitempty"`
	Endpoint    string       `json:"endpoint,omitempty"`
	Region      string       `json:"region,omitempty"`
	Credentials string       `json:"credentials,omitempty"`
	Every       int64        `json:"every"` // seconds from one backup to the next; at least LeastBackupEvery
	Keep        backup.Rules `json:"keep"`
	DrillEvery  int64        `json:"drill_every"` // seconds; 0 never tries a restore
}

// Bounds of Schedule.
const (
	LeastBackupEvery   = time.Hour
	MostBackupEvery    = 366 * 24 * time.Hour
	DefaultBackupEvery = 24 * time.Hour
	DefaultDrillEvery  = 30 * 24 * time.Hour
)

// Times of the scheduled backup.
const (
	scheduleLook  = time.Minute // a schedule that was changed counts so much later at most
	scheduleAgain = time.Hour   // after one that failed
)

// DefaultKeep is which backups stay when a person says nothing.
func DefaultKeep() backup.Rules { return backup.Rules{Last: 3, Daily: 14, Weekly: 8, Monthly: 24} }

// ParseKeep reads which backups stay: "all", or "last=3,daily=14,weekly=8,monthly=24"; what is
// not named is 0. ErrUsage.
func ParseKeep(s string) (r backup.Rules, err error) {
	if s == "all" {
		return r, nil
	}
	for word := range strings.SplitSeq(s, ",") {
		name, number, _ := strings.Cut(strings.TrimSpace(word), "=")
		n, err := strconv.Atoi(number)
		to := map[string]*int{"last": &r.Last, "daily": &r.Daily, "weekly": &r.Weekly, "monthly": &r.Monthly}[name]
		if err != nil || n < 0 || n > 100_000 || to == nil {
			return r, fmt.Errorf("%w: --keep %q; say all, or as in last=3,daily=14,weekly=8,monthly=24", ErrUsage, s)
		}
		*to = n
	}
	if r == (backup.Rules{}) {
		return r, fmt.Errorf("%w: --keep %q keeps none; say all to keep every backup", ErrUsage, s)
	}
	return r, nil
}

// keepRules writes rules as ParseKeep reads them.
func keepRules(r backup.Rules) string {
	if r == (backup.Rules{}) {
		return "all"
	}
	return fmt.Sprintf("last=%d,daily=%d,weekly=%d,monthly=%d", r.Last, r.Daily, r.Weekly, r.Monthly)
}

func (s *Schedule) place() place.Place {
	return place.Place{To: s.To, KeyFile: s.KeyFile, Endpoint: s.Endpoint, Region: s.Region, Credentials: s.Credentials}
}

// Place is where a command finds backups: own, or without own.To the place of the scheduled
// backups, of which own replaces what it names. ErrUsage when there is neither.
func (s *BackupStatus) Place(own place.Place) (place.Place, error) {
	if own.To != "" {
		return own, nil
	}
	if s.Schedule == nil {
		return own, fmt.Errorf("%w: name the place of the backups with --to FOLDER or --to s3://BUCKET/PREFIX; after poczta mail backup schedule --to PLACE it need not be named", ErrUsage)
	}
	p := s.Schedule.place()
	for _, f := range []struct {
		to  *string
		own string
	}{{&p.KeyFile, own.KeyFile}, {&p.Endpoint, own.Endpoint}, {&p.Region, own.Region}, {&p.Credentials, own.Credentials}} {
		if f.own != "" {
			*f.to = f.own
		}
	}
	return p, nil
}

// interval writes a time without the parts that are 0: 24h, 1h30m.
func interval(d time.Duration) string {
	text := strings.TrimSuffix(d.String(), "m0s") // 12h0m0s, 1h30m0s
	switch {
	case text == d.String():
	case strings.HasSuffix(text, "h0"):
		text = strings.TrimSuffix(text, "0")
	default:
		text += "m"
	}
	return text
}

func (s *Schedule) every() time.Duration { return time.Duration(s.Every) * time.Second }

func (s *Schedule) validate() error {
	switch {
	case s.To == "":
		return fmt.Errorf("%w: name a place with --to FOLDER or --to s3://BUCKET/PREFIX", ErrUsage)
	case s.every() < LeastBackupEvery || s.every() > MostBackupEvery:
		return fmt.Errorf("%w: --every must be from 1h to 366 days", ErrUsage)
	case s.DrillEvery < 0 || s.DrillEvery > int64(10*MostBackupEvery/time.Second):
		return fmt.Errorf("%w: --drill-every must be 0s, for never, or up to ten years", ErrUsage)
	}
	return nil
}

// BackupStatus says what became of a person's scheduled backups.
type BackupStatus struct {
	Schedule *Schedule  `json:"schedule"`          // nil when none is wished
	Made     *time.Time `json:"made,omitempty"`    // the newest one; nil for never
	Backup   string     `json:"backup,omitempty"`  // its id
	Drilled  *time.Time `json:"drilled,omitempty"` // when one was last restored for a try, and found whole
	Next     *time.Time `json:"next,omitempty"`    // when it is due, if Run runs with watch then
	Failing  *time.Time `json:"failing,omitempty"` // since when it fails; nil while it does not
	Error    string     `json:"error,omitempty"`   // why
	Late     bool       `json:"late,omitempty"`    // due for longer than its interval: nothing runs that would make it
	since    time.Time  // when it was wished
	tried    time.Time
}

// Trouble says in a sentence what is wrong with the scheduled backups; "" when nothing is.
func (s *BackupStatus) Trouble(language string) string {
	switch {
	case s.Failing != nil:
		return fmt.Sprintf(choose(language, "Backups to %s fail since %s: %s", "Kopie zapasowe do %s nie udają się od %s: %s"), s.Schedule.To, s.Failing.Local().Format(time.DateTime), s.Error)
	case s.Late && s.Made == nil:
		return fmt.Sprintf(choose(language, "No backup to %s was made yet; it is made while poczta mail open or poczta mail sync --watch runs.",
			"Nie ma jeszcze kopii zapasowej w %s; powstaje, gdy działa poczta mail open albo poczta mail sync --watch."), s.Schedule.To)
	case s.Late:
		return fmt.Sprintf(choose(language, "The newest backup to %s is of %s; they are made while poczta mail open or poczta mail sync --watch runs.",
			"Najnowsza kopia zapasowa w %s jest z %s; kopie powstają, gdy działa poczta mail open albo poczta mail sync --watch."), s.Schedule.To, s.Made.Local().Format(time.DateTime))
	}
	return ""
}

// BackupStatus reads what became of the scheduled backups. Cheap: one small row.
func (m *Mail) BackupStatus(ctx context.Context) (s BackupStatus, err error) {
	var wish string
	var since, made, drilled, tried, failed int64
	err = m.Store.DB().View(ctx, func(tx db.Tx) error {
		return tx.QueryRow(`SELECT wish, since, made, drilled, tried, failed, error, snapshot FROM backup_schedule WHERE one = 1`).
			Scan(&wish, &since, &made, &drilled, &tried, &failed, &s.Error, &s.Backup)
	})
	if errors.Is(err, db.ErrNotFound) {
		return BackupStatus{}, nil
	}
	if err == nil {
		err = json.Unmarshal([]byte(wish), &s.Schedule)
	}
	if err != nil {
		return s, fmt.Errorf("read schedule of backups: %w", err)
	}
	moment := func(micros int64) *time.Time {
		if micros == 0 {
			return nil
		}
		t := db.FromMicros(micros)
		return &t
	}
	s.Made, s.Drilled, s.Failing = moment(made), moment(drilled), moment(failed)
	s.since, s.tried = db.FromMicros(since), db.FromMicros(tried)
	next := s.due()
	s.Next, s.Late = &next, m.now().After(next.Add(s.Schedule.every()))
	return s, nil
}

// due is when the next backup is. What was made in the future was made by a wrong clock.
func (s *BackupStatus) due() time.Time {
	next := s.since
	if s.Made != nil {
		next = s.Made.Add(s.Schedule.every())
	}
	if s.Failing != nil {
		if again := s.tried.Add(min(scheduleAgain, s.Schedule.every())); again.After(next) {
			next = again
		}
	}
	return next
}

// isDue says whether a backup is to be made at now.
func (s *BackupStatus) isDue(now time.Time) bool {
	return s.Schedule != nil && (!now.Before(s.due()) || s.Made != nil && s.Made.After(now) || s.tried.After(now))
}

// schedule stores a wish; nil ends it. newest is the newest backup of this mail in a new place; nil for none.
func (m *Mail) schedule(ctx context.Context, s *Schedule, newest *backup.Snapshot) error {
	if s == nil {
		return m.Store.DB().Update(ctx, func(tx db.Tx) error {
			_, err := tx.Exec(`DELETE FROM backup_schedule`)
			return err
		})
	}
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	made := int64(0)
	if newest == nil {
		newest = &backup.Snapshot{}
	} else {
		made = db.Micros(newest.Time)
	}
	return m.Store.DB().Update(ctx, func(tx db.Tx) error {
		same, err := isPlace(tx, s)
		if err != nil {
			return err
		}
		if same {
			_, err := tx.Exec(`UPDATE backup_schedule SET wish = ?, failed = 0, error = '', tried = 0`, string(text))
			return err
		}
		_, err = tx.Exec(`INSERT INTO backup_schedule (one, wish, since, made, drilled, tried, failed, error, snapshot) VALUES (1, ?, ?, ?, 0, 0, 0, '', ?)
			ON CONFLICT (one) DO UPDATE SET wish = excluded.wish, since = excluded.since, made = excluded.made, drilled = 0, tried = 0, failed = 0, error = '', snapshot = excluded.snapshot`,
			string(text), db.Micros(m.now()), made, newest.ID)
		return err
	})
}

// isPlace says whether backups to the place of s are wished now.
func isPlace(tx db.Tx, s *Schedule) (bool, error) {
	var wish string
	err := tx.QueryRow(`SELECT wish FROM backup_schedule WHERE one = 1`).Scan(&wish)
	if errors.Is(err, db.ErrNotFound) {
		return false, nil
	}
	var is Schedule
	if err == nil {
		err = json.Unmarshal([]byte(wish), &is)
	}
	return is.To == s.To && is.Endpoint == s.Endpoint, err
}

// backups makes the scheduled backups until ctx ends. That one fails is no error of its: it is noted.
func (m *Mail) backups(ctx context.Context) error {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		if err := m.backupIfDue(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		t.Reset(scheduleLook)
	}
}

// backupIfDue makes the scheduled backup when it is due, forgets old ones, tries a restore when
// that is due, and notes and tells what became of it.
func (m *Mail) backupIfDue(ctx context.Context) error {
	s, err := m.BackupStatus(ctx)
	now := m.now()
	if err != nil || !s.isDue(now) {
		return err
	}
	id, drilled, failure := m.backupScheduled(ctx, &s)
	if ctx.Err() != nil {
		return nil
	}
	if errors.Is(failure, backup.ErrLocked) && s.Failing == nil && now.Sub(s.due()) < scheduleAgain {
		return nil // a command of the person's is at it, or another computer: at the next look
	}
	if err := m.noteBackup(ctx, s.Schedule, now, id, drilled, failure); err != nil {
		return err
	}
	if s, err = m.BackupStatus(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	told := slices.Clone(m.backupTold)
	m.mu.Unlock()
	for _, f := range told {
		(*f)(s)
	}
	return nil
}

// backupScheduled is one scheduled backup: its id as soon as it is made, and whether one was
// restored for a try.
func (m *Mail) backupScheduled(ctx context.Context, s *BackupStatus) (id string, drilled bool, err error) {
	// The place is made for the first one only: later, one that is not there is a disk that is not mounted.
	r, end, err := place.Open(ctx, s.Schedule.place(), place.Options{Make: s.Made == nil, Logger: m.conf.Logger})
	if err != nil {
		return "", false, err
	}
	defer end()
	report, err := m.backUp(ctx, r, m.conf.Version)
	if err != nil {
		return "", false, err
	}
	id = report.Snapshot
	if _, err := r.Prune(ctx, s.Schedule.Keep); err != nil {
		return id, false, err
	}
	if every := time.Duration(s.Schedule.DrillEvery) * time.Second; every > 0 && (s.Drilled == nil || m.now().Sub(*s.Drilled) >= every || s.Drilled.After(m.now())) {
		if _, err := Drill(ctx, r, id, m.conf.Folder); err != nil {
			return id, false, fmt.Errorf("the backup was made, but could not be restored for a try: %w", err)
		}
		drilled = true
	}
	if report.Damaged > 0 {
		return id, drilled, fmt.Errorf("%d letters are damaged here and are in the backup without their octets; restore them from an older backup", report.Damaged)
	}
	return id, drilled, nil
}

// noteBackup stores what became of a backup, wished by s, that was tried at now. When the person has wished another
// place meanwhile, nothing became of that yet.
func (m *Mail) noteBackup(ctx context.Context, s *Schedule, now time.Time, id string, drilled bool, failure error) error {
	at := db.Micros(now)
	err := m.Store.DB().Update(ctx, func(tx db.Tx) error {
		if same, err := isPlace(tx, s); err != nil || !same {
			return err
		}
		if _, err := tx.Exec(`UPDATE backup_schedule SET tried = ?`, at); err != nil {
			return err
		}
		if id != "" {
			if _, err := tx.Exec(`UPDATE backup_schedule SET made = ?, snapshot = ?`, at, id); err != nil {
				return err
			}
		}
		if drilled {
			if _, err := tx.Exec(`UPDATE backup_schedule SET drilled = ?`, at); err != nil {
				return err
			}
		}
		if failure == nil {
			_, err := tx.Exec(`UPDATE backup_schedule SET failed = 0, error = ''`)
			return err
		}
		_, err := tx.Exec(`UPDATE backup_schedule SET failed = CASE WHEN failed = 0 THEN ? ELSE failed END, error = ?`, at, db.Text(failure.Error()))
		return err
	})
	if err != nil {
		return fmt.Errorf("note what became of a backup: %w", err)
	}
	return nil
}

// followBackups has f told what becomes of scheduled backups until the returned function is called.
func (m *Mail) followBackups(f func(BackupStatus)) (end func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.backupTold = append(m.backupTold, &f)
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.backupTold = slices.DeleteFunc(m.backupTold, func(x *func(BackupStatus)) bool { return x == &f })
	}
}

// backUp makes a backup, one at a time: backup.ErrLocked while another command makes one.
func (m *Mail) backUp(ctx context.Context, r *backup.Repository, version string) (report backup.Report, err error) {
	if !m.backing.TryLock() {
		return report, fmt.Errorf("%w: a backup is being made already; wait until it is done", backup.ErrLocked)
	}
	defer m.backing.Unlock()
	var moment *holdings.Moment
	if moment, err = m.Moment(ctx, version); err != nil {
		return report, err
	}
	report, err = r.Create(ctx, moment, moment.Time())
	return report, errors.Join(err, moment.Close())
}
