package account

import (
	"bytes"
	"context"

	"poczta.example/poczta/internal/sasl"
)

func sameSalt(a, b scramKeys) bool {
	return a.iterations == b.iterations && bytes.Equal(a.salt, b.salt)
}

// ScramKeys implements sasl.Verifier. Every login gets keys; those of one that
// can't log in fit no password. An account whose imported hash has not been
// converted yet can't log in by SCRAM: its first login must be by PLAIN.
func (a *Accounts) ScramKeys(ctx context.Context, peer sasl.Peer, authcid string) (sasl.Keys, error) {
	at := a.attempt(peer, "scram", authcid)
	if err := at.begin(); err != nil {
		return sasl.Keys{}, err
	}
	c, err := a.credential(ctx, authcid)
	if err != nil {
		return sasl.Keys{}, at.unavailable(err)
	}
	keys, err := a.dummyKeys(ctx, authcid) // made for every login, so that time tells nothing
	if err != nil {
		return sasl.Keys{}, at.unavailable(err)
	}
	if c.id == 0 || c.state == Removed {
		return keys, nil
	}
	var others []sasl.KeyPair
	for _, app := range c.apps {
		if sameSalt(app.scram, c.keys) {
			others = append(others, sasl.KeyPair{StoredKey: app.scram.stored, ServerKey: app.scram.server})
		}
	}
	usable := c.foreign == "" && len(c.keys.stored) > 0
	if usable || len(others) > 0 {
		keys.Salt, keys.Iterations, keys.Others = c.keys.salt, c.keys.iterations, others
	}
	if usable {
		keys.StoredKey, keys.ServerKey = c.keys.stored, c.keys.server
	}
	return keys, nil
}

// ScramResult implements sasl.Verifier.
func (a *Accounts) ScramResult(ctx context.Context, peer sasl.Peer, authzid, authcid string, ok bool) (sasl.Identity, error) {
	at := a.attempt(peer, "scram", authcid)
	c, err := a.credential(ctx, authcid)
	if err != nil {
		return sasl.Identity{}, at.unavailable(err)
	}
	same, err := a.sameAccount(ctx, c, authzid)
	if err != nil {
		return sasl.Identity{}, at.unavailable(err)
	}
	if !ok || !same || c.id == 0 {
		return sasl.Identity{}, at.fail(ctx, c)
	}
	return at.succeed(c, "ok")
}
