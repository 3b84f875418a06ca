package sasl

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"slices"
	"strings"
)

// The mechanisms' names as IANA registers them. LOGIN was never specified; it is
// what draft-murchison-sasl-login describes.
const (
	Plain           = "PLAIN"
	Login           = "LOGIN"
	External        = "EXTERNAL"
	ScramSHA256     = "SCRAM-SHA-256"
	ScramSHA256Plus = "SCRAM-SHA-256-PLUS"
)

// Exchange is the server side of one authentication. It is used by one
// goroutine, once.
type Exchange interface {
	// Next takes the client's response, decoded, and returns the next challenge.
	// The first call takes the initial response: nil when the client sent none,
	// empty and not nil when it sent an empty one. With done the client has
	// authenticated and there is no challenge. After an error the exchange is
	// over; errors are this package's sentinels, wrapped, or what the Verifier
	// returned.
	Next(ctx context.Context, response []byte) (challenge []byte, done bool, err error)
	// Identity is who has authenticated; zero before done.
	Identity() Identity
}

// Options is the state of a connection as far as mechanisms depend on it.
type Options struct {
	Verifier Verifier // needed by New, not by Mechanisms
	Peer     Peer
	// TLS is true when the connection is encrypted.
	TLS bool
	// Binding is the connection's channel binding data; see BindingOf.
	Binding Binding
	// Cert is the client's certificate, verified against the configured CA; nil
	// when there is none.
	Cert *x509.Certificate
	// PlaintextAllowed admits PLAIN and LOGIN without TLS, for peers named in
	// the configuration.
	PlaintextAllowed bool
	// Disabled are mechanisms that the configuration switches off.
	Disabled []string
	// Rand is the source of nonces; nil is crypto/rand.
	Rand io.Reader
}

// Mechanisms lists what may be offered in the connection's state, strongest
// first: PLAIN and LOGIN only when the password can't be overheard or that is
// allowed, EXTERNAL only with a certificate, -PLUS only with channel binding.
func Mechanisms(o Options) []string {
	var names []string
	offer := func(name string, ok bool) {
		if ok && !slices.Contains(o.Disabled, name) {
			names = append(names, name)
		}
	}
	offer(ScramSHA256Plus, o.TLS && !o.Binding.IsZero())
	offer(ScramSHA256, true)
	offer(External, o.TLS && o.Cert != nil)
	offer(Plain, o.TLS || o.PlaintextAllowed)
	offer(Login, o.TLS || o.PlaintextAllowed)
	return names
}

// New begins an exchange with the mechanism of that name, in any case of
// letters. The error is ErrMechanism for one that Mechanisms doesn't list.
func New(mechanism string, o Options) (Exchange, error) {
	name := strings.ToUpper(mechanism)
	offered := Mechanisms(o)
	if !slices.Contains(offered, name) {
		return nil, fmt.Errorf("begin %.32q: %w", mechanism, ErrMechanism)
	}
	switch name {
	case Plain:
		return &plain{verifier: o.Verifier, peer: o.Peer}, nil
	case Login:
		return &login{verifier: o.Verifier, peer: o.Peer}, nil
	case External:
		return &external{verifier: o.Verifier, peer: o.Peer, cert: o.Cert}, nil
	default:
		return newScram(o, name == ScramSHA256Plus, slices.Contains(offered, ScramSHA256Plus)), nil
	}
}
