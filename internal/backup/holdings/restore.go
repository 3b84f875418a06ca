package holdings

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/message"
)

// Into is where All restores to: an engine with an empty database and an empty body
// store, which nobody else uses. DB, Body, Components and Mailboxes are required.
type Into struct {
	DB         db.Database
	Body       body.Store // when it is a body.Journal, too, it is told whose the bodies are
	Components []db.Component
	Mailboxes  *mailbox.Store // over DB and Body
	// Skip names tables of the backup that are left out: what must not go on by itself.
	Skip []string
	// Hold puts what would be sent on hold and says how much it was. nil: there is nothing.
	Hold     func(tx db.Tx) (int64, error)
	Progress func(backup.Progress) // nil for none
}

// Restored says what a restore did.
type Restored struct {
	Snapshot   string    `json:"snapshot"`
	Time       time.Time `json:"time"`
	Accounts   int64     `json:"accounts"`
	Messages   int64     `json:"messages"`     // in mailboxes
	Retained   int64     `json:"retained"`     // removed ones, which can be put back
	Octets     int64     `json:"octets"`       // of bodies
	Duplicates int64     `json:"duplicates"`   // there already, and left as they are
	Partial    int64     `json:"headers_only"` // left out, since the backup has the header section only
	Held       int64     `json:"held"`         // queued recipients on hold
	Lost       int64     `json:"lost"`         // messages whose octets the backup does not have
}

// unfinished is the table that stands while All works.
const unfinished = "restore_unfinished"

// ErrUnfinished: a restore into this database was broken off.
var ErrUnfinished = errors.New("a restore was broken off here; remove what it left, and restore again")

// ErrNotEmpty: there is something already where all is to be restored.
var ErrNotEmpty = errors.New("a whole backup is restored only to where nothing is yet")

// Unfinished returns ErrUnfinished when All began with this database and did not end.
func Unfinished(ctx context.Context, d db.Database) error {
	all, err := db.Tables(ctx, d)
	if err == nil && slices.ContainsFunc(all, func(t db.Table) bool { return t.Name == unfinished }) {
		err = ErrUnfinished
	}
	return err
}

// All restores everything of a snapshot. It begins a new epoch: UIDVALIDITY rises,
// unique-ids, uids and flags stay, what was queued is held. The database gets the
// schema of the backup's time first, then its rows, then the steps of this program.
// Broken off, it leaves a database that Unfinished tells of.
func All(ctx context.Context, r *backup.Repository, s *backup.Snapshot, to Into) (done Restored, err error) {
	w := &restoring{r: r, s: s, to: to, done: Restored{Snapshot: s.ID, Time: s.Time}}
	if w.to.Progress == nil {
		w.to.Progress = func(backup.Progress) {}
	}
	if w.facts, err = readFacts(s); err != nil {
		return done, err
	}
	for _, step := range []func(context.Context) error{w.begin, w.tables, w.bodies, w.dropLost, w.epoch, w.journal, w.end} {
		if err := step(ctx); err != nil {
			return w.done, fmt.Errorf("restore backup %s: %w", s.ID, err)
		}
	}
	return w.done, nil
}

// restoring is one run of All.
type restoring struct {
	r     *backup.Repository
	s     *backup.Snapshot
	to    Into
	facts facts
	done  Restored
	items int64
}

// begin makes the schema of the backup's time.
func (w *restoring) begin(ctx context.Context) error {
	if err := Unfinished(ctx, w.to.DB); err != nil {
		return err
	}
	present, err := steps(ctx, w.to.DB)
	if err != nil {
		return err
	}
	if len(present) > 0 {
		return fmt.Errorf("%w: the database has tables", ErrNotEmpty)
	}
	older := make([]db.Component, 0, len(w.to.Components))
	left := len(w.facts.Steps)
	for _, c := range w.to.Components {
		last, known := w.facts.Steps[c.Name]
		if !known {
			continue // younger than the backup
		}
		if left--; last < 0 || last > len(c.Steps) {
			return fmt.Errorf("%w: its table schema %s %d is not known here", backup.ErrNewer, c.Name, last)
		}
		c.Steps = c.Steps[:last]
		older = append(older, c)
	}
	if left > 0 {
		return fmt.Errorf("%w: it has tables that are not known here", backup.ErrNewer)
	}
	err = w.to.DB.Update(ctx, func(tx db.Tx) error {
		_, err := tx.Exec(`CREATE TABLE ` + unfinished + ` (one BIGINT NOT NULL PRIMARY KEY)`)
		return err
	})
	if err != nil {
		return err
	}
	return db.Migrate(ctx, w.to.DB, older)
}

