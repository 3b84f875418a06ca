// Package extract reads what a letter says, for a search and for lists: its text, the names of
// its attachments, and the text inside of those that hold some. It is a pure function of the
// octets, in bounded memory and linear time, however hostile the letter is.
package extract

import (
	"bytes"
	"errors"
	"io"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/mime"
)

// Limits bound what is read; zero fields are the defaults.
type Limits struct {
	MIME   mime.Limits
	Text   int  // octets of text, and as many again of text inside of attachments; 512 KiB
	Raw    int  // octets of parts that are decoded for either; 2 MiB
	Packed int  // octets of a document or an archive that is looked into; 8 MiB
	Work   int  // what reading PDF files may cost, all of the letter together (pdf.Limits); 64 Mi, some 1 s
	Names  bool // attachments are counted and named, what is inside of them is not read
}

func (l Limits) withDefaults() Limits {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&l.Text, 512<<10)
	set(&l.Raw, 2<<20)
	set(&l.Packed, 8<<20)
	set(&l.Work, 64<<20)
	return l
}

// maxNames bounds the names of attachments, in octets.
const maxNames = 16 << 10

// snippetRunes is how long a snippet is.
const snippetRunes = 160

// Text is what a letter says.
type Text struct {
	Root    *mime.Part
	Body    string // of the readable parts, HTML without its tags
	Inside  string // of attachments and of enclosed letters' header sections
	Files   string // attachments' names, a line each
	Snippet string // how the text begins, on one line

	Attachments int

	Unread []string // attachments that hold text which is not in Inside, or not all of it, and why; some of them
}

// Version counts up with each change by which more is read of letters: those that an older one
// read are worth reading again.
const Version = 2

// Read reads a letter of size octets. It never fails on bad mail; an error is r's alone.
func Read(r io.ReaderAt, size int64, l Limits) (*Text, error) {
	l = l.withDefaults()
	root, err := mime.Parse(r, size, l.MIME)
	if err != nil {
		return nil, err
	}
	x := reader{r: r, l: l, bodyRoom: l.Raw, insideRoom: l.Raw, work: l.Work}
	x.body.limit, x.inside.limit, x.files.limit = l.Text, l.Text, maxNames
	for p := range root.All() {
		if err := x.part(p); err != nil {
			return nil, err
		}
	}
	t := &Text{Root: root, Body: x.body.String(), Inside: x.inside.String(), Files: x.files.String(), Attachments: x.attachments, Unread: x.unread}
	t.Snippet = snippet(t.Body)
	return t, nil
}

// Attachment reports a part that a person thinks of as a file: a leaf that is no text to read,
// or has a name, or is meant as one; pictures within HTML are none.
func Attachment(p *mime.Part) bool {
	if !p.Leaf() { // a letter within this one, unless a report or a digest brings it
		return p.Type == "message" && p.Parent != nil && p.Parent.Subtype != "report" && p.Parent.Subtype != "digest"
	}
	if p.Type == "multipart" {
		return false
	}
	if p.Disposition == "attachment" {
		return true
	}
	if p.Type == "image" && p.ID != "" && p.Parent != nil && p.Parent.Type == "multipart" && p.Parent.Subtype == "related" {
		return false
	}
	if readable(p) {
		return p.Filename != ""
	}
	switch p.Type + "/" + p.Subtype {
	case "application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature", "message/delivery-status",
		"message/disposition-notification", "text/rfc822-headers":
		return p.Filename != "" && p.Type == "application"
	}
	return true
}

// readable reports text that programs show.
func readable(p *mime.Part) bool {
	return p.Type == "text" && (p.Subtype == "plain" || p.Subtype == "html" || p.Subtype == "enriched") || p.Type == "multipart"
}

// reader gathers what the parts say.
type reader struct {
	r                    io.ReaderAt
	l                    Limits
	body, inside, files  text
	bodyRoom, insideRoom int // octets that may still be decoded
	work                 int // that may still go into PDF files
	attachments          int
	unread               []string
	alternative          *mime.Part // the multipart/alternative whose text is here already
}

