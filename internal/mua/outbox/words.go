package outbox

import (
	"fmt"
	"regexp"
	"strings"

	"poczta.example/poczta/internal/dsn"
)

// Words say what became of a recipient's copy, in a sentence or two for people: in Polish for "pl",
// else in English. The server's own words follow where there are some.
func (r Recipient) Words(language string) string {
	pl := language == "pl"
	choose := func(en, polish string) string {
		if pl {
			return polish
		}
		return en
	}
	said := ""
	if r.Reply != "" && r.Code != 0 {
		said = " " + fmt.Sprintf(choose("The server said: %s", "Serwer odpowiedział: %s"), strings.Join(strings.Fields(fmt.Sprint(r.Code, " ", r.Status, " ", r.Reply)), " "))
	}
	switch r.State {
	case Sent:
		return choose("Your server has taken it.", "Twój serwer ją przyjął.")
	case Sending:
		return choose("It is being sent.", "Jest właśnie wysyłana.")
	case Perhaps:
		return choose("It was perhaps sent: the connection broke before the server confirmed it. Ask whether it arrived, then decide whether it is sent again.",
			"Być może została wysłana: połączenie zerwało się, zanim serwer potwierdził. Zapytaj, czy dotarła, a potem zdecyduj, czy wysłać ją jeszcze raz.") + said
	case Refused:
		if r.Code == 0 {
			return Say(r.Reply, language)
		}
		return r.meaning(language, choose("The server refused it.", "Serwer jej nie przyjął.")) + said
	}
	if r.Code == 0 {
		return choose("It waits.", "Czeka.")
	}
	return r.meaning(language, choose("The server does not take it yet.", "Serwer jeszcze jej nie przyjmuje.")) + " " + choose("It will be tried again.", "Próba będzie powtórzona.") + said
}

// meaning is what the reply's status means, or else what is said of any.
func (r Recipient) meaning(language, other string) string {
	s := dsn.Status{Class: r.Code / 100}
	if n, err := fmt.Sscanf(r.Status, "%d.%d.%d", &s.Class, &s.Subject, &s.Detail); n == 3 && err == nil {
		if why := dsn.Reason(s, language); why != "" {
			return why
		}
	}
	return other
}

// Words say the problem to people: in Polish for "pl", else in English.
func (p Problem) Words(language string) string { return Say(p.Text, language) }

// Words say what a report says of the recipient, to people: in Polish for "pl", else in English.
func (r Report) Words(language string) string {
	pl := language == "pl"
	text, known := map[dsn.Action][2]string{
		dsn.Failed:    {"A report came back: it was not delivered.", "Przyszło powiadomienie: nie dostarczono."},
		dsn.Delayed:   {"A report came back: it is delayed, and tried again.", "Przyszło powiadomienie: doręczenie się opóźnia, próby trwają."},
		dsn.Delivered: {"A report came back: it was delivered.", "Przyszło powiadomienie: dostarczono."},
		dsn.Relayed:   {"A report came back: it was passed on to a server that does not report.", "Przyszło powiadomienie: przekazano dalej serwerowi, który nie powiadamia."},
		dsn.Expanded:  {"A report came back: it was passed on to several addresses.", "Przyszło powiadomienie: przekazano dalej na kilka adresów."},
	}[r.Action]
	if !known {
		text = [2]string{"A report came back that is not understood.", "Przyszło powiadomienie, którego nie da się zrozumieć."}
	}
	out := text[0]
	if pl {
		out = text[1]
	}
	if r.Action == dsn.Failed || r.Action == dsn.Delayed {
		out += reportedReason(r.Status, language)
	}
	if r.Diagnostic != "" {
		out += " " + quotedWords(r.Diagnostic, language)
	}
	return out
}

func reportedReason(status, language string) string {
	var s dsn.Status
	if n, err := fmt.Sscanf(status, "%d.%d.%d", &s.Class, &s.Subject, &s.Detail); n != 3 || err != nil {
		return ""
	}
	if why := dsn.Reason(s, language); why != "" {
		return " " + why
	}
	return ""
}

// quotedWords are a server's own.
func quotedWords(text, language string) string {
	if language == "pl" {
		return "Serwer odpowiedział: „" + text + "”"
	}
	return "The server said: “" + text + "”"
}

