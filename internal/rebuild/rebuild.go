// Package rebuild makes the database anew from the log of body segments, on top
// of the newest snapshot if there is one: what was delivered, removed and purged
// ends where it was, doubtful mail in the mailbox Recovered, queued mail on hold.
package rebuild

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/disk"
)

// Recovered is the mailbox for messages of which nobody knows whether they were
// accepted: the client may have been told to send them again.
const Recovered = "Recovered"

// Schema is the table of this package: the place in the log that the database, or
// a snapshot of it, knows everything before.
var Schema = db.Component{Name: "rebuild", Steps: []db.Step{{Number: 1, SQL: `
CREATE TABLE rebuild_mark (one {int} NOT NULL PRIMARY KEY, segment {text} NOT NULL, start {int} NOT NULL) {rowid}`}}}

// Mark writes the place in the log, as body.Segments.Settled gives it, into the
// database. A snapshot made after it can be rolled forward from there.
func Mark(ctx context.Context, d db.Database, at body.Position) error {
	err := d.Update(ctx, func(tx db.Tx) error {
		_, err := tx.Exec(`INSERT INTO rebuild_mark (one, segment, start) VALUES (1, ?, ?) ON CONFLICT (one) DO UPDATE SET segment = excluded.segment, start = excluded.start`,
			at.Segment, at.Offset)
		return err
	})
	if err != nil {
		return fmt.Errorf("mark place in the log: %w", err)
	}
	return nil
}

// Config is what Run needs. FS, Data, Database, Components and Segments are required.
type Config struct {
	FS         disk.FS        // the data folder, locked by the caller
	Data       string         // the same folder as a path, for the engine
	Database   string         // the database's name in it
	Snapshots  []string       // names of snapshots in it, the newest last
	Components []db.Component // tables of all rooms, Schema among them
	// Segments is how the bodies are opened; DB, Locate and StoreID are filled in.
	Segments body.Config
	// Domain is for accounts of which no address is known; "" is "recovered.invalid".
	Domain string
	// Progress is told of the work now and then; nil for none.
	Progress func(Progress)
	Now      func() time.Time // nil is time.Now
	Logger   *slog.Logger     // nil discards
}

// Progress is how far a step has come.
type Progress struct {
	Step  string // "read segments", "accounts", "messages", "write database"
	Done  int64  // octets read, or rows
	Total int64  // 0 when not known
}

// Report says what a rebuild found.
type Report struct {
	Snapshot  string // what it began with; "" is nothing
	Old       string // where the old database is kept; "" when there was none
	Accounts  int64  // made anew, without passwords
	Restored  int64  // messages that the snapshot did not have
	Recovered int64  // entries of doubtful messages, in the mailbox Recovered
	Messages  int64  // in mailboxes now
	Retained  int64  // removed messages that can be restored
	Held      int64  // queued recipients on hold
	Lost      int64  // entries whose message is gone from the segments or damaged
	Damaged   int64  // damaged places in the segments
}

// names in the data folder.
const (
	workFolder = "rebuild"
	workFile   = "work.db"
	readySign  = ".rebuilt-" // between the database's name and the time
	brokenSign = ".broken-"
	timeForm   = "20060102T150405.000000Z"
)

// Run rebuilds the database and puts it in the place of the old one, which is kept
// as NAME.broken-TIME. Nobody else may use the data folder meanwhile. Until the
// end the old database stays; after a kill Run begins anew, and when only the last
// step was missing Finish takes it. The memory needed does not depend on the
// store's size; on disk it takes about twice the new database.
func Run(ctx context.Context, c Config) (Report, error) {
	if c.FS == nil || c.Data == "" || c.Database == "" || len(c.Components) == 0 {
		return Report{}, errors.New("rebuild: FS, Data, Database and Components are required")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Progress == nil {
		c.Progress = func(Progress) {}
	}
	if c.Domain == "" {
		c.Domain = "recovered.invalid"
	}
	if err := dropUnfinished(c.FS, c.Database); err != nil {
		return Report{}, fmt.Errorf("rebuild: %w", err)
	}
	b := &builder{c: c}
	if err := b.run(ctx); err != nil {
		return b.report, errors.Join(fmt.Errorf("rebuild: %w", err), b.close(), removeWork(c.FS))
	}
	old, err := Finish(c.FS, c.Database)
	b.report.Old = old
	if err != nil {
		return b.report, err
	}
	if err := removeWork(c.FS); err != nil { // the database stands already
		c.Logger.Warn("work files of the rebuild stay behind", "folder", workFolder, "error", err)
	}
	return b.report, nil
}

// run makes the new database and gives it its lasting name beside the old one.
func (b *builder) run(ctx context.Context) error {
	if err := b.open(ctx); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{b.scan, b.accounts, b.numbers, b.messages, b.settle} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	// What the journal is told of must be there before the database counts.
	if err := b.closeSegments(); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	b.c.Progress(Progress{Step: "write database"})
	ready := b.c.Database + readySign + b.c.Now().UTC().Format(timeForm)
	if err := b.db.Snapshot(ctx, filepath.Join(b.c.Data, ready)); err != nil {
		return err
	}
	return b.close()
}
