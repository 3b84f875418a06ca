package mua

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/backup/holdings"
	"poczta.example/poczta/internal/backup/place"
	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mua/store"
	"poczta.example/poczta/internal/mua/vault"
)

// BackupKind is what backups of a person's mail are called in a repository.
const BackupKind = "person"

// momentFile is the scratch file of a backup, in the mail folder.
const momentFile = "moment.db"

// tables are those of all rooms.
func tables() []db.Component {
	return append([]db.Component{body.Schema, mailbox.Schema, store.Schema}, Components()...)
}

// maxLetterOctets bounds a letter that comes back; it is the store's bound and more.
const maxLetterOctets = 4 << 30

// Moment takes a moment of the mail, for a backup: letters, flags, accounts, rules, drafts, the
// outbox and the encrypted file of secrets; what lies in a keyring is not in it. The caller closes
// it; one may be open at a time.
func (m *Mail) Moment(ctx context.Context, version string) (*holdings.Moment, error) {
	return holdings.Open(ctx, holdings.Config{Kind: BackupKind, Version: version, DB: m.Store.DB(), Body: m.Store.Segments(), Components: tables(),
		Scratch: filepath.Join(m.conf.Folder, momentFile), Accounts: m.backedUp, Files: m.secretsFile, Now: m.conf.Now, Logger: m.conf.Logger})
}

func (m *Mail) backedUp(ctx context.Context, _ db.Database, fn func(holdings.Account) error) error {
	list, err := m.Accounts.List(ctx)
	if err != nil {
		return err
	}
	for _, a := range list {
		if err := fn(holdings.Account{ID: a.ID, Login: a.Address, Address: a.Address}); err != nil {
			return err
		}
	}
	return nil
}

