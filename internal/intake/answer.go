package intake

import (
	"context"
	"io"
	"strings"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/dsn"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/vacation"
)

// Answers writes the out-of-office replies of accounts; *report.Answers is one. Safe for
// concurrent use.
type Answers interface {
	// Answer returns the replies to d, whose header section is header, by accounts that are
	// away: staged, for d.Also. Who gets none is its matter.
	Answer(ctx context.Context, d *post.Delivery, header []byte, away []vacation.Away) ([]post.Delivery, error)
}

// Returns is told of delivery reports that have come in; *returned.Returns is one. It
// must not take long. Safe for concurrent use.
type Returns interface {
	// Returned gets a report that was accepted just now.
	Returned(ctx context.Context, d *post.Delivery, report *dsn.Returned)
	// CameBack gets mail with a null reverse-path, accepted just now, that is no report
	// which programs can read. header is its header section.
	CameBack(ctx context.Context, d *post.Delivery, header []byte)
}

// noteAway remembers who may have to answer recipient i.
func (t *Transaction) noteAway(i int, route account.Route) {
	if t.in.c.Answers == nil || t.env.ReversePath.IsNull() {
		return
	}
	for _, l := range route.Locals {
		if !l.Vacation {
			continue
		}
		personal := len(route.Locals) == 1 && route.Match != account.MatchCatchAll
		for _, by := range route.Forwarders {
			personal = personal && by.Account == l.Account
		}
		t.away = append(t.away, vacation.Away{Recipient: t.env.Recipients[i], Local: l, Personal: personal})
	}
}

// answer adds out-of-office replies. Mail is accepted without them when they fail.
func (t *Transaction) answer(ctx context.Context, d *post.Delivery, header []byte) {
	if len(t.away) == 0 {
		return
	}
	replies, err := t.in.c.Answers.Answer(ctx, d, header, t.away)
	if err != nil {
		t.in.c.Logger.Error("out-of-office reply could not be made", "queue_id", d.ID.String(), "error", err)
	}
	d.Also = append(d.Also, replies...)
}

// mayBeReturned reports whether the message may be a report about one of ours.
func (t *Transaction) mayBeReturned() bool {
	return t.in.c.Returns != nil && t.env.ReversePath.IsNull()
}

// returned reads a report that comes back, before the staging is committed; nil when it
// is none.
func (t *Transaction) returned(d *post.Delivery, header []byte) *dsn.Returned {
	if !t.mayBeReturned() {
		return nil
	}
	kind, _ := message.Get(header, "Content-Type")
	if !strings.HasPrefix(strings.ToLower(strings.TrimSpace(kind)), "multipart/report") {
		return nil
	}
	t.in.parsing <- struct{}{} // so many at a time, since each is held in memory
	defer func() { <-t.in.parsing }()
	r, err := dsn.Parse(io.NewSectionReader(d.Staged, 0, d.Staged.Octets()))
	if err != nil {
		t.in.c.Logger.Info("report that came in can't be read", "queue_id", d.ID.String(), "error", err)
		return nil
	}
	return r
}
