package post

import (
	"context"
	"errors"
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

// Config builds a Post. All but Journal, Now, Logger and Hooks are required.
type Config struct {
	DB        db.Database
	Body      body.Store
	Journal   body.Journal // nil discards
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
func (p *Post) Accept(ctx context.Context, d *Delivery) error { return errors.ErrUnsupported }
