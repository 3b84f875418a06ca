package compose

import (
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"strings"
	"time"
	"unicode/utf8"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/mua/store"
)

// Write writes the letter as it is sent, with CRLF lines and without Bcc: text in format=flowed
// (RFC 3676), attachments in base64, streamed. id is its Message-ID (see NewID); now, with its
// zone, its Date. It writes no field that tells which program it is.
func Write(w io.Writer, d *Draft, now time.Time, id string) error { return d.write(w, now, id, false) }

// WriteDraft is Write with Bcc, for the folder Drafts.
func WriteDraft(w io.Writer, d *Draft, now time.Time, id string) error {
	return d.write(w, now, id, true)
}

// write is Write, with Bcc for drafts.
func (d *Draft) write(w io.Writer, now time.Time, id string, bcc bool) error {
	b, err := d.fields(now, id, bcc)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 32<<10)
	if len(d.Attachments) == 0 {
		out.Write(b) // the writer keeps its first error until Flush
		if err := d.writeText(out); err != nil {
			return fmt.Errorf("write letter: %w", err)
		}
		return out.Flush()
	}
	boundary := d.boundary(id, now)
	b = message.AppendField(b, "Content-Type", `multipart/mixed; boundary="`+boundary+`"`)
	out.Write(b)
	out.WriteString("\r\n--" + boundary + "\r\n")
	if err := d.writeText(out); err != nil {
		return fmt.Errorf("write letter: %w", err)
	}
	for i := range d.Attachments {
		out.WriteString("\r\n--" + boundary + "\r\n")
		if err := d.Attachments[i].write(out); err != nil {
			return fmt.Errorf("write attachment %s: %w", d.Attachments[i].Name, err)
		}
	}
	out.WriteString("\r\n--" + boundary + "--\r\n")
	return out.Flush()
}

// boundary parts the letter: what begins with "=_" stands in no base64 or quoted-printable text.
func (d *Draft) boundary(id string, now time.Time) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%d\n%s\n%s\n", id, now.UnixNano(), d.Subject, d.Text)
	return "=_" + hex.EncodeToString(h.Sum(nil)[:15])
}

// fields are the header fields of the letter itself.
func (d *Draft) fields(now time.Time, id string, bcc bool) ([]byte, error) {
	var b []byte
	var err error
	list := func(name string, people []store.Address) {
		if len(people) == 0 || err != nil {
			return
		}
		var value string
		if value, err = addressList(people, bcc); err != nil {
			err = fmt.Errorf("write %s: %w", name, err)
		} else if value != "" {
			b = message.AppendField(b, name, value)
		}
	}
	list("From", []store.Address{d.From})
	list("Reply-To", d.ReplyTo)
	list("To", d.To)
	list("Cc", d.Cc)
	switch {
	case bcc:
		list("Bcc", d.Bcc)
	case len(d.To)+len(d.Cc) == 0: // RFC 5322 §3.6.3 asks for no recipient at all, some servers do
		b = append(b, "To: undisclosed-recipients:;\r\n"...)
	}
	if err != nil {
		return nil, err
	}
	subject := strings.Join(strings.Fields(strings.Map(plain, strings.ToValidUTF8(d.Subject, "\uFFFD"))), " ")
	if strings.Contains(subject, "=?") {
		subject = encodeWords(subject)
	} else if unfoldable(subject) {
		subject = base64Words(subject)
	}
	b = message.AppendText(b, "Subject", subject)
	b = message.AppendField(b, "Date", message.FormatDate(now))
	if id != "" {
		b = message.AppendField(b, "Message-ID", id)
	}
	if ids := identifiers(d.InReplyTo); len(ids) > 0 {
		b = message.AppendField(b, "In-Reply-To", ids[0])
	}
	if refs := identifiers(strings.Join(d.References, " ")); len(refs) > 0 {
		b = message.AppendField(b, "References", strings.Join(refs, " "))
	}
	return append(b, "MIME-Version: 1.0\r\n"...), nil
}

// addressList writes addresses with their names (RFC 5322 §3.4). A draft may hold what is no
// address yet: it becomes an empty group of that name.
func addressList(people []store.Address, draft bool) (string, error) {
	all := make([]string, 0, len(people))
	for _, p := range people {
		a, err := address.Parse(p.Address)
		if err != nil {
			if !draft {
				return "", fmt.Errorf("%q is no address: %w", p.Address, err)
			}
			if name := phrase(strings.TrimSpace(p.Name + " " + p.Address)); name != "" {
				all = append(all, name+":;")
			}
			continue
		}
		if name := phrase(p.Name); name != "" {
			all = append(all, name+" <"+a.String()+">")
		} else {
			all = append(all, a.String())
		}
	}
	return strings.Join(all, ", "), nil
}

