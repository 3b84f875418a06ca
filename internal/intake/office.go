package intake

import (
	"context"
	"errors"
	"fmt"
	"io"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/trace"
)

// Office takes mail for addresses of the server itself, which is read and not kept. Safe for
// concurrent use.
type Office interface {
	// Takes reports whether an address that leads to nobody here is one of the office's, for
	// mail of sender (zero: a stranger), and says in a few words what it does, for the trace.
	// An error is temporary.
	Takes(ctx context.Context, to address.Address, sender envelope.AccountID) (what string, ok bool, err error)
	// Take reads a message that is about to be accepted. An error is temporary; it may be called
	// again for the same message.
	Take(ctx context.Context, l Letter) error
}

// Letter is a message for an Office.
type Letter struct {
	To      address.Address
	Account envelope.AccountID // who submitted it, zero for a stranger
	Login   string
	Author  address.Address // in From, if it is proven; zero otherwise
	Header  []byte
	Message io.ReaderAt // as it is stored, without our trace fields
	Size    int64       // octets
}

// officed is a recipient that an office takes.
type officed struct {
	office Office
	to     address.Address
}

// office puts a recipient that leads to nobody into the plan if an office takes it.
func (t *Transaction) office(ctx context.Context, r envelope.Recipient, cause error) (taken bool, err error) {
	if len(t.in.c.Offices) == 0 || r.ForwardPath.IsPostmaster() ||
		!errors.Is(cause, account.ErrUnknownUser) && !errors.Is(cause, account.ErrNotLocal) {
		return false, nil
	}
	for _, o := range t.in.c.Offices {
		what, ok, err := o.Takes(ctx, r.ForwardPath.Address(), t.env.Origin.Account)
		if err != nil {
			return false, fmt.Errorf("ask whether %s is an address of the server: %w", r.ForwardPath, err)
		}
		if !ok {
			continue
		}
		if err := t.count(ctx, r); err != nil {
			return false, err
		}
		r.Notify = envelope.NotifyNever
		i := t.append(r, false)
		t.plan.locals = append(t.plan.locals, post.Local{Recipients: []int{i}, State: trace.Discarded, Why: what})
		t.officed = append(t.officed, officed{o, r.ForwardPath.Address()})
		return true, nil
	}
	return false, nil
}

// handOver gives the message to the offices that it goes to.
func (t *Transaction) handOver(ctx context.Context, d *post.Delivery, header []byte) error {
	for _, o := range t.officed {
		err := o.office.Take(ctx, Letter{To: o.to, Account: t.env.Origin.Account, Login: t.env.Origin.Login, Author: t.author, Header: header,
			Message: d.Staged, Size: d.Staged.Octets()})
		if err != nil {
			return fmt.Errorf("mail for %s: %w", o.to, err)
		}
	}
	return nil
}
