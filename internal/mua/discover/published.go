package discover

import (
	"context"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/publicsuffix"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/clientconfig"
)

// autoconfig asks https://autoconfig.DOMAIN, without the address first. A host that has
// no settings for everybody is asked with it.
func (s *search) autoconfig(ctx context.Context) findings {
	var o findings
	where := "https://" + clientconfig.HostAutoconfig + s.domain().String() + clientconfig.PathAutoconfig
	from := origin{Autoconfig, where, HTTPS}
	r := s.fetch(ctx, request{url: where})
	if s.read(&o, from, r) {
		return o
	}
	switch r.result {
	case Absent, Status, Malformed, NoServer, AsksPassword, Found:
		if r.result == Absent && r.detail == "" { // the host itself isn't there
			return o
		}
		o.steps = o.steps[:0]
		s.read(&o, from, s.fetch(ctx, request{url: where + "?emailaddress=" + url.QueryEscape(s.person.String())}))
	}
	return o
}

// wellKnown asks https://DOMAIN, without the address.
func (s *search) wellKnown(ctx context.Context) findings {
	var o findings
	where := "https://" + s.domain().String() + clientconfig.PathWellKnown
	s.read(&o, origin{WellKnown, where, HTTPS}, s.fetch(ctx, request{url: where}))
	return o
}

// read takes clientConfig that came, and reports whether there was one.
func (s *search) read(o *findings, from origin, r reply) bool {
	if r.result != Found {
		o.step(from.source, from.where, r.result, r.detail)
		return false
	}
	c, err := clientconfig.Parse(r.text)
	if err != nil {
		result, _ := failure(err)
		o.step(from.source, from.where, result, clip(err.Error()))
		return false
	}
	s.settings(o, from, c)
	return true
}

// exchanger asks the domains of the MX hosts for their settings, without the address:
// DNS alone leads there. What it finds needs a confirmation unless DNSSEC vouches for
// the MX records.
func (s *search) exchanger(ctx context.Context) findings {
	var o findings
	hosts, trust, err := s.exchangers(ctx)
	if err != nil {
		result, detail := failure(err)
		o.step(Exchanger, "MX "+s.domain().String(), result, detail)
		return o
	}
	for _, domain := range providers(hosts, s.domain().String()) {
		for _, where := range []string{"https://" + clientconfig.HostAutoconfig + domain + clientconfig.PathAutoconfig, "https://" + domain + clientconfig.PathWellKnown} {
			if s.read(&o, origin{Exchanger, where, trust}, s.fetch(ctx, request{url: where})) {
				return o
			}
		}
	}
	return o
}

// providers are the domains under which the owners of MX hosts may publish: what is
// registered, and the name without its first label. The address's own domain is not
// among them, as it was asked already. At most four.
func providers(hosts []string, own string) []string {
	var out []string
	add := func(d string) {
		if d != "" && d != own && !slices.Contains(out, d) && len(out) < 4 {
			out = append(out, d)
		}
	}
	for _, h := range hosts {
		base, err := publicsuffix.EffectiveTLDPlusOne(h)
		if err != nil {
			continue
		}
		if _, parent, ok := strings.Cut(h, "."); ok && len(parent) > len(base) {
			add(parent)
		}
		add(base)
	}
	return out
}

// autodiscover asks https://autodiscover.DOMAIN and https://DOMAIN.
func (s *search) autodiscover(ctx context.Context) findings {
	var o findings
	for _, host := range []string{clientconfig.HostAutodiscover + s.domain().String(), s.domain().String()} {
		where := "https://" + host + clientconfig.PathAutodiscover
		if s.discovery(ctx, &o, origin{Autodiscover, where, HTTPS}, s.person) {
			break
		}
	}
	return o
}

// autodiscoverSRV asks the host that _autodiscover._tcp names. Without DNSSEC a
// stranger could have named it: a host outside the domain gets another local part.
func (s *search) autodiscoverSRV(ctx context.Context) findings {
	var o findings
	name := "_autodiscover._tcp." + s.domain().String()
	records, trust, result := s.targets(ctx, name)
	if result != Found {
		o.step(AutodiscoverSRV, name, result, "")
		return o
	}
	r := records[0]
	host := r.Host
	if r.Port != 443 {
		host = net.JoinHostPort(host, strconv.Itoa(int(r.Port)))
	}
	person := s.person
	switch {
	case inDomain(r.Host, s.domain()) || trust == DNSSEC:
		trust = HTTPS
	default:
		stranger, err := s.person.WithLocal("postmaster")
		if err != nil {
			return o
		}
		person = stranger
	}
	s.discovery(ctx, &o, origin{AutodiscoverSRV, "https://" + host + clientconfig.PathAutodiscover, trust}, person)
	return o
}

// discovery asks by Microsoft's schema, follows what leads elsewhere, and reports
// whether settings came.
func (s *search) discovery(ctx context.Context, o *findings, from origin, person address.Address) bool {
	where := from.where
	for range maxRedirects {
		r := s.fetch(ctx, request{url: where, body: clientconfig.Ask(person)})
		if r.result != Found {
			o.step(from.source, where, r.result, r.detail)
			return false
		}
		ans, err := clientconfig.ParseAnswer(r.text, person)
		switch {
		case err != nil:
			result, _ := failure(err)
			o.step(from.source, where, result, clip(err.Error()))
			return false
		case ans.Code != 0:
			o.step(from.source, where, Turned, ans.Message)
			return false
		case ans.RedirectURL != "":
			next, r := follow(where, ans.RedirectURL)
			if next == "" {
				o.step(from.source, where, r.result, r.detail)
				return false
			}
			where = next
		case ans.RedirectAddress != "":
			next, err := address.Parse(ans.RedirectAddress)
			if err != nil || next.Domain().IsLiteral() || from.trust == Unproven {
				o.step(from.source, where, Turned, clip(ans.RedirectAddress))
				return false
			}
			person, where = next, "https://"+clientconfig.HostAutodiscover+next.Domain().String()+clientconfig.PathAutodiscover
		default:
			from.where = where
			if from.trust != Unproven && person != s.person { // people log in as whom they were led to
				ans.Config.Incoming, ans.Config.Outgoing = loginsOf(ans.Config.Incoming, person), loginsOf(ans.Config.Outgoing, person)
			}
			s.settings(o, from, ans.Config)
			return true
		}
	}
	o.step(from.source, where, RedirectLoop, "")
	return false
}

// loginsOf writes a person's login names out.
func loginsOf(list []clientconfig.Server, person address.Address) []clientconfig.Server {
	for i := range list {
		list[i].Username = list[i].Login(person)
	}
	return list
}
