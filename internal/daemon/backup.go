package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/backup/holdings"
	"poczta.example/poczta/internal/backup/place"
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/obs"
)

// BackupKind is the kind of a server's backups.
const BackupKind = "server"

// Names of files in a backup, and of the scratch copy in the data folder.
const (
	backupConfigFile = "config/poczta.toml"
	backupDataPrefix = "data/"
	momentFile       = "backup-moment.db"
)

// notBackedUp are tables that belong to running processes (leases, locks, what is
// noted for reports of the day), to one machine's files, or are made anew.
func notBackedUp() []string {
	return []string{"maildrop_lock", "node", "queued_shard", "rebuild_mark", "tls_count", "dmarc_count"}
}

// OpenBackups opens the repository that a configuration names. backup.ErrNoRepository
// when there is none, unless o.Make is set. Call the function returned at the end.
func OpenBackups(ctx context.Context, c config.Backup, o place.Options) (*backup.Repository, func(), error) {
	return place.Open(ctx, place.Place{To: c.To, Endpoint: c.Endpoint, Region: c.Region, Credentials: c.Credentials, KeyFile: c.KeyFile}, o)
}

// Moment takes a moment of the store, for a backup. The caller closes it.
func (r *Rooms) Moment(ctx context.Context, version string, log *slog.Logger) (*holdings.Moment, error) {
	return holdings.Open(ctx, holdings.Config{Kind: BackupKind, Version: version, DB: r.DB, Body: r.Body, Components: Components(),
		Scratch: r.Config.Sub(momentFile), Skip: notBackedUp(), Accounts: backupAccounts,
		Files: func() ([]holdings.File, error) { return r.backupFiles(log) }, Logger: log})
}

func backupAccounts(ctx context.Context, d db.Database, fn func(holdings.Account) error) error {
	return account.Each(ctx, d, func(id envelope.AccountID, login, address string) error {
		return fn(holdings.Account{ID: id, Login: login, Address: address})
	})
}

// backupFiles are the configuration and the certificates of the data folder.
func (r *Rooms) backupFiles(log *slog.Logger) (all []holdings.File, err error) {
	if r.ConfigFile != "" {
		octets, err := os.ReadFile(r.ConfigFile)
		switch {
		case err == nil:
			all = append(all, holdings.File{Name: backupConfigFile, Octets: octets})
		case log != nil:
			log.Warn("the configuration can't be read and is not backed up", "error", err)
		}
	}
	err = r.dataFiles(tlsFolder, &all)
	return all, err
}

// dataFiles adds the files below a folder of the data folder.
func (r *Rooms) dataFiles(folder string, all *[]holdings.File) error {
	names, err := r.Files.List(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("back up %s: %w", folder, err)
	}
	for _, n := range names {
		name := folder + "/" + n
		st, err := r.Files.Stat(name)
		switch {
		case errors.Is(err, fs.ErrNotExist): // replaced at this moment; the next backup has it
			continue
		case err == nil && st.Folder:
			err = r.dataFiles(name, all)
		case err == nil:
			var octets []byte
			if octets, err = disk.ReadFile(r.Files, name, backup.MaxData/2); errors.Is(err, fs.ErrNotExist) {
				continue
			}
			*all = append(*all, holdings.File{Name: backupDataPrefix + name, Octets: octets})
		}
		if err != nil {
			return fmt.Errorf("back up %s: %w", name, err)
		}
	}
	return nil
}

// Backup makes a backup now. One at a time: backup.ErrLocked while this process makes
// another.
func (r *Rooms) Backup(ctx context.Context, to *backup.Repository, version string, log *slog.Logger) (report backup.Report, err error) {
	if !r.backing.TryLock() {
		return report, fmt.Errorf("%w: this server makes a backup already; wait until it is done", backup.ErrLocked)
	}
	defer r.backing.Unlock()
	if err := r.roomForMoment(); err != nil {
		return report, err
	}
	m, err := r.Moment(ctx, version, log)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	return to.Create(ctx, m, m.Time())
}