// polishSayings are our own sentences in the outbox, in Polish. What a server or the system said
// stays in its words, between quotation marks.
var polishSayings = []struct {
	re *regexp.Regexp
	pl string
}{
	{regexp.MustCompile(`^The account that should send it is not there any more\.$`), "Nie ma już konta, które miało wysłać ten list."},
	{regexp.MustCompile(`^The server put it off: (.*)$`), "Serwer odłożył przyjęcie listu: „$1”"},
	{regexp.MustCompile(`^The connection was lost before the server confirmed the letter\.$`), "Połączenie zerwało się, zanim serwer potwierdził przyjęcie listu."},
	{regexp.MustCompile(`^The program ended while the letter left; the server will recognise it\.$`), "Program zakończył się w trakcie wysyłania; serwer rozpozna ten list."},
	{regexp.MustCompile(`^The letter was taken out of the folder Outbox\.$`), "List wyjęto z folderu Outbox."},
	{regexp.MustCompile(`^The letter is damaged on this computer's disk and can't be sent\.$`), "List jest uszkodzony na dysku tego komputera i nie da się go wysłać."},
	{regexp.MustCompile(`^It was stopped before it left\.$`), "Zatrzymano go przed wysłaniem."},
	{regexp.MustCompile(`^(.*) is no e-mail address\.$`), "$1 nie jest adresem e-mail."},
	{regexp.MustCompile(`^The domain (\S+) says that it takes no mail\.$`), "Domena $1 podaje, że nie przyjmuje poczty."},
	{regexp.MustCompile(`^There can't be a domain named (.+); is it spelled right\?$`), "Nie może istnieć domena o nazwie $1; czy nie ma w niej literówki?"},
	{regexp.MustCompile(`^There is no domain (.+); is it spelled right\?$`), "Nie ma domeny $1; czy nie ma w niej literówki?"},
	{regexp.MustCompile(`^The domain (.+) has no server that takes mail; is it spelled right\?$`), "Domena $1 nie ma serwera, który przyjmuje pocztę; czy nie ma w niej literówki?"},
	{regexp.MustCompile(`^(?i)the mail was restored from a backup, and this may have been sent since$`), "Pocztę odtworzono z kopii zapasowej, a ten list mógł już zostać wysłany."},
	{regexp.MustCompile(`^The server (\S+) can't carry this letter: it does not offer (\S+), which (.*) needs\.$`), "Serwer $1 nie potrafi przesłać tego listu: nie oferuje rozszerzenia $2, którego ten list wymaga."},
	{regexp.MustCompile(`(?s)^The server (\S+) takes 7-bit letters only, and this one can't be made one: (.*)\.$`), "Serwer $1 przyjmuje tylko listy 7-bitowe, a tego nie da się tak zapisać: „$2”"},
	{regexp.MustCompile(`^The server said nothing about it\.$`), "Serwer nic o nim nie powiedział."},
	{regexp.MustCompile(`(?s)^The server can't be reached; is this computer on the network\? \((.*)\)$`), "Nie da się połączyć z serwerem; czy ten komputer jest w sieci? („$1”)"},
	{regexp.MustCompile(`(?s)^The server does not let us in: .*?certificate of (\S+) is not trusted: .*$`), "Certyfikat serwera $1 nie jest zaufany; nic tam nie wysłano. W ustawieniach konta można go sprawdzić i przyjąć."},
	{regexp.MustCompile(`(?s)^The server does not let us in: (.*)$`), "Serwer nas nie wpuszcza: „$1”"},
	{regexp.MustCompile(`(?s)^(?i)at [^:]+: server said (.*)$`), "Serwer odpowiedział: „$1”"},
}

// Say says a sentence that an Item, a Recipient or a Problem holds in a person's language: in Polish
// for "pl", else as it is, in English. A sentence that is not ours is quoted.
func Say(text, language string) string {
	if language != "pl" || text == "" {
		return text
	}
	for _, s := range polishSayings {
		if m := s.re.FindStringSubmatchIndex(text); m != nil {
			return string(s.re.ExpandString(nil, s.pl, text, m))
		}
	}
	return "Program podaje: „" + text + "”"
}
