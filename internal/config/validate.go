package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/net/idna"

	"poczta.example/poczta/internal/address"
)

// Endpoint is one place to listen on.
type Endpoint struct {
	Network string // "tcp" or "unix"
	Address string // host:port with port_base added, or a path
	Key     string // the configuration key it comes from, "listen.smtp"
}

// Endpoints resolves one list of [listen] (or metrics.listen): ports get the
// hosts and port_base, relative UNIX paths the data folder.
func (c *Config) Endpoints(key string, list []string) ([]Endpoint, error) {
	var out []Endpoint
	for _, entry := range list {
		eps, err := c.endpoint(key, entry)
		if err != nil {
			return nil, err
		}
		out = append(out, eps...)
	}
	return out, nil
}

func (c *Config) endpoint(key, entry string) ([]Endpoint, error) {
	if path, ok := strings.CutPrefix(entry, "unix:"); ok {
		if path == "" {
			return nil, fmt.Errorf("%q names no file; write as in unix:lmtp.sock", entry)
		}
		if !filepath.IsAbs(path) {
			path = c.Sub(path)
		}
		if len(path) > 107 {
			return nil, fmt.Errorf("%s is longer than the 107 octets that a UNIX socket's name may have; choose a shorter path", path)
		}
		return []Endpoint{{Network: "unix", Address: path, Key: key}}, nil
	}
	hosts, port := c.Listen.Hosts, strings.TrimPrefix(entry, ":")
	if strings.Contains(port, ":") {
		h, p, err := net.SplitHostPort(entry)
		if err != nil {
			return nil, fmt.Errorf(`%q is not a place to listen on; write a port ("25"), an address with a port ("127.0.0.1:25", "[::1]:25") or "unix:FILE"`, entry)
		}
		if _, err := netip.ParseAddr(h); err != nil {
			return nil, fmt.Errorf("%q is not an IP address; names are not looked up here", h)
		}
		hosts, port = []string{h}, p
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return nil, fmt.Errorf(`%q is not a port between 1 and 65535`, port)
	}
	if int(n)+c.Listen.PortBase > 65535 {
		return nil, fmt.Errorf("port %d plus port_base %d is beyond 65535; choose a smaller port_base", n, c.Listen.PortBase)
	}
	var out []Endpoint
	for _, h := range hosts {
		out = append(out, Endpoint{Network: "tcp", Address: net.JoinHostPort(h, strconv.Itoa(int(n)+c.Listen.PortBase)), Key: key})
	}
	return out, nil
}

// services lists the keys of [listen] with their entries.
func (c *Config) services() map[string][]string {
	l := c.Listen
	return map[string][]string{"listen.smtp": l.SMTP, "listen.submission": l.Submission, "listen.submissions": l.Submissions,
		"listen.lmtp": l.LMTP, "listen.pop3": l.POP3, "listen.pop3s": l.POP3S, "listen.http": l.HTTP, "listen.https": l.HTTPS,
		"metrics.listen": c.Metrics.Listen}
}

// validate checks what one key's type can't say.
func (d *decoder) validate(c *Config) {
	if err := CheckHostname(c.Hostname); err != nil {
		d.problem("hostname", "%s", err)
	}
	if !filepath.IsAbs(c.Data) {
		d.problem("data", "%q is not an absolute path; begin it with /", c.Data)
	}
	d.validateListen(c)
	d.validateTLS(c)
	d.validateStore(c)
	d.validateSubmission(c)
	d.validateTrust(c)
	d.validateDKIM(c)
	d.validateRelay(c)
	d.validateFilters(c)
	d.validateBackup(c)
	for _, s := range c.DNS.Servers {
		host := s
		if h, p, err := net.SplitHostPort(s); err == nil {
			host = h
			if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
				d.problem("dns.servers", "%q is not a port", p)
			}
		}
		if _, err := netip.ParseAddr(host); err != nil {
			d.problem("dns.servers", "%q is not an IP address; a name server is named by its address", host)
		}
	}
	if c.Accounts.Postmaster != "" {
		if _, err := address.Parse(c.Accounts.Postmaster); err != nil {
			d.problem("accounts.postmaster", "%q is not an address: %s", c.Accounts.Postmaster, err)
		}
	}
	known := strings.Split(defaultMechanisms(), ", ")
	for _, m := range c.Auth.Mechanisms {
		if near := nearest(strings.ToUpper(m), known); near != m {
			d.problem("auth.mechanisms", "%q is not a mechanism of this server; there are %s", m, strings.Join(known, ", "))
		}
	}
}

// validateTrust refuses what would make an open relay of the server, or believe
// anybody who they are, and marks that would tear ordinary addresses apart.
func (d *decoder) validateTrust(c *Config) {
	everybody := func(key, what string, list []Prefix) {
		for _, p := range Prefixes(list) {
			if p.Bits() == 0 {
				d.problem(key, "%s is every address there is, so that %s; name the networks you mean", p, what)
			}
		}
	}
	everybody("proxy.from", "anybody could claim to come from anywhere", c.Proxy.From)
	everybody("xclient.from", "anybody could pose as any client and any account", c.XClient.From)
	everybody("listen.lmtp_from", "anybody could deliver past the checks of SMTP", c.Listen.LMTPFrom)
	for i, h := range c.Submission.Hosts {
		everybody(fmt.Sprintf("submission.host[%d].from", i), "anybody could send mail through this server", h.From)
	}
	const marks = "!#$%&'*+-/=?^_`{|}~" // atext without letters and digits (RFC 5322 §3.2.3)
	if s := c.SMTP.SubaddressSplitter; s != "" && (len(s) != 1 || !strings.Contains(marks, s)) {
		d.problem("smtp.subaddress_separator", "%q is not one of the marks %s; write \"\" to turn subaddresses off", s, marks)
	}
}