// tables loads the rows of every table, in order of name: a table that refers to
// another has a name behind that one's.
func (w *restoring) tables(ctx context.Context) error {
	here, err := db.Tables(ctx, w.to.DB)
	if err != nil {
		return err
	}
	for _, t := range w.facts.Tables {
		if slices.Contains(w.to.Skip, t.Name) {
			continue
		}
		known, err := knownTable(here, t)
		if err == nil {
			err = w.table(ctx, t)
		}
		if err == nil {
			err = db.Numbered(ctx, w.to.DB, known)
		}
		if err != nil {
			return fmt.Errorf("table %s: %w", t.Name, err)
		}
	}
	return nil
}

// knownTable finds a table of a backup in the database, with all its columns: what a
// backup says never becomes SQL otherwise.
func knownTable(here []db.Table, t db.Table) (db.Table, error) {
	i := slices.IndexFunc(here, func(h db.Table) bool { return h.Name == t.Name })
	if i < 0 {
		return t, fmt.Errorf("%w: it is not known here", backup.ErrNewer)
	}
	for _, c := range t.Columns {
		if !slices.Contains(here[i].Columns, c) {
			return t, fmt.Errorf("%w: its column %q is not known here", backup.ErrNewer, c.Name)
		}
	}
	return here[i], nil
}

// Bounds of what one transaction loads.
const (
	loadRows   = 200
	loadOctets = 1 << 20
)

