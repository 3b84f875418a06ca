package vacation

import (
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"strings"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/message"
)

// Reply is a reply to be written.
type Reply struct {
	ID       message.ID
	Host     address.Domain // of Message-ID
	From     address.Address
	Name     string // of the person, "" for none
	To       address.Address
	Language string // "pl", else English
	Vacation account.Vacation
	Header   []byte // of the message that is answered
	Now      time.Time
}

// limits of what is taken over from the message that is answered.
const (
	maxSubjectRunes    = 150
	maxReferenceOctets = 900
)

// NeedsUTF8 reports whether the header section holds UTF-8, so that the reply needs SMTPUTF8.
func (r *Reply) NeedsUTF8() bool { return !r.From.IsASCII() || !r.To.IsASCII() }

// Write writes the reply with CRLF lines. It quotes nothing of the message but its subject.
func (r *Reply) Write(w io.Writer) error {
	var b []byte
	b = message.AppendField(b, "From", mailbox(r.Name, r.From))
	b = message.AppendField(b, "To", "<"+r.To.String()+">")
	b = message.AppendText(b, "Subject", r.subject())
	b = message.AppendField(b, "Date", message.FormatDate(r.Now))
	b = message.AppendField(b, "Message-ID", message.NewMessageID(r.ID, r.Host))
	if id := messageIDs(r.Header, "Message-ID"); id != "" { // RFC 3834 §3.1.6, RFC 5322 §3.6.4
		b = message.AppendField(b, "In-Reply-To", id)
		before := messageIDs(r.Header, "References")
		if before == "" {
			before = messageIDs(r.Header, "In-Reply-To")
		}
		b = message.AppendField(b, "References", strings.TrimSpace(before+" "+id))
	}
	b = message.AppendField(b, "Auto-Submitted", "auto-replied") // RFC 3834 §5
	b = message.AppendField(b, "MIME-Version", "1.0")
	b = message.AppendField(b, "Content-Type", "text/plain; charset=utf-8")
	b = message.AppendField(b, "Content-Transfer-Encoding", "quoted-printable")
	if _, err := w.Write(append(b, "\r\n"...)); err != nil {
		return fmt.Errorf("write reply: %w", err)
	}
	q := quotedprintable.NewWriter(w)
	text := strings.TrimRight(r.text(), "\n") + "\n"
	_, err := io.WriteString(q, strings.ReplaceAll(text, "\n", "\r\n"))
	if err == nil {
		err = q.Close()
	}
	if err != nil {
		return fmt.Errorf("write reply: %w", err)
	}
	return nil
}

// subject is the one set up, or the message's (RFC 3834 §3.1.5).
func (r *Reply) subject() string {
	if r.Vacation.Subject != "" {
		return r.Vacation.Subject
	}
	s, _ := message.Get(r.Header, "Subject")
	dec := mime.WordDecoder{}
	if d, err := dec.DecodeHeader(s); err == nil {
		s = d
	}
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "?")), " ")
	if runes := []rune(s); len(runes) > maxSubjectRunes {
		s = string(runes[:maxSubjectRunes]) + "…"
	}
	return strings.TrimSpace("Auto: " + s)
}

// text is the one set up, or ours.
func (r *Reply) text() string {
	if r.Vacation.Text != "" {
		return r.Vacation.Text
	}
	until := r.Vacation.Until
	if strings.EqualFold(r.Language, "pl") {
		if until.IsZero() {
			return "Dzień dobry,\n\nnie ma mnie teraz przy poczcie. Przeczytam Twoją wiadomość po powrocie.\n\nTo odpowiedź automatyczna.\n"
		}
		return "Dzień dobry,\n\nnie ma mnie przy poczcie do " + last(until) + ". Przeczytam Twoją wiadomość po powrocie.\n\nTo odpowiedź automatyczna.\n"
	}
	if until.IsZero() {
		return "Hello,\n\nI am away from my mail and will read your message when I am back.\n\nThis is an automatic reply.\n"
	}
	return "Hello,\n\nI am away from my mail until " + last(until) + " and will read your message when I am back.\n\nThis is an automatic reply.\n"
}

// last is the last day of a time whose end is not part of it.
func last(until time.Time) string { return until.Local().Add(-time.Second).Format("2006-01-02") }

// messageIDs are the ids of a field, harmless, the last ones when there are many.
func messageIDs(header []byte, field string) string {
	value, _ := message.Get(header, field)
	var ids []string
	octets := 0
	words := strings.Fields(value)
	for i := len(words) - 1; i >= 0; i-- {
		w := words[i]
		if len(w) < 3 || w[0] != '<' || w[len(w)-1] != '>' || message.NeedsUTF8([]byte(w)) {
			continue
		}
		if octets += len(w) + 1; octets > maxReferenceOctets {
			break
		}
		ids = append([]string{w}, ids...)
	}
	return strings.Join(ids, " ")
}

// mailbox writes a name with an address (RFC 5322 §3.4).
func mailbox(name string, a address.Address) string {
	addr := "<" + a.String() + ">"
	switch {
	case name == "":
		return addr
	case message.NeedsUTF8([]byte(name)):
		return mime.QEncoding.Encode("utf-8", name) + " " + addr
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `" ` + addr
}
