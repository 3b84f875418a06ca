// Package config is the server's configuration: one TOML file whose every key is
// documented in the struct tags of Config, from which docs/configuration.md is
// generated. Parse refuses unknown keys and reports every problem it finds, each
// with file, line, key and what to do.
package config

import (
	"path/filepath"
)

// DefaultFile is where the configuration lies when neither --config nor
// $POCZTA_CONFIG says otherwise.
const DefaultFile = "/etc/poczta/poczta.toml"

// Config is a whole configuration. Obtain one by Load, Parse or Default; a
// Config in hand has passed every check that needs nothing but the file.
type Config struct {
	Hostname     string       `toml:"hostname" required:"true" example:"mail.example.org" doc:"The name of this host: in the SMTP greeting, in Received fields, in the certificate. It must have an address record in DNS, and the address's reverse name should be it."`
	Data         string       `toml:"data" default:"/var/lib/poczta" doc:"The folder of everything that lasts: database, message segments, keys, the control socket. One server process owns it."`
	Language     string       `toml:"language" default:"en" oneof:"en,pl" doc:"Language of texts that the server writes to people who have chosen none."`
	Listen       Listen       `toml:"listen" doc:"Where the services listen. An entry is a port (25), an address with a port (127.0.0.1:24, [::1]:24), or a UNIX socket (unix:lmtp.sock, relative to the data folder). A port alone listens on every host of listen.hosts. An empty list turns a service off."`
	TLS          TLS          `toml:"tls" doc:"Certificates."`
	SMTP         SMTP         `toml:"smtp" doc:"Receiving mail by SMTP, on every port."`
	Submission   Submission   `toml:"submission" doc:"Mail from our own people (ports 587 and 465)."`
	POP3         POP3         `toml:"pop3" doc:"Handing out mail by POP3."`
	Auth         Auth         `toml:"auth" doc:"Authentication, for SMTP and POP3 alike."`
	Proxy        Proxy        `toml:"proxy" doc:"Load balancers that speak the PROXY protocol, version 1 or 2."`
	XClient      XClient      `toml:"xclient" doc:"SMTP peers that may tell a client's true address by XCLIENT."`
	Limits       Limits       `toml:"limits" doc:"Bounds of connections, rates and memory. Peers on loopback are spared the limits by address."`
	Accounts     Accounts     `toml:"accounts" doc:"What holds for all accounts."`
	Store        Store        `toml:"store" doc:"Where mail is kept."`
	DNS          DNS          `toml:"dns" doc:"Name servers."`
	DKIM         DKIM         `toml:"dkim" doc:"Signatures of the mail that our own people and this server send (RFC 6376). The keys lie in the database: poczta domain add makes them, poczta domain dns prints their DNS records, poczta domain rotate changes them."`
	Relay        Relay        `toml:"relay" doc:"Sending mail to other hosts."`
	MTASTS       MTASTS       `toml:"mta_sts" doc:"What we ask of other servers for our own domains: TLS with a certificate that they can verify (RFC 8461)."`
	Autoconfig   Autoconfig   `toml:"autoconfig" doc:"How mail programs find this server by themselves. poczta domain dns prints the records that lead here; docs/client-settings.md tells how it goes together."`
	TLSReports   TLSReports   `toml:"tls_reports" doc:"Daily reports about TLS (RFC 8460), to domains that ask for them."`
	Verify       Verify       `toml:"verify" doc:"Verifying who sends what comes in."`
	DMARCReports DMARCReports `toml:"dmarc_reports" doc:"Daily reports about DMARC (RFC 9990), to domains that ask for them, and those that others send about ours."`
	Spam         Spam         `toml:"spam" doc:"Mail that nobody wants."`
	Attachments  Attachments  `toml:"attachments" doc:"What is attached to mail."`
	Clamd        Clamd        `toml:"clamd" doc:"ClamAV, which scans mail for viruses."`
	Rspamd       Rspamd       `toml:"rspamd" doc:"Rspamd, whose score is added to ours."`
	Milters      []Milter     `toml:"milter" doc:"Milters, programs that check and change mail; write [[milter]] once for each. They are asked in this order, and each sees what those before it changed."`
	Hook         Hook         `toml:"hook" doc:"A program of yours that is asked about each message by HTTP."`
	Conduct      Conduct      `toml:"conduct" doc:"Accounts that send unlike themselves."`
	Quarantine   Quarantine   `toml:"quarantine" doc:"Mail that is set apart."`
	Backup       Backup       `toml:"backup" doc:"Backups, made by the server every day and by poczta backup."`
	Log          Log          `toml:"log" doc:"The server's log, on standard error."`
	Metrics      Metrics      `toml:"metrics" doc:"Figures for Prometheus, and the health page."`
}