// table loads one table.
func (w *restoring) table(ctx context.Context, t db.Table) error {
	names := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		names[i] = c.Name
	}
	insert := `INSERT INTO ` + t.Name + ` (` + strings.Join(names, ", ") + `) VALUES (` + strings.TrimSuffix(strings.Repeat("?, ", len(names)), ", ") + `)`
	var rows [][]any
	octets := 0
	flush := func() error {
		if len(rows) == 0 {
			return nil
		}
		err := w.to.DB.Update(ctx, func(tx db.Tx) error {
			for _, values := range rows {
				if _, err := tx.Exec(insert, values...); err != nil {
					return err
				}
			}
			return nil
		})
		rows, octets = rows[:0], 0
		return err
	}
	err := w.r.Items(ctx, w.s, tablePrefix+t.Name, nil, nil, func(it backup.Stored) error {
		data, err := rowOctets(ctx, it)
		if err != nil {
			return err
		}
		values, err := parseRow(data)
		if err == nil && len(values) != len(names) {
			err = errRow
		}
		if err != nil {
			return err
		}
		rows, octets = append(rows, values), octets+len(data)
		w.tell("table "+t.Name, 0)
		if len(rows) >= loadRows || octets >= loadOctets {
			return flush()
		}
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}

// rowOctets are the octets of a row, from its data or its pieces.
func rowOctets(ctx context.Context, it backup.Stored) ([]byte, error) {
	if !it.Has {
		return it.Data, nil
	}
	rd, err := it.Open(ctx)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(rd)
}

func (w *restoring) tell(step string, octets int64) {
	w.items++
	w.done.Octets += octets
	if w.items%64 == 0 || octets > backup.PieceOctets {
		w.to.Progress(backup.Progress{Step: step, Items: w.items, Octets: w.done.Octets, TotalItems: w.s.Report.Items, TotalOctets: w.s.Report.Octets})
	}
}

// Bounds of what one commit of bodies carries.
const (
	bodyBatch       = 100
	bodyBatchOctets = 8 << 20
)

// pending is a body on its way.
type pending struct {
	rec  body.Record
	refs int
}

// bodies stores the octets of all messages under their ids.
func (w *restoring) bodies(ctx context.Context) error {
	var batch []pending
	var octets int64
	defer func() { discard(batch) }()
	flush := func() error {
		err := w.commit(ctx, batch)
		discard(batch)
		batch, octets = nil, 0
		return err
	}
	err := w.r.Items(ctx, w.s, sectionBodies, nil, nil, func(it backup.Stored) error {
		refs, n := binary.Uvarint(it.Data)
		if len(it.Key) != len(message.ID{}) || n <= 0 {
			return fmt.Errorf("body %x: %w", it.Key, backup.ErrDamaged)
		}
		if it.Lost {
			w.done.Lost++
			return nil
		}
		st, err := w.stage(ctx, it, func() error { return flush() })
		if errors.Is(err, backup.ErrDamaged) {
			w.done.Lost++
			return nil
		}
		if err != nil {
			return err
		}
		batch = append(batch, pending{rec: body.Record{ID: message.ID(it.Key), Staged: st}, refs: int(refs)})
		w.tell("messages", it.Octets)
		if octets += it.Octets; len(batch) >= bodyBatch || octets >= bodyBatchOctets {
			return flush()
		}
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}

// stage copies an item's octets into the body store; room makes some when memory is short.
func (w *restoring) stage(ctx context.Context, it backup.Stored, room func() error) (body.Staged, error) {
	return stage(ctx, w.to.Body, it, room)
}

func stage(ctx context.Context, to body.Store, it backup.Stored, room func() error) (body.Staged, error) {
	st, err := to.Stage(ctx, it.Octets)
	if errors.Is(err, body.ErrBudget) {
		if err := room(); err != nil {
			return nil, err
		}
		st, err = to.Stage(ctx, it.Octets)
	}
	if err != nil {
		return nil, err
	}
	rd, err := it.Open(ctx)
	if err == nil {
		_, err = io.Copy(st, rd)
	}
	if err != nil {
		st.Discard()
		return nil, err
	}
	return st, nil
}

func discard(batch []pending) {
	for _, p := range batch {
		p.rec.Staged.Discard()
	}
}

// commit makes a batch of bodies durable and inserts their rows.
func (w *restoring) commit(ctx context.Context, batch []pending) error {
	if len(batch) == 0 {
		return nil
	}
	recs := make([]body.Record, len(batch))
	for i := range batch {
		recs[i] = batch[i].rec
	}
	locs, release, err := w.to.Body.Commit(ctx, recs)
	if err != nil {
		return err
	}
	defer release()
	return w.to.DB.Update(ctx, func(tx db.Tx) error {
		for i := range recs {
			if err := body.Insert(tx, recs[i].ID, locs[i], batch[i].refs); err != nil {
				return err
			}
		}
		return nil
	})
}

// dropLost removes what names a body that the backup does not have.
func (w *restoring) dropLost(ctx context.Context) error {
	if w.done.Lost == 0 {
		return nil
	}
	here, err := db.Tables(ctx, w.to.DB)
	if err != nil {
		return err
	}
	return w.to.DB.Update(ctx, func(tx db.Tx) error {
		for _, t := range [...]struct{ table, column string }{{"entry", "body"}, {"retained", "body"}, {"queued_recipient", "id"}, {"queued_message", "id"}} {
			if !slices.ContainsFunc(here, func(h db.Table) bool { return h.Name == t.table }) {
				continue
			}
			if _, err := tx.Exec(`DELETE FROM ` + t.table + ` WHERE NOT EXISTS (SELECT 1 FROM body b WHERE b.id = ` + t.table + `.` + t.column + `)`); err != nil {
				return fmt.Errorf("drop messages that are lost: %w", err)
			}
		}
		return nil
	})
}

// epoch brings the schema up to this program and begins the new epoch.
func (w *restoring) epoch(ctx context.Context) (err error) {
	if err := db.Migrate(ctx, w.to.DB, w.to.Components); err != nil {
		return err
	}
	if w.done.Messages, w.done.Retained, err = w.to.Mailboxes.Recount(ctx); err != nil {
		return err
	}
	if w.to.Hold == nil {
		return nil
	}
	return w.to.DB.Update(ctx, func(tx db.Tx) (err error) {
		w.done.Held, err = w.to.Hold(tx)
		return err
	})
}

// journal tells the log of segments whose the bodies are, for store rebuild.
func (w *restoring) journal(ctx context.Context) error {
	log, keeps := w.to.Body.(body.Journal)
	for a, err := range accounts(ctx, w.r, w.s) {
		if err != nil {
			return err
		}
		w.done.Accounts++
		if !keeps {
			continue
		}
		err := w.to.Mailboxes.Walk(ctx, a.ID, func(e mailbox.Entry) error {
			log.Append(body.Event{Kind: body.EventDelivered, ID: e.Body, Account: int64(a.ID), Login: a.Login, Mailbox: e.Mailbox,
				UID: uint32(e.UID), UniqueID: e.UniqueID, Flags: uint32(e.Flags), Time: e.Received})
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// end says that the restore is whole.
func (w *restoring) end(ctx context.Context) error {
	return w.to.DB.Update(ctx, func(tx db.Tx) error {
		_, err := tx.Exec(`DROP TABLE ` + unfinished)
		return err
	})
}

// Files calls fn for each file of a snapshot.
func Files(ctx context.Context, r *backup.Repository, s *backup.Snapshot, fn func(File) error) error {
	return r.Items(ctx, s, sectionFiles, nil, nil, func(it backup.Stored) error {
		return fn(File{Name: string(it.Key), Octets: it.Data})
	})
}

// accountKey begins the keys of an account's rows.
func accountKey(id envelope.AccountID) []byte { return intKey(int64(id)) }
