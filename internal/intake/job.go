package intake

import (
	"context"
	"fmt"
	"io"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/queue"
)

// ReleaseJob is Release for recipients as the queue gives them out. stored is the
// message's octets; within settles the recipients whose indexes it is told. It is the
// Local of relay.
func (in *Intake) ReleaseJob(ctx context.Context, j *queue.Job, stored io.Reader, within func(tx db.Tx, taken []int) error) (message.ID, []error, error) {
	m := &j.Message
	h := Held{ID: m.ID, Message: stored, TLSOptional: m.TLSOptional, Within: within, Envelope: envelope.Envelope{
		Body: m.Body, SMTPUTF8: m.SMTPUTF8, Size: m.Octets, Return: m.Return, EnvelopeID: m.EnvelopeID, RequireTLS: m.RequireTLS,
		Priority: m.Priority, DeliverBy: m.DeliverBy,
		Origin: envelope.Origin{Protocol: "local", Account: m.Account, Login: m.Login, Time: m.Queued},
	}}
	var err error
	if h.Envelope.ReversePath, err = address.ParseReversePath("<"+m.ReversePath+">", true); err != nil {
		return message.ID{}, nil, fmt.Errorf("reverse-path of held message %s: %w", m.ID, err)
	}
	for i := range j.Recipients {
		r := &j.Recipients[i]
		path, err := address.ParseForwardPath("<"+r.ForwardPath+">", true)
		if err != nil {
			return message.ID{}, nil, fmt.Errorf("forward-path of held message %s: %w", m.ID, err)
		}
		own, err := address.ParseReversePath("<"+r.ReversePath+">", true)
		if err != nil {
			return message.ID{}, nil, fmt.Errorf("reverse-path of held message %s: %w", m.ID, err)
		}
		h.Envelope.Recipients = append(h.Envelope.Recipients, envelope.Recipient{ForwardPath: path, Notify: r.Notify, Original: r.Original, ReversePath: own})
	}
	out, err := in.Release(ctx, h)
	return out.ID, out.Results, err
}