// Listen says where the services listen.
type Listen struct {
	Hosts       []string `toml:"hosts" default:"0.0.0.0, ::" doc:"IP addresses on which entries without an address listen."`
	PortBase    int      `toml:"port_base" default:"0" doc:"Added to every port of this section and of metrics.listen: with 10000, SMTP is on 10025. For tests and for hosts where another server has the standard ports."`
	SMTP        []string `toml:"smtp" default:"25" doc:"SMTP from other hosts (RFC 5321)."`
	Submission  []string `toml:"submission" default:"587" doc:"Submission with STARTTLS (RFC 6409)."`
	Submissions []string `toml:"submissions" default:"465" doc:"Submission under TLS from the first octet (RFC 8314)."`
	LMTP        []string `toml:"lmtp" default:"unix:lmtp.sock, 127.0.0.1:24" doc:"LMTP (RFC 2033) from programs of this host. It never relays. Peers beyond loopback are refused unless lmtp_from names them."`
	LMTPFrom    []Prefix `toml:"lmtp_from" doc:"Networks whose peers may use LMTP over TCP, beside loopback."`
	POP3        []string `toml:"pop3" default:"110" doc:"POP3 with STLS (RFC 1939, RFC 2595)."`
	POP3S       []string `toml:"pop3s" default:"995" doc:"POP3 under TLS from the first octet (RFC 8314)."`
	HTTP        []string `toml:"http" default:"80" doc:"HTTP for the ACME challenge; used only when tls.mode is acme."`
	HTTPS       []string `toml:"https" default:"443" doc:"HTTPS: the ACME challenge by TLS-ALPN when tls.mode is acme, the policy of mta_sts, and settings for mail programs (autoconfig). Where one of these is on, the pages of the digest about mail that was set apart are served too, and reports about TLS taken."`
}

// TLS says where certificates come from.
type TLS struct {
	Mode         string        `toml:"mode" default:"self-signed" oneof:"acme,self-signed,files" doc:"acme obtains certificates from a public authority by itself; self-signed makes one once and keeps it in the data folder (other mail servers accept it, people's programs warn); files reads the pairs of tls.certificate and reads them again on SIGHUP."`
	MinVersion   string        `toml:"min_version" default:"1.2" oneof:"1.2,1.3" doc:"The lowest version of TLS that is spoken."`
	Names        []string      `toml:"names" example:"mail.example.org, mx.example.com" doc:"Host names for which certificates are obtained or made. Empty means the hostname alone."`
	Certificates []Certificate `toml:"certificate" doc:"A certificate of mode files; write [[tls.certificate]] once for each. The client's server name (SNI) chooses; the first is for clients that name none."`
	ACME         ACME          `toml:"acme" doc:"The ACME authority."`
	ClientCA     string        `toml:"client_ca" example:"/etc/poczta/people-ca.pem" doc:"PEM file of the authority whose client certificates may log in by SASL EXTERNAL. Empty: client certificates are not asked for."`
}

// Certificate is one pair of files.
type Certificate struct {
	Cert string `toml:"cert" required:"true" example:"/etc/ssl/mail.pem" doc:"PEM file with the certificate and its chain."`
	Key  string `toml:"key" required:"true" example:"/etc/ssl/mail.key" doc:"PEM file with the private key."`
}

