package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/hook"
	"poczta.example/poczta/internal/milter"
	"poczta.example/poczta/internal/rspamd"
	"poczta.example/poczta/internal/verdict"
)

// validateFilters checks what is said of verification and filters.
func (d *decoder) validateFilters(c *Config) {
	for _, s := range c.Verify.TrustedSealers {
		d.domainPattern("verify.trusted_sealers", s)
	}
	for i := range c.Verify.Exceptions {
		r, at := &c.Verify.Exceptions[i], fmt.Sprintf("verify.exception[%d]", i)
		d.verifyRule(at, r)
		if len(r.Networks)+len(r.Hosts)+len(r.ReversePaths)+len(r.Signers) == 0 {
			d.problem(at, "would let anybody write in our name; say who it is by networks, hosts, reverse_paths or signers")
		}
	}
	for i := range c.Verify.Overrides {
		r, at := &c.Verify.Overrides[i], fmt.Sprintf("verify.override[%d]", i)
		d.verifyRule(at, r)
		if len(r.From)+len(r.Networks)+len(r.Hosts)+len(r.ReversePaths)+len(r.Signers)+len(r.Lists) == 0 {
			d.problem(at, "has no condition, so that no policy would count; to turn verification off write verify.enabled = false")
		}
	}
	if f := c.DMARCReports.From; f != "" {
		if _, err := address.Parse(f); err != nil {
			d.problem("dmarc_reports.from", "%q is not an address: %s", f, err)
		}
	}
	d.validateSpam(&c.Spam)
	d.validateOutside(c)
}

// verifyRule checks the conditions of a rule.
func (d *decoder) verifyRule(at string, r *VerifyRule) {
	for key, list := range map[string][]string{".from": r.From, ".hosts": r.Hosts, ".signers": r.Signers} {
		for _, s := range list {
			d.domainPattern(at+key, s)
		}
	}
	for _, p := range Prefixes(r.Networks) {
		if p.Bits() == 0 {
			d.problem(at+".networks", "%s is every address there is; name the networks you mean", p)
		}
	}
	for _, s := range r.ReversePaths {
		_, err := address.Parse(s)
		if domain, ok := strings.CutPrefix(s, "@"); ok {
			_, err = address.ParseDomain(domain)
		}
		if err != nil {
			d.problem(at+".reverse_paths", "%q is neither an address nor @ and a domain: %s", s, err)
		}
	}
}

// validateSpam checks thresholds, weights and lists.
func (d *decoder) validateSpam(s *Spam) {
	last, name := Points(0), ""
	for _, t := range []struct {
		name string
		from Points
	}{{"tag", s.Tag}, {"junk", s.Junk}, {"quarantine", s.Quarantine}, {"refuse", s.Refuse}} {
		if t.from == 0 {
			continue
		}
		if t.from < last {
			d.problem("spam."+t.name, "%v is below spam.%s, which then never counts; keep the thresholds in order", t.from, name)
		}
		last, name = t.from, t.name
	}
	for i, w := range s.Weights {
		if _, ok := verdict.Rows[verdict.Name(w.Name)]; !ok {
			d.problem(fmt.Sprintf("spam.weight[%d].name", i), "%q is no piece of evidence%s", w.Name, nearestEvidence(w.Name))
		}
	}
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	zones := map[string]bool{}
	for i := range s.Lists {
		l, at := &s.Lists[i], fmt.Sprintf("spam.list[%d]", i)
		if _, err := address.ParseDomain(l.Zone); err != nil {
			d.problem(at+".zone", "%q is not a domain: %s", l.Zone, err)
		}
		if key := strings.ToLower(l.Zone) + " " + l.Kind; zones[key] {
			d.problem(at+".zone", "%q is named twice; its evidence would count twice", l.Zone)
		} else {
			zones[key] = true
		}
		for k, a := range l.Answers {
			if !a.Network.Addr().Is4() || !loopback.Contains(a.Network.Addr()) || a.Network.Bits() < 8 {
				d.problem(fmt.Sprintf("%s.answer[%d].network", at, k), "%s is not within 127.0.0.0/8, where lists answer", a.Network)
			}
		}
	}
}

// nearestEvidence says what evidence may have been meant.
func nearestEvidence(s string) string {
	if near := nearest(s, evidence()); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return "; docs/filtering.md has the table"
}

// evidence is the names of all evidence in order.
func evidence() []string {
	names := make([]string, 0, len(verdict.Rows))
	for n := range verdict.Rows {
		names = append(names, string(n))
	}
	slices.Sort(names)
	return names
}

// validateRspamd checks the address of a worker of Rspamd.
func (d *decoder) validateRspamd(key, address string) {
	client, err := rspamd.New(rspamd.Config{URL: address})
	if err != nil {
		d.problem(key, "%s", err)
		return
	}
	_ = client.Close() // it has no connection
}

// validateOutside checks the programs that are asked.
func (d *decoder) validateOutside(c *Config) {
	if a := c.Clamd.Address; a != "" {
		if err := checkTarget(a, false); err != nil {
			d.problem("clamd.address", "%s", err)
		}
	}
	if r := c.Rspamd; r.URL != "" {
		d.validateRspamd("rspamd.url", r.URL)
		if r.Controller != "" {
			d.validateRspamd("rspamd.controller", r.Controller)
		}
	}
	switch r := c.Rspamd; {
	case r.Learn && r.URL == "":
		d.problem("rspamd.learn", "Rspamd is not asked; name it in rspamd.url, or take learn out")
	case r.Learn && r.Controller == "":
		d.problem("rspamd.learn", "Rspamd learns at its controller; name it in rspamd.controller, as in http://127.0.0.1:11334")
	}
	names := map[string]bool{}
	for i := range c.Milters {
		m, at := &c.Milters[i], fmt.Sprintf("milter[%d]", i)
		if names[m.Name] {
			d.problem(at+".name", "%q is the name of another milter; give each its own", m.Name)
		}
		names[m.Name] = true
		client, err := milter.New(milter.Config{Name: m.Name, Address: m.Address})
		if err != nil {
			d.problem(at+".address", "%s", err)
			continue
		}
		_ = client.Close() // it has no connection
	}
	if h := c.Hook; h.URL != "" {
		client, err := hook.New(hook.Config{Name: "hook", URL: h.URL})
		if err != nil {
			d.problem("hook.url", "%s", err)
			return
		}
		_ = client.Close() // it has no connection
	}
}
