// Package srs writes the reverse-paths of forwarded mail by the Sender Rewriting
// Scheme: a domain of ours that stands for the sender's, so that SPF holds where the
// mail is forwarded to, with a hash, so that nobody else can make one.
//
//	SRS0=HASH=DAY=domain=local-part@our.domain
//	SRS1=HASH=DAY=host==HASH=DAY=domain=local-part@our.domain
//
// SRS0 stands for a sender, SRS1 for the SRS0 of another forwarder, whose host it
// names, so that addresses do not grow with each forward. HASH is a keyed hash of
// all behind it and of our domain. DAY is the day in base32 and, of our own, two
// things more: whether the sender was verified and whose forward it was. Others
// take all of that for opaque, and so do we with theirs.
//
// There is no RFC of it; the form is that of Meng Weng Wong's SRS and of libsrs2.
package srs

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
)

const (
	// Validity is how long an address takes mail: longer than any queue holds it.
	Validity = 21 * 24 * time.Hour
	// MinSecretOctets is the least a secret may have.
	MinSecretOctets = 16

	hashChars  = 8 // 40 bits
	dayChars   = 2
	dayCycle   = 1 << (5 * dayChars) // days until the day's number comes again
	validDays  = int64(Validity / (24 * time.Hour))
	skewDays   = 1 // by which another node's clock may be ahead
	separators = "=+-"
)

// Errors that callers branch on; test with errors.Is.
var (
	ErrNotSRS  = errors.New("not an SRS address")
	ErrForged  = errors.New("the SRS address was not made here") // or a secret is gone
	ErrExpired = errors.New("the SRS address is too old")
	// ErrTooLong: with the local-part of the sender, and ours around it, no address can be made.
	ErrTooLong = errors.New("the sender is too long for SRS")
)

// Sender is what an SRS address stands for.
type Sender struct {
	Address  address.Address // where mail to it goes
	Owner    int64           // of the forward: an account's number, 0 for none; not negative
	Verified bool            // the reverse-path was known to be the sender's own
}

// Rewriter makes and reads SRS addresses. Safe for concurrent use.
type Rewriter struct{ secrets [][]byte }

// New returns a Rewriter. The first secret makes addresses, all of them read them.
func New(secrets ...[]byte) (*Rewriter, error) {
	if len(secrets) == 0 {
		return nil, errors.New("srs: a secret is required")
	}
	for _, s := range secrets {
		if len(s) < MinSecretOctets {
			return nil, fmt.Errorf("srs: a secret has %d octets, at least %d are needed", len(s), MinSecretOctets)
		}
	}
	return &Rewriter{secrets: secrets}, nil
}

// Is reports whether an address has the form of SRS, whoever made it.
func Is(a address.Address) bool {
	kind, _ := cut(a.Local())
	return kind >= 0
}

// cut reads SRS0 or SRS1 with its separator, in any case. rest begins with the separator.
func cut(local string) (kind int, rest string) {
	if len(local) < 5 || !strings.EqualFold(local[:3], "SRS") || strings.IndexByte(separators, local[4]) < 0 {
		return -1, ""
	}
	switch local[3] {
	case '0':
		return 0, local[4:]
	case '1':
		return 1, local[4:]
	}
	return -1, ""
}

// Forward returns the address, in our domain, that stands for s from now on. A sender
// that is an SRS address itself becomes SRS1. The error is ErrTooLong: an address of more
// octets than RFC 5321 §4.5.3.1.1 promises is made all the same, as others do, since a
// sender's own are often longer.
func (w *Rewriter) Forward(s Sender, domain address.Domain, now time.Time) (address.Address, error) {
	local := ""
	day := stamp(s, now)
	switch kind, rest := cut(s.Address.Local()); kind {
	case 0:
		local = w.join(1, day, s.Address.Domain(), rest, domain)
	case 1:
		host, opaque, ok := cutFirst(rest)
		if !ok { // only looks like one
			local = w.join(0, day, s.Address.Domain(), s.Address.Local(), domain)
			break
		}
		local = w.join(1, day, host, opaque, domain)
	default:
		local = w.join(0, day, s.Address.Domain(), s.Address.Local(), domain)
	}
	a, err := address.New(local, domain)
	if err != nil || len(local) > address.MaxLongLocalPartOctets {
		return address.Address{}, fmt.Errorf("%w: %s", ErrTooLong, s.Address)
	}
	return a, nil
}