// dropMoment removes the copy that a backup has left that was killed.
func (r *Rooms) dropMoment() error {
	for _, suffix := range []string{"", "-wal", "-shm", ".part"} {
		if err := r.Files.Remove(momentFile + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove what an interrupted backup left: %w", err)
		}
	}
	return nil
}

// roomForMoment refuses a copy of SQLite's database that would take the space below
// which mail is refused.
func (r *Rooms) roomForMoment() error {
	if r.DB.Engine() != "sqlite" {
		return nil
	}
	st, err := r.Files.Stat(DatabaseFile)
	if err != nil {
		return fmt.Errorf("back up database: %w", err)
	}
	free, err := r.Files.Free()
	if err != nil {
		return fmt.Errorf("back up database: %w", err)
	}
	if need := st.Size + int64(r.Config.Store.Reserve); free < need {
		return fmt.Errorf("back up database: its copy would leave less than store.reserve free in %s: %d MiB are free, %d MiB are needed; free some space", r.Config.Data, free>>20, need>>20)
	}
	return nil
}

// BackupRules are what a configuration keeps.
func BackupRules(c config.Backup) backup.Rules {
	return backup.Rules{Last: c.KeepLast, Daily: c.KeepDaily, Weekly: c.KeepWeekly, Monthly: c.KeepMonthly}
}

// How the daily backup is found due.
const (
	backupLook     = 10 * time.Minute
	backupAgain    = time.Hour // after one that failed
	settingBackup  = "backup_made"
	settingDrilled = "backup_drilled"
)

// backupDue says whether the daily backup is due at now: at has passed today since
// the last one. A time in the future is one of a clock that was wrong.
func backupDue(now, made time.Time, at time.Duration) bool {
	y, m, d := now.Date()
	begin := time.Date(y, m, d, 0, 0, 0, 0, now.Location()).Add(at)
	if begin.After(now) {
		begin = begin.AddDate(0, 0, -1)
	}
	return made.Before(begin) || made.After(now)
}

// backupLoop makes the daily backup, forgets old ones, and drills.
func (d *Daemon) backupLoop(ctx context.Context) error {
	var tried time.Time
	return every(ctx, backupLook, func() { tried = d.backupLooked(ctx, tried, time.Now()) })
}

// backupLooked makes the daily backup if it is due and none was tried for a while; it returns
// when one was tried.
func (d *Daemon) backupLooked(ctx context.Context, tried, now time.Time) time.Time {
	c := d.rooms.Config.Backup
	if c.To == "" {
		return tried
	}
	made, err := d.backupTimes(ctx, c)
	if now.Sub(tried) < backupAgain && !tried.After(now) || err == nil && !backupDue(now, made, c.At.Duration()) {
		return tried
	}
	work := obs.BackupMake
	if err == nil {
		work, err = d.backupNow(ctx, c, now, made.IsZero())
	}
	switch {
	case errors.Is(err, backup.ErrLocked): // another node is at it
		d.log.Info("daily backup waits", "error", err)
	case err != nil && ctx.Err() == nil:
		d.metrics.BackupFailed(work)
		d.log.Error("daily backup", "error", err)
	}
	return now
}

// backupTimes reads when the last daily backup and drill were, on whichever node, and shows
// them.
func (d *Daemon) backupTimes(ctx context.Context, c config.Backup) (made time.Time, err error) {
	if made, err = d.rooms.settingTime(ctx, settingBackup); err != nil {
		return made, err
	}
	d.metrics.BackupTime(made)
	if c.DrillEvery == 0 {
		return made, nil
	}
	drilled, err := d.rooms.settingTime(ctx, settingDrilled)
	if err == nil {
		d.metrics.DrillTime(drilled)
	}
	return made, err
}