// ACME names the authority of mode acme (RFC 8555).
type ACME struct {
	Email     string `toml:"email" example:"hostmaster@example.org" doc:"Where the authority may write about the certificates."`
	Directory string `toml:"directory" default:"https://acme-v02.api.letsencrypt.org/directory" doc:"Directory URL of the authority."`
	Root      string `toml:"root" example:"/etc/poczta/acme-root.pem" doc:"PEM file of the root that signs the authority's own HTTPS certificate, for a private authority. Empty means the system's roots."`
}

// SMTP bounds the receiving side.
type SMTP struct {
	MaxSize            Size     `toml:"max_size" default:"50MiB" min:"64KiB" max:"1GiB" doc:"The largest message accepted, announced by SIZE (RFC 1870)."`
	MaxRecipients      int      `toml:"max_recipients" default:"1000" min:"100" max:"100000" doc:"Recipients of one transaction. RFC 5321 §4.5.3.1.8 asks for at least 100."`
	CommandTimeout     Duration `toml:"command_timeout" default:"5m" min:"10s" doc:"How long a session may be silent between commands (RFC 5321 §4.5.3.2.7 says 5 minutes)."`
	DataTimeout        Duration `toml:"data_timeout" default:"3m" min:"10s" doc:"How long a block of mail data may take (RFC 5321 §4.5.3.2.5 says 3 minutes)."`
	MaxErrors          int      `toml:"max_errors" default:"20" min:"1" max:"1000000" doc:"Refused commands after which a session is ended with 421."`
	Auth               bool     `toml:"auth" default:"false" doc:"Offer AUTH on port 25 too, for programs that can't be moved to 587."`
	RefuseLongLines    bool     `toml:"refuse_long_lines" default:"false" doc:"Refuse mail data with lines of more than 998 octets instead of keeping it as it is."`
	RefuseNUL          bool     `toml:"refuse_nul" default:"false" doc:"Refuse mail data with NUL octets instead of keeping it as it is."`
	RefuseUndeclared8  bool     `toml:"refuse_undeclared_8bit" default:"false" doc:"Refuse 8-bit mail data that was not declared by BODY=8BITMIME."`
	SubaddressSplitter string   `toml:"subaddress_separator" default:"+" doc:"What parts a local-part from its detail: ala+shop@ is delivered to ala@. One of the marks that may stand in an address, such as + - _ =. Empty turns subaddresses off."`
}

// Submission holds the rules for our own people's mail.
type Submission struct {
	Hosts         []SubmissionHost `toml:"host" doc:"A device that can't authenticate; write [[submission.host]] once for each."`
	ClientAddress bool             `toml:"client_address" default:"false" doc:"Write the client's address and EHLO name into Received. Off, a person's whereabouts stay private; the log has them."`
	HourlyLimit   int              `toml:"hourly_limit" default:"500" min:"1" max:"1000000000" doc:"Recipients that one account may write to in an hour."`
	DailyLimit    int              `toml:"daily_limit" default:"5000" min:"1" max:"1000000000" doc:"Recipients that one account may write to in a day."`
	Repeats       Duration         `toml:"repeats" default:"168h" min:"0s" max:"2160h" doc:"How long a letter is known that an account has handed in. A program that never saw the final reply sends it again; the same account, octets (Message-ID among them) and recipient then get 250 and no second copy. 0s takes every letter as new."`
}

// SubmissionHost is a device that may submit without authentication.
type SubmissionHost struct {
	From        []Prefix `toml:"from" required:"true" example:"192.0.2.17" doc:"The device's addresses or networks."`
	Addresses   []string `toml:"addresses" required:"true" example:"scanner@example.org" doc:"Addresses it may use as reverse-path and in From; @example.org stands for all of a domain."`
	HourlyLimit int      `toml:"hourly_limit" default:"100" min:"1" max:"1000000000" doc:"Recipients it may write to in an hour."`
}

