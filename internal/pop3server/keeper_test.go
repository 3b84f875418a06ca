package pop3server_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"poczta.example/poczta/internal/pop3"
	"poczta.example/poczta/internal/pop3server"
	"poczta.example/poczta/internal/sasl"
)

// kept gives maildrops that count signs of life, and can be taken over.
type kept struct {
	pop3server.Maildrops

	calls *atomic.Int64
	taken *atomic.Bool
}

func (k kept) Open(ctx context.Context, id sasl.Identity, utf8 bool) (pop3server.Maildrop, error) {
	d, err := k.Maildrops.Open(ctx, id, utf8)
	return keptDrop{d, k}, err
}

type keptDrop struct {
	pop3server.Maildrop

	k kept
}

// Keep implements pop3server.Keeper.
func (d keptDrop) Keep(context.Context) error {
	d.k.calls.Add(1)
	if d.k.taken.Load() {
		return &pop3.Error{Code: pop3.CodeInUse, Say: pop3.TextInUse}
	}
	return nil
}

// TestKeeper: every command shows life; after the maildrop was taken over they
// are refused, but for QUIT.
func TestKeeper(t *testing.T) {
	t.Parallel()
	k := kept{calls: new(atomic.Int64), taken: new(atomic.Bool)}
	change := func(c *pop3server.Config) {
		k.Maildrops = c.Maildrops
		c.Maildrops = k
	}
	inBubble(t, change, func(b *bubble) { talkKept(t, b.dial(), k) })
}

func talkKept(t *testing.T, p *peer, k kept) {
	t.Helper()
	p.login("ala")
	for i, command := range []string{"NOOP\r\n", "STAT\r\n", "LIST\r\n", "RSET\r\n", "LANG pl\r\n", "STAT\r\n"} {
		if got := p.say(command); !strings.HasPrefix(got, "+OK") || k.calls.Load() != int64(i+1) {
			t.Errorf("%q: got %q after %d signs of life", command, got, k.calls.Load())
		}
	}
	k.taken.Store(true)
	if got := p.say("STAT\r\n"); got != "-ERR [IN-USE] skrzynki używa inna sesja\r\n" {
		t.Errorf("STAT of a session whose maildrop was taken over: got %q", got)
	}
	if got := p.say("QUIT\r\n"); !strings.HasPrefix(got, "+OK") {
		t.Errorf("QUIT: got %q", got)
	}
}
