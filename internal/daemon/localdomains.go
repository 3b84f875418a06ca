package daemon

import (
	"context"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/memo"
)

// localDomain answers whether a domain is ours.
type localDomain func(ctx context.Context, d address.Domain) (bool, error)

// How long, and of how many domains, is remembered whether they are ours.
const (
	localFor = 10 * time.Second
	maxLocal = 4096
)

// remembered is own with a memory, for the filters: they ask about strangers' domains three times
// a message, and on a database with several nodes the account room must look each time. A domain
// that is added or removed is seen so within localFor. Errors are not remembered.
func (own localDomain) remembered(now func() time.Time) localDomain {
	known := memo.New[address.Domain, bool](maxLocal, localFor)
	return func(ctx context.Context, d address.Domain) (bool, error) {
		at := now()
		if local, fresh := known.Get(d, at); fresh {
			return local, nil
		}
		local, err := own(ctx, d)
		if err == nil {
			known.Put(d, local, at)
		}
		return local, err
	}
}

// localDomain is what the filters ask about domains.
func (r *Rooms) localDomain() localDomain {
	own := localDomain(r.Accounts.IsLocal)
	if r.DB.Engine() == "sqlite" {
		return own // it remembers by itself, and exactly
	}
	return own.remembered(time.Now)
}
