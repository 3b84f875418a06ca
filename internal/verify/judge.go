package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/arc"
	"poczta.example/poczta/internal/authres"
	"poczta.example/poczta/internal/dkim"
	"poczta.example/poczta/internal/dmarc"
	"poczta.example/poczta/internal/spf"
)

// judge concludes from what the methods found.
func (v *Verifier) judge(ctx context.Context, r *Report) {
	proofs, unsure := r.proofs()
	r.Verified = r.verified()
	for i := range r.Authors[:min(len(r.Authors), maxAuthors)] {
		r.Authors[i].DMARC = v.evaluate(ctx, r.Authors[i].Domain, proofs, unsure)
	}
	r.conclude()
	r.vouched = v.vouches(ctx, r)
	v.override(r)
	r.prove()
	r.gather()
	v.guardOwn(ctx, r, proofs)
}

// proofs are what SPF and DKIM found, for DMARC. unsure has what DNS left open as if it had passed;
// it is nil when nothing is.
func (r *Report) proofs() (found dmarc.Proofs, unsure *dmarc.Proofs) {
	open := false
	unsure = &dmarc.Proofs{}
	if id := r.Identity(); r.Peer.IsValid() && !id.IsZero() {
		temp := r.MailFrom.Status == spf.TempError
		open = open || temp
		found.SPF = []dmarc.Proof{{Domain: id, Pass: r.MailFrom.Status == spf.Pass}}
		unsure.SPF = []dmarc.Proof{{Domain: id, Pass: r.MailFrom.Status == spf.Pass || temp}}
	}
	for _, d := range r.DKIM {
		if d.Signature.Domain.IsZero() {
			continue
		}
		temp := d.Status == dkim.TempError
		open = open || temp
		p := dmarc.Proof{Domain: d.Signature.Domain, Selector: d.Signature.Selector, Pass: d.Status == dkim.Pass}
		found.DKIM = append(found.DKIM, p)
		p.Pass = p.Pass || temp
		unsure.DKIM = append(unsure.DKIM, p)
	}
	if !open {
		return found, nil
	}
	return found, unsure
}

// evaluate runs DMARC for one author domain. A failure that an answer from DNS could have prevented is
// none (RFC 9989 §5.3.6).
func (v *Verifier) evaluate(ctx context.Context, d address.Domain, found dmarc.Proofs, unsure *dmarc.Proofs) dmarc.Result {
	res := v.dmarc.Evaluate(ctx, d, found)
	if res.Status != dmarc.Fail || unsure == nil {
		return res
	}
	if maybe := v.dmarc.Evaluate(ctx, d, *unsure); maybe.Status == dmarc.Pass {
		res.Status, res.Applied = dmarc.TempError, dmarc.PolicyNone
		res.Err = fmt.Errorf("DNS did not answer, so that SPF or DKIM could not prove %s", d)
	}
	return res
}

// verified says whether the reverse-path is proven. A domain below the signer's is the signer's too.
func (r *Report) verified() bool {
	a := r.reversePath.Address()
	if a.IsZero() {
		return false
	}
	return r.MailFrom.Status == spf.Pass || slices.ContainsFunc(r.DKIM, func(d dkim.Result) bool {
		return d.Status == dkim.Pass && under(a.Domain(), d.Signature.Domain)
	})
}

// under reports whether d is base or below it.
func under(d, base address.Domain) bool {
	return d == base && !d.IsZero() || !base.IsZero() && strings.HasSuffix(d.String(), "."+base.String())
}

// conclude takes the worst of the authors' outcomes for the message's (RFC 9989 §11.5): the strictest
// policy that fails, then what could not be found out, then that there is no policy. A From
// field that is repeated or can't be read does not pass.
func (r *Report) conclude() {
	worst := -1
	for i, a := range r.Authors[:min(len(r.Authors), maxAuthors)] {
		if worst < 0 || severity(a.DMARC) > severity(r.Authors[worst].DMARC) {
			worst = i
		}
	}
	if worst >= 0 {
		r.From, r.DMARC = r.Authors[worst].Domain, r.Authors[worst].DMARC
	}
	if r.DMARC.Status == dmarc.Fail || r.DMARC.Status == dmarc.TempError {
		return
	}
	switch {
	case len(r.Authors) > maxAuthors:
		r.DMARC = dmarc.Result{Status: dmarc.PermError, Err: fmt.Errorf("the From field names %d domains, of which %d are looked at", len(r.Authors), maxAuthors)}
	case !r.sound && !errors.Is(r.FromErr, ErrNoFrom):
		r.DMARC = dmarc.Result{Status: dmarc.PermError, Err: r.FromErr}
	}
}

// severity orders outcomes.
func severity(d dmarc.Result) int {
	switch d.Status {
	case dmarc.Fail:
		return 10 + 3*int(d.Applied) + int(d.Policy)
	case dmarc.TempError:
		return 4
	case dmarc.PermError:
		return 3
	case dmarc.None:
		return 2
	case dmarc.Pass:
	}
	return 1
}

