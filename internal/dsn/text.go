package dsn

import (
	"mime"
	"mime/quotedprintable"
	"strings"
	"time"

	"poczta.example/poczta/internal/message"
)

// texts are the sentences of one language.
type texts struct {
	code    string
	from    string
	subject map[Action]string
	first   map[Action]string // paragraph in front of the recipients
	last    map[Action]string // paragraph behind them
	about   string            // the original's subject
	sent    string            // the original's arrival
	said    string            // the reply of another host
	until   string
	relayed string
	expands string
}

// textsFor returns the texts of a language; English for those we have not.
func textsFor(language string) *texts {
	if strings.EqualFold(language, "pl") {
		return &polish
	}
	return &english
}

var english = texts{
	code: "en",
	from: "Mail Delivery System",
	subject: map[Action]string{
		Failed: "Your message could not be delivered", Delayed: "Your message is delayed", Delivered: "Your message was delivered",
	},
	first: map[Action]string{
		Failed:    "Your message could not be delivered to:",
		Delayed:   "Your message has not been delivered yet to:",
		Delivered: "Your message was delivered to:",
	},
	last: map[Action]string{
		Failed:    "We will not try again. Check the address and the reason above, and send the message anew if it should still arrive.",
		Delayed:   "You need not do anything: we keep trying and tell you if it does not succeed.",
		Delivered: "You asked for this confirmation. It says that the message lies in the mailbox, not that somebody has read it.",
	},
	about:   "Subject of your message: ",
	sent:    "We received it: ",
	said:    "The receiving server said: ",
	until:   "We keep trying until ",
	relayed: "handed to a server that sends no confirmations",
	expands: "passed on to the members of a list or to a forwarding address",
}

var polish = texts{
	code: "pl",
	from: "Mail Delivery System",
	subject: map[Action]string{
		Failed: "Nie udało się doręczyć Twojej wiadomości", Delayed: "Twoja wiadomość jest opóźniona", Delivered: "Twoja wiadomość została doręczona",
	},
	first: map[Action]string{
		Failed:    "Twojej wiadomości nie udało się doręczyć do:",
		Delayed:   "Twoja wiadomość nie została jeszcze doręczona do:",
		Delivered: "Twoja wiadomość została doręczona do:",
	},
	last: map[Action]string{
		Failed:    "Nie będziemy próbować ponownie. Sprawdź adres i podaną wyżej przyczynę, a jeśli wiadomość ma dotrzeć, wyślij ją jeszcze raz.",
		Delayed:   "Nie musisz nic robić: próbujemy dalej i damy znać, jeśli się nie uda.",
		Delivered: "To potwierdzenie, o które prosisz. Oznacza, że wiadomość leży w skrzynce, a nie że ktoś ją przeczytał.",
	},
	about:   "Temat Twojej wiadomości: ",
	sent:    "Otrzymaliśmy ją: ",
	said:    "Odpowiedź serwera odbiorcy: ",
	until:   "Próbujemy do ",
	relayed: "przekazano serwerowi, który nie wysyła potwierdzeń",
	expands: "przekazano członkom listy lub na adres przekierowania",
}

// explanation writes the part for people.
func (r *Report) explanation(p *printer) {
	t := textsFor(r.Language)
	p.part("Content-Type: text/plain; charset=utf-8\r\nContent-Language: " + t.code + "\r\nContent-Transfer-Encoding: quoted-printable\r\n")
	var b strings.Builder
	b.WriteString(t.first[r.kind()] + "\n\n")
	for _, rcpt := range r.Recipients {
		t.recipient(&b, r, rcpt)
	}
	b.WriteString("\n" + t.last[r.kind()] + "\n\n")
	if s := subjectOf(r.Header); s != "" {
		b.WriteString(t.about + s + "\n")
	}
	if !r.Arrival.IsZero() {
		b.WriteString(t.sent + stamp(r.Arrival) + "\n")
	}
	b.WriteString("\n-- \n" + r.ReportingMTA.Unicode() + "\n")
	if p.err != nil {
		return
	}
	q := quotedprintable.NewWriter(p.w)
	if _, p.err = q.Write([]byte(strings.ReplaceAll(b.String(), "\n", "\r\n"))); p.err == nil {
		p.err = q.Close()
	}
	p.text("\r\n")
}

// recipient writes the lines of one recipient.
func (t *texts) recipient(b *strings.Builder, r *Report, rcpt Recipient) {
	shown := rcpt.Final.Address().Unicode()
	if shown == "" {
		shown = finalText(rcpt.Final, r.ReportingMTA)
	}
	b.WriteString("    " + shown)
	switch rcpt.Action {
	case Relayed:
		b.WriteString(" (" + t.relayed + ")")
	case Expanded:
		b.WriteString(" (" + t.expands + ")")
	}
	b.WriteString("\n")
	if rcpt.Diagnostic != "" {
		b.WriteString("        " + t.said + oneLine(rcpt.Diagnostic) + "\n")
	}
	if rcpt.Action == Delayed && !rcpt.RetryUntil.IsZero() {
		b.WriteString("        " + t.until + stamp(rcpt.RetryUntil) + "\n")
	}
}

// subjectOf returns the original's subject, readable and cut.
func subjectOf(header []byte) string {
	s, _ := message.Get(header, "Subject")
	dec := mime.WordDecoder{}
	if d, err := dec.DecodeHeader(s); err == nil {
		s = d
	}
	s = oneLine(s)
	const most = 120
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return s
}

func stamp(t time.Time) string { return t.Format("2006-01-02 15:04 -0700") }
