package config

// Verify says how senders are verified.
type Verify struct {
	Enabled        bool         `toml:"enabled" default:"true" doc:"Verify who sends each message that comes in: SPF, DKIM, DMARC, ARC, and the host's name. The result is written into Authentication-Results."`
	DMARC          string       `toml:"dmarc" default:"rfc9989" oneof:"rfc9989,rfc7489" doc:"The standard of DMARC: rfc9989 finds a domain's policy by walking up the tree of DNS; rfc7489, the older one, by the public suffix list, and knows pct."`
	MinRSABits     int          `toml:"min_rsa_bits" default:"1024" min:"1024" max:"4096" doc:"The shortest RSA key whose DKIM signature counts (RFC 8301 §3.2)."`
	AcceptLength   bool         `toml:"accept_length" default:"false" doc:"Let DKIM signatures count that leave out a part of the body (l=). Anybody may have added that part."`
	TrustedSealers []string     `toml:"trusted_sealers" example:"lists.example.net, .example.com" doc:"Domains whose word on the sender is believed when they seal a message last (ARC): mailing lists and forwarders that you know. .example.com stands for all its subdomains."`
	Trusted        []Prefix     `toml:"trusted" example:"192.0.2.25" doc:"Networks of hosts that verify senders before us, such as a gateway in front: their address says nothing, and what they hand over is looked at for what it says alone. Programs of this host count as such."`
	Timeout        Duration     `toml:"timeout" default:"20s" min:"1s" max:"5m" doc:"How long the look-ups may take beside the body, and behind it once more."`
	Unavailable    string       `toml:"unavailable" default:"accept" oneof:"accept,defer" doc:"What happens when DNS does not answer what decides about the sender: accept goes by what is known; defer answers 451, and the sender comes again."`
	Exceptions     []VerifyRule `toml:"exception" doc:"Who may use our own domains in From without a proof: services that send in our name. Write [[verify.exception]] once for each. Every kind of condition that is given must hold, one value of each suffices; at least one of networks, hosts, reverse_paths and signers is needed."`
	Overrides      []VerifyRule `toml:"override" doc:"Mail to which the DMARC policy of its domain is not applied. Write [[verify.override]] once for each; conditions are as in verify.exception."`
}

// VerifyRule names messages.
type VerifyRule struct {
	Name         string   `toml:"name" required:"true" example:"newsletter service" doc:"Its name, for the trace and for reports."`
	From         []string `toml:"from" example:"example.org, .example.org" doc:"Domains in From."`
	Networks     []Prefix `toml:"networks" example:"192.0.2.0/28" doc:"Networks that hold the host's address."`
	Hosts        []string `toml:"hosts" example:".mailer.example" doc:"Verified names of the host."`
	ReversePaths []string `toml:"reverse_paths" example:"bounce@mailer.example, @mailer.example" doc:"Reverse-paths; they count when they are proven."`
	Signers      []string `toml:"signers" example:"mailer.example" doc:"Domains of a DKIM signature that passes."`
	Lists        []string `toml:"lists" example:"talk.lists.example.net" doc:"List-Id of mailing lists, which anybody can write."`
}

// DMARCReports says who reports about DMARC.
type DMARCReports struct {
	Send bool     `toml:"send" default:"true" doc:"Count what is verified, and send each day's reports to the domains that ask for them. Reports that others send about our domains are read and kept whatever this says, as long as any filter looks at what comes in: poczta domain reports."`
	From string   `toml:"from" example:"postmaster@example.org" doc:"Address that reports come from; its domain must have DKIM keys. Empty means the postmaster of the first domain."`
	Keep Duration `toml:"keep" default:"90d" min:"1d" doc:"How long reports that others sent are kept."`
}

