package rebuild

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/trace"
)

// builder is one run of Run.
type builder struct {
	c      Config
	report Report

	segments *body.Segments
	db       *db.SQLite
	mark     body.Position // what stands before it is known to the base

	rooms
	known map[envelope.AccountID]string // logins noted already; bounded
}

// rooms are those whose tables are made anew.
type rooms struct {
	accountRoom *account.Accounts
	mailboxes   *mailbox.Store
	queue       *queue.Queue
	trace       *trace.Trace
}

// scratch is what is read from the log before anything is decided. A body without
// a segment was only named by events.
const scratch = `CREATE TABLE rebuild_body (id BLOB NOT NULL PRIMARY KEY, segment TEXT NOT NULL, start INTEGER NOT NULL, stored INTEGER NOT NULL,
	octets INTEGER NOT NULL, sha256 BLOB NOT NULL, dots INTEGER NOT NULL, old INTEGER NOT NULL, finished INTEGER NOT NULL, meta BLOB NOT NULL) WITHOUT ROWID, STRICT;
CREATE TABLE rebuild_event (body BLOB NOT NULL, account INTEGER NOT NULL, mailbox TEXT NOT NULL, unique_id TEXT NOT NULL, uid INTEGER NOT NULL,
	state INTEGER NOT NULL, flags INTEGER NOT NULL, happened INTEGER NOT NULL, late INTEGER NOT NULL,
	PRIMARY KEY (body, account, mailbox, unique_id)) WITHOUT ROWID, STRICT;
CREATE TABLE rebuild_account (account INTEGER NOT NULL PRIMARY KEY, login TEXT NOT NULL, address TEXT NOT NULL) STRICT`

// scratchTables are the tables of scratch.
var scratchTables = []string{"rebuild_body", "rebuild_event", "rebuild_account"}

// open opens the segments and the work database.
func (b *builder) open(ctx context.Context) error {
	c := b.c.Segments
	c.DB, c.StoreID = nil, ""
	c.Locate = func(_ context.Context, id message.ID) (body.Location, error) {
		return body.Location{}, fmt.Errorf("look up body %s: %w", id, body.ErrNotFound)
	}
	var err error
	if b.segments, err = body.OpenSegments(ctx, c); err != nil {
		return err
	}
	if err := b.c.FS.MkdirAll(workFolder); err != nil {
		return fmt.Errorf("make work folder: %w", err)
	}
	for i := len(b.c.Snapshots) - 1; i >= 0; i-- {
		name := b.c.Snapshots[i]
		err := b.openBase(ctx, name)
		if err == nil {
			b.report.Snapshot = name
			return b.openRooms(ctx)
		}
		if ctx.Err() != nil {
			return err
		}
		b.c.Logger.Warn("snapshot can't be used, trying an older one", "snapshot", name, "error", err)
	}
	if err := b.openBase(ctx, ""); err != nil {
		return err
	}
	return b.openRooms(ctx)
}

// openBase makes the work database from a snapshot, or empty for "".
func (b *builder) openBase(ctx context.Context, snapshot string) (err error) {
	defer func() {
		if err != nil && b.db != nil {
			err = errors.Join(err, b.db.Close())
			b.db = nil
		}
	}()
	work := workFolder + "/" + workFile
	for _, suffix := range sidecars {
		if err := b.c.FS.Remove(work + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove work file: %w", err)
		}
	}
	if snapshot != "" {
		if err := copyFile(ctx, b.c.FS, snapshot, work); err != nil {
			return err
		}
	}
	path := filepath.Join(b.c.Data, workFolder, workFile)
	if b.db, err = db.OpenSQLite(ctx, db.SQLiteConfig{Path: path, SnapshotDir: filepath.Dir(path), Logger: b.c.Logger}); err != nil {
		return err
	}
	if id := b.segments.StoreID(); snapshot != "" && id != "" && id != b.db.StoreID() {
		return fmt.Errorf("it is of store %s, the segments are of store %s", b.db.StoreID(), id)
	}
	if err := db.Migrate(ctx, b.db, b.c.Components); err != nil {
		return err
	}
	return b.db.Update(ctx, func(tx db.Tx) error { return b.prepare(tx, snapshot) })
}

// prepare reads the place in the log that the base knows, and adds the scratch tables.
func (b *builder) prepare(tx db.Tx, snapshot string) error {
	b.mark = body.Position{}
	if snapshot != "" {
		err := tx.QueryRow(`SELECT segment, start FROM rebuild_mark WHERE one = 1`).Scan(&b.mark.Segment, &b.mark.Offset)
		if err != nil && !errors.Is(err, db.ErrNotFound) {
			return err
		}
	}
	if id := b.segments.StoreID(); id != "" {
		if _, err := tx.Exec(`UPDATE store SET id = ?`, id); err != nil {
			return err
		}
	}
	for _, q := range statements(scratch) {
		if _, err := tx.Exec(q); err != nil {
			return err
		}
	}
	return nil
}

// openRooms builds the rooms over the work database.
func (b *builder) openRooms(context.Context) (err error) {
	if b.accountRoom, err = account.New(account.Config{DB: b.db, Now: b.c.Now}); err != nil {
		return err
	}
	if b.mailboxes, err = mailbox.New(mailbox.Config{DB: b.db, Body: b.segments, Now: b.c.Now}); err != nil {
		return err
	}
	if b.queue, err = queue.New(queue.Config{DB: b.db, Now: b.c.Now}); err != nil {
		return err
	}
	b.trace, err = trace.New(trace.Config{DB: b.db, Now: b.c.Now})
	return err
}

func (b *builder) closeSegments() (err error) {
	if b.segments != nil {
		err = b.segments.Close()
		b.segments = nil
	}
	return err
}

// close closes what is open.
func (b *builder) close() error {
	err := b.closeSegments()
	if b.db != nil {
		err = errors.Join(err, b.db.Close())
		b.db = nil
	}
	return err
}

// copyFile copies a file within the data folder.
func copyFile(ctx context.Context, fsys disk.FS, from, to string) (err error) {
	r, err := fsys.Open(from)
	if err != nil {
		return fmt.Errorf("open %s: %w", from, err)
	}
	defer r.Close()
	size, err := r.Size()
	if err != nil {
		return fmt.Errorf("stat %s: %w", from, err)
	}
	w, err := fsys.Create(to)
	if err != nil {
		return fmt.Errorf("create %s: %w", to, err)
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	buf := make([]byte, 1<<20)
	for at := int64(0); at < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := r.ReadAt(buf[:min(int64(len(buf)), size-at)], at)
		if n == 0 && err != nil {
			return fmt.Errorf("read %s: %w", from, errors.Join(err, io.ErrUnexpectedEOF))
		}
		if _, err := w.Write(buf[:n]); err != nil {
			return fmt.Errorf("write %s: %w", to, err)
		}
		at += int64(n)
	}
	return nil
}

// keep is the time an event says, or now for none.
func (b *builder) keep(micros int64) time.Time {
	if t := db.FromMicros(micros); !t.IsZero() && micros > 0 {
		return t
	}
	return b.c.Now()
}