// cutFirst reads another's SRS1 behind its tag: "=HASH=host" and the opaque rest,
// which begins with a separator.
func cutFirst(rest string) (host address.Domain, opaque string, ok bool) {
	_, rest, ok = strings.Cut(rest[1:], "=")
	if !ok {
		return host, "", false
	}
	// Ours has the day behind the hash; whether this is ours does not matter, the host is
	// the first part that is a domain of several labels or a literal.
	for range 2 {
		name, opaque, ok := strings.Cut(rest, "=")
		if !ok {
			return host, "", false
		}
		if d, err := address.ParseDomain(name); err == nil && strings.ContainsAny(name, ".:") && opaque != "" && strings.IndexByte(separators, opaque[0]) >= 0 {
			return d, opaque, true
		}
		rest = opaque
	}
	return host, "", false
}

// join writes a local-part. With SRS1, last is what follows "SRS0" in the first one.
func (w *Rewriter) join(kind int, day string, domain address.Domain, last string, ours address.Domain) string {
	tail := day + "=" + domain.String() + "=" + last
	return "SRS" + strconv.Itoa(kind) + "=" + hash(w.secrets[0], kind, tail, ours) + "=" + tail
}

// Reverse returns what an address of ours stands for. The error is ErrNotSRS, ErrForged
// or ErrExpired. Case is of no importance, since hosts on the way may fold it; the
// sender's local-part is then as they left it.
func (w *Rewriter) Reverse(a address.Address, now time.Time) (Sender, error) {
	kind, rest := cut(a.Local())
	if kind < 0 {
		return Sender{}, ErrNotSRS
	}
	given, tail, ok := strings.Cut(rest[1:], "=")
	if !ok || !w.made(given, kind, tail, a.Domain()) {
		return Sender{}, ErrForged
	}
	day, tail, ok1 := strings.Cut(tail, "=")
	host, last, ok2 := strings.Cut(tail, "=")
	domain, err := address.ParseDomain(host)
	if !ok1 || !ok2 || err != nil {
		return Sender{}, ErrForged
	}
	s, made, err := unstamp(day)
	if err != nil {
		return Sender{}, err
	}
	if age := (days(now) - made + skewDays + dayCycle) % dayCycle; age > validDays+skewDays {
		return Sender{}, ErrExpired
	}
	if kind == 1 {
		last = "SRS0" + last
	}
	if s.Address, err = address.New(last, domain); err != nil {
		return Sender{}, ErrForged
	}
	return s, nil
}

// made reports whether a hash is of one of our secrets.
func (w *Rewriter) made(given string, kind int, tail string, ours address.Domain) bool {
	if len(given) != hashChars {
		return false
	}
	given = strings.ToUpper(given)
	found := false
	for _, secret := range w.secrets {
		if hmac.Equal([]byte(given), []byte(hash(secret, kind, tail, ours))) {
			found = true
		}
	}
	return found
}

// hash is over the lower case of all that it protects.
func hash(secret []byte, kind int, tail string, ours address.Domain) string {
	m := hmac.New(sha256.New, secret)
	m.Write([]byte("srs" + strconv.Itoa(kind) + "\x00" + ours.String() + "\x00" + strings.ToLower(tail)))
	return base32.StdEncoding.EncodeToString(m.Sum(nil))[:hashChars]
}

// Mark returns a mark of somebody's forward, for a header field by which it knows a
// message that it forwarded before: 16 characters, of which nothing can be learnt.
// Each of our secrets gives one; the first is the one to write.
func (w *Rewriter) Mark(by address.Address) []string {
	out := make([]string, len(w.secrets))
	for i, secret := range w.secrets {
		m := hmac.New(sha256.New, secret)
		m.Write([]byte("mark\x00" + by.Key()))
		out[i] = strings.ToLower(base32.StdEncoding.EncodeToString(m.Sum(nil))[:16])
	}
	return out
}

const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567" // RFC 4648 §6

func days(t time.Time) int64 { return t.Unix() / 86400 % dayCycle }

// stamp writes the day, and behind it the owner and the flag if there is any of both.
func stamp(s Sender, now time.Time) string {
	d := days(now)
	out := string([]byte{digits[d>>5], digits[d&31]})
	n := uint64(s.Owner) << 1
	if s.Verified {
		n |= 1
	}
	var more []byte
	for ; n > 0; n >>= 5 {
		more = append(more, digits[n&31])
	}
	return out + string(more)
}

// unstamp reads what stamp wrote, and what other implementations write: the day alone.
func unstamp(text string) (s Sender, day int64, err error) {
	if len(text) < dayChars || len(text) > dayChars+13 {
		return s, 0, ErrForged
	}
	var n uint64
	for i := len(text) - 1; i >= 0; i-- {
		v := strings.IndexByte(digits, text[i]&^0x20)
		if text[i] < 'A' {
			v = strings.IndexByte(digits, text[i])
		}
		if v < 0 {
			return s, 0, ErrForged
		}
		if i >= dayChars {
			n = n<<5 | uint64(v)
			continue
		}
		day |= int64(v) << (5 * (dayChars - 1 - i))
	}
	s.Owner, s.Verified = int64(n>>1), n&1 == 1
	return s, day, nil
}
