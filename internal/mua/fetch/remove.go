package fetch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
	"poczta.example/poczta/internal/pop3client"
)

// remove deletes on the server what the policy says, and ends the session. Only after the server
// confirmed it is the journal told.
func (r *round) remove(ctx context.Context, all []*mail) error {
	var due, doubtful []*mail
	for _, m := range all {
		w := r.rows[m.key]
		if w == nil || w.partial {
			continue
		}
		ok, err := r.due(ctx, w)
		m.due = ok
		switch {
		case err != nil:
			return err
		case ok && !w.compared, w.odd && !w.fresh && len(doubtful) < mostAgain:
			doubtful = append(doubtful, m)
		case ok:
			due = append(due, m)
		}
	}
	proven, err := r.again(ctx, doubtful)
	if err != nil {
		return err
	}
	for _, m := range proven {
		if m.due {
			due = append(due, m)
		}
	}
	if due, err = r.readBack(ctx, due); err != nil {
		return err
	}
	return r.delete(ctx, due)
}

// mostAgain is how many letters with an odd size are looked at again in one fetch though nothing
// is to be deleted.
const mostAgain = 200

// due reports whether the policy wants a letter deleted on the server.
func (r *round) due(ctx context.Context, w *row) (bool, error) {
	if w.deleted != 0 {
		r.remark("a letter that the server has deleted is there again; it is deleted once more")
		return true, nil
	}
	switch r.a.Policy.Keep {
	case profile.Fetched:
		return true, nil
	case profile.Days:
		if db.Micros(r.now)-w.at >= (time.Duration(r.a.Policy.Days) * 24 * time.Hour).Microseconds() {
			return true, nil
		}
	}
	if !r.a.Policy.Follow || w.letter == 0 {
		return false, nil
	}
	standing, err := r.f.c.Store.Standing(ctx, w.letter)
	return standing != store.Here, err
}

