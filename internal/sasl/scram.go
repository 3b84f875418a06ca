package sasl

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"io"
	"strconv"
)

// nonceOctets is the randomness of our half of the nonce.
const nonceOctets = 18

// scram is SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, server side. RFC 5802, RFC 7677
type scram struct {
	verifier Verifier
	peer     Peer
	binding  Binding
	plus     bool                   // the client chose the -PLUS mechanism
	offered  bool                   // -PLUS was offered to it
	nonceOf  func() (string, error) // makes our half of the nonce

	step     scramStep
	first    clientFirst
	keys     Keys
	nonce    string // the client's and ours
	server   string // server-first-message
	identity Identity
	pending  Identity // becomes identity when the client has seen our signature
}

type scramStep uint8

const (
	scramStart scramStep = iota
	scramWantFirst
	scramWantFinal
	scramWantAck
	scramOver
)

func newScram(o Options, plus, offered bool) *scram {
	source := o.Rand
	if source == nil {
		source = rand.Reader
	}
	return &scram{verifier: o.Verifier, peer: o.Peer, binding: o.Binding, plus: plus, offered: offered,
		nonceOf: func() (string, error) { return newNonce(source) }}
}

func newNonce(source io.Reader) (string, error) {
	b := make([]byte, nonceOctets)
	if _, err := io.ReadFull(source, b); err != nil {
		return "", fmt.Errorf("read randomness for a nonce: %w: %w", ErrUnavailable, err)
	}
	return base64.StdEncoding.EncodeToString(b), nil
}

// Identity implements Exchange.
func (s *scram) Identity() Identity { return s.identity }

// Next implements Exchange.
func (s *scram) Next(ctx context.Context, response []byte) (challenge []byte, done bool, err error) {
	step := s.step
	s.step = scramOver // every path that goes on says so
	switch {
	case step == scramStart && response == nil:
		s.step = scramWantFirst
		return []byte{}, false, nil
	case step == scramStart, step == scramWantFirst:
		challenge, err = s.takeFirst(ctx, response)
	case step == scramWantFinal:
		challenge, err = s.takeFinal(ctx, response)
	case step == scramWantAck && len(response) == 0:
		s.identity = s.pending
		return nil, true, nil
	case step == scramWantAck:
		err = fmt.Errorf("end SCRAM exchange: %w: octets after the last message", ErrMalformed)
	default:
		err = errOver
	}
	return challenge, false, err
}

// takeFirst reads client-first-message and writes server-first-message.
func (s *scram) takeFirst(ctx context.Context, msg []byte) ([]byte, error) {
	first, err := parseClientFirst(msg)
	if err != nil {
		return nil, fmt.Errorf("read client-first-message: %w", err)
	}
	if err := s.checkFlag(first); err != nil {
		return nil, fmt.Errorf("check channel binding: %w", err)
	}
	ours, err := s.nonceOf()
	if err != nil {
		return nil, err
	}
	keys, err := s.verifier.ScramKeys(ctx, s.peer, first.authcid)
	if err != nil {
		return nil, err
	}
	s.first, s.keys = first, keys
	s.nonce = first.nonce + ours
	s.server = "r=" + s.nonce + ",s=" + base64.StdEncoding.EncodeToString(keys.Salt) + ",i=" + strconv.Itoa(keys.Iterations)
	s.step = scramWantFinal
	return []byte(s.server), nil
}

// checkFlag judges the gs2-cbind-flag. RFC 5802 §6
func (s *scram) checkFlag(first clientFirst) error {
	switch {
	case s.plus && first.flag != 'p':
		return fmt.Errorf("%w: the -PLUS mechanism needs channel binding", ErrMalformed)
	case !s.plus && first.flag == 'p':
		return fmt.Errorf("%w: channel binding needs the -PLUS mechanism", ErrMalformed)
	case first.flag == 'y' && s.offered: // somebody took -PLUS out of our list
		return fmt.Errorf("%w: the client was not shown the -PLUS mechanism", ErrCredentials)
	case first.flag == 'p' && len(s.binding.data(first.binding)) == 0:
		return fmt.Errorf("%w: channel binding type %q is not supported", ErrMalformed, first.binding)
	}
	return nil
}

// takeFinal reads client-final-message, checks the proof and writes
// server-final-message.
func (s *scram) takeFinal(ctx context.Context, msg []byte) ([]byte, error) {
	final, err := parseClientFinal(msg)
	if err != nil {
		// The attempt is counted: guesses must not be free because they end badly.
		_, _ = s.verifier.ScramResult(ctx, s.peer, s.first.authzid, s.first.authcid, false)
		return nil, fmt.Errorf("read client-final-message: %w", err)
	}
	auth := s.first.bare + "," + s.server + "," + final.withoutProof
	signature, ok := s.keys.verify(auth, final.proof)
	ok = ok && bytes.Equal(final.binding, s.expectedBinding()) && final.nonce == s.nonce
	id, err := s.verifier.ScramResult(ctx, s.peer, s.first.authzid, s.first.authcid, ok)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("check SCRAM proof: %w", ErrCredentials)
	}
	s.pending = id
	s.step = scramWantAck
	return []byte("v=" + base64.StdEncoding.EncodeToString(signature)), nil
}

// expectedBinding is what the c= attribute must hold: the GS2 header, and after
// it the channel binding data. RFC 5802 §7
func (s *scram) expectedBinding() []byte {
	b := []byte(s.first.header)
	if s.first.flag == 'p' {
		b = append(b, s.binding.data(s.first.binding)...)
	}
	return b
}

// verify checks a ClientProof against the credentials and returns the
// ServerSignature of the one it fits. All are tried, whichever fits. RFC 5802 §3
func (k Keys) verify(auth string, proof []byte) (signature []byte, ok bool) {
	if len(proof) != sha256.Size {
		return nil, false
	}
	found := KeyPair{}
	for _, pair := range append([]KeyPair{{k.StoredKey, k.ServerKey}}, k.Others...) {
		clientKey := sum(pair.StoredKey, auth)
		subtle.XORBytes(clientKey, clientKey, proof)
		stored := sha256.Sum256(clientKey)
		if subtle.ConstantTimeCompare(stored[:], pair.StoredKey) == 1 {
			found = pair
		}
	}
	if found.StoredKey == nil {
		return nil, false
	}
	return sum(found.ServerKey, auth), true
}

func sum(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	io.WriteString(m, text)
	return m.Sum(nil)
}
