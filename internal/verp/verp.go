// Package verp writes variable envelope return paths: a reverse-path for each
// recipient of a message, so that what comes back tells by its address alone whom it
// is about.
//
//	sender+user=domain@our.domain
//
// There is no RFC of it; the form is that of qmail's VERP as Postfix has it, with two
// delimiters that may be chosen.
package verp

import (
	"errors"
	"fmt"
	"strings"

	"poczta.example/poczta/internal/address"
)

// Delimiters parts the sender from the recipient's local-part, and that from its
// domain: two octets of Marks. "" asks for no such path.
type Delimiters string

const (
	// Default is what is taken where none are named.
	Default Delimiters = "+="
	// Marks are the octets that may be delimiters.
	Marks = "-+="
	// MaxGuesses bounds what Guesses returns.
	MaxGuesses = 6
)

// ErrTooLong: the path would be longer than others must take (RFC 5321 §4.5.3.1.3);
// test with errors.Is.
var ErrTooLong = errors.New("the reverse-path for this recipient would be too long")

// Valid reports whether d are two of Marks.
func (d Delimiters) Valid() bool {
	return len(d) == 2 && strings.IndexByte(Marks, d[0]) >= 0 && strings.IndexByte(Marks, d[1]) >= 0
}

// Path is the reverse-path of sender's message for the recipient to; d must be valid.
// The bare <Postmaster> has no domain to be written. The local-part has more than
// address.MaxLocalPartOctets where both need it, as everybody's has who does this. The
// error is ErrTooLong.
func Path(sender address.Address, to address.ForwardPath, d Delimiters) (address.Address, error) {
	if !d.Valid() {
		return address.Address{}, fmt.Errorf("verp: %q are no delimiters", string(d))
	}
	local := sender.Local() + string(d[:1]) + "postmaster"
	if !to.IsPostmaster() {
		local = sender.Local() + string(d[:1]) + to.Address().Local() + string(d[1:]) + to.Address().Domain().String()
	}
	a, err := sender.WithLocal(local)
	if errors.Is(err, address.ErrTooLong) || err == nil && len(a.String())+len("<>") > address.MaxPathOctets {
		return address.Address{}, fmt.Errorf("%w: %d octets before the @", ErrTooLong, len(local))
	}
	return a, err
}

// Names reports whether a is the path of sender's message for the recipient to,
// whatever the delimiters; upper and lower case are one.
func Names(a, sender, to address.Address) bool {
	octets := len(sender.Local()) + len(to.Local()) + len(to.Domain().String()) + 2
	if a.Domain() != sender.Domain() || a.IsASCII() && len(a.Local()) != octets { // most are not
		return false
	}
	for i := range len(Marks) {
		for k := range len(Marks) {
			p, err := Path(sender, address.NewForwardPath(to), Delimiters([]byte{Marks[i], Marks[k]}))
			if err == nil && p.Key() == a.Key() {
				return true
			}
		}
	}
	return false
}

// Guess is what a path may stand for.
type Guess struct{ Sender, Recipient address.Address }

// Guesses reads a path whose first delimiter, the one that parts subaddresses, is
// separator. Since "-" stands in domains and all marks in local-parts, there may be
// several readings, the likeliest first. None: a has not the form.
func Guesses(a address.Address, separator string) (all []Guess) {
	if separator == "" {
		return nil
	}
	user, rest, ok := strings.Cut(a.Local(), separator)
	sender, err := a.WithLocal(user)
	if !ok || err != nil {
		return nil
	}
	add := func(at int) {
		if at <= 0 || len(all) == MaxGuesses {
			return
		}
		d, err := address.ParseDomain(rest[at+1:])
		if err != nil {
			return
		}
		if to, err := address.New(rest[:at], d); err == nil {
			all = append(all, Guess{sender, to})
		}
	}
	add(strings.LastIndexByte(rest, '='))
	add(strings.LastIndexByte(rest, '+'))
	for at := len(rest); len(all) < MaxGuesses; {
		if at = strings.LastIndexByte(rest[:at], '-'); at <= 0 {
			break
		}
		add(at)
	}
	return all
}
