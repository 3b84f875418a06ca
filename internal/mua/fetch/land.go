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
	linePauses  = 100 * time.Millisecond
	unfiledFor  = time.Second
)

// load is a batch on its way from the line into the tables.
type load struct {
	batch  []*taken
	fresh  []*taken        // those of them that do not lie here already
	bodies *store.Unloaded // their octets, which are durable; nil when none is fresh
}

// commit makes letters durable, as many at once as have come, and files them in the pauses. While the
// tables of one batch wait for the disk, the octets of the next are written. After an error it throws away what comes.
// ctx is the fetch's, and inner ends when stop is called.
func (r *round) commit(ctx, inner context.Context, came <-chan *taken, stop context.CancelCauseFunc) error {
	loads, landed := make(chan *load), make(chan error, 1)
	go func() { landed <- r.landAll(ctx, loads, stop) }()
	failed := r.unloadAll(inner, came, loads, stop)
	close(loads)
	if err := <-landed; err != nil {
		return err
	}
	return failed
}

// unloadAll makes the octets of what comes durable and hands it on. After an error, also one of the tables, whose
// octets would be written in vain, it throws away what comes.
func (r *round) unloadAll(ctx context.Context, came <-chan *taken, loads chan<- *load, stop context.CancelCauseFunc) error {
	var failed error
	for {
		batch := gather(came)
		if len(batch) == 0 {
			return failed
		}
		var l *load
		if failed == nil {
			if l, failed = r.unload(ctx, batch); failed != nil {
				stop(failed)
			}
		}
		for _, t := range batch {
			t.staged.Discard()
			r.dock.give(t.held)
		}
		if l != nil {
			loads <- l
		}
	}
}

// gather returns what has come, at least one letter; none when nothing will come any more.
func gather(came <-chan *taken) []*taken {
	t, ok := <-came
	if !ok {
		return nil
	}
	batch, octets := append(make([]*taken, 0, 64), t), t.staged.Octets()
	for len(batch) < batchMost && octets < batchOctets {
		select {
		case t, ok := <-came:
			if !ok {
				return batch
			}
			batch, octets = append(batch, t), octets+t.staged.Octets()
		default:
			return batch
		}
	}
	return batch
}

// landAll puts what is unloaded into the tables, one batch after the other, and files in the pauses. After an error
// no later batch gets there.
func (r *round) landAll(ctx context.Context, loads <-chan *load, stop context.CancelCauseFunc) error {
	var failed error
	for {
		l, open := r.nextLoad(loads, failed == nil)
		if !open {
			return failed
		}
		if failed == nil {
			if failed = r.settle(ctx, l); failed != nil {
				stop(failed)
			}
		}
		if l != nil {
			if failed == nil {
				for _, t := range l.batch {
					t.place.Landed()
				}
			}
			r.coming.Add(-int64(len(l.batch)))
			if l.bodies != nil {
				l.bodies.Release()
			}
		}
	}
}

// nextLoad waits for the next batch. None says that the line pauses long enough to file what waits; open is false
// when nothing will come any more.
func (r *round) nextLoad(loads <-chan *load, file bool) (l *load, open bool) {
	for {
		var pause <-chan time.Time
		if file && r.waiting > 0 {
			wait := linePauses
			if r.waiting < manyWaiting {
				wait = max(linePauses, unfiledFor-time.Since(r.filed))
			}
			pause = time.After(wait)
		}
		select {
		case l, open := <-loads:
			return l, open
		case <-pause:
			if r.coming.Load() == 0 {
				return nil, true
			}
		}
	}
}

// settle makes a batch durable. None says that the line pauses: then it files until something comes.
func (r *round) settle(ctx context.Context, l *load) error {
	if l == nil {
		return r.file(ctx, func() bool { return r.coming.Load() > 0 })
	}
	if err := r.keep(ctx, l); err != nil {
		return err
	}
	if r.waiting >= mostWaiting || r.waiting > 0 && r.waiting < manyWaiting && time.Since(r.filed) > unfiledFor {
		return r.file(ctx, nil)
	}
	return nil
}

// file files what waits, some 250 at least, until enough, which may be nil, says so.
func (r *round) file(ctx context.Context, enough func() bool) error {
	if r.waiting == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err // the next fetch or start files
	}
	inner, stop := context.WithCancel(ctx)
	defer stop()
	all := r.waiting
	r.todo.Filing = all
	r.f.c.Progress(r.todo)
	err := r.f.c.Store.File(inner, func(n int) {
		r.waiting = max(1, all-n) // n may count another account's
		r.todo.Filing = r.waiting
		r.f.c.Progress(r.todo)
		if enough != nil && enough() {
			stop()
		}
	})
	r.todo.Filing = 0
	stopped := inner.Err() != nil && ctx.Err() == nil
	if err != nil && !(stopped && errors.Is(err, context.Canceled)) {
		return err
	}
	if !stopped {
		r.waiting = 0
	}
	r.filed = time.Now()
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
