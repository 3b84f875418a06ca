package daemon

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/obs"
	"poczta.example/poczta/internal/rebuild"
)

// Rebuild makes the database of a data folder anew from its segments and its
// newest snapshot, or without one when scratch is set. It takes the folder's
// lock: the error wraps ErrBusy while a server or a command has it.
func Rebuild(ctx context.Context, c *config.Config, o RoomOptions, scratch bool, progress func(rebuild.Progress)) (report rebuild.Report, err error) {
	if c.Store.Engine == "postgresql" {
		return report, errors.New("PostgreSQL's database is not rebuilt from segments: restore it from its own backup (pg_basebackup, pg_dump), then run poczta store check")
	}
	if o.Metrics == nil {
		o.Metrics = obs.NewMetrics()
	}
	r := &Rooms{Config: c}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := r.lock(false); err != nil {
		return report, err
	}
	if err := r.Files.MkdirAll(SnapshotFolder); err != nil {
		return report, fmt.Errorf("make snapshot folder: %w", err)
	}
	rc := rebuild.Config{FS: r.Files, Data: c.Data, Database: DatabaseFile, Components: Components(), Segments: r.SegmentsConfig(o),
		Domain: c.Hostname, Progress: progress, Logger: o.Logger}
	if !scratch {
		files, err := r.Snapshots()
		if err != nil {
			return report, err
		}
		for _, f := range files {
			rc.Snapshots = append(rc.Snapshots, SnapshotFolder+"/"+filepath.Base(f))
		}
	}
	return rebuild.Run(ctx, rc)
}
