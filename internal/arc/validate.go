package arc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/authres"
	"poczta.example/poczta/internal/dkim"
	"poczta.example/poczta/internal/message"
)

// Keys finds and judges keys. *dkim.Verifier is one. Safe for concurrent use.
type Keys interface {
	// Fetch returns the key record at a name; the error wraps dkim.ErrKeyFetch when DNS did not answer.
	Fetch(ctx context.Context, name string) (*dkim.Key, error)
	// Timely holds t= and x= of a signature against the time.
	Timely(s *dkim.Signature, now time.Time) error
}

// Config is what a Validator needs. Keys is required.
type Config struct {
	Keys Keys
	// MaxInstances is how many sets of a chain are taken; 0 is MaxInstances, which is the most.
	MaxInstances int
	// MinRSABits is the shortest RSA key that counts; 0 is dkim.MinRSABits, the least.
	MinRSABits int
}

// Validator validates chains. Safe for concurrent use.
type Validator struct{ c Config }

// New checks the configuration and fills in defaults.
func New(c Config) (*Validator, error) {
	if c.MaxInstances == 0 {
		c.MaxInstances = MaxInstances
	}
	if c.MinRSABits == 0 {
		c.MinRSABits = dkim.MinRSABits
	}
	switch {
	case c.Keys == nil:
		return nil, errors.New("arc: Keys is required")
	case c.MaxInstances < 1 || c.MaxInstances > MaxInstances:
		return nil, fmt.Errorf("arc: MaxInstances is %d: take one of 1 to %d (RFC 8617 §4.2.1)", c.MaxInstances, MaxInstances)
	case c.MinRSABits < dkim.MinRSABits || c.MinRSABits > dkim.MaxRSABits:
		return nil, fmt.Errorf("arc: MinRSABits is %d: take one of %d to %d", c.MinRSABits, dkim.MinRSABits, dkim.MaxRSABits)
	}
	return &Validator{c}, nil
}

// Validation is one message being validated. It is an io.Writer for the body, the octets behind
// the empty line. Used by one goroutine.
type Validation struct {
	v      *Validator
	m      *dkim.Message
	chain  []set // instance 1 first
	result Result
	found  map[string]fetched
}

// set is one ARC Set (RFC 8617 §4.2): its fields' numbers in the header section, what they say,
// and the hashes that they sign.
type set struct {
	results, message, seal int // number of the field and one; 0 is none
	ams, as                *dkim.Signature
	cv                     string
	amsDigest, asDigest    []byte
	body                   *dkim.BodyHash
}

type fetched struct {
	key *dkim.Key
	err error
}

// Begin reads the chain of a header section, which comes without the empty line and must not
// change until Results.
func (v *Validator) Begin(header []byte) *Validation {
	return v.BeginMessage(dkim.NewMessage(header))
}

// BeginMessage is Begin for a message that is read for others too; the body may be written to
// either. It finds out whether the chain is whole, so that one that is not costs no look-up.
func (v *Validator) BeginMessage(m *dkim.Message) *Validation {
	c := &Validation{v: v, m: m}
	err := c.collect()
	if err == nil && len(c.chain) > 0 {
		err = c.read()
	}
	if err == nil && len(c.chain) > 0 {
		err = c.digest()
	}
	if err != nil {
		c.result.Status, c.result.Err = Fail, err
	}
	return c
}

// collect finds the sets (RFC 8617 §5.2, step 1) and says whether they are whole (step 3, A and B).
func (c *Validation) collect() error {
	for i, f := range c.m.Fields() {
		if f.Raw[0]|0x20 != 'a' {
			continue
		}
		var of func(*set) *int
		switch {
		case f.Is("ARC-Authentication-Results"):
			of = func(s *set) *int { return &s.results }
		case f.Is("ARC-Message-Signature"):
			of = func(s *set) *int { return &s.message }
		case f.Is("ARC-Seal"):
			of = func(s *set) *int { return &s.seal }
		default:
			continue
		}
		if c.m.Large() {
			return dkim.ErrHeader
		}
		n, err := instance(f)
		if err != nil {
			return err
		}
		if n > c.v.c.MaxInstances {
			return fmt.Errorf("%w: instance %d", ErrInstances, n)
		}
		for len(c.chain) < n {
			c.chain = append(c.chain, set{})
		}
		if at := of(&c.chain[n-1]); *at == 0 {
			*at = i + 1
		} else {
			return fmt.Errorf("%w: instance %d has two fields %s", ErrStructure, n, f.Name())
		}
	}
	c.result.Instances = len(c.chain)
	for i, s := range c.chain {
		if s.results == 0 || s.message == 0 || s.seal == 0 {
			return fmt.Errorf("%w: instance %d lacks a field", ErrStructure, i+1)
		}
	}
	return nil
}

