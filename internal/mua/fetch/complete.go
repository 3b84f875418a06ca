package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"

	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
)

// ErrLeft means that the server has the letter no longer.
var ErrLeft = errors.New("the server does not have this letter any more; only its header section is here")

// Complete fetches the whole of a letter of which only the header section is here. ErrLeft.
func (f *Fetcher) Complete(ctx context.Context, a profile.Account, id store.LetterID) (err error) {
	ctx, done, err := f.hold(ctx, a.ID)
	if err != nil {
		return err
	}
	defer done(&err)
	w, err := f.journal.ofLetter(ctx, a.ID, id)
	if err != nil {
		return err
	}
	if !w.partial {
		return nil
	}
	r := &round{f: f, a: a, now: f.c.Now(), alike: map[string]int{}}
	if r.s, err = f.c.Open(ctx, a); err != nil {
		return fmt.Errorf("fetch %s: %w", a.Address, err)
	}
	defer r.s.Close()
	if err := r.complete(ctx, w); err != nil {
		return fmt.Errorf("fetch %s: %w", a.Address, err)
	}
	_ = r.s.Quit(ctx) // nothing depends on it
	return nil
}

func (r *round) complete(ctx context.Context, w *row) error {
	var err error
	if r.caps, err = r.s.Capabilities(ctx); err != nil {
		return err
	}
	items, err := r.s.List(ctx)
	if err != nil {
		return err
	}
	all, err := r.identify(ctx, items)
	if err != nil {
		return err
	}
	for _, m := range all {
		if m.key != w.key || m.Octets != w.octets {
			continue
		}
		return r.s.Retrieve(ctx, []int{m.Number}, func(_ int, text io.Reader) error {
			t, err := r.stage(ctx, m, text, false)
			if err != nil {
				return err
			}
			defer t.staged.Discard()
			return r.replace(ctx, w, t)
		})
	}
	return ErrLeft
}
