package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
)

// Adding a letter has two halves. Land makes it durable: its octets (Unload), then one row for many letters
// with all that is known of them. File gives it its folder, uid, thread and place in the lists; what Land
// took and File did not is filed when the store is opened the next time. Nobody sees a letter between the two.

// Landing is a letter for Land.
type Landing struct {
	mailbox.Import
	Whole int64  // of a partial letter, the octets of the whole one; else 0
	Note  []byte // for Config.Filed
}

// fileBatch is how many letters are filed in one transaction.
const fileBatch = 250

// Unloaded is letters whose octets are durable, and that nothing knows before Land. While its transaction
// waits for the disk the next letters may be unloaded.
type Unloaded struct {
	s       *Store
	account envelope.AccountID
	bodies  *mailbox.Unloaded
	more    []landed // of each letter what mailbox does not know
}

// Unload stores the octets of at most mailbox.MaxLand letters durably. What it returns must be ended with
// Release; without Land the octets are forgotten, and taken back by a merge later. Unload does not discard
// what is staged, but its memory is given back when Unload returns.
func (s *Store) Unload(ctx context.Context, account envelope.AccountID, batch []Landing) (*Unloaded, error) {
	defer s.busy()()
	u := &Unloaded{s: s, account: account, more: make([]landed, len(batch))}
	imports := make([]mailbox.Import, len(batch))
	for i := range batch {
		imports[i] = batch[i].Import
		if imports[i].Received.IsZero() {
			imports[i].Received = s.cfg.Now()
		}
		u.more[i] = landed{whole: batch[i].Whole, note: batch[i].Note}
	}
	var err error
	if u.bodies, err = s.mailboxes.Unload(ctx, account, s.cfg.Login(account), imports); err != nil {
		return nil, err
	}
	return u, nil
}

// Land makes the letters known, in one transaction; they are in no folder and in no list before
// File. Then all is as with Add, but that Config.Filed takes the place of Within. Letters land in the order of
// the calls.
func (u *Unloaded) Land(ctx context.Context) error {
	defer u.s.busy()()
	return u.bodies.Land(ctx, func(tx db.Tx, list []mailbox.Landed) error {
		for i := range list {
			u.more[i].Landed = list[i]
		}
		for chunk := range slices.Chunk(u.more, fileBatch) {
			if _, err := tx.Exec(`INSERT INTO landed (account, letters) VALUES (?, ?)`, int64(u.account), packLanded(chunk)); err != nil {
				return fmt.Errorf("note letters that wait to be filed: %w", err)
			}
		}
		return nil
	})
}

// Release ends it. Once is enough.
func (u *Unloaded) Release() { u.bodies.Release() }

// Land is Unload, Land and Release.
func (s *Store) Land(ctx context.Context, account envelope.AccountID, batch []Landing) error {
	u, err := s.Unload(ctx, account, batch)
	if err != nil {
		return err
	}
	defer u.Release()
	return u.Land(ctx)
}

// busy keeps the index away until the function that it returns is called.
func (s *Store) busy() func() {
	s.adding.Add(1)
	return func() {
		s.addedAt.Store(time.Now().UnixNano())
		s.adding.Add(-1)
	}
}

// filing is letters of one account that are filed in one transaction.
type filing struct {
	account envelope.AccountID
	ids     []int64 // rows of landed
	letters []landed
	rows    []row
	err     error
}

// File files what has landed, in the order in which it did. progress, which may be nil, is told
// how many letters were filed since the call. What was filed before an error stays.
func (s *Store) File(ctx context.Context, progress func(filed int)) error {
	s.filing.Lock()
	defer s.filing.Unlock()
	defer s.busy()()
	inner, stop := context.WithCancel(ctx)
	ready := make(chan *filing, 1) // the next is made ready while one is filed
	go s.makeReady(inner, ready)
	defer func() {
		stop()
		for range ready { // until it has ended
		}
	}()
	filed := 0
	for f := range ready {
		if f.err == nil {
			f.err = s.fileSome(ctx, f)
		}
		if f.err != nil {
			return fmt.Errorf("file letters that are here: %w", f.err)
		}
		filed += len(f.letters)
		if progress != nil {
			progress(filed)
		}
	}
	return ctx.Err()
}

