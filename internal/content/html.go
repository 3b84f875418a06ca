package content

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// maxToken bounds what the tokenizer holds of one tag or text.
const maxToken = 256 << 10

// htmlReader makes visible text of HTML, token by token, without a tree: its memory does not
// grow with the depth of the document.
type htmlReader struct {
	b     *body
	blank bool // a blank is due in front of the next text
	skip  atom.Atom
	depth int // of elements named skip within it

	hiding      atom.Atom // the element that hides what is inside
	hidingDepth int
	bySize      bool // by font-size, which an inner element can undo
	dark        bool // a background that is not white was seen: white text may be visible

	anchor    bool
	href      string
	shown     []byte
	base      string
	plainFrom int // text from here on is outside of anchors
}

// read reads HTML in UTF-8 and appends its visible text to the body's.
func (h *htmlReader) read(raw []byte) {
	h.plainFrom = len(h.b.text)
	z := html.NewTokenizer(bytes.NewReader(raw))
	z.SetMaxBuf(maxToken)
	for {
		switch z.Next() {
		case html.ErrorToken: // the end, or a token that is too large
			h.endAnchor()
			h.b.plainLinks(h.b.text[min(h.plainFrom, len(h.b.text)):])
			return
		case html.TextToken:
			if h.skip == 0 {
				h.text(unescaped(z.Raw()))
			}
		case html.StartTagToken:
			h.start(z, false)
		case html.SelfClosingTagToken:
			h.start(z, true)
		case html.EndTagToken:
			tag, _ := tagOf(z.Raw())
			h.end(tag)
		}
	}
}

// unescaped decodes entities; z.Text would also copy each text to change its line ends.
func unescaped(t []byte) []byte {
	if bytes.IndexByte(t, '&') < 0 {
		return t
	}
	return []byte(html.UnescapeString(string(t)))
}

// text takes text with its entities decoded.
func (h *htmlReader) text(t []byte) {
	if h.hiding != 0 {
		h.b.hidden += len(bytes.TrimSpace(t))
		return
	}
	dst, limit := h.b.text, h.b.l.Text
	before := len(dst)
	for i := 0; i < len(t) && len(dst)+utf8.UTFMax+1 < limit; {
		if c := t[i]; c < utf8.RuneSelf {
			if c <= ' ' {
				h.blank = true
				i++
				continue
			}
			if h.blank {
				dst = appendBlank(dst)
				h.blank = false
			}
			j := i + 1
			for j < len(t) && t[j] > ' ' && t[j] < utf8.RuneSelf {
				j++
			}
			j = min(j, i+limit-len(dst))
			dst = append(dst, t[i:j]...)
			i = j
			continue
		}
		r, n := utf8.DecodeRune(t[i:])
		i += n
		switch {
		case r == '\u00a0':
			h.blank = true
		case !invisible(r) && r != '\u200c' && r != '\u200d':
			if h.blank {
				dst = appendBlank(dst)
				h.blank = false
			}
			dst = utf8.AppendRune(dst, r)
		}
	}
	h.b.text = dst
	h.b.visible += len(dst) - before
	if h.anchor && len(h.shown) < h.b.l.URL {
		h.shown = append(h.shown, dst[before:]...)
	}
}

// appendBlank appends a blank unless one is there.
func appendBlank(b []byte) []byte {
	if n := len(b); n == 0 || b[n-1] == ' ' || b[n-1] == '\n' {
		return b
	}
	return append(b, ' ')
}

// line ends the line.
func (h *htmlReader) line() {
	h.blank = false
	if n := len(h.b.text); n > 0 && h.b.text[n-1] != '\n' && n < h.b.l.Text {
		h.b.text = append(h.b.text, '\n')
	}
	if h.anchor {
		h.shown = appendBlank(h.shown)
	}
}

// attributes are those that mean something here.
type attributes struct {
	href, src, action, style, color, bgcolor, size string
	hidden                                         bool
}

func readAttributes(z *html.Tokenizer) (a attributes) {
	for n := 0; n < 100; n++ {
		key, value, more := z.TagAttr()
		switch string(key) {
		case "href":
			first(&a.href, value)
		case "src":
			first(&a.src, value)
		case "action":
			first(&a.action, value)
		case "style":
			first(&a.style, value)
		case "color":
			first(&a.color, value)
		case "bgcolor":
			first(&a.bgcolor, value)
		case "size":
			first(&a.size, value)
		case "hidden":
			a.hidden = true
		}
		if !more {
			break
		}
	}
	return a
}

// first keeps the first of attributes that are repeated, as browsers do.
func first(s *string, value []byte) {
	if *s == "" {
		*s = string(value)
	}
}

