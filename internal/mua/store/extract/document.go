package extract

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"strings"

	"poczta.example/poczta/internal/mime"
	"poczta.example/poczta/internal/mua/store/extract/office97"
	"poczta.example/poczta/internal/mua/store/extract/pdf"
	"poczta.example/poczta/internal/mua/store/extract/rtf"
)

// maxUnread bounds how many attachments are told of.
const maxUnread = 8

// documents are the suffixes of documents that are read; what they are, their octets say.
var documents = map[string]bool{
	".pdf": true, ".rtf": true, ".doc": true, ".dot": true, ".xls": true, ".xlt": true, ".ppt": true, ".pps": true, ".pot": true, ".msg": true,
	".docx": true, ".docm": true, ".dotx": true, ".xlsx": true, ".xlsm": true, ".pptx": true, ".pptm": true, ".ppsx": true, ".odt": true, ".ods": true, ".odp": true,
}

// documentTypes are suffixes by the subtype of application, or of text.
var documentTypes = map[string]string{
	"pdf": ".pdf", "x-pdf": ".pdf", "rtf": ".rtf", "x-rtf": ".rtf", "richtext": ".rtf",
	"msword": ".doc", "vnd.ms-excel": ".xls", "vnd.ms-powerpoint": ".ppt", "vnd.ms-outlook": ".msg",
	"vnd.openxmlformats-officedocument.wordprocessingml.document":   ".docx",
	"vnd.openxmlformats-officedocument.spreadsheetml.sheet":         ".xlsx",
	"vnd.openxmlformats-officedocument.presentationml.presentation": ".pptx",
	"vnd.oasis.opendocument.text":                                   ".odt",
	"vnd.oasis.opendocument.spreadsheet":                            ".ods",
	"vnd.oasis.opendocument.presentation":                           ".odp",
}

// errLarge means that a document has more octets than are looked into.
var errLarge = errors.New("it is too large")

// document takes the text of a document.
func (x *reader) document(p *mime.Part, kind string) error {
	if x.inside.full() {
		return nil
	}
	if p.End-p.Body > int64(x.l.Packed)*3/2 {
		x.leave(p, errLarge)
		return nil
	}
	raw, err := readMost(p.Open(x.r), x.l.Packed+1, p.End-p.Body)
	if err != nil {
		return err
	}
	if len(raw) > x.l.Packed {
		x.leave(p, errLarge)
		return nil
	}
	if err := x.inner(raw, kind); err != nil {
		x.leave(p, err)
	}
	return nil
}

// inner takes the text inside of a document's octets, by what they begin with. A fault of a reader
// costs the attachment and not the letter.
func (x *reader) inner(raw []byte, kind string) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("reading it failed, please report it: %v", p)
		}
	}()
	x.inside.line()
	room := x.inside.limit - len(x.inside.b)
	switch {
	case bytes.HasPrefix(raw, []byte(`{\rtf`)):
		x.inside.writeBytes(rtf.Text(raw, room))
	case bytes.HasPrefix(raw, []byte("\xd0\xcf\x11\xe0")):
		b, err := office97.Text(raw, room)
		x.inside.writeBytes(b)
		return err
	case bytes.HasPrefix(raw, []byte("PK")):
		if office[kind] != nil {
			appendOffice(&x.inside, raw, office[kind])
		}
	case kind == ".pdf":
		if x.work <= 0 {
			return pdf.ErrLimit
		}
		r, err := pdf.Read(raw, pdf.Limits{Text: room, Work: x.work})
		x.work -= r.Spent
		x.inside.writeBytes(r.Text)
		return err
	case page(raw): // a web page with the suffix of a document, as some programs write
		appendHTML(&x.inside, raw[:min(len(raw), x.l.Raw)])
	}
	return nil
}

// page reports a web page.
func page(raw []byte) bool {
	head := bytes.ToLower(bytes.TrimLeft(raw[:min(len(raw), 512)], "\xef\xbb\xbf \t\r\n"))
	return bytes.HasPrefix(head, []byte("<html")) || bytes.HasPrefix(head, []byte("<!doctype html")) || bytes.HasPrefix(head, []byte("<table"))
}

// leave notes that an attachment is not read, or not all of it.
func (x *reader) leave(p *mime.Part, err error) {
	if len(x.unread) < maxUnread {
		name := path.Base(strings.ReplaceAll(p.Filename, `\`, "/"))
		x.unread = append(x.unread, fmt.Sprintf("%.100s: %v", name, err))
	}
}
