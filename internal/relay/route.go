package relay

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/smtpclient"
	"poczta.example/poczta/internal/tlspolicy"
)

// Route is a way for mail, chosen by its recipient's domain and its sender: to the
// MX hosts (the zero Host and Socket), to a fixed host, or to a socket of this machine.
type Route struct {
	Name string // for logs, traces and lists

	// Domains are recipients' domains: example.com, or .example.com for all below it.
	// Empty means all.
	Domains []string
	// Senders are reverse-paths or logins of accounts: shop@example.org, or @example.org for
	// all of a domain; <> is the null reverse-path. Empty means all.
	Senders []string

	Host     address.Domain // a name or an address literal; zero: see Socket, else by MX
	Port     uint16         // of Host
	Socket   string         // path of a UNIX socket; no TLS there
	LMTP     bool           // RFC 2033; never by MX
	Implicit bool           // TLS from the first octet (RFC 8314)
	// Level is what TLS the fixed host must offer: None, Opportunistic, Encrypt or Verify.
	// By MX the store of policies decides.
	Level tlspolicy.Level
	// Login authenticates at the fixed host; nil does not. Never sent without TLS.
	Login *smtpclient.Credentials
	// Sources are this host's addresses that connections are made from, in turn;
	// empty means Config.Sources.
	Sources []netip.Addr
	// Fallback: only for mail that hosts refuse for our reputation, or while port
	// 25 is blocked.
	Fallback bool
}

// fixed reports whether the route leads to a host or socket of its own.
func (r *Route) fixed() bool { return !r.Host.IsZero() || r.Socket != "" }

func (r *Route) validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("relay: route %q "+format, append([]any{r.Name}, args...)...))
	}
	if r.Name == "" {
		bad("needs a name")
	}
	if !r.Host.IsZero() && (r.Port == 0 || r.Socket != "") {
		bad("needs a port, and either a host or a socket")
	}
	if !r.fixed() && (r.LMTP || r.Implicit || r.Login != nil || r.Fallback) {
		bad("needs a host for LMTP, implicit TLS, a login or to be a fallback")
	}
	if r.Login != nil && r.Level < tlspolicy.Encrypt {
		bad("would send a password without TLS: set Level to Encrypt or Verify")
	}
	if r.Level > tlspolicy.Verify {
		bad("can't have the level %s, which is for MX hosts", r.Level)
	}
	return errors.Join(errs...)
}

// matches reports whether mail from a sender to a domain goes this way.
func (r *Route) matches(m *queue.Message, domain address.Domain) bool {
	if len(r.Domains) > 0 && !anyDomain(r.Domains, domain.String()) {
		return false
	}
	if len(r.Senders) == 0 {
		return true
	}
	// Whoever writes to a forward here chooses its reverse-path; a login is lent to our own
	// people alone.
	known := m.Ours || m.Account != 0 || r.Login == nil
	for _, s := range r.Senders {
		if known && senderIs(s, m.ReversePath) || m.Login != "" && senderIs(s, m.Login) {
			return true
		}
	}
	return false
}

func anyDomain(patterns []string, domain string) bool {
	for _, p := range patterns {
		if strings.EqualFold(p, domain) || strings.HasPrefix(p, ".") && len(domain) > len(p) && strings.EqualFold(domain[len(domain)-len(p):], p) {
			return true
		}
	}
	return false
}

func senderIs(pattern, path string) bool {
	if path == "" {
		return pattern == "<>"
	}
	if strings.HasPrefix(pattern, "@") {
		at := strings.LastIndexByte(path, '@')
		return at >= 0 && strings.EqualFold(path[at:], pattern)
	}
	return strings.EqualFold(pattern, path)
}

// byMX is the way when no route matches.
var byMX = &Route{Name: "mx"}

// choose returns the first route that matches; that by MX when none does.
func choose(routes []Route, m *queue.Message, domain address.Domain) *Route {
	for i := range routes {
		if r := &routes[i]; !r.Fallback && r.matches(m, domain) {
			return r
		}
	}
	return byMX
}

// fallback returns the first fallback route that matches, or nil.
func fallback(routes []Route, m *queue.Message, domain address.Domain) *Route {
	for i := range routes {
		if r := &routes[i]; r.Fallback && r.matches(m, domain) {
			return r
		}
	}
	return nil
}
