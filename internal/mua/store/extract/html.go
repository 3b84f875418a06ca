package extract

import (
	"bytes"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// maxToken bounds what the tokenizer holds of one tag or text.
const maxToken = 256 << 10

// appendHTML appends the text of HTML without its tags, token by token, without a tree.
func appendHTML(t *text, raw []byte) {
	z := html.NewTokenizer(bytes.NewReader(raw))
	z.SetMaxBuf(maxToken)
	var skip atom.Atom // the element whose content nobody sees
	for !t.full() {
		switch z.Next() {
		case html.ErrorToken: // the end, or a token that is too large
			return
		case html.TextToken:
			if skip == 0 {
				appendVisible(t, z.Text())
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			name, _ := z.TagName()
			tag := atom.Lookup(name)
			switch {
			case skip != 0:
				if tag == atom.Body {
					skip = 0
				}
			case unseen[tag]:
				skip = tag
			case breaks[tag]:
				t.line()
			case tag == atom.Td || tag == atom.Th || tag == atom.Img:
				t.space()
			}
		case html.EndTagToken:
			name, _ := z.TagName()
			tag := atom.Lookup(name)
			if skip != 0 && tag == skip {
				skip = 0
			}
			if breaks[tag] {
				t.line()
			}
		}
	}
}

// unseen are elements whose content nobody sees.
var unseen = map[atom.Atom]bool{atom.Script: true, atom.Style: true, atom.Template: true, atom.Title: true}

// breaks are elements that begin on a line of their own.
var breaks = map[atom.Atom]bool{
	atom.Address: true, atom.Article: true, atom.Blockquote: true, atom.Br: true, atom.Center: true, atom.Dd: true, atom.Div: true, atom.Dt: true,
	atom.Footer: true, atom.Form: true, atom.H1: true, atom.H2: true, atom.H3: true, atom.H4: true, atom.H5: true, atom.H6: true, atom.Header: true,
	atom.Hr: true, atom.Li: true, atom.Ol: true, atom.P: true, atom.Pre: true, atom.Section: true, atom.Table: true, atom.Tr: true, atom.Ul: true,
}

// appendVisible appends text with its blanks squeezed.
func appendVisible(t *text, s []byte) {
	for i := 0; i < len(s) && !t.full(); {
		j := i
		for j < len(s) && s[j] > ' ' {
			j++
		}
		t.writeBytes(s[i:j])
		for i = j; i < len(s) && s[i] <= ' '; i++ {
		}
		if i > j {
			t.space()
		}
	}
}
