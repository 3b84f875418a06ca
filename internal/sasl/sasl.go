// Package sasl holds both sides of SASL mechanisms as state machines over
// octets (RFC 4422): PLAIN (RFC 4616), LOGIN, EXTERNAL (RFC 4422 appendix A),
// SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, 7677); clients also send OAuth 2.0
// tokens by OAUTHBEARER (RFC 7628) and XOAUTH2. It does no input or
// output: endpoints carry the octets, a Verifier knows the credentials.
package sasl

import (
	"context"
	"crypto/x509"
	"errors"
	"net/netip"

	"poczta.example/poczta/internal/envelope"
)

// Errors of a Verifier and of an exchange. Endpoints turn them into replies:
// ErrCredentials 535 5.7.8 / -ERR [AUTH]; ErrDisabled 535 5.7.8 (the peer learns
// no more); ErrThrottled 454 4.7.0 / -ERR [SYS/TEMP]; ErrUnavailable 454 4.7.0 /
// -ERR [SYS/TEMP]; ErrMalformed 501 5.5.2 / -ERR; ErrMechanism 504 5.5.4.
var (
	ErrCredentials = errors.New("authentication credentials are invalid")
	ErrDisabled    = errors.New("account is disabled")
	ErrThrottled   = errors.New("too many failed logins; try again later")
	ErrUnavailable = errors.New("authentication is temporarily unavailable")
	ErrMalformed   = errors.New("authentication response is malformed")
	ErrMechanism   = errors.New("authentication mechanism is not supported")
	// ErrCancelled is the client's "*" (RFC 4954 §4): 501 5.7.0 / -ERR.
	ErrCancelled = errors.New("authentication was cancelled")
)

// Identity is who has authenticated.
type Identity struct {
	Account envelope.AccountID
	Login   string // canonical login name of the account
	Version int64  // credential version; a cached success counts only under it
}

// Peer is what a Verifier may know of the client when it counts failures.
type Peer struct {
	Addr     netip.Addr
	Protocol string // "smtp", "submission", "pop3": for logs and metrics
}

// Keys are the stored SCRAM-SHA-256 keys of a credential (RFC 5802 §3). An
// unknown login gets keys made from a secret, so that it looks like a known one.
type Keys struct {
	Salt       []byte
	Iterations int
	StoredKey  []byte
	ServerKey  []byte
	// Others are further credentials under the same salt and iterations, as app
	// passwords are; a proof that fits any of them is right.
	Others []KeyPair
}

// KeyPair is one credential's keys under a salt and iterations told elsewhere.
type KeyPair struct{ StoredKey, ServerKey []byte }

// Verifier knows the credentials; package account implements it. Errors are the
// sentinels above, wrapped. Safe for concurrent use. Calls may block on a
// bounded hashing pool until ctx ends.
type Verifier interface {
	// VerifyPlain checks a password given in the clear (PLAIN, LOGIN, USER/PASS).
	// authzid is "" or must name the same account. Strings are as the peer sent
	// them: a Verifier prepares them (RFC 4013, 8265) itself.
	VerifyPlain(ctx context.Context, peer Peer, authzid, authcid, password string) (Identity, error)
	// ScramKeys returns the keys of authcid for a SCRAM exchange.
	ScramKeys(ctx context.Context, peer Peer, authcid string) (Keys, error)
	// ScramResult tells how the exchange of authcid ended, for throttling, and
	// returns the identity when ok.
	ScramResult(ctx context.Context, peer Peer, authzid, authcid string, ok bool) (Identity, error)
	// VerifyExternal maps a client certificate, already verified against the
	// configured CA, to an account (EXTERNAL).
	VerifyExternal(ctx context.Context, peer Peer, authzid string, cert *x509.Certificate) (Identity, error)
}
