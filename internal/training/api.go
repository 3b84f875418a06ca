package training

import (
	"context"
	"errors"

	"poczta.example/poczta/internal/address"
)

// For reports whether an address, of one of our domains, is one that teaches, and what. The caller
// asks only for addresses that lead to nobody: an account or alias of that name wins.
func (r *Room) For(a address.Address) (spam, ok bool) { return false, false }

// Take learns from the messages that a mail carries.
func (r *Room) Take(ctx context.Context, m Message) (Result, error) {
	return Result{}, errors.ErrUnsupported
}
