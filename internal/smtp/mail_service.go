package smtp

import (
	"strconv"
	"strings"
	"time"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/verp"
)

// By is the BY parameter of MAIL as it was given (RFC 2852 §4). The zero value is
// none.
type By struct {
	Time  time.Duration // whole seconds, from the MAIL command; positive with ByReturn
	Mode  envelope.ByMode
	Trace bool
}

// maxSecondsDigits is how many digits HOLDFOR and BY have at most (RFC 4865,
// RFC 2852 §4): 31 years.
const maxSecondsDigits = 9

// setService takes a parameter that asks for something on the message's way: TLS,
// a time to hold it, a time to deliver it by, a priority.
func (m *Mail) setService(p param, ext Extensions) error {
	switch {
	case p.keyword == "REQUIRETLS" && ext&ExtRequireTLS != 0:
		if p.has { // RFC 8689 §2
			return badValue(p, "without a value")
		}
		m.RequireTLS = true
	case p.keyword == "HOLDFOR" && ext&ExtFutureRelease != 0:
		return m.setHoldFor(p)
	case p.keyword == "HOLDUNTIL" && ext&ExtFutureRelease != 0:
		return m.setHoldUntil(p)
	case p.keyword == "BY" && ext&ExtDeliverBy != 0:
		return m.setBy(p)
	case p.keyword == "MT-PRIORITY" && ext&ExtPriority != 0:
		return m.setPriority(p)
	case p.keyword == verpKeyword && ext&ExtXVERP != 0:
		return m.setVERP(p)
	default:
		return unknownParam(p)
	}
	return nil
}

// setHoldFor takes HOLDFOR, seconds without a leading zero (RFC 4865).
func (m *Mail) setHoldFor(p param) error {
	n, ok := parseSeconds(p.value)
	if !ok || p.value[0] == '0' {
		return badValue(p, "seconds from 1 to 999999999")
	}
	m.HoldFor = n
	return m.checkHold()
}

// setHoldUntil takes HOLDUNTIL, an RFC 3339 date-time (RFC 4865 with erratum 2040).
func (m *Mail) setHoldUntil(p param) error {
	t, err := time.Parse(time.RFC3339, strings.ToUpper(p.value))
	if err != nil || t.Year() < 1 || strings.Contains(p.value, ",") {
		return badValue(p, "a date and time as in 2026-12-24T18:00:00Z")
	}
	m.HoldUntil = t.UTC()
	return m.checkHold()
}

// checkHold refuses HOLDFOR and HOLDUNTIL together (RFC 4865).
func (m *Mail) checkHold() error {
	if m.HoldFor != 0 && !m.HoldUntil.IsZero() {
		return Refuse(501, 5, 4, "HOLDFOR and HOLDUNTIL exclude each other")
	}
	return nil
}

// setBy takes BY: seconds, which may be negative, and what is to happen when they
// are over (RFC 2852 §4). A message that would have to be given back at once can't
// be sent.
func (m *Mail) setBy(p param) error {
	const want = "seconds, a semicolon, R or N, and perhaps T"
	digits, mode, ok := strings.Cut(p.value, ";")
	negative := strings.HasPrefix(digits, "-")
	if negative || strings.HasPrefix(digits, "+") {
		digits = digits[1:]
	}
	n, valid := parseSeconds(digits)
	if !ok || !valid {
		return badValue(p, want)
	}
	if negative {
		n = -n
	}
	m.By = By{Time: n}
	switch strings.ToUpper(mode) {
	case "R", "RT":
		m.By.Mode = envelope.ByReturn
	case "N", "NT":
		m.By.Mode = envelope.ByNotify
	default:
		return badValue(p, want)
	}
	m.By.Trace = len(mode) == 2
	if m.By.Mode == envelope.ByReturn && n <= 0 {
		return badValue(p, "more than 0 seconds with mode R")
	}
	return nil
}

// setPriority takes MT-PRIORITY, one digit with a sign before it unless it is
// positive or zero (RFC 6710 §7; the code is that of §4.1).
func (m *Mail) setPriority(p param) error {
	n, err := strconv.Atoi(p.value)
	if err != nil || n < envelope.MinPriority || n > envelope.MaxPriority || p.value != strconv.Itoa(n) {
		return Refuse(501, 5, 2, "Parameter MT-PRIORITY must be a number from -9 to 9")
	}
	m.Priority, m.HasPriority = n, true
	return nil
}

// verpKeyword is the parameter XVERP. Its value may hold "=", against the grammar of
// esmtp-value (RFC 5321 §4.1.2): Postfix has it so.
const verpKeyword = "XVERP"

// setVERP takes XVERP, alone or with the two delimiters.
func (m *Mail) setVERP(p param) error {
	m.VERP = verp.Default
	if p.has {
		m.VERP = verp.Delimiters(p.value)
	}
	if !m.VERP.Valid() {
		return badValue(p, "without a value, or two delimiters of "+verp.Marks)
	}
	return nil
}

// parseSeconds reads 1*9DIGIT.
func parseSeconds(s string) (time.Duration, bool) {
	n, ok := parseSize(s)
	return time.Duration(n) * time.Second, ok && len(s) <= maxSecondsDigits
}
