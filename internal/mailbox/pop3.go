package mailbox

import (
	"context"
	"errors"
	"io"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/pop3"
	"poczta.example/poczta/internal/pop3server"
	"poczta.example/poczta/internal/sasl"
)

var (
	_ pop3server.Maildrops = (*Store)(nil)
	_ pop3server.Keeper    = (*drop)(nil)
)

// A session that reads on gets more entries with each look-up: windowGrowth times
// as many, up to maxWindow.
const (
	windowGrowth = 8
	maxWindow    = 64
)

// Open implements pop3server.Maildrops: the identity's INBOX, under RFC 1939's
// lock when Config.Exclusive.
func (s *Store) Open(ctx context.Context, id sasl.Identity, utf8 bool) (pop3server.Maildrop, error) {
	d := &drop{s: s, id: id, utf8: utf8}
	if s.cfg.Exclusive {
		l, err := s.locks.acquire(ctx, id.Account)
		if err != nil {
			return nil, pop3Error(err)
		}
		d.lease, d.unlock = l, func() { l.release(ctx) }
	}
	listing, err := s.hold(ctx, slotKey{id.Account, Inbox})
	if err != nil {
		if d.unlock != nil {
			d.unlock()
		}
		return nil, pop3Error(err)
	}
	d.listing = listing
	return d, nil
}

// pop3Error gives an error the response code that programs understand.
func pop3Error(err error) error {
	switch {
	case errors.Is(err, ErrInUse):
		return &pop3.Error{Code: pop3.CodeInUse, Say: pop3.TextInUse, Err: err}
	case errors.Is(err, ErrBudget):
		return &pop3.Error{Code: pop3.CodeSysTemp, Say: pop3.TextMemory, Err: err}
	case errors.Is(err, ErrGone):
		return &pop3.Error{Say: pop3.TextGone, Err: err}
	case errors.Is(err, body.ErrDamaged), errors.Is(err, body.ErrNotFound):
		return &pop3.Error{Code: pop3.CodeSysPerm, Say: pop3.TextDamaged, Err: err}
	}
	return err
}

// answered is a message whose read errors are fit for a reply: damage shows only
// once the octets were read.
type answered struct{ io.ReadCloser }

// Read implements io.Reader.
func (a answered) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = pop3Error(err)
	}
	return n, err
}

// drop is one session's view of an INBOX.
type drop struct {
	s       *Store
	id      sasl.Identity
	utf8    bool
	listing *Listing
	lease   lease  // nil unless exclusive
	unlock  func() // gives lease back
	closed  bool

	window []located // entries read ahead, in order of uid
	next   int       // index that a session reading on asks for
	ahead  int       // size of the last window
}

func (d *drop) Len() int                              { return d.listing.Len() }
func (d *drop) TotalOctets() int64                    { return d.listing.TotalOctets(d.utf8) }
func (d *drop) Octets(i int) int64                    { return d.listing.Octets(i, d.utf8) }
func (d *drop) AppendUniqueID(b []byte, i int) []byte { return d.listing.AppendUniqueID(b, i) }

// Read opens message i. A session that reads one message after the other finds
// the places of the following ones read ahead.
func (d *drop) Read(ctx context.Context, i int) (io.ReadCloser, bool, error) {
	if d.lease != nil {
		if err := d.lease.touch(ctx); err != nil {
			return nil, false, pop3Error(err)
		}
	}
	l, err := d.find(ctx, i)
	if err != nil {
		return nil, false, pop3Error(err)
	}
	if d.utf8 || l.surrogate == 0 {
		r, err := d.s.openLocated(ctx, l)
		if err != nil {
			return nil, false, pop3Error(err)
		}
		return d.kept(ctx, answered{r}), l.loc.Dots, nil
	}
	r, err := d.s.openSurrogate(ctx, l)
	if err != nil {
		return nil, false, pop3Error(err)
	}
	return d.kept(ctx, answered{r}), true, nil
}

// Keep implements pop3server.Keeper.
func (d *drop) Keep(ctx context.Context) error {
	if d.lease == nil {
		return nil
	}
	return pop3Error(d.lease.touch(ctx))
}

// kept lets a download show life: a peer on a slow line is not a dead one.
func (d *drop) kept(ctx context.Context, r io.ReadCloser) io.ReadCloser {
	if d.lease == nil {
		return r
	}
	return &keeping{ReadCloser: r, touch: func() { _ = d.lease.touch(ctx) }} // a lock that is lost shows at the next command
}

// keeping calls touch with each Read, which the peer's taking of octets paces.
type keeping struct {
	io.ReadCloser

	touch func()
}

// Read implements io.Reader.
func (k *keeping) Read(p []byte) (int, error) {
	k.touch()
	return k.ReadCloser.Read(p)
}

// find returns the place of message i.
func (d *drop) find(ctx context.Context, i int) (*located, error) {
	uid := d.listing.UID(i)
	for k := range d.window {
		if d.window[k].uid == uid {
			d.window = d.window[k:] // sessions read forwards
			d.next = i + 1
			return &d.window[0], nil
		}
	}
	if i == d.next && d.ahead > 0 {
		d.ahead = min(windowGrowth*d.ahead, maxWindow)
	} else {
		d.ahead = 1
	}
	last := d.listing.UID(min(i+d.ahead, d.Len()) - 1)
	found, err := d.s.locate(ctx, d.id.Account, d.listing.mailbox.Number, uid, last)
	if err != nil {
		return nil, err
	}
	d.window, d.next = found, i+1
	return &found[0], nil
}

// Remove deletes the messages in one transaction.
func (d *drop) Remove(ctx context.Context, indexes []int) error {
	if len(indexes) == 0 {
		return nil
	}
	var guard func(db.Tx) error
	if d.lease != nil {
		guard = d.lease.guard
	}
	_, err := d.s.remove(ctx, removal{
		mailbox: &d.listing.mailbox, login: d.id.Login, ranges: d.listing.ranges(indexes), guard: guard, update: d.s.cfg.DB.Update,
	})
	if errors.Is(err, ErrNotFound) {
		return nil // another session, or the operator, has removed the mailbox
	}
	return pop3Error(err)
}

// Close releases the view; harmless twice.
func (d *drop) Close() {
	if d.closed {
		return
	}
	d.closed = true
	d.window = nil
	d.s.listings.release(d.listing)
	if d.unlock != nil {
		d.unlock()
	}
}
