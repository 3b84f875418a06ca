package smtp

import (
	"strings"
	"unicode/utf8"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/envelope"
)

// ParseRcpt reads the argument of RCPT, whose parameters may be those of ext
// (RFC 5321 §4.1.1.3, RFC 3461 §4). smtputf8 says that MAIL had SMTPUTF8. The error
// is an *Error: 501, 553 or 555 with its enhanced status code.
func ParseRcpt(arg string, ext Extensions, smtputf8 bool) (envelope.Recipient, error) {
	path, rest, err := cutPath(arg, "TO:", 3)
	if err != nil {
		return envelope.Recipient{}, err
	}
	var r envelope.Recipient
	set := func(p param) error {
		switch {
		case p.keyword == "NOTIFY" && ext&ExtDSN != 0:
			r.Notify, err = parseNotify(p)
		case p.keyword == "ORCPT" && ext&ExtDSN != 0:
			r.Original, err = parseOriginal(p, smtputf8)
		default:
			err = unknownParam(p)
		}
		return err
	}
	if err := eachParam(rest, set); err != nil {
		return envelope.Recipient{}, err
	}
	r.ForwardPath, err = address.ParseForwardPath(path, smtputf8)
	if err != nil {
		return envelope.Recipient{}, pathError(err, 3)
	}
	return r, nil
}

// parseNotify reads NOTIFY: NEVER, or a list of SUCCESS, FAILURE and DELAY (RFC 3461 §4.1).
func parseNotify(p param) (envelope.Notify, error) {
	var set envelope.Notify
	for word := range strings.SplitSeq(p.value, ",") {
		var n envelope.Notify
		switch strings.ToUpper(word) {
		case "NEVER":
			n = envelope.NotifyNever
		case "SUCCESS":
			n = envelope.NotifySuccess
		case "FAILURE":
			n = envelope.NotifyFailure
		case "DELAY":
			n = envelope.NotifyDelay
		}
		if n == 0 || set&n != 0 || set != 0 && (set|n)&envelope.NotifyNever != 0 {
			return 0, badValue(p, "NEVER, or some of SUCCESS, FAILURE, DELAY parted by commas")
		}
		set |= n
	}
	return set, nil
}

// parseOriginal reads ORCPT: an address type, ";" and the address, in xtext
// (RFC 3461 §4.2) or for type utf-8 in one of RFC 6533's forms; smtputf8 allows
// unitext, whose characters stand for themselves.
func parseOriginal(p param, smtputf8 bool) (envelope.OriginalRecipient, error) {
	kind, text, ok := strings.Cut(p.value, ";")
	kind = strings.ToLower(kind)
	if !ok || !isKeyword(kind) || text == "" || len(p.value) > MaxOriginalRecipient {
		return envelope.OriginalRecipient{}, badValue(p, "an address type, a semicolon and an address in xtext, at most 500 octets")
	}
	var addr string
	var err error
	if kind == "utf-8" {
		addr, err = decodeUTF8Address(text, smtputf8)
		if err != nil && !strings.Contains(text, `\`) { // old programs send plain xtext here
			addr, err = decodeXtext(text, smtputf8)
		}
	} else {
		addr, err = DecodeXtext(text)
	}
	if err != nil || !isAddressText(addr) {
		return envelope.OriginalRecipient{}, badValue(p, "an address type, a semicolon and an address in xtext")
	}
	return envelope.OriginalRecipient{Type: kind, Address: addr}, nil
}

// isAddressText keeps out what would break the lines of a delivery status
// notification: controls and malformed UTF-8.
func isAddressText(s string) bool {
	for _, c := range s {
		if c < ' ' || c == 0x7f || c == utf8.RuneError {
			return false
		}
	}
	return s != ""
}
