// Package arc validates Authenticated Received Chains (RFC 8617): what hosts on the way say that
// they found when a message reached them, sealed so that the next ones can believe it. It does
// not seal. Look-ups and arithmetic are those of package dkim.
package arc

import (
	"errors"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/authres"
)

// Status is a chain validation status (RFC 8617 §4.4).
type Status uint8

// The statuses.
const (
	None Status = iota // there is no chain
	Pass
	Fail // it does not hold, for whatever reason (RFC 8617 §5.2.1)
)

// String is the status' word for cv= and Authentication-Results.
func (s Status) String() string {
	switch s {
	case Pass:
		return "pass"
	case Fail:
		return "fail"
	case None:
	}
	return "none"
}

// MaxInstances is how many sets a chain may have (RFC 8617 §4.2.1).
const MaxInstances = 50

// Errors of a Result; test with errors.Is. The wrapped text says what is wrong with which
// instance.
var (
	ErrInstances = errors.New("chain has too many sets")
	ErrStructure = errors.New("chain is not whole")                // RFC 8617 §5.2, step 3
	ErrFailed    = errors.New("a host on the way found it broken") // cv=fail
	ErrSyntax    = errors.New("field of the chain is malformed")
	ErrMessage   = errors.New("ARC-Message-Signature does not hold")
	ErrSeal      = errors.New("ARC-Seal does not hold")
)

// Result is what became of a chain.
type Result struct {
	Status    Status
	Instances int // sets of the chain
	// Sealers are d= of the ARC-Seals: that of instance 1 first. Unproven unless Status is Pass.
	Sealers []address.Domain
	// Oldest is the oldest instance whose ARC-Message-Signature still holds: from there on nobody
	// has changed what it signs. 1 when all of them do; only the newest ten are looked at. 0 unless
	// Status is Pass.
	Oldest int
	// AuthResults are the ARC-Authentication-Results, that of instance 1 first; the ID is empty
	// where one can't be read. Unproven unless Status is Pass.
	AuthResults []authres.Field
	// Err is why Status is Fail. It wraps dkim.ErrKeyFetch when DNS did not answer.
	Err error
}
