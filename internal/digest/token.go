package digest

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
)

// purpose is what a token is good for; one for the web is none for mail.
type purpose byte

const (
	forWeb  purpose = 'w' // a message, on the page
	forMail purpose = 'm' // a message, by mail
	forStop purpose = 's' // no more digests
)

// token is a capability: who has it may do what its purpose says until it expires.
type token struct {
	purpose purpose
	account envelope.AccountID
	id      message.ID // zero of forStop
	expires time.Time  // to the hour
}

// errToken is a token that is forged, mutilated, of another purpose or too old: which of them, nobody is told.
var errToken = errors.New("the link is not valid, or too old")

const (
	tokenPayload = 1 + 8 + 16 + 4
	tokenMAC     = 16
	tokenLength  = 72 // in characters, of 45 octets
	keyOctets    = 32
)

var tokenEncoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

func sum(key, payload []byte) []byte {
	h := hmac.New(sha256.New, key)
	_, _ = io.WriteString(h, "poczta digest token 1\n") // a hash takes everything
	_, _ = h.Write(payload)
	return h.Sum(nil)[:tokenMAC]
}

func (t token) text(key []byte) string {
	b := append(make([]byte, 0, tokenPayload+tokenMAC), byte(t.purpose))
	b = binary.BigEndian.AppendUint64(b, uint64(t.account))
	b = append(b, t.id[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(t.expires.Unix()/3600))
	return tokenEncoding.EncodeToString(append(b, sum(key, b)...))
}

// parseToken reads a token of one of the purposes, without regard to case.
func parseToken(s string, key []byte, now time.Time, purposes ...purpose) (token, error) {
	var t token
	if len(s) != tokenLength {
		return t, errToken
	}
	b, err := tokenEncoding.DecodeString(strings.ToLower(s))
	if err != nil || len(b) != tokenPayload+tokenMAC || !hmac.Equal(b[tokenPayload:], sum(key, b[:tokenPayload])) {
		return t, errToken
	}
	t.purpose = purpose(b[0])
	t.account = envelope.AccountID(binary.BigEndian.Uint64(b[1:]))
	copy(t.id[:], b[9:])
	t.expires = time.Unix(int64(binary.BigEndian.Uint32(b[25:]))*3600, 0)
	if !now.Before(t.expires) {
		return t, errToken
	}
	for _, p := range purposes {
		if p == t.purpose {
			return t, nil
		}
	}
	return t, errToken
}

// secret is the key of tokens, made by the first who needs it and the same on every node.
func (d *Digest) secret(ctx context.Context) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.key != nil {
		return d.key, nil
	}
	fresh := make([]byte, keyOctets)
	if _, err := io.ReadFull(d.cfg.Random, fresh); err != nil {
		return nil, err
	}
	var key []byte
	err := d.cfg.DB.Update(ctx, func(tx db.Tx) error {
		if _, err := tx.Exec(`INSERT INTO digest_key (id, key) VALUES (1, ?) ON CONFLICT (id) DO NOTHING`, fresh); err != nil {
			return err
		}
		return tx.QueryRow(`SELECT key FROM digest_key WHERE id = 1`).Scan(&key)
	})
	if err == nil && len(key) != keyOctets {
		err = fmt.Errorf("%d octets in the database, want %d", len(key), keyOctets)
	}
	if err != nil {
		return nil, fmt.Errorf("read the key of the digest's links: %w", err)
	}
	d.key = key
	return key, nil
}