// POP3 holds the choices of the POP3 service.
type POP3 struct {
	Exclusive  bool     `toml:"exclusive" default:"false" doc:"Lock a maildrop for one session, as RFC 1939 §4 describes, and answer [IN-USE] to others. Off, several programs may read at once."`
	LoginDelay Duration `toml:"login_delay" default:"0s" doc:"Least time between two logins of an account (RFC 2449 §6.5). 0s is none."`
	Expire     int      `toml:"expire" default:"0" min:"0" max:"36500" unit:"days" doc:"What CAPA's EXPIRE announces (RFC 2449 §6.7): the days that mail stays on the server, when your policy removes it; 0 says NEVER. The announcement removes nothing by itself."`
	Timeout    Duration `toml:"timeout" default:"10m" min:"10m" doc:"The autologout timer (RFC 1939 §3: at least 10 minutes). Nothing is deleted by it."`
}

// Auth holds what authentication is allowed.
type Auth struct {
	PlaintextFrom []Prefix `toml:"plaintext_from" example:"127.0.0.0/8" doc:"Networks whose clients may send passwords without TLS. Empty is right unless the wire can't be listened to."`
	Mechanisms    []string `toml:"mechanisms" default:"SCRAM-SHA-256-PLUS, SCRAM-SHA-256, PLAIN, LOGIN, EXTERNAL" doc:"SASL mechanisms that may be offered. PLAIN and LOGIN are offered only under TLS or to plaintext_from; EXTERNAL only with a verified client certificate."`
	Iterations    int      `toml:"iterations" default:"200000" min:"200000" max:"10000000" doc:"Iterations of SCRAM-SHA-256 for new passwords of people."`
}

// Proxy names the load balancers.
type Proxy struct {
	From []Prefix `toml:"from" example:"192.0.2.10, 192.0.2.11" doc:"Peers that must begin each connection with a PROXY header. No one else is believed."`
}

// XClient names the trusted SMTP peers.
type XClient struct {
	From []Prefix `toml:"from" example:"192.0.2.10" doc:"Peers that may use XCLIENT. It is offered to no one else."`
}

// Limits bounds what peers can cost.
type Limits struct {
	Connections           int      `toml:"connections" default:"15000" min:"1" max:"1000000" doc:"Connections at one time, of all services together. The next is answered 421 or -ERR. Where fewer files may be open (LimitNOFILE), fewer connections are taken."`
	ConnectionsPerAddress int      `toml:"connections_per_address" default:"50" min:"1" max:"1000000" doc:"Connections at one time from one address."`
	ConnectionsPerNetwork int      `toml:"connections_per_network" default:"400" min:"1" max:"1000000" doc:"Connections at one time from one network (IPv4 /24, IPv6 /64)."`
	ConnectionRate        int      `toml:"connection_rate" default:"600" min:"1" max:"1000000" unit:"per minute" doc:"New connections from one address."`
	ConnectionRateNetwork int      `toml:"connection_rate_network" default:"3000" min:"1" unit:"per minute" doc:"New connections from one network."`
	Memory                Size     `toml:"memory" default:"512MiB" min:"64MiB" doc:"Memory for the data of the whole process: the garbage collector works harder as it comes near (GOMEMLIMIT), and five eighths of it bound messages on their way in and mailbox listings. What does not fit goes to files, or is answered 421, 452 or [SYS/TEMP]. The program itself and the caches of SQLite come on top, about 40 MiB."`
	Grace                 Duration `toml:"grace" default:"30s" doc:"How long sessions may finish their transactions when the server stops."`
}

// Accounts holds what is common to accounts.
type Accounts struct {
	Quota      Size   `toml:"quota" default:"0" doc:"Quota of accounts that have none of their own. 0 is without limit."`
	Postmaster string `toml:"postmaster" example:"ala@example.org" doc:"The account that gets postmaster@ and abuse@ of every domain that has no such address. Empty: the domain's first account."`
}

