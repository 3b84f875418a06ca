package mua

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/backup/place"
)

// BackupSchedule has backups made by themselves from now on, as s says. The place must be one that
// can be used; the repository is made with the first backup.
func (d *Desk) BackupSchedule(ctx context.Context, s Schedule) error {
	p := d.place(s.place())
	s.To, s.KeyFile, s.Credentials = p.To, p.KeyFile, p.Credentials
	if err := s.validate(); err != nil {
		return err
	}
	var newest *backup.Snapshot
	r, end, err := place.Open(ctx, p, place.Options{})
	switch {
	case err == nil:
		newest, err = d.Mail.newest(ctx, r)
		end()
		if err != nil {
			return fmt.Errorf("%w; nothing was changed", err)
		}
	case !errors.Is(err, backup.ErrNoRepository):
		return fmt.Errorf("%w; nothing was changed", err)
	}
	if err := d.Mail.schedule(ctx, &s, newest); err != nil {
		return err
	}
	return d.BackupScheduled(ctx)
}

// newest is the newest backup of this mail in a place; nil when there is none. One that can't be
// read counts as none: verify tells of it.
func (m *Mail) newest(ctx context.Context, r *backup.Repository) (*backup.Snapshot, error) {
	all, err := r.List(ctx)
	if err != nil && !errors.Is(err, backup.ErrDamaged) {
		return nil, err
	}
	for _, s := range slices.Backward(all) {
		if s.Kind == BackupKind && s.Origin == m.Store.DB().StoreID() {
			return s, nil
		}
	}
	return nil, nil
}

// BackupUnschedule ends scheduled backups; those that were made stay.
func (d *Desk) BackupUnschedule(ctx context.Context) error {
	if err := d.Mail.schedule(ctx, nil, nil); err != nil {
		return err
	}
	return d.BackupScheduled(ctx)
}

// BackupScheduled shows which backups are made by themselves, and what became of them.
func (d *Desk) BackupScheduled(ctx context.Context) error {
	s, err := d.Mail.BackupStatus(ctx)
	if err != nil {
		return err
	}
	if d.JSON {
		return d.encode(s)
	}
	if s.Schedule == nil {
		d.say("%s", choose(d.Language, "No backup is made by itself. poczta mail backup schedule --to PLACE has them made.", "Kopie zapasowe nie powstają same. Włącza je: poczta mail backup schedule --to MIEJSCE"))
		return nil
	}
	w := s.Schedule
	d.say(choose(d.Language, "A backup to %s every %s, while poczta mail open or poczta mail sync --watch runs; kept: %s.", "Kopia zapasowa do %s co %s, gdy działa poczta mail open albo poczta mail sync --watch; zostają: %s."),
		w.To, interval(w.every()), keepRules(w.Keep))
	when := func(t *time.Time) string {
		if t == nil {
			return choose(d.Language, "never", "nigdy")
		}
		return t.Local().Format(time.DateTime)
	}
	d.say(choose(d.Language, "Newest: %s. Restored for a try: %s. Next: %s.", "Najnowsza: %s. Odtworzona na próbę: %s. Następna: %s."), when(s.Made), when(s.Drilled), when(s.Next))
	if text := s.Trouble(d.Language); text != "" {
		d.say("%s", text)
	}
	return nil
}

// backupTrouble says what is wrong with the scheduled backups, if anything is, beside the output.
func (d *Desk) backupTrouble(ctx context.Context) error {
	s, err := d.Mail.BackupStatus(ctx)
	if err != nil {
		return err
	}
	if text := s.Trouble(d.Language); text != "" {
		fmt.Fprintf(d.Err, "%s\n", printable(text))
	}
	return nil
}

// backupRow is what sync --watch --json tells of a scheduled backup.
type backupRow struct {
	Backup BackupStatus `json:"backup"`
}

// backupTold tells of a scheduled backup.
func (d *Desk) backupTold(s BackupStatus) {
	if d.JSON {
		_ = d.encode(backupRow{s}) // a reader that is gone is seen by who opened the output
		return
	}
	text := s.Trouble(d.Language)
	if text == "" {
		text = fmt.Sprintf(choose(d.Language, "backup %s is made", "powstała kopia zapasowa %s"), s.Backup)
	}
	d.say("%s %s", d.Mail.now().Local().Format(time.TimeOnly), text)
}
