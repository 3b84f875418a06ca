package compose

import (
	"errors"
	"fmt"
	"io"
	netmail "net/mail"
	"path"
	"slices"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/mime"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
	"poczta.example/poczta/internal/mua/store/extract"
)

// maxQuoted is how much of a letter's text is quoted, in octets.
const maxQuoted = 256 << 10

// Reply answers a letter: its author (Reply-To), with all everybody who got it (Mail-Followup-To),
// own addresses left out. language is "pl", else English. The letter may be closed afterwards.
func Reply(a profile.Account, l *store.Letter, all bool, language string) (Draft, error) {
	text, err := Text(l)
	if err != nil {
		return Draft{}, fmt.Errorf("quote the letter: %w", err)
	}
	d := New(a)
	d.From = fromAsWritten(a, l)
	d.To, d.Cc = answered(&a, l, all)
	d.Subject = prefixed("Re: ", l.Subject, "re:", "odp:", "aw:", "sv:")
	d.InReplyTo, d.References = chain(l)
	d.Text = signed(attribution(l, language)+quoted(text)+"\n", a)
	return d, nil
}

// Forward passes a letter on: as it is, attached, or its text and attachments. language is "pl",
// else English. The letter must stay open until the draft was written.
func Forward(a profile.Account, l *store.Letter, attached bool, language string) (Draft, error) {
	d := New(a)
	d.From = fromAsWritten(a, l)
	d.Subject = prefixed("Fwd: ", l.Subject, "fwd:", "fw:", "pd:")
	if ids := identifiers(l.MessageID); len(ids) > 0 { // not an answer, but of the same conversation
		_, d.References = chain(l)
	}
	if attached {
		name := fileName(l.Subject) + ".eml"
		d.Attachments = []Attachment{{Name: name, Type: "message/rfc822", Octets: l.Size, Open: func() (io.ReadCloser, error) {
			return io.NopCloser(io.NewSectionReader(l, 0, l.Size)), nil
		}}}
		return d, nil
	}
	text, err := Text(l)
	if err != nil {
		return Draft{}, fmt.Errorf("forward the letter: %w", err)
	}
	d.Text = signed("", a) + "\n" + forwardedHead(l, language) + text
	d.Attachments = Attachments(l)
	return d, nil
}

// field is the first field of a name in the letter's header section, unfolded.
func field(l *store.Letter, name string) string {
	v, _ := message.Get(l.Root.Header, name)
	return v
}

// fields are all of a name.
func fields(l *store.Letter, name string) string {
	var all []string
	for f := range message.Fields(l.Root.Header) {
		if !f.Malformed() && f.Is(name) {
			all = append(all, f.Value())
		}
	}
	return strings.Join(all, ", ")
}

// people reads a field of addresses; what can't be read is left out.
func people(value string) []store.Address {
	good, _ := ParseAddresses(value)
	for i := range good {
		good[i].Name = mime.DecodeWords(good[i].Name)
	}
	return good
}

// fromAsWritten is the own address to which the letter came.
func fromAsWritten(a profile.Account, l *store.Letter) store.Address {
	for _, name := range []string{"To", "Cc", "Delivered-To", "X-Original-To", "From"} {
		for _, p := range people(fields(l, name)) {
			if a.Owns(p.Address) {
				return store.Address{Name: a.Name, Address: p.Address}
			}
		}
	}
	return store.Address{Name: a.Name, Address: a.Address}
}

// answered says who gets an answer.
func answered(a *profile.Account, l *store.Letter, all bool) (to, cc []store.Address) {
	from, origTo, origCc := people(field(l, "From")), people(fields(l, "To")), people(fields(l, "Cc"))
	mine := len(from) > 0 && a.Owns(from[0].Address)
	switch reply := people(field(l, "Reply-To")); {
	case all && field(l, "Mail-Followup-To") != "":
		return without(a, people(field(l, "Mail-Followup-To"))), nil
	case mine: // one's own letter is followed up to those who got it
		to = origTo
		if all {
			cc = origCc
		}
	case len(reply) > 0:
		to = reply
	default:
		to = from
	}
	if all && !mine {
		cc = slices.Concat(origTo, origCc)
	}
	to = without(a, to)
	cc = slices.DeleteFunc(without(a, cc), func(p store.Address) bool {
		return slices.ContainsFunc(to, func(q store.Address) bool { return key(p) == key(q) })
	})
	if len(to) == 0 && len(cc) > 0 {
		to, cc = cc, nil
	}
	if len(to) == 0 { // a letter to oneself
		to = from
	}
	return to, cc
}

// key is an address for comparison.
func key(p store.Address) string {
	if a, err := address.Parse(p.Address); err == nil {
		return a.Key()
	}
	return strings.ToLower(p.Address)
}

// without leaves out own addresses and repeated ones.
func without(a *profile.Account, list []store.Address) []store.Address {
	var out []store.Address
	seen := map[string]bool{}
	for _, p := range list {
		if k := key(p); !a.Owns(p.Address) && !seen[k] {
			seen[k] = true
			out = append(out, p)
		}
	}
	return out
}

// prefixed puts a prefix before a subject that has none like it.
func prefixed(prefix, subject string, like ...string) string {
	subject = strings.TrimSpace(subject)
	lower := strings.ToLower(subject)
	for _, p := range like {
		if strings.HasPrefix(lower, p) {
			return subject
		}
	}
	return prefix + subject
}