func (m *Mail) secretsFile() ([]holdings.File, error) {
	octets, err := os.ReadFile(filepath.Join(m.conf.Folder, vault.FileName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("back up secrets: %w", err)
	}
	return []holdings.File{{Name: vault.FileName, Octets: octets}}, nil
}

// BackupCreate makes a backup now; the repository is made when there is none.
func (d *Desk) BackupCreate(ctx context.Context, p place.Place, version string) error {
	m := newMeter(d, "backup")
	defer m.end()
	wish, p, err := d.backups(ctx, p)
	if err != nil {
		return err
	}
	r, end, err := place.Open(ctx, p, place.Options{Make: true, Progress: m.backedUp, Logger: d.Mail.conf.Logger})
	if err != nil {
		return err
	}
	defer end()
	report, err := d.Mail.backUp(ctx, r, version)
	if err == nil && report.Damaged == 0 && wish.Schedule != nil && wish.Schedule.place() == p {
		err = d.Mail.noteBackup(ctx, wish.Schedule, d.Mail.now(), report.Snapshot, false, nil) // the next one is due later
	}
	if err != nil {
		return err
	}
	m.end()
	if d.JSON {
		if err := d.encode(report); err != nil {
			return err
		}
	} else {
		d.say("Backup %s: %d items, %s; %d of them new, %s; %s stored.", report.Snapshot, report.Items, size(report.Octets), report.NewItems, size(report.NewOctets), size(report.Stored))
	}
	if report.Damaged > 0 {
		return fmt.Errorf("%d letters are damaged here and are in the backup without their octets; all others are backed up", report.Damaged)
	}
	return nil
}

// place has the paths that the caller of the command meant.
func (d *Desk) place(p place.Place) place.Place {
	if _, _, s3 := place.S3(p.To); !s3 {
		p.To = d.filePath(p.To)
	}
	p.KeyFile, p.Credentials = d.filePath(p.KeyFile), d.filePath(p.Credentials)
	return p
}

// backups is the place that a command means, and what became of the scheduled backups.
func (d *Desk) backups(ctx context.Context, own place.Place) (BackupStatus, place.Place, error) {
	s, err := d.Mail.BackupStatus(ctx)
	if err != nil {
		return s, own, err
	}
	p, err := s.Place(d.place(own))
	return s, p, err
}

// backedUp is at for a backup.
func (m *meter) backedUp(p backup.Progress) {
	m.at(int(p.Items), int(p.TotalItems), p.Octets, p.TotalOctets, p.Step)
}

// snapshot is the backup that a person means: by id, or the newest at or before a time.
func snapshot(ctx context.Context, r *backup.Repository, id, kind string, at time.Time) (*backup.Snapshot, error) {
	if id != "" {
		return r.Snapshot(ctx, id)
	}
	return r.At(ctx, kind, at)
}

// Drill restores the newest backup of mail into a scratch folder within folder, compares every
// letter, and removes it.
func Drill(ctx context.Context, r *backup.Repository, id, folder string) (holdings.DrillReport, error) {
	s, err := snapshot(ctx, r, id, BackupKind, time.Time{})
	if err != nil {
		return holdings.DrillReport{}, err
	}
	return holdings.Drill(ctx, r, s, folder, tables(), nil)
}

// Restore brings everything of a backup back into a folder that is not there yet: on a new machine,
// or beside the old one. Nothing is sent by itself afterwards. Killed at any instant, the folder is
// whole or not there; what was half done (FOLDER.restoring) is removed by the next try.
func Restore(ctx context.Context, r *backup.Repository, id string, at time.Time, c Config, progress func(backup.Progress)) (done holdings.Restored, err error) {
	s, err := snapshot(ctx, r, id, BackupKind, at)
	if err != nil {
		return done, err
	}
	if s.Kind != BackupKind {
		return done, fmt.Errorf("backup %s is of a %s; bring the letters of one account back with: poczta mail backup restore ACCOUNT", s.ID, s.Kind)
	}
	if _, err := os.Lstat(c.Folder); !errors.Is(err, fs.ErrNotExist) {
		return done, fmt.Errorf("%w: %s is there already; name another folder with --data, or move that one away", holdings.ErrNotEmpty, c.Folder)
	}
	scratch := c.Folder + ".restoring"
	if err := os.RemoveAll(scratch); err != nil {
		return done, fmt.Errorf("remove what a restore has left: %w", err)
	}
	if err := os.MkdirAll(scratch, 0o700); err != nil {
		return done, fmt.Errorf("make folder: %w", err)
	}
	if done, err = fill(ctx, r, s, scratch, progress); err != nil {
		return done, err
	}
	final := c.Folder
	c.Folder = scratch
	m, err := Open(ctx, c)
	if err != nil {
		return done, err
	}
	err = m.Outbox.Hold(ctx, "the mail was restored from a backup, and this may have been sent since")
	if err == nil {
		err = m.Store.Reconcile(ctx)
	}
	if err == nil {
		err = m.Store.Reindex(ctx, nil)
	}
	if err = errors.Join(err, m.Close()); err != nil {
		return done, err
	}
	return done, moveInto(scratch, final)
}

// fill restores into an empty folder.
func fill(ctx context.Context, r *backup.Repository, s *backup.Snapshot, folder string, progress func(backup.Progress)) (done holdings.Restored, err error) {
	files, err := disk.OS(folder)
	if err != nil {
		return done, fmt.Errorf("open folder: %w", err)
	}
	defer func() { err = errors.Join(err, files.Close()) }()
	if err := files.MkdirAll(store.SnapshotFolder); err != nil {
		return done, fmt.Errorf("make folder: %w", err)
	}
	d, err := db.OpenSQLite(ctx, db.SQLiteConfig{Path: filepath.Join(folder, store.DatabaseFile), SnapshotDir: filepath.Join(folder, store.SnapshotFolder)})
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	bodies, err := body.OpenSegments(ctx, body.Config{FS: files, Folder: store.SegmentFolder, DB: d, StoreID: d.StoreID(), MaxOctets: maxLetterOctets})
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, bodies.Close()) }()
	mail, err := mailbox.New(mailbox.Config{DB: d, Body: bodies})
	if err != nil {
		return done, err
	}
	if done, err = holdings.All(ctx, r, s, holdings.Into{DB: d, Body: bodies, Components: tables(), Mailboxes: mail, Progress: progress}); err != nil {
		return done, err
	}
	return done, holdings.Files(ctx, r, s, func(f holdings.File) error {
		if f.Name != vault.FileName {
			return nil
		}
		return disk.WriteFile(files, f.Name, f.Octets)
	})
}

// moveInto gives the whole folder its name, durably.
func moveInto(from, to string) error {
	files, err := disk.OS(filepath.Dir(to))
	if err != nil {
		return fmt.Errorf("open folder: %w", err)
	}
	return errors.Join(files.Rename(filepath.Base(from), filepath.Base(to)), files.SyncDir("."), files.Close())
}
