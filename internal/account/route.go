package account

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
)

// Route tells where mail for path goes. Rules are tried in the order address,
// subaddress, alias (also of the address without its subaddress), catch-all; at
// last postmaster and abuse of every domain, and the bare <Postmaster>
// (RFC 5321 §4.5.1, RFC 2142), lead to whoever is postmaster. Targets of aliases
// are routed in the same way; those in other domains are Remotes.
//
// The error is ErrNotLocal, ErrUnknownUser, ErrDisabled or ErrLoop, wrapped, for
// a path that leads nowhere; any other error is temporary. An alias whose targets are
// all suspended is ErrDisabled. The Route is shared: its slices must not be changed.
func (a *Accounts) Route(ctx context.Context, path address.ForwardPath) (Route, error) {
	return a.route(ctx, path, true)
}

// Home is Route without what accounts forward: where mail for path is ours to deliver.
func (a *Accounts) Home(ctx context.Context, path address.ForwardPath) (Route, error) {
	return a.route(ctx, path, false)
}

func (a *Accounts) route(ctx context.Context, path address.ForwardPath, forward bool) (Route, error) {
	key := path.Key()
	if path.IsPostmaster() {
		key = ""
	}
	if !forward {
		key = "\x00" + key
	}
	if r, ok := a.routes.get(key); ok {
		return r, nil
	}
	generation := a.routes.generation.Load()
	var r struct {
		route Route
		err   error
	}
	err := a.db.View(ctx, func(tx db.Tx) (err error) {
		r.route, r.err = a.routeIn(tx, path, forward)
		if r.err != nil && !definite(r.err) {
			return r.err
		}
		return nil
	})
	if err != nil {
		return Route{}, fmt.Errorf("route %s: %w", path, err)
	}
	if r.err == nil { // what strangers make up is not kept
		a.routes.put(key, generation, r.route)
	}
	return r.route, r.err
}

// definite reports whether err is an answer of routing, not a fault of the store.
func definite(err error) bool {
	return errors.Is(err, ErrNotLocal) || errors.Is(err, ErrUnknownUser) || errors.Is(err, ErrDisabled) || errors.Is(err, ErrLoop)
}

func (a *Accounts) routeIn(tx db.Tx, path address.ForwardPath, forward bool) (Route, error) {
	r := newRouter(a, tx)
	r.home = !forward
	var match Match
	var err error
	if path.IsPostmaster() {
		match, err = MatchPostmaster, r.storePostmaster(1)
	} else {
		match, err = r.resolve(path.Address(), 0, Forwarder{})
	}
	switch {
	case err != nil && (!definite(err) || isTooFar(err) || r.empty()):
		return Route{}, err
	case r.empty() && len(r.skipped) == 0:
		return Route{}, fmt.Errorf("forwarding of %s is suspended: %w", path, ErrDisabled)
	case r.empty():
		return Route{}, r.skipped[0].Err
	}
	return Route{Match: match, Locals: r.locals, Remotes: r.remotes, Forwarders: r.forwarders, Skipped: r.skipped}, nil
}

// maxLocals bounds the domains of which is remembered whether they are ours: every message
// that comes in asks for a few of a stranger's, and most strangers come again.
const maxLocals = 4096

// IsLocal reports whether mail of domain is ours.
func (a *Accounts) IsLocal(ctx context.Context, domain address.Domain) (bool, error) {
	if local, ok := a.locals.get(domain.String()); ok {
		return local, nil
	}
	generation := a.locals.generation.Load()
	addr, err := address.New("postmaster", domain)
	if err != nil {
		return false, nil
	}
	_, err = a.Route(ctx, address.NewForwardPath(addr))
	if err != nil && !definite(err) {
		return false, err
	}
	local := !errors.Is(err, ErrNotLocal)
	a.locals.put(domain.String(), generation, local)
	return local, nil
}

// router is the work of one Route.
type router struct {
	a          *Accounts
	tx         db.Tx
	path       map[string]bool // keys on the way to the one being resolved
	done       map[string]bool // keys resolved
	has        map[envelope.AccountID]bool
	targets    int                         // of aliases, followed so far
	home       bool                        // what accounts forward is not followed
	via        map[envelope.AccountID]bool // whose forwards were followed
	locals     []Local
	remotes    []address.Address
	forwarders []Forwarder
	skipped    []Skipped
}

func newRouter(a *Accounts, tx db.Tx) *router {
	return &router{a: a, tx: tx, path: map[string]bool{}, done: map[string]bool{}, has: map[envelope.AccountID]bool{}, via: map[envelope.AccountID]bool{}}
}

func (r *router) empty() bool { return len(r.locals) == 0 && len(r.remotes) == 0 }

// resolve adds what addr leads to. Its error is a fault, the answer for addr at
// depth 0, or why the target addr adds nothing; tooFar ends the whole Route. by is
// whose target addr is.
func (r *router) resolve(addr address.Address, depth int, by Forwarder) (Match, error) {
	key := addr.Key()
	switch {
	case depth > MaxAliasDepth:
		return 0, tooFar{fmt.Errorf("%s is more than %d aliases away: %w", addr, MaxAliasDepth, ErrLoop)}
	case r.path[key]:
		return 0, fmt.Errorf("%s leads to itself: %w", addr, ErrLoop)
	case r.done[key]:
		return 0, nil
	}
	h, err := r.lookup(addr)
	if err != nil {
		if depth > 0 && errors.Is(err, ErrNotLocal) {
			r.done[key] = true
			r.remotes = append(r.remotes, addr)
			r.forwarders = append(r.forwarders, by)
			return 0, nil
		}
		return 0, err
	}
	r.path[key] = true
	match, err := r.follow(h, addr, depth)
	delete(r.path, key)
	r.done[key] = true
	if isPostmaster(addr) && (definite(err) && !isTooFar(err) || err == nil && depth == 0 && r.empty()) {
		return MatchPostmaster, r.postmaster(h, depth)
	}
	return match, err
}

