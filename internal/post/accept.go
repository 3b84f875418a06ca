package post

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/trace"
)

// Hooks are optional functions for metrics.
type Hooks struct {
	Accepted func(messages int, octets int64, took time.Duration)
	Refused  func(err error)
}

// Config builds a Post. All but Now, Logger and Hooks are required.
type Config struct {
	DB        db.Database
	Body      body.Store
	Mailboxes *mailbox.Store
	Queue     *queue.Queue
	Trace     *trace.Trace
	Now       func() time.Time
	Logger    *slog.Logger
	Hooks     Hooks
}

// Post implements Accepter. Safe for concurrent use.
type Post struct{ cfg Config }

var _ Accepter = (*Post)(nil)

// New returns a Post; it does no I/O.
func New(cfg Config) (*Post, error) {
	var errs []error
	if cfg.DB == nil {
		errs = append(errs, errors.New("post needs a database (Config.DB)"))
	}
	if cfg.Body == nil {
		errs = append(errs, errors.New("post needs a body store (Config.Body)"))
	}
	if cfg.Mailboxes == nil || cfg.Queue == nil || cfg.Trace == nil {
		errs = append(errs, errors.New("post needs Config.Mailboxes, Config.Queue and Config.Trace"))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Post{cfg: cfg}, nil
}

// Stage implements Accepter.
func (p *Post) Stage(ctx context.Context, hint int64) (body.Staged, error) {
	return p.cfg.Body.Stage(ctx, hint)
}

// Accept implements Accepter.
func (p *Post) Accept(ctx context.Context, d *Delivery) error {
	began := time.Now()
	j, err := p.plan(d)
	if err == nil {
		err = p.run(ctx, j)
	}
	if err != nil {
		if errors.Is(err, body.ErrFull) || errors.Is(err, db.ErrFull) {
			err = fmt.Errorf("%w: %w", ErrFull, err)
		}
		err = fmt.Errorf("accept message %s: %w", d.ID, err)
		if p.cfg.Hooks.Refused != nil {
			p.cfg.Hooks.Refused(err)
		}
		return err
	}
	if p.cfg.Hooks.Accepted != nil {
		p.cfg.Hooks.Accepted(len(j.letters), j.octets, time.Since(began))
	}
	return nil
}

// run stores the bodies and commits the transaction that names them.
func (p *Post) run(ctx context.Context, j *job) error {
	var locs []body.Location
	if len(j.records) > 0 {
		var release func()
		var err error
		if locs, release, err = p.cfg.Body.Commit(ctx, j.records); err != nil {
			return fmt.Errorf("store body: %w", err)
		}
		defer release()
	}
	for i, stored := 0, 0; i < len(j.letters); i++ {
		if j.letters[i].refs > 0 {
			j.letters[i].loc = locs[stored]
			j.octets += locs[stored].Octets
			stored++
		}
	}
	committed, err := p.commit(ctx, j)
	p.cfg.Mailboxes.Settled(committed, j.entries...)
	if err != nil && errors.Is(err, db.ErrUnknownOutcome) {
		return err // the row may be there; a body without one is collected later
	}
	if !committed {
		if rerr := p.cfg.Body.Remove(context.WithoutCancel(ctx), j.ids()); rerr != nil {
			p.cfg.Logger.Warn("body without a row stays until merge", "queue_id", j.letters[0].d.ID.String(), "error", rerr)
		}
		return err
	}
	if j.queued > 0 {
		p.cfg.Queue.Enqueued(j.queue()...)
	}
	return nil
}

// commit runs the transaction and settles an unknown outcome: the same
// transaction once more either commits, or meets the row of the message, which
// waits for the first if that is still on its way.
func (p *Post) commit(ctx context.Context, j *job) (committed bool, err error) {
	fn := func(tx db.Tx) error { return p.write(tx, j) }
	err = p.cfg.DB.Update(ctx, fn)
	for try := 0; err != nil && errors.Is(err, db.ErrUnknownOutcome) && try < unknownTries; try++ {
		p.cfg.Logger.Warn("outcome of a commit is unknown, looking", "queue_id", j.letters[0].d.ID.String(), "error", err)
		again := p.cfg.DB.Update(ctx, fn)
		if errors.Is(again, db.ErrConflict) && p.stored(ctx, j) {
			return true, nil
		}
		if again == nil || errors.Is(again, db.ErrUnknownOutcome) {
			err = again
		}
	}
	return err == nil, err
}

// unknownTries is how often an unknown outcome is looked into before the client
// is told to come again.
const unknownTries = 3

// stored reports whether the job's first message has a row.
func (p *Post) stored(ctx context.Context, j *job) bool {
	return p.cfg.DB.View(ctx, func(tx db.Tx) error {
		_, err := body.Lookup(tx, j.letters[0].d.ID)
		return err
	}) == nil
}
