package discover

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/clientconfig"
)

// polish reports whether texts are wanted in Polish; all else is English.
func polish(language string) bool {
	return language == "pl" || strings.HasPrefix(language, "pl-") || strings.HasPrefix(language, "pl_")
}

// choose returns the text in a language.
func choose(language, en, pl string) string {
	if polish(language) {
		return pl
	}
	return en
}

// Text describes a server in one line for people, in English, or in Polish for "pl".
func (s Server) Text(language string) string {
	out := s.place() + ", "
	switch {
	case s.Security == clientconfig.TLS:
		out += "TLS"
	case s.Raised:
		out += choose(language, "STARTTLS (the provider asks for no encryption; it is demanded all the same)", "STARTTLS (dostawca nie żąda szyfrowania; mimo to jest wymagane)")
	default:
		out += "STARTTLS"
	}
	return out + ", " + s.came(language)
}

// came says where a server was found, and what that is worth.
func (s Server) came(language string) string {
	where := clip(s.Where)
	switch {
	case s.Trust == Person:
		return choose(language, "given by you", "podany przez ciebie")
	case s.Source == Guess:
		return choose(language, "found by trying usual names", "znaleziony przez wypróbowanie zwykłych nazw")
	case s.Trust == DNSSEC:
		return choose(language, "found in DNS, proven by DNSSEC ("+where+")", "znaleziony w DNS, potwierdzony przez DNSSEC ("+where+")")
	case s.Trust == HTTPS:
		return choose(language, "told by the domain over HTTPS ("+where+")", "podany przez domenę po HTTPS ("+where+")")
	}
	return choose(language, "found in DNS without proof ("+where+")", "znaleziony w DNS bez potwierdzenia ("+where+")")
}

// Question asks the person to confirm a candidate's doubtful hosts before a name and a
// password go there, in English, or in Polish for "pl"; "" when there is nothing to ask.
func (c Candidate) Question(a address.Address, language string) string {
	hosts := c.Doubtful()
	if len(hosts) == 0 {
		return ""
	}
	list, domain := strings.Join(hosts, ", "), a.Domain().Unicode()
	if polish(language) {
		return fmt.Sprintf("Serwery spoza domeny %s: %s. Nic nie dowodzi, że wskazał je właściciel domeny. Czy wysłać tam nazwę i hasło?", domain, list)
	}
	return fmt.Sprintf("Servers outside the domain %s: %s. Nothing proves that the domain's owner named them. Send name and password there?", domain, list)
}

// Text writes what was tried and what was found, a line each, in English, or in Polish
// for "pl".
func (r *Report) Text(language string) string {
	var b strings.Builder
	for _, s := range r.Steps {
		b.WriteString(s.Text(language) + "\n")
	}
	if len(r.Candidates) == 0 || !r.Candidates[0].Complete() {
		b.WriteString(choose(language, "No servers were found for both sending and fetching; give them by hand.", "Nie znaleziono serwerów do wysyłania i odbierania; podaj je ręcznie.") + "\n")
	}
	for _, c := range r.Candidates {
		for _, s := range slices.Concat(c.Incoming, c.Outgoing) {
			b.WriteString("  " + s.Text(language) + "\n")
		}
	}
	return b.String()
}

// place names a server in a step.
func (s Server) place() string {
	return strings.ToUpper(string(s.Protocol)) + " " + net.JoinHostPort(s.Host, strconv.Itoa(int(s.Port)))
}
