package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/dsn"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/report"
)

// forwarded asks whom failures of forwards are told to, and settles those that the sender
// is not told of.
func (s *shift) forwarded(ctx context.Context, o *outcome) {
	var rest sheet
	var silent []queue.Result
	for i, res := range o.failed.results {
		r := o.failed.asked[i]
		decision := TellSender
		if r != nil {
			var err error
			if decision, err = s.cfg.Forwards.Failed(ctx, o.msg, r, res.Status); err != nil {
				s.cfg.Logger.Error("forward could not be judged, nobody is told", "queue_id", o.msg.ID.String(), "forward", r.Forward, "error", err)
				decision = TellNobody
			}
			if r.Notify != 0 && r.Notify&envelope.NotifyFailure == 0 {
				decision = TellNobody
			}
		}
		if decision == TellNobody {
			silent = append(silent, res)
			continue
		}
		rest.add(res, o.failed.about[i], o.failed.to[i])
	}
	o.failed = rest
	s.settle(ctx, silent)
}

// post makes a report durable together with the fates that it tells of. Without a
// report, because nobody can be told, the fates are settled alone.
func (s *shift) post(ctx context.Context, o *outcome, sh *sheet) {
	pause := settleFirst
	for range reportTries {
		done, err := s.tryPost(ctx, o, sh)
		if done {
			s.refusals(o, sh.results)
			return
		}
		if _, ok := errors.AsType[*queue.NotAppliedError](err); ok { // settled already, or taken over
			s.settle(ctx, sh.results)
			return
		}
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, post.ErrFull) { // room does not come in seconds, and others wait for this writer
			s.cfg.Logger.Error("relay can't make a report, it waits for room", "queue_id", o.msg.ID.String(), "error", err)
			break
		}
		s.cfg.Logger.Error("relay can't make a report, it tries again", "queue_id", o.msg.ID.String(), "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(4*pause, settleMost)
	}
	s.postpone(ctx, sh)
}

// postpone puts recipients off whose report can't be made, so that they are not lost
// in silence.
func (s *shift) postpone(ctx context.Context, sh *sheet) {
	later := make([]queue.Result, 0, len(sh.results))
	for _, r := range sh.results {
		switch r.Outcome {
		case queue.Returned:
			r.Outcome, r.Next, r.Status = queue.Deferred, s.cfg.Now().Add(reportLater), "451 4.3.0 the report can't be made at present: "+r.Status
		case queue.Warned:
			continue
		}
		later = append(later, r)
	}
	s.settle(ctx, later)
}

// tryPost is one attempt of post.
func (s *shift) tryPost(ctx context.Context, o *outcome, sh *sheet) (done bool, err error) {
	if o.msg.ReversePath == "" {
		s.settle(ctx, sh.results)
		return true, nil
	}
	original, content, err := s.original(ctx, o.msg, sh)
	if err != nil {
		return false, err
	}
	if content != nil {
		defer content.Close()
	}
	d, err := s.cfg.Reports.Prepare(ctx, original, sh.about)
	if err != nil {
		return false, err
	}
	if d == nil {
		s.settle(ctx, sh.results)
		return true, nil
	}
	defer d.Staged.Discard()
	var after func()
	d.Within = func(tx db.Tx) (err error) {
		after, err = s.node.SettleTx(tx, sh.results)
		return err
	}
	if err := s.cfg.Accepter.Accept(ctx, d); err != nil {
		return false, err
	}
	if after != nil {
		after()
	}
	return true, nil
}

// original is the message that a report is about.
func (s *shift) original(ctx context.Context, m *queue.Message, sh *sheet) (report.Original, io.ReadCloser, error) {
	header, content, err := s.header(ctx, m)
	if err != nil {
		s.cfg.Logger.Error("report without the message's header section, which can't be read", "queue_id", m.ID.String(), "error", err)
	}
	from, err := address.Parse(cmp.Or(sh.to[0], m.ReversePath))
	if err != nil {
		return report.Original{}, nil, fmt.Errorf("reverse-path of message %s: %w", m.ID, err)
	}
	o := report.Original{ID: m.ID, Header: header, Foreign: !m.Ours && m.Account == 0, Envelope: envelope.Envelope{ReversePath: address.NewReversePath(from), Return: m.Return, EnvelopeID: m.EnvelopeID,
		SMTPUTF8: m.SMTPUTF8, RequireTLS: m.RequireTLS, Priority: m.Priority, Origin: envelope.Origin{Time: m.Queued}}}
	if m.Return == envelope.ReturnFull && !m.RequireTLS && content && m.Octets <= maxReturned && sh.about[0].Action == dsn.Failed {
		r, err := s.cfg.Bodies.Open(ctx, m.ID, 0, -1)
		if err != nil {
			return report.Original{}, nil, err
		}
		o.Content = r
		return o, r, nil
	}
	return o, nil, nil
}

// header reads a message's header section; content says that the message could be read.
func (s *shift) header(ctx context.Context, m *queue.Message) (header []byte, content bool, err error) {
	r, err := s.cfg.Bodies.Open(ctx, m.ID, 0, min(m.Octets, message.MaxHeaderOctets+(64<<10)))
	if err != nil {
		return nil, false, err
	}
	defer r.Close()
	h := &headReader{r: r}
	header, err = h.read()
	return header, err == nil, err
}
