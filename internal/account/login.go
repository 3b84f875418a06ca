package account

import (
	"context"
	"errors"
	"fmt"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/sasl"
)

// VerifyPlain implements sasl.Verifier. A password that was right before costs a
// keyed hash; on PostgreSQL also one read. Any other one costs a derivation in
// the pool, whether or not the login exists, and a failure takes
// Config.FailureDelay at least.
func (a *Accounts) VerifyPlain(ctx context.Context, peer sasl.Peer, authzid, authcid, password string) (sasl.Identity, error) {
	at := a.attempt(peer, "plain", authcid)
	if err := at.begin(); err != nil {
		return sasl.Identity{}, err
	}
	c, err := a.credential(ctx, authcid)
	if err != nil {
		return sasl.Identity{}, at.unavailable(err)
	}
	same, err := a.sameAccount(ctx, c, authzid)
	if err != nil {
		return sasl.Identity{}, at.unavailable(err)
	}
	key := a.successKey(c, password)
	if _, ok := a.successes.get(key); ok && same {
		return at.succeed(c, "cached")
	}
	var p proof
	poolErr := a.pool.run(ctx, func() {
		if _, ok := a.successes.get(key); ok { // another session was first
			p.ok = true
			return
		}
		p, err = a.prove(ctx, c, password)
	})
	if err = errors.Join(poolErr, err); err != nil {
		return sasl.Identity{}, at.unavailable(err)
	}
	if !p.ok || !same {
		return sasl.Identity{}, at.fail(ctx, c)
	}
	if c.state == Active {
		a.store(ctx, c, p)
		a.successes.put(key, 0, struct{}{}) // the generation of successes never changes: the key holds the version
	}
	return at.succeed(c, "ok")
}

// sameAccount reports whether authzid is empty or names c's account.
func (a *Accounts) sameAccount(ctx context.Context, c *credential, authzid string) (bool, error) {
	if authzid == "" {
		return true, nil
	}
	other, err := a.credential(ctx, authzid)
	if err != nil {
		return false, err
	}
	return other.id != 0 && other.id == c.id, nil
}

// proof is the outcome of checking a password, with what is to be stored for
// the next login.
type proof struct {
	ok    bool
	keys  *scramKeys // the account's new keys, in place of an imported hash or of few iterations
	app   *appKeys   // an app password's keys under the account's salt
	reads string     // the hash that was replaced
}

// prove checks a password against everything the account has. The work for a
// wrong one is the same whether the login exists or not.
func (a *Accounts) prove(ctx context.Context, c *credential, password string) (proof, error) {
	if len(password) > MaxPasswordOctets {
		password = password[:MaxPasswordOctets] // longer than any that could be set: wrong, at the same cost
		c = &credential{}
	}
	if canonical, ok := parseAppPassword(password); ok {
		p, err := a.proveApp(ctx, c, canonical)
		if err != nil || p.ok {
			return p, err
		}
	}
	prepared := prepare(password)
	if c.foreign != "" {
		return a.proveForeign(c, password, prepared)
	}
	salt, iterations := c.keys.salt, c.keys.iterations
	if len(c.keys.stored) == 0 {
		salt, iterations = a.macKey[:saltOctets], a.config.Iterations
	}
	got, err := a.derive(prepared, salt, iterations)
	if err != nil {
		return proof{}, err
	}
	p := proof{ok: equal(c.keys.stored, got.stored)}
	if iterations >= a.config.Iterations {
		return p, nil
	}
	if p.ok {
		p.keys, err = a.freshKeys(prepared)
	} else {
		_, err = a.derive(prepared, salt, a.config.Iterations-iterations)
	}
	return p, err
}

// proveForeign checks an imported hash; a right password gets keys.
func (a *Accounts) proveForeign(c *credential, password, prepared string) (proof, error) {
	ok, err := checkForeign(c.foreign, password)
	if err == nil && !ok && prepared != password {
		ok, err = checkForeign(c.foreign, prepared)
	}
	if err != nil {
		a.config.Logger.Error("check imported hash", "login", c.login, "err", err)
		ok = false
	}
	keys, err := a.freshKeys(prepared)
	if err != nil || !ok {
		return proof{}, err
	}
	return proof{ok: true, keys: keys, reads: c.foreign}, nil
}

// proveApp checks the app passwords, all at once: they share a salt, but for those of an account
// that was restored, which keep their own.
func (a *Accounts) proveApp(ctx context.Context, c *credential, canonical string) (proof, error) {
	salt, err := a.appSalt(ctx, c.id)
	if err != nil {
		return proof{}, err
	}
	found, err := a.findApp(c, canonical, salt)
	if err != nil || found == nil {
		return proof{}, err
	}
	p := proof{ok: true}
	if !sameSalt(found.scram, c.keys) { // the password changed since: keep SCRAM working
		keys, err := a.derive(showApp(canonical), c.keys.salt, c.keys.iterations)
		if err != nil {
			return proof{}, err
		}
		p.app = &appKeys{id: found.id, scram: keys}
	}
	return p, nil
}

