package discover

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/clientconfig"
)

// findings are what one source gave.
type findings struct {
	candidates []Candidate
	steps      []Step
}

func (o *findings) step(s Source, what string, r Result, detail string) {
	o.steps = append(o.steps, Step{Source: s, What: what, Result: r, Detail: detail})
}

// search is one Find.
type search struct {
	*Finder
	person address.Address
}

func (s *search) domain() address.Domain { return s.person.Domain() }

// Find looks everywhere for the servers of an address. Published settings and DNS are
// asked side by side; only when they don't give both directions are usual names tried
// (Guess). The local part is sent in autodiscovery's question, and in that of
// autoconfiguration where the host has no settings without it: to hosts of the
// address's domain, and to where these lead.
//
// That nothing was found is no error: the report says so. The error is that the
// address has no domain name, or ctx's.
func (f *Finder) Find(ctx context.Context, a address.Address) (*Report, error) {
	if a.IsZero() || a.Domain().IsLiteral() {
		return nil, fmt.Errorf("find settings: %q has no domain name to ask; give the servers by hand", a.String())
	}
	s := &search{f, a}
	inner, cancel := context.WithTimeout(ctx, f.cfg.Total)
	defer cancel()
	found := s.published(inner)
	if !slices.ContainsFunc(found, findings.complete) {
		found = append(found, s.guess(inner))
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("find settings: %w", err)
	}
	r := &Report{Address: a}
	var all []Candidate
	for _, o := range found {
		r.Steps = append(r.Steps, o.steps...)
		all = append(all, o.candidates...)
	}
	r.Candidates = rank(all)
	return r, nil
}

// complete reports whether there is a candidate for both directions.
func (o findings) complete() bool { return slices.ContainsFunc(o.candidates, Candidate.Complete) }

// published asks all sources side by side and returns what they gave, in their order.
// They have half of the time, so that some is left for guesses; once one has given what
// needs no confirmation, the others have settleTime.
func (s *search) published(ctx context.Context) []findings {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Total/2)
	defer cancel()
	sources := []func(context.Context) findings{s.autoconfig, s.wellKnown, s.srv, s.autodiscover, s.autodiscoverSRV, s.exchanger}
	found := make([]findings, len(sources))
	settled := make(chan struct{}, len(sources))
	var wg sync.WaitGroup
	for i, source := range sources {
		wg.Go(func() {
			found[i] = source(ctx)
			if slices.ContainsFunc(found[i].candidates, func(c Candidate) bool { return weight(c) == 0 }) {
				settled <- struct{}{}
			}
		})
	}
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-settled:
		case <-ctx.Done():
			return
		}
		late := time.AfterFunc(settleTime, cancel)
		<-ctx.Done()
		late.Stop()
	})
	wg.Wait()
	cancel()
	watch.Wait()
	return found
}

// Guess tries usual names alone; see Find.
func (f *Finder) Guess(ctx context.Context, a address.Address) (*Report, error) {
	if a.IsZero() || a.Domain().IsLiteral() {
		return nil, fmt.Errorf("find settings: %q has no domain name to ask; give the servers by hand", a.String())
	}
	inner, cancel := context.WithTimeout(ctx, f.cfg.Total)
	defer cancel()
	o := (&search{f, a}).guess(inner)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("find settings: %w", err)
	}
	return &Report{Address: a, Candidates: rank(o.candidates), Steps: o.steps}, nil
}

// rank orders candidates: complete ones first, among them those that need no
// confirmation, else by source. When none is complete, one is made of the first
// servers for each direction. What names no other server than one before is left out.
func rank(all []Candidate) []Candidate {
	slices.SortStableFunc(all, func(a, b Candidate) int {
		return weight(a) - weight(b)
	})
	if len(all) > 1 && !all[0].Complete() {
		if c := join(all); c.Complete() {
			all = slices.Insert(all, 0, c)
		}
	}
	var out []Candidate
	for _, c := range all {
		if !slices.ContainsFunc(out, func(before Candidate) bool { return covers(before, c) }) {
			out = append(out, c)
		}
	}
	return out
}

