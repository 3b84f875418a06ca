package intake

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/repeat"
	"poczta.example/poczta/internal/trace"
)

// Repeats knows letters that were taken before; *repeat.Register is one. Safe for
// concurrent use.
type Repeats interface {
	// Before returns for each recipient under which id the letter was taken for it.
	Before(ctx context.Context, l repeat.Letter, recipients []string) ([]message.ID, error)
	// Note remembers, within the transaction that takes it, that it is taken.
	Note(tx db.Tx, l repeat.Letter, recipients []string, id message.ID) error
}

// hashing hashes a message as it comes, for Repeats.
type hashing struct{ hash.Hash }

// hash begins with the header section; nil hashes nothing: letters without a Message-ID are
// not told apart, since two of them may be meant.
func (t *Transaction) hash(header []byte) hashing {
	if t.rules.Repeats == nil {
		return hashing{}
	}
	if _, ok := message.Get(header, "Message-ID"); !ok {
		return hashing{}
	}
	h := sha256.New()
	h.Write(header)
	return hashing{h}
}

// tee gives the beginning of the body to the hash, and returns where the rest goes.
func (h hashing) tee(w io.Writer, rest []byte) io.Writer {
	if h.Hash == nil {
		return w
	}
	h.Write(rest)
	return io.MultiWriter(w, h)
}

// letter is what came, as Repeats knows it; nil for one that is not looked up.
func (h hashing) letter(t *Transaction) *repeat.Letter {
	if h.Hash == nil {
		return nil
	}
	l := &repeat.Letter{Account: t.env.Origin.Account}
	h.Sum(l.SHA256[:0])
	return l
}

// repeated takes the recipients for whom the letter was taken before out of the delivery:
// their fate is that of the first copy. It returns the id of that when no recipient is left,
// the zero id otherwise; then those that are left are remembered when the letter is taken.
func (t *Transaction) repeated(ctx context.Context, d *post.Delivery) (message.ID, error) {
	l := t.letter
	if l == nil {
		return message.ID{}, nil
	}
	keys := make([]string, len(t.env.Recipients))
	for i := range t.env.Recipients {
		keys[i] = t.env.Recipients[i].ForwardPath.Key()
	}
	ids, err := t.rules.Repeats.Before(ctx, *l, keys)
	if err != nil {
		return message.ID{}, err
	}
	var first message.ID
	left := keys[:0:0]
	for i, id := range ids {
		if id.IsZero() {
			left = append(left, keys[i])
			continue
		}
		first = id
		t.drop(d, i, fmt.Sprintf("the account handed the same letter in before; it was taken as %s", id))
	}
	if len(left) == 0 {
		return first, nil
	}
	within := d.Within
	d.Within = func(tx db.Tx) error {
		if within != nil {
			if err := within(tx); err != nil {
				return err
			}
		}
		err := t.rules.Repeats.Note(tx, *l, left, d.ID)
		if errors.Is(err, repeat.ErrRepeated) {
			return Refuse(451, 3, 0, "The same letter is being taken in another session; try again later", err)
		}
		return err
	}
	return message.ID{}, nil
}

// drop discards what the delivery holds for recipient i, for the reason why.
func (t *Transaction) drop(d *post.Delivery, i int, why string) {
	is := func(n int) bool { return n == i }
	for k := range d.Locals {
		d.Locals[k].Recipients = slices.DeleteFunc(slices.Clone(d.Locals[k].Recipients), is)
	}
	d.Locals = slices.DeleteFunc(slices.Clone(d.Locals), func(l post.Local) bool { return len(l.Recipients) == 0 })
	d.Remotes = slices.DeleteFunc(slices.Clone(d.Remotes), func(r post.Remote) bool { return r.Recipient == i })
	d.Locals = append(d.Locals, post.Local{Recipients: []int{i}, State: trace.Discarded, Why: why})
	d.Envelope.Recipients[i].Notify = envelope.NotifyNever // the first copy's reports are those that were asked for
	t.plan.locals, t.plan.remotes = d.Locals, d.Remotes
}
