package mua

import (
	"context"
	"time"

	"poczta.example/poczta/internal/mua/page"
)

// ProgressText and Bar are what progress says.
var (
	ProgressText = progressText
	Bar          = bar
	Size         = size
	Printable    = printable
)

// Keeper is what the page has its work done by.
func (m *Mail) Keeper() page.Keeper { return keeper{m: m} }

// BackupIfDue is one look at the clock for the scheduled backup.
func (m *Mail) BackupIfDue(ctx context.Context) error { return m.backupIfDue(ctx) }

// BackupLate makes the scheduled backup, has something happen, and notes what became of it.
func (m *Mail) BackupLate(ctx context.Context, meanwhile func()) error {
	s, err := m.BackupStatus(ctx)
	if err != nil {
		return err
	}
	now := m.now()
	id, drilled, failure := m.backupScheduled(ctx, &s)
	meanwhile()
	return m.noteBackup(ctx, s.Schedule, now, id, drilled, failure)
}

// Interval is interval.
func Interval(d time.Duration) string { return interval(d) }