// backupNow is one daily backup; it says which work of it failed. The repository is made for the
// first one only: later, one that is not there is a disk that is not mounted.
func (d *Daemon) backupNow(ctx context.Context, c config.Backup, now time.Time, first bool) (work string, err error) {
	r, end, err := OpenBackups(ctx, c, place.Options{Make: first, Rate: int64(c.Rate), Logger: d.log})
	if err != nil {
		return obs.BackupMake, err
	}
	defer end()
	report, err := d.rooms.Backup(ctx, r, d.c.Version, d.log)
	if err == nil {
		err = d.backupMade(ctx, c, report, now)
	}
	if err != nil {
		return obs.BackupMake, err
	}
	done, err := r.Prune(ctx, BackupRules(c))
	if err != nil {
		return obs.BackupPrune, err
	}
	d.log.Info("old backups forgotten", "backups", len(done.Forgotten), "freed", done.Freed)
	err = d.drillIfDue(ctx, r, c, report.Snapshot, now)
	if err == nil {
		_, err = d.backupTimes(ctx, c)
	}
	return obs.BackupDrill, err
}

// backupMade notes and tells of a daily backup.
func (d *Daemon) backupMade(ctx context.Context, c config.Backup, report backup.Report, now time.Time) error {
	d.log.Info("daily backup", "backup", report.Snapshot, "items", report.Items, "new_octets", report.NewOctets, "stored", report.Stored, "took", report.Took)
	if report.Damaged > 0 {
		d.log.Error("daily backup lacks messages that are damaged in the store; run poczta store check", "messages", report.Damaged)
	}
	d.metrics.BackupMade(report.Took, report.Octets, report.NewOctets, report.Stored)
	if err := d.rooms.noteTime(ctx, settingBackup, now); err != nil {
		return err
	}
	_, err := d.backupTimes(ctx, c)
	return err
}

func (d *Daemon) drillIfDue(ctx context.Context, r *backup.Repository, c config.Backup, id string, now time.Time) error {
	if c.DrillEvery == 0 {
		return nil
	}
	last, err := d.rooms.settingTime(ctx, settingDrilled)
	if err != nil || now.Sub(last) < c.DrillEvery.Duration() && !last.After(now) {
		return err
	}
	s, err := r.Snapshot(ctx, id)
	if err != nil {
		return err
	}
	report, err := Drill(ctx, r, s, d.c.Config.Data)
	if err != nil {
		return fmt.Errorf("backup drill: %w", err)
	}
	d.log.Info("backup drill", "backup", id, "messages", report.Compared.Messages, "octets", report.Compared.Octets)
	return d.rooms.noteTime(ctx, settingDrilled, now)
}

// settingTime reads a time of the table setting; zero when there is none.
func (r *Rooms) settingTime(ctx context.Context, name string) (at time.Time, err error) {
	err = r.DB.View(ctx, func(tx db.Tx) error {
		var value string
		err := tx.QueryRow(`SELECT value FROM setting WHERE name = ?`, name).Scan(&value)
		if errors.Is(err, db.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		n, err := strconv.ParseInt(value, 10, 64)
		at = db.FromMicros(n)
		return err
	})
	if err != nil {
		return at, fmt.Errorf("read setting %s: %w", name, err)
	}
	return at, nil
}

func (r *Rooms) noteTime(ctx context.Context, name string, at time.Time) error {
	err := r.DB.Update(ctx, func(tx db.Tx) error {
		_, err := tx.Exec(`INSERT INTO setting (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, micros(at))
		return err
	})
	if err != nil {
		return fmt.Errorf("write setting %s: %w", name, err)
	}
	return nil
}

// BackupConfiguration returns the configuration in a backup; fs.ErrNotExist when it
// has none.
func BackupConfiguration(ctx context.Context, r *backup.Repository, s *backup.Snapshot) (octets []byte, err error) {
	err = holdings.Files(ctx, r, s, func(f holdings.File) error {
		if f.Name == backupConfigFile {
			octets = f.Octets
		}
		return nil
	})
	if err == nil && octets == nil {
		err = fmt.Errorf("the backup holds no configuration: %w", fs.ErrNotExist)
	}
	return octets, err
}

// cleanName reports whether the name of a file in a backup stays in the data folder.
func cleanName(name string) bool { return filepath.IsLocal(filepath.FromSlash(name)) }
