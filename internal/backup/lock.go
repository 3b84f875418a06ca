package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"
)

// A repository has one writer: the object lock, which is renewed while work goes on and
// taken over when it has expired, by the clocks of those concerned, or when it is of a process of
// this machine that is gone. Whoever holds it looks once more immediately before what would hurt
// another: a snapshot, a removal.
const (
	lockName  = "lock"
	lockLife  = 15 * time.Minute
	lockRenew = 3 * time.Minute
)

// lockText is the object.
type lockText struct {
	ID      string    `json:"id"`
	Host    string    `json:"host"`
	Process int       `json:"process"`
	Work    string    `json:"work"`
	Expires time.Time `json:"expires"`
	// Which process of which start of a machine it is, where that can be told.
	Machine string `json:"machine,omitempty"`
	Started string `json:"started,omitempty"`
}

// lock is a lock in hand.
type lock struct {
	c    Config
	text lockText
	stop context.CancelFunc
	done sync.WaitGroup
}

// errOurs: the lock that stands is the one that was to be made.
var errOurs = errors.New("the lock is ours")

// takeLock takes the lock, or returns ErrLocked with who has it.
func takeLock(ctx context.Context, c Config, work string) (*lock, error) {
	l := &lock{c: c, text: lockText{ID: randomName(), Host: c.Host, Process: os.Getpid(), Work: work, Machine: machine(), Started: started(os.Getpid())}}
	err := c.Target.Create(ctx, lockName, l.encode())
	if errors.Is(err, fs.ErrExist) {
		if err = l.takeOver(ctx); err == nil {
			err = c.Target.Create(ctx, lockName, l.encode())
		}
	}
	if errors.Is(err, fs.ErrExist) { // another was faster, or the reply to our own Create was lost
		if held, rerr := l.read(ctx); rerr == nil && held.ID == l.text.ID {
			err = errOurs
		} else {
			err = ErrLocked
		}
	}
	if errors.Is(err, errOurs) {
		err = nil
	}
	if err != nil {
		return nil, err
	}
	renew, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop
	l.done.Go(func() { l.renew(renew) })
	return l, nil
}

// encode is the object, good from now on.
func (l *lock) encode() []byte {
	l.text.Expires = l.c.Now().Add(lockLife).UTC()
	text, _ := json.Marshal(l.text) // strings, a number and a time
	return append(text, '\n')
}

// abandoned reports whether whoever took a lock has ended for certain.
func (h *lockText) abandoned() bool {
	return h.Machine != "" && h.Machine == machine() && gone(h.Process, h.Started)
}

// takeOver removes a lock that has expired, whose process is gone, or whose writing was broken off.
func (l *lock) takeOver(ctx context.Context) error {
	held, err := l.read(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && held.ID == l.text.ID {
		return errOurs
	}
	if err == nil && l.c.Now().Before(held.Expires) && !held.abandoned() {
		return fmt.Errorf("%w: %s by process %d on %s; if that is gone, the lock ends at %s", ErrLocked, held.Work, held.Process, held.Host, held.Expires.Format(time.RFC3339))
	}
	if err != nil && !errors.Is(err, ErrDamaged) {
		return err
	}
	l.c.Logger.Warn("a lock that was left in the backup repository is taken over", "host", held.Host, "work", held.Work)
	return l.c.Target.Remove(ctx, lockName)
}

// read reads the lock that stands; ErrDamaged for what is none.
func (l *lock) read(ctx context.Context) (held lockText, err error) {
	text, err := l.c.Target.Get(ctx, lockName, 0, -1)
	if err != nil {
		return held, err
	}
	if json.Unmarshal(text, &held) != nil || held.ID == "" {
		return held, fmt.Errorf("lock: %w", ErrDamaged)
	}
	return held, nil
}

// valid reports whether the lock still stands: nil, or ErrLocked.
func (l *lock) valid(ctx context.Context) error {
	held, err := l.read(ctx)
	if err == nil && held.ID == l.text.ID && l.c.Now().Before(held.Expires) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrDamaged) {
		return err
	}
	return fmt.Errorf("%w: the lock was lost, perhaps as this machine stood still for longer than %s", ErrLocked, lockLife)
}

// renew keeps the lock until it is released.
func (l *lock) renew(ctx context.Context) {
	t := time.NewTicker(lockRenew)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if err := l.valid(ctx); err != nil {
			if errors.Is(err, ErrLocked) {
				return
			}
			continue // the target does not answer; valid will tell in the end
		}
		if err := l.c.Target.Put(ctx, lockName, l.encode()); err != nil {
			l.c.Logger.Warn("lock of the backup repository could not be renewed; it will be tried again", "error", err)
		}
	}
}

// release gives the lock back. It does so after ctx was cancelled as well.
func (l *lock) release(ctx context.Context) error {
	l.stop()
	l.done.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	held, err := l.read(ctx)
	if errors.Is(err, fs.ErrNotExist) || err == nil && held.ID != l.text.ID {
		return nil
	}
	if err == nil || errors.Is(err, ErrDamaged) {
		err = l.c.Target.Remove(ctx, lockName)
	}
	if err != nil {
		return fmt.Errorf("give back the lock of the backup repository: %w", err)
	}
	return nil
}
