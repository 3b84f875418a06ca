package outbox

import (
	"context"
	"fmt"
	"io"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/sevenbit"
	"poczta.example/poczta/internal/smtpclient"
)

// lower changes a letter into what the server can carry: without 8BITMIME its parts are encoded
// anew (RFC 6152 §3), for good, so that every attempt sends the same octets. What can't be changed
// is refused. more says that it can be sent now.
func (c *courier) lower(ctx context.Context, r *row, lacks *smtpclient.Unsupported) (more bool, err error) {
	if lacks.Extension != "8BITMIME" {
		return false, c.cannot(ctx, r, fmt.Sprintf("The server %s can't carry this letter: it does not offer %s, which %s needs.", c.a.Outgoing.Host, lacks.Extension, lacks.Need))
	}
	s := c.o.c.Store
	octets, size, err := s.Octets(ctx, r.letter)
	if err != nil {
		return false, c.o.settleDamaged(ctx, r, err)
	}
	if closer, ok := octets.(io.Closer); ok {
		defer closer.Close()
	}
	plan, err := sevenbit.Scan(io.NewSectionReader(octets, 0, size))
	if err != nil {
		return false, c.o.settleDamaged(ctx, r, err)
	}
	if err := plan.Unfit(); err != nil {
		return false, c.cannot(ctx, r, fmt.Sprintf("The server %s takes 7-bit letters only, and this one can't be made one: %v.", c.a.Outgoing.Host, err))
	}
	staged, err := s.Body().Stage(ctx, size+size/3)
	if err != nil {
		return false, err
	}
	defer staged.Discard()
	if err := plan.Convert(staged, io.NewSectionReader(octets, 0, size)); err != nil {
		return false, fmt.Errorf("encode a letter for a 7-bit server: %w", err)
	}
	for i := range r.recipients { // other octets than those that left
		if p := &r.recipients[i]; p.state == isWaiting && p.again {
			p.state, p.again = isPerhaps, false
		}
	}
	err = s.Complete(ctx, r.letter, staged, func(tx db.Tx) error {
		if _, err := tx.Exec(`UPDATE outgoing SET eight_bit = 0, octets = ? WHERE id = ?`, staged.Octets(), int64(r.id)); err != nil {
			return err
		}
		all, err := merge(tx, r)
		if err != nil {
			return err
		}
		return putCopies(tx, r.id, all)
	})
	return err == nil, err
}

// cannot refuses the letter for all who wait.
func (c *courier) cannot(ctx context.Context, r *row, why string) error {
	now := c.o.micros()
	for i := range r.recipients {
		p := &r.recipients[i]
		if p.state != isWaiting {
			continue
		}
		p.state, p.code, p.status, p.reply, p.at = isRefused, 0, "", db.Text(why), now
		if p.again {
			p.state, p.again = isPerhaps, false
		}
	}
	return c.o.settle(ctx, r, "")
}
