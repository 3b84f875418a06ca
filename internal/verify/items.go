package verify

import (
	"errors"
	"fmt"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/arc"
	"poczta.example/poczta/internal/dkim"
	"poczta.example/poczta/internal/dmarc"
	"poczta.example/poczta/internal/spf"
	"poczta.example/poczta/internal/verdict"
)

// gather makes evidence of what was found.
func (r *Report) gather() {
	r.gatherIPRev()
	r.gatherSPF()
	r.gatherDKIM()
	r.gatherDMARC()
	switch {
	case r.vouched != "":
		r.add(verdict.ARCTrusted, "%s, a trusted sealer, says that %s was proven.", r.vouched, r.From)
	case r.failedChain():
		r.add(verdict.ARCFail, "The ARC chain does not hold: %v.", r.ARC.Err)
	case r.ARC.Status == arc.Fail && r.awaited:
		r.tempError("A key of the ARC chain of %s, a trusted sealer, could not be fetched.", r.ARC.Sealers[len(r.ARC.Sealers)-1])
	case r.ARC.Status == arc.Fail: // for good, as far as ARC goes (RFC 8617 §5.2.1)
		r.add(verdict.AuthTempError, "A key of the ARC chain could not be fetched.")
	}
}

func (r *Report) add(name verdict.Name, format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	if len(s) > verdict.MaxDetailOctets {
		s = strings.ToValidUTF8(s[:verdict.MaxDetailOctets-len("…")], "") + "…"
	}
	r.Items = append(r.Items, verdict.Item{Name: name, Detail: s})
}

// tempError says what DNS left open. Where DMARC passes anyway, that changes nothing.
func (r *Report) tempError(format string, args ...any) {
	r.TempError = r.TempError || r.DMARC.Status != dmarc.Pass
	r.add(verdict.AuthTempError, format, args...)
}

// forged says that one of our domains is used.
func (r *Report) forged(d address.Domain) {
	r.Forged = true
	r.add(verdict.OwnDomain, "From has %s, which is ours, and neither SPF nor DKIM proves it.", d)
}

func (r *Report) gatherIPRev() {
	switch r.IPRev.Status {
	case IPRevPass:
		r.add(verdict.IPRevPass, "%s is %s.", r.Peer, r.IPRev.Name)
	case IPRevFail:
		r.add(verdict.IPRevFail, "The names of %s do not lead back to it.", r.Peer)
	case IPRevPermError:
		r.add(verdict.IPRevFail, "%s has no name.", r.Peer)
	case IPRevTempError:
		r.add(verdict.AuthTempError, "The name of %s could not be looked up.", r.Peer) // proves nothing by itself
	case IPRevNone:
	}
}

func (r *Report) gatherSPF() {
	if !r.Peer.IsValid() {
		return
	}
	if !r.reversePath.IsNull() && r.HELO.Status == spf.Fail {
		r.add(verdict.SPFHeloFail, "SPF of %s, the name it greets with, does not allow %s (%s).", r.HELO.Domain, r.Peer, r.HELO.Mechanism)
	}
	d := r.Identity()
	if d.IsZero() || d.IsLiteral() {
		r.add(verdict.SPFNone, "There is no domain to ask SPF about.")
		return
	}
	switch s := r.MailFrom; s.Status {
	case spf.Pass:
		r.add(verdict.SPFPass, "SPF of %s allows %s (%s).", d, r.Peer, s.Mechanism)
	case spf.Fail:
		r.add(verdict.SPFFail, "SPF of %s does not allow %s (%s).", d, r.Peer, s.Mechanism)
	case spf.SoftFail:
		r.add(verdict.SPFSoftFail, "SPF of %s probably does not allow %s (%s).", d, r.Peer, s.Mechanism)
	case spf.Neutral:
		r.add(verdict.SPFNone, "SPF of %s says nothing about %s (%s).", d, r.Peer, s.Mechanism)
	case spf.None:
		r.add(verdict.SPFNone, "%s has no SPF record.", d)
	case spf.PermError:
		r.add(verdict.SPFPermError, "SPF of %s is broken: %v.", d, s.Err)
	case spf.TempError:
		r.tempError("SPF of %s could not be looked up.", d)
	}
}

