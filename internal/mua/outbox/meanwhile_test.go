package outbox_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/mua/outbox"
	"poczta.example/poczta/internal/resolver"
)

// slowNames are names during whose first look-up a person does something.
type slowNames struct {
	resolver.Resolver

	mu sync.Mutex
	do func()
}

func (s *slowNames) meanwhile(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.do = do
}

// Lookup implements resolver.Resolver.
func (s *slowNames) Lookup(ctx context.Context, name string, t resolver.Type) (resolver.Answer, error) {
	s.mu.Lock()
	do := s.do
	s.do = nil
	s.mu.Unlock()
	if do != nil {
		do()
	}
	return s.Resolver.Lookup(ctx, name, t)
}

// TestMeanwhile has a person stop or try again copies of a letter while it is being sent: what the server says
// afterwards of those that were not on their way does not undo it.
func TestMeanwhile(t *testing.T) {
	t.Parallel()
	zone, err := resolver.NewZone("them.example. MX 10 mx.them.example.\n")
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		do   func(*house, outbox.ID) error
		want map[string]outbox.State // when all is over
	}{
		"nothing": {func(*house, outbox.ID) error { return nil },
			map[string]outbox.State{"ewa@them.example": outbox.Sent, "full@them.example": outbox.Sent, "nobody@them.example": outbox.Refused}},
		"stopped": {func(h *house, id outbox.ID) error {
			if _, err := h.Undo(h.t.Context(), id); !errors.Is(err, outbox.ErrLeft) {
				return errors.Join(err, errors.New("nobody had it"))
			}
			return nil
		}, map[string]outbox.State{"ewa@them.example": outbox.Sent, "full@them.example": outbox.Refused, "nobody@them.example": outbox.Refused}},
		"tried again": {func(h *house, id outbox.ID) error { return h.Retry(h.t.Context(), id) },
			map[string]outbox.State{"ewa@them.example": outbox.Sent, "full@them.example": outbox.Sent, "nobody@them.example": outbox.Sent}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			names := &slowNames{Resolver: zone}
			h := newHouse(t, peer.Config{Rules: []peer.Rule{
				{Stage: peer.Rcpt, Match: "nobody@", Times: 1, Do: peer.Reply("550 5.1.1 no such user")},
				{Stage: peer.Rcpt, Match: "full@", Times: 2, Do: peer.Reply("452 4.2.2 mailbox full")}}}, func(c *outbox.Config) { c.Resolver = names })
			id := h.put(outbox.Letter{Recipients: []string{"ewa@them.example", "nobody@them.example", "full@them.example"}})
			for n := range 4 {
				if n == 1 {
					names.meanwhile(func() {
						if err := tt.do(h, id); err != nil {
							t.Error(err)
						}
					})
				}
				if err := h.flush(); err != nil {
					t.Fatal(err)
				}
				h.clock.Advance(time.Hour)
			}
			for _, p := range h.item(id).Recipients {
				if p.State != tt.want[p.Address] {
					t.Errorf("%s is %s, want %s", p.Address, p.State, tt.want[p.Address])
				}
			}
		})
	}
}