// phrase writes a display-name (RFC 5322 §3.2.5, RFC 2047 §5).
func phrase(name string) string {
	name = strings.Join(strings.Fields(strings.Map(plain, strings.ToValidUTF8(name, "\uFFFD"))), " ")
	switch {
	case name == "":
		return ""
	case message.NeedsUTF8([]byte(name)) || strings.Contains(name, "=?"):
		if strings.ContainsAny(name, "\"#$%&'(),.:;<>@[]^`{|}~\\") { // Go's Q encoding leaves them as they are, a phrase must not
			return base64Words(name)
		}
		return encodeWords(name)
	case unfoldable(name):
		return base64Words(name)
	case strings.ContainsAny(name, `()<>[]:;@\,."`):
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `"`
	}
	return name
}

// longestWord is how many octets may stand without a blank in a field; quoted they may be twice as many, of
// the 998 of a line (RFC 5322 §2.1.1).
const longestWord = 400

// unfoldable reports a text with a word that no line could hold: it is written as encoded-words.
func unfoldable(s string) bool {
	for word := range strings.SplitSeq(s, " ") {
		if len(word) > longestWord {
			return true
		}
	}
	return false
}

// encodeWords is Q encoding, also for ASCII that looks encoded already.
func encodeWords(s string) string {
	if e := mime.QEncoding.Encode("utf-8", s); e != s {
		return e
	}
	return base64Words(s)
}

// wordOctets is how much of a text stands in one encoded-word (RFC 2047 §2 allows 75 characters).
const wordOctets = 45

// base64Words is B encoding, also for ASCII, which package mime leaves as it is.
func base64Words(s string) string {
	var b strings.Builder
	for s != "" {
		n := min(len(s), wordOctets)
		for n < len(s) && !utf8.RuneStart(s[n]) {
			n--
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString("=?utf-8?b?" + base64.StdEncoding.EncodeToString([]byte(s[:n])) + "?=")
		s = s[n:]
	}
	return b.String()
}

// plain takes control characters out.
func plain(r rune) rune {
	if r < ' ' || r == 0x7f {
		return ' '
	}
	return r
}

// maxIdentifiers bounds References; the first and the last stay.
const maxIdentifiers = 100

// identifiers are the Message-IDs in a text, each once; those that can't stand in a field are left out.
func identifiers(text string) []string {
	var all []string
	seen := map[string]bool{}
	for {
		begin := strings.IndexByte(text, '<')
		if begin < 0 {
			break
		}
		text = text[begin:]
		end := strings.IndexByte(text, '>')
		if end < 0 {
			break
		}
		id := text[:end+1]
		text = text[end+1:]
		if len(id) > 2 && len(id) <= 900 && !seen[id] && strings.IndexFunc(id[1:], func(r rune) bool { return r <= ' ' || r > '~' || r == '<' }) < 0 {
			seen[id] = true
			all = append(all, id)
		}
	}
	if over := len(all) - maxIdentifiers; over > 0 {
		all = append(all[:1], all[1+over:]...)
	}
	return all
}

// writeText writes the text with its fields: as it is where it is ASCII of short lines, else
// quoted-printable, which any server takes.
func (d *Draft) writeText(w io.Writer) error {
	text := flowed(strings.ToValidUTF8(strings.Map(plainText, d.Text), "\uFFFD"))
	if isPlain(text) {
		_, err := io.WriteString(w, "Content-Type: text/plain; charset=us-ascii; format=flowed\r\nContent-Transfer-Encoding: 7bit\r\n\r\n"+text)
		return err
	}
	if _, err := io.WriteString(w, "Content-Type: text/plain; charset=utf-8; format=flowed\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"); err != nil {
		return err
	}
	q := quotedprintable.NewWriter(w)
	if _, err := io.WriteString(q, text); err != nil {
		return err
	}
	return q.Close()
}

// plainText takes control characters out of a text, but line ends and tabs.
func plainText(r rune) rune {
	if r < ' ' && r != '\n' && r != '\r' && r != '\t' && r != '\f' || r == 0x7f {
		return -1
	}
	return r
}

// isPlain reports a text of CRLF lines that is ASCII and has no line over 998 octets.
func isPlain(text string) bool {
	line := 0
	for i := range len(text) {
		switch c := text[i]; {
		case c >= 0x80:
			return false
		case c == '\n':
			line = 0
		default:
			if line++; line > 998 { // RFC 5322 §2.1.1
				return false
			}
		}
	}
	return true
}
