package mime

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"unicode/utf8"

	"golang.org/x/net/html/charset"
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// Open reads the content with the transfer encoding removed, tolerantly: what can't be
// decoded is passed over. r is what Parse read. A container's content is its raw octets. Of a
// text with uuencoded blocks, it leaves out the blocks. Errors are those of r. Memory is
// bounded.
func (p *Part) Open(r io.ReaderAt) io.Reader {
	if p.source != nil {
		r = bytes.NewReader(p.source.b)
	}
	if p.Defects.Has(UUEncoded) {
		return p.withoutBlocks(r)
	}
	raw := io.NewSectionReader(r, p.Body, p.End-p.Body)
	switch p.Encoding {
	case Base64:
		return newDecoder(raw, &base64Decoder{})
	case QuotedPrintable:
		return newDecoder(raw, &qpDecoder{})
	case UUEncode:
		return newDecoder(raw, &uuDecoder{})
	}
	return raw
}

// withoutBlocks reads a text around its uuencoded blocks.
func (p *Part) withoutBlocks(r io.ReaderAt) io.Reader {
	var pieces []io.Reader
	at := p.Body
	for _, c := range p.Children {
		pieces = append(pieces, io.NewSectionReader(r, at, c.Start-at))
		at = c.End
	}
	return io.MultiReader(append(pieces, io.NewSectionReader(r, at, p.End-at))...)
}

// decoder removes a transfer encoding piece by piece.
type decoder interface {
	// decode appends to dst what src says; last says that nothing follows. rest is how much of
	// src, less than maxRest octets, must be given again with what follows.
	decode(dst, src []byte, last bool) (out []byte, rest int)
}

// maxRest bounds what a decoder may leave for the next piece.
const maxRest = 1024

// decodeReader reads through a decoder.
type decodeReader struct {
	r   io.Reader
	d   decoder
	in  []byte
	n   int // octets in in
	out []byte
	at  int // of out, read
	err error
}

func newDecoder(r *io.SectionReader, d decoder) io.Reader {
	n := min(8<<10, r.Size()+1)
	return &decodeReader{r: r, d: d, in: make([]byte, n+maxRest), out: make([]byte, 0, n)}
}

// Read implements io.Reader.
func (r *decodeReader) Read(b []byte) (int, error) {
	for r.at == len(r.out) {
		if r.err != nil {
			return 0, r.err
		}
		n, err := r.r.Read(r.in[r.n:])
		r.n += n
		if err != nil && !errors.Is(err, io.EOF) {
			r.err = err
			return 0, err
		}
		if n == 0 && err == nil {
			continue
		}
		if err != nil {
			r.err = io.EOF
		}
		var rest int
		r.out, rest = r.d.decode(r.out[:0], r.in[:r.n], err != nil)
		r.at = 0
		r.n = copy(r.in, r.in[r.n-rest:r.n])
	}
	n := copy(b, r.out[r.at:])
	r.at += n
	return n, nil
}

// sniffOctets are looked at to guess a charset.
const sniffOctets = 4096

// Text is Open in UTF-8: by the declared charset, by a byte order mark, or by a guess where
// nothing, or nothing true, is declared (UTF-8, what HTML declares, Cyrillic, Chinese, Windows-1252). What can't
// be decoded becomes U+FFFD.
func (p *Part) Text(r io.ReaderAt) io.Reader {
	raw := p.Open(r)
	e, _ := lookup(p.Charset)
	if e != nil {
		return transform.NewReader(raw, unicode.BOMOverride(e.NewDecoder()))
	}
	br := bufio.NewReaderSize(raw, int(min(sniffOctets, max(64, p.End-p.Body+1))))
	head, err := br.Peek(br.Size()) // an error comes again with what is read
	if err != nil && ascii(head) {
		return br // what is here is all there is
	}
	e = p.guessCharset(head, err == nil)
	if e == unicode.UTF8 && !bytes.HasPrefix(head, []byte("\xfe\xff")) && !bytes.HasPrefix(head, []byte("\xff\xfe")) {
		if bytes.HasPrefix(head, []byte("\xef\xbb\xbf")) {
			_, _ = br.Discard(3)
		}
		if err != nil && utf8.Valid(head) {
			return br
		}
	}
	return transform.NewReader(br, unicode.BOMOverride(e.NewDecoder()))
}

// ascii reports octets that every charset means in the same way: no escapes, nothing over 127.
func ascii(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf || c == 0x1b || c == 0 {
			return false
		}
	}
	return true
}

// guessCharset finds the charset of octets that declare none but UTF-8; cut says that more follows.
func (p *Part) guessCharset(head []byte, cut bool) encoding.Encoding {
	if i := bytes.Index(head, []byte("\x1b$")); i >= 0 && i+2 < len(head) && (head[i+2] == 'B' || head[i+2] == '@') && ascii(head[:i]) {
		return japanese.ISO2022JP
	}
	for n := 0; cut && n < 3 && len(head) > 0 && head[len(head)-1] >= utf8.RuneSelf; n++ {
		head = head[:len(head)-1] // half a character, it may be
	}
	if utf8.Valid(head) || mostlyUTF8(head) {
		return unicode.UTF8
	}
	if p.Subtype == "html" {
		if e, name, _ := charset.DetermineEncoding(head, ""); name != "utf-8" && name != "windows-1252" && e != encoding.Replacement {
			return e // Windows-1252 is its answer where nothing is declared, too
		}
	}
	return legacy(head)
}
