package mime

import (
	"bytes"
	"io"
)

// Parse reads the structure of the message in the first size octets of r, in chunks of
// 32 KiB. It never fails on bad mail, however odd: an error is that of r, and then there is no
// part. Time is linear in size; memory is bounded by l.
func Parse(r io.ReaderAt, size int64, l Limits) (*Part, error) {
	p := &parser{l: l.withDefaults(), r: r, hdr: make([]byte, 0, min(size, 2<<10))}
	root := p.newPart(nil, 0)
	if err := p.section(r, size, root); err != nil {
		return nil, err
	}
	for i := 0; i < len(p.encoded); i++ { // it grows while containers are entered
		if err := p.enter(p.encoded[i]); err != nil {
			return nil, err
		}
	}
	return root, nil
}

// maxBoundaryOctets is how long a boundary may be to be looked for. RFC 2046 §5.1.1 allows 70.
const maxBoundaryOctets = chunk / 2

// frame is a multipart whose boundary counts.
type frame struct {
	part     *Part
	boundary string
	closed   bool // its final boundary was seen
}

type state uint8

const (
	inHeader state = iota
	inText         // a leaf that may hold uuencoded blocks
	inLeaf
	inFiller // a preamble or epilogue
)

// parser reads a message. Its counters go on through encoded containers.
type parser struct {
	l       Limits
	r       io.ReaderAt // the message
	parts   int
	headers int // octets kept
	decoded int
	encoded []*Part // containers to be decoded and entered

	state  state
	cur    *Part // the innermost open part
	stack  []frame
	hdr    []byte // header section being read
	cut    bool   // hdr is not whole
	ended  int64  // offset behind the last line without its line end
	stop   bool   // nothing more is to be found
	source *source
	uu     uublock
}

// newPart counts a part below parent; nil when there are too many.
func (p *parser) newPart(parent *Part, at int64) *Part {
	if p.parts >= p.l.Parts {
		parent.Defects |= ManyParts
		p.stop = true
		return nil
	}
	p.parts++
	q := &Part{Parent: parent, Start: at, Body: at, End: at, source: p.source, Type: "text", Subtype: "plain"}
	if parent != nil {
		q.depth = parent.depth
		if parent.Type == "multipart" && parent.Subtype == "digest" { // RFC 2046 §5.1.5
			q.Type, q.Subtype = "message", "rfc822"
		}
		parent.Children = append(parent.Children, q)
	}
	return q
}

// section reads what lies in r as root.
func (p *parser) section(r io.ReaderAt, size int64, root *Part) error {
	p.state, p.cur, p.stack, p.hdr, p.cut, p.ended, p.stop = inHeader, root, p.stack[:0], p.hdr[:0], false, 0, false
	if root.source != p.source { // a multipart that was encoded: its header section is read
		p.state, p.stack = inFiller, append(p.stack, frame{part: root, boundary: root.boundary})
	}
	s := scanner{r: r, end: size}
	for !p.stop {
		line, ok, err := s.read()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		p.line(line)
	}
	if p.state == inHeader && !p.stop {
		p.cur.Defects |= NoSeparator
		p.endHeader(size)
	}
	p.uu.end(p, size)
	p.close(size, nil)
	for i := range p.stack {
		p.unclosed(&p.stack[i])
	}
	return nil
}

// line takes a line or a piece of one.
func (p *parser) line(l piece) {
	if l.start && len(p.stack) > 0 && len(l.b) > 2 && l.b[0] == '-' && l.b[1] == '-' && l.whole {
		if at, final := p.match(l); at >= 0 {
			p.boundary(l, at, final)
			return
		}
	}
	if p.state == inHeader && !p.header(l) {
		p.endHeader(l.off) // the line is the body's first
	}
	if p.state == inText && l.start {
		p.uu.line(p, l)
	}
	p.ended = l.off + int64(len(l.text()))
}

// header takes a line of a header section; false when the section has ended in front of it.
func (p *parser) header(l piece) bool {
	text := l.text()
	if l.start && len(text) == 0 {
		p.endHeader(l.off + int64(len(l.b)))
		return true
	}
	if l.start && len(p.hdr) == 0 && !opensHeader(text) {
		p.cur.Defects |= NoSeparator
		return false
	}
	if len(p.hdr)+len(l.b) > p.l.Header || p.headers+len(p.hdr)+len(l.b) > p.l.Headers {
		p.cut = true
		p.cur.Defects |= LargeHeader
	}
	if !p.cut {
		p.hdr = append(p.hdr, l.b...)
	}
	return true
}

// opensHeader reports whether a header section can begin with the line: by a field, or by the
// separator of an mbox. Package message decides likewise.
func opensHeader(line []byte) bool {
	for i, c := range line {
		switch {
		case c == ':':
			return i > 0
		case c == ' ' || c == '\t':
			if rest := bytes.TrimLeft(line[i:], " \t"); i > 0 && len(rest) > 0 && rest[0] == ':' {
				return true
			}
			return bytes.HasPrefix(line, []byte("From ")) || bytes.HasPrefix(line, []byte(">From "))
		case c < ' ' || c >= 0x7f:
			return false
		}
	}
	return false
}

