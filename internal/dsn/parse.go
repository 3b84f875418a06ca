package dsn

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/message"
)

// Limits of Parse.
const (
	MaxParseOctets     = 256 << 10 // of a report; what stands behind is not looked at
	MaxParseRecipients = 200
	maxParts           = 100
	maxDepth           = 5
	maxFieldOctets     = 2000
)

// ErrNoReport is returned by Parse for a message that holds no delivery status.
var ErrNoReport = errors.New("the message is not a delivery status notification")

// Returned is a notification that came back about a message. Everything in it is what
// some host has written; nothing is proved.
type Returned struct {
	EnvelopeID   string
	ReportingMTA string
	Recipients   []ReturnedRecipient
	Header       []byte // header section of the message that it is about; nil when it was not returned
	Guessed      bool   // read from text for people, since there was no part for machines
}

// ReturnedRecipient is what the notification says of a recipient.
type ReturnedRecipient struct {
	Original   string // Original-Recipient without its type, "" when absent
	Final      string // Final-Recipient without its type
	Action     Action // "" when it is none of RFC 3464
	Status     Status // zero when absent
	RemoteMTA  string
	Diagnostic string // one line, capped
}

// Parse reads a delivery status notification: the machine's part of a multipart/report
// (RFC 3464, RFC 6533), with encodings and in the places where hosts put it, or else what
// can be guessed of a text for people. Lines end with CRLF. The error is ErrNoReport or
// the reader's.
func Parse(r io.Reader) (*Returned, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxParseOctets))
	if err != nil {
		return nil, fmt.Errorf("read delivery status notification: %w", err)
	}
	p := &parser{out: &Returned{}}
	p.entity(b, 0)
	if len(p.out.Recipients) == 0 {
		p.guess()
	}
	if len(p.out.Recipients) == 0 {
		return nil, ErrNoReport
	}
	return p.out, nil
}

// parser is the work of one Parse.
type parser struct {
	out   *Returned
	parts int
	text  []byte // of parts for people
}

// entity reads a header section and what follows it.
func (p *parser) entity(b []byte, depth int) {
	if p.parts++; p.parts > maxParts || depth > maxDepth {
		return
	}
	header, rest, _ := message.SplitHeader(b)
	rest = bytes.TrimPrefix(rest, []byte("\r\n"))
	value, _ := message.Get(header, "Content-Type")
	kind, params, err := mime.ParseMediaType(value)
	if err != nil && kind == "" {
		kind, _, _ = strings.Cut(strings.ToLower(value), ";")
		kind = strings.TrimSpace(kind)
	}
	encoding, _ := message.Get(header, "Content-Transfer-Encoding")
	switch {
	case strings.HasPrefix(kind, "multipart/"):
		p.multipart(rest, boundaryOf(params, value), depth)
	case kind == "message/delivery-status", kind == "message/global-delivery-status":
		p.status(decode(rest, encoding))
	case kind == "message/rfc822", kind == "message/global":
		p.original(decode(rest, encoding), depth)
	case kind == "text/rfc822-headers", kind == "message/global-headers":
		p.original(decode(rest, encoding), maxDepth)
	case kind == "" || strings.HasPrefix(kind, "text/"):
		p.text = append(append(p.text, decode(rest, encoding)...), "\r\n"...)
	}
}

// boundaryOf finds the boundary where the field is not well-formed too.
func boundaryOf(params map[string]string, value string) string {
	if b := params["boundary"]; b != "" {
		return b
	}
	const name = "boundary="
	i := 0
	for i+len(name) <= len(value) && !strings.EqualFold(value[i:i+len(name)], name) {
		i++
	}
	if i+len(name) > len(value) {
		return ""
	}
	value = value[i+len(name):]
	if strings.HasPrefix(value, `"`) {
		value, _, _ = strings.Cut(value[1:], `"`)
		return value
	}
	value, _, _ = strings.Cut(value, ";")
	return strings.TrimSpace(value)
}

// multipart reads the parts between lines of a boundary.
func (p *parser) multipart(b []byte, boundary string, depth int) {
	if boundary == "" {
		p.text = append(p.text, b...)
		return
	}
	mark := []byte("--" + boundary)
	begin := -1
	for at := 0; at < len(b); {
		end := len(b)
		if i := bytes.IndexByte(b[at:], '\n'); i >= 0 {
			end = at + i + 1
		}
		line := bytes.TrimRight(b[at:end], " \t\r\n")
		last := bytes.HasSuffix(line, []byte("--")) && bytes.Equal(line[:len(line)-2], mark)
		if last || bytes.Equal(line, mark) {
			if begin >= 0 {
				p.entity(b[begin:at], depth+1)
			}
			if begin = end; last {
				return
			}
		}
		at = end
	}
	if begin >= 0 {
		p.entity(b[begin:], depth+1) // cut off
	}
}

