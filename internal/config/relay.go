package config

// Relay holds what the sending side needs.
type Relay struct {
	Enabled bool `toml:"enabled" default:"true" doc:"Deliver queued mail to other hosts. Off, it waits in the queue."`
	Port    int  `toml:"port" default:"25" min:"1" max:"65535" doc:"The port of other hosts. Change it only in a laboratory."`

	Retry        []Duration `toml:"retry" default:"1m, 3m, 7m, 15m, 30m, 1h, 2h, 4h" doc:"How long a recipient waits after its first, second … failed attempt; the last value repeats. Each wait is lengthened by up to a fifth at random."`
	Probe        []Duration `toml:"probe" default:"1m, 2m, 5m, 10m, 20m, 30m, 1h" doc:"How long a host that can't be reached is left alone after its first, second … failed probe; the last value repeats. When it answers, its recipients become due."`
	Lifetime     Duration   `toml:"lifetime" default:"5d" min:"1m" doc:"How long delivery is tried before a message is returned (RFC 5321 §4.5.4.1 asks for at least 4 to 5 days)."`
	DelayWarning Duration   `toml:"delay_warning" default:"4h" doc:"When our own people are told, once, that a message still waits. 0s never tells."`

	Connections           int      `toml:"connections" default:"200" min:"1" max:"10000" doc:"Connections to other hosts at one time. Hosts that take longer than half a second over a message are counted apart, up to three times as many, so that those which say nothing leave room for others."`
	ConnectionsPerSite    int      `toml:"connections_per_site" default:"20" min:"1" max:"1000" doc:"The most connections at one time to the hosts that share a domain's mail. It begins with a few, and grows and shrinks with what they bear."`
	MessagesPerConnection int      `toml:"messages_per_connection" default:"100" min:"1" max:"100000" doc:"Messages after which a connection is ended and another begun."`
	RatePerSite           int      `toml:"rate_per_site" default:"0" min:"0" max:"10000000" unit:"per minute" doc:"Messages to one site. 0 is without limit."`
	Sources               []string `toml:"sources" example:"192.0.2.1, 2001:db8::1" doc:"This host's addresses that connections are made from, in turn. Empty lets the system choose."`
	Families              string   `toml:"families" default:"any" oneof:"any,ipv4,ipv6" doc:"Address families that are tried."`
	AllowLoopback         bool     `toml:"allow_loopback" default:"false" doc:"Deliver to hosts whose MX leads to loopback addresses, as in a laboratory. Off, such a domain is in error."`

	TLS       string           `toml:"tls" default:"opportunistic" oneof:"opportunistic,encrypt,verify" doc:"What other hosts must offer where nothing else is said: opportunistic takes TLS where it is offered; encrypt demands it; verify demands a certificate for the MX host's name too. MTA-STS and DANE of a domain count beside it."`
	Downgrade string           `toml:"downgrade" default:"notice" oneof:"notice,encrypt,verify" doc:"What happens when a host shows less TLS than it did before: notice counts and logs it; encrypt refuses to go on in plaintext where there was TLS; verify refuses a certificate that no longer verifies as well. After seven days the lower level becomes what is expected."`
	TLSPolicy []RelayTLSPolicy `toml:"tls_policy" doc:"TLS for named domains; write [[relay.tls_policy]] once for each."`
	Routes    []RelayRoute     `toml:"route" doc:"Ways other than by MX: a smart host for all mail, for some domains or some senders; an LMTP server; a fallback. Write [[relay.route]] once for each; the first that matches counts."`
	Domains   []RelayDomain    `toml:"domain" doc:"Domains whose mail is accepted from everybody and relayed to another host: as backup MX, or as a gateway in front of it. Write [[relay.domain]] once for each."`
}

// RelayTLSPolicy is what TLS a domain's hosts must offer.
type RelayTLSPolicy struct {
	Domain string `toml:"domain" required:"true" example:"example.com" doc:"The recipients' domain; .example.com stands for all its subdomains."`
	Level  string `toml:"level" required:"true" oneof:"none,opportunistic,encrypt,verify,dane" doc:"none never uses TLS; dane delivers only to hosts authenticated by DANE; the others are as in relay.tls."`
}

