package report

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/vacation"
)

// People are the accounts that answer; *account.Accounts is one.
type People interface {
	ByID(ctx context.Context, id envelope.AccountID) (account.Account, error)
	Vacation(ctx context.Context, id envelope.AccountID) (account.Vacation, error)
}

// Memory knows who was answered; *vacation.Memory is one.
type Memory interface {
	Claim(ctx context.Context, id envelope.AccountID, to address.Address, v account.Vacation) (bool, error)
}

// Answers writes out-of-office replies. Safe for concurrent use.
type Answers struct {
	r      *Reporter
	people People
	memory Memory
}

// NewAnswers returns Answers that send as r does. All three are required.
func NewAnswers(r *Reporter, people People, memory Memory) (*Answers, error) {
	if r == nil || people == nil || memory == nil {
		return nil, errors.New("report: Answers need a Reporter, People and a Memory")
	}
	return &Answers{r: r, people: people, memory: memory}, nil
}

// Answer implements intake.Answers. A reply has a null reverse-path and goes to the
// message's reverse-path (RFC 3834 §3.3, §4), so that no reply follows it. That a sender
// was answered is remembered before the message is accepted: when that fails, the reply
// is lost, and the sender gets one with a later message. On an error the replies made so
// far are returned with it.
func (a *Answers) Answer(ctx context.Context, d *post.Delivery, header []byte, away []vacation.Away) (replies []post.Delivery, err error) {
	done := map[envelope.AccountID]bool{}
	for i := range away {
		id := away[i].Local.Account
		if done[id] {
			continue
		}
		done[id] = true
		reply, err := a.answer(ctx, d, header, away, id)
		if err != nil {
			return replies, fmt.Errorf("reply for account %d: %w", id, err)
		}
		if reply != nil {
			replies = append(replies, *reply)
		}
	}
	return replies, nil
}

// answer makes the reply of one account; nil when none is to go.
func (a *Answers) answer(ctx context.Context, d *post.Delivery, header []byte, away []vacation.Away, id envelope.AccountID) (*post.Delivery, error) {
	now := a.r.c.Now()
	v, err := a.people.Vacation(ctx, id)
	if errors.Is(err, account.ErrNotFound) || err == nil && !v.Active(now) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	acc, err := a.people.ByID(ctx, id)
	if err != nil {
		return nil, err
	}
	from := acc.Address
	mine := map[string]bool{}
	for _, own := range acc.Addresses {
		mine[own.Key()] = true
	}
	for i := range away {
		if w := &away[i]; w.Local.Account == id {
			if w.Personal {
				mine[w.Recipient.ForwardPath.Key()] = true
			}
			if !w.Local.Address.IsZero() {
				from = w.Local.Address
			}
		}
	}
	path := d.Envelope.ReversePath
	why := vacation.Why(path, header, func(x address.Address) bool { return mine[x.Key()] })
	if why == "" {
		yes, err := a.memory.Claim(ctx, id, path.Address(), v)
		if err != nil {
			return nil, err
		}
		if !yes {
			why = "answered lately"
		}
	}
	if why != "" {
		a.r.c.Logger.LogAttrs(ctx, slog.LevelDebug, "no out-of-office reply", slog.String("queue_id", d.ID.String()), slog.String("account", acc.Login), slog.String("cause", why))
		return nil, nil
	}
	return a.write(ctx, d, &vacation.Reply{From: from, Name: acc.Name, To: path.Address(), Language: acc.Language, Vacation: v, Header: header, Now: now})
}

// write stages a reply.
func (a *Answers) write(ctx context.Context, about *post.Delivery, reply *vacation.Reply) (*post.Delivery, error) {
	d, _, err := a.r.deliveryTo(ctx, reply.To)
	if err != nil {
		if lost(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("route reply to %s: %w", reply.To, err)
	}
	d.Envelope.Body = envelope.Body7Bit
	d.Envelope.RequireTLS = about.Envelope.RequireTLS // RFC 8689 §5
	reply.ID, reply.Host = d.ID, a.r.c.Hostname
	d.UTF8, d.Envelope.SMTPUTF8 = reply.NeedsUTF8(), reply.NeedsUTF8()
	d.MessageID = message.NewMessageID(d.ID, a.r.c.Hostname)
	if d.Staged, err = a.r.c.Accepter.Stage(ctx, 0); err != nil {
		return nil, fmt.Errorf("stage reply: %w", err)
	}
	if err := a.r.write(ctx, reply.From.Domain(), reply.Write, d); err != nil {
		d.Staged.Discard()
		return nil, err
	}
	a.r.c.Logger.Info("out-of-office reply", "queue_id", about.ID.String(), "reply_id", d.ID.String(), "forward_path", reply.To.String())
	return d, nil
}