// findApp finds the app password by its quick key; nil for none.
func (a *Accounts) findApp(c *credential, canonical string, salt []byte) (found *appKeys, err error) {
	got, err := a.derive(canonical, salt, appIterations)
	if err != nil {
		return nil, err
	}
	under := map[string][]byte{"": got.stored} // by salt; "" is the account's own
	for i := range c.apps {
		key, own := quickKey(c.apps[i].quick)
		if under[string(own)] == nil {
			if got, err = a.derive(canonical, own, appIterations); err != nil {
				return nil, err
			}
			under[string(own)] = got.stored
		}
		if equal(key, under[string(own)]) {
			found = &c.apps[i]
		}
	}
	return found, nil
}

// store writes what a login found out. The login has succeeded: a fault here is
// logged, and the next login tries again.
func (a *Accounts) store(ctx context.Context, c *credential, p proof) {
	var err error
	switch {
	case p.keys != nil:
		err = a.updateCredential(ctx, func(tx db.Tx) error {
			_, err := tx.Exec(`UPDATE account SET salt = ?, iterations = ?, stored_key = ?, server_key = ?, foreign_hash = ''
				WHERE id = ? AND version = ? AND foreign_hash = ?`,
				p.keys.salt, int64(p.keys.iterations), p.keys.stored, p.keys.server, int64(c.id), c.version, p.reads)
			return err
		})
	case p.app != nil:
		err = a.updateCredential(ctx, func(tx db.Tx) error {
			_, err := tx.Exec(`UPDATE account_app SET salt = ?, iterations = ?, stored_key = ?, server_key = ? WHERE id = ? AND account = ?`,
				p.app.scram.salt, int64(p.app.scram.iterations), p.app.scram.stored, p.app.scram.server, p.app.id, int64(c.id))
			return err
		})
	}
	if err != nil {
		a.config.Logger.Warn("convert credential", "login", c.login, "err", err)
	}
}

// attempt is one login, from the throttle to its outcome.
type attempt struct {
	a         *Accounts
	peer      sasl.Peer
	mechanism string
	login     string // compared form, "" when there is none
	began     time.Time
}

// attempt begins to look at a login by name; "" when a certificate will tell.
func (a *Accounts) attempt(peer sasl.Peer, mechanism, name string) attempt {
	key, ok := loginKey(name)
	if !ok {
		key = ""
	}
	return attempt{a: a, peer: peer, mechanism: mechanism, login: key, began: time.Now()}
}

func (t *attempt) begin() error {
	if t.a.failures.Begin(t.peer.Addr, t.login, t.a.config.Now()) {
		return nil
	}
	t.tell("throttled")
	return fmt.Errorf("log in from %s: %w", t.peer.Addr, sasl.ErrThrottled)
}

func (t *attempt) tell(result string) {
	if hook := t.a.config.Hooks.Login; hook != nil {
		hook(t.peer.Protocol, t.mechanism, result)
	}
}

// unavailable ends an attempt whose outcome is not the peer's doing.
func (t *attempt) unavailable(err error) error {
	t.a.failures.Forgive(t.peer.Addr, t.login, t.a.config.Now())
	t.tell("unavailable")
	if !errors.Is(err, sasl.ErrUnavailable) {
		err = fmt.Errorf("%w: %w", sasl.ErrUnavailable, err)
	}
	return err
}

// succeed ends an attempt that proved who the peer is.
func (t *attempt) succeed(c *credential, result string) (sasl.Identity, error) {
	if c.state != Active {
		t.tell("failed")
		t.a.config.Logger.Info("login refused: account is disabled", "login", c.login, "peer", t.peer.Addr, "protocol", t.peer.Protocol)
		return sasl.Identity{}, fmt.Errorf("log in as %s: %w", c.login, sasl.ErrDisabled)
	}
	now := t.a.config.Now()
	t.a.failures.Forgive(t.peer.Addr, t.login, now)
	t.a.failures.Know(t.peer.Addr, t.login, now)
	t.tell(result)
	return c.identity(), nil
}

// fail ends an attempt that proved nothing, not before FailureDelay is over.
func (t *attempt) fail(ctx context.Context, c *credential) error {
	t.tell("failed")
	t.a.config.Logger.Info("login failed", "login", c.login, "peer", t.peer.Addr, "protocol", t.peer.Protocol, "mechanism", t.mechanism)
	if rest := t.a.config.FailureDelay - time.Since(t.began); rest > 0 {
		timer := time.NewTimer(rest)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return fmt.Errorf("log in: %w", sasl.ErrCredentials)
}