// chain is In-Reply-To and References of an answer (RFC 5322 §3.6.4).
func chain(l *store.Letter) (parent string, references []string) {
	references = identifiers(field(l, "References"))
	if len(references) == 0 {
		if ids := identifiers(field(l, "In-Reply-To")); len(ids) == 1 {
			references = ids
		}
	}
	if ids := identifiers(l.MessageID); len(ids) > 0 {
		parent = ids[0]
		references = slices.DeleteFunc(references, func(id string) bool { return id == parent })
		references = append(references, parent)
	}
	return parent, references
}

// months are Polish in the genitive.
var months = [...]string{"stycznia", "lutego", "marca", "kwietnia", "maja", "czerwca", "lipca", "sierpnia", "września", "października", "listopada", "grudnia"}

// moment is a date for people.
func moment(t time.Time, language string) string {
	if language == "pl" {
		return fmt.Sprintf("%d %s %d o %s", t.Day(), months[t.Month()-1], t.Year(), t.Format("15:04"))
	}
	return t.Format("2 January 2006 at 15:04")
}

// written is when a letter was written, in its author's zone where it can be read.
func written(l *store.Letter) time.Time {
	if t, err := netmail.ParseDate(field(l, "Date")); err == nil && t.Unix() == l.Date.Unix() {
		return t
	}
	return l.Date
}

// attribution is the line above what is quoted.
func attribution(l *store.Letter, language string) string {
	who := "?"
	if len(l.From) > 0 {
		if who = l.From[0].Name; who == "" {
			who = l.From[0].Address
		}
	}
	if language == "pl" {
		return fmt.Sprintf("Dnia %s %s pisze:\n", moment(written(l), language), who)
	}
	return fmt.Sprintf("On %s %s wrote:\n", moment(written(l), language), who)
}

// forwardedHead stands above a forwarded text.
func forwardedHead(l *store.Letter, language string) string {
	words := [...]string{"-------- Forwarded message --------", "From", "To", "Cc", "Date", "Subject"}
	if language == "pl" {
		words = [...]string{"-------- Przekazana wiadomość --------", "Od", "Do", "DW", "Data", "Temat"}
	}
	var b strings.Builder
	b.WriteString(words[0] + "\n")
	line := func(word, value string) {
		if value != "" {
			b.WriteString(word + ": " + strings.Join(strings.Fields(value), " ") + "\n")
		}
	}
	line(words[1], mime.DecodeWords(field(l, "From")))
	line(words[2], mime.DecodeWords(fields(l, "To")))
	line(words[3], mime.DecodeWords(fields(l, "Cc")))
	line(words[4], moment(written(l), language))
	line(words[5], l.Subject)
	return b.String() + "\n"
}

// fileName makes a name for a file out of a subject.
func fileName(subject string) string {
	name := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || strings.ContainsRune(`/\:*?"<>|`, r) {
			return '_'
		}
		return r
	}, strings.TrimSpace(subject))
	if r := []rune(name); len(r) > 60 {
		name = string(r[:60])
	}
	if name = strings.Trim(name, " ."); name == "" {
		return "letter"
	}
	return name
}

// Text is what a letter says in plain text, at most 256 KiB: its text parts, or its HTML without
// tags where it has none.
func Text(l *store.Letter) (string, error) {
	var b strings.Builder
	html := false
	for p := range l.Root.All() {
		if !p.Leaf() || p.Type != "text" || extract.Attachment(p) || enclosed(p) || b.Len() >= maxQuoted {
			continue
		}
		if p.Subtype != "plain" {
			html = true
			continue
		}
		raw, err := io.ReadAll(io.LimitReader(p.Text(l), int64(maxQuoted-b.Len())))
		if err != nil {
			return "", err
		}
		text := strings.ToValidUTF8(string(raw), "")
		if strings.EqualFold(p.Params["format"], "flowed") {
			text = unflowed(text, strings.EqualFold(p.Params["delsp"], "yes"))
		}
		b.WriteString(strings.Join(lines(text), "\n"))
		b.WriteByte('\n')
	}
	if !html || strings.TrimSpace(b.String()) != "" {
		return b.String(), nil
	}
	t, err := extract.Read(l, l.Size, extract.Limits{Text: maxQuoted, Names: true})
	if err != nil {
		return "", err
	}
	return strings.Join(lines(strings.TrimSpace(t.Body)), "\n") + "\n", nil
}

// enclosed reports a part of a letter within the letter.
func enclosed(p *mime.Part) bool {
	for q := p.Parent; q != nil; q = q.Parent {
		if q.Type == "message" {
			return true
		}
	}
	return false
}

// Attachments are the files of a letter. They are read from it, which must stay open.
func Attachments(l *store.Letter) []Attachment {
	var all []Attachment
	for p := range l.Root.All() {
		if !extract.Attachment(p) || enclosed(p) {
			continue
		}
		name := path.Base(strings.ReplaceAll(p.Filename, `\`, "/"))
		if p.Filename == "" {
			if name = "attachment"; p.Type == "message" {
				name = "letter.eml"
			}
		}
		kind := p.Type + "/" + p.Subtype
		if c := p.Charset; c != "" && p.Type == "text" {
			kind += "; charset=" + c
		}
		octets := p.End - p.Body
		if p.Encoding == mime.Base64 {
			octets = octets / 78 * 57
		}
		all = append(all, Attachment{Name: name, Type: kind, Octets: octets, Open: func() (io.ReadCloser, error) {
			return io.NopCloser(p.Open(l)), nil
		}})
	}
	return all
}

// errPartial refuses letters of which only the header section is here.
var errPartial = errors.New("only the letter's header section is here; fetch it whole first")
