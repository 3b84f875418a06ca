package clamd

import (
	"context"
	"errors"
	"sync"
	"time"
)

// restTime is how long nobody asks a clamd that hangs, between two tries.
const restTime = 10 * time.Second

// errRests is the cause of a scan's failure while clamd is left alone.
var errRests = errors.New("it did not answer PING either, and is asked again every 10 s")

// rest leaves alone a clamd that takes connections and answers nobody: otherwise each message
// would hold its session for all of Config.Timeout. It begins when a scan has run out of time and
// a PING is not answered either, and ends with the first that is. clamd answers PING beside its
// scans, so that a message that takes it long does not keep it from looking at others.
type rest struct {
	mu     sync.Mutex
	begun  chan struct{} // closed while clamd rests
	rests  bool
	asking bool      // somebody asks whether it is back
	next   time.Time // when the next may
}

// wait is closed when a rest begins.
func (r *rest) wait() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.begun
}

// turn reports whether clamd rests, and whether the caller is the one to ask if it is back; who is
// must call answered.
func (r *rest) turn() (rests, ask bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.rests || r.asking || time.Now().Before(r.next) {
		return r.rests, false
	}
	r.asking = true
	return true, true
}

// suspect reports whether the caller, whose time ran out, is the one to ask whether clamd is there.
func (r *rest) suspect() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asking || r.rests {
		return false
	}
	r.asking = true
	return true
}

// answered notes whether clamd answered the one who asked.
func (r *rest) answered(there bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asking = false
	switch {
	case there && r.rests:
		r.rests, r.begun = false, make(chan struct{})
	case !there && !r.rests:
		r.rests = true
		close(r.begun)
	}
	if !there {
		r.next = time.Now().Add(restTime)
	}
}

// gaveUp leaves the asking to the next.
func (r *rest) gaveUp() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asking = false
}

// admit fails at once while clamd rests; now and then it asks whether that is over.
func (c *Client) admit(ctx context.Context) error {
	rests, ask := c.rest.turn()
	if !rests || ask && c.isBack(ctx) {
		return nil
	}
	return c.resting()
}

// resting is the failure of a scan while clamd is left alone.
func (c *Client) resting() error {
	return &Error{Address: c.config.Address, Kind: ErrTimeout, Err: errRests}
}

// doubt has clamd rest if it does not even answer PING; err is what a scan ended with.
func (c *Client) doubt(ctx context.Context, err error) {
	if ctx.Err() == nil && (errors.Is(err, ErrTimeout) || errors.Is(err, ErrBusy)) && c.rest.suspect() {
		c.isBack(ctx)
	}
}

// isBack asks clamd beside the scans whether it is there, within ConnectTimeout, and notes it.
// What a caller did not wait for is not held against clamd.
func (c *Client) isBack(parent context.Context) bool {
	ctx, cancel := context.WithTimeout(parent, c.config.ConnectTimeout)
	defer cancel()
	err := c.connected(parent, ctx, c.ping)
	if err != nil && parent.Err() != nil {
		c.rest.gaveUp()
		return false
	}
	c.rest.answered(err == nil)
	return err == nil
}