func weight(c Candidate) int {
	w := 0
	if !c.Complete() {
		w += 2
	}
	if c.NeedsConfirmation() {
		w++
	}
	return w
}

// join makes one candidate of several that have one direction each.
func join(all []Candidate) Candidate {
	var out Candidate
	for _, c := range all {
		if len(out.Incoming) == 0 && len(c.Incoming) > 0 {
			out.Incoming, out.Source, out.Name = c.Incoming, c.Source, c.Name
		}
		if len(out.Outgoing) == 0 {
			out.Outgoing = c.Outgoing
		}
		if out.OAuth == nil {
			out.OAuth = c.OAuth
		}
	}
	return out
}

// covers reports whether a names every server that b names.
func covers(a, b Candidate) bool {
	within := func(list, of []Server) bool {
		for _, s := range list {
			if !slices.ContainsFunc(of, func(t Server) bool {
				return s.Host == t.Host && s.Port == t.Port && s.Security == t.Security && slices.Equal(s.Logins, t.Logins)
			}) {
				return false
			}
		}
		return true
	}
	return within(b.Incoming, a.Incoming) && within(b.Outgoing, a.Outgoing)
}

// origin is where settings came from.
type origin struct {
	source Source
	where  string
	trust  Trust
}

// settings makes a candidate of a provider's settings, and the step that tells of it.
func (s *search) settings(o *findings, from origin, c clientconfig.Config) {
	c = c.For(s.person)
	out := Candidate{Source: from.source, Name: clip(c.Name), OAuth: c.OAuth, Documentation: c.Documentation}
	imap := false
	for _, in := range c.Incoming {
		if in.Protocol == clientconfig.POP3 {
			out.Incoming = append(out.Incoming, s.server(from, in))
		}
		imap = imap || in.Protocol == clientconfig.IMAP
	}
	for _, x := range c.Outgoing {
		out.Outgoing = append(out.Outgoing, s.server(from, x))
	}
	safest(out.Incoming)
	safest(out.Outgoing)
	switch {
	case len(out.Incoming)+len(out.Outgoing) == 0 && !imap:
		o.step(from.source, from.where, NoServer, "")
		return
	case len(out.Incoming) == 0 && imap:
		o.step(from.source, from.where, OnlyIMAP, "")
	default:
		o.step(from.source, from.where, Found, hostsOf(out))
	}
	if len(out.Incoming)+len(out.Outgoing) > 0 {
		o.candidates = append(o.candidates, out)
	}
}

// safest puts TLS from the first octet first (RFC 8314 §3), else keeps the order.
func safest(list []Server) {
	slices.SortStableFunc(list, func(a, b Server) int { return rankSecurity(a) - rankSecurity(b) })
}

func rankSecurity(s Server) int {
	switch {
	case s.Security == clientconfig.TLS:
		return 0
	case s.Raised:
		return 2
	}
	return 1
}

// server makes a server of what a source says of one. A source that asks for no
// protection is not followed in that: STARTTLS is demanded at that port.
func (s *search) server(from origin, c clientconfig.Server) Server {
	out := Server{Server: c, Source: from.source, Where: from.where, Trust: from.trust, InDomain: inDomain(c.Host, s.domain())}
	if c.Security == clientconfig.Plain {
		out.Security, out.Raised = clientconfig.StartTLS, true
	}
	out.Logins = []string{c.Login(s.person)}
	if c.Username == "" && s.person.Local() != out.Logins[0] {
		// RFC 6186 §4: the whole address first, then the local part.
		out.Logins = append(out.Logins, s.person.Local())
	}
	return out
}

// hostsOf lists a candidate's hosts for a step.
func hostsOf(c Candidate) string {
	var hosts []string
	for _, s := range slices.Concat(c.Incoming, c.Outgoing) {
		if !slices.Contains(hosts, s.Host) && len(hosts) < 4 {
			hosts = append(hosts, s.Host)
		}
	}
	return joinWords(hosts)
}

func joinWords(list []string) string {
	out := ""
	for i, s := range list {
		if i > 0 {
			out += ", "
		}
		out += s
	}
	return clip(out)
}
