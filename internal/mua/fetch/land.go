package fetch

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
)

// Bounds of what is fetched but not yet durable. A slow line has each letter made durable at once.
const (
	ahead       = 2048 // letters that wait for the commit before
	aheadOctets = 8 << 20
	batchMost   = mailbox.MaxLand
	batchOctets = 4 << 20
)

// When letters that are durable are filed before the fetch ends: many of them when the line pauses, few
// after a while, and whatever the line does when there are too many. A fast line is not kept waiting otherwise.
const (
	manyWaiting = 250
	mostWaiting = 20_000
	linePauses  = 20 * time.Millisecond
	unfiledFor  = time.Second
)

// commit makes letters durable, as many at once as have come, and files them in the pauses. After
// an error it throws away what comes.
func (r *round) commit(ctx context.Context, came <-chan *taken, stop context.CancelCauseFunc) error {
	var failed error
	for open := true; open; {
		var batch []*taken
		if batch, open = r.gather(came); failed == nil {
			failed = r.settle(ctx, batch, open)
			if failed != nil {
				stop(failed)
			}
		}
		for _, t := range batch {
			t.staged.Discard()
			r.dock.give(t.held)
		}
	}
	return failed
}

// settle makes a batch durable. An empty one says that the line pauses.
func (r *round) settle(ctx context.Context, batch []*taken, open bool) error {
	if len(batch) > 0 {
		if err := r.keep(ctx, batch); err != nil {
			return err
		}
	}
	if r.waiting == 0 || !open {
		return nil
	}
	if len(batch) == 0 || r.waiting >= mostWaiting || r.waiting < manyWaiting && time.Since(r.filed) > unfiledFor {
		return r.file(ctx)
	}
	return nil
}

// gather returns what has come: at least one letter, or none when the line pauses long enough to
// file. It reports false when nothing will come any more.
func (r *round) gather(came <-chan *taken) ([]*taken, bool) {
	var pause <-chan time.Time
	if r.waiting > 0 {
		wait := linePauses
		if r.waiting < manyWaiting {
			wait = max(linePauses, unfiledFor-time.Since(r.filed))
		}
		t := time.NewTimer(wait)
		defer t.Stop()
		pause = t.C
	}
	var batch []*taken
	var octets int64
	for len(batch) < batchMost && octets < batchOctets {
		if len(batch) > 0 {
			select {
			case t, ok := <-came:
				if !ok {
					return batch, false
				}
				batch, octets = append(batch, t), octets+t.staged.Octets()
				continue
			default:
				return batch, true
			}
		}
		select {
		case t, ok := <-came:
			if !ok {
				return nil, false
			}
			batch, octets = append(batch, t), t.staged.Octets()
		case <-pause:
			return nil, true
		}
	}
	return batch, true
}

// file files what waits and has the rows in memory know their letters.
func (r *round) file(ctx context.Context) error {
	if r.waiting == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err // the next fetch or start files
	}
	all := r.waiting
	r.todo.Filing = all
	r.f.c.Progress(r.todo)
	err := r.f.c.Store.File(ctx, func(n int) {
		r.todo.Filing = max(1, all-n)
		r.f.c.Progress(r.todo)
	})
	r.todo.Filing = 0
	if err != nil {
		return err
	}
	r.waiting, r.filed = 0, time.Now()
	r.f.c.Progress(r.todo)
	return nil
}

// learn has the rows of letters that came in this fetch know which letters they are, if that
// will be asked.
func (r *round) learn(ctx context.Context) error {
	if r.res.Fetched+r.res.Headers == 0 || r.a.Policy.Keep == profile.Leave && !r.a.Policy.Follow {
		return nil
	}
	now, err := r.f.journal.load(ctx, r.a.ID)
	if err != nil {
		return err
	}
	for key, w := range r.rows {
		if is := now[key]; is != nil && w.fresh {
			w.letter = is.letter
		}
	}
	return nil
}

// dock bounds the octets of letters that have come and are not yet durable.
type dock struct {
	mu    sync.Mutex
	size  int64
	free  int64
	freed chan struct{} // one token
}

func newDock(size int64) *dock { return &dock{size: size, free: size, freed: make(chan struct{}, 1)} }

// take waits for room and returns how much it took; one letter always finds some. One goroutine may
// call it. When ctx ends it returns 0.
func (d *dock) take(ctx context.Context, octets int64) int64 {
	octets = max(1, min(octets, d.size))
	for {
		d.mu.Lock()
		if d.free >= octets {
			d.free -= octets
			d.mu.Unlock()
			return octets
		}
		d.mu.Unlock()
		select {
		case <-d.freed:
		case <-ctx.Done():
			return 0
		}
	}
}

func (d *dock) give(octets int64) {
	d.mu.Lock()
	d.free += octets
	d.mu.Unlock()
	select {
	case d.freed <- struct{}{}:
	default:
	}
}

// Filed writes the journal's row of a letter that is filed; it is for Config.Filed of the store.
func Filed(tx db.Tx, account envelope.AccountID, note []byte, id store.LetterID) error {
	w, err := parseNote(note)
	if err != nil {
		return err
	}
	w.letter = id
	return journal{}.put(tx, account, w)
}

// noteForm is the first octet of a note.
const noteForm = 1

// note is the row of a letter that is not filed yet.
func (w *row) note() []byte {
	var flags byte
	for i, is := range [...]bool{w.odd, w.compared, w.partial} {
		if is {
			flags |= 1 << i
		}
	}
	b := make([]byte, 0, 2+16+32+20+len(w.key))
	b = append(b, noteForm, flags)
	b = append(append(b, w.digest[:]...), w.sha256[:]...)
	b = binary.AppendVarint(binary.AppendVarint(b, w.octets), w.at)
	return append(b, w.key...)
}

// errNote says that a note is not as it was written.
var errNote = errors.New("what is noted of a letter that was fetched can't be read")

// parseNote undoes note.
func parseNote(b []byte) (*row, error) {
	w := &row{}
	fixed := 2 + len(w.digest) + len(w.sha256)
	if len(b) < fixed || b[0] != noteForm {
		return nil, fmt.Errorf("%w: %d octets", errNote, len(b))
	}
	w.odd, w.compared, w.partial = b[1]&1 != 0, b[1]&2 != 0, b[1]&4 != 0
	copy(w.digest[:], b[2:])
	copy(w.sha256[:], b[2+len(w.digest):])
	b = b[fixed:]
	for _, p := range [...]*int64{&w.octets, &w.at} {
		v, n := binary.Varint(b)
		if n <= 0 {
			return nil, errNote
		}
		*p, b = v, b[n:]
	}
	w.key = string(b)
	return w, nil
}
