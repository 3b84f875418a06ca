package store

import (
	"crypto/sha256"
	"encoding/binary"
	"io"
	"net/mail"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/mime"
)

// Bounds of what is read and kept of a header section.
const (
	maxHeader     = 256 << 10 // octets that are looked at
	maxSubject    = 998       // octets, decoded
	maxPeople     = 50        // kept in the summary
	maxName       = 200       // octets of a name
	maxAddress    = 320       // octets of an address
	maxReferences = 64        // Message-IDs of a letter that count for its thread
	maxMessageID  = 500       // octets
)

// header is what a header section says, decoded and bounded.
type header struct {
	subject    string
	from, to   []Address // to with Cc
	all        []Address // To, Cc and Bcc, for the index and the address book; at most 1,000
	date       time.Time // zero when there is none that can be read
	messageID  string
	references []string // In-Reply-To and References, each once
	utf8       bool
	raw        []byte
}

// readHeader reads the header section that stands at the beginning of r.
func readHeader(r io.ReaderAt, size int64) (header, error) {
	buf := make([]byte, min(size, 8<<10))
	for {
		n, err := r.ReadAt(buf, 0)
		if n < len(buf) && err != nil && err != io.EOF {
			return header{}, err
		}
		buf = buf[:n]
		if end, complete := message.HeaderLen(buf, 0); complete {
			return parseHeader(buf[:end]), nil
		}
		if int64(len(buf)) >= min(size, maxHeader) || n == 0 {
			head, _, _ := message.SplitHeader(buf)
			return parseHeader(head), nil
		}
		buf = make([]byte, min(size, maxHeader, int64(4*len(buf))))
	}
}

// parseHeader reads a header section.
func parseHeader(raw []byte) header {
	h := header{raw: raw, utf8: message.NeedsUTF8(raw)}
	var cc, bcc []Address
	var seen struct{ subject, from, date, id bool }
	first := func(is *bool) bool { was := *is; *is = true; return !was }
	for f := range message.Fields(raw) {
		switch {
		case f.Malformed():
		case f.Is("Subject") && first(&seen.subject):
			h.subject = oneLine(mime.DecodeWords(f.Value()), maxSubject)
		case f.Is("From") && first(&seen.from):
			h.from = people(f.Value())
		case f.Is("To"):
			h.to = append(h.to, people(f.Value())...)
		case f.Is("Cc"):
			cc = append(cc, people(f.Value())...)
		case f.Is("Bcc"):
			bcc = append(bcc, people(f.Value())...)
		case f.Is("Date") && first(&seen.date):
			h.date = readDate(f.Value())
		case f.Is("Message-ID") && first(&seen.id):
			if ids := messageIDs(f.Value(), 1); len(ids) > 0 {
				h.messageID = ids[0]
			}
		case f.Is("In-Reply-To"):
			h.references = append(h.references, messageIDs(f.Value(), maxReferences)...)
		case f.Is("References"):
			h.references = append(h.references, messageIDs(f.Value(), maxReferences)...)
		}
	}
	h.to = append(h.to, cc...)
	h.all = append(h.to[:len(h.to):len(h.to)], bcc...)
	h.all, h.from, h.to = h.all[:min(len(h.all), 1000)], h.from[:min(len(h.from), maxPeople)], h.to[:min(len(h.to), maxPeople)]
	h.references = h.references[:min(len(h.references), 2*maxReferences)]
	return h
}

// oneLine makes s valid text for the database, on one line, of at most limit octets.
func oneLine(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, s)
	return strings.TrimSpace(cut(db.Text(s), limit))
}

// cut cuts s at limit octets, at a character.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// addressLike finds addresses in a field that can't be read whole.
var addressLike = regexp.MustCompile(`[^\s<>"(),;:@]{1,100}@[^\s<>"(),;:@]{1,200}`)