// again fetches letters whose whole content was never compared, or whose size was not as the
// server said, and returns those that are equal to what lies here. One that is not is another
// letter: the journal forgets it, and it is fetched as new the next time. Of one with an odd size the
// second form takes the place of the first.
func (r *round) again(ctx context.Context, list []*mail) (proven []*mail, err error) {
	if len(list) == 0 {
		return nil, nil
	}
	var changed []*row
	var dropped []string
	err = r.oneByOne(ctx, list, func(w *row, t *taken) error {
		switch {
		case t.staged.SHA256() == w.sha256:
			w.compared, w.odd = true, false
			changed = append(changed, w)
			proven = append(proven, t.m)
		case w.odd:
			return r.replace(ctx, w, t)
		default:
			r.remark("letter %d was taken for one that lies here and is another; it will be fetched", t.m.Number)
			dropped = append(dropped, w.key)
			delete(r.rows, w.key)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return proven, r.write(ctx, changed, dropped)
}

// oneByOne fetches letters that the journal knows and gives each to fn. One at a time: replies to commands sent
// ahead may run into each other.
func (r *round) oneByOne(ctx context.Context, list []*mail, fn func(w *row, t *taken) error) error {
	by := byNumber(list)
	each := func(n int, text io.Reader) error {
		t, err := r.stage(ctx, by[n], text, false)
		if err != nil {
			return err
		}
		defer t.staged.Discard()
		return fn(r.rows[t.m.key], t)
	}
	for _, n := range numbers(list) {
		if err := r.refuse(r.s.Retrieve(ctx, []int{n}, each)); err != nil {
			return err
		}
	}
	return nil
}

// replace puts what came in the place of a letter here.
func (r *round) replace(ctx context.Context, w *row, t *taken) error {
	now := *w
	now.sha256, now.partial = t.staged.SHA256(), false
	var err error
	if now.odd, err = t.odd(); err != nil {
		return fmt.Errorf("look at letter %d: %w", t.m.Number, err)
	}
	now.compared = !now.odd
	err = r.f.c.Store.Complete(ctx, w.letter, t.staged, func(tx db.Tx) error { return r.f.journal.put(tx, r.a.ID, &now) })
	if errors.Is(err, store.ErrNotFound) { // the person has removed it
		return nil
	}
	if err != nil {
		return fmt.Errorf("complete letter: %w; nothing was deleted on the server", err)
	}
	*w = now
	r.res.Completed++
	return nil
}

// readBack returns the letters that lie here, whole and equal to what the server gave, or that the
// person has removed.
func (r *round) readBack(ctx context.Context, list []*mail) ([]*mail, error) {
	var good, damaged []*mail
	for _, m := range list {
		w := r.rows[m.key]
		if w.letter == 0 {
			r.remark("a letter that lay here before its first fetch stays on the server")
			continue
		}
		ok, err := r.lies(ctx, w)
		if err != nil {
			return nil, err
		}
		if ok {
			good = append(good, m)
			continue
		}
		standing, err := r.f.c.Store.Standing(ctx, w.letter)
		if err != nil {
			return nil, err
		}
		if standing != store.Here { // nothing can be put in its place
			r.remark("letter %d, which was removed, is damaged on this disk; it stays on the server", w.letter)
			continue
		}
		r.remark("letter %d is damaged on this disk; it stays on the server and is fetched again", w.letter)
		damaged = append(damaged, m)
	}
	return good, r.mend(ctx, damaged)
}

// mend fetches letters that are damaged here and puts them in their places: the store knows them, and would not take them
// as new ones. One that is another on the server is fetched as new the next time.
func (r *round) mend(ctx context.Context, list []*mail) error {
	var dropped []string
	err := r.oneByOne(ctx, list, func(w *row, t *taken) error {
		if t.staged.SHA256() == w.sha256 {
			return r.replace(ctx, w, t)
		}
		dropped = append(dropped, w.key)
		delete(r.rows, w.key)
		return nil
	})
	if err != nil {
		return err
	}
	return r.write(ctx, nil, dropped)
}

// lies reports whether a letter's octets are what was fetched. One that the person has removed
// for good is no longer wanted anywhere.
func (r *round) lies(ctx context.Context, w *row) (bool, error) {
	octets, size, err := r.f.c.Store.Octets(ctx, w.letter)
	if errors.Is(err, store.ErrNotFound) {
		return true, nil
	}
	h := sha256.New()
	if err == nil {
		_, err = io.Copy(h, io.NewSectionReader(octets, 0, size))
	}
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil {
		r.f.c.Logger.Warn("letter can't be read back", "letter", int64(w.letter), "error", err)
		return false, nil
	}
	return [32]byte(h.Sum(nil)) == w.sha256, nil
}

// delete marks letters and ends the session, which removes them.
func (r *round) delete(ctx context.Context, due []*mail) error {
	if len(due) == 0 {
		if err := r.s.Quit(ctx); err != nil {
			r.f.c.Logger.Info("session ended without a word", "account", r.a.Address, "error", err)
		}
		return nil
	}
	r.todo.Deleting = len(due)
	r.f.c.Progress(r.todo)
	var kept []int // in order, as they were asked for
	err := r.s.Delete(ctx, numbers(due))
	if refused, ok := errors.AsType[*pop3client.Refused](err); ok {
		if kept = refused.Numbers; len(kept) > len(refused.First) {
			r.remark("the server refuses to delete %d letters; the first of them are told", len(kept))
		}
	}
	if err := r.refuse(err); err != nil {
		return err
	}
	if err := r.s.Quit(ctx); err != nil {
		return fmt.Errorf("delete %d letters on the server: %w; what is still there is deleted the next time", len(due), err)
	}
	var changed []*row
	for _, m := range due {
		if _, refused := slices.BinarySearch(kept, m.Number); refused {
			continue
		}
		w := r.rows[m.key]
		w.deleted = db.Micros(r.now)
		changed = append(changed, w)
		r.res.Deleted++
	}
	return r.write(context.WithoutCancel(ctx), changed, nil)
}
