package db

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Snapshot writes a whole, compact copy of the database as of now to path, which
// must not exist yet. Other work goes on meanwhile; the write-ahead log grows by
// what is written. It returns nil once the copy is on stable storage under its
// name; before, the name does not exist. Cancelling ctx stops it. The copy holds
// password hashes: it is readable by its owner alone.
func (d *SQLite) Snapshot(ctx context.Context, path string) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("snapshot database to %s: the file exists already", path)
	}
	c, err := openConn(d.cfg.Path, d.cfg.pragmas(512))
	if err != nil {
		return fmt.Errorf("snapshot database: %w", err)
	}
	d.cp.snapshots.Add(1)
	defer d.cp.snapshots.Add(-1)
	temp := path + ".part"
	err = errors.Join(d.copyTo(ctx, c, temp), c.close())
	if err == nil {
		err = syncFile(temp)
	}
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		os.Remove(temp)
		return fmt.Errorf("snapshot database to %s: %w", path, err)
	}
	return nil
}

// copyTo runs VACUUM INTO on its own connection.
func (d *SQLite) copyTo(ctx context.Context, c *conn, temp string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600) // VACUUM INTO accepts an empty file
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
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
	_, err = s.exec([]any{temp})
	if !stop() {
		<-done
		return errors.Join(context.Cause(ctx), err)
	}
	return err
}

// syncFile makes the octets of a file last.
func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// syncDir makes the names in a folder last.
func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
