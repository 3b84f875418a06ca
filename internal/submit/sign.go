package submit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/dkim"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/keys"
	"poczta.example/poczta/internal/message"
)

// Signers makes what signs for a domain; *keys.Keys is one. The error wraps
// keys.ErrNoKey when the domain has no keys here.
type Signers interface {
	Signer(ctx context.Context, domain address.Domain) (*dkim.Signer, error)
}

// sign begins the signatures of a judged message. The message is signed for the
// domain of From, so that DMARC finds it aligned (RFC 9989), or of Resent-From,
// which was judged in its place; when that is not ours but was granted, for the
// domain of the reverse-path or of the login if one of them is. Without any it
// stays unsigned, which is told once for each domain.
func (s *Service) sign(ctx context.Context, who sender, d *intake.Draft) (intake.Signing, error) {
	if s.c.Signers == nil {
		return nil, nil
	}
	domains := signingDomains(who, d)
	for _, domain := range domains {
		signer, err := s.c.Signers.Signer(ctx, domain)
		if errors.Is(err, keys.ErrNoKey) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("find keys: %w", err)
		}
		s.signed(true)
		return signer.Begin(d.Header, dkim.Options{}), nil
	}
	s.signed(false)
	if len(domains) > 0 && s.keyless.first(domains[0]) {
		s.c.Logger.Warn("mail leaves unsigned: the domain has no DKIM key; make one with poczta domain rotate", "domain", domains[0].String())
	}
	return nil, nil
}

func (s *Service) signed(yes bool) {
	if s.c.Hooks.Signed != nil {
		s.c.Hooks.Signed(yes)
	}
}

// signingDomains are the domains that a message may be signed for, the best first.
// From of a resent message is none of them: nobody has judged it, and it may be of
// another domain here, whose people the sender has nothing to do with.
func signingDomains(who sender, d *intake.Draft) []address.Domain {
	var all []address.Domain
	add := func(a address.Address) {
		if dom := a.Domain(); !dom.IsZero() && !dom.IsLiteral() && !slices.Contains(all, dom) {
			all = append(all, dom)
		}
	}
	value, resent := message.Get(d.Header, "Resent-From")
	if !resent {
		value, _ = message.Get(d.Header, "From")
	}
	if list, err := message.ParseAddressList(value); err == nil && len(list) > 0 {
		add(list[0].Address)
	}
	if !d.Envelope.ReversePath.IsNull() {
		add(d.Envelope.ReversePath.Address())
	}
	if a, err := address.Parse(who.login); err == nil {
		add(a)
	}
	return all
}

// maxWarned bounds the domains that are remembered.
const maxWarned = 1000

// warned remembers which domains were told of.
type warned struct {
	mu   sync.Mutex
	seen map[address.Domain]bool
}

// first reports whether a domain comes for the first time; beyond maxWarned
// domains none does.
func (w *warned) first(d address.Domain) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen[d] || len(w.seen) == maxWarned {
		return false
	}
	if w.seen == nil {
		w.seen = map[address.Domain]bool{}
	}
	w.seen[d] = true
	return true
}
