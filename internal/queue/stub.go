package queue

import (
	"context"
	"errors"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/message"
)

// Schema is the tables of this package.
var Schema = db.Component{Name: "queue"}

// Enqueue adds m in the transaction that accepts it; the recipients are Waiting
// and due at once. The body's row must count one reference for the message.
func (q *Queue) Enqueue(tx db.Tx, m *Message) error { return errors.ErrUnsupported }

// List returns the messages that have a recipient matching f, with their
// matching recipients, in order of id.
func (q *Queue) List(ctx context.Context, f Filter, p Page) ([]Message, error) {
	return nil, errors.ErrUnsupported
}

// Show returns one message with all its recipients, or ErrNotFound.
func (q *Queue) Show(ctx context.Context, id message.ID) (Message, error) {
	return Message{}, errors.ErrUnsupported
}

// Remove takes the matching recipients from the queue without sending anything
// to anybody, settles their fates as removed with reason as the detail, and
// releases bodies no longer needed. It works in chunks and returns how many
// recipients it removed, also with an error.
func (q *Queue) Remove(ctx context.Context, f Filter, reason string) (int, error) {
	return 0, errors.ErrUnsupported
}
