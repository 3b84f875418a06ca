package dkim

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"sync"
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
	// MinRSABits is the shortest RSA key whose signatures count here; a signature by a
	// shorter one that holds is Policy. At least 1024, the default, below which
	// signatures are PermError in any case.
	MinRSABits int
	// RefusePartial makes signatures Policy whose l= leaves out a part of the body that came:
	// anybody may have added it, and it may be all that a person sees (RFC 6376 §8.2).
	RefusePartial bool
	// Skew is how far in the future t= may lie (RFC 6376 §3.5); 0 is a day, since clocks
	// in the wrong zone are common.
	Skew time.Duration
}

// Verifier checks messages. Safe for concurrent use.
type Verifier struct {
	c    VerifierConfig
	keys keyCache
}

// NewVerifier checks the configuration and fills in defaults.
func NewVerifier(c VerifierConfig) (*Verifier, error) {
	if c.MinRSABits == 0 {
		c.MinRSABits = MinRSABits
	}
	if c.MaxSignatures == 0 {
		c.MaxSignatures = 10
	}
	if c.Skew == 0 {
		c.Skew = 24 * time.Hour
	}
	switch {
	case c.Records == nil:
		return nil, errors.New("dkim: Records is required")
	case c.MaxSignatures < 0:
		return nil, errors.New("dkim: MaxSignatures is negative")
	case c.MinRSABits < MinRSABits || c.MinRSABits > MaxRSABits:
		return nil, fmt.Errorf("dkim: MinRSABits is %d: take one of %d to %d", c.MinRSABits, MinRSABits, MaxRSABits)
	case c.Skew < 0:
		return nil, errors.New("dkim: Skew is negative")
	}
	return &Verifier{c: c}, nil
}

// Fetch looks up the key record at a name, as KeyName makes it. Keys are parsed once while their
// record stays the same; nobody may change them. Errors are those of the package's Fetch.
func (v *Verifier) Fetch(ctx context.Context, name string) (*Key, error) {
	return fetch(ctx, v.c.Records, name, v.keys.parse)
}

// Verification is one message being checked. It is an io.Writer for the body, the
// octets behind the empty line. Used by one goroutine.
type Verification struct {
	v       *Verifier
	m       *Message
	items   []*item
	ignored int
	found   map[string]fetched
}

// item is one signature on its way to a Result.
type item struct {
	sig    *Signature
	prefix string
	err    error
	digest []byte    // of the header section
	hash   *BodyHash // nil when the signature can't be read
}

// Begin reads the signatures of a header section, which comes without the empty
// line.
func (v *Verifier) Begin(header []byte) *Verification { return v.BeginMessage(NewMessage(header)) }

// BeginMessage is Begin for a message that is read for others too. The body may be written
// to either.
func (v *Verifier) BeginMessage(m *Message) *Verification {
	c := &Verification{v: v, m: m}
	for i, f := range m.fields {
		if !f.Is("DKIM-Signature") {
			continue
		}
		if len(c.items) == v.c.MaxSignatures {
			c.ignored++
			continue
		}
		c.items = append(c.items, c.item(f, i))
	}
	return c
}

