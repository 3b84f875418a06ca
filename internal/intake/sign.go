package intake

import (
	"context"
	"fmt"
	"io"
	"time"

	"poczta.example/poczta/internal/dkim"
	"poczta.example/poczta/internal/post"
)

// signing is what signs a message, if anything does.
type signing struct{ Signing }

// sign asks the rules for a judged draft's signatures.
func (t *Transaction) sign(ctx context.Context, draft *Draft) (signing, error) {
	if t.rules.Sign == nil {
		return signing{}, nil
	}
	s, err := t.rules.Sign(ctx, draft)
	if err != nil {
		return signing{}, fmt.Errorf("sign message %s: %w", draft.ID, err)
	}
	return signing{s}, nil
}

// tee gives the beginning of the body to the signatures, and returns where the
// remaining octets go.
func (s signing) tee(staged io.Writer, rest []byte) io.Writer {
	if s.Signing == nil {
		return staged
	}
	_, _ = s.Write(dkim.AfterEmptyLine(rest)) // an error is kept and comes with Fields
	return io.MultiWriter(staged, s)
}

// finish puts the signatures below our Received.
func (s signing) finish(d *post.Delivery, now time.Time) error {
	if s.Signing == nil {
		return nil
	}
	fields, err := s.Fields(now)
	if err != nil {
		return fmt.Errorf("sign message %s: %w", d.ID, err)
	}
	d.Head = append(d.Head, fields...)
	return nil
}