// original keeps the header section of the message that the report is about. Some hosts
// return a report within a report; the innermost message is not looked for.
func (p *parser) original(b []byte, depth int) {
	header, _, _ := message.SplitHeader(bytes.TrimLeft(b, "\r\n"))
	if p.out.Header == nil && len(header) > 0 {
		p.out.Header = bytes.Clone(header)
	}
	if depth < maxDepth && len(p.out.Recipients) == 0 {
		if kind, _ := message.Get(header, "Content-Type"); strings.Contains(strings.ToLower(kind), "multipart/report") {
			saved := p.out.Header
			p.out.Header = nil
			p.entity(bytes.TrimLeft(b, "\r\n"), depth+1)
			if p.out.Header == nil {
				p.out.Header = saved
			}
		}
	}
}

// status reads groups of fields, parted by empty lines.
func (p *parser) status(b []byte) {
	b = append(bytes.TrimLeft(b, "\r\n"), "\r\n"...)
	for group := range bytes.SplitSeq(b, []byte("\r\n\r\n")) {
		group = append(bytes.Trim(group, "\r\n"), "\r\n"...)
		var r ReturnedRecipient
		found := false
		for f := range message.Fields(group) {
			value := f.Value()
			switch {
			case f.Is("Original-Envelope-Id"):
				p.out.EnvelopeID = oneLine(value)
			case f.Is("Reporting-MTA"):
				p.out.ReportingMTA = typed(value)
			case f.Is("Original-Recipient"):
				r.Original, found = addressOf(value), true
			case f.Is("Final-Recipient"):
				r.Final, found = addressOf(value), true
			case f.Is("Action"):
				r.Action, found = actionOf(value), true
			case f.Is("Status"):
				r.Status = statusOf(value)
			case f.Is("Remote-MTA"):
				r.RemoteMTA = typed(value)
			case f.Is("Diagnostic-Code"):
				r.Diagnostic = typed(value)
			case f.Is("X-Actual-Recipient"):
				if r.Final == "" {
					r.Final = addressOf(value)
				}
			}
		}
		if !found || len(p.out.Recipients) >= MaxParseRecipients {
			continue
		}
		if r.Status == (Status{}) || r.Status.Subject == 0 && r.Status.Detail == 0 {
			if s := findStatus(r.Diagnostic); s != (Status{}) && (r.Status.Class == 0 || s.Class == r.Status.Class) {
				r.Status = s
			}
		}
		if r.Status == (Status{}) {
			r.Status = findReply(r.Diagnostic)
		}
		if r.Status == (Status{}) && r.Action == Failed {
			r.Status.Class = 5
		}
		p.out.Recipients = append(p.out.Recipients, r)
	}
}

// typed reads "type; value", or a value whose type was left out.
func typed(value string) string {
	if kind, rest, ok := strings.Cut(value, ";"); ok && !strings.ContainsAny(kind, " @.<") {
		value = rest
	}
	if len(value) > maxFieldOctets {
		value = value[:maxFieldOctets]
	}
	return oneLine(value)
}

// addressOf reads the address of a typed field, with or without brackets.
func addressOf(value string) string {
	s := strings.TrimSpace(typed(value))
	if i, j := strings.LastIndexByte(s, '<'), strings.LastIndexByte(s, '>'); i >= 0 && j > i {
		s = s[i+1 : j]
	}
	s, _, _ = strings.Cut(s, " (")
	return strings.TrimSpace(s)
}

func actionOf(value string) Action {
	word, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(value)), " ")
	switch a := Action(strings.TrimRight(word, ";,")); a {
	case Failed, Delayed, Delivered, Relayed, Expanded:
		return a
	case "failure", "fail":
		return Failed
	}
	return ""
}

// statusOf reads the Status field, behind which some hosts write comments.
func statusOf(value string) Status { return findStatus(" " + value + " ") }