// instance reads i= of a field: of ARC-Authentication-Results it stands first, of the others it
// is a tag (RFC 8617 §4.2.1).
func instance(f message.Field) (int, error) {
	value := f.Body()
	if len(value) > dkim.MaxFieldOctets {
		return 0, fmt.Errorf("%w: %s has more than %d octets", ErrSyntax, f.Name(), dkim.MaxFieldOctets)
	}
	var text string
	if f.Is("ARC-Authentication-Results") {
		text, _, _ = cutInstance(string(value))
	} else {
		tags, err := dkim.ParseTags(string(value))
		if err != nil {
			return 0, fmt.Errorf("%w: %s: %w", ErrSyntax, f.Name(), err)
		}
		text = tag(tags, "i")
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || strings.Trim(text, "0123456789") != "" {
		return 0, fmt.Errorf("%w: %s has i=%.20q", ErrSyntax, f.Name(), text)
	}
	return n, nil
}

// cutInstance parts an ARC-Authentication-Results value into its instance and what follows.
func cutInstance(value string) (text, rest string, ok bool) {
	first, rest, ok := strings.Cut(value, ";")
	name, text, eq := strings.Cut(first, "=")
	if !ok || !eq || strings.Trim(name, " \t\r\n") != "i" {
		return "", "", false
	}
	return strings.Trim(text, " \t\r\n"), rest, true
}

func tag(tags []dkim.Tag, name string) string {
	for _, t := range tags {
		if t.Name == name {
			return t.Value
		}
	}
	return ""
}

// read reads the sets, the seals first: one that says fail ends it (RFC 8617 §5.2, steps 2 and 3 C).
func (c *Validation) read() error {
	fields := c.m.Fields()
	for i := range c.chain {
		s := &c.chain[i]
		_, rest, _ := cutInstance(string(fields[s.results-1].Body()))
		results, _ := authres.Parse(rest)
		c.result.AuthResults = append(c.result.AuthResults, results)
		tags, err := dkim.ParseTags(string(fields[s.seal-1].Body()))
		if err != nil {
			return fmt.Errorf("%w: %w", ErrSyntax, err)
		}
		s.cv = strings.ToLower(tag(tags, "cv"))
		s.as, err = dkim.ReadSignature(dkim.ARCSeal, tags)
		c.result.Sealers = append(c.result.Sealers, s.as.Domain)
		if err != nil {
			return fmt.Errorf("%w: ARC-Seal %d: %w", ErrSyntax, i+1, err)
		}
		if tag(tags, "h") != "" || tag(tags, "bh") != "" { // RFC 8617 §4.1.3
			return fmt.Errorf("%w: ARC-Seal %d names fields or a body", ErrSyntax, i+1)
		}
	}
	if c.chain[len(c.chain)-1].cv == "fail" {
		return fmt.Errorf("%w: %s", ErrFailed, c.result.Sealers[len(c.chain)-1])
	}
	for i, s := range c.chain {
		want := "pass"
		if i == 0 {
			want = "none"
		}
		if s.cv != want {
			return fmt.Errorf("%w: ARC-Seal %d has cv=%.20q", ErrStructure, i+1, s.cv)
		}
	}
	return nil
}

// maxMessages is how many message signatures are looked at, the newest ones: older ones decide nothing
// but Result.Oldest, and each may hash a header section of its own choice.
const maxMessages = 10

// digest reads the message signatures and hashes what the fields sign of the header section.
func (c *Validation) digest() error {
	fields := c.m.Fields()
	seals := sha256.New()
	for i := range c.chain {
		s := &c.chain[i]
		newest := i == len(c.chain)-1
		ams, err := messageSignature(fields[s.message-1])
		switch {
		case err != nil && newest:
			return fmt.Errorf("%w: ARC-Message-Signature %d: %w", ErrSyntax, i+1, err)
		case err != nil, !newest && ams.Length >= 0, len(c.chain)-i > maxMessages:
			// an older one need not hold (RFC 8617 §5.2, step 5); with l= it would need a hash of its own
		default:
			s.ams = ams
			s.body = c.m.Body(ams.Body, ams.Length)
			s.amsDigest = c.m.Digest(ams, s.message-1)
		}
		if s.asDigest, err = sealDigest(seals, fields, s); err != nil {
			return err
		}
	}
	return nil
}

// messageSignature reads an ARC-Message-Signature. It must not cover seals, which come
// after it (RFC 8617 §4.1.2 bars all ARC fields; the suite of its authors has others signed, and
// they do no harm).
func messageSignature(f message.Field) (*dkim.Signature, error) {
	tags, err := dkim.ParseTags(string(f.Body()))
	if err != nil {
		return nil, err
	}
	s, err := dkim.ReadSignature(dkim.ARCMessage, tags)
	if err != nil {
		return nil, err
	}
	for _, name := range s.Fields {
		if name == "arc-seal" {
			return nil, errors.New("it covers ARC-Seal")
		}
	}
	return s, nil
}

// sealDigest adds a set to the hash of those before and returns what its seal signs (RFC 8617 §5.1.1).
func sealDigest(seals hash.Hash, fields []message.Field, s *set) ([]byte, error) {
	var buf []byte
	buf = dkim.Relaxed.AppendField(buf, fields[s.results-1])
	buf = dkim.Relaxed.AppendField(buf, fields[s.message-1])
	seals.Write(buf)
	cloner, ok := seals.(hash.Cloner)
	if !ok {
		return nil, errors.New("the hash can't be copied")
	}
	own, err := cloner.Clone()
	if err != nil {
		return nil, err
	}
	_, _ = own.Write(dkim.Relaxed.Unvalued(buf[:0], fields[s.seal-1]))
	seals.Write(dkim.Relaxed.AppendField(buf[:0], fields[s.seal-1]))
	return own.Sum(nil), nil
}

// Write takes the next octets of the body; it never fails.
func (c *Validation) Write(p []byte) (int, error) { return c.m.Write(p) }

// early is how many names LookUp asks for; chains of honest hosts seldom have more.
const early = 6

// LookUp fetches the keys of the newest sets, so that Results need not wait for DNS. It may run in
// another goroutine while the body is written, and must have ended before Results. It is called once or
// not at all.
func (c *Validation) LookUp(ctx context.Context) {
	if c.result.Err != nil || len(c.chain) == 0 {
		return
	}
	c.found = map[string]fetched{}
	for i := len(c.chain) - 1; i >= 0 && len(c.found) < early; i-- {
		if s := c.chain[i]; s.ams != nil {
			c.fetch(ctx, s.ams)
		}
		c.fetch(ctx, c.chain[i].as)
	}
}

// Results ends the body and validates the chain (RFC 8617 §5.2), looking up the keys that LookUp did
// not. It is called once. A look-up lasts as long as ctx and Keys let it.
func (c *Validation) Results(ctx context.Context, now time.Time) Result {
	c.m.Close()
	if c.result.Err != nil || len(c.chain) == 0 {
		return c.result
	}
	if c.found == nil {
		c.found = map[string]fetched{}
	}
	n := len(c.chain)
	if err := c.messageHolds(ctx, n-1, now); err != nil { // step 4
		return c.failed(fmt.Errorf("%w: instance %d: %w", ErrMessage, n, err))
	}
	for i := n - 1; i >= 0; i-- { // step 6
		s := &c.chain[i]
		if err := c.holds(ctx, s.as, s.asDigest, now); err != nil {
			return c.failed(fmt.Errorf("%w: instance %d: %w", ErrSeal, i+1, err))
		}
	}
	c.result.Status, c.result.Oldest = Pass, n
	for i := n - 2; i >= 0 && c.messageHolds(ctx, i, now) == nil; i-- { // step 5, of chains that hold alone
		c.result.Oldest = i + 1
	}
	return c.result
}

func (c *Validation) failed(err error) Result {
	c.result.Status, c.result.Err = Fail, err
	return c.result
}

// messageHolds checks the ARC-Message-Signature with an index. One that leaves out a part of
// the body does not hold: anybody may have added it.
func (c *Validation) messageHolds(ctx context.Context, i int, now time.Time) error {
	s := &c.chain[i]
	switch {
	case s.ams == nil:
		return ErrSyntax
	case s.body.Short():
		return dkim.ErrBodyLength
	case s.body.Unsigned() > 0:
		return dkim.ErrPartial
	case !bytes.Equal(s.body.Sum(), s.ams.BodyHash):
		return dkim.ErrBodyHash
	}
	return c.holds(ctx, s.ams, s.amsDigest, now)
}

// holds checks a signature of a digest.
func (c *Validation) holds(ctx context.Context, s *dkim.Signature, digest []byte, now time.Time) error {
	if err := c.v.c.Keys.Timely(s, now); err != nil {
		return err
	}
	f := c.fetch(ctx, s)
	if f.err != nil {
		return f.err
	}
	if err := f.key.Allows(s); err != nil {
		return err
	}
	if bits := f.key.Bits(); f.key.Type == "rsa" && bits < c.v.c.MinRSABits {
		return fmt.Errorf("%w: %d bits", dkim.ErrWeak, bits)
	}
	if !f.key.Verify(digest, s.Value) {
		return dkim.ErrSignature
	}
	return nil
}

// fetch looks a key up, once for a message.
func (c *Validation) fetch(ctx context.Context, s *dkim.Signature) fetched {
	name := s.Name()
	f, known := c.found[name]
	if !known {
		f.key, f.err = c.v.c.Keys.Fetch(ctx, name)
		c.found[name] = f
	}
	return f
}

// Trusted returns the oldest instance whose word counts for a receiver that trusts some sealers: the
// oldest of the unbroken run of trusted ones at the end of the chain. A trusted sealer further back
// does not count, since an untrusted one behind it may have changed everything but the seals. 0 when
// the chain does not pass or its last sealer is not trusted.
func (r Result) Trusted(trusts func(address.Domain) bool) int {
	if r.Status != Pass {
		return 0
	}
	i := len(r.Sealers)
	for i > 0 && trusts(r.Sealers[i-1]) {
		i--
	}
	if i == len(r.Sealers) {
		return 0
	}
	return i + 1
}

// Whole reports that there is a chain whose structure holds, so that keys are needed.
func (c *Validation) Whole() bool { return c.result.Err == nil && len(c.chain) > 0 }
