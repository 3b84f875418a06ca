package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/disk"
)

// maxBodyOctets bounds a stored message; imports may be larger than what SMTP takes.
const maxBodyOctets = 1 << 30

// MergeGrace is how long a merged segment stays for readers that know it; one
// who comes later looks once more and finds the new place.
const MergeGrace = 2 * time.Second

// settings is the daemon's own table: facts about the whole store.
var settings = db.Component{Name: "daemon", Steps: []db.Step{{Number: 1, SQL: `
CREATE TABLE setting (name {text} NOT NULL PRIMARY KEY, value {text} NOT NULL) {strict}`}}}

func (r *Rooms) openBody(ctx context.Context, o RoomOptions) error {
	if !r.Config.BodiesInSegments() {
		rows, err := body.NewRows(body.RowsConfig{DB: r.DB, MaxOctets: max(maxBodyOctets, int64(r.Config.SMTP.MaxSize)),
			MemoryOctets: int64(r.Config.Limits.Memory) / 4, Logger: o.Logger})
		if err != nil {
			return fmt.Errorf("open body store: %w", err)
		}
		r.Body, r.Journal = rows, rows
		return nil
	}
	if err := r.oneNode(ctx); err != nil {
		return err
	}
	s, err := body.OpenSegments(ctx, r.SegmentsConfig(o))
	if err != nil {
		return fmt.Errorf("open body store: %w", err)
	}
	r.Body, r.Journal, r.Segments = s, s, s
	r.closers = append(r.closers, s.Close)
	return nil
}

// SegmentsConfig is how the data folder's segments are opened.
func (r *Rooms) SegmentsConfig(o RoomOptions) body.Config {
	c := body.Config{
		FS: r.Files, Folder: SegmentFolder, DB: r.DB, SegmentOctets: int64(r.Config.Store.SegmentSize),
		MaxOctets: max(maxBodyOctets, int64(r.Config.SMTP.MaxSize)), MemoryOctets: int64(r.Config.Limits.Memory) / 4,
		Reserve: int64(r.Config.Store.Reserve), Grace: MergeGrace, Covered: r.covered, Logger: o.Logger, Hooks: o.Metrics.Body(),
	}
	if r.DB != nil {
		c.StoreID = r.DB.StoreID()
	}
	return c
}

// covered is the time of the oldest snapshot: what the journal says of the time
// before is known to every snapshot that a rebuild may begin with.
func (r *Rooms) covered(context.Context) (time.Time, error) {
	files, err := r.Snapshots()
	if err != nil || len(files) == 0 {
		return time.Time{}, err
	}
	return snapshotTime(files[0])
}

// oneNode refuses a second node on one PostgreSQL whose bodies lie in local
// segments: each would miss the other's messages.
func (r *Rooms) oneNode(ctx context.Context) error {
	if r.DB.Engine() != "postgresql" {
		return nil
	}
	const file = "node"
	id, err := disk.ReadFile(r.Files, file, 64)
	if errors.Is(err, fs.ErrNotExist) {
		id = []byte(rand.Text())
		err = disk.WriteFile(r.Files, file, id)
	}
	if err != nil {
		return fmt.Errorf("name this node: %w", err)
	}
	var owner string
	err = r.DB.Update(ctx, func(tx db.Tx) error {
		if _, err := tx.Exec(`INSERT INTO setting (name, value) VALUES ('segments', ?) ON CONFLICT (name) DO NOTHING`, string(id)); err != nil {
			return err
		}
		return tx.QueryRow(`SELECT value FROM setting WHERE name = 'segments'`).Scan(&owner)
	})
	if err != nil {
		return fmt.Errorf("name the node of segments: %w", err)
	}
	if owner != string(id) {
		return errors.New(`another node keeps this database's messages in its own segments; a second node needs store.bodies = "postgresql" on all of them`)
	}
	return nil
}
