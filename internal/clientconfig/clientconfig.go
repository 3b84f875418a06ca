// Package clientconfig holds what a mail program must know of a provider's servers, as
// values, and reads and writes the forms in which providers tell it: Thunderbird's
// autoconfiguration (clientConfig version 1.1), Microsoft's autodiscovery (the POX
// schema "outlook" 2006a) and Apple's configuration profiles (.mobileconfig). Handler
// answers such questions for our own domains. Reading is tolerant, and bounded in
// octets, elements and depth; nothing outside a document is ever fetched for it.
package clientconfig

import (
	"errors"
	"strings"

	"poczta.example/poczta/internal/address"
)

// MaxOctets is the longest document that is read.
const MaxOctets = 256 << 10

// MaxServers is how many servers of one direction are taken of a document.
const MaxServers = 32

// Errors of the readers; test with errors.Is. The wrapped text says what is wrong.
var (
	ErrTooLarge = errors.New("settings are larger than is read")
	ErrSyntax   = errors.New("settings are malformed")
	ErrEmpty    = errors.New("settings name no server")
)

// Protocol is what a server speaks.
type Protocol string

// The protocols.
const (
	POP3 Protocol = "pop3"
	IMAP Protocol = "imap"
	SMTP Protocol = "smtp"
)

// Security is how a connection is protected.
type Security string

// The ways to protect a connection. Plain is none.
const (
	Plain    Security = "plain"
	StartTLS Security = "STARTTLS"
	TLS      Security = "SSL" // from the first octet (RFC 8314 §3)
)

// Authentication is how a program proves who it is, in the words of clientConfig.
type Authentication string

// The ways to authenticate.
const (
	Password    Authentication = "password-cleartext" // any mechanism with the password, under TLS
	Encrypted   Authentication = "password-encrypted" // the password itself isn't sent
	OAuth2      Authentication = "OAuth2"
	NTLM        Authentication = "NTLM"
	Kerberos    Authentication = "GSSAPI"
	Certificate Authentication = "TLS-client-cert"
	ClientIP    Authentication = "client-IP-address"
	NoLogin     Authentication = "none"
)

// Patterns that stand for parts of a person's address in Username, Host and names.
const (
	PatternAddress = "%EMAILADDRESS%"
	PatternLocal   = "%EMAILLOCALPART%"
	PatternDomain  = "%EMAILDOMAIN%"
)

// Server is one way to reach a server. It travels as JSON.
type Server struct {
	Protocol Protocol `json:"protocol"`
	Host     string   `json:"host"` // a name in A-labels and lower case, or an IP address
	Port     uint16   `json:"port"`
	Security Security `json:"security"`
	// Authentications are what the server takes, best first; empty is not said.
	Authentications []Authentication `json:"authentications,omitempty"`
	// Username is the login name with patterns; "" is not said.
	Username string `json:"username,omitempty"`
	// LeaveOnServer is the provider's advice for POP3: keep mail on the server.
	LeaveOnServer bool `json:"leave_on_server,omitempty"`
}

// Login returns the login name for a person's address: Username with its patterns
// replaced, the whole address when Username is empty.
func (s Server) Login(a address.Address) string {
	if s.Username == "" {
		return a.String()
	}
	return expand(s.Username, a)
}

// expand replaces the patterns in text.
func expand(text string, a address.Address) string {
	return strings.NewReplacer(PatternAddress, a.String(), PatternLocal, a.Local(), PatternDomain, a.Domain().String()).Replace(text)
}

// For returns the settings with the patterns in names and hosts replaced for a
// person's address; login names keep theirs, which Login replaces. Hosts that are no
// names after it are left out.
func (c Config) For(a address.Address) Config {
	c.Name, c.ShortName = expand(c.Name, a), expand(c.ShortName, a)
	c.Incoming, c.Outgoing = hostsFor(c.Incoming, a), hostsFor(c.Outgoing, a)
	return c
}

func hostsFor(list []Server, a address.Address) []Server {
	var out []Server
	for _, s := range list {
		if host, ok := hostName(expand(s.Host, a)); ok {
			s.Host = host
			out = append(out, s)
		}
	}
	return out
}

// Link is a page for people.
type Link struct {
	URL  string
	Text string // may be empty
}

// OAuth says where a provider issues tokens (RFC 6749). It travels as JSON.
type OAuth struct {
	Issuer   string `json:"issuer,omitempty"`
	Scope    string `json:"scope,omitempty"`
	AuthURL  string `json:"auth_url"`
	TokenURL string `json:"token_url"`
	// DeviceURL gives codes for a login on another device (RFC 8628); no published settings name it.
	DeviceURL string `json:"device_url,omitempty"`
}

// Config is a provider's settings.
type Config struct {
	ID        string   // of the provider, mostly a domain
	Domains   []string // whose addresses the settings are for
	Name      string   // for people
	ShortName string
	Incoming  []Server // best first
	Outgoing  []Server
	OAuth     *OAuth // nil: none
	// Documentation is what the provider tells people.
	Documentation []Link
	// Skipped says for each server that was left out why, at most MaxServers.
	Skipped []string
}

// hostName returns a name or address as it is compared; false if it is none.
func hostName(s string) (string, bool) {
	s = strings.TrimSpace(s)
	if ip, ok := ipHost(s); ok {
		return ip, true
	}
	if strings.ContainsAny(s, "[]") {
		return "", false
	}
	d, err := address.ParseDomain(s)
	if err != nil {
		return "", false
	}
	return d.String(), true
}

// skip notes why a server was left out.
func (c *Config) skip(why string) {
	if len(c.Skipped) < MaxServers {
		c.Skipped = append(c.Skipped, why)
	}
}

// add appends a server unless there are too many.
func (c *Config) add(s Server) {
	list := &c.Incoming
	if s.Protocol == SMTP {
		list = &c.Outgoing
	}
	if len(*list) >= MaxServers {
		c.skip(s.Host + ": there are too many servers")
		return
	}
	*list = append(*list, s)
}
