package dsn

import (
	"fmt"
	"mime"
	"mime/quotedprintable"
	"strconv"
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
	detail  string            // our own words, or nobody knows any more whose
	until   string
	later   string // a rule of the other host's that may pass
	relayed string
	expands string
	reasons map[string]string // what a status means, by subject.detail or subject alone
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
		Relayed:   "You asked for this confirmation. It says that the next server has taken the message; it need not mean that it has arrived.",
	},
	about:   "Subject of your message: ",
	sent:    "We received it: ",
	said:    "The receiving server said: ",
	detail:  "In detail: ",
	until:   "We keep trying until ",
	later:   "The receiving server does not take the message yet.",
	relayed: "handed on to the next server",
	expands: "passed on to the members of a list or to a forwarding address",
	reasons: map[string]string{
		"1.1": "There is no such address there.", "1.2": "The domain behind the @ does not exist.", "1.10": "This domain takes no mail.",
		"2.1": "The mailbox is closed.", "2.2": "The mailbox is full.", "2.3": "The message is too large for that mailbox.", "3.4": "The message is too large for that server.",
		"4.1": "The receiving server does not answer.", "4.3": "The receiving server can't be found at present.", "4.4": "The domain has no server that takes mail.",
		"4.6": "The mail would go round in circles.", "4.7": "We tried for as long as is allowed, in vain.", "4": "The way to the receiving server is disturbed.",
		"6.3": "The receiving server can't take the message in the form that it has.", "6.7": "The receiving server does not know addresses with such letters.",
		"6.9": "The receiving server does not know such letters in the header.", "7.10": "The message asks for encryption, which the receiving server does not offer.",
		"7.30": "The message asks for encryption all the way, which the receiving server does not promise.", "7": "The receiving server refused the message by its rules.",
	},
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
		Relayed:   "To potwierdzenie, o które prosisz. Oznacza, że wiadomość przyjął następny serwer, a nie że dotarła na miejsce.",
	},
	about:   "Temat Twojej wiadomości: ",
	sent:    "Otrzymaliśmy ją: ",
	said:    "Odpowiedź serwera odbiorcy: ",
	detail:  "Szczegóły: ",
	until:   "Próbujemy do ",
	later:   "Serwer odbiorcy jeszcze nie przyjmuje tej wiadomości.",
	relayed: "przekazano następnemu serwerowi",
	expands: "przekazano członkom listy lub na adres przekierowania",
	reasons: map[string]string{
		"1.1": "Nie ma tam takiego adresu.", "1.2": "Domena po znaku @ nie istnieje.", "1.10": "Ta domena nie przyjmuje poczty.",
		"2.1": "Skrzynka jest zamknięta.", "2.2": "Skrzynka jest pełna.", "2.3": "Wiadomość jest za duża dla tej skrzynki.", "3.4": "Wiadomość jest za duża dla tamtego serwera.",
		"4.1": "Serwer odbiorcy nie odpowiada.", "4.3": "Serwera odbiorcy nie można teraz odnaleźć.", "4.4": "Domena nie ma serwera, który przyjmuje pocztę.",
		"4.6": "Wiadomość krążyłaby w kółko.", "4.7": "Próbowaliśmy tak długo, jak to dozwolone, bez skutku.", "4": "Droga do serwera odbiorcy jest zakłócona.",
		"6.3": "Serwer odbiorcy nie przyjmuje wiadomości w takiej postaci.", "6.7": "Serwer odbiorcy nie zna adresów z takimi literami.",
		"6.9": "Serwer odbiorcy nie zna takich liter w nagłówku.", "7.10": "Wiadomość wymaga szyfrowania, którego serwer odbiorcy nie oferuje.",
		"7.30": "Wiadomość wymaga szyfrowania na całej drodze, czego serwer odbiorcy nie obiecuje.", "7": "Serwer odbiorcy odrzucił wiadomość według swoich zasad.",
	},
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
	b.WriteString("\n" + t.last[r.ending()] + "\n\n")
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
	if why := t.reason(rcpt.Status); why != "" && rcpt.Status.Class > 2 {
		b.WriteString("        " + why + "\n")
	}
	switch {
	case rcpt.Diagnostic == "":
	case rcpt.RemoteMTA == "":
		b.WriteString("        " + t.detail + oneLine(rcpt.Diagnostic) + "\n")
	default:
		b.WriteString("        " + t.said + oneLine(rcpt.Diagnostic) + "\n")
	}
	if rcpt.Action == Delayed && !rcpt.RetryUntil.IsZero() {
		b.WriteString("        " + t.until + stamp(rcpt.RetryUntil) + "\n")
	}
}

// ending chooses the last paragraph: mail that was only handed on is not in a mailbox yet.
func (r *Report) ending() Action {
	for _, rcpt := range r.Recipients {
		if rcpt.Action != Relayed {
			return r.kind()
		}
	}
	return Relayed
}

// Reason says in a sentence what a status means, in Polish for "pl", else in English; "" when we
// have no words for it.
func Reason(s Status, language string) string { return textsFor(language).reason(s) }

// reason says in plain words what a status means; "" when we have none.
func (t *texts) reason(s Status) string {
	if why, ok := t.reasons[fmt.Sprintf("%d.%d", s.Subject, s.Detail)]; ok {
		return why
	}
	if s.Subject == 7 && s.Class == 4 { // as greylisting is
		return t.later
	}
	return t.reasons[strconv.Itoa(s.Subject)]
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