// Spam says what is done with mail that nobody wants.
type Spam struct {
	Enabled    bool   `toml:"enabled" default:"true" doc:"Gather evidence, and act on its sum, the score. Off, only what proves the sender and what is dangerous counts."`
	Tag        Points `toml:"tag" default:"3" min:"0" max:"1000" doc:"Points from which on a message is marked by header fields. For this and the other thresholds 0 means never."`
	Junk       Points `toml:"junk" default:"6" min:"0" max:"1000" doc:"Points from which on it goes into the folder Junk."`
	Quarantine Points `toml:"quarantine" default:"10" min:"0" max:"1000" doc:"Points from which on it is set apart in the folder Quarantine."`
	Refuse     Points `toml:"refuse" default:"15" min:"0" max:"1000" doc:"Points from which on it is refused."`
	Grey       Points `toml:"grey" default:"4" min:"0" max:"1000" doc:"Points from which on a host that we do not know is asked to come again."`
	Second     Points `toml:"second" default:"3" min:"0" max:"1000" doc:"Points of evidence of other kinds that a DMARC policy of reject needs to refuse; with fewer the message is set apart (RFC 9989 §5.4)."`
	Wish       string `toml:"wish" default:"junk" oneof:"junk,quarantine,tag,deliver" doc:"What becomes of spam that is not refused, for accounts that have chosen nothing: junk goes by the thresholds above, quarantine sets apart what else would go into the folder Junk (for people who read by POP3 and see no folders), tag marks it in the INBOX, deliver does not even mark it."`

	Classifier bool     `toml:"classifier" default:"true" doc:"Learn from what people mark as spam and as wanted, and judge by it."`
	Greylist   bool     `toml:"greylist" default:"true" doc:"Ask suspicious hosts that we do not know to come again (451), see grey."`
	GreyDelay  Duration `toml:"grey_delay" default:"3m" min:"1s" max:"1h" doc:"How long they must wait."`
	Reputation bool     `toml:"reputation" default:"true" doc:"Remember how networks, proven domains and addresses have behaved, and whom each account writes to."`
	TrainSpam  string   `toml:"train_spam" default:"spam" doc:"Local-part, in all our domains, to which people forward spam as attachments so that the filters learn. An account or alias of that name wins; - is none."`
	TrainHam   string   `toml:"train_ham" default:"ham" doc:"The same for wanted mail that was taken for spam."`
	Probing    bool     `toml:"probing" default:"true" doc:"Put off hosts that ask for many recipients that do not exist."`

	Weights []SpamWeight `toml:"weight" doc:"Points of a piece of evidence in place of the server's own; write [[spam.weight]] once for each. docs/filtering.md has the table."`
	Lists   []SpamList   `toml:"list" doc:"A DNS list of hosts or domains (RFC 5782); write [[spam.list]] once for each. None is asked by default: public lists have terms of use, often only for small servers with name servers of their own, and learn who writes to you. Read the terms first."`
}

// SpamWeight is the points of one piece of evidence.
type SpamWeight struct {
	Name   string `toml:"name" required:"true" example:"iprev_fail" doc:"The evidence, as the trace calls it."`
	Points Points `toml:"points" required:"true" min:"-100" max:"100" example:"1.5" doc:"Its points, towards spam when positive."`
}

// SpamList is a DNS list.
type SpamList struct {
	Zone    string           `toml:"zone" required:"true" example:"dnsbl.example.net" doc:"The list's domain, with the key that some lists give you in front of it."`
	Kind    string           `toml:"kind" default:"block" oneof:"block,allow,uri,domain" doc:"block has hosts that send spam, allow those that do not, uri has hosts that links in spam lead to, domain has domains that send spam."`
	Weight  Points           `toml:"weight" default:"1" min:"0.01" max:"100" doc:"Factor of its evidence."`
	Reason  bool             `toml:"reason" default:"false" doc:"Ask for the reason too (TXT), and show it."`
	Test    string           `toml:"test" example:"127.0.0.2" doc:"An entry that the list must have; one that has it not is left alone. Empty means that of RFC 5782 §5."`
	NoTest  bool             `toml:"no_test" default:"false" doc:"The list has no test entries and is never left alone."`
	Answers []SpamListAnswer `toml:"answer" doc:"What the addresses that the list answers with mean; write [[spam.list.answer]] once for each. The first that fits counts; with any given, an answer that none fits is no listing."`
}

// SpamListAnswer is the meaning of an answer.
type SpamListAnswer struct {
	Network Prefix `toml:"network" required:"true" example:"127.0.0.2" doc:"Addresses within 127.0.0.0/8."`
	Label   string `toml:"label" example:"open proxy" doc:"What it means, in a word or two."`
	Weight  Points `toml:"weight" default:"0" min:"0" max:"100" doc:"Factor of its evidence. 0 is that of the list."`
	Ignore  bool   `toml:"ignore" default:"false" doc:"It is no listing that counts."`
}

