package db

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"poczta.example/poczta/internal/disk"
)

// Snapshot writes a whole, compact copy of the database as of now to path, which
// must not exist yet. Other work goes on meanwhile; the write-ahead log grows by
// what is written. It returns nil once the copy is on stable storage under its
// name; before, the name does not exist. Cancelling ctx stops it. The copy holds
// password hashes: it is readable by its owner alone.
func (d *SQLite) Snapshot(ctx context.Context, path string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("snapshot database to %s: %w", path, err)
		}
	}()
	fsys, name, err := folder(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fsys.Close()) }()
	if _, err := fsys.Stat(name); err == nil {
		return errors.New("the file exists already")
	}
	temp := name + ".part"
	if err := fsys.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a copy that was cut short
		return err
	}
	err = d.copyTo(ctx, fsys, temp, path+".part")
	if err == nil {
		err = fsys.Rename(temp, name)
	}
	if err != nil {
		return errors.Join(err, fsys.Remove(temp))
	}
	return fsys.SyncDir(".")
}

// copyTo writes the copy to the file temp, which lies at path, and syncs it.
func (d *SQLite) copyTo(ctx context.Context, fsys disk.FS, temp, path string) error {
	f, err := fsys.Create(temp) // readable by its owner alone; VACUUM INTO accepts an empty file
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	d.cp.snapshots.Add(1)
	defer d.cp.snapshots.Add(-1)
	c, err := openConn(d.cfg.Path, d.cfg.pragmas(512))
	if err != nil {
		return err
	}
	if err := errors.Join(vacuumInto(ctx, c, path), c.close()); err != nil {
		return err
	}
	if f, err = fsys.OpenAppend(temp); err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// vacuumInto copies the database; ctx may interrupt it.
func vacuumInto(ctx context.Context, c *conn, path string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s, err := c.prepare("VACUUM INTO ?")
	if err != nil {
		return err
	}
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		c.interrupt()
	})
	_, err = s.exec([]any{path})
	if !stop() {
		<-done
		return errors.Join(context.Cause(ctx), err)
	}
	return err
}
