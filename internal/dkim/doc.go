// Package dkim signs messages and verifies their signatures (RFC 6376) with
// Ed25519 (RFC 8463) and RSA (RFC 8301). It opens no socket and knows no store:
// private keys come as crypto.Signer, key records through the interface Records.
//
// A Signer makes one signature for each of its keys in one pass over the body; a
// Verifier checks every signature of a message, up to a limit, in one pass too.
// Neither keeps more of a message than its header section while it is given.
//
// Messages are octets with CRLF line ends. A bare CR or LF is an ordinary octet.
package dkim

import (
	"errors"
	"fmt"
)

// Limits.
const (
	MinRSABits = 1024 // RFC 8301 §3.2: verifiers must not take shorter ones
	MaxRSABits = 8192 // a verification with a longer key costs too much; RFC 8301 §3.2 asks for up to 4096
	// MaxFieldOctets is how long a DKIM-Signature field may be that is looked at.
	MaxFieldOctets = 16 << 10
	// MaxSignedFields is how many names h= may hold.
	MaxSignedFields = 500
	// MaxRecordOctets is how long a key record may be that is looked at.
	MaxRecordOctets = 8 << 10
)

// Errors of a Result and of the parsers; test with errors.Is. The wrapped text
// says what is wrong.
var (
	ErrSyntax      = errors.New("signature is malformed")                  // RFC 6376 §6.1.1
	ErrVersion     = errors.New("signature has an unknown version")        // v=
	ErrMissing     = errors.New("signature lacks a required tag")          //
	ErrDomain      = errors.New("i= is not within d=")                     // RFC 6376 §6.1.1
	ErrFrom        = errors.New("field From is not signed")                // RFC 6376 §6.1.1
	ErrExpired     = errors.New("signature has expired")                   // x=
	ErrAlgorithm   = errors.New("algorithm is unknown or no longer taken") // a=; RFC 8301 §3.1
	ErrQuery       = errors.New("no known way to find the key")            // q=
	ErrNoKey       = errors.New("no key record")                           // RFC 6376 §6.1.2
	ErrKeyFetch    = errors.New("key record could not be fetched")         // temporary
	ErrKeySyntax   = errors.New("key record is malformed")                 //
	ErrManyKeys    = errors.New("several key records have one name")       // RFC 6376 §3.6.2.2
	ErrKeyRevoked  = errors.New("key is revoked")                          // p= is empty
	ErrKeyType     = errors.New("key is of another type than a= says")     // k=
	ErrKeySize     = errors.New("RSA key is too short or too long")        // RFC 8301 §3.2
	ErrKeyHash     = errors.New("key is not for this hash")                // h= of the record
	ErrKeyService  = errors.New("key is not for e-mail")                   // s= of the record
	ErrKeyStrict   = errors.New("key is not for subdomains")               // t=s of the record
	ErrBodyLength  = errors.New("l= is longer than the body")              // RFC 6376 §3.5
	ErrBodyHash    = errors.New("body has been changed")                   // bh=
	ErrSignature   = errors.New("signature does not match")                // b=
	ErrFuture      = errors.New("signature is from the future")            // t=
	ErrWeak        = errors.New("RSA key is shorter than is taken here")   // VerifierConfig.MinRSABits
	ErrPartial     = errors.New("signature leaves out a part of the body") // l=; VerifierConfig.RefusePartial
	ErrHeader      = errors.New("header section is too large")             //
	ErrNoSignature = errors.New("there is nothing to sign with")           // NewSigner
)

// Algorithm is a value of a= (RFC 6376 §3.3).
type Algorithm uint8

// The values of Algorithm. RSASHA1 is known by name alone: it is neither made nor
// verified (RFC 8301 §3.1).
const (
	UnknownAlgorithm Algorithm = iota
	RSASHA256
	Ed25519SHA256
	RSASHA1
)

// String is the algorithm as a= spells it.
func (a Algorithm) String() string {
	switch a {
	case RSASHA256:
		return "rsa-sha256"
	case Ed25519SHA256:
		return "ed25519-sha256"
	case RSASHA1:
		return "rsa-sha1"
	case UnknownAlgorithm:
	}
	return "unknown"
}

// keyType is what k= of a key record must be for the algorithm.
func (a Algorithm) keyType() string {
	if a == Ed25519SHA256 {
		return "ed25519"
	}
	return "rsa"
}

// Status is the outcome of one signature, in the words of RFC 8601 §2.7.1. RFC
// 6376 §3.9 calls them SUCCESS, PERMFAIL (Fail and PermError) and TEMPFAIL.
type Status uint8

// The values of Status.
const (
	Pass      Status = 1 + iota // the signature holds
	Fail                        // it could be checked and does not hold
	TempError                   // it could not be checked now
	PermError                   // it can never be checked, or may not be taken
	Policy                      // it holds, and does not count by our policy
)

// String returns the word for Authentication-Results.
func (s Status) String() string {
	switch s {
	case Pass:
		return "pass"
	case Fail:
		return "fail"
	case TempError:
		return "temperror"
	case PermError:
		return "permerror"
	case Policy:
		return "policy"
	}
	return fmt.Sprintf("status %d", uint8(s))
}

// statusOf is the outcome that an error makes.
func statusOf(err error) Status {
	switch {
	case err == nil:
		return Pass
	case errors.Is(err, ErrKeyFetch):
		return TempError
	case errors.Is(err, ErrBodyHash), errors.Is(err, ErrSignature):
		return Fail
	case errors.Is(err, ErrWeak), errors.Is(err, ErrPartial):
		return Policy
	}
	return PermError
}
