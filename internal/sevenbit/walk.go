package sevenbit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"strings"

	"poczta.example/poczta/internal/message"
)

// entity is what the header section of an entity says (RFC 2045).
type entity struct {
	kind      string // media type, lower case
	encoding  string // Content-Transfer-Encoding, lower case; "" when absent
	mime      bool   // there is a field of MIME
	sealed    bool   // in what is signed or encrypted
	malformed bool   // Content-Type can't be read
	boundary  string // of a multipart
}

// container reports whether the entity holds others, so that its own encoding is
// none (RFC 2045 §6.4).
func (e *entity) container() bool { return e.boundary != "" || e.enclosing() }

// enclosing reports a message within the message, which is looked into.
func (e *entity) enclosing() bool {
	return e.kind == "message/rfc822" && !e.malformed && (e.encoding == "" || e.encoding == "7bit" || e.encoding == "8bit" || e.encoding == "binary")
}

// text reports what stays readable as quoted-printable.
func (e *entity) text() bool {
	return strings.HasPrefix(e.kind, "text/") || strings.HasPrefix(e.kind, "message/")
}

// visitor is told what walk meets, in order. Slices are valid during the call.
type visitor interface {
	// header is the header section of an entity without its empty line.
	header(e *entity, raw []byte) error
	// content is a piece of a leaf; eol says that CRLF followed, which is not in frag.
	content(frag []byte, eol bool) error
	// filler is a piece of a multipart outside of its parts, an empty line that ends a header section too.
	filler(frag []byte, eol bool) error
	// boundary is a boundary line, without its CRLF.
	boundary(line []byte) error
	end() error
}

// frame is a multipart that is open.
type frame struct {
	boundary string
	digest   bool // parts without a type are messages (RFC 2046 §5.1.5)
	sealed   bool
}

// state is where in an entity the walker is.
type state uint8

const (
	inHeader state = iota
	inLeaf
	inFiller
)

// walker reads a message line by line.
type walker struct {
	v      visitor
	state  state
	open   []frame
	depth  int // enclosed messages
	raw    []byte
	digest bool // the entity whose header section is being read is a part of a digest
	sealed bool
}

// walk reads a message and tells v of its structure. Errors are the reader's and
// the visitor's, or wrap ErrUnfit.
func walk(r io.Reader, v visitor) error {
	w := &walker{v: v}
	br := bufio.NewReaderSize(r, 4096)
	start := true
	for {
		frag, err := br.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			err = nil
			if frag[len(frag)-1] == '\r' { // its LF may follow
				frag = frag[:len(frag)-1]
				if uerr := br.UnreadByte(); uerr != nil {
					return uerr
				}
			}
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		last := err != nil
		line, eol := bytes.CutSuffix(frag, []byte("\r\n"))
		if len(frag) > 0 {
			if werr := w.piece(line, eol, start, start && (eol || last)); werr != nil {
				return werr
			}
		}
		start = eol
		if last {
			return w.finish()
		}
	}
}

// piece takes a piece of a line; start says that the line begins here, whole
// that it also ends here.
func (w *walker) piece(line []byte, eol, start, whole bool) error {
	if whole && len(w.open) > 0 && bytes.HasPrefix(line, []byte("--")) {
		if at, closing := w.match(line); at >= 0 {
			return w.cut(line, eol, at, closing)
		}
	}
	switch w.state {
	case inLeaf:
		return w.v.content(line, eol)
	case inFiller:
		return w.v.filler(line, eol)
	}
	if start && eol && len(line) == 0 {
		return w.headerEnds(true)
	}
	if len(w.raw)+len(line) > MaxHeaderOctets {
		return fmt.Errorf("%w: a header section is larger than %d octets", ErrUnfit, MaxHeaderOctets)
	}
	w.raw = append(w.raw, line...)
	if eol {
		w.raw = append(w.raw, "\r\n"...)
	}
	return nil
}