// RelayRoute is a way other than by MX.
type RelayRoute struct {
	Name         string   `toml:"name" required:"true" example:"provider" doc:"Its name in the log, in the trace and in lists."`
	Domains      []string `toml:"domains" example:"example.com, .example.net" doc:"Recipients' domains that go this way; .example.net stands for all subdomains. Empty: all."`
	Senders      []string `toml:"senders" example:"shop@example.org, @example.org" doc:"Reverse-paths that go this way; @example.org stands for all of a domain. Empty: all."`
	Host         string   `toml:"host" required:"true" example:"smtp.provider.example:587" doc:"Where the mail goes: a host name or address with a port, unix:FILE, or mx for the recipients' own MX hosts (to choose sources for some mail)."`
	Protocol     string   `toml:"protocol" default:"smtp" oneof:"smtp,lmtp" doc:"What is spoken there."`
	TLS          string   `toml:"tls" default:"verify" oneof:"none,opportunistic,encrypt,verify,implicit" doc:"verify demands STARTTLS and a certificate for the host's name; implicit the same with TLS from the first octet (port 465)."`
	User         string   `toml:"user" example:"poczta@provider.example" doc:"Login name there. Empty: no authentication. It is never sent without TLS."`
	PasswordFile string   `toml:"password_file" example:"/etc/poczta/provider.password" doc:"File whose first line is the password."`
	Sources      []string `toml:"sources" doc:"This host's addresses that connections are made from; empty means relay.sources."`
	Fallback     bool     `toml:"fallback" default:"false" doc:"Use this route only for mail that the MX hosts refuse for our reputation, or while port 25 is blocked."`
}

// RelayDomain is a domain that we relay for.
type RelayDomain struct {
	Domain        string   `toml:"domain" required:"true" example:"example.com" doc:"The domain."`
	Host          string   `toml:"host" example:"10.0.0.5:25" doc:"Where its mail goes. Empty: to the domain's MX hosts of a better preference than ours."`
	Recipients    string   `toml:"recipients" default:"call" oneof:"call,list,any" doc:"How recipients are verified, so that none has to be bounced: call asks the host by RCPT and remembers; list takes those of recipient_file; any takes all, which makes backscatter."`
	RecipientFile string   `toml:"recipient_file" example:"/etc/poczta/example.com.recipients" doc:"One address a line, for recipients = \"list\"."`
	WhenDown      string   `toml:"when_down" default:"defer" oneof:"defer,accept" doc:"For recipients = \"call\", while the host can't be asked: defer answers 451, accept takes the recipient."`
	ETRN          []Prefix `toml:"etrn_from" doc:"Networks whose clients may have the domain's queue run by ETRN (RFC 1985)."`
}

// MTASTS is the policy that is served for our own domains.
type MTASTS struct {
	Mode   string   `toml:"mode" default:"none" oneof:"none,testing,enforce" doc:"enforce asks senders to deliver only over verified TLS; testing only to report what failed. The policy is served at https://mta-sts.DOMAIN/.well-known/mta-sts.txt of every domain, on listen.https: certificates for these names belong into tls.names or tls.certificate. poczta domain dns prints the records. Before you go back to none, serve testing for max_age."`
	MaxAge Duration `toml:"max_age" default:"7d" min:"1d" max:"365d" doc:"How long senders keep the policy."`
	MX     []string `toml:"mx" example:"mx1.example.org, *.example.net" doc:"Hosts that mail may go to, as patterns of RFC 8461 §4.1. Empty means the hostname alone."`
}

// TLSReports says who reports, and who is told.
type TLSReports struct {
	Send  bool   `toml:"send" default:"true" doc:"Send reports."`
	From  string `toml:"from" example:"postmaster@example.org" doc:"Address that reports come from; its domain must have DKIM keys. Empty means the postmaster of the first domain."`
	To    string `toml:"to" example:"mailto:tls-reports@example.org" doc:"Where others shall send reports about our domains, a mailto: or https: URI for the record that poczta domain dns prints. Empty means the postmaster of each domain, and /tlsrpt on listen.https where that is served."`
	HTTPS bool   `toml:"https" default:"true" doc:"Take reports about our domains by HTTPS too, where listen.https serves anything. Nothing proves who brings them: a copy that comes by mail, signed, takes their place."`
}