// makeReady gives what has landed to ready, and closes it.
func (s *Store) makeReady(ctx context.Context, ready chan<- *filing) {
	defer close(ready)
	for after := int64(0); ; {
		f, err := s.nextLanded(ctx, after)
		if err == nil && len(f.ids) == 0 {
			return
		}
		if err == nil {
			after = f.ids[len(f.ids)-1]
			err = s.readLanded(ctx, f)
		}
		f.err = err
		select {
		case ready <- f:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// nextLanded reads the rows behind after that are filed together.
func (s *Store) nextLanded(ctx context.Context, after int64) (*filing, error) {
	f := &filing{}
	err := s.view(ctx, func(tx db.Tx) error {
		*f = filing{}
		rows, err := tx.Query(`SELECT id, account, letters FROM landed WHERE id > ? ORDER BY id`, after)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id int64
			var account envelope.AccountID
			var packed []byte
			if err := rows.Scan(&id, &account, &packed); err != nil {
				return err
			}
			list, err := unpackLanded(packed)
			if err != nil {
				return fmt.Errorf("row %d: %w", id, err)
			}
			if len(f.ids) > 0 && (account != f.account || len(f.letters)+len(list) > fileBatch) {
				break
			}
			f.account, f.ids, f.letters = account, append(f.ids, id), append(f.letters, list...)
		}
		return rows.Err()
	})
	return f, err
}

// readLanded reads the letters' header sections and has the rules decide where they go.
func (s *Store) readLanded(ctx context.Context, f *filing) error {
	f.rows = make([]row, len(f.letters))
	for i := range f.letters {
		l, r := &f.letters[i], &f.rows[i]
		r.whole = l.whole
		o, size, err := s.read(ctx, l.content())
		if errors.Is(err, body.ErrDamaged) { // where it lies now its row knows
			o, size, err = s.readByRow(ctx, l)
		}
		switch {
		case errors.Is(err, body.ErrDamaged), errors.Is(err, body.ErrNotFound):
			s.cfg.Logger.Error("a letter is damaged; it is listed without its header", "account", int64(f.account), "id", l.Body.String(), "error", err)
		case err != nil:
			return err
		default:
			if r.head, err = readHeader(o, size); err != nil {
				return err
			}
			if r.head.utf8 {
				if l.Surrogate, err = s.mailboxes.SurrogateOctets(nil, nil, o, size); err != nil {
					return err
				}
			}
			if l.Mailbox == "" {
				if err := s.sort(ctx, f.account, &l.Import, r, o, size); err != nil {
					return err
				}
			}
		}
		s.prepare(r, l.Received)
		r.head.raw = nil
	}
	return nil
}

// readByRow is read for a body that may have been moved since it landed.
func (s *Store) readByRow(ctx context.Context, l *landed) (o io.ReaderAt, size int64, err error) {
	var at body.Location
	err = s.view(ctx, func(tx db.Tx) error {
		at, err = body.Lookup(tx, l.Body)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	return s.read(ctx, mailbox.Content{Body: l.Body, Location: at})
}

// fileSome files letters and forgets that they have landed.
func (s *Store) fileSome(ctx context.Context, f *filing) error {
	var in *entering
	_, err := s.mailboxes.AppendLanded(ctx, f.account, s.cfg.Login(f.account), bodies(f.letters), func(tx db.Tx, i int, a mailbox.Appended) (err error) {
		if i == 0 {
			if err := forgetLanded(tx, f.ids); err != nil {
				return err
			}
			if in, err = s.enter(tx, f.rows); err != nil {
				return err
			}
		}
		id := LetterID(0)
		if !a.Duplicate {
			if err := in.insert(&f.rows[i], &a.Entry); err != nil {
				return err
			}
			id = LetterID(f.rows[i].id)
		}
		if len(f.letters[i].note) == 0 {
			return nil
		}
		if s.cfg.Filed == nil {
			return errors.New("it is noted of them what this program does not understand (Config.Filed is missing)")
		}
		return s.cfg.Filed(tx, f.account, f.letters[i].note, id)
	})
	if err == nil {
		s.wakeIndex()
	}
	return err
}

// forgetLanded drops rows of landed. One that is gone is an error: who dropped it has dealt with its letters.
func forgetLanded(tx db.Tx, ids []int64) error {
	for _, id := range ids {
		n, err := tx.Exec(`DELETE FROM landed WHERE id = ?`, id)
		if err == nil && n == 0 {
			err = fmt.Errorf("letters that wait to be filed (row %d) are gone", id)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// dropLanded gives up what has landed for an account.
func (s *Store) dropLanded(ctx context.Context, account envelope.AccountID) error {
	s.filing.Lock()
	defer s.filing.Unlock()
	for after := int64(0); ; {
		f, err := s.nextLanded(ctx, after)
		if err != nil || len(f.ids) == 0 {
			return err
		}
		after = f.ids[len(f.ids)-1]
		if f.account != account {
			continue
		}
		err = s.db.UpdateLow(ctx, func(tx db.Tx) error {
			if err := forgetLanded(tx, f.ids); err != nil {
				return err
			}
			return s.mailboxes.ReleaseLanded(tx, bodies(f.letters))
		})
		if err != nil {
			return err
		}
	}
}
