package daemon

import (
	"context"
	"crypto/x509"

	"poczta.example/poczta/internal/conduct"
	"poczta.example/poczta/internal/sasl"
)

// watchedLogins tells conduct from where accounts log in.
type watchedLogins struct {
	sasl.Verifier
	watch *conduct.Watch
}

// watchLogins is v, watched where the configuration asks for it.
func watchLogins(r *Rooms, v sasl.Verifier) sasl.Verifier {
	if !r.Config.Conduct.Enabled {
		return v
	}
	return watchedLogins{v, r.Conduct}
}

func (w watchedLogins) note(ctx context.Context, p sasl.Peer, id sasl.Identity, err error) (sasl.Identity, error) {
	if err == nil && id.Account != 0 && !p.Addr.IsLoopback() {
		w.watch.Login(ctx, id.Account, p.Addr)
	}
	return id, err
}

// VerifyPlain implements sasl.Verifier.
func (w watchedLogins) VerifyPlain(ctx context.Context, p sasl.Peer, authzid, authcid, password string) (sasl.Identity, error) {
	id, err := w.Verifier.VerifyPlain(ctx, p, authzid, authcid, password)
	return w.note(ctx, p, id, err)
}

// ScramResult implements sasl.Verifier.
func (w watchedLogins) ScramResult(ctx context.Context, p sasl.Peer, authzid, authcid string, ok bool) (sasl.Identity, error) {
	id, err := w.Verifier.ScramResult(ctx, p, authzid, authcid, ok)
	if !ok {
		return id, err
	}
	return w.note(ctx, p, id, err)
}

// VerifyExternal implements sasl.Verifier.
func (w watchedLogins) VerifyExternal(ctx context.Context, p sasl.Peer, authzid string, cert *x509.Certificate) (sasl.Identity, error) {
	id, err := w.Verifier.VerifyExternal(ctx, p, authzid, cert)
	return w.note(ctx, p, id, err)
}