// Attachments says what may be attached.
type Attachments struct {
	Enabled    bool     `toml:"enabled" default:"true" doc:"Look at attachments by their true type, into archives too."`
	Forbidden  []string `toml:"forbidden" example:"exe, scr, js" doc:"Extensions of files that set a message apart when it comes in, and have it refused when one of our own people sends it; by name and by true type, also in archives. Empty means the server's list of programs and scripts; - alone forbids nothing."`
	Suspicious []string `toml:"suspicious" example:"iso, one" doc:"Extensions of files that add points. Empty means the server's list; - alone suspects nothing."`
	Depth      int      `toml:"depth" default:"0" min:"0" max:"20" doc:"How many archives within archives are entered. 0 is the server's own bound."`
	Files      int      `toml:"files" default:"0" min:"0" max:"1000000" doc:"Files of one message that are looked at, those in archives included. 0 is the server's own bound."`
	Unpacked   Size     `toml:"unpacked" default:"0" max:"16GiB" doc:"Octets of one message's archives that are unpacked. 0 is the server's own bound."`
	Bomb       string   `toml:"uninspected" default:"quarantine" oneof:"score,quarantine,refuse" doc:"What an archive does that is nested deeper, or unpacks to more, than these bounds let it be looked at: it may be a bomb, or hide something. score only adds points, quarantine sets the message apart, refuse refuses it; of what our own people send both refuse. Encrypted archives have evidence of their own."`
}

// Clamd is the virus scanner.
type Clamd struct {
	Address   string   `toml:"address" example:"unix:/run/clamav/clamd.ctl" doc:"Where clamd listens: unix:FILE, or a host with a port. Empty: no message is scanned."`
	Incoming  bool     `toml:"incoming" default:"true" doc:"Scan what comes in."`
	Outgoing  bool     `toml:"outgoing" default:"true" doc:"Scan what our own people send."`
	WhenDown  string   `toml:"when_down" default:"defer" oneof:"defer,accept,quarantine" doc:"What happens while clamd can't scan: defer answers 451, accept takes the message unscanned, quarantine sets it apart."`
	WhenLarge string   `toml:"when_large" default:"accept" oneof:"defer,accept,quarantine" doc:"What happens to a message that is too large for it."`
	Timeout   Duration `toml:"timeout" default:"1m" min:"1s" max:"10m" doc:"How long one scan may take, waiting for its turn included."`
	Scans     int      `toml:"scans" default:"8" min:"1" max:"1000" doc:"Scans at one time. clamd's MaxThreads should be above it."`
	MaxSize   Size     `toml:"max_size" default:"0" max:"4GiB" doc:"The largest message that is scanned; clamd's StreamMaxLength should not be below. 0 leaves it to clamd."`
}

// Rspamd is another filter.
type Rspamd struct {
	URL          string   `toml:"url" example:"http://127.0.0.1:11333" doc:"Rspamd's worker that checks: an http or https URL, or unix:FILE. Empty: it is not asked."`
	PasswordFile string   `toml:"password_file" example:"/etc/poczta/rspamd.password" doc:"File whose first line is the password of the workers. Empty: none."`
	Learn        bool     `toml:"learn" default:"false" doc:"Teach Rspamd too what people mark, move and release, in the background: at its controller. What one account teaches is 20 messages a day at most."`
	Controller   string   `toml:"controller" example:"http://127.0.0.1:11334" doc:"Rspamd's worker that learns, in the forms of url. Needed for learn."`
	Obey         bool     `toml:"obey" default:"false" doc:"Rspamd's action counts as what to do at least. Off, its score alone counts."`
	Scale        Points   `toml:"scale" default:"1" min:"0.01" max:"100" doc:"Its points times this are ours."`
	Incoming     bool     `toml:"incoming" default:"true" doc:"Ask about what comes in."`
	Outgoing     bool     `toml:"outgoing" default:"false" doc:"Ask about what our own people send."`
	WhenDown     string   `toml:"when_down" default:"accept" oneof:"defer,accept,quarantine" doc:"What happens while it does not answer, as in clamd.when_down."`
	WhenLarge    string   `toml:"when_large" default:"accept" oneof:"defer,accept,quarantine" doc:"What happens to a message that is too large for it."`
	MaxSize      Size     `toml:"max_size" default:"0" max:"1GiB" doc:"The largest message that is sent. 0 is the server's own bound."`
	Timeout      Duration `toml:"timeout" default:"30s" min:"1s" max:"5m" doc:"How long one question may take."`
}

