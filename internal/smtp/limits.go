package smtp

import "time"

// Limits of the standards. Octets count the CRLF where the source does.
const (
	// MaxCommandLine is the most octets of a command line with its CRLF: 512 of
	// RFC 5321 §4.5.3.1.4, and what the parameters of our extensions add: SIZE 26
	// (RFC 1870 §3), BODY 17 (RFC 6152 §2), SMTPUTF8 10 (RFC 6531 §3.1), DSN 1,012
	// at RCPT (RFC 3461 §4), AUTH 500 (RFC 4954 §3), REQUIRETLS 11 (RFC 8689 §2),
	// HOLDUNTIL 34 (RFC 4865), BY 17 (RFC 2852), MT-PRIORITY 15 (RFC 6710 §3).
	// Rounded up.
	MaxCommandLine = 2048
	// MaxAuthLine is the most octets of a line of an AUTH exchange (RFC 4954 §4).
	MaxAuthLine = 12288
	// MaxReplyLine is the most octets of a reply line with its CRLF (RFC 5321 §4.5.3.1.5).
	MaxReplyLine = 512
	// MaxTextLine is the most octets of a line of mail data without its CRLF
	// (RFC 5321 §4.5.3.1.6 counts 1,000 with it).
	MaxTextLine = 998
	// MinRecipients is the least number of recipients a server must take (RFC 5321 §4.5.3.1.8).
	MinRecipients = 100
	// MaxEnvelopeID is the most octets of ENVID as sent (RFC 3461 §4.4).
	MaxEnvelopeID = 100
	// MaxOriginalRecipient is the most octets of ORCPT as sent (RFC 3461 §4.2).
	MaxOriginalRecipient = 500
	// MaxSizeDigits is the most digits of SIZE and of BDAT's chunk-size (RFC 1870 §3, RFC 3030 §2).
	MaxSizeDigits = 20
	// MaxHello is the most octets of the argument of EHLO, HELO and LHLO (RFC 5321 §4.5.3.1.2).
	MaxHello = 255
)

// Timeouts of a server (RFC 5321 §4.5.3.2).
const (
	CommandTimeout   = 5 * time.Minute // RFC 5321 §4.5.3.2.7
	DataBlockTimeout = 3 * time.Minute // RFC 5321 §4.5.3.2.5
)
