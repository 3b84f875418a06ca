package rebuild

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/message"
)

// States of an entry in the order in which they follow each other, so that the
// order and the repetition of events does not matter.
const (
	delivered = 1
	removed   = 2
	purged    = 3
)

// Bounds of what is held between two transactions.
const (
	batchItems  = 1000
	batchOctets = 4 << 20
	knownLogins = 100_000
)

// statements parts a list of statements.
func statements(sql string) []string { return strings.Split(sql, ";\n") }

// before reports whether a stands before b in the log, for segments that existed
// when b was taken.
func before(a, b body.Position) bool {
	return a.Segment < b.Segment || a.Segment == b.Segment && a.Offset < b.Offset
}

// scan reads the whole log into the scratch tables. Whole, for merges since the
// snapshot have moved what it knows.
func (b *builder) scan(ctx context.Context) error {
	total := b.segmentOctets()
	var batch []body.Item
	var held, done int64
	flush := func() error {
		tries := 0
		err := b.db.Update(ctx, func(tx db.Tx) error {
			if tries++; tries > 1 {
				b.known = nil // what was noted was rolled back
			}
			for i := range batch {
				if err := b.note(tx, &batch[i]); err != nil {
					return err
				}
			}
			return nil
		})
		batch, held = batch[:0], 0
		b.c.Progress(Progress{Step: "read segments", Done: done, Total: total})
		return err
	}
	err := b.segments.Scan(ctx, body.Position{}, func(item body.Item) error {
		done += item.Stored
		if item.Damage != nil {
			if !item.Torn {
				b.report.Damaged++
				b.c.Logger.Error("damage in a segment", "segment", item.Segment, "offset", item.Offset, "octets", item.Stored, "error", item.Damage)
			}
			return nil
		}
		batch = append(batch, item)
		held += weight(&item)
		if len(batch) < batchItems && held < batchOctets {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return fmt.Errorf("read segments: %w", err)
	}
	return nil
}

// weight is about what an item holds in memory, in octets.
func weight(item *body.Item) int64 {
	if item.Body == nil {
		return 300 * int64(len(item.Events))
	}
	n := int64(300)
	for i := range item.Body.Meta.Owners {
		n += 200 + int64(len(item.Body.Meta.Owners[i].Prefix))
	}
	return n + 100*int64(len(item.Body.Meta.Queued))
}

// segmentOctets is the size of all segments; 0 when not known.
func (b *builder) segmentOctets() (n int64) {
	for _, folder := range []string{b.c.Segments.Folder, b.c.Segments.Folder + "/large"} {
		names, err := b.c.FS.List(folder)
		if err != nil {
			return 0
		}
		for _, name := range names {
			if st, err := b.c.FS.Stat(folder + "/" + name); err == nil {
				n += st.Size
			}
		}
	}
	return n
}

// note puts what a scan found into the scratch tables.
func (b *builder) note(tx db.Tx, item *body.Item) error {
	if item.Body != nil {
		return b.noteBody(tx, item.Body, before(item.Position, b.mark))
	}
	for i := range item.Events {
		if err := b.noteEvent(tx, &item.Events[i], !before(item.Position, b.mark)); err != nil {
			return err
		}
	}
	return nil
}

// noteBody notes a body. Of several places the one that the base knows is kept.
func (b *builder) noteBody(tx db.Tx, f *body.Found, old bool) error {
	home, err := body.Lookup(tx, f.ID)
	known := err == nil
	if err != nil && !errors.Is(err, body.ErrNotFound) {
		return err
	}
	meta, replace := []byte{}, ` WHERE rebuild_body.segment = ''`
	if known && home.Segment == f.Location.Segment && home.Offset == f.Location.Offset {
		replace = ""
	}
	if !known {
		if meta, err = json.Marshal(&f.Meta); err != nil {
			return fmt.Errorf("note body %s: %w", f.ID, err)
		}
	}
	l := &f.Location
	if _, err := tx.Exec(`UPDATE rebuild_body SET old = 0 WHERE id = ? AND old = 1 AND ? = 0`, f.ID[:], old); err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO rebuild_body (id, segment, start, stored, octets, sha256, dots, old, finished, meta) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?)
		ON CONFLICT (id) DO UPDATE SET segment = excluded.segment, start = excluded.start, stored = excluded.stored, octets = excluded.octets,
			sha256 = excluded.sha256, dots = excluded.dots, meta = excluded.meta`+replace,
		f.ID[:], l.Segment, l.Offset, l.Stored, l.Octets, l.SHA256[:], l.Dots, old, meta)
	if err != nil {
		return err
	}
	for i := range f.Meta.Owners {
		o := &f.Meta.Owners[i]
		if err := b.noteAccount(tx, envelope.AccountID(o.Account), o.Login, o.Prefix); err != nil {
			return err
		}
	}
	return nil
}

// noteEvent notes an event.
func (b *builder) noteEvent(tx db.Tx, e *body.Event, late bool) error {
	_, err := tx.Exec(`INSERT INTO rebuild_body (id, segment, start, stored, octets, sha256, dots, old, finished, meta) VALUES (?, '', 0, 0, 0, ?, 0, 1, ?, ?)
		ON CONFLICT (id) DO UPDATE SET finished = MAX(finished, excluded.finished)`, e.ID[:], []byte{}, e.Kind == body.EventFinished, []byte{})
	if err != nil || e.Account == 0 {
		return err
	}
	state := map[body.EventKind]int64{body.EventDelivered: delivered, body.EventMoved: delivered, body.EventRemoved: removed, body.EventPurged: purged}[e.Kind]
	if state == 0 {
		return nil // of a later release
	}
	if e.Kind == body.EventMoved {
		if _, err := tx.Exec(`UPDATE rebuild_event SET state = ? WHERE body = ? AND account = ?`, int64(purged), e.ID[:], e.Account); err != nil {
			return err
		}
	}
	name, err := mailbox.CheckName(e.Mailbox)
	if err != nil {
		name = Recovered
	}
	if e.Kind == body.EventMoved { // back to where it was before
		if _, err := tx.Exec(`DELETE FROM rebuild_event WHERE body = ? AND account = ? AND mailbox = ? AND unique_id = ?`, e.ID[:], e.Account, name, db.Text(e.UniqueID)); err != nil {
			return err
		}
	}
	_, err = tx.Exec(`INSERT INTO rebuild_event (body, account, mailbox, unique_id, uid, state, flags, happened, late) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (body, account, mailbox, unique_id) DO UPDATE SET
			happened = CASE WHEN excluded.state >= state THEN excluded.happened ELSE happened END,
			uid = CASE WHEN excluded.state = 1 OR uid = 0 THEN excluded.uid ELSE uid END,
			flags = excluded.flags, late = MAX(late, excluded.late), state = MAX(state, excluded.state)`,
		e.ID[:], e.Account, name, db.Text(e.UniqueID), int64(e.UID), state, int64(e.Flags), e.Time.UnixMicro(), late)
	if err != nil {
		return err
	}
	return b.noteAccount(tx, envelope.AccountID(e.Account), e.Login, nil)
}

// noteAccount notes an account's login, and from the prefix of its mail an address.
func (b *builder) noteAccount(tx db.Tx, id envelope.AccountID, login string, prefix []byte) error {
	if id == 0 {
		return nil
	}
	addr := ""
	if login != "" && !strings.Contains(login, "@") {
		addr = deliveredTo(prefix)
	}
	key := login + "\x00" + addr
	if have, ok := b.known[id]; ok && (login == "" || have == key) {
		return nil
	}
	if b.known == nil || len(b.known) >= knownLogins {
		b.known = make(map[envelope.AccountID]string)
	}
	b.known[id] = key
	_, err := tx.Exec(`INSERT INTO rebuild_account (account, login, address) VALUES (?, ?, ?) ON CONFLICT (account) DO UPDATE SET
		login = CASE WHEN excluded.login <> '' THEN excluded.login ELSE login END,
		address = CASE WHEN excluded.address <> '' THEN excluded.address ELSE address END`, int64(id), db.Text(login), db.Text(addr))
	return err
}

// deliveredTo is the address of the field Delivered-To in a prefix; "" for none.
func deliveredTo(prefix []byte) string {
	for f := range message.Fields(prefix) {
		if !strings.EqualFold(f.Name(), "Delivered-To") {
			continue
		}
		if a, err := address.Parse(strings.TrimSpace(f.Value())); err == nil {
			return a.String()
		}
	}
	return ""
}
