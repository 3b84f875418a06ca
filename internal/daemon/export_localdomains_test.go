package daemon

import (
	"context"
	"time"

	"poczta.example/poczta/internal/address"
)

// Remembered is localDomain.remembered.
func Remembered(own func(context.Context, address.Domain) (bool, error), now func() time.Time) func(context.Context, address.Domain) (bool, error) {
	return localDomain(own).remembered(now)
}
