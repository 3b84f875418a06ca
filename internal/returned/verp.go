package returned

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/trace"
	"poczta.example/poczta/internal/verp"
)

// maxLetters bounds the messages to one recipient that are looked at.
const maxLetters = 50

// maxSubject is how much of a subject an event tells.
const maxSubject = 200

// CameBack implements intake.Returns: mail that is no report for programs says by the
// reverse-path it came to whom it is about. Whether it tells of a failure only a reader
// knows, so the event quotes its subject.
func (r *Returns) CameBack(ctx context.Context, d *post.Delivery, header []byte) {
	if !slices.ContainsFunc(paths(d), func(to address.Address) bool { return len(verp.Guesses(to, r.c.Separator)) > 0 }) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := r.noteMail(ctx, d, header); err != nil {
		r.c.Logger.Error("mail that came back is not on the trace", "queue_id", d.ID.String(), "error", err)
	}
}

func (r *Returns) noteMail(ctx context.Context, d *post.Delivery, header []byte) error {
	m, own, err := r.answered(ctx, d, header)
	if err == nil && m == nil {
		m, own, err = r.newest(ctx, d)
	}
	if m == nil || err != nil {
		return err
	}
	before, err := r.c.Trace.Events(ctx, trace.Viewer{Operator: true}, m.ID)
	if err != nil {
		return fmt.Errorf("read events of message %s: %w", m.ID, err)
	}
	if known(before) >= maxEvents {
		return nil
	}
	subject, _ := message.Get(header, "Subject")
	if len(subject) > maxSubject {
		subject = strings.ToValidUTF8(subject[:maxSubject], "")
	}
	e := trace.Event{At: r.c.Now(), N: own, Kind: Kind, Detail: "mail to this recipient's reverse-path: " + strconv.Quote(subject) + " (message " + d.ID.String() + ")"}
	return r.c.DB.Update(ctx, func(tx db.Tx) error { return r.c.Trace.Note(tx, m.ID, e) })
}

// answered is the message that In-Reply-To names, if it went out under the path that the
// answer came to.
func (r *Returns) answered(ctx context.Context, d *post.Delivery, header []byte) (*trace.Record, int, error) {
	id, _ := message.Get(header, "In-Reply-To")
	if id = strings.TrimSpace(id); id == "" {
		return nil, -1, nil
	}
	found, err := r.search(ctx, trace.Query{MessageID: id, Limit: maxSameID})
	if err != nil && !errors.Is(err, trace.ErrNotFound) {
		return nil, -1, fmt.Errorf("look for the message that %s answers: %w", d.ID, err)
	}
	for i := range found {
		if own := ownFate(d, &found[i]); own >= 0 && found[i].ID != d.ID {
			return &found[i], own, nil
		}
	}
	return nil, -1, nil
}

// newest is the newest message that went out to the recipient whom an address of d names,
// under that address. Since anybody can write to such an address, it must be a message
// for which such addresses were made.
func (r *Returns) newest(ctx context.Context, d *post.Delivery) (*trace.Record, int, error) {
	asked := 0
	for _, to := range paths(d) {
		for _, g := range verp.Guesses(to, r.c.Separator) {
			if asked++; asked > verp.MaxGuesses {
				return nil, -1, nil
			}
			found, err := r.search(ctx, trace.Query{Address: g.Recipient.String(), Limit: maxLetters})
			if err != nil && !errors.Is(err, trace.ErrNotFound) {
				return nil, -1, fmt.Errorf("look for the message that %s is about: %w", d.ID, err)
			}
			for i := range found {
				m := &found[i]
				own := ownFate(d, m)
				if own < 0 || m.ID == d.ID {
					continue
				}
				events, err := r.c.Trace.Events(ctx, trace.Viewer{Operator: true}, m.ID)
				if err != nil {
					return nil, -1, fmt.Errorf("read events of message %s: %w", m.ID, err)
				}
				if slices.ContainsFunc(events, func(e trace.Event) bool { return e.Kind == trace.VERP }) {
					return m, own, nil
				}
			}
		}
	}
	return nil, -1, nil
}

// ownFate is the recipient of m whose own reverse-path a recipient of d is, -1 for none.
func ownFate(d *post.Delivery, m *trace.Record) int {
	from, err := address.Parse(m.ReversePath)
	if err != nil {
		return -1
	}
	for _, to := range paths(d) {
		for i := range m.Fates {
			if rcpt, err := address.Parse(m.Fates[i].Recipient); err == nil && verp.Names(to, from, rcpt) {
				return m.Fates[i].N
			}
		}
	}
	return -1
}

// paths are the addresses of d's first recipients.
func paths(d *post.Delivery) []address.Address {
	var all []address.Address
	for i := range d.Envelope.Recipients[:min(len(d.Envelope.Recipients), maxRecipients)] {
		if to := d.Envelope.Recipients[i].ForwardPath; !to.IsPostmaster() {
			all = append(all, to.Address())
		}
	}
	return all
}

// known is how many events of what came back there are.
func known(events []trace.Event) int {
	n := 0
	for _, e := range events {
		if e.Kind == Kind {
			n++
		}
	}
	return n
}
