package dkim

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/message"
)

// Records finds key records. TXT returns the TXT records of a name, the strings
// of each joined. The error wraps ErrNoKey when the name has none; every other
// error is temporary. Safe for concurrent use.
type Records interface {
	TXT(ctx context.Context, name string) ([]string, error)
}

// Result is what became of one signature.
type Result struct {
	Status    Status
	Err       error      // why it is not Pass; nil with Pass
	Signature *Signature // as far as it could be read
	Prefix    string     // the first octets of b= without blanks, for header.b (RFC 6008)
	Bits      int        // of the key; 0 when none was found
	Testing   bool       // t=y of the key record
	Unsigned  int64      // octets of the canonical body that l= leaves out; anybody may have added them
}

// VerifierConfig is what a Verifier needs. Records is required.
type VerifierConfig struct {
	Records Records
	// MaxSignatures is how many signatures of a message are checked, from the top:
	// each costs a look-up and up to a millisecond. Default 10.
	MaxSignatures int
}

// Verifier checks messages. Safe for concurrent use.
type Verifier struct{ c VerifierConfig }

// NewVerifier checks the configuration and fills in defaults.
func NewVerifier(c VerifierConfig) (*Verifier, error) {
	if c.Records == nil {
		return nil, errors.New("dkim: Records is required")
	}
	if c.MaxSignatures < 0 {
		return nil, errors.New("dkim: MaxSignatures is negative")
	}
	if c.MaxSignatures == 0 {
		c.MaxSignatures = 10
	}
	return &Verifier{c}, nil
}

// Verification is one message being checked. It is an io.Writer for the body, the
// octets behind the empty line. Used by one goroutine.
type Verification struct {
	v       *Verifier
	items   []*item
	ignored int
	bodies  map[Canonicalization]*measure
}

// item is one signature on its way to a Result.
type item struct {
	sig    *Signature
	prefix string
	err    error
	digest []byte // of the header section
	body   *measure
	hash   *limited // of the body
}

// Begin reads the signatures of a header section, which comes without the empty
// line and is not needed afterwards.
func (v *Verifier) Begin(header []byte) *Verification {
	c := &Verification{v: v, bodies: map[Canonicalization]*measure{}}
	var fields []message.Field
	large := len(header) > message.MaxHeaderOctets
	for f := range message.Fields(header) {
		if f.Malformed() {
			continue
		}
		if large = large || len(fields) == maxFields; !large {
			fields = append(fields, f)
		}
		if f.Is("DKIM-Signature") {
			if len(c.items) == v.c.MaxSignatures {
				c.ignored++
				continue
			}
			c.items = append(c.items, c.item(f))
		}
	}
	for _, it := range c.items {
		if large && it.err == nil {
			it.err = ErrHeader
		}
	}
	c.digest(fields)
	return c
}

// item reads one field and asks for the body hash that it needs.
func (c *Verification) item(f message.Field) *item {
	it := &item{}
	it.sig, it.err = ParseSignature(string(f.Body()))
	if b := base64.StdEncoding.EncodeToString(it.sig.Value); b != "" {
		it.prefix = b[:min(8, len(b))]
	}
	if it.err != nil {
		return it
	}
	m := c.bodies[it.sig.Body]
	if m == nil {
		m = &measure{}
		m.canon = NewBody(it.sig.Body, m)
		c.bodies[it.sig.Body] = m
	}
	it.body, it.hash = m, m.upTo(it.sig.Length)
	return it
}

// digest hashes the header section for each readable signature.
func (c *Verification) digest(fields []message.Field) {
	n := -1
	for i, f := range fields {
		if !f.Is("DKIM-Signature") {
			continue
		}
		if n++; n == len(c.items) {
			return
		}
		if it := c.items[n]; it.err == nil {
			h := sha256.New()
			hashFields(h, it.sig.Header, fields, it.sig.Fields, i)
			h.Write(ownField(it.sig.Header, f))
			it.digest = h.Sum(nil)
		}
	}
}

// ownField is what a signature hashes of its own field: without its value and
// without a final line end (RFC 6376 §3.7).
func ownField(c Canonicalization, f message.Field) []byte {
	var out []byte
	for self := range message.Fields(withoutValue(f.Raw)) {
		out = c.AppendField(out, self)
	}
	return bytes.TrimSuffix(out, crlf)
}

