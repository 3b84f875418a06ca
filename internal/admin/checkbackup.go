package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/backup/place"
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/daemon"
)

// oldBackup is from what age of the newest backup on a daily one must have failed.
const oldBackup = 26 * time.Hour

// checkBackups looks whether the backups that the configuration names are there, can
// be read, and are young.
func checkBackups(ctx context.Context, c *config.Config, now time.Time) []Finding {
	if c.Backup.To == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	find := func(level Level, key, remedy, text string, args ...any) []Finding {
		return []Finding{{Level: level, Area: "backup", Key: key, Text: fmt.Sprintf(text, args...), Remedy: remedy}}
	}
	r, end, err := daemon.OpenBackups(ctx, c.Backup, place.Options{})
	switch {
	case errors.Is(err, backup.ErrNoRepository):
		return find(Warning, "backup.to", "poczta backup create makes the first one now; a disk that should be there may not be mounted", "there is no backup in %s yet", c.Backup.To)
	case err != nil:
		return find(Failed, "backup.to", "correct [backup]; until then no backup is made", "%s", err)
	}
	defer end()
	s, err := r.At(ctx, daemon.BackupKind, time.Time{})
	switch {
	case errors.Is(err, backup.ErrNotFound):
		return find(Warning, "backup.to", "poczta backup create makes one now", "no backup was made yet")
	case err != nil:
		return find(Failed, "backup.to", "poczta backup verify tells more", "%s", err)
	case now.Sub(s.Time) > oldBackup:
		return find(Failed, "backup.at", "the server's log says why, at \"daily backup\"; poczta backup create makes one now", "the newest backup is of %s", s.Time.Format(time.RFC3339))
	}
	return find(Fine, "backup.to", "", "the newest backup is of %s", s.Time.Format(time.RFC3339))
}