// people reads an address list, tolerantly: of what can't be read whole, what looks like
// addresses, with what stands in front of the first as its name.
func people(value string) []Address {
	if len(value) > maxHeader/4 {
		value = value[:maxHeader/4]
	}
	if list, err := message.ParseAddressList(value); err == nil {
		all := make([]Address, len(list))
		for i, m := range list {
			all[i] = Address{Name: oneLine(mime.DecodeWords(m.Name), maxName), Address: oneLine(m.Address.String(), maxAddress)}
		}
		return all
	}
	text := mime.DecodeWords(value)
	places := addressLike.FindAllStringIndex(text, 1000)
	if len(places) == 0 {
		if name := oneLine(text, maxName); name != "" {
			return []Address{{Name: name}}
		}
		return nil
	}
	all := make([]Address, len(places))
	from := 0
	for i, at := range places {
		name := strings.Trim(text[from:at[0]], " \t\r\n\"'<>,;:()")
		all[i] = Address{Name: oneLine(name, maxName), Address: oneLine(text[at[0]:at[1]], maxAddress)}
		from = at[1]
	}
	return all
}

// readDate reads a Date field; zero when it can't be.
func readDate(value string) time.Time {
	if t, err := time.Parse("Mon, 2 Jan 2006 15:04:05 -0700", value); err == nil { // as nearly all write it
		return t.UTC()
	}
	if t, err := mail.ParseDate(value); err == nil {
		return t.UTC()
	}
	if i := strings.IndexByte(value, '('); i > 0 { // a comment that is broken
		if t, err := mail.ParseDate(strings.TrimSpace(value[:i])); err == nil {
			return t.UTC()
		}
	}
	for _, layout := range []string{time.RFC3339, "Mon, _2 Jan 2006 15:04:05", "_2 Jan 2006 15:04:05", time.ANSIC, time.UnixDate, "Mon, _2 Jan 06 15:04:05 MST"} {
		if t, err := time.Parse(layout, strings.TrimSpace(value)); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}

// dateOf is the date that a letter is sorted by: the sender's, unless it lies in the future of
// its receipt or before there was mail.
func dateOf(h *header, received time.Time) time.Time {
	if h.date.IsZero() || h.date.After(received.Add(26*time.Hour)) || h.date.Year() < 1970 {
		return received
	}
	return h.date
}

// messageIDs finds the first and last n/2 Message-IDs (at least one) in a field, with their angle brackets. What
// stands between brackets is taken as it is; programs write much there.
func messageIDs(value string, n int) []string {
	var ids []string
	for rest := value; ; {
		_, after, found := strings.Cut(rest, "<")
		if !found {
			break
		}
		id, behind, closed := strings.Cut(after, ">")
		if !closed {
			break
		}
		rest = behind
		id = strings.Map(func(r rune) rune {
			if r <= ' ' || unicode.IsSpace(r) {
				return -1
			}
			return r
		}, id)
		if i := strings.LastIndexByte(id, '<'); i >= 0 {
			id = id[i+1:]
		}
		if id != "" && len(id) <= maxMessageID {
			ids = append(ids, "<"+db.Text(id)+">")
		}
	}
	if len(ids) == 0 {
		if word := strings.Fields(value); len(word) == 1 && strings.Contains(word[0], "@") && len(word[0]) <= maxMessageID {
			return []string{"<" + db.Text(strings.Trim(word[0], "<>")) + ">"}
		}
	}
	if len(ids) > n {
		ids = append(ids[:max(1, n/2):max(1, n/2)], ids[len(ids)-n/2:]...)
	}
	return ids
}

// hash64 is a positive hash that nobody can find a second text for at will.
func hash64(kind, text string) int64 {
	sum := sha256.Sum256([]byte(kind + "\x00" + text))
	return int64(binary.BigEndian.Uint64(sum[:8])>>1) | 1
}

// Marks in the columns sender and recipients.
const (
	nameMark   = "\x1f"
	personMark = "\x1e"
)

// packPeople puts people into one column.
func packPeople(all []Address) string {
	var b strings.Builder
	for i, a := range all {
		if i > 0 {
			b.WriteString(personMark)
		}
		b.WriteString(a.Name + nameMark + a.Address)
	}
	return b.String()
}

// unpackPeople undoes packPeople.
func unpackPeople(s string) []Address {
	if s == "" {
		return nil
	}
	var all []Address
	for p := range strings.SplitSeq(s, personMark) {
		name, addr, _ := strings.Cut(p, nameMark)
		all = append(all, Address{name, addr})
	}
	return all
}
