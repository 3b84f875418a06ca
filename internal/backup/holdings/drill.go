package holdings

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/mailbox"
)

// DrillReport is what a drill found.
type DrillReport struct {
	Restored Restored `json:"restored"`
	Compared Compared `json:"compared"`
}

// drillPrefix begins the names of scratch folders.
const drillPrefix = "backup-drill-"

// Drill restores a snapshot into a scratch folder within folder, on SQLite and
// segments, compares every message's hash and every table's rows with the snapshot, and
// removes the scratch folder, also one that an earlier drill left. components and skip are those
// of Config. The error tells what was found wrong.
func Drill(ctx context.Context, r *backup.Repository, s *backup.Snapshot, folder string, components []db.Component, skip []string) (report DrillReport, err error) {
	left, err := filepath.Glob(filepath.Join(folder, drillPrefix+"*"))
	for _, l := range left {
		err = errors.Join(err, os.RemoveAll(l))
	}
	if err != nil {
		return report, fmt.Errorf("remove what an earlier drill left: %w", err)
	}
	scratch, err := os.MkdirTemp(folder, drillPrefix)
	if err != nil {
		return report, fmt.Errorf("make scratch folder: %w", err)
	}
	report, err = drill(ctx, r, s, scratch, components, skip)
	if err := errors.Join(err, os.RemoveAll(scratch)); err != nil {
		return report, err
	}
	if x := report.Compared; x.Missing+x.Different+x.RowsShort+report.Restored.Lost > s.Report.Damaged {
		return report, fmt.Errorf("backup %s is not whole: %d messages are missing, %d differ, %d could not be read, %d rows are missing; poczta backup verify tells more",
			s.ID, x.Missing, x.Different, report.Restored.Lost, x.RowsShort)
	}
	return report, nil
}

// drill works in a folder that is empty.
func drill(ctx context.Context, r *backup.Repository, s *backup.Snapshot, scratch string, components []db.Component, skip []string) (report DrillReport, err error) {
	files, err := disk.OS(scratch)
	if err != nil {
		return report, fmt.Errorf("open scratch folder: %w", err)
	}
	defer func() { err = errors.Join(err, files.Close()) }()
	d, err := db.OpenSQLite(ctx, db.SQLiteConfig{Path: filepath.Join(scratch, "drill.db"), SnapshotDir: filepath.Join(scratch, "snapshots")})
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	bodies, err := body.OpenSegments(ctx, body.Config{FS: files, DB: d, StoreID: d.StoreID()})
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, bodies.Close()) }()
	mail, err := mailbox.New(mailbox.Config{DB: d, Body: bodies})
	if err != nil {
		return report, err
	}
	report.Restored, err = All(ctx, r, s, Into{DB: d, Body: bodies, Components: components, Skip: skip, Mailboxes: mail})
	if err == nil {
		report.Compared, err = Compare(ctx, r, s, d, bodies)
	}
	return report, err
}
