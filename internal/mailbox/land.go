package mailbox

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
)

// MaxLand is how many messages one Unload takes; each is one row.
const MaxLand = 2 * chunkRows

// Landed is a message whose body lies here durably and that has no entry yet: the first half of
// what Append does, for who must be quick and will do the other half later. Its Import has no Staged.
type Landed struct {
	Import
	Body      message.ID
	Location  body.Location // where the body lay at first
	Surrogate int64         // for AppendLanded, as Entry.Surrogate: see SurrogateOctets
}

// Unloaded is messages whose bodies are durable and have no rows yet: nothing remembers them
// before Land, and only what Release gives back later keeps their octets from being swept away.
type Unloaded struct {
	s       *Store
	account envelope.AccountID
	landed  []Landed
	order   []*Landed // by body: what comes in order is quickly inserted
	release func()
}

// Unload stores the bodies of at most MaxLand messages durably. Whoever gets an Unloaded must end it with
// Release; if Land was not called or has failed, the octets are taken back by the next merge. Unload does not discard
// the staged messages. Several may be unloaded before the first lands.
func (s *Store) Unload(ctx context.Context, account envelope.AccountID, login string, batch []Import) (*Unloaded, error) {
	if len(batch) > MaxLand {
		return nil, fmt.Errorf("unload %d messages, at most %d: %w", len(batch), MaxLand, ErrBatch)
	}
	all, err := s.incoming(account, login, batch)
	if err != nil {
		return nil, fmt.Errorf("take messages for account %d: %w", account, err)
	}
	release, err := s.commitBodies(ctx, all)
	if err != nil {
		return nil, fmt.Errorf("take messages for account %d: %w", account, err)
	}
	u := &Unloaded{s: s, account: account, landed: make([]Landed, len(all)), order: make([]*Landed, len(all)), release: release}
	for i := range all {
		u.landed[i] = Landed{Import: *all[i].Import, Body: all[i].entry.Body, Location: all[i].loc}
		u.landed[i].Staged = nil
		u.order[i] = &u.landed[i]
	}
	slices.SortFunc(u.order, func(a, b *Landed) int { return bytes.Compare(a.Body[:], b.Body[:]) })
	return u, nil
}

// Land gives the bodies their rows, in the low-priority lane. record must write, in the same
// transaction, what AppendLanded will need: nothing else remembers them. It may run more than once, and its error
// ends the whole. Land is called once at most.
func (u *Unloaded) Land(ctx context.Context, record func(tx db.Tx, landed []Landed) error) error {
	err := u.s.cfg.DB.UpdateLow(ctx, func(tx db.Tx) error {
		for _, l := range u.order {
			if err := body.Insert(tx, l.Body, l.Location, 1); err != nil {
				return fmt.Errorf("insert body %s: %w", l.Body, err)
			}
		}
		return record(tx, u.landed)
	})
	if err != nil {
		return fmt.Errorf("take messages for account %d: %w", u.account, err)
	}
	return nil
}

// Release ends it. Once is enough.
func (u *Unloaded) Release() { u.release() }

// AppendLanded is AppendWithin for messages that have landed. Of a duplicate the body is released.
// within must also see to it that what Land recorded is gone when the transaction ends.
func (s *Store) AppendLanded(ctx context.Context, account envelope.AccountID, login string, batch []Landed, within func(tx db.Tx, i int, a Appended) error) ([]Appended, error) {
	if len(batch) > MaxLand {
		return nil, fmt.Errorf("enter %d messages, at most %d: %w", len(batch), MaxLand, ErrBatch)
	}
	all := make([]incoming, len(batch))
	for i := range batch {
		l := &batch[i]
		name, err := CheckName(l.Mailbox)
		if err != nil {
			return nil, err
		}
		all[i] = incoming{Import: &l.Import, sum: l.Location.SHA256, loc: l.Location, landed: true,
			entry: Entry{Account: account, Login: login, Mailbox: name, Flags: l.Flags, Octets: l.Location.Octets,
				Surrogate: l.Surrogate, UniqueID: l.Body.String(), Received: l.Received, Body: l.Body}}
		all[i].setKey()
	}
	if err := s.markTaken(ctx, account, all); err != nil {
		return nil, fmt.Errorf("import into account %d: %w", account, err)
	}
	return s.appendAll(ctx, account, all, within)
}

// ReleaseLanded gives up messages that have landed, in the caller's transaction, which also
// removes what Land recorded.
func (s *Store) ReleaseLanded(tx db.Tx, batch []Landed) error {
	ids := make([]message.ID, len(batch))
	for i := range batch {
		ids[i] = batch[i].Body
	}
	return releaseBodies(tx, ids)
}

// releaseBodies takes a reference from each, in the order that Release asks for.
func releaseBodies(tx db.Tx, ids []message.ID) error {
	slices.SortFunc(ids, func(a, b message.ID) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range ids {
		if _, err := body.Release(tx, id); err != nil {
			return err
		}
	}
	return nil
}