// Milter is one milter.
type Milter struct {
	Name     string   `toml:"name" required:"true" example:"opendkim" doc:"Its name in the log and in the trace."`
	Address  string   `toml:"address" required:"true" example:"unix:/run/opendkim/opendkim.sock" doc:"Where it listens: unix:FILE, or a host with a port; inet:PORT@HOST is understood too."`
	Incoming bool     `toml:"incoming" default:"true" doc:"Show it what comes in."`
	Outgoing bool     `toml:"outgoing" default:"false" doc:"Show it what our own people send."`
	WhenDown string   `toml:"when_down" default:"defer" oneof:"defer,accept,quarantine" doc:"What happens while it does not answer, as in clamd.when_down."`
	Connect  Duration `toml:"connect_timeout" default:"10s" min:"1s" max:"5m" doc:"How long connecting may take."`
	Reply    Duration `toml:"reply_timeout" default:"15s" min:"1s" max:"5m" doc:"How long a reply may take before the end of the message."`
	End      Duration `toml:"end_timeout" default:"1m" min:"1s" max:"10m" doc:"How long the reply to the end of the message may take."`
	Total    Duration `toml:"total_timeout" default:"3m" min:"1s" max:"10m" doc:"How long all of one message may take."`
}

// Hook is a program that is asked by HTTP.
type Hook struct {
	URL        string   `toml:"url" example:"https://filter.example.org/check" doc:"The program: an http or https URL, or unix:FILE with :/PATH behind it. It gets JSON by POST, see docs/hook.md. Empty: none is asked."`
	SecretFile string   `toml:"secret_file" example:"/etc/poczta/hook.secret" doc:"File whose first line, of 16 octets at least, is the secret that signs requests. Empty: they are not signed."`
	Send       string   `toml:"send" default:"facts" oneof:"facts,header,message" doc:"What it is given: what is known of the message, its header section too, or all of it."`
	Incoming   bool     `toml:"incoming" default:"true" doc:"Ask about what comes in."`
	Outgoing   bool     `toml:"outgoing" default:"false" doc:"Ask about what our own people send."`
	WhenDown   string   `toml:"when_down" default:"accept" oneof:"defer,accept,quarantine" doc:"What happens while it does not answer, as in clamd.when_down."`
	WhenLarge  string   `toml:"when_large" default:"accept" oneof:"defer,accept,quarantine" doc:"What happens to a message that is too large for it."`
	MaxSize    Size     `toml:"max_size" default:"25MiB" min:"1KiB" max:"1GiB" doc:"The largest message that is sent, for send = \"message\"."`
	Timeout    Duration `toml:"timeout" default:"10s" min:"100ms" max:"5m" doc:"How long one question may take."`
}

// Conduct says when an account sends unlike itself.
type Conduct struct {
	Enabled        bool     `toml:"enabled" default:"true" doc:"Watch what accounts send and from where they log in, since passwords get stolen. Numbers are for one hour, -1 switches a rule off. Actions: slow refuses for now, hold sets mail to other hosts apart until an operator has looked, refuse refuses it."`
	Fresh          int      `toml:"new_recipients" default:"100" min:"-1" max:"1000000" doc:"Recipients an account never wrote to nor heard from. Who is used to more may have twice the most of an hour within 14 days."`
	FreshAction    string   `toml:"new_recipients_action" default:"hold" oneof:"slow,hold,refuse" doc:"What happens beyond it."`
	Refused        int      `toml:"refused_recipients" default:"20" min:"-1" max:"1000000" doc:"Recipients that other servers refuse for good, when they are three of ten at least."`
	RefusedAction  string   `toml:"refused_recipients_action" default:"hold" oneof:"slow,hold,refuse" doc:"What happens beyond it."`
	Spam           int      `toml:"spam_sent" default:"5" min:"-1" max:"1000000" doc:"Messages that look like spam."`
	SpamAction     string   `toml:"spam_sent_action" default:"hold" oneof:"slow,hold,refuse" doc:"What happens beyond it."`
	Networks       int      `toml:"login_networks" default:"10" min:"-1" max:"1000000" doc:"Networks that logins come from."`
	NetworksAction string   `toml:"login_networks_action" default:"slow" oneof:"slow,hold,refuse" doc:"What happens beyond it."`
	For            Duration `toml:"for" default:"7d" min:"1m" max:"365d" doc:"How long hold and refuse last, unless an operator releases the account. Slow lasts an hour."`
}

// Quarantine says how long mail stays set apart.
type Quarantine struct {
	Keep     Duration `toml:"keep" default:"30d" min:"1d" max:"3650d" doc:"After what time a message in Quarantine or Junk is removed; it can be restored for store.retention from then on."`
	Digest   bool     `toml:"digest" default:"true" doc:"Tell people once a day what was set apart from them, with ways to release it. People may choose otherwise."`
	DigestAt Duration `toml:"digest_at" default:"7h" min:"1m" max:"23h" doc:"When, after midnight of this host's clock."`
}
