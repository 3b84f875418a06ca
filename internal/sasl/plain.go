package sasl

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"unicode/utf8"
)

// maxFieldOctets is the longest authzid, authcid or password; RFC 4616 §2 lets a
// server set one of at least 255.
const maxFieldOctets = 1024

// plain is PLAIN: authzid NUL authcid NUL password. RFC 4616 §2
type plain struct {
	verifier Verifier
	peer     Peer
	asked    bool
	over     bool
	identity Identity
}

// Identity implements Exchange.
func (p *plain) Identity() Identity { return p.identity }

// Next implements Exchange.
func (p *plain) Next(ctx context.Context, response []byte) ([]byte, bool, error) {
	if p.over {
		return nil, false, errOver
	}
	if response == nil && !p.asked {
		p.asked = true
		return []byte{}, false, nil
	}
	p.over = true
	parts := bytes.Split(response, []byte{0})
	if len(parts) != 3 {
		return nil, false, fmt.Errorf("read PLAIN response: %w: %d fields, not 3", ErrMalformed, len(parts))
	}
	for i, name := range [...]string{"authzid", "authcid", "password"} {
		if len(parts[i]) > maxFieldOctets {
			return nil, false, fmt.Errorf("read PLAIN %s: %w: longer than %d octets", name, ErrMalformed, maxFieldOctets)
		}
	}
	if len(parts[1]) == 0 || len(parts[2]) == 0 || !utf8.Valid(parts[0]) || !utf8.Valid(parts[1]) {
		return nil, false, fmt.Errorf("read PLAIN response: %w: empty or not UTF-8", ErrMalformed)
	}
	id, err := p.verifier.VerifyPlain(ctx, p.peer, string(parts[0]), string(parts[1]), string(parts[2]))
	if err != nil {
		return nil, false, err
	}
	p.identity = id
	return nil, true, nil
}

var errOver = fmt.Errorf("continue exchange: %w: it is over", ErrMalformed)

// The challenges of LOGIN, as old clients compare them.
const (
	loginUsername = "Username:"
	loginPassword = "Password:"
)

// login is LOGIN: the name, then the password, each asked for.
type login struct {
	verifier Verifier
	peer     Peer
	step     loginStep
	authcid  string
	identity Identity
}

type loginStep uint8

const (
	loginStart loginStep = iota
	loginWantName
	loginWantPassword
	loginOver
)

// Identity implements Exchange.
func (l *login) Identity() Identity { return l.identity }

// Next implements Exchange. An initial response is the name.
func (l *login) Next(ctx context.Context, response []byte) ([]byte, bool, error) {
	if l.step == loginStart && response == nil {
		l.step = loginWantName
		return []byte(loginUsername), false, nil
	}
	step := l.step
	l.step = loginOver
	// Some clients end their strings with NUL, as C does.
	response = bytes.TrimSuffix(response, []byte{0})
	if step == loginOver {
		return nil, false, errOver
	}
	if len(response) == 0 || len(response) > maxFieldOctets || bytes.IndexByte(response, 0) >= 0 {
		return nil, false, fmt.Errorf("read LOGIN response: %w: it must have 1 to %d octets, none NUL", ErrMalformed, maxFieldOctets)
	}
	if step != loginWantPassword {
		if !utf8.Valid(response) {
			return nil, false, fmt.Errorf("read LOGIN response: %w: name is not UTF-8", ErrMalformed)
		}
		l.authcid, l.step = string(response), loginWantPassword
		return []byte(loginPassword), false, nil
	}
	id, err := l.verifier.VerifyPlain(ctx, l.peer, "", l.authcid, string(response))
	if err != nil {
		return nil, false, err
	}
	l.identity = id
	return nil, true, nil
}

// external is EXTERNAL: the client's certificate speaks, the response is the
// authzid. RFC 4422 appendix A
type external struct {
	verifier Verifier
	peer     Peer
	cert     *x509.Certificate
	asked    bool
	over     bool
	identity Identity
}

// Identity implements Exchange.
func (e *external) Identity() Identity { return e.identity }

// Next implements Exchange.
func (e *external) Next(ctx context.Context, response []byte) ([]byte, bool, error) {
	if e.over {
		return nil, false, errOver
	}
	if response == nil && !e.asked {
		e.asked = true
		return []byte{}, false, nil
	}
	e.over = true
	if len(response) > maxFieldOctets || !utf8.Valid(response) || bytes.IndexByte(response, 0) >= 0 {
		return nil, false, fmt.Errorf("read EXTERNAL authzid: %w", ErrMalformed)
	}
	id, err := e.verifier.VerifyExternal(ctx, e.peer, string(response), e.cert)
	if err != nil {
		return nil, false, err
	}
	e.identity = id
	return nil, true, nil
}
