// Package limit counts what peers do: token buckets for rates, gauges for what
// is going on at once, and a throttle for failures, each by key, in bounded
// memory. It does no input or output and reads no clock: callers pass the time.
package limit

import (
	"errors"
	"fmt"
	"hash/maphash"
	"time"
)

// DefaultMaxKeys is how many keys a table holds when its configuration says
// nothing; about 100 octets each.
const DefaultMaxKeys = 1 << 16

// shardCount is the number of locks a table is spread over; a power of two.
const shardCount = 16

// ErrConfig is wrapped by every error of a constructor.
var ErrConfig = errors.New("limit is configured wrongly")

// Rate is a token bucket's shape: Burst tokens at first and at most, and one
// more each Every. The zero Rate limits nothing.
type Rate struct {
	Burst int
	Every time.Duration
}

// PerHour is the rate of n events an hour, all of which may come at once.
func PerHour(n int) Rate {
	if n <= 0 {
		return Rate{}
	}
	return Rate{Burst: n, Every: time.Hour / time.Duration(n)}
}

// IsZero reports whether the rate limits nothing.
func (r Rate) IsZero() bool { return r == Rate{} }

// Validate reports a rate that can't be kept.
func (r Rate) Validate() error {
	if r.IsZero() {
		return nil
	}
	if r.Burst < 1 || r.Every <= 0 {
		return fmt.Errorf("%w: rate of %d tokens, one each %v: both must be above zero", ErrConfig, r.Burst, r.Every)
	}
	if full := r.Every * time.Duration(r.Burst); full <= 0 || full/time.Duration(r.Burst) != r.Every {
		return fmt.Errorf("%w: rate of %d tokens, one each %v, fills in more than 292 years", ErrConfig, r.Burst, r.Every)
	}
	return nil
}

// hasher spreads keys over shards under a seed of its own, so that a peer can't
// choose keys that meet in one shard.
type hasher[K comparable] struct{ seed maphash.Seed }

func newHasher[K comparable]() hasher[K] { return hasher[K]{seed: maphash.MakeSeed()} }

func (h hasher[K]) shard(key K) int {
	return int(maphash.Comparable(h.seed, key) & (shardCount - 1))
}