// follow applies the first rule that fits.
func (r *router) follow(h hit, addr address.Address, depth int) (Match, error) {
	switch h.match {
	case MatchAddress, MatchSubaddress:
		if h.state != Active {
			return 0, fmt.Errorf("%s: %w", addr, ErrDisabled)
		}
		return h.match, r.deliver(h.local, h.forwarding, depth)
	case MatchAlias, MatchCatchAll:
		_, err := r.followAll(h.targets, depth+1, Forwarder{Source: h.source, Domain: addr.Domain()})
		return h.match, err
	}
	return 0, fmt.Errorf("%s: %w", addr, ErrUnknownUser)
}

// followAll resolves targets and says how many of them get the mail.
func (r *router) followAll(targets []address.Address, depth int, by Forwarder) (live int, err error) {
	for _, t := range targets {
		if r.targets++; r.targets > MaxAliasTargets {
			return live, tooFar{fmt.Errorf("more than %d targets: %w", MaxAliasTargets, ErrLoop)}
		}
		_, err := r.resolve(t, depth, by)
		if err == nil {
			live++
			continue
		}
		if !definite(err) || isTooFar(err) {
			return live, err
		}
		r.skipped = append(r.skipped, Skipped{Target: t, Err: err})
	}
	return live, nil
}

// deliver adds an account that was found: its mailbox, or what it forwards to. A
// forward none of whose targets gets the mail leaves it in the mailbox.
func (r *router) deliver(l Local, f forwarding, depth int) error {
	if f.how == forwardsNot || r.home || r.via[l.Account] {
		r.addLocal(l)
		return nil
	}
	r.via[l.Account] = true
	if f.how == forwardsKeep {
		r.addLocal(l)
	}
	targets, err := liveForwards(r.tx, l.Account)
	if err != nil {
		return err
	}
	live, err := r.followAll(targets, depth+1, Forwarder{Source: f.primary, Domain: l.Address.Domain(), Account: l.Account})
	if err == nil && live == 0 {
		r.addLocal(l)
	}
	return err
}

func (r *router) addLocal(l Local) {
	if !r.has[l.Account] {
		r.has[l.Account] = true
		r.locals = append(r.locals, l)
	}
}

// tooFar is an ErrLoop that ends a whole Route: a limit was reached, so what
// was found by then is an accident of order.
type tooFar struct{ error }

func (t tooFar) Unwrap() error { return t.error }

func isTooFar(err error) bool {
	_, ok := errors.AsType[tooFar](err)
	return ok
}

// isPostmaster reports whether addr is one every domain must have. RFC 5321
// §4.5.1, RFC 2142 §2
func isPostmaster(addr address.Address) bool {
	return strings.EqualFold(addr.Local(), "postmaster") || strings.EqualFold(addr.Local(), "abuse")
}

// postmaster adds the postmaster of h's domain: the account named for it, its
// first, or the store's.
func (r *router) postmaster(h hit, depth int) error {
	found, err := r.addAccount(depth, `id = ? AND state = ?`, h.postmaster, int64(Active))
	if err == nil && !found {
		found, err = r.addAccount(depth, `domain = ? AND state = ? ORDER BY id LIMIT 1`, h.domain, int64(Active))
	}
	if err != nil || found {
		return err
	}
	return r.storePostmaster(depth + 1)
}

// storePostmaster adds the configured postmaster, or the store's first account.
func (r *router) storePostmaster(depth int) error {
	if p := r.a.config.Postmaster; !p.IsZero() && !r.path[p.Key()] {
		before := len(r.locals) + len(r.remotes)
		if _, err := r.resolve(p, depth, Forwarder{}); err != nil && !definite(err) {
			return err
		}
		if len(r.locals)+len(r.remotes) > before {
			return nil
		}
	}
	found, err := r.addAccount(depth, `state = ? ORDER BY id LIMIT 1`, int64(Active))
	if err == nil && !found {
		err = fmt.Errorf("postmaster: %w: there is no account yet", ErrUnknownUser)
	}
	return err
}

// addAccount adds the account that a condition chooses, if there is one.
func (r *router) addAccount(depth int, where string, args ...any) (found bool, err error) {
	var l Local
	var id, mode int64
	var text string
	err = r.tx.QueryRow(`SELECT id, login, address, quota, language, forwards FROM account WHERE `+where, args...).
		Scan(&id, &l.Login, &text, &l.Quota, &l.Language, &mode)
	if errors.Is(err, db.ErrNotFound) {
		return false, nil
	}
	if err == nil {
		l.Account = envelope.AccountID(id)
		l.Address, err = address.Parse(text)
	}
	if err != nil {
		return false, fmt.Errorf("read account: %w", err)
	}
	return true, r.deliver(l, forwarding{forwards(mode), text}, depth)
}