// match finds the innermost open multipart whose boundary the line is
// (RFC 2046 §5.1.1); -1 when there is none.
func (w *walker) match(line []byte) (at int, closing bool) {
	line = bytes.TrimRight(line[2:], " \t")
	for at := len(w.open) - 1; at >= 0; at-- {
		rest, ok := bytes.CutPrefix(line, []byte(w.open[at].boundary))
		if ok && (len(rest) == 0 || string(rest) == "--") {
			return at, len(rest) > 0
		}
	}
	return -1, false
}

// cut ends what a boundary line ends.
func (w *walker) cut(line []byte, eol bool, at int, closing bool) error {
	if w.state == inHeader {
		if err := w.headerEnds(false); err != nil {
			return err
		}
	}
	if err := w.v.boundary(line); err != nil {
		return err
	}
	if eol {
		if err := w.v.filler(nil, true); err != nil {
			return err
		}
	}
	f := w.open[at]
	if closing {
		w.open = w.open[:at]
		w.state = inFiller
		return nil
	}
	w.open = w.open[:at+1]
	w.begin(f.digest, f.sealed)
	return nil
}

// begin starts the header section of an entity.
func (w *walker) begin(digest, sealed bool) {
	w.state, w.raw, w.digest, w.sealed = inHeader, w.raw[:0], digest, sealed
}

// headerEnds looks at a header section, with the empty line behind it or not.
func (w *walker) headerEnds(empty bool) error {
	e := readEntity(w.raw, w.digest)
	e.sealed = w.sealed || sealing(e.kind) && !e.container()
	inside := w.sealed || sealing(e.kind)
	if err := w.v.header(&e, w.raw); err != nil {
		return err
	}
	if empty {
		if err := w.v.filler(nil, true); err != nil {
			return err
		}
	}
	switch {
	case e.container() && len(w.open)+w.depth >= MaxDepth:
		return fmt.Errorf("%w: its parts lie more than %d deep", ErrUnfit, MaxDepth)
	case e.boundary != "":
		w.open = append(w.open, frame{e.boundary, e.kind == "multipart/digest", inside})
		w.state = inFiller
	case e.enclosing() && empty:
		w.depth++
		w.begin(false, inside)
	default:
		w.state = inLeaf
	}
	return nil
}

// finish ends the message.
func (w *walker) finish() error {
	if w.state == inHeader {
		if err := w.headerEnds(false); err != nil {
			return err
		}
	}
	return w.v.end()
}

// sealing reports types whose content must not change in any octet.
func sealing(kind string) bool {
	switch kind {
	case "multipart/signed", "multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime":
		return true
	}
	return false
}

// readEntity reads the fields of MIME.
func readEntity(header []byte, digest bool) entity {
	e := entity{kind: "text/plain"}
	if digest {
		e.kind = "message/rfc822"
	}
	types := 0
	for f := range message.Fields(header) {
		switch {
		case f.Is("Content-Type"):
			types++
			e.mime = true
			e.contentType(f.Value())
		case f.Is("Content-Transfer-Encoding"):
			e.mime = true
			word, _, _ := strings.Cut(f.Value(), "(")
			e.encoding = strings.ToLower(strings.TrimSpace(word))
		case f.Is("MIME-Version"):
			e.mime = true
		}
	}
	if types > 1 { // programs differ in which one they take
		e.malformed, e.boundary = true, ""
	}
	return e
}

// contentType reads the value of Content-Type.
func (e *entity) contentType(value string) {
	kind, params, err := mime.ParseMediaType(value)
	if err != nil {
		word, _, _ := strings.Cut(value, ";")
		kind = strings.ToLower(strings.TrimSpace(word))
		e.malformed = strings.HasPrefix(kind, "multipart") || strings.HasPrefix(kind, "message") || !strings.Contains(kind, "/")
	}
	e.kind = kind
	if strings.HasPrefix(kind, "multipart/") && !e.malformed {
		e.boundary = strings.TrimRight(params["boundary"], " \t")
		e.malformed = e.boundary == "" || len(e.boundary) > 200
		if e.malformed {
			e.boundary = ""
		}
	}
}
