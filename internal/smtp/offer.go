package smtp

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxMechanisms bounds the SASL mechanisms that are kept of an offer.
const maxMechanisms = 32

// Offer is what a server offers in its reply to EHLO or LHLO (RFC 5321 §4.1.1.1). The
// zero value is a server that knows HELO only.
type Offer struct {
	Name                string        // the domain with which the server greets, as it wrote it
	Size                int64         // SIZE, octets; 0 without a fixed limit (RFC 1870)
	HasSize             bool          // SIZE was offered
	Pipelining          bool          // RFC 2920
	EightBitMIME        bool          // RFC 6152
	SMTPUTF8            bool          // RFC 6531
	Chunking            bool          // RFC 3030; BINARYMIME is ignored
	DSN                 bool          // RFC 3461
	EnhancedStatusCodes bool          // RFC 2034
	StartTLS            bool          // RFC 3207
	RequireTLS          bool          // RFC 8689
	ETRN                bool          // RFC 1985
	Auth                []string      // SASL mechanisms, upper case, in the server's order (RFC 4954)
	FutureRelease       FutureRelease // RFC 4865
	DeliverBy           bool          // RFC 2852
	MinDeliverBy        time.Duration // the least time of BY with mode R; 0 when not told
	Priority            bool          // MT-PRIORITY (RFC 6710)
	PriorityProfile     string        // upper case; "" when not told
	MailMax             int           // LIMITS MAILMAX, transactions of a session; 0 when not told (RFC 9422)
	RcptMax             int           // LIMITS RCPTMAX, recipients of a transaction; 0 when not told
	Repeats             time.Duration // X-POCZTA-REPEATS: how long a letter that an account hands in again is recognised; 0 when not offered
}

// FutureRelease is the limit of FUTURERELEASE (RFC 4865 §4).
type FutureRelease struct {
	Offered bool
	Max     time.Duration // the longest HOLDFOR
	Until   time.Time     // the latest HOLDUNTIL; zero when malformed
}

// RepeatsKeyword is our own extension (RFC 5321 §2.2.2, by agreement between Poczta's server and
// client). Its argument is a number of seconds: a letter that an authenticated account hands in
// again within that time, octet for octet and for the same recipient, gets its positive reply and
// makes no second copy, so that a client that never saw the final reply may send it once more.
const RepeatsKeyword = "X-POCZTA-REPEATS"

// ParseOffer reads the text of a positive reply to EHLO or LHLO: the greeting's line
// and a line for each extension. What it does not know or can't read is left out, as
// RFC 5321 §4.1.1.1 asks.
func ParseOffer(text string) Offer {
	greeting, rest, _ := strings.Cut(text, "\n")
	name, _, _ := strings.Cut(strings.TrimSpace(greeting), " ")
	o := Offer{Name: name}
	for line := range strings.SplitSeq(rest, "\n") {
		o.set(line)
	}
	return o
}

// set takes one ehlo-line.
func (o *Offer) set(line string) {
	word, arg, _ := strings.Cut(strings.TrimSpace(line), " ")
	word, arg = strings.ToUpper(word), strings.TrimSpace(arg)
	if mechanism, ok := strings.CutPrefix(word, "AUTH="); ok { // drafts before RFC 2554
		o.addMechanisms(mechanism + " " + arg)
		return
	}
	switch word {
	case "SIZE":
		o.HasSize = true
		if n, ok := parseSize(arg); ok {
			o.Size = n
		}
	case "PIPELINING":
		o.Pipelining = true
	case "8BITMIME":
		o.EightBitMIME = true
	case "SMTPUTF8":
		o.SMTPUTF8 = true
	case "CHUNKING":
		o.Chunking = true
	case "DSN":
		o.DSN = true
	case "ENHANCEDSTATUSCODES":
		o.EnhancedStatusCodes = true
	case "STARTTLS":
		o.StartTLS = true
	case "REQUIRETLS":
		o.RequireTLS = true
	case "ETRN":
		o.ETRN = true
	case "AUTH":
		o.addMechanisms(arg)
	case RepeatsKeyword:
		o.Repeats, _ = seconds(arg)
	default:
		o.setLimits(word, arg)
	}
}

// setLimits takes the keywords whose argument is more than a number.
func (o *Offer) setLimits(word, arg string) {
	switch word {
	case "FUTURERELEASE": // RFC 4865 §4: max-future-release-interval SP max-future-release-date-time
		interval, date, _ := strings.Cut(arg, " ")
		n, ok := seconds(interval)
		until, err := time.Parse(time.RFC3339, strings.TrimSpace(date))
		if err != nil {
			until = time.Time{}
		}
		o.FutureRelease = FutureRelease{Offered: ok, Max: n, Until: until}
	case "DELIVERBY": // RFC 2852 §3: [min-by-time] *( ',' extension-token )
		o.DeliverBy = true
		least, _, _ := strings.Cut(arg, ",")
		o.MinDeliverBy, _ = seconds(strings.TrimSpace(least))
	case "MT-PRIORITY":
		o.Priority = true
		o.PriorityProfile = strings.ToUpper(arg)
	case "LIMITS": // RFC 9422 §3
		for limit := range strings.FieldsSeq(arg) {
			key, value, _ := strings.Cut(limit, "=")
			n, err := strconv.ParseUint(value, 10, 31)
			if err != nil || len(value) > 6 {
				continue
			}
			switch strings.ToUpper(key) {
			case "MAILMAX":
				o.MailMax = int(n)
			case "RCPTMAX":
				o.RcptMax = int(n)
			}
		}
	}
}

// addMechanisms takes the argument of AUTH; a mechanism is listed once.
func (o *Offer) addMechanisms(arg string) {
	for m := range strings.FieldsSeq(strings.ToUpper(arg)) {
		if len(o.Auth) < maxMechanisms && len(m) <= 20 && !slices.Contains(o.Auth, m) { // RFC 4422 §3.1: 1–20 characters
			o.Auth = append(o.Auth, m)
		}
	}
}

// seconds reads a number of seconds, at most 9 digits (RFC 2852 §4, RFC 4865 §5).
func seconds(s string) (time.Duration, bool) {
	n, ok := parseSize(s)
	if !ok || len(s) > 9 {
		return 0, false
	}
	return time.Duration(n) * time.Second, true
}
