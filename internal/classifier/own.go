package classifier

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
)

// Sizes of accounts' models: one has some 256 slots for each sample.
const (
	minOwnBits = 14
	maxOwnBits = 18
	slotsBits  = 8
)

// entryOctets is about what an account without a model costs in the cache.
const entryOctets = 512

// owned is an account in the cache.
type owned struct {
	id      envelope.AccountID
	mu      sync.Mutex
	tally   tally     // without a model while too little was taught
	checked time.Time // when the database was last asked
	octets  int64     // of owns.mu: what it counts for
}

// owns is the cache of what accounts taught, the least recently used last.
type owns struct {
	mu             sync.Mutex
	byID           map[envelope.AccountID]*list.Element // of *owned
	order          *list.List
	octets, budget int64
}

func newOwns(budget int64) owns {
	return owns{byID: map[envelope.AccountID]*list.Element{}, order: list.New(), budget: budget}
}

// get returns an account's entry, a new one if need be.
func (o *owns) get(id envelope.AccountID) *owned {
	o.mu.Lock()
	defer o.mu.Unlock()
	if e, found := o.byID[id]; found {
		o.order.MoveToFront(e)
		return e.Value.(*owned)
	}
	own := &owned{id: id, octets: entryOctets}
	o.byID[id] = o.order.PushFront(own)
	o.octets += entryOctets
	o.trim(own)
	return own
}

// weigh notes what an entry takes.
func (o *owns) weigh(own *owned, octets int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if e, found := o.byID[own.id]; !found || e.Value != own {
		return // it left meanwhile
	}
	o.octets += octets - own.octets
	own.octets = octets
	o.trim(own)
}

// trim lets the least recently used leave, but for one.
func (o *owns) trim(but *owned) {
	for e := o.order.Back(); e != nil && o.octets > o.budget; {
		before := e.Prev()
		if own := e.Value.(*owned); own != but {
			o.order.Remove(e)
			delete(o.byID, own.id)
			o.octets -= own.octets
		}
		e = before
	}
}

// expire makes the next Judge ask the database.
func (o *owns) expire(id envelope.AccountID) {
	o.mu.Lock()
	e, found := o.byID[id]
	o.mu.Unlock()
	if found {
		own := e.Value.(*owned)
		own.mu.Lock()
		own.checked = time.Time{}
		own.mu.Unlock()
	}
}

// own returns what an account has taught, as true as Config.Poll demands.
func (c *Classifier) own(ctx context.Context, id envelope.AccountID) (*owned, error) {
	own := c.owns.get(id)
	own.mu.Lock()
	defer own.mu.Unlock()
	now := c.cfg.Now()
	if !own.checked.IsZero() && now.Sub(own.checked) < c.cfg.Poll {
		return own, nil
	}
	var spam, ham int64
	err := c.cfg.DB.View(ctx, func(tx db.Tx) error {
		spam, ham = 0, 0
		err := tx.QueryRow(`SELECT spam, ham FROM classifier_model WHERE account = ?`, int64(id)).Scan(&spam, &ham)
		if errors.Is(err, db.ErrNotFound) {
			return nil
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read what account %d has taught: %w", id, err)
	}
	if min(spam, ham) < int64(max(c.cfg.AccountMin, 1)) {
		own.tally = tally{}
		own.checked = now
		c.owns.weigh(own, entryOctets)
		return own, nil
	}
	if err := c.followOwn(ctx, own, ownBits(spam+ham)); err != nil {
		own.tally = tally{}
		return nil, err
	}
	own.checked = now
	c.owns.weigh(own, entryOctets+own.tally.model.Octets())
	return own, nil
}

// followOwn reads all that is new of an account into a model of at least some bits.
func (c *Classifier) followOwn(ctx context.Context, own *owned, bits int) error {
	t := &own.tally
	if t.model == nil || len(t.model.counts) < 1<<bits {
		*t = tally{model: NewModel(bits)}
	}
	for {
		p, err := t.read(ctx, c.cfg.DB, own.id)
		if err != nil {
			return err
		}
		if t.stale(p) {
			t.reset()
			continue
		}
		if _, broken := t.apply(p); broken > 0 {
			c.cfg.Logger.Error("classifier samples can't be read", "count", broken, "account", int64(own.id))
		}
		if !p.more {
			return nil
		}
	}
}

// ownBits is the size of a model for some samples.
func ownBits(samples int64) int {
	return min(max(bits.Len64(uint64(samples))+slotsBits, minOwnBits), maxOwnBits)
}
