package verify

import (
	"fmt"
	"net/netip"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/arc"
	"poczta.example/poczta/internal/authres"
	"poczta.example/poczta/internal/dkim"
	"poczta.example/poczta/internal/dmarc"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/spf"
	"poczta.example/poczta/internal/verdict"
)

// IPRevStatus is what came of the host's name (RFC 8601 §2.7.3).
type IPRevStatus uint8

// The statuses.
const (
	IPRevNone      IPRevStatus = iota // not looked at
	IPRevPass                         // a name leads back to the address
	IPRevFail                         // there are names, and none leads back
	IPRevTempError                    // DNS did not answer
	IPRevPermError                    // the address has no name
)

var iprevNames = [...]string{"none", "pass", "fail", "temperror", "permerror"}

// String is the status' word in Authentication-Results.
func (s IPRevStatus) String() string {
	if int(s) < len(iprevNames) {
		return iprevNames[s]
	}
	return fmt.Sprintf("status(%d)", uint8(s))
}

// IPRev is what came of the host's name.
type IPRev struct {
	Status IPRevStatus
	Name   string // verified; "" unless Status is IPRevPass
	Err    error
}

// Author is a domain that From names.
type Author struct {
	Domain address.Domain
	Own    bool // it is ours
	DMARC  dmarc.Result
}

// Override says why a DMARC policy was not applied, in the words of aggregate reports (RFC 7489
// appendix C).
type Override string

// The overrides.
const (
	NotOverridden    Override = ""
	TrustedForwarder Override = "trusted_forwarder" // ARC
	MailingListRule  Override = "mailing_list"      // a Rule with Lists
	LocalPolicy      Override = "local_policy"      // any other Rule
)

// Report is what was found.
type Report struct {
	Peer  netip.Addr // invalid when there is none
	IPRev IPRev
	// HELO is None when the name is no domain. MailFrom is HELO's when the reverse-path is null.
	HELO, MailFrom    spf.Result
	DKIM              []dkim.Result // in the order of the fields
	IgnoredSignatures int           // beyond Config.MaxSignatures
	ARC               arc.Result

	// From is the domain that DMARC speaks of: the one in From, or of several the one with the worst
	// outcome; zero when there is none.
	From address.Domain
	// Authors are all domains of all From fields, in their order, at most 50; those beyond the first
	// four are not evaluated.
	Authors []Author
	// FromErr is why From does not name one author domain: it is missing, repeated or malformed, or names
	// several. Such a message passes DMARC only if it has one From field that can be read, and passes
	// for each domain.
	FromErr error
	DMARC   dmarc.Result
	// Override is why DMARC.Applied was not applied, Overrider who (the sealer's domain or the
	// Rule's name). The policy to act by is None then.
	Override  Override
	Overrider string

	// Verified: the reverse-path is proven by SPF, or by a DKIM signature of its domain or one above it.
	Verified bool
	// Proven are the domains that passed: From's by DMARC, signers, the reverse-path's. Each once.
	Proven []address.Domain
	// Direct: the author's domain is among them by more than a signature that anybody could send
	// again: by SPF, or the signature is of the last three days and signs a To or Cc that names a
	// recipient.
	Direct bool
	// TempError: DNS did not answer in time for something that could have changed the outcome.
	TempError bool
	// Forged: an author domain is ours, and neither proof nor exception allows it.
	Forged bool
	Items  []verdict.Item

	hostname    address.Domain
	origin      envelope.Origin
	reversePath address.ReversePath
	helo        address.Domain // zero when it is no domain name
	sound       bool           // one From field, which can be read
	lists       []string       // List-Id, lower case
	vouched     string         // the trusted sealer who vouches for From
	awaited     bool           // a trusted sealer's key could not be fetched, who might have vouched
	field       authres.Field  // empty until Field has made it
}

func newReport(v *Verifier, m Message) *Report {
	r := &Report{hostname: v.c.Hostname, origin: m.Origin, reversePath: m.ReversePath, Peer: m.Origin.Peer.Addr().Unmap()}
	if d, err := address.ParseDomain(m.Origin.Helo); err == nil && !d.IsLiteral() {
		r.helo = d
	}
	return r
}

