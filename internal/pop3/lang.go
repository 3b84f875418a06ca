package pop3

import "strings"

// Language is a language of reply texts (RFC 6856 §3). The zero value is English.
type Language uint8

// The languages that we speak.
const (
	English Language = iota
	Polish
	numLanguages
)

var languages = [numLanguages]struct{ tag, name string }{
	English: {"en", "English"},
	Polish:  {"pl", "polski"},
}

// Tag returns the language tag (RFC 5646).
func (l Language) Tag() string { return languages[l].tag }

// MatchLanguage finds the language for a basic language range (RFC 4647 §2.1)
// by lookup (§3.4): en-GB finds en. It also returns the tag selected. "*" is
// the caller's business.
func MatchLanguage(r string) (l Language, tag string, ok bool) {
	for r != "" {
		for i, known := range languages {
			if strings.EqualFold(r, known.tag) {
				return Language(i), known.tag, true
			}
		}
		i := strings.LastIndexByte(r, '-')
		if i < 0 {
			return English, "", false
		}
		r = r[:i]
		if i >= 2 && r[i-2] == '-' { // a single-letter subtag goes with what follows it
			r = r[:i-2]
		}
	}
	return English, "", false
}

// AppendLanguages appends the language listing and the termination octet.
func AppendLanguages(b []byte) []byte {
	for _, l := range languages {
		b = append(append(append(b, l.tag...), ' '), l.name...)
		b = append(b, "\r\n"...)
	}
	return append(b, ".\r\n"...)
}

// Text is a text of a reply. It is printed in a Language by In.
type Text uint8

// In returns the text in language l.
func (t Text) In(l Language) string { return texts[t][l] }

// Octets returns the word for n octets in language l: one octet, many octets.
func Octets(l Language, n int64) string { return plural(l, n, octetForms) }

// Messages returns the word for n messages in language l.
func Messages(l Language, n int64) string { return plural(l, n, messageForms) }

var (
	octetForms   = [numLanguages][3]string{English: {"octet", "octets", "octets"}, Polish: {"oktet", "oktety", "oktetów"}}
	messageForms = [numLanguages][3]string{English: {"message", "messages", "messages"}, Polish: {"wiadomość", "wiadomości", "wiadomości"}}
)

// plural picks the form for one, for two to four, and for many. In Polish 22 is
// like 2, but 12 is like 5.
func plural(l Language, n int64, forms [numLanguages][3]string) string {
	ten, hundred := n%10, n%100
	switch {
	case n == 1:
		return forms[l][0]
	case ten >= 2 && ten <= 4 && (hundred < 12 || hundred > 14):
		return forms[l][1]
	}
	return forms[l][2]
}