// item reads one field and asks for the hashes that it needs.
func (c *Verification) item(f message.Field, i int) *item {
	it := &item{}
	it.sig, it.err = ParseSignature(string(f.Body()))
	it.prefix = it.sig.Prefix()
	if c.m.large && it.err == nil {
		it.err = ErrHeader
	}
	if it.err == nil {
		it.hash = c.m.Body(it.sig.Body, it.sig.Length)
		it.digest = c.m.Digest(it.sig, i)
	}
	return it
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

// Signatures is how many signatures will be checked, and how many more there are.
func (c *Verification) Signatures() (checked, ignored int) { return len(c.items), c.ignored }

// Write takes the next octets of the body; it never fails.
func (c *Verification) Write(p []byte) (int, error) { return c.m.Write(p) }

// LookUp fetches the keys, several at once, so that Results need not wait for DNS. It may
// run in another goroutine while the body is written, and must have ended before Results. It is
// called once or not at all.
func (c *Verification) LookUp(ctx context.Context) {
	c.found = make(map[string]fetched, len(c.items))
	var names []string
	for _, it := range c.items {
		if it.err != nil || slices.Contains(names, it.sig.Name()) {
			continue
		}
		names = append(names, it.sig.Name())
	}
	got := make([]fetched, len(names))
	var wg sync.WaitGroup
	for i, name := range names[min(1, len(names)):] {
		wg.Go(func() { got[i+1].key, got[i+1].err = c.v.Fetch(ctx, name) })
	}
	if len(names) > 0 { // the first, mostly the only one, here
		got[0].key, got[0].err = c.v.Fetch(ctx, names[0])
	}
	wg.Wait()
	for i, name := range names {
		c.found[name] = got[i]
	}
}

// Results ends the body, looks up the keys unless LookUp did, and judges every signature, in the
// order of the fields. It is called once. A look-up lasts as long as ctx and
// Records let it.
func (c *Verification) Results(ctx context.Context, now time.Time) []Result {
	c.m.Close()
	if c.found == nil {
		c.found = map[string]fetched{}
	}
	results := make([]Result, 0, len(c.items))
	for _, it := range c.items {
		results = append(results, c.judge(ctx, it, now))
	}
	return results
}

// fetched is a key record, or why there is none.
type fetched struct {
	key *Key
	err error
}

func (c *Verification) judge(ctx context.Context, it *item, now time.Time) Result {
	r := Result{Err: it.err, Signature: it.sig, Prefix: it.prefix}
	if it.hash != nil {
		r.Unsigned = it.hash.Unsigned()
	}
	if r.Err == nil {
		r.Err = c.v.Timely(it.sig, now)
	}
	if r.Err == nil {
		r.Err = c.check(ctx, it, &r)
	}
	r.Status = statusOf(r.Err)
	return r
}

// Timely holds t= and x= of a signature against the time. The error wraps ErrExpired or ErrFuture.
func (v *Verifier) Timely(s *Signature, now time.Time) error {
	if !s.Expires.IsZero() && !now.Before(s.Expires) {
		return fmt.Errorf("%w on %s", ErrExpired, s.Expires.Format(time.RFC3339))
	}
	if s.Time.After(now.Add(v.c.Skew)) {
		return fmt.Errorf("%w: t=%s", ErrFuture, s.Time.Format(time.RFC3339))
	}
	return nil
}

// check finds the key, then compares the hashes, then asks what policy says.
func (c *Verification) check(ctx context.Context, it *item, r *Result) error {
	name := it.sig.Name()
	f, known := c.found[name]
	if !known {
		f.key, f.err = c.v.Fetch(ctx, name)
		c.found[name] = f
	}
	if f.err != nil {
		return f.err
	}
	r.Bits, r.Testing = f.key.Bits(), f.key.Testing
	if err := f.key.Allows(it.sig); err != nil {
		return err
	}
	if it.hash.Short() {
		return fmt.Errorf("%w: %d of %d octets", ErrBodyLength, it.sig.Length, it.hash.Octets())
	}
	if !bytes.Equal(it.hash.Sum(), it.sig.BodyHash) {
		return ErrBodyHash
	}
	if !f.key.Verify(it.digest, it.sig.Value) {
		return ErrSignature
	}
	if f.key.Type == "rsa" && r.Bits < c.v.c.MinRSABits {
		return fmt.Errorf("%w: %d bits instead of %d", ErrWeak, r.Bits, c.v.c.MinRSABits)
	}
	if c.v.c.RefusePartial && r.Unsigned > 0 {
		return fmt.Errorf("%w: %d octets", ErrPartial, r.Unsigned)
	}
	return nil
}

// Verify checks a signature of a SHA-256 digest. Ed25519 signs the digest as its
// message (RFC 8463 §3).
func (k *Key) Verify(digest, sig []byte) bool {
	switch key := k.Public.(type) {
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
	return fetch(ctx, records, KeyName(selector, domain), ParseKey)
}

// fetch takes the one TXT record that is a key record; others may lie beside it,
// as some providers put them everywhere.
func fetch(ctx context.Context, records Records, name string, parse func(string) (*Key, error)) (*Key, error) {
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
		k, err := parse(text)
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
