package obs

import "time"

// Works of a scheduled backup, as its failures are counted by.
const (
	BackupMake  = "backup"
	BackupPrune = "prune"
	BackupDrill = "drill"
)

// backupFigures are those of the scheduled backups. Their series begin when backups are
// configured: an alert on one that is old says nothing where none are wanted.
type backupFigures struct {
	made     *family //
	drilled  *family //
	seconds  *family //
	octets   *family // of
	failures *family // work
}

func (m *Metrics) backups() *backupFigures {
	return &backupFigures{
		made:     gauges(m, "poczta_backup_last_success_timestamp_seconds", "When the newest scheduled backup was made, in seconds since 1970; 0 for never."),
		drilled:  gauges(m, "poczta_backup_last_drill_timestamp_seconds", "When a scheduled backup was last restored for a try and found whole, in seconds since 1970; 0 for never."),
		seconds:  gauges(m, "poczta_backup_last_duration_seconds", "How long the newest scheduled backup took."),
		octets:   gauges(m, "poczta_backup_last_octets", "Octets of the newest scheduled backup: all that it holds, read anew, and stored.", "of"),
		failures: counters(m, "poczta_backup_failures_total", "Scheduled backups, prunes and drills that failed.", "work"),
	}
}

// BackupTime tells when the newest scheduled backup was made; zero is never.
func (m *Metrics) BackupTime(made time.Time) {
	m.backup.made.with().set(unix(made))
	for _, work := range []string{BackupMake, BackupPrune, BackupDrill} {
		m.backup.failures.with(work).add(0) // an increase is seen from the first one on
	}
}

// DrillTime tells when a scheduled backup was last tried and found whole; zero is never.
func (m *Metrics) DrillTime(drilled time.Time) { m.backup.drilled.with().set(unix(drilled)) }

func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.Unix())
}

// BackupMade tells of a scheduled backup that was made: how long it took, the octets that it
// holds, those that were read anew, and those that were written to its place.
func (m *Metrics) BackupMade(took time.Duration, all, fresh, stored int64) {
	m.backup.seconds.with().set(took.Seconds())
	m.backup.octets.with("all").set(float64(all))
	m.backup.octets.with("new").set(float64(fresh))
	m.backup.octets.with("stored").set(float64(stored))
}

// BackupFailed counts a scheduled work that failed.
func (m *Metrics) BackupFailed(work string) { m.backup.failures.with(work).inc() }
