package content

import (
	"net/mail"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/mime"
)

// field is a kind of header field that is looked at.
type field uint8

const (
	fieldDate field = iota
	fieldFrom
	fieldSender
	fieldReplyTo
	fieldTo
	fieldCc
	fieldBcc
	fieldMessageID
	fieldInReplyTo
	fieldReferences
	fieldSubject // up to here, fields that may stand once (RFC 5322 §3.6)
	fieldListID
	fieldListPost
	fieldListUnsubscribe
	fieldPrecedence
	numFields
)

var fieldNames = [numFields]string{"Date", "From", "Sender", "Reply-To", "To", "Cc", "Bcc", "Message-ID", "In-Reply-To", "References", "Subject",
	"List-Id", "List-Post", "List-Unsubscribe", "Precedence"}

// header is what the fields say.
type header struct {
	count   [numFields]int
	value   [numFields]string // of the first
	subject string
	from    []message.Mailbox
	fromErr error
	rawName string // the display-name of a From that can't be read whole
}

// readHeader reads the fields that matter.
func readHeader(octets []byte) (h header) {
	for f := range message.Fields(octets) {
		if f.Malformed() {
			continue
		}
		for k := range numFields {
			if f.Is(fieldNames[k]) {
				if h.count[k]++; h.count[k] == 1 {
					h.value[k] = f.Value()
				}
				break
			}
		}
	}
	h.subject = mime.DecodeWords(h.value[fieldSubject])
	h.from, h.fromErr = message.ParseAddressList(h.value[fieldFrom])
	if h.fromErr != nil {
		h.from = h.lenientFrom()
	}
	for i, m := range h.from {
		h.from[i].Name = mime.DecodeWords(m.Name)
	}
	return h
}

// lenientFrom finds the address in a From field that can't be read whole, as programs show it.
func (h *header) lenientFrom() []message.Mailbox {
	v := h.value[fieldFrom]
	name, rest, ok := cutLast(v, "<")
	addr, _, _ := strings.Cut(rest, ">")
	if !ok {
		name, addr = "", v
	}
	h.rawName = mime.DecodeWords(strings.Trim(name, " \t\""))
	a, err := address.Parse(strings.TrimSpace(addr))
	if err != nil {
		return nil
	}
	return []message.Mailbox{{Name: h.rawName, Address: a}}
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// looseDates are forms of Date that programs write and RFC 5322 does not know.
var looseDates = []string{
	"Mon, 2 Jan 2006 15:04:05", "2 Jan 2006 15:04:05", "Mon, 2 Jan 06 15:04:05 -0700", "Mon, 2 Jan 06 15:04:05 MST", "Mon, 2 Jan 06 15:04:05", "Mon, 2 Jan 2006 15.04.05 -0700",
	"Mon Jan 2 15:04:05 2006", "Mon Jan 2 15:04:05 MST 2006", "Mon, Jan 2 2006 15:04:05 -0700", "Mon, 2 Jan 2006 15:04:05 -07:00", "Mon, 2 Jan 2006 15:04:05 MST-0700", "Mon, 2 Jan 2006 03:04:05 PM -0700",
	"Mon, 2-Jan-2006 15:04:05 -0700", "Monday, 2 Jan 2006 15:04:05 -0700", "Monday, January 2, 2006 15:04:05", "2006-01-02 15:04:05", time.RFC3339, "02 Jan 2006", "Mon, 2 Jan 2006",
}

// parseDate reads a Date field, in the forms that programs write too.
func parseDate(s string) (time.Time, bool) {
	if len(s) > 200 {
		return time.Time{}, false
	}
	if t, err := time.Parse("Mon, 2 Jan 2006 15:04:05 -0700", s); err == nil { // nearly all; errors are dear
		return t, true
	}
	s = plainDate(s)
	if t, err := mail.ParseDate(s); err == nil {
		return t, true
	}
	for _, layout := range looseDates {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// plainDate removes comments, squeezes blanks and writes obsolete zones in digits
// (RFC 5322 §4.3: what is unknown is -0000).
func plainDate(s string) string {
	if strings.IndexByte(s, '(') >= 0 {
		depth := 0
		s = strings.Map(func(r rune) rune {
			switch {
			case r == '(':
				depth++
			case r == ')' && depth > 0:
				depth--
				return ' '
			}
			if depth > 0 {
				return -1
			}
			return r
		}, s)
	}
	words := strings.Fields(s)
	if n := len(words); n > 3 {
		last := strings.ToUpper(words[n-1])
		zone, known := zones[last]
		switch {
		case known:
			words[n-1] = zone
		case strings.Trim(last, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == "" && last != "AM" && last != "PM":
			words[n-1] = "-0000"
		}
	}
	return strings.Join(words, " ")
}

var zones = map[string]string{
	"EST": "-0500", "EST5EDT": "-0500", "EDT": "-0400", "CST": "-0600", "CDT": "-0500", "MST": "-0700", "MDT": "-0600", "PST": "-0800", "PDT": "-0700",
	"CET": "+0100", "CEST": "+0200", "BST": "+0100", "MSK": "+0300", "JST": "+0900",
}