// Store says where mail is kept.
type Store struct {
	Engine      string   `toml:"engine" default:"sqlite" oneof:"sqlite,postgresql" doc:"The database: sqlite is embedded, a file in the data folder; postgresql is a server, and several nodes may share it."`
	URL         string   `toml:"url" example:"postgres://poczta@db.example.org/poczta" doc:"PostgreSQL's address. A password belongs into ~/.pgpass or $PGPASSWORD rather than here."`
	Bodies      string   `toml:"bodies" default:"auto" oneof:"auto,segments,postgresql" doc:"Where messages' octets lie: segments are files in the data folder; postgresql are rows. auto is segments with sqlite and rows with postgresql. Segments with postgresql allow one node only."`
	Retention   Duration `toml:"retention" default:"14d" doc:"How long deleted mail can be restored (mailbox deleted, mailbox restore). 0s keeps it for an hour, for open sessions."`
	Reserve     Size     `toml:"reserve" default:"512MiB" doc:"Free space on the data folder's disk below which new mail is refused with 452 4.3.1, so that deletions still work."`
	SegmentSize Size     `toml:"segment_size" default:"256MiB" min:"1MiB" max:"4GiB" doc:"A segment of this size is closed and a new one begun."`
	MergeRate   Size     `toml:"merge_rate" default:"20MiB" min:"64KiB" unit:"per second" doc:"How fast segments with purged mail are rewritten."`
	TraceKept   Duration `toml:"trace_kept" default:"30d" min:"1d" doc:"How long the events of a message's way are kept."`
	FatesKept   Duration `toml:"fates_kept" default:"90d" min:"1d" doc:"How long each recipient's fate is kept."`
	Connections int      `toml:"connections" default:"0" min:"0" max:"1000" doc:"Connections to PostgreSQL, or SQLite's readers. 0 chooses by the number of processors."`
}

// DNS names the servers to ask.
type DNS struct {
	Servers []string `toml:"servers" example:"127.0.0.1, 192.0.2.53:5353" doc:"Name servers, with a port when it is not 53. Empty means those of /etc/resolv.conf."`
	Timeout Duration `toml:"timeout" default:"5s" min:"100ms" doc:"How long one question may wait for one server."`
	Trusted bool     `toml:"trusted" default:"false" doc:"The servers validate DNSSEC, and nobody can change what they answer on its way here (they run on this host, or the network to them is yours). Only then their AD bit counts and DANE is used."`
	Cache   Size     `toml:"cache" default:"8MiB" min:"64KiB" max:"1GiB" doc:"Memory for answers."`
}

// Log says how the log looks.
type Log struct {
	Level  string `toml:"level" default:"info" oneof:"debug,info,warn,error" doc:"The least important level that is written. Changed by a reload too."`
	Format string `toml:"format" default:"text" oneof:"text,json" doc:"text for people, json for programs."`
}

// Metrics says where figures are served.
type Metrics struct {
	Listen []string `toml:"listen" example:"127.0.0.1:9025" doc:"Where /metrics and /healthz are served over HTTP. Name addresses of this host's own networks only; there is no password. Empty turns it off."`
}

// Sub returns a path in the data folder.
func (c *Config) Sub(elem ...string) string {
	return filepath.Join(append([]string{c.Data}, elem...)...)
}

// ControlSocket is where a running server takes commands.
func (c *Config) ControlSocket() string { return c.Sub("control.sock") }

// LockFile is what the process that owns the data folder holds locked.
func (c *Config) LockFile() string { return c.Sub("lock") }

// BodiesInSegments reports whether messages' octets lie in files.
func (c *Config) BodiesInSegments() bool {
	return c.Store.Bodies == "segments" || c.Store.Bodies == "auto" && c.Store.Engine == "sqlite"
}

// TLSNames are the host names that certificates are for.
func (c *Config) TLSNames() []string {
	if len(c.TLS.Names) > 0 {
		return c.TLS.Names
	}
	return []string{c.Hostname}
}
