package store

import (
	"context"
	"errors"
	"io"

	"poczta.example/poczta/internal/mailbox"
)

// Standing is what became of a letter.
type Standing uint8

// The standings.
const (
	Gone    Standing = iota // it is not here (any more)
	Here                    // it is in a folder
	Removed                 // it is in retention
)

// Standing says what became of a letter.
func (s *Store) Standing(ctx context.Context, id LetterID) (Standing, error) {
	at, err := s.place(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		return Gone, nil
	case err != nil:
		return Gone, err
	case at.removed:
		return Removed, nil
	}
	return Here, nil
}

// Octets opens a letter as it is stored, without reading what it means. ErrNotFound.
func (s *Store) Octets(ctx context.Context, id LetterID) (io.ReaderAt, int64, error) {
	for try := 0; ; try++ {
		at, err := s.place(ctx, id)
		if err != nil {
			return nil, 0, err
		}
		r, size, err := s.octets(ctx, at.account, at.number, at.uid)
		if (errors.Is(err, mailbox.ErrGone) || errors.Is(err, mailbox.ErrNotFound)) && try < moveTries {
			continue // moved between the two looks
		}
		return r, size, notFound(err)
	}
}
