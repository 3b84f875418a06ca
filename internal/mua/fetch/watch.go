package fetch

import (
	"context"
	"time"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/pop3client"
)

// Times of Watch.
const (
	DefaultEvery = 5 * time.Minute  // between two looks at an account
	LeastEvery   = 10 * time.Second // however little an account's policy says
	maxPause     = time.Hour        // after failures that follow each other
	person       = 24 * time.Hour   // after a failure that only the person can mend
)

// Round is what Watch tells of one look at an account.
type Round struct {
	Account profile.Account
	Result  Result
	Err     error
	Next    time.Time
}

// Watch looks at all accounts again and again until ctx ends: each by its policy, one after the
// other; one that fails is left alone for longer and longer, and where a password is refused for a day,
// so that the server does not lock the person out. A value on now looks at once. tell is called after each look.
func (f *Fetcher) Watch(ctx context.Context, accounts func(context.Context) ([]profile.Account, error), now <-chan struct{}, tell func(Round)) error {
	w := &watch{f: f, next: map[envelope.AccountID]time.Time{}, failures: map[envelope.AccountID]int{}}
	for {
		all, err := accounts(ctx)
		if err != nil {
			return err
		}
		pause := w.round(ctx, all, tell)
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-now:
			t.Stop()
			clear(w.next)
		case <-t.C:
		}
	}
}

type watch struct {
	f        *Fetcher
	next     map[envelope.AccountID]time.Time
	failures map[envelope.AccountID]int
}

// round looks at the accounts that are due, and returns how long nothing is.
func (w *watch) round(ctx context.Context, all []profile.Account, tell func(Round)) time.Duration {
	pause := DefaultEvery
	for _, a := range all {
		if a.Paused || ctx.Err() != nil {
			continue
		}
		if now := w.f.c.Now(); !w.next[a.ID].After(now) {
			res, err := w.f.Sync(ctx, a)
			if ctx.Err() != nil {
				return pause
			}
			w.next[a.ID] = w.f.c.Now().Add(w.pause(a, err))
			tell(Round{Account: a, Result: res, Err: err, Next: w.next[a.ID]})
		}
		pause = min(pause, w.next[a.ID].Sub(w.f.c.Now()))
	}
	return max(pause, time.Second)
}

// pause is how long an account is left alone after a look at it.
func (w *watch) pause(a profile.Account, err error) time.Duration {
	every := DefaultEvery
	if a.Policy.Every > 0 {
		every = max(LeastEvery, time.Duration(a.Policy.Every)*time.Second)
	}
	if err == nil {
		w.failures[a.ID] = 0
		return every
	}
	w.failures[a.ID]++
	switch pop3client.KindOf(err) {
	case pop3client.KindCredentials, pop3client.KindTLS:
		return max(every, person)
	case pop3client.KindInUse:
		return min(every, time.Minute)
	}
	return max(every, min(maxPause, every<<min(w.failures[a.ID]-1, 10)))
}