// match finds the open multipart whose boundary the line is: the innermost that is open and
// whose boundary is the whole line, then one that has ended, then the longest boundary that
// the line begins with (RFC 2046 §5.1.1).
func (p *parser) match(l piece) (at int, final bool) {
	line := bytes.TrimRight(l.text()[2:], " \t\r")
	ended, prefix := -1, -1
	var endedFinal bool
	for at := len(p.stack) - 1; at >= 0; at-- {
		f := &p.stack[at]
		if len(line) < len(f.boundary) || string(line[:len(f.boundary)]) != f.boundary {
			continue
		}
		rest := line[len(f.boundary):]
		if len(rest) > 0 && (rest[0] == ' ' || rest[0] == '\t') { // blanks at a boundary's end
			rest = bytes.TrimLeft(rest, " \t")
		}
		final := len(rest) == 2 && rest[0] == '-' && rest[1] == '-'
		switch exact := final || len(rest) == 0; {
		case exact && !f.closed:
			return at, final
		case exact && ended < 0:
			ended, endedFinal = at, final
		case !f.closed && (prefix < 0 || len(f.boundary) > len(p.stack[prefix].boundary)):
			prefix = at
		}
	}
	if ended >= 0 {
		return ended, endedFinal
	}
	if prefix >= 0 {
		p.stack[prefix].part.Defects |= BoundaryPrefix
		return prefix, bytes.HasPrefix(line[len(p.stack[prefix].boundary):], []byte("--"))
	}
	return -1, false
}

// boundary ends what is open below the multipart at and begins its next part.
func (p *parser) boundary(l piece, at int, final bool) {
	f := &p.stack[at]
	if p.state == inHeader {
		p.cur.Defects |= NoSeparator
		p.endHeader(l.off)
		if len(p.stack) > at+1 && p.stack[len(p.stack)-1].part == p.cur { // a multipart without a body
			p.cur.Defects |= NoParts
		}
	}
	p.uu.end(p, p.ended)
	p.close(p.ended, f.part)
	for i := len(p.stack) - 1; i > at; i-- {
		if !p.stack[i].closed {
			p.stack[i].part.Defects |= OuterBoundary
		}
		p.unclosed(&p.stack[i])
	}
	p.stack = p.stack[:at+1]
	f = &p.stack[at]
	p.cur, p.state = f.part, inFiller
	p.ended = l.off + int64(len(l.text()))
	if final {
		f.closed = true
		return
	}
	if f.closed {
		f.part.Defects |= AfterFinal
		f.closed = false
	}
	if bytes.IndexByte(l.text(), '\r') >= 0 {
		f.part.Defects |= BareCR
	}
	if q := p.newPart(f.part, l.off+int64(len(l.b))); q != nil {
		p.cur, p.state, p.cut, p.hdr = q, inHeader, false, p.hdr[:0]
	}
}

// unclosed notes how a multipart that is left was left.
func (p *parser) unclosed(f *frame) {
	switch {
	case len(f.part.Children) == 0:
		f.part.Defects |= NoParts
		if f.part.Encoding == Base64 && f.part.source == p.source {
			p.encoded = append(p.encoded, f.part)
		}
	case !f.closed:
		f.part.Defects |= NoFinalBoundary
	}
}

// close ends the open parts below top, all when top is nil.
func (p *parser) close(at int64, top *Part) {
	for q := p.cur; q != nil && q != top; q = q.Parent {
		if q.source != p.source {
			break
		}
		at = max(at, q.Body)
		q.End = at
	}
}

// endHeader ends the header section of the open part and decides how its content is read.
func (p *parser) endHeader(body int64) {
	q := p.cur
	q.Header = bytes.Clone(p.hdr)
	if q.Header == nil {
		q.Header = []byte{}
	}
	p.headers += len(q.Header)
	p.hdr = p.hdr[:0]
	q.Body = body
	p.state = inLeaf
	q.readHeader()
	switch {
	case q.Type == "multipart" && q.boundary != "":
		p.open(q)
	case q.enclosing():
		p.enclose(q, body)
	case q.Type == "text" && q.Encoding == Identity || q.Type == "multipart":
		p.state = inText
	}
	if p.state == inLeaf && len(p.stack) == 0 {
		p.stop = true // no line of it can mean anything
	}
}

// enclosing reports a type whose content is a message.
func (q *Part) enclosing() bool {
	return q.Type == "message" && (q.Subtype == "rfc822" || q.Subtype == "global" || q.Subtype == "news")
}

// open begins a multipart.
func (p *parser) open(q *Part) {
	if q.depth++; q.depth > p.l.Depth {
		q.Defects |= DeepNesting
		return
	}
	if q.Encoding != Identity {
		q.Defects |= EncodedContainer // many programs pass over the encoding: so do we unless no boundary is seen
	}
	for _, f := range p.stack {
		if f.boundary == q.boundary {
			q.Defects |= SameBoundary
		}
	}
	p.stack = append(p.stack, frame{part: q, boundary: q.boundary})
	p.state = inFiller
}

// enclose begins the message that q holds.
func (p *parser) enclose(q *Part, at int64) {
	if q.depth++; q.depth > p.l.Depth {
		q.Defects |= DeepNesting
		return
	}
	if q.Encoding != Identity {
		q.Defects |= EncodedContainer
		p.encoded = append(p.encoded, q)
		return
	}
	if c := p.newPart(q, at); c != nil {
		p.cur, p.state, p.cut = c, inHeader, false
	}
}

// enter decodes a container and reads what is inside.
func (p *parser) enter(q *Part) error {
	room := p.l.Decoded - p.decoded
	b, err := io.ReadAll(io.LimitReader(q.Open(p.r), int64(room)+1))
	if err != nil {
		return err
	}
	if len(b) > room {
		q.Defects |= LargeContainer
		return nil
	}
	p.decoded += len(b)
	p.source = &source{bytes.Clone(b)}
	r, size := bytes.NewReader(p.source.b), int64(len(b))
	if q.Type == "multipart" {
		return p.section(r, size, q)
	}
	if c := p.newPart(q, 0); c != nil {
		return p.section(r, size, c)
	}
	return nil
}
