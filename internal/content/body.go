package content

import (
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"poczta.example/poczta/internal/mime"
)

// body gathers what the parts say.
type body struct {
	l     Limits
	room  int // octets that may still be decoded
	buf   []byte
	text  []byte
	links []Link
	parts []*mime.Part

	plain, html   bool // there are such parts
	form, script  bool
	images        int // parts and links
	hidden        int // octets of text that HTML hides
	visible       int // octets of text that HTML shows
	disguised     string
	anchorDiffers string
}

// part takes a part.
func (b *body) part(r io.ReaderAt, p *mime.Part) error {
	if !p.Leaf() {
		return nil
	}
	readable := p.Type == "text" && (p.Subtype == "plain" || p.Subtype == "html" || p.Subtype == "enriched" || p.Subtype == "x-amp-html") ||
		p.Type == "multipart" // one that could not be taken apart is shown as text
	if !readable || p.Disposition == "attachment" || p.Filename != "" {
		b.parts = append(b.parts, p)
		if p.Type == "image" {
			b.images++
		}
	}
	if !readable || p.Disposition == "attachment" {
		return nil
	}
	raw, err := b.read(p.Text(r), p.End-p.Body)
	if err != nil || b.room <= 0 {
		return err
	}
	b.room -= len(raw)
	if len(b.text) > 0 {
		b.text = append(b.text, '\n')
	}
	if p.Subtype == "html" || p.Subtype == "x-amp-html" {
		b.html = true
		h := htmlReader{b: b}
		h.read(raw)
		return nil
	}
	b.plain = true
	from := len(b.text)
	b.text = appendVisible(b.text, raw, b.l.Text)
	b.plainLinks(b.text[from:])
	return nil
}

// read reads what there is room for; the result is valid until the next call.
func (b *body) read(r io.Reader, size int64) ([]byte, error) {
	want := int(min(int64(b.room), size+512)) // decoding makes it shorter, as a rule
	if cap(b.buf) < want && cap(b.buf) < 16<<10 {
		b.buf = make([]byte, 0, min(want, 16<<10))
	}
	buf := b.buf[:0]
	for len(buf) < b.room {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := r.Read(buf[len(buf):min(cap(buf), b.room)])
		buf = buf[:len(buf)+n]
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	b.buf = buf
	return buf, nil
}

// invisible are characters that are not seen and split words.
func invisible(r rune) bool {
	switch r {
	case '\u00ad', '\u034f', '\u180e', '\u200b', '\u2060', '\u2061', '\u2062', '\u2063', '\u2064', '\ufeff':
		return true
	}
	return r < ' ' && r != '\n' && r != '\t'
}

// appendVisible appends text up to limit octets without invisible characters; blanks stay.
func appendVisible(dst, src []byte, limit int) []byte {
	for i := 0; i < len(src) && len(dst) < limit; {
		j := i
		for j < len(src) && (src[j] >= ' ' && src[j] < utf8.RuneSelf || src[j] == '\n' || src[j] == '\t') {
			j++
		}
		dst = append(dst, src[i:min(j, i+limit-len(dst))]...)
		if i = j; i == len(src) || len(dst) >= limit {
			break
		}
		r, n := utf8.DecodeRune(src[i:])
		if !invisible(r) && len(dst)+utf8.UTFMax <= limit {
			dst = utf8.AppendRune(dst, r)
		} else if len(dst)+utf8.UTFMax > limit {
			break
		}
		i += n
	}
	return dst
}

// link keeps a link.
func (b *body) link(url, shown string, kind Kind) {
	if len(b.links) >= b.l.Links {
		return
	}
	url = strings.TrimFunc(url, func(r rune) bool { return r <= ' ' })
	scheme, rest := cutScheme(url)
	if url == "" || url[0] == '#' || scheme == "cid" || scheme == "data" || scheme == "" && !strings.HasPrefix(rest, "//") && kind != Plain {
		return
	}
	host, trick := hostOf(url)
	if trick != "" && b.disguised == "" && kind != Image {
		b.disguised = trick
	}
	if kind == Image {
		b.images++
	}
	b.links = append(b.links, Link{URL: clip(url, b.l.URL), Host: host, Shown: clip(shown, b.l.URL), Kind: kind})
}

// clip cuts s at n octets, at a character.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