// Identity is the domain that SPF was asked about for the reverse-path; HELO's when that is null.
func (r *Report) Identity() address.Domain {
	if r.reversePath.IsNull() {
		return r.helo
	}
	return r.reversePath.Address().Domain()
}

// Field is our Authentication-Results (RFC 8601): iprev, SPF, DKIM, DMARC and ARC, as far as there is
// anything to say. It is made once; nobody may change its Results.
func (r *Report) Field() authres.Field {
	if r.field.ID == "" {
		r.field = r.makeField()
	}
	return r.field
}

func (r *Report) makeField() authres.Field {
	f := authres.Field{ID: r.hostname.String(), Results: make([]authres.Result, 0, 6)}
	add := func(method, value, reason string, props ...authres.Property) {
		f.Results = append(f.Results, authres.Result{Method: method, Value: value, Reason: reason, Properties: props})
	}
	if r.IPRev.Status != IPRevNone {
		add("iprev", r.IPRev.Status.String(), "", authres.Property{Type: "policy", Name: "iprev", Value: r.Peer.String()})
	}
	if r.Peer.IsValid() && !r.helo.IsZero() {
		add("spf", r.HELO.Status.String(), reason(r.HELO.Err), authres.Property{Type: "smtp", Name: "helo", Value: r.helo.String()})
	}
	if a := r.reversePath.Address(); r.Peer.IsValid() && !a.IsZero() {
		add("spf", r.MailFrom.Status.String(), reason(r.MailFrom.Err), authres.Property{Type: "smtp", Name: "mailfrom", Value: a.String()})
	}
	for _, d := range r.DKIM {
		add("dkim", d.Status.String(), reason(d.Err), signatureProperties(d)...)
	}
	if !r.From.IsZero() || r.DMARC.Status != dmarc.None {
		var props []authres.Property
		if !r.From.IsZero() {
			props = append(props, authres.Property{Type: "header", Name: "from", Value: r.From.String()})
		}
		if r.DMARC.Status == dmarc.Fail {
			applied := r.DMARC.Applied
			if r.Override != NotOverridden {
				applied = dmarc.PolicyNone
			}
			props = append(props, authres.Property{Type: "policy", Name: "dmarc", Value: applied.String()})
		}
		if r.DMARC.Status == dmarc.Pass && !r.Direct {
			props = append(props, authres.Property{Type: "policy", Name: "direct", Value: "no"})
		}
		add("dmarc", r.DMARC.Status.String(), reason(r.DMARC.Err), props...)
	}
	if r.ARC.Status != arc.None {
		var props []authres.Property
		if r.ARC.Status == arc.Pass {
			oldest := "0" // all of them hold (RFC 8617 §5.2, step 5)
			if r.ARC.Oldest > 1 {
				oldest = fmt.Sprint(r.ARC.Oldest)
			}
			props = append(props, authres.Property{Type: "header", Name: "oldest-pass", Value: oldest})
		}
		if r.Peer.IsValid() {
			props = append(props, authres.Property{Type: "smtp", Name: "remote-ip", Value: r.Peer.String()})
		}
		add("arc", r.ARC.Status.String(), reason(r.ARC.Err), props...)
	}
	return f
}

// reason is why, in short.
func reason(err error) string {
	if err == nil {
		return ""
	}
	const most = 120
	s := err.Error()
	if len(s) > most {
		s = s[:most]
	}
	return s
}

// signatureProperties name a signature (RFC 8601 §2.7.1, RFC 6008).
func signatureProperties(d dkim.Result) []authres.Property {
	s := d.Signature
	var props []authres.Property
	add := func(name, value string) {
		if value != "" {
			props = append(props, authres.Property{Type: "header", Name: name, Value: value})
		}
	}
	add("d", s.Domain.String())
	add("s", s.Selector)
	if s.Algorithm != dkim.UnknownAlgorithm {
		add("a", s.Algorithm.String())
	}
	add("i", s.Identity)
	add("b", d.Prefix)
	return props
}