// vouches names the trusted sealer on whose word the author is believed: the chain passes, it was
// sealed last by trusted domains, and the first of these in unbroken order says that From was proven when
// the message reached it. Only for one From field with one domain, and only where nothing else proves it.
func (v *Verifier) vouches(ctx context.Context, r *Report) string {
	if r.FromErr != nil || r.DMARC.Status == dmarc.Pass {
		return ""
	}
	trusts := func(d address.Domain) bool { return listed(v.c.TrustedSealers, d) }
	if n := len(r.ARC.Sealers); errors.Is(r.ARC.Err, dkim.ErrKeyFetch) && n > 0 {
		r.awaited = trusts(r.ARC.Sealers[n-1])
	}
	n := r.ARC.Trusted(trusts)
	if n == 0 || !v.says(ctx, r.ARC.AuthResults[n-1], r.From) {
		return ""
	}
	return r.ARC.Sealers[len(r.ARC.Sealers)-1].String()
}

// says reports whether results prove an author domain: by dmarc, or where they say nothing of it by spf
// and dkim in alignment.
func (v *Verifier) says(ctx context.Context, f authres.Field, author address.Domain) bool {
	if found := f.Of("dmarc"); len(found) > 0 {
		for _, res := range found {
			if from := res.Get("header", "from"); res.Value != "pass" || from != "" && domainOf(from) != author {
				return false
			}
		}
		return true
	}
	var p dmarc.Proofs
	for _, res := range f.Of("spf") {
		if d := domainOf(res.Get("smtp", "mailfrom")); res.Value == "pass" && !d.IsZero() {
			p.SPF = append(p.SPF, dmarc.Proof{Domain: d, Pass: true})
		}
	}
	for _, res := range f.Of("dkim") {
		d := domainOf(res.Get("header", "d"))
		if d.IsZero() {
			d = domainOf(res.Get("header", "i"))
		}
		if res.Value == "pass" && !d.IsZero() {
			p.DKIM = append(p.DKIM, dmarc.Proof{Domain: d, Pass: true})
		}
	}
	return v.aligned(v.dmarc.Evaluate(ctx, author, p), author, p)
}

// domainOf is the domain of an address, or of a bare domain; zero when there is none.
func domainOf(s string) address.Domain {
	d, err := address.ParseDomain(s[strings.LastIndexByte(s, '@')+1:])
	if err != nil {
		return address.Domain{}
	}
	return d
}

// aligned reports whether proofs prove a domain: as DMARC says, and where it has no policy when one
// is of that domain or of one below it.
func (v *Verifier) aligned(res dmarc.Result, d address.Domain, p dmarc.Proofs) bool {
	if res.Status != dmarc.None && res.Status != dmarc.PermError {
		return res.Status == dmarc.Pass
	}
	return slices.ContainsFunc(slices.Concat(p.SPF, p.DKIM), func(x dmarc.Proof) bool { return x.Pass && under(x.Domain, d) })
}

// override finds out whether a policy that fails is not to be applied.
func (v *Verifier) override(r *Report) {
	if r.DMARC.Status != dmarc.Fail {
		return
	}
	if r.vouched != "" {
		r.Override, r.Overrider = TrustedForwarder, r.vouched
		return
	}
	for _, rule := range v.c.Overrides {
		if !rule.matches(r, []Author{{Domain: r.From}}) {
			continue
		}
		r.Override, r.Overrider = LocalPolicy, rule.Name
		if len(rule.Lists) > 0 {
			r.Override = MailingListRule
		}
		return
	}
}

// prove lists the domains that passed.
func (r *Report) prove() {
	add := func(d address.Domain) {
		if !d.IsZero() && !slices.Contains(r.Proven, d) {
			r.Proven = append(r.Proven, d)
		}
	}
	if r.DMARC.Status == dmarc.Pass {
		add(r.From)
	}
	for _, d := range r.DKIM {
		if d.Status == dkim.Pass {
			add(d.Signature.Domain)
		}
	}
	if r.MailFrom.Status == spf.Pass {
		add(r.Identity())
	}
}

// guardOwn looks for our own domains among the authors of mail from outside. What proves one is
// alignment, the word of a trusted sealer, or an exception.
func (v *Verifier) guardOwn(ctx context.Context, r *Report, p dmarc.Proofs) {
	if v.c.Own == nil || r.origin.Account != 0 {
		return
	}
	for i := range r.Authors {
		a := &r.Authors[i]
		own, err := v.c.Own(ctx, a.Domain)
		if err != nil {
			v.c.Logger.Warn("own domain not looked up", "domain", a.Domain.String(), "error", err)
			r.tempError("It could not be found out whether %s is one of our domains.", a.Domain)
			r.TempError = true
			continue
		}
		if a.Own = own; !own {
			continue
		}
		res := a.DMARC
		if i >= maxAuthors { // not evaluated
			res = dmarc.Result{Status: dmarc.Fail}
		}
		proven := r.sound && v.aligned(res, a.Domain, p) || r.vouched != "" ||
			slices.ContainsFunc(v.c.Exceptions, func(x Rule) bool { return x.matches(r, []Author{*a}) })
		if !proven {
			r.forged(a.Domain)
		}
	}
}

// failedChain reports an ARC chain that does not hold, though DNS answered.
func (r *Report) failedChain() bool {
	return r.ARC.Status == arc.Fail && !errors.Is(r.ARC.Err, dkim.ErrKeyFetch)
}