// tagOf reads the name of a tag; more says that attributes may follow. z.TagName would copy it.
func tagOf(raw []byte) (tag atom.Atom, more bool) {
	raw = bytes.TrimPrefix(raw[1:], []byte{'/'})
	var name [16]byte // longer ones do not matter here
	n := 0
	for n < len(raw) && raw[n] > ' ' && raw[n] != '>' && raw[n] != '/' {
		if n == len(name) {
			return 0, true
		}
		if name[n] = raw[n]; 'A' <= raw[n] && raw[n] <= 'Z' {
			name[n] += 'a' - 'A'
		}
		n++
	}
	return atom.Lookup(name[:n]), n+1 < len(raw)
}

// start takes a start tag.
func (h *htmlReader) start(z *html.Tokenizer, selfClosing bool) {
	tag, more := tagOf(z.Raw())
	if h.skip != 0 {
		if tag == h.skip && tag != atom.Head && !selfClosing {
			h.depth++
		}
		if tag != atom.Body && tag != atom.Base {
			return
		}
		if tag == atom.Body {
			h.skip = 0 // a head without an end
		}
	}
	var a attributes
	if more {
		a = readAttributes(z)
	}
	switch tag {
	case atom.Script:
		h.b.script = true
		h.skip, h.depth = tag, 1
	case atom.Style, atom.Title, atom.Template, atom.Head:
		if !selfClosing {
			h.skip, h.depth = tag, 1
		}
	case atom.Base:
		first(&h.base, []byte(a.href))
	case atom.Form:
		h.b.form = true
		h.b.link(h.resolve(a.action), "", Form)
	case atom.A, atom.Area:
		h.startAnchor(a.href)
		if tag == atom.Area {
			h.endAnchor()
		}
	case atom.Img, atom.Image:
		h.b.link(h.resolve(a.src), "", Image)
		if strings.HasPrefix(a.src, "cid:") || strings.HasPrefix(a.src, "data:") {
			h.b.images++
		}
	}
	if blocks[tag] {
		h.line()
	} else if tag == atom.Td || tag == atom.Th {
		h.blank = true
	}
	h.hide(tag, a, selfClosing)
}

// blocks are the elements that begin on a line of their own.
var blocks = map[atom.Atom]bool{
	atom.Address: true, atom.Article: true, atom.Aside: true, atom.Blockquote: true, atom.Br: true, atom.Center: true, atom.Dd: true, atom.Div: true, atom.Dl: true,
	atom.Dt: true, atom.Fieldset: true, atom.Footer: true, atom.Form: true, atom.H1: true, atom.H2: true, atom.H3: true, atom.H4: true, atom.H5: true,
	atom.H6: true, atom.Header: true, atom.Hr: true, atom.Li: true, atom.Main: true, atom.Nav: true, atom.Ol: true, atom.P: true, atom.Pre: true,
	atom.Section: true, atom.Table: true, atom.Tr: true, atom.Ul: true, atom.Body: true, atom.Option: true,
}

// voids are the elements without an end.
var voids = map[atom.Atom]bool{
	atom.Area: true, atom.Base: true, atom.Br: true, atom.Col: true, atom.Embed: true, atom.Hr: true, atom.Img: true, atom.Image: true, atom.Input: true,
	atom.Link: true, atom.Meta: true, atom.Source: true, atom.Track: true, atom.Wbr: true,
}

// end takes an end tag.
func (h *htmlReader) end(tag atom.Atom) {
	if h.skip != 0 {
		if tag == h.skip {
			if h.depth--; h.depth <= 0 {
				h.skip = 0
			}
		}
		return
	}
	if tag == atom.A {
		h.endAnchor()
	}
	if blocks[tag] && tag != atom.Br {
		h.line()
	}
	if h.hiding != 0 && tag == h.hiding {
		if h.hidingDepth--; h.hidingDepth == 0 {
			h.hiding = 0
		}
	}
}

func (h *htmlReader) startAnchor(href string) {
	h.endAnchor()
	if href = h.resolve(href); href == "" {
		return
	}
	h.b.plainLinks(h.b.text[min(h.plainFrom, len(h.b.text)):])
	h.plainFrom = len(h.b.text)
	h.anchor, h.href, h.shown = true, href, h.shown[:0]
}

func (h *htmlReader) endAnchor() {
	if !h.anchor {
		return
	}
	h.anchor = false
	h.plainFrom = len(h.b.text)
	shown := strings.TrimSpace(string(h.shown))
	n := len(h.b.links)
	h.b.link(h.href, shown, Anchor)
	if len(h.b.links) > n {
		h.b.compareShown(h.b.links[n])
	}
}

// resolve puts the document's base in front of a relative URL; the path does not matter here.
func (h *htmlReader) resolve(url string) string {
	url = strings.TrimFunc(url, func(r rune) bool { return r <= ' ' })
	scheme, rest := cutScheme(url)
	if h.base == "" || url == "" || scheme != "" || strings.HasPrefix(rest, "//") || url[0] == '#' {
		return url
	}
	return strings.TrimRight(h.base, "/") + "/" + strings.TrimLeft(url, "/")
}
