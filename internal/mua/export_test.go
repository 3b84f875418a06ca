package mua

import (
	"context"
	"time"
)

// ProgressText and Bar are what progress says.
var (
	ProgressText = progressText
	Bar          = bar
	Size         = size
	Printable    = printable
)

// BackupIfDue is one look at the clock for the scheduled backup.
func (m *Mail) BackupIfDue(ctx context.Context) error { return m.backupIfDue(ctx) }

// Interval is interval.
func Interval(d time.Duration) string { return interval(d) }
