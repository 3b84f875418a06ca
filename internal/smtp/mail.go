package smtp

import (
	"errors"
	"math"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/verp"
)

// Mail is a MAIL command (RFC 5321 §4.1.1.2).
type Mail struct {
	ReversePath address.ReversePath
	Size        int64           // SIZE in octets; 0 when not declared; clamped to int64 (RFC 1870)
	Body        envelope.Body   // BODY (RFC 6152)
	SMTPUTF8    bool            // RFC 6531
	Return      envelope.Return // RET (RFC 3461 §4.3)
	EnvelopeID  string          // ENVID, decoded (RFC 3461 §4.4)
	Auth        string          // AUTH, decoded: a mailbox, "<>" or "" when absent (RFC 4954 §5)
	RequireTLS  bool            // REQUIRETLS (RFC 8689)
	HoldFor     time.Duration   // HOLDFOR; 0 when absent (RFC 4865)
	HoldUntil   time.Time       // HOLDUNTIL; zero when absent, never beside HoldFor
	By          By              // BY (RFC 2852)
	Priority    int             // MT-PRIORITY (RFC 6710)
	HasPriority bool            // whether it was given
	VERP        verp.Delimiters // XVERP; "" when absent
}

// ParseMail reads the argument of MAIL, whose parameters may be those of ext. The
// error is an *Error: 501, 553 or 555 with its enhanced status code.
func ParseMail(arg string, ext Extensions) (Mail, error) {
	path, rest, err := cutPath(arg, "FROM:", 7)
	if err != nil {
		return Mail{}, err
	}
	var m Mail
	if err := eachParam(rest, func(p param) error { return m.set(p, ext) }); err != nil {
		return Mail{}, err
	}
	m.ReversePath, err = address.ParseReversePath(path, m.SMTPUTF8)
	if err != nil {
		return Mail{}, pathError(err, 7)
	}
	return m, nil
}

// set takes one parameter of MAIL.
func (m *Mail) set(p param, ext Extensions) error {
	switch {
	case p.keyword == "SIZE" && ext&ExtSize != 0:
		return m.setSize(p)
	case p.keyword == "BODY" && ext&Ext8BitMIME != 0:
		return m.setBody(p)
	case p.keyword == "SMTPUTF8" && ext&ExtSMTPUTF8 != 0:
		if p.has {
			return badValue(p, "without a value")
		}
		m.SMTPUTF8 = true
	case p.keyword == "RET" && ext&ExtDSN != 0:
		switch {
		case strings.EqualFold(p.value, "FULL"):
			m.Return = envelope.ReturnFull
		case strings.EqualFold(p.value, "HDRS"):
			m.Return = envelope.ReturnHeaders
		default:
			return badValue(p, "FULL or HDRS")
		}
	case p.keyword == "ENVID" && ext&ExtDSN != 0:
		id, err := DecodeXtext(p.value)
		if err != nil || id == "" || len(p.value) > MaxEnvelopeID || !isPrintable(id) {
			return badValue(p, "at most 100 octets of xtext that stand for printable ASCII")
		}
		m.EnvelopeID = id
	case p.keyword == "AUTH" && ext&ExtAuth != 0:
		return m.setAuth(p)
	default:
		return m.setService(p, ext)
	}
	return nil
}

func (m *Mail) setSize(p param) error {
	n, ok := parseSize(p.value)
	if !ok {
		if len(p.value) > MaxSizeDigits || strings.Trim(p.value, "0123456789") != "" || p.value == "" {
			return badValue(p, "a number of octets")
		}
		n = math.MaxInt64 // 20 digits are allowed and more than any limit
	}
	m.Size = n
	return nil
}

func (m *Mail) setBody(p param) error {
	switch {
	case strings.EqualFold(p.value, "7BIT"):
		m.Body = envelope.Body7Bit
	case strings.EqualFold(p.value, "8BITMIME"):
		m.Body = envelope.Body8BitMIME
	case strings.EqualFold(p.value, "BINARYMIME"):
		return Refuse(555, 6, 1, "BODY=BINARYMIME is not offered here")
	default:
		return badValue(p, "7BIT or 8BITMIME")
	}
	return nil
}

// setAuth takes AUTH, which names who submitted the message. Servers must parse it
// and may ignore it (RFC 4954 §5).
func (m *Mail) setAuth(p param) error {
	s, err := DecodeXtext(p.value)
	if err == nil && s != "<>" {
		_, err = address.Parse(s)
	}
	if err != nil || s == "" {
		return badValue(p, "<> or a mailbox as xtext")
	}
	m.Auth = s
	return nil
}

// cutPath parts "FROM:<path> params" behind the path. Blanks behind the colon are
// let through, against RFC 5321 §3.3: old scripts and devices write them.
func cutPath(arg, word string, detail int) (path, rest string, err error) {
	if len(arg) < len(word) || !strings.EqualFold(arg[:len(word)], word) {
		return "", "", Refuse(501, 5, 2, "Syntax error: "+word+"<path> must follow the command")
	}
	path, rest, ok := address.CutPath(strings.TrimLeft(arg[len(word):], " "))
	if !ok {
		return "", "", Refuse(501, 1, detail, "The path must stand in angle brackets")
	}
	return path, rest, nil
}

// pathError makes the refusal of a malformed path; detail is that of the enhanced
// status code X.1.detail: 7 for a reverse-path, 3 for a forward-path.
func pathError(err error, detail int) error {
	if errors.Is(err, address.ErrNonASCII) {
		return &Error{Reply: Reply{Code: 553, Subject: 6, Detail: 7, Text: "An address beyond ASCII needs SMTPUTF8 at MAIL"}, Err: err}
	}
	return &Error{Reply: Reply{Code: 501, Subject: 1, Detail: detail, Text: err.Error()}, Err: err}
}

// isPrintable reports whether s is printable ASCII, blanks included.
func isPrintable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
