package page

import (
	"html/template"
	"strconv"
	"strings"
)

// functions are what templates may call.
func (p *Page) functions() template.FuncMap {
	return template.FuncMap{
		// at is where a page of ours stands.
		"at":      func(path string) string { return p.gate.base + path },
		"size":    size,
		"folder":  func(t *words, name string) string { return t.folder(name) },
		"unread":  func(t *words, n int64) string { return t.count(int(n), nounUnread) },
		"letters": func(t *words, n int64) string { return t.count(int(n), nounLetter) },
		// icon is a sign of our own; the words beside it say what it means.
		"icon": func(name string) template.HTML {
			return template.HTML(`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false"><path d="` + icons[name] + `"/></svg>`) //nolint:gosec // of our table
		},
		"join": strings.Join,
		// ordinal numbers what the code numbers from nought.
		"ordinal": func(n int) string { return strconv.Itoa(n + 1) },
		// about puts what it is about into a text.
		"about":   func(text, what string) string { return strings.Replace(text, "%s", what, 1) },
		"grouped": grouped,
		// pair is a server's part of a form with its words.
		"place": func(t *words, url string) devicePart { return devicePart{t, url} },
		"pair":  func(t *words, s serverView) serverPart { return serverPart{t, s} },
	}
}

// devicePart is the part of a form that says where codes are given.
type devicePart struct {
	T   *words
	URL string
}

// serverPart is a server's part of a form.
type serverPart struct {
	T *words
	S serverView
}

// icons are paths in a square of 24.
var icons = map[string]string{
	"file":     "M7 13.5 13.6 7a3 3 0 0 1 4.2 4.2l-8.1 8.1a5 5 0 0 1-7-7L10.400 4.600",
	"flag":     "M5 21V4h12l-2.500 4.500L17 13H5",
	"answered": "M10 5 3 11.500 10 18v-4.500h3c4 0 6.500 1.500 8 5-.500-6.500-4-9.500-8-9.500h-3z",
	"passed":   "M14 5 21 11.500 14 18v-4.500h-3c-4 0-6.500 1.500-8 5 .500-6.500 4-9.500 8-9.500h3z",
	"write":    "M4 20h4L20 8l-4-4L4 16zM13.500 6.500l4 4",
	"menu":     "M3 6h18M3 12h18M3 18h18",
	"search":   "M10.500 4a6.500 6.500 0 1 0 0 13 6.500 6.500 0 0 0 0-13zM15.500 15.500 21 21",
	"back":     "M15 5l-7 7 7 7",
	"check":    "M4 12.500l5 5L20 6.500",
	"warn":     "M12 4 2.500 20h19zM12 10v5M12 17.500v.5",
}
