package page

import (
	"strings"

	"poczta.example/poczta/internal/mua/store/search"
)

var sayNoField = saying{"“{name}:” is no field of a search, so “{word}” was looked for as text; fields are {fields}. Put it in quotes, \"{word}\", when the text is meant.",
	"„{name}:” nie jest polem wyszukiwania, więc szukano tekstu „{word}”; pola to {fields}. Gdy chodzi o tekst, napisz go w cudzysłowie: \"{word}\"."}

// searchHint says that a word of a search looks like a field, and is none; "" is nothing.
func (t *words) searchHint(text string) string {
	unknown := search.Unknown(text)
	if len(unknown) == 0 {
		return ""
	}
	word := strings.ReplaceAll(unknown[0], `"`, "")
	name, _, _ := strings.Cut(word, ":")
	return strings.NewReplacer("{name}", name, "{word}", word, "{fields}", strings.Join(search.Fields(), ", ")).Replace(t.say(sayNoField))
}
