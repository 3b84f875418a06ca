package trace

import (
	"context"
	"errors"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/message"
)

// Schema is the tables of this package.
var Schema = db.Component{Name: "trace"}

// Record writes a message's facts and fates in the transaction that accepts it.
func (t *Trace) Record(tx db.Tx, r *Record) error { return errors.ErrUnsupported }

// Settle changes the fate n of a message in the transaction that settles it.
// ErrNotFound when the trace has dropped it already.
func (t *Trace) Settle(tx db.Tx, id message.ID, n int, state State, detail string, at time.Time) error {
	return errors.ErrUnsupported
}

// Note adds an event.
func (t *Trace) Note(tx db.Tx, id message.ID, e Event) error { return errors.ErrUnsupported }

// Find returns the messages that match, newest first, as the viewer may see them.
func (t *Trace) Find(ctx context.Context, v Viewer, q Query) ([]Record, error) {
	return nil, errors.ErrUnsupported
}

// Events returns a message's events in order; operators only.
func (t *Trace) Events(ctx context.Context, v Viewer, id message.ID) ([]Event, error) {
	return nil, errors.ErrUnsupported
}

// Run indexes new rows and drops old ones until ctx ends; one a process.
func (t *Trace) Run(ctx context.Context) error { return errors.ErrUnsupported }