func (d *decoder) validateListen(c *Config) {
	for _, h := range c.Listen.Hosts {
		if _, err := netip.ParseAddr(h); err != nil {
			d.problem("listen.hosts", "%q is not an IP address; 0.0.0.0 and :: stand for all", h)
		}
	}
	if c.Listen.PortBase < 0 || c.Listen.PortBase > 64000 {
		d.problem("listen.port_base", "%d is not between 0 and 64000", c.Listen.PortBase)
		return
	}
	seen := map[string]string{}
	services := c.services()
	for _, key := range sortedKeys(anyMap(services)) {
		eps, err := c.Endpoints(key, services[key])
		if err != nil {
			d.problem(key, "%s", err)
			continue
		}
		for _, e := range eps {
			if other, ok := seen[e.Address]; ok {
				d.problem(key, "%s is taken by %s already; give each service a port of its own", e.Address, other)
			}
			seen[e.Address] = key
		}
	}
	for _, s := range c.Metrics.Listen {
		if !strings.Contains(strings.TrimPrefix(s, ":"), ":") {
			d.problem("metrics.listen", "%q would be open to everyone; name an address, as in 127.0.0.1:9025", s)
		}
	}
}

func (d *decoder) validateTLS(c *Config) {
	for _, n := range c.TLS.Names {
		if err := CheckHostname(n); err != nil {
			d.problem("tls.names", "%s", err)
		}
	}
	if c.TLS.Mode == "files" && len(c.TLS.Certificates) == 0 {
		d.problem("tls.mode", `is "files", but no pair is named; add [[tls.certificate]] with cert and key`)
	}
	if c.TLS.Mode != "files" && len(c.TLS.Certificates) > 0 {
		d.problem("tls.certificate", `is used only when tls.mode is "files"; change the mode or remove it`)
	}
	if u, err := url.Parse(c.TLS.ACME.Directory); c.TLS.Mode == "acme" && (err != nil || u.Scheme != "https" || u.Host == "") {
		d.problem("tls.acme.directory", "%q is not an https URL", c.TLS.ACME.Directory)
	}
}

func (d *decoder) validateStore(c *Config) {
	s := c.Store
	if s.Engine == "postgresql" {
		u, err := url.Parse(s.URL)
		if s.URL == "" {
			d.problem("store.url", `is missing; the engine postgresql needs it, as in "postgres://poczta@db.example.org/poczta"`)
		} else if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
			d.problem("store.url", `is not a PostgreSQL URL; write as in "postgres://poczta@db.example.org/poczta"`)
		}
	}
	if s.Engine == "sqlite" && s.URL != "" {
		d.problem("store.url", `is used only when store.engine is "postgresql"; change the engine or remove it`)
	}
	if s.Engine == "sqlite" && s.Bodies == "postgresql" {
		d.problem("store.bodies", `"postgresql" needs store.engine = "postgresql"`)
	}
}

func (d *decoder) validateSubmission(c *Config) {
	for i, h := range c.Submission.Hosts {
		at := fmt.Sprintf("submission.host[%d]", i)
		if len(h.From) == 0 {
			d.problem(at+".from", "names no network")
		}
		if len(h.Addresses) == 0 {
			d.problem(at+".addresses", "names no address that the device may use")
		}
		for _, a := range h.Addresses {
			_, err := address.Parse(a)
			if domain, ok := strings.CutPrefix(a, "@"); ok {
				_, err = address.ParseDomain(domain)
			}
			if err != nil {
				d.problem(at+".addresses", "%q is not an address: %s", a, err)
			}
		}
	}
}

// CheckHostname tells what keeps s from being a host name, or nil.
func CheckHostname(s string) error {
	if s == "" {
		return fmt.Errorf(`is empty; write this host's name, as in "mail.example.org"`)
	}
	if _, err := netip.ParseAddr(s); err == nil {
		return fmt.Errorf("%q is an address; a name is needed, as in mail.example.org", s)
	}
	a, err := idna.Lookup.ToASCII(s)
	if err != nil || strings.HasSuffix(s, ".") || len(a) > 253 {
		return fmt.Errorf("%q is not a host name; write as in mail.example.org", s)
	}
	if !strings.Contains(a, ".") && a != "localhost" {
		return fmt.Errorf("%q has no domain; write the full name, as in %s.example.org", s, s)
	}
	return nil
}

func defaultMechanisms() string { return strings.Join(Default().Auth.Mechanisms, ", ") }

func anyMap[V any](m map[string]V) map[string]any {
	out := make(map[string]any, len(m))
	for k := range m {
		out[k] = nil
	}
	return out
}
