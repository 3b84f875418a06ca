package account

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/xdg-go/stringprep"

	"poczta.example/poczta/internal/sasl"
)

// saltOctets is the length of salts we make.
const saltOctets = 16

// scramKeys is a credential as stored. RFC 5802 §3; without a password stored
// and server are empty.
type scramKeys struct {
	salt       []byte
	iterations int
	stored     []byte
	server     []byte
}

// prepare is the form of a password that is hashed: SASLprep (RFC 4013), or as it
// stands where SASLprep refuses it, as clients do with emoji.
func prepare(password string) string {
	if isGraphicASCII(password) {
		return password
	}
	prepared, err := stringprep.SASLprep.Prepare(password)
	if err != nil || prepared == "" {
		return password
	}
	return prepared
}

// derive is derive, told to the hook.
func (a *Accounts) derive(password string, salt []byte, iterations int) (scramKeys, error) {
	if hook := a.config.Hooks.Derived; hook != nil {
		hook(iterations)
	}
	return derive(password, salt, iterations)
}

// derive computes the keys of a prepared password. It takes some 30 ms for each
// 100,000 iterations: it belongs into the pool.
func derive(password string, salt []byte, iterations int) (scramKeys, error) {
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		return scramKeys{}, fmt.Errorf("derive keys: %w", err)
	}
	stored := sha256.Sum256(keyed(salted, "Client Key"))
	return scramKeys{salt: salt, iterations: iterations, stored: stored[:], server: keyed(salted, "Server Key")}, nil
}

func keyed(key []byte, parts ...string) []byte {
	m := hmac.New(sha256.New, key)
	for _, p := range parts {
		io.WriteString(m, p)
	}
	return m.Sum(nil)
}

// equal compares stored keys in constant time; an empty key equals nothing.
func equal(stored, derived []byte) bool {
	return len(stored) == sha256.Size && subtle.ConstantTimeCompare(stored, derived) == 1
}

// newKeys makes keys of a password under a fresh salt; "" makes only the salt.
func (a *Accounts) newKeys(ctx context.Context, password string, iterations int) (scramKeys, error) {
	salt := make([]byte, saltOctets)
	if _, err := io.ReadFull(a.config.Rand, salt); err != nil {
		return scramKeys{}, fmt.Errorf("read randomness for a salt: %w", err)
	}
	if password == "" {
		return scramKeys{salt: salt, iterations: iterations, stored: []byte{}, server: []byte{}}, nil
	}
	return a.deriveIn(ctx, prepare(password), salt, iterations)
}

// deriveIn derives in the pool.
func (a *Accounts) deriveIn(ctx context.Context, password string, salt []byte, iterations int) (keys scramKeys, err error) {
	poolErr := a.pool.run(ctx, func() { keys, err = a.derive(password, salt, iterations) })
	if poolErr != nil {
		return scramKeys{}, poolErr
	}
	return keys, err
}

// checkPassword refuses passwords that nobody should set.
func checkPassword(password string) error {
	switch {
	case !utf8.ValidString(password):
		return fmt.Errorf("password %w: it must be UTF-8", ErrInvalid)
	case len(password) > MaxPasswordOctets:
		return fmt.Errorf("password %w: it is longer than %d octets", ErrInvalid, MaxPasswordOctets)
	case utf8.RuneCountInString(password) < MinPasswordRunes:
		return fmt.Errorf("password %w: it must have at least %d characters", ErrInvalid, MinPasswordRunes)
	}
	for _, r := range password {
		if r < ' ' || r == 0x7f {
			return fmt.Errorf("password %w: it must not hold control characters", ErrInvalid)
		}
	}
	return nil
}

// hashPool bounds the hashing that goes on at once, and what waits for it.
type hashPool struct {
	slots   chan struct{}
	waiting atomic.Int64
	queue   int64
	hook    func(waited, took time.Duration)
}

func newHashPool(workers, queue int, hook func(waited, took time.Duration)) *hashPool {
	return &hashPool{slots: make(chan struct{}, workers), queue: int64(queue), hook: hook}
}

// run calls fn in the caller's goroutine when a slot is free. The error is
// sasl.ErrUnavailable when the queue is full or ctx ended first.
func (p *hashPool) run(ctx context.Context, fn func()) error {
	began := time.Now()
	if err := p.acquire(ctx); err != nil {
		return err
	}
	defer func() { <-p.slots }()
	started := time.Now()
	fn()
	if p.hook != nil {
		p.hook(started.Sub(began), time.Since(started))
	}
	return nil
}

func (p *hashPool) acquire(ctx context.Context) error {
	select {
	case p.slots <- struct{}{}:
		return nil
	default:
	}
	defer p.waiting.Add(-1)
	if p.waiting.Add(1) > p.queue {
		return fmt.Errorf("hash password: %w: %d others wait already", sasl.ErrUnavailable, p.queue)
	}
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("hash password: %w: %w", sasl.ErrUnavailable, context.Cause(ctx))
	}
}