// hashFields writes the fields that names choose: of several with one name, the
// last comes first (RFC 6376 §5.4.2); a name without a field left adds nothing.
// The field with index skip, the signature itself, is never chosen.
func hashFields(w io.Writer, c Canonicalization, fields []message.Field, names []string, skip int) {
	places := make(map[string][]int, len(names))
	for _, n := range names {
		places[n] = nil
	}
	for i, f := range fields {
		if i == skip {
			continue
		}
		name := strings.ToLower(f.Name())
		if at, wanted := places[name]; wanted {
			places[name] = append(at, i)
		}
	}
	var buf []byte
	for _, n := range names {
		at := places[n]
		if len(at) == 0 {
			continue
		}
		last := at[len(at)-1]
		places[n] = at[:len(at)-1]
		buf = c.AppendField(buf[:0], fields[last])
		_, _ = w.Write(buf) // hashes don't fail
	}
}

// Signatures is how many signatures will be checked, and how many more there are.
func (c *Verification) Signatures() (checked, ignored int) { return len(c.items), c.ignored }

// Write takes the next octets of the body; it never fails.
func (c *Verification) Write(p []byte) (int, error) {
	for _, m := range c.bodies {
		_, _ = m.canon.Write(p)
	}
	return len(p), nil
}

// Results ends the body, looks up the keys and judges every signature, in the
// order of the fields. It is called once. A look-up lasts as long as ctx and
// Records let it.
func (c *Verification) Results(ctx context.Context, now time.Time) []Result {
	for _, m := range c.bodies {
		_ = m.canon.Close()
	}
	found := map[string]fetched{}
	results := make([]Result, 0, len(c.items))
	for _, it := range c.items {
		results = append(results, it.judge(ctx, now, c.v.c.Records, found))
	}
	return results
}

// fetched is a key record, or why there is none.
type fetched struct {
	key *Key
	err error
}

func (it *item) judge(ctx context.Context, now time.Time, records Records, found map[string]fetched) Result {
	r := Result{Err: it.err, Signature: it.sig, Prefix: it.prefix}
	if it.hash != nil {
		r.Unsigned = it.hash.unsigned(it.body.octets)
	}
	if r.Err == nil && !it.sig.Expires.IsZero() && !now.Before(it.sig.Expires) {
		r.Err = fmt.Errorf("%w on %s", ErrExpired, it.sig.Expires.Format(time.RFC3339))
	}
	if r.Err == nil {
		r.Err = it.check(ctx, records, found, &r)
	}
	r.Status = statusOf(r.Err)
	return r
}

// check finds the key, then compares the hashes.
func (it *item) check(ctx context.Context, records Records, found map[string]fetched, r *Result) error {
	name := it.sig.Name()
	f, known := found[name]
	if !known {
		f.key, f.err = fetch(ctx, records, name)
		found[name] = f
	}
	if f.err != nil {
		return f.err
	}
	r.Bits, r.Testing = f.key.Bits(), f.key.Testing
	if err := f.key.allows(it.sig); err != nil {
		return err
	}
	if it.sig.Length > it.body.octets {
		return fmt.Errorf("%w: %d of %d octets", ErrBodyLength, it.sig.Length, it.body.octets)
	}
	if !bytes.Equal(it.hash.h.Sum(nil), it.sig.BodyHash) {
		return ErrBodyHash
	}
	if !verify(f.key.Public, it.digest, it.sig.Value) {
		return ErrSignature
	}
	return nil
}

// verify checks a signature of a SHA-256 digest. Ed25519 signs the digest as its
// message (RFC 8463 §3).
func verify(pub crypto.PublicKey, digest, sig []byte) bool {
	switch key := pub.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, digest, sig) == nil
	case ed25519.PublicKey:
		return ed25519.Verify(key, digest, sig)
	}
	return false
}

// Fetch looks up the key record of a selector. Errors wrap ErrNoKey, ErrKeyFetch,
// ErrKeySyntax, ErrKeyType or ErrManyKeys.
func Fetch(ctx context.Context, records Records, selector string, domain address.Domain) (*Key, error) {
	return fetch(ctx, records, KeyName(selector, domain))
}

// fetch takes the one TXT record that is a key record; others may lie beside it,
// as some providers put them everywhere.
func fetch(ctx context.Context, records Records, name string) (*Key, error) {
	texts, err := records.TXT(ctx, name)
	if errors.Is(err, ErrNoKey) || err == nil && len(texts) == 0 {
		return nil, fmt.Errorf("%w: %s", ErrNoKey, name)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrKeyFetch, name, err)
	}
	var key *Key
	var wrong error
	for _, text := range texts {
		k, err := ParseKey(text)
		switch {
		case err != nil:
			wrong = fmt.Errorf("%s: %w", name, err)
		case key != nil && !key.Same(k):
			return nil, fmt.Errorf("%w: %s", ErrManyKeys, name)
		default:
			key = k
		}
	}
	if key == nil {
		return nil, wrong
	}
	return key, nil
}