// part takes a part.
func (x *reader) part(p *mime.Part) error {
	if p.Parent != nil && p.Parent.Type == "message" {
		x.enclosed(p)
	}
	attached := Attachment(p)
	if attached {
		x.attachments++
		if p.Filename != "" {
			x.files.line()
			x.files.write(path.Base(strings.ReplaceAll(p.Filename, `\`, "/")))
		}
	}
	if !p.Leaf() {
		return nil
	}
	if readable(p) && !attached {
		if x.second(p) {
			return nil
		}
		return x.text(p, &x.body, &x.bodyRoom)
	}
	switch kind := kindOf(p); {
	case kind == "" || x.l.Names:
		return nil
	case kind == "text" || kind == "html":
		return x.text(p, &x.inside, &x.insideRoom)
	default:
		return x.document(p, kind)
	}
}

// second reports a part that says again what another part of a multipart/alternative said.
func (x *reader) second(p *mime.Part) bool {
	for q := p; q.Parent != nil; q = q.Parent {
		if q.Parent.Type != "multipart" || q.Parent.Subtype != "alternative" {
			continue
		}
		if x.alternative == q.Parent && p.Subtype == "html" && len(x.body.b) > snippetRunes {
			return true
		}
		x.alternative = q.Parent
		return false
	}
	return false
}

// enclosed takes the header section of an enclosed letter.
func (x *reader) enclosed(p *mime.Part) {
	for _, name := range []string{"Subject", "From", "To"} {
		if v, ok := message.Get(p.Header, name); ok {
			x.inside.line()
			x.inside.write(mime.DecodeWords(v))
		}
	}
}

// text takes a part of text.
func (x *reader) text(p *mime.Part, t *text, room *int) error {
	if *room <= 0 || t.full() {
		return nil
	}
	raw, err := readMost(p.Text(x.r), *room, p.End-p.Body)
	*room -= len(raw)
	if err != nil {
		return err
	}
	t.line()
	if p.Subtype == "html" || kindOf(p) == "html" {
		appendHTML(t, raw)
	} else {
		t.writeBytes(raw)
	}
	return nil
}

// readMost reads at most limit octets.
func readMost(r io.Reader, limit int, hint int64) ([]byte, error) {
	buf := make([]byte, 0, max(512, min(int64(limit), hint+512, 64<<10)))
	for len(buf) < limit {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := r.Read(buf[len(buf):min(cap(buf), limit)])
		buf = buf[:len(buf)+n]
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return buf, err
		}
	}
	return buf, nil
}

// kindOf is what an attachment holds, by its type or its name: text, html, the usual suffix of a
// document, or "".
func kindOf(p *mime.Part) string {
	switch p.Type + "/" + p.Subtype {
	case "text/html", "application/xhtml+xml":
		return "html"
	case "message/delivery-status", "message/disposition-notification", "message/feedback-report":
		return "text"
	}
	ext := strings.ToLower(path.Ext(p.Filename))
	if documents[ext] {
		return ext
	}
	if e := documentTypes[p.Subtype]; e != "" && (p.Type == "application" || e == ".rtf") {
		return e
	}
	if p.Type == "text" {
		return "text"
	}
	switch ext {
	case ".txt", ".csv", ".md", ".ics", ".vcf", ".log":
		return "text"
	case ".html", ".htm":
		return "html"
	}
	return ""
}

// snippet is how text begins, on one line; quotes of other letters at the beginning count, too.
func snippet(s string) string {
	var b strings.Builder
	n, blank := 0, false
	for _, r := range s {
		if unicode.IsSpace(r) || r == utf8.RuneError || !unicode.IsPrint(r) {
			blank = n > 0
			continue
		}
		if blank {
			b.WriteByte(' ')
			n++
			blank = false
		}
		if n >= snippetRunes {
			break
		}
		b.WriteRune(r)
		n++
	}
	return b.String()
}

// text is text of at most limit octets.
type text struct {
	b     []byte
	limit int
}

func (t *text) full() bool     { return len(t.b) >= t.limit }
func (t *text) String() string { return string(bytes.ToValidUTF8(t.b, nil)) }

// line begins a line.
func (t *text) line() {
	if n := len(t.b); n > 0 && t.b[n-1] != '\n' && !t.full() {
		t.b = append(t.b, '\n')
	}
}

// space parts words.
func (t *text) space() {
	if n := len(t.b); n > 0 && t.b[n-1] != '\n' && t.b[n-1] != ' ' && !t.full() {
		t.b = append(t.b, ' ')
	}
}

func (t *text) write(s string) { t.b = append(t.b, s[:min(len(s), max(0, t.limit-len(t.b)))]...) }

func (t *text) writeBytes(s []byte) {
	t.b = append(t.b, s[:min(len(s), max(0, t.limit-len(t.b)))]...)
}
