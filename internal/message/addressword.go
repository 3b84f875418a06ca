package message

import "strings"

// listWord is one word of a phrase, local-part or domain; a dot is a word of its own.
type listWord struct {
	text   string
	quoted bool
	glued  bool // stands right behind the word in front of it
}

// peek returns the present octet, 0 at the end.
func (p *listParser) peek() byte {
	if p.i < len(p.s) {
		return p.s[p.i]
	}
	return 0
}

// skip passes blanks and comments, which nest (RFC 5322 §3.2.2).
func (p *listParser) skip() error {
	for p.i < len(p.s) {
		switch p.s[p.i] {
		case ' ', '\t', '\r', '\n':
			p.i++
		case '(':
			if !p.comment() {
				return p.fail("the comment is not closed")
			}
		default:
			return nil
		}
	}
	return nil
}

func (p *listParser) comment() bool {
	depth := 0
	for i := p.i; i < len(p.s); i++ {
		switch p.s[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			depth--
			if depth == 0 {
				p.i = i + 1
				return true
			}
		}
	}
	return false
}

// phrase reads words and dots up to a special. dotted reports that they are
// word *("." word), as a local-part or domain must be.
func (p *listParser) phrase() (words []listWord, dotted bool, err error) {
	dotted = true
	wantWord := true
	for {
		before := p.i
		if err := p.skip(); err != nil {
			return nil, false, err
		}
		glued := before == p.i
		c := p.peek()
		switch {
		case c == '.':
			p.i++
			dotted = dotted && !wantWord
			wantWord = true
			words = append(words, listWord{text: ".", glued: true})
		case c == '"':
			text, ok := p.quoted()
			if !ok {
				return nil, false, p.fail("the quote is not closed")
			}
			dotted = dotted && wantWord
			wantWord = false
			words = append(words, listWord{text: text, quoted: true, glued: glued})
		case isListAtom(c):
			from := p.i
			for p.i < len(p.s) && isListAtom(p.s[p.i]) {
				p.i++
			}
			dotted = dotted && wantWord
			wantWord = false
			words = append(words, listWord{text: p.s[from:p.i], glued: glued})
		default:
			return words, dotted && !wantWord, nil
		}
		if len(words) > maxListItems {
			return nil, false, p.fail("more words than can be read")
		}
	}
}

// quoted reads a quoted-string and returns its value.
func (p *listParser) quoted() (string, bool) {
	var b strings.Builder
	for i := p.i + 1; i < len(p.s); i++ {
		switch c := p.s[i]; c {
		case '"':
			p.i = i + 1
			return b.String(), true
		case '\\':
			i++
			if i < len(p.s) {
				b.WriteByte(p.s[i])
			}
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}

// isListAtom reports atext (RFC 5322 §3.2.3, RFC 6532 §3.2).
func isListAtom(c byte) bool {
	return c > ' ' && c != 0x7f && strings.IndexByte(`()<>[]:;@\,."`, c) < 0
}
