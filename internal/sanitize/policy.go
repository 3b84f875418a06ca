package sanitize

import (
	"regexp"
	"strings"

	"github.com/microcosm-cc/bluemonday"
)

// policy is the allow-list. It is made once and only read.
var policy = newPolicy()

// Patterns of attributes.
var (
	length  = regexp.MustCompile(`^[0-9]{1,4}(\.[0-9]{1,3})?(px|%|em|pt)?$`)
	number  = regexp.MustCompile(`^[0-9]{1,4}$`)
	aligned = regexp.MustCompile(`(?i)^(left|right|center|justify|top|middle|bottom|baseline)$`)
	colour  = regexp.MustCompile(`(?i)^(#[0-9a-f]{3,8}|[a-z]{3,20}|rgba?\([0-9 .,%]{1,40}\))$`)
	lang    = regexp.MustCompile(`^[A-Za-z0-9-]{1,35}$`)
	dir     = regexp.MustCompile(`(?i)^(ltr|rtl|auto)$`)
	face    = regexp.MustCompile(`^[\p{L}\p{N}\s,'"_-]{1,200}$`)
)

func newPolicy() *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	p.AllowElements("p", "div", "span", "br", "hr", "wbr", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "pre", "code", "kbd", "samp", "var", "tt",
		"b", "strong", "i", "em", "u", "s", "strike", "del", "ins", "small", "big", "sub", "sup", "mark", "q", "cite", "abbr", "address", "center", "font",
		"ul", "ol", "li", "dl", "dt", "dd", "table", "caption", "colgroup", "col", "thead", "tbody", "tfoot", "tr", "td", "th", "figure", "figcaption",
		"article", "section", "header", "footer", "main", "aside", "nav", "details", "summary", "a", "img", "bdi", "bdo")
	p.AllowNoAttrs().OnElements("span", "font", "img", "a", "bdo")
	p.AllowAttrs("dir").Matching(dir).Globally()
	p.AllowAttrs("lang").Matching(lang).Globally()
	p.AllowAttrs("title").Globally()
	p.AllowAttrs("align", "valign").Matching(aligned).Globally()
	p.AllowAttrs("bgcolor").Matching(colour).OnElements("table", "tr", "td", "th", "tbody", "thead", "div", "p")
	p.AllowAttrs("color").Matching(colour).OnElements("font")
	p.AllowAttrs("face").Matching(face).OnElements("font")
	p.AllowAttrs("size").Matching(regexp.MustCompile(`^[+-]?[0-9]$`)).OnElements("font")
	p.AllowAttrs("width", "height").Matching(length).OnElements("img", "table", "td", "th", "tr", "col", "colgroup", "hr", "div")
	p.AllowAttrs("border", "cellpadding", "cellspacing", "hspace", "vspace").Matching(number).OnElements("table", "img")
	p.AllowAttrs("colspan", "rowspan", "span", "start", "value").Matching(number).OnElements("td", "th", "col", "colgroup", "ol", "li")
	p.AllowAttrs("alt").OnElements("img")
	p.AllowAttrs("class").Matching(regexp.MustCompile(`^blocked$`)).OnElements("img")
	p.AllowAttrs("class").Matching(regexp.MustCompile(`^leads-to$`)).OnElements("span")
	p.AllowAttrs("src").OnElements("img")
	p.AllowAttrs("href").OnElements("a")
	p.AllowURLSchemes("http", "https", "mailto", "tel")
	p.AllowDataURIImages()
	p.AllowRelativeURLs(true) // the pass before has left none but ours
	p.RequireParseableURLs(true)
	p.RequireNoFollowOnLinks(true)
	p.RequireNoReferrerOnLinks(true)
	p.AddTargetBlankToFullyQualifiedLinks(true)
	styles(p)
	return p
}

// styles allows what lays text out, without what could load, move out of its place or cover.
func styles(p *bluemonday.Policy) {
	p.AllowStyles("color", "background-color", "font", "font-family", "font-size", "font-style", "font-weight", "font-variant", "text-align", "text-decoration",
		"text-indent", "text-transform", "letter-spacing", "word-spacing", "line-height", "vertical-align", "white-space", "word-break", "direction",
		"width", "min-width", "max-width", "height", "max-height", "padding", "padding-top", "padding-right", "padding-bottom", "padding-left",
		"margin", "margin-top", "margin-right", "margin-bottom", "margin-left", "border", "border-top", "border-right", "border-bottom", "border-left",
		"border-color", "border-style", "border-width", "border-radius", "border-collapse", "border-spacing", "list-style-type", "display", "float", "clear").
		MatchingHandler(plain).Globally()
}

// harmless is what a value of a style may consist of.
var harmless = regexp.MustCompile(`^[\p{L}\p{N}\s.,%#'"!()+_-]{1,200}$`)

// plain refuses values that load or compute something, or that reach out of their place.
func plain(v string) bool {
	l := strings.ToLower(v)
	if !harmless.MatchString(v) || strings.ContainsAny(v, `\`) {
		return false
	}
	for _, bad := range []string{"url", "expression", "image", "attr(", "var(", "env(", "calc(", "import", "javascript", "behavior", "binding"} {
		if strings.Contains(l, bad) {
			return false
		}
	}
	for word := range strings.FieldsSeq(l) {
		if strings.HasPrefix(word, "-") && len(word) > 1 && word[1] >= '0' && word[1] <= '9' || word == "fixed" || word == "sticky" {
			return false
		}
	}
	return true
}
