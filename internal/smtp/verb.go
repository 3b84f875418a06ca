package smtp

import "strings"

// Verb names a command.
type Verb uint8

// The commands. VerbUnknown is every other word.
const (
	VerbUnknown Verb = iota
	EHLO
	HELO
	LHLO
	MAIL
	RCPT
	DATA
	BDAT
	RSET
	NOOP
	QUIT
	VRFY
	EXPN
	HELP
	STARTTLS
	AUTH
	XCLIENT
	ETRN
	verbs // how many there are
)

// NumVerbs is the number of verbs, VerbUnknown included: the length of a table indexed by Verb.
const NumVerbs = int(verbs)

var verbNames = [NumVerbs]string{"unknown", "EHLO", "HELO", "LHLO", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP",
	"QUIT", "VRFY", "EXPN", "HELP", "STARTTLS", "AUTH", "XCLIENT", "ETRN"}

// String returns the command's name, "unknown" for VerbUnknown.
func (v Verb) String() string {
	if int(v) < len(verbNames) {
		return verbNames[v]
	}
	return verbNames[VerbUnknown]
}

// parseVerb knows a command's name in any case (RFC 5321 §2.4).
func parseVerb(word []byte) Verb {
	if len(word) < 4 || len(word) > 8 {
		return VerbUnknown
	}
	var up [8]byte
	for i, c := range word {
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		up[i] = c
	}
	name := up[:len(word)]
	for v := EHLO; v < verbs; v++ {
		if string(name) == verbNames[v] {
			return v
		}
	}
	return VerbUnknown
}

// httpWords begin what web browsers and scanners send to a mail port.
var httpWords = [...]string{"GET ", "POST ", "HEAD ", "PUT ", "OPTIONS ", "CONNECT ", "DELETE ", "TRACE ", "PATCH ", "HOST: ", "USER-AGENT: "}

// IsForeign reports whether line can't come from an SMTP client but is HTTP or the
// beginning of a TLS handshake: a session that goes on would let a web page be
// abused to send mail.
func IsForeign(line []byte) bool {
	if len(line) >= 2 && line[0] == 0x16 && line[1] == 0x03 {
		return true
	}
	for _, w := range httpWords {
		if len(line) >= len(w) && strings.EqualFold(string(line[:len(w)]), w) {
			return true
		}
	}
	return false
}
