// Package dane holds TLSA records and checks a server's certificates against
// them, as clients of SMTP do (RFC 6698, RFC 7671, RFC 7672).
package dane

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"poczta.example/poczta/internal/resolver"
)

// Usage is what a record says of a certificate (RFC 6698 §2.1.1).
type Usage uint8

// The usages. Those of PKIX are unusable for SMTP (RFC 7672 §3.1.3).
const (
	PKIXTA Usage = 0
	PKIXEE Usage = 1
	DANETA Usage = 2
	DANEEE Usage = 3
)

// Selectors (RFC 6698 §2.1.2).
const (
	FullCertificate uint8 = 0
	PublicKey       uint8 = 1 // SubjectPublicKeyInfo
)

// Matching types (RFC 6698 §2.1.3).
const (
	Exact  uint8 = 0
	SHA256 uint8 = 1
	SHA512 uint8 = 2
)

// maxRecords bounds the records of one name that are looked at.
const maxRecords = 100

// Record is one TLSA record.
type Record struct {
	Usage    Usage
	Selector uint8
	Matching uint8
	Data     []byte
}

// String returns the record as zones and reports of RFC 8460 write it.
func (r Record) String() string {
	return fmt.Sprintf("%d %d %d %s", r.Usage, r.Selector, r.Matching, hex.EncodeToString(r.Data))
}

// Records are the TLSA records of one server.
type Records []Record

// usable reports whether an SMTP client can use the record at all.
func (r Record) usable() bool {
	if r.Usage != DANETA && r.Usage != DANEEE || r.Selector > PublicKey {
		return false
	}
	switch r.Matching {
	case SHA256:
		return len(r.Data) == sha256.Size
	case SHA512:
		return len(r.Data) == sha512.Size
	case Exact:
		return r.parses()
	}
	return false
}

// parses reports whether the data of an exact record is what it claims to be.
func (r Record) parses() bool {
	if r.Usage == DANEEE { // is compared octet by octet, never read: any form may match
		return len(r.Data) > 0
	}
	var err error
	if r.Selector == FullCertificate {
		_, err = x509.ParseCertificate(r.Data)
	} else {
		_, err = x509.ParsePKIXPublicKey(r.Data)
	}
	return err == nil
}

// Usable returns the records by which a server can be authenticated: of usages 2
// and 3, well formed, and of several digests for one usage and selector only the
// strongest (RFC 7671 §9). If it is empty though r is not, mail goes under TLS
// without authentication (RFC 7672 §2.2).
func (r Records) Usable() Records {
	type kind struct {
		usage    Usage
		selector uint8
	}
	best := map[kind]uint8{}
	for _, x := range r {
		if k := (kind{x.Usage, x.Selector}); x.usable() {
			best[k] = max(best[k], x.Matching)
		}
	}
	var out Records
	for _, x := range r {
		if x.usable() && (x.Matching == Exact || x.Matching == best[kind{x.Usage, x.Selector}]) {
			out = append(out, x)
		}
	}
	return out
}

// Strings returns the records as text, in their order.
func (r Records) Strings() []string {
	out := make([]string, len(r))
	for i, x := range r {
		out[i] = x.String()
	}
	return out
}

// Found is what Lookup found: records, perhaps none of them usable, and the name
// they belong to.
type Found struct {
	// Base is the TLSA base domain: the name to send as SNI and the first name that
	// a certificate of usage DANE-TA may carry (RFC 7672 §3.2.2, §8.1).
	Base    string
	Records Records
}

// Lookup asks for the TLSA records of a TCP service at each of bases in turn, until
// one has records for which DNSSEC vouches. Without any, Found is empty and DANE
// does not apply. The error wraps resolver.ErrTemporary: there may be records
// that somebody keeps from us, so that the host must not be used (RFC 7672 §2.1.2).
func Lookup(ctx context.Context, r resolver.Resolver, bases []string, port uint16) (Found, error) {
	for _, base := range bases {
		name := "_" + strconv.Itoa(int(port)) + "._tcp." + strings.TrimSuffix(base, ".")
		ans, err := r.Lookup(ctx, name, resolver.TLSA)
		switch {
		case errors.Is(err, resolver.ErrNotFound), errors.Is(err, resolver.ErrName):
			continue
		case err != nil:
			return Found{}, fmt.Errorf("look up TLSA records of %s: %w", base, err)
		case !ans.Secure:
			continue // RFC 7672 §2.1.1: insecure records are as none
		}
		f := Found{Base: base}
		for _, rec := range ans.Records[:min(len(ans.Records), maxRecords)] {
			f.Records = append(f.Records, Record{Usage: Usage(rec.Usage), Selector: rec.Selector, Matching: rec.Matching, Data: rec.Data})
		}
		return f, nil
	}
	return Found{}, nil
}