// findStatus finds the first enhanced status code (RFC 3463) of class 2, 4 or 5 in a text.
func findStatus(s string) Status {
	for i := 0; i+4 < len(s); i++ {
		if s[i] != '2' && s[i] != '4' && s[i] != '5' || s[i+1] != '.' || i > 0 && (isDigit(s[i-1]) || s[i-1] == '.') {
			continue
		}
		subject, n := number(s[i+2:])
		if n == 0 || i+2+n >= len(s) || s[i+2+n] != '.' {
			continue
		}
		rest := s[i+2+n+1:]
		detail, m := number(rest)
		if m == 0 || m < len(rest) && (isDigit(rest[m]) || rest[m] == '.' && m+1 < len(rest) && isDigit(rest[m+1])) {
			continue // an address of IPv4, or a version
		}
		return Status{Class: int(s[i] - '0'), Subject: subject, Detail: detail}
	}
	return Status{}
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// number reads one to three digits.
func number(s string) (value, n int) {
	for n < len(s) && n < 3 && isDigit(s[n]) {
		value = value*10 + int(s[n]-'0')
		n++
	}
	return value, n
}

// decode undoes an encoding; what can't be decoded stays as far as it went.
func decode(b []byte, encoding string) []byte {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "quoted-printable":
		out, _ := io.ReadAll(quotedprintable.NewReader(bytes.NewReader(b)))
		return crlf(out)
	case "base64":
		out, _ := io.ReadAll(base64.NewDecoder(base64.StdEncoding, bytes.NewReader(b)))
		return crlf(out)
	}
	return b
}

// crlf makes lines of decoded text end as everywhere else.
func crlf(b []byte) []byte {
	return bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
}

// maxGuessLines is how much of a text for people is looked through.
const maxGuessLines = 200

// guess reads a text for people: the first address that is not the postmaster's, and the
// status or reply code on its line or behind it. The returned message, where a line
// announces it, is left out.
func (p *parser) guess() {
	var r ReturnedRecipient
	lines, words := 0, false
	for line := range strings.Lines(string(p.text)) {
		if lines++; lines > maxGuessLines || r.Final != "" && r.Status != (Status{}) {
			break
		}
		lower := strings.ToLower(line)
		if strings.HasPrefix(lower, "received:") || strings.HasPrefix(lower, "return-path:") || strings.HasPrefix(lower, "message-id:") {
			break
		}
		if r.Final == "" {
			r.Final = findAddress(line)
		}
		words = words || failureWords(lower)
		if r.Status == (Status{}) {
			if r.Status = findStatus(line); r.Status == (Status{}) {
				r.Status = findReply(line)
			}
			if r.Status != (Status{}) {
				r.Diagnostic = typed(line)
			}
		}
	}
	if r.Status == (Status{}) && words {
		r.Status.Class = 5
	}
	if r.Final == "" || r.Status.Class != 4 && r.Status.Class != 5 {
		return
	}
	if r.Action = Failed; r.Status.Class == 4 {
		r.Action = Delayed
	}
	p.out.Guessed = true
	p.out.Recipients = append(p.out.Recipients, r)
}

// failureWords reports a line that says what bounces without any code say.
func failureWords(line string) bool {
	for _, w := range []string{"unable to deliver", "undeliverable", "could not be delivered", "could not deliver", "error delivering", "delivery failed",
		"delivery failure", "mail failure", "giving up", "not listed in", "unknown user", "user unknown", "mailbox is full", "could not be reached", "couldn't be delivered"} {
		if strings.Contains(line, w) {
			return true
		}
	}
	return false
}

// findReply finds an SMTP reply code of a failure at the begin of a line or behind a blank.
func findReply(line string) Status {
	for word := range strings.FieldsSeq(line) {
		if len(word) < 3 || word[0] != '4' && word[0] != '5' || word[1] > '5' || !isDigit(word[1]) || !isDigit(word[2]) {
			continue
		}
		if len(word) == 3 || word[3] == '-' || word[3] == ':' {
			return Status{Class: int(word[0] - '0')}
		}
	}
	return Status{}
}

// findAddress finds the first address in a line.
func findAddress(line string) string {
	for word := range strings.FieldsFuncSeq(line, func(c rune) bool { return strings.ContainsRune(" \t\r\n<>()\"',;:[]", c) }) {
		if !strings.Contains(word, "@") {
			continue
		}
		a, err := address.Parse(strings.Trim(word, "."))
		if err != nil || !strings.Contains(a.Domain().String(), ".") {
			continue
		}
		switch local := strings.ToLower(a.Local()); local {
		case "postmaster", "mailer-daemon", "root":
			continue
		}
		return a.String()
	}
	return ""
}
