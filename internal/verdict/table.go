package verdict

//go:generate go test -run TestDocumentIsCurrent -update .

// Name names a kind of evidence; it is the key of the configuration's [spam.weights].
type Name string

// Group says of what kind evidence is.
type Group uint8

// The groups.
const (
	Authentication Group = iota // who sends
	Peer                        // the host that delivers
	Header                      // the header section
	Content                     // what the message says
	Learned                     // the classifier
	Reputation                  // what was seen before
	Preference                  // what the recipient has said
	Danger                      // viruses and dangerous attachments
	Outside                     // other filters
	Operator                    // rules of the operator
)

var groupNames = [...]string{"authentication", "peer", "header", "content", "learned", "reputation", "preference", "danger", "outside", "operator"}

// String is the group's word.
func (g Group) String() string { return groupNames[g] }

// Row says what a kind of evidence counts.
type Row struct {
	Group   Group
	Weight  float64 // points; negative speaks for the message
	Demand  Action  // least action whatever the score
	Pardons bool    // of Preference: the recipient wants it whatever the score
	Meaning string  // one sentence, for docs and the trace
}

// The names of all evidence.
const (
	IPRevPass     Name = "iprev_pass"
	IPRevFail     Name = "iprev_fail"
	IPRevGeneric  Name = "iprev_generic"
	SPFPass       Name = "spf_pass"
	SPFFail       Name = "spf_fail"
	SPFSoftFail   Name = "spf_softfail"
	SPFNone       Name = "spf_none"
	SPFPermError  Name = "spf_permerror"
	SPFHeloFail   Name = "spf_helo_fail"
	DKIMPass      Name = "dkim_pass"
	DKIMFail      Name = "dkim_fail"
	DKIMWeak      Name = "dkim_weak"
	DKIMPartial   Name = "dkim_partial"
	DMARCPass     Name = "dmarc_pass"
	DMARCFail     Name = "dmarc_fail"
	DMARCQuarant  Name = "dmarc_quarantine"
	DMARCReject   Name = "dmarc_reject"
	DMARCOverride Name = "dmarc_override"
	ARCTrusted    Name = "arc_trusted"
	ARCFail       Name = "arc_fail"
	OwnDomain     Name = "own_domain_forged"
	AuthTempError Name = "auth_temperror"

	DNSBlocked  Name = "dnsbl"
	DNSAllowed  Name = "dnswl"
	HeloBad     Name = "helo_bad"
	HeloOurs    Name = "helo_ours"
	HeloUnknown Name = "helo_unknown"
	NoReply     Name = "sender_unreachable"
	Probing     Name = "recipient_probing"
	SpamTrap    Name = "spam_trap"

	NoDate       Name = "date_missing"
	BadDate      Name = "date_odd"
	NoMessageID  Name = "message_id_missing"
	NoFrom       Name = "from_bad"
	ManyFields   Name = "fields_repeated"
	NameAddress  Name = "from_name_is_address"
	NameOurs     Name = "from_name_is_ours"
	ReplyElse    Name = "reply_to_elsewhere"
	SubjectOdd   Name = "subject_odd"
	NoTo         Name = "to_missing"
	BadHeader    Name = "header_malformed"
	MailingList  Name = "mailing_list"
	DatingFuture Name = "date_future"

	URIBlocked   Name = "uribl"
	LinkDiffers  Name = "link_differs"
	LinkAddress  Name = "link_to_address"
	LinkHidden   Name = "link_disguised"
	HTMLOnly     Name = "html_only"
	HTMLForm     Name = "html_form"
	HTMLHidden   Name = "html_hidden_text"
	ImageOnly    Name = "image_only"
	EmptyBody    Name = "body_empty"
	BadMIME      Name = "mime_malformed"
	MIMEBomb     Name = "mime_bomb"
	MixedScripts Name = "scripts_mixed"

	ClassSpam        Name = "classifier_spam"
	ClassHam         Name = "classifier_ham"
	ClassAccountSpam Name = "classifier_account_spam"
	ClassAccountHam  Name = "classifier_account_ham"

	GoodNetwork   Name = "reputation_network_good"
	BadNetwork    Name = "reputation_network_bad"
	GoodDomain    Name = "reputation_domain_good"
	BadDomain     Name = "reputation_domain_bad"
	GoodSender    Name = "reputation_sender_good"
	BadSender     Name = "reputation_sender_bad"
	FirstTime     Name = "sender_first_time"
	Correspondent Name = "correspondent"
	Greylisted    Name = "greylisted"

	Allowed        Name = "allowed"
	Blocked        Name = "blocked"
	BlockedCommon  Name = "blocked_common"
	AllowedCommon  Name = "allowed_common"
	AllowedUnsure  Name = "allowed_unverified"
	PreferenceBulk Name = "bulk_unwanted"

	Virus         Name = "virus"
	VirusHeurist  Name = "virus_heuristic"
	BadAttachment Name = "attachment_forbidden"
	OddAttachment Name = "attachment_suspicious"
	Encrypted     Name = "attachment_encrypted"
	Macros        Name = "attachment_macros"
	DoubleExt     Name = "attachment_double_extension"
	TypeDiffers   Name = "attachment_type_differs"
	Uninspected   Name = "attachment_uninspected"
	Bomb          Name = "attachment_bomb"
	FilterDown    Name = "filter_unavailable"

	Rspamd     Name = "rspamd"
	Milter     Name = "milter"
	Hook       Name = "hook"
	OutOfHabit Name = "conduct_unusual"
)

