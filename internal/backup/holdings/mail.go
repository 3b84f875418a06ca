package holdings

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
)

// Mailroom is where Mail restores to: an account of a store that may be at work. All
// fields but Progress are required.
type Mailroom struct {
	Body      body.Store
	Mailboxes *mailbox.Store
	Account   envelope.AccountID
	Login     string
	Progress  func(backup.Progress) // nil for none
}

// Mail restores the letters that are selected into an account, whatever its name is in
// the backup, and whatever sort of store that was made of. Mailboxes, unique-ids, flags and
// times are as they were; letters that the account has in any mailbox already are left
// as they are, so it may be stopped and repeated. Those in retention are put into
// their mailboxes. Letters of which the backup has the header section only are left out, and
// counted: under its unique-id a part would pass for the letter, and keep it from coming.
func Mail(ctx context.Context, r *backup.Repository, s *backup.Snapshot, sel Selection, to Mailroom) (done Restored, err error) {
	w := &mailing{r: r, s: s, to: to, done: Restored{Snapshot: s.ID, Time: s.Time}, known: make(map[letterKey]struct{})}
	if w.to.Progress == nil {
		w.to.Progress = func(backup.Progress) {}
	}
	err = to.Mailboxes.Walk(ctx, to.Account, func(e mailbox.Entry) error {
		w.known[keyOf(&e)] = struct{}{}
		w.known[letterKey(e.Body)] = struct{}{} // put back from retention it has another unique-id
		return nil
	})
	if err == nil {
		_, err = find(ctx, r, s, sel, false, func(l Letter) error { return w.add(ctx, l) })
	}
	if err == nil {
		err = w.flush(ctx)
	}
	w.discard()
	if err != nil {
		return w.done, fmt.Errorf("restore mail of %s: %w", sel.Account, err)
	}
	w.done.Accounts = 1
	return w.done, nil
}

// letterKey tells letters apart: by unique-id, length and time of receipt. 16 octets are
// enough, and a million letters take some 80 MB.
type letterKey [16]byte

func keyOf(e *mailbox.Entry) (k letterKey) {
	b := append([]byte(e.UniqueID), 0)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Octets))
	b = binary.BigEndian.AppendUint64(b, uint64(e.Received.UnixMicro()))
	sum := sha256.Sum256(b)
	copy(k[:], sum[:])
	return k
}

// mailing is one run of Mail.
type mailing struct {
	r     *backup.Repository
	s     *backup.Snapshot
	to    Mailroom
	known map[letterKey]struct{}
	batch []mailbox.Adoption
	size  int64
	done  Restored
}

// add puts a letter into the batch.
func (w *mailing) add(ctx context.Context, l Letter) error {
	key := keyOf(&l.Entry)
	_, there := w.known[key]
	if _, same := w.known[letterKey(l.Body)]; there || same {
		w.done.Duplicates++
		return nil
	}
	if l.Partial {
		w.done.Partial++
		return nil
	}
	it, err := octets(ctx, w.r, w.s, &l)
	if errors.Is(err, backup.ErrDamaged) || errors.Is(err, backup.ErrNotFound) {
		w.done.Lost++
		return nil
	}
	if err != nil {
		return err
	}
	st, err := stage(ctx, w.to.Body, it, func() error { return w.flush(ctx) })
	if errors.Is(err, backup.ErrDamaged) {
		w.done.Lost++
		return nil
	}
	if err != nil {
		return err
	}
	w.known[key] = struct{}{}
	w.batch = append(w.batch, mailbox.Adoption{Mailbox: l.Mailbox, UniqueID: l.UniqueID, Flags: l.Flags, Received: l.Received,
		Prefix: l.Prefix, Surrogate: l.Surrogate, Staged: st})
	if w.size += it.Octets; len(w.batch) >= mailbox.MaxAppend || w.size >= bodyBatchOctets {
		return w.flush(ctx)
	}
	return nil
}

// flush stores the batch.
func (w *mailing) flush(ctx context.Context) error {
	if len(w.batch) == 0 {
		return nil
	}
	defer w.discard()
	entries, err := w.to.Mailboxes.Adopt(ctx, w.to.Account, w.to.Login, w.batch)
	if err != nil {
		return err
	}
	for i := range entries {
		w.done.Messages++
		w.done.Octets += entries[i].Octets
	}
	w.to.Progress(backup.Progress{Step: "messages", Items: w.done.Messages, Octets: w.done.Octets})
	return nil
}

func (w *mailing) discard() {
	for _, a := range w.batch {
		a.Staged.Discard()
	}
	w.batch, w.size = nil, 0
}
