package page

import (
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"time"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mua/compose"
	"poczta.example/poczta/internal/mua/outbox"
)

// undoWait is how long a letter that was sent can be taken back at least.
const undoWait = 10 * time.Second

// Through is the Outbox of a page that sends through o. rnd makes Message-IDs.
func Through(o *outbox.Outbox, rnd io.Reader) Outbox { return &through{o, rnd} }

type through struct {
	o    *outbox.Outbox
	rand io.Reader
}

// Check implements Outbox.
func (t *through) Check(ctx context.Context, account envelope.AccountID, recipients []string, language string) ([]string, error) {
	problems, err := t.o.Check(ctx, account, recipients)
	var all []string
	for _, p := range problems {
		all = append(all, p.Words(language))
	}
	return all, err
}

// Put implements Outbox.
func (t *through) Put(ctx context.Context, d *compose.Draft, s Sending) error {
	id, err := d.NewID(s.Now, t.rand)
	if err != nil {
		return err
	}
	r, w := io.Pipe()
	written := make(chan struct{})
	go func() {
		defer close(written)
		w.CloseWithError(compose.Write(w, d, s.Now, id))
	}()
	l := outbox.Letter{Account: d.Account, ReversePath: d.From.Address, Recipients: d.Recipients(), Message: r, Draft: s.Draft, SendAt: s.At, Wait: undoWait, Unchecked: s.Anyway}
	if s.Notify {
		l.Notify = envelope.NotifySuccess | envelope.NotifyFailure | envelope.NotifyDelay
	}
	_, err = t.o.Put(ctx, l)
	r.CloseWithError(errors.New("the outbox reads no further"))
	<-written
	return err
}

// List implements Outbox.
func (t *through) List(ctx context.Context, language string) ([]Item, error) {
	items, err := t.o.List(ctx)
	var all []Item
	for _, i := range slices.Backward(items) {
		all = append(all, itemOf(i, language))
	}
	return all, err
}

// Item implements Outbox.
func (t *through) Item(ctx context.Context, id, language string) (Item, error) {
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return Item{}, outbox.ErrNotFound
	}
	i, err := t.o.Item(ctx, outbox.ID(n))
	return itemOf(i, language), err
}

// itemOf is an outbox's letter as the page shows it.
func itemOf(i outbox.Item, language string) Item {
	it := Item{ID: strconv.FormatInt(int64(i.ID), 10), State: state(i.State), Subject: i.Subject, At: i.Created, Next: i.Next}
	if i.Reason != "" {
		it.Says = append(it.Says, outbox.Say(i.Reason, language))
	}
	for _, r := range i.Recipients {
		it.Recipients = append(it.Recipients, r.Address)
		if r.Reply != "" {
			it.Says = append(it.Says, r.Address+": "+r.Words(language))
		}
	}
	return it
}

// state is an outbox's state as the page shows it.
func state(s outbox.State) State {
	switch s {
	case outbox.Sending:
		return Under
	case outbox.Sent:
		return Sent
	case outbox.Refused, outbox.Partly:
		return Refused
	case outbox.Perhaps:
		return Perhaps
	case outbox.Undone:
		return Undone
	}
	return Waiting
}

// Do implements Outbox.
func (t *through) Do(ctx context.Context, id string, c Decision) error {
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return outbox.ErrNotFound
	}
	switch c {
	case Again:
		return t.o.Decide(ctx, outbox.ID(n), outbox.Again)
	case Done:
		return t.o.Decide(ctx, outbox.ID(n), outbox.Done)
	case Retry:
		return t.o.Retry(ctx, outbox.ID(n))
	}
	_, err = t.o.Undo(ctx, outbox.ID(n))
	return err
}

// Fates implements Outbox.
func (t *through) Fates(ctx context.Context, messageID, language string) ([]string, error) {
	fates, err := t.o.Fates(ctx, messageID)
	var all []string
	for _, f := range fates {
		all = append(all, f.Address+": "+f.Words(language))
		for _, r := range f.Reports {
			all = append(all, f.Address+": "+r.Words(language))
		}
	}
	return all, err
}
