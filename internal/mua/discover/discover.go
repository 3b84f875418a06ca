// Package discover finds the servers of a mail address: from DNS (RFC 6186, RFC 8314),
// from settings that the provider publishes over HTTPS (autoconfiguration,
// autodiscovery), and by trying names that are usual. Every server says where it came
// from and how far that can be trusted; a trial logs in to both without sending mail.
//
// No request goes over plain HTTP, no credential over a connection without a verified
// certificate, and none to a host that a stranger could have named unless the person
// has confirmed it. Time, redirections, sizes and the number of hosts are bounded.
package discover

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/resolver"
)

// Bounds and their defaults.
const (
	DefaultTotal   = 45 * time.Second // Config.Total
	DefaultRequest = 10 * time.Second // Config.Request
	settleTime     = 3 * time.Second  // for other sources, once one has given all
	maxRedirects   = 5
	maxTargets     = 8  // SRV targets of a service
	maxParallel    = 12 // connections at one time
	maxExchangers  = 3  // MX hosts that are looked at
)

// ErrUnconfirmed means that a candidate names a host that a stranger could have named:
// show it to the person, set Confirmed, and try again. Nothing was sent.
var ErrUnconfirmed = errors.New("a host outside the address's domain must be confirmed first")

// Config is what a Finder works with.
type Config struct {
	Resolver resolver.Resolver // required
	Roots    *x509.CertPool    // authorities that are trusted; nil: those of the system
	// Barred says why we connect to no host at addr, or ""; nil bars none.
	Barred func(addr netip.Addr) string
	// Dial connects to host:port; nil dials the addresses that Resolver gives.
	Dial    func(ctx context.Context, network, hostport string) (net.Conn, error)
	Total   time.Duration // for one Find, Guess or Try; 0 is DefaultTotal
	Request time.Duration // for one request or connection in it; 0 is DefaultRequest
	Hello   string        // our name in EHLO; "" is "localhost"
	Logger  *slog.Logger  // nil discards
}

// Finder finds settings. Safe for concurrent use.
type Finder struct {
	cfg Config
	log *slog.Logger
}

// New makes a Finder.
func New(c Config) (*Finder, error) {
	if c.Resolver == nil {
		return nil, errors.New("discover: Resolver is missing")
	}
	if c.Dial == nil {
		c.Dial = resolver.Dialer{Resolver: c.Resolver, Barred: c.Barred}.Dial
	}
	if c.Total <= 0 {
		c.Total = DefaultTotal
	}
	if c.Request <= 0 {
		c.Request = DefaultRequest
	}
	if c.Hello == "" {
		c.Hello = "localhost"
	}
	f := &Finder{cfg: c, log: c.Logger}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	return f, nil
}

// Source is where a server was found.
type Source string

// The sources, the best first.
const (
	Manual          Source = "manual"           // the person wrote it
	Autoconfig      Source = "autoconfig"       // https://autoconfig.DOMAIN
	WellKnown       Source = "well-known"       // https://DOMAIN/.well-known/autoconfig
	SRV             Source = "srv"              // RFC 6186
	Autodiscover    Source = "autodiscover"     // https://autodiscover.DOMAIN, https://DOMAIN
	AutodiscoverSRV Source = "autodiscover-srv" // where SRV leads
	Exchanger       Source = "mx-autoconfig"    // settings of the domain of the MX host
	Guess           Source = "guess"            // usual names, of which one answered
)

// Trust is how a host's name came to us.
type Trust string

// The kinds of trust. Unproven is DNS without DNSSEC, or what began with it.
const (
	Unproven Trust = "unproven"
	DNSSEC   Trust = "dnssec"
	HTTPS    Trust = "https" // settings under a verified certificate for a host of the address's domain
	Person   Trust = "person"
)

// Server is a server that was found.
type Server struct {
	clientconfig.Server

	Source Source
	Where  string // the URL, the SRV record's name or the host tried
	Trust  Trust
	// InDomain tells that the host's name is the address's domain or below it.
	InDomain bool
	// Logins are the login names to try, in order; never empty.
	Logins []string
	// Raised tells that the source asked for no protection, and STARTTLS is demanded instead.
	Raised bool
}

// NeedsConfirmation reports whether the host lies outside the address's domain and
// nothing proves that the domain's owner named it.
func (s Server) NeedsConfirmation() bool { return !s.InDomain && s.Trust == Unproven }

// Candidate is a set of settings to try.
type Candidate struct {
	Source        Source   // of the first server
	Name          string   // the provider's, for people; may be empty
	Incoming      []Server // POP3 servers, the best first
	Outgoing      []Server // SMTP servers, the best first
	OAuth         *clientconfig.OAuth
	Documentation []clientconfig.Link
	// Confirmed is set by the caller once the person has agreed to the hosts of Doubtful.
	Confirmed bool
}

// Complete reports whether there is a server for both directions.
func (c Candidate) Complete() bool { return len(c.Incoming) > 0 && len(c.Outgoing) > 0 }

// NeedsConfirmation reports whether the person must confirm a host before any
// credential goes to it.
func (c Candidate) NeedsConfirmation() bool { return !c.Confirmed && len(c.Doubtful()) > 0 }

// Doubtful are the hosts that need a confirmation, each once.
func (c Candidate) Doubtful() []string {
	var out []string
	seen := map[string]bool{}
	for _, list := range [][]Server{c.Incoming, c.Outgoing} {
		for _, s := range list {
			if s.NeedsConfirmation() && !seen[s.Host] {
				seen[s.Host] = true
				out = append(out, s.Host)
			}
		}
	}
	return out
}

// Report is what Find found, and what it tried.
type Report struct {
	Address    address.Address
	Candidates []Candidate // complete ones first, among them those that need no confirmation
	Steps      []Step      // everything that was tried, in the order of sources
}

// Credentials are what a person proves with. Nothing of them is kept or logged.
type Credentials struct {
	Username    string // "" takes the candidate's Logins
	Password    string
	Token       string           // an OAuth2 access token, in place of a password
	Certificate *tls.Certificate // a client certificate; may go with a password
	// External says that the certificate alone proves who logs in (EXTERNAL).
	External bool
}

// String tells no secret, so that credentials may come near a log.
func (c Credentials) String() string { return fmt.Sprintf("credentials of %q", c.Username) }

// GoString returns what String returns.
func (c Credentials) GoString() string { return c.String() }

// Trial is what came of trying a candidate.
type Trial struct {
	Incoming *Server // that took the login; nil for none
	Outgoing *Server
	// IncomingLogin and OutgoingLogin are the names that were taken.
	IncomingLogin, OutgoingLogin string
	Steps                        []Step
}

// Works reports whether both directions took the login.
func (t *Trial) Works() bool { return t.Incoming != nil && t.Outgoing != nil }

// inDomain reports whether host is the domain or below it.
func inDomain(host string, domain address.Domain) bool {
	return host == domain.String() || strings.HasSuffix(host, "."+domain.String())
}

// ByHand makes a candidate of settings that the person gave: written, or from a file.
// Plain settings are raised to STARTTLS, as everywhere. IMAP servers are left out.
func ByHand(a address.Address, c clientconfig.Config) Candidate {
	s := search{person: a}
	var o findings
	s.settings(&o, origin{Manual, "settings given by hand", Person}, c)
	if len(o.candidates) == 0 {
		return Candidate{Source: Manual}
	}
	return o.candidates[0]
}
