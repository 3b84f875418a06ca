package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
)

// leastWait is the shortest pause between two attempts: less would press a host
// that is in trouble.
const leastWait = 10 * time.Second

// validateRelay checks the sending side.
func (d *decoder) validateRelay(c *Config) {
	r := &c.Relay
	for key, list := range map[string][]Duration{"relay.retry": r.Retry, "relay.probe": r.Probe} {
		if len(list) == 0 {
			d.problem(key, `is empty; name at least one pause, as in ["5m"]`)
		}
		for _, w := range list {
			if w.Duration() < leastWait {
				d.problem(key, "%s is too small; the least is %s", w, leastWait)
			}
		}
	}
	d.sources("relay.sources", r.Sources)
	for i, p := range r.TLSPolicy {
		at := fmt.Sprintf("relay.tls_policy[%d]", i)
		d.domainPattern(at+".domain", p.Domain)
		if p.Level == "dane" && !c.DNS.Trusted {
			d.problem(at+".level", `"dane" needs a name server whose DNSSEC can be relied on; run one (unbound) on this host, name it in dns.servers and set dns.trusted`)
		}
	}
	names := map[string]bool{}
	for i := range r.Routes {
		at := fmt.Sprintf("relay.route[%d]", i)
		if names[r.Routes[i].Name] {
			d.problem(at+".name", "%q is the name of another route; give each its own", r.Routes[i].Name)
		}
		names[r.Routes[i].Name] = true
		d.validateRoute(at, &r.Routes[i])
	}
	if f := c.TLSReports.From; f != "" {
		if _, err := address.Parse(f); err != nil {
			d.problem("tls_reports.from", "%q is not an address: %s", f, err)
		}
	}
	if to := c.TLSReports.To; to != "" && !strings.HasPrefix(to, "mailto:") && !strings.HasPrefix(to, "https:") {
		d.problem("tls_reports.to", `%q is not a mailto: or https: URI`, to)
	}
	for i := range r.Domains {
		d.validateRelayDomain(fmt.Sprintf("relay.domain[%d]", i), &r.Domains[i])
	}
}

func (d *decoder) validateRoute(at string, r *RelayRoute) {
	for _, p := range r.Domains {
		d.domainPattern(at+".domains", p)
	}
	for _, s := range r.Senders {
		if domain, ok := strings.CutPrefix(s, "@"); ok {
			if _, err := address.ParseDomain(domain); err != nil {
				d.problem(at+".senders", "%q is not @ and a domain: %s", s, err)
			}
		} else if _, err := address.Parse(s); err != nil {
			d.problem(at+".senders", "%q is not an address: %s", s, err)
		}
	}
	if err := checkTarget(r.Host, true); err != nil {
		d.problem(at+".host", "%s", err)
	}
	d.sources(at+".sources", r.Sources)
	switch {
	case r.User != "" && r.PasswordFile == "":
		d.problem(at+".password_file", "is missing; a user needs a file with the password")
	case r.User != "" && (r.TLS == "none" || r.TLS == "opportunistic"):
		d.problem(at+".tls", `%q could send the password where others read it; use "verify", "implicit" or "encrypt"`, r.TLS)
	case r.User == "" && r.PasswordFile != "":
		d.problem(at+".user", "is missing; the password needs a login name")
	case r.Host == "mx" && (r.User != "" || r.Protocol == "lmtp" || r.Fallback || r.TLS == "implicit"):
		d.problem(at+".host", `"mx" takes neither a user, nor lmtp, implicit TLS or fallback; name a host`)
	}
}

func (d *decoder) validateRelayDomain(at string, r *RelayDomain) {
	if _, err := address.ParseDomain(r.Domain); err != nil {
		d.problem(at+".domain", "%q is not a domain: %s", r.Domain, err)
	}
	if r.Host != "" {
		if err := checkTarget(r.Host, false); err != nil {
			d.problem(at+".host", "%s", err)
		}
	}
	if (r.Recipients == "list") != (r.RecipientFile != "") {
		d.problem(at+".recipient_file", `goes with recipients = "list", and with nothing else`)
	}
}

// sources checks addresses of this host.
func (d *decoder) sources(key string, list []string) {
	for _, s := range list {
		if a, err := netip.ParseAddr(s); err != nil || a.IsUnspecified() {
			d.problem(key, "%q is not an IP address of this host", s)
		}
	}
}

// domainPattern checks example.com and .example.com.
func (d *decoder) domainPattern(key, s string) {
	if _, err := address.ParseDomain(strings.TrimPrefix(s, ".")); err != nil {
		d.problem(key, "%q is not a domain: %s", s, err)
	}
}

// checkTarget checks host:port, [address]:port, unix:FILE and, where allowed, mx.
func checkTarget(s string, mx bool) error {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if path == "" {
			return fmt.Errorf("%q names no file; write as in unix:/run/lmtp.sock", s)
		}
		return nil
	}
	if mx && s == "mx" {
		return nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf(`%q is not a host with a port; write as in "smtp.example.net:587" or "[2001:db8::1]:25"`, s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q is not a port between 1 and 65535", port)
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	return CheckHostname(host)
}