// Rows is the table: what each kind of evidence counts. docs/filtering.md is generated from
// it. Nobody writes to it.
var Rows = map[Name]Row{
	IPRevPass:     {Group: Peer, Weight: -0.2, Meaning: "The host's address has a name that leads back to it."},
	IPRevFail:     {Group: Peer, Weight: 1.2, Meaning: "The host's address has no name that leads back to it."},
	IPRevGeneric:  {Group: Peer, Weight: 1.0, Meaning: "The host's name looks like that of a dial-up or rented address."},
	SPFPass:       {Group: Authentication, Weight: -0.2, Meaning: "SPF allows the host to send for the reverse-path's domain."},
	SPFFail:       {Group: Authentication, Weight: 3.0, Meaning: "SPF says that the host must not send for the reverse-path's domain."},
	SPFSoftFail:   {Group: Authentication, Weight: 1.0, Meaning: "SPF says that the host probably must not send for the reverse-path's domain."},
	SPFNone:       {Group: Authentication, Weight: 0.4, Meaning: "The reverse-path's domain has no SPF record, or says nothing about the host."},
	SPFPermError:  {Group: Authentication, Weight: 0.8, Meaning: "The SPF record of the reverse-path's domain is broken."},
	SPFHeloFail:   {Group: Authentication, Weight: 1.5, Meaning: "SPF says that the host must not use the name it greets with."},
	DKIMPass:      {Group: Authentication, Weight: -0.4, Meaning: "A DKIM signature holds."},
	DKIMFail:      {Group: Authentication, Weight: 0.5, Meaning: "There are DKIM signatures, and none of them holds."},
	DKIMWeak:      {Group: Authentication, Weight: 0.3, Meaning: "A DKIM signature is too weak to count."},
	DKIMPartial:   {Group: Authentication, Weight: 0.8, Meaning: "A DKIM signature leaves out a part of the body (l=) and does not count."},
	DMARCPass:     {Group: Authentication, Weight: -0.8, Meaning: "SPF or DKIM proves the domain in From (DMARC)."},
	DMARCFail:     {Group: Authentication, Weight: 1.0, Meaning: "Nothing proves the domain in From, whose owner asks for no consequence."},
	DMARCQuarant:  {Group: Authentication, Weight: 3.0, Demand: Quarantine, Meaning: "Nothing proves the domain in From, whose owner asks to set such mail apart."},
	DMARCReject:   {Group: Authentication, Weight: 4.0, Demand: Quarantine, Meaning: "Nothing proves the domain in From, whose owner asks to refuse such mail."},
	DMARCOverride: {Group: Authentication, Weight: 0, Meaning: "The domain's DMARC policy was not applied."},
	ARCTrusted:    {Group: Authentication, Weight: -0.5, Meaning: "A forwarder that is trusted vouches for the sender (ARC)."},
	ARCFail:       {Group: Authentication, Weight: 0.2, Meaning: "The ARC chain is broken."},
	OwnDomain:     {Group: Authentication, Weight: 5.0, Demand: Quarantine, Meaning: "Mail from outside claims one of our own domains in From, and nothing proves it."},
	AuthTempError: {Group: Authentication, Weight: 0, Meaning: "DNS did not answer, so that the sender could not be verified."},

	DNSBlocked:  {Group: Peer, Weight: 4.0, Meaning: "A DNS blocklist names the host; its own weight is the scale."},
	DNSAllowed:  {Group: Peer, Weight: -2.0, Meaning: "A DNS allowlist names the host; its own weight is the scale."},
	HeloBad:     {Group: Peer, Weight: 1.5, Meaning: "The host greets with what is no full host name."},
	HeloOurs:    {Group: Peer, Weight: 4.0, Meaning: "The host greets with our name or address."},
	HeloUnknown: {Group: Peer, Weight: 0.8, Meaning: "The name the host greets with is not in DNS."},
	NoReply:     {Group: Peer, Weight: 2.0, Meaning: "The reverse-path's domain can't receive mail."},
	Probing:     {Group: Peer, Weight: 3.0, Meaning: "The host asked for many recipients that do not exist."},
	SpamTrap:    {Group: Peer, Weight: 6.0, Meaning: "The message goes to a spam trap too, or the host has lately written to one."},

	NoDate:       {Group: Header, Weight: 0.8, Meaning: "There is no Date field."},
	BadDate:      {Group: Header, Weight: 0.6, Meaning: "The Date field can't be read or is far in the past."},
	DatingFuture: {Group: Header, Weight: 1.0, Meaning: "The Date field is in the future."},
	NoMessageID:  {Group: Header, Weight: 0.8, Meaning: "There is no Message-ID field."},
	NoFrom:       {Group: Header, Weight: 2.5, Meaning: "The From field is missing, repeated, or can't be read."},
	ManyFields:   {Group: Header, Weight: 1.5, Meaning: "A field that may stand once is repeated."},
	NameAddress:  {Group: Header, Weight: 1.5, Meaning: "The display-name in From is an address of another domain."},
	NameOurs:     {Group: Header, Weight: 2.0, Meaning: "The display-name in From names one of our domains, which did not send."},
	ReplyElse:    {Group: Header, Weight: 0.8, Meaning: "Answers would go to a free mail service that the sender does not use."},
	SubjectOdd:   {Group: Header, Weight: 1.5, Meaning: "The Subject shouts, or hides its words."},
	NoTo:         {Group: Header, Weight: 0.2, Meaning: "No recipient is named in To or Cc."},
	BadHeader:    {Group: Header, Weight: 1.2, Meaning: "The header section has lines that are no fields, or octets that do not belong there."},
	MailingList:  {Group: Header, Weight: 0, Meaning: "The message comes through a mailing list."},

	URIBlocked:   {Group: Content, Weight: 4.0, Meaning: "A blocklist names a host that the text links to; its own weight is the scale."},
	LinkDiffers:  {Group: Content, Weight: 1.0, Meaning: "A link shows another host than it leads to."},
	LinkAddress:  {Group: Content, Weight: 1.5, Meaning: "A link leads to a bare IP address."},
	LinkHidden:   {Group: Content, Weight: 1.2, Meaning: "A link is written so that its host is hard to see."},
	HTMLOnly:     {Group: Content, Weight: 0.3, Meaning: "There is HTML and no plain text."},
	HTMLForm:     {Group: Content, Weight: 1.5, Meaning: "The HTML holds a form or a script."},
	HTMLHidden:   {Group: Content, Weight: 1.5, Meaning: "The HTML hides much text from its reader."},
	ImageOnly:    {Group: Content, Weight: 1.0, Meaning: "The message is little more than images."},
	EmptyBody:    {Group: Content, Weight: 0.6, Meaning: "The message says nothing."},
	BadMIME:      {Group: Content, Weight: 1.0, Meaning: "The MIME structure is broken so that programs read it differently."},
	MIMEBomb:     {Group: Danger, Weight: 5.0, Demand: Quarantine, Meaning: "The MIME structure is deeper or has more parts than can be looked at."},
	MixedScripts: {Group: Content, Weight: 1.5, Meaning: "Words mix letters of several scripts that look alike."},

	ClassSpam:        {Group: Learned, Weight: 7.0, Meaning: "The text is like spam that was learned here; the scale is how sure that is."},
	ClassHam:         {Group: Learned, Weight: -3.0, Meaning: "The text is like mail that was wanted here; the scale is how sure that is."},
	ClassAccountSpam: {Group: Learned, Weight: 7.0, Meaning: "The text is like what the recipient called spam."},
	ClassAccountHam:  {Group: Learned, Weight: -5.0, Meaning: "The text is like what the recipient wants."},

	GoodNetwork:   {Group: Reputation, Weight: -0.7, Meaning: "Mail from the host's network was good so far."},
	BadNetwork:    {Group: Reputation, Weight: 2.0, Meaning: "Mail from the host's network was mostly spam."},
	GoodDomain:    {Group: Reputation, Weight: -1.5, Meaning: "Mail from the proven domain was good so far."},
	BadDomain:     {Group: Reputation, Weight: 3.0, Meaning: "Mail from the proven domain was mostly spam."},
	GoodSender:    {Group: Reputation, Weight: -2.0, Meaning: "Mail from the proven address was good so far."},
	BadSender:     {Group: Reputation, Weight: 3.0, Meaning: "Mail from the proven address was mostly spam."},
	FirstTime:     {Group: Reputation, Weight: 0.3, Meaning: "The sender writes to the recipient for the first time."},
	Correspondent: {Group: Reputation, Weight: -4.0, Meaning: "The recipient has written to the sender."},
	Greylisted:    {Group: Reputation, Weight: 0, Meaning: "The message looked suspicious; the host came again, as mail servers do."},

	Allowed:        {Group: Preference, Weight: -6.0, Pardons: true, Meaning: "The recipient's allow list names the sender, who is proven."},
	AllowedUnsure:  {Group: Preference, Weight: -1.0, Meaning: "The recipient's allow list names the sender, but nothing proves that it is them."},
	Blocked:        {Group: Preference, Weight: 6.0, Demand: Quarantine, Meaning: "The recipient's block list names the sender."},
	AllowedCommon:  {Group: Preference, Weight: -6.0, Pardons: true, Meaning: "The server's allow list names the sender, who is proven."},
	BlockedCommon:  {Group: Operator, Weight: 10.0, Demand: Refuse, Meaning: "The server's block list names the sender or the host."},
	PreferenceBulk: {Group: Preference, Weight: 0, Demand: Junk, Meaning: "The recipient wants no bulk mail in the INBOX."},

	Virus:         {Group: Danger, Weight: 20, Demand: Refuse, Meaning: "The virus scanner found a virus."},
	VirusHeurist:  {Group: Danger, Weight: 5, Demand: Quarantine, Meaning: "The virus scanner suspects something by a rule of thumb."},
	BadAttachment: {Group: Danger, Weight: 8, Demand: Quarantine, Meaning: "An attachment is of a type that is forbidden here."},
	OddAttachment: {Group: Danger, Weight: 3, Meaning: "An attachment is of a type that is seldom sent for good."},
	Encrypted:     {Group: Danger, Weight: 2, Meaning: "An archive is encrypted, so that nobody could look inside."},
	Macros:        {Group: Danger, Weight: 3, Meaning: "A document holds macros, which are programs."},
	DoubleExt:     {Group: Danger, Weight: 5, Demand: Quarantine, Meaning: "An attachment's name hides that it is a program."},
	TypeDiffers:   {Group: Danger, Weight: 2, Meaning: "An attachment is not of the type it claims to be."},
	Uninspected:   {Group: Danger, Weight: 1, Meaning: "An attachment, or a part of it, could not be looked at."},
	Bomb:          {Group: Danger, Weight: 3, Meaning: "An archive is nested too deep, or unpacks to more than can be looked at; what then happens is configured."},
	FilterDown:    {Group: Danger, Weight: 0, Meaning: "A filter could not look at the message; what then happens is configured."},

	Rspamd:     {Group: Outside, Weight: 1, Meaning: "Rspamd's own score; the scale is that score, weighed as configured."},
	Milter:     {Group: Operator, Weight: 0, Meaning: "A milter's verdict."},
	Hook:       {Group: Operator, Weight: 1, Meaning: "The HTTP hook's verdict; the scale is the score it gave."},
	OutOfHabit: {Group: Danger, Weight: 0, Meaning: "The account sends unlike itself; its password may be stolen."},
}
