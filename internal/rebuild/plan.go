package rebuild

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/message"
)

// letter is a body with all that the log says of it.
type letter struct {
	id       message.ID
	loc      body.Location
	old      bool // it stands where the base knows everything
	finished bool // its queued message has left the queue
	meta     []byte
	events   []event
	known    bool // the base has its row
	home     body.Location
}

// event is an entry as the log says.
type event struct {
	account  envelope.AccountID
	mailbox  string
	uniqueID string
	uid      mailbox.UID
	state    int64
	flags    mailbox.Flags
	happened int64
	late     bool // the base may not know it
}

// put is an entry to be put back.
type put struct {
	entry     mailbox.Entry
	removed   time.Time // zero for none
	recovered bool
	eventUID  mailbox.UID // 0 when the log does not name the entry
}

// page reads the next letters.
func (b *builder) page(ctx context.Context, after message.ID) (page []letter, err error) {
	err = b.db.View(ctx, func(tx db.Tx) (err error) {
		if page, err = readLetters(tx, after); err != nil {
			return err
		}
		for i := range page {
			l := &page[i]
			if l.events, err = readEvents(tx, l.id); err != nil {
				return err
			}
			l.home, err = body.Lookup(tx, l.id)
			if l.known = err == nil; err != nil && !errors.Is(err, body.ErrNotFound) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read what the log says: %w", err)
	}
	return page, nil
}

func readLetters(tx db.Tx, after message.ID) (page []letter, err error) {
	rows, err := tx.Query(`SELECT id, segment, start, stored, octets, sha256, dots, old, finished, meta FROM rebuild_body WHERE id > ? ORDER BY id LIMIT ?`, after[:], int64(pageRows))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var l letter
		var id, sum []byte
		if err := rows.Scan(&id, &l.loc.Segment, &l.loc.Offset, &l.loc.Stored, &l.loc.Octets, &sum, &l.loc.Dots, &l.old, &l.finished, &l.meta); err != nil {
			return nil, err
		}
		copy(l.id[:], id)
		copy(l.loc.SHA256[:], sum)
		page = append(page, l)
	}
	return page, rows.Err()
}

func readEvents(tx db.Tx, id message.ID) (events []event, err error) {
	rows, err := tx.Query(`SELECT account, mailbox, unique_id, uid, state, flags, happened, late FROM rebuild_event WHERE body = ? ORDER BY account, mailbox, uid`, id[:])
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var e event
		if err := rows.Scan(&e.account, &e.mailbox, &e.uniqueID, &e.uid, &e.state, &e.flags, &e.happened, &e.late); err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return events, rows.Err()
}

// owners decides what becomes of a body that the base has no row for: which
// entries it gets, and whether its remote recipients are queued again.
func (b *builder) owners(ctx context.Context, l *letter) (puts []put, meta body.Meta, queued bool, err error) {
	if err := json.Unmarshal(l.meta, &meta); err != nil {
		return nil, meta, false, fmt.Errorf("read metadata of body %s: %w", l.id, err)
	}
	late := !l.old
	heard := make(map[envelope.AccountID]bool)
	for i := range l.events {
		late = late || l.events[i].late
		heard[l.events[i].account] = true
	}
	if !late {
		return nil, meta, false, nil // refused or purged before the snapshot was made
	}
	for i := range l.events {
		e := &l.events[i]
		if e.state == purged || l.old && !e.late {
			continue
		}
		p := put{eventUID: e.uid, entry: b.entry(l, meta.Received, e.account, e.mailbox, e.uniqueID, e.flags)}
		p.entry.UID, p.entry.Prefix = e.uid, prefixFor(meta.Owners, e)
		if e.state == removed {
			p.removed = b.keep(e.happened)
		}
		puts = append(puts, p)
	}
	seen := make(map[envelope.AccountID]bool)
	for i := range meta.Owners {
		o := &meta.Owners[i]
		id := envelope.AccountID(o.Account)
		if heard[id] || id == 0 {
			continue
		}
		p := put{entry: b.entry(l, meta.Received, id, o.Mailbox, o.UniqueID, mailbox.Flags(o.Flags))}
		p.entry.Prefix = o.Prefix
		if _, err := mailbox.CheckName(o.Mailbox); err != nil || len(heard) == 0 && !l.finished {
			// Nobody says that the transaction was committed.
			if seen[id] {
				continue
			}
			seen[id] = true
			p.recovered, p.entry.Mailbox, p.entry.UniqueID = true, Recovered, l.id.String()
		}
		puts = append(puts, p)
	}
	if err := b.sizes(ctx, l, puts); err != nil {
		return nil, meta, false, err
	}
	return puts, meta, len(meta.Queued) > 0 && !l.finished, nil
}

// entry is an entry without uid and prefix.
func (b *builder) entry(l *letter, received time.Time, account envelope.AccountID, name, uniqueID string, flags mailbox.Flags) mailbox.Entry {
	if name == "" {
		name = mailbox.Inbox
	}
	if !mailbox.LegalUniqueID(uniqueID) {
		uniqueID = l.id.String()
	}
	if received.IsZero() {
		received = l.id.Time()
	}
	return mailbox.Entry{Account: account, Mailbox: name, Flags: flags, UniqueID: uniqueID, Received: received, Body: l.id}
}

// prefixFor finds the prefix of an entry's copy: of the same mailbox if there is
// one, otherwise of the same account.
func prefixFor(owners []body.Owner, e *event) (prefix []byte) {
	for i := range owners {
		if owners[i].Account != int64(e.account) {
			continue
		}
		if owners[i].Mailbox == e.mailbox {
			return owners[i].Prefix
		}
		if prefix == nil {
			prefix = owners[i].Prefix
		}
	}
	return prefix
}

// sizes fills in what the octets decide.
func (b *builder) sizes(ctx context.Context, l *letter, puts []put) error {
	for i := range puts {
		e := &puts[i].entry
		e.Octets = int64(len(e.Prefix)) + l.loc.Octets
		at := &stored{ctx: ctx, segments: b.segments, id: l.id, loc: l.loc}
		var err error
		if e.Surrogate, err = b.mailboxes.SurrogateOctets(e.Prefix, nil, at, l.loc.Octets); err != nil {
			return fmt.Errorf("read body %s: %w", l.id, err)
		}
	}
	return nil
}

// stored reads a body at any place, for one call of SurrogateOctets.
type stored struct {
	ctx      context.Context
	segments *body.Segments
	id       message.ID
	loc      body.Location
}

// ReadAt implements io.ReaderAt.
func (s *stored) ReadAt(p []byte, off int64) (int, error) {
	n := min(int64(len(p)), s.loc.Octets-off)
	if n <= 0 {
		return 0, io.EOF
	}
	r, err := s.segments.OpenAt(s.ctx, s.id, s.loc, off, n)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	got, err := io.ReadFull(r, p[:n])
	if err == nil && got < len(p) {
		err = io.EOF
	}
	return got, err
}
