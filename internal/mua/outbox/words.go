package outbox

import (
	"fmt"
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
			return r.Reply
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
