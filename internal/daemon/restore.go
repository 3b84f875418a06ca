package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/backup/holdings"
	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/digest"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/obs"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/trace"
)

// Restore puts everything of a backup into an empty data folder, and an empty
// PostgreSQL database if the configuration says so. What was queued is held, reports
// and digests that were due are not sent. ErrBusy; holdings.ErrNotEmpty.
func Restore(ctx context.Context, c *config.Config, o RoomOptions, from *backup.Repository, s *backup.Snapshot, progress func(backup.Progress)) (done holdings.Restored, err error) {
	if o.Metrics == nil {
		o.Metrics = obs.NewMetrics()
	}
	r := &Rooms{Config: c}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := r.lock(false); err != nil {
		return done, err
	}
	if err := r.openEmpty(ctx, o); err != nil {
		return done, err
	}
	// Files first: a database that is whole says that all is restored.
	if err = holdings.Files(ctx, from, s, func(f holdings.File) error { return r.restoreFile(f) }); err != nil {
		return done, err
	}
	done, err = r.restore(ctx, from, s, progress)
	if err == nil && c.Store.Engine != "postgresql" {
		if err = r.restored(); err == nil {
			_, err = r.Snapshot(ctx, time.Now()) // for store rebuild
		}
	}
	return done, err
}

// restored takes the mark of a restore from the data folder.
func (r *Rooms) restored() error {
	if err := r.Files.Remove(restoringFile); err != nil {
		return fmt.Errorf("unmark data folder: %w", err)
	}
	return r.Files.SyncDir(".")
}

// unfinished is holdings.ErrUnfinished when a restore into the data folder was broken off.
func (r *Rooms) unfinished() error {
	if _, err := r.Files.Stat(restoringFile); err == nil {
		return fmt.Errorf("open data folder %s: %w", r.Config.Data, holdings.ErrUnfinished)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("open data folder: %w", err)
	}
	return nil
}

// openEmpty opens a database and a body store that have nothing in them.
func (r *Rooms) openEmpty(ctx context.Context, o RoomOptions) error {
	if err := r.Files.MkdirAll(SnapshotFolder); err != nil {
		return fmt.Errorf("make snapshot folder: %w", err)
	}
	if r.Config.Store.Engine == "postgresql" {
		d, err := db.OpenPostgres(ctx, db.PostgresConfig{URL: r.Config.Store.URL, MaxConns: r.Config.Store.Connections, Logger: o.Logger, Hooks: o.Metrics.Postgres()})
		if err != nil {
			return err
		}
		r.DB = d
	} else {
		if _, err := r.Files.Stat(DatabaseFile); err == nil {
			return fmt.Errorf("%w: %s has a database; name an empty data folder, or move that one away, also when it is what a restore has left that was broken off", holdings.ErrNotEmpty, r.Config.Data)
		}
		// A database without tables yet says nothing of the restore; this does.
		if err := disk.WriteFile(r.Files, restoringFile, []byte("poczta backup restore works here, or was broken off\n")); err != nil {
			return fmt.Errorf("mark data folder: %w", err)
		}
		d, err := db.OpenSQLite(ctx, db.SQLiteConfig{Path: r.Config.Sub(DatabaseFile), SnapshotDir: r.Config.Sub(SnapshotFolder), Logger: o.Logger})
		if err != nil {
			return err
		}
		r.DB = d
	}
	r.closers = append(r.closers, r.DB.Close)
	if !r.Config.BodiesInSegments() {
		rows, err := body.NewRows(body.RowsConfig{DB: r.DB, MaxOctets: maxBodyOctets, MemoryOctets: int64(r.Config.Limits.Memory) / 4, Logger: o.Logger})
		r.Body = rows
		return err
	}
	segments, err := body.OpenSegments(ctx, r.SegmentsConfig(o))
	if err != nil {
		return fmt.Errorf("open body store: %w", err)
	}
	r.Body, r.Segments = segments, segments
	r.closers = append(r.closers, segments.Close)
	return nil
}

// restore fills the rooms that openEmpty has opened.
func (r *Rooms) restore(ctx context.Context, from *backup.Repository, s *backup.Snapshot, progress func(backup.Progress)) (done holdings.Restored, err error) {
	if s.Kind != BackupKind {
		return done, fmt.Errorf("backup %s is of a %s's store; restore its accounts one by one: poczta backup restore ACCOUNT --into ADDRESS", s.ID, s.Kind)
	}
	mail, err := mailbox.New(mailbox.Config{DB: r.DB, Body: r.Body})
	if err != nil {
		return done, err
	}
	tr, err := trace.New(trace.Config{DB: r.DB})
	if err != nil {
		return done, err
	}
	q, err := queue.New(queue.Config{DB: r.DB, Trace: tr})
	if err != nil {
		return done, err
	}
	hold := func(tx db.Tx) (int64, error) {
		// Of the node that kept its bodies beside the old database, and of works done there.
		if _, err := tx.Exec(`DELETE FROM setting`); err != nil {
			return 0, err
		}
		if err := digest.SkipDay(tx, time.Now()); err != nil {
			return 0, err
		}
		return q.HoldAll(tx)
	}
	return holdings.All(ctx, from, s, holdings.Into{DB: r.DB, Body: r.Body, Components: Components(), Skip: notBackedUp(), Mailboxes: mail, Hold: hold, Progress: progress})
}

// restoreFile writes a file of the data folder.
func (r *Rooms) restoreFile(f holdings.File) error {
	name, ok := strings.CutPrefix(f.Name, backupDataPrefix)
	if !ok {
		return nil // the configuration is the caller's
	}
	if !cleanName(name) {
		return fmt.Errorf("restore file %q: its name leads out of the data folder", name)
	}
	if err := r.Files.MkdirAll(path.Dir(name)); err != nil {
		return fmt.Errorf("restore file %s: %w", name, err)
	}
	if err := disk.WriteFile(r.Files, name, f.Octets); err != nil {
		return fmt.Errorf("restore file %s: %w", name, err)
	}
	return nil
}

// Drill restores a server's backup into a scratch folder in folder, compares and removes
// it: see holdings.Drill.
func Drill(ctx context.Context, from *backup.Repository, s *backup.Snapshot, folder string) (holdings.DrillReport, error) {
	return holdings.Drill(ctx, from, s, folder, Components(), notBackedUp())
}
