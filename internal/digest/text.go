package digest

import (
	"strconv"
	"strings"

	"poczta.example/poczta/internal/verdict"
)

// language is the sentences of digests and pages.
type language struct {
	Code                                                   string
	Title, Intro, More, NoSubject                          string
	From, Subject, Date, Why, Points                       string
	Show, ReleaseByMail, Expires, Stop, StopLink           string
	Release, Allow, Delete, Preview, Cut, Attached, NoText string
	OperatorOnly, Hint                                     string
	Released, Allowed, Deleted, Gone, Invalid, TooMany     string
	StopAsk, StopDo, Stopped, Failed, NoSender, BadRequest string

	spam, forged, blocked, danger, rule, moved string
	comma                                      bool
}

var english = language{
	Code: "en", Title: "Mail that was set apart", NoSubject: "(no subject)",
	Intro: "These messages to you were taken for spam or for dangerous, so they are not in your mailbox. If one of them is wanted, release it.",
	More:  "Further messages that are not listed here:",
	From:  "From", Subject: "Subject", Date: "Received", Why: "Reason", Points: "points",
	Show: "Show", ReleaseByMail: "Release by mail",
	Expires: "The links are good for 14 days. Who has them can release these messages: don't forward this mail.",
	Stop:    "If you want no such mail any more:", StopLink: "no more digests",
	Release: "Release", Allow: "Release, and always allow this sender", Delete: "Delete",
	Preview: "Beginning of the text", Cut: "The message is longer.", Attached: "Attachments", NoText: "There is no text.",
	OperatorOnly: "Only the operator of the mail server can release this message, since it may be dangerous.",
	Hint:         "Nothing happens until you press a button. Addresses in the text are not links on purpose.",
	Released:     "The message was released. Your mail program will fetch it as new.", Allowed: "The message was released, and its sender is allowed from now on.",
	Deleted: "The message was deleted.", Gone: "The message is not here any more: it was released or deleted already, or its time is over.",
	Invalid: "This link is not valid, or too old.", TooMany: "There were too many wrong links from your network. Try again later.",
	StopAsk: "Do you want no more digests?", StopDo: "No more digests", Stopped: "You will get no more digests.",
	Failed: "That did not work. Try again later.", NoSender: "The sender's address can't be read, so it can't be allowed. Release the message alone.", BadRequest: "The form was not understood.",
	spam: "It looks like spam.", forged: "Its sender may be forged.", blocked: "Its sender is on a list of those who are not wanted.",
	danger: "It may be dangerous: a virus or an attachment that is not let in.", rule: "A rule of the server.", moved: "It was put there by hand.",
}

var polish = language{
	Code: "pl", Title: "Zatrzymane wiadomości", NoSubject: "(bez tematu)", comma: true,
	Intro: "Te wiadomości do Ciebie zostały uznane za spam albo za niebezpieczne, więc nie ma ich w Twojej skrzynce. Jeśli któraś jest potrzebna, zwolnij ją.",
	More:  "Dalsze wiadomości, których tu nie ma:",
	From:  "Od", Subject: "Temat", Date: "Otrzymano", Why: "Powód", Points: "pkt",
	Show: "Pokaż", ReleaseByMail: "Zwolnij pocztą",
	Expires: "Odnośniki są ważne 14 dni. Kto je ma, może zwolnić te wiadomości: nie przesyłaj tego listu dalej.",
	Stop:    "Jeśli nie chcesz więcej takich listów:", StopLink: "bez dalszych zestawień",
	Release: "Zwolnij", Allow: "Zwolnij i zawsze przepuszczaj tego nadawcę", Delete: "Usuń",
	Preview: "Początek treści", Cut: "Wiadomość jest dłuższa.", Attached: "Załączniki", NoText: "Nie ma tekstu.",
	OperatorOnly: "Tę wiadomość może zwolnić tylko operator serwera, bo może być niebezpieczna.",
	Hint:         "Nic się nie stanie, dopóki nie naciśniesz przycisku. Adresy w treści celowo nie są odnośnikami.",
	Released:     "Wiadomość została zwolniona. Twój program pocztowy pobierze ją jako nową.", Allowed: "Wiadomość została zwolniona, a jej nadawca będzie odtąd przepuszczany.",
	Deleted: "Wiadomość została usunięta.", Gone: "Wiadomości już tu nie ma: została zwolniona albo usunięta, albo jej czas minął.",
	Invalid: "Ten odnośnik jest nieważny albo zbyt stary.", TooMany: "Z Twojej sieci przyszło zbyt wiele błędnych odnośników. Spróbuj później.",
	StopAsk: "Czy nie chcesz więcej zestawień?", StopDo: "Bez dalszych zestawień", Stopped: "Nie będziesz dostawać zestawień.",
	Failed: "To się nie udało. Spróbuj później.", NoSender: "Nie można odczytać adresu nadawcy, więc nie da się go przepuszczać. Zwolnij samą wiadomość.", BadRequest: "Formularz jest niezrozumiały.",
	spam: "Wygląda na spam.", forged: "Nadawca może być podrobiony.", blocked: "Nadawca jest na liście niechcianych.",
	danger: "Może być niebezpieczna: wirus albo niedozwolony załącznik.", rule: "Reguła serwera.", moved: "Odłożona ręcznie.",
}

// languageOf is the language of a code; English for what we don't speak.
func languageOf(code string) *language {
	if code == "pl" {
		return &polish
	}
	return &english
}

// why says a rule in plain words.
func (l *language) why(rule string) string {
	if strings.HasPrefix(rule, "score ") {
		return l.spam
	}
	if strings.HasPrefix(rule, "moved by ") {
		return l.moved
	}
	row, known := verdict.Rows[verdict.Name(rule)]
	if !known {
		return l.rule
	}
	switch row.Group {
	case verdict.Authentication:
		return l.forged
	case verdict.Preference:
		return l.blocked
	case verdict.Danger:
		return l.danger
	case verdict.Operator, verdict.Outside:
		return l.rule
	default:
		return l.spam
	}
}

// number writes a score.
func (l *language) number(x float64) string {
	s := strconv.FormatFloat(x, 'f', 1, 64)
	if l.comma {
		s = strings.Replace(s, ".", ",", 1)
	}
	return s
}