// gatherDKIM counts the best: where one signature holds, the others say nothing. A failure of a
// domain that tries DKIM out counts as no signature (RFC 6376 §3.6.1, t=y).
func (r *Report) gatherDKIM() {
	var passed, failed []string
	var weak, partial, open *dkim.Result
	for i := range r.DKIM {
		d := &r.DKIM[i]
		switch {
		case d.Status == dkim.Pass:
			passed = append(passed, d.Signature.Domain.String())
		case errors.Is(d.Err, dkim.ErrWeak), errors.Is(d.Err, dkim.ErrKeySize) && d.Bits < dkim.MinRSABits:
			weak = d
		case errors.Is(d.Err, dkim.ErrPartial):
			partial = d
		case d.Status == dkim.TempError:
			open = d
		case !d.Testing:
			failed = append(failed, fmt.Sprintf("%s (%v)", signer(d), d.Err))
		}
	}
	switch {
	case len(passed) > 0:
		r.add(verdict.DKIMPass, "Signed by %s.", strings.Join(passed, ", "))
		return
	case weak != nil:
		r.add(verdict.DKIMWeak, "The key of %s has %d bits.", signer(weak), weak.Bits)
	}
	if partial != nil {
		r.add(verdict.DKIMPartial, "The signature of %s leaves out %d octets of the body.", signer(partial), partial.Unsigned)
	}
	switch {
	case open != nil:
		r.tempError("The DKIM key of %s could not be fetched.", signer(open))
	case len(failed) > 0 && weak == nil && partial == nil:
		r.add(verdict.DKIMFail, "No signature holds: %s.", strings.Join(failed, ", "))
	}
}

func signer(d *dkim.Result) string {
	if d.Signature.Domain.IsZero() {
		return "an unknown domain"
	}
	return d.Signature.Domain.String()
}

func (r *Report) gatherDMARC() {
	switch d := r.DMARC; d.Status {
	case dmarc.Pass:
		how := "DKIM"
		if !d.AlignedDKIM {
			how = "SPF"
		}
		r.add(verdict.DMARCPass, "%s proves %s.", how, r.From)
	case dmarc.TempError:
		r.tempError("DMARC of %s could not be evaluated, as DNS did not answer.", r.From)
	case dmarc.Fail:
		r.gatherFailure()
	case dmarc.None, dmarc.PermError:
	}
}

// gatherFailure says what follows from a DMARC failure.
func (r *Report) gatherFailure() {
	asks := fmt.Sprintf("%s asks for p=%s", r.DMARC.PolicyDomain, r.DMARC.Policy)
	if r.DMARC.Applied != r.DMARC.Policy {
		asks += fmt.Sprintf(", for this message %s", r.DMARC.Applied)
	}
	switch {
	case r.Override == TrustedForwarder:
		r.add(verdict.DMARCOverride, "Nothing proves %s, and %s; not applied, as %s is a trusted forwarder.", r.From, asks, r.Overrider)
	case r.Override != NotOverridden:
		r.add(verdict.DMARCOverride, "Nothing proves %s, and %s; not applied because of the rule %q.", r.From, asks, r.Overrider)
	case r.DMARC.Applied == dmarc.PolicyReject:
		r.add(verdict.DMARCReject, "Nothing proves %s, and %s.", r.From, asks)
	case r.DMARC.Applied == dmarc.PolicyQuarantine:
		r.add(verdict.DMARCQuarant, "Nothing proves %s, and %s.", r.From, asks)
	default:
		r.add(verdict.DMARCFail, "Nothing proves %s, and %s.", r.From, asks)
	}
}
