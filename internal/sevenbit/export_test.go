package sevenbit

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime/quotedprintable"
)

// leafReader collects the leaves of a message, decoded.
type leafReader struct {
	Leaves   []string
	encoding string
	open     bool
	pending  bool
	b        bytes.Buffer
}

// Leaves returns the decoded content of the leaves of a message.
func Leaves(r io.Reader) ([]string, error) {
	l := &leafReader{}
	err := walk(r, l)
	return l.Leaves, err
}

func (l *leafReader) header(e *entity, _ []byte) error {
	l.done(false)
	if !e.container() {
		l.open, l.encoding = true, e.encoding
	}
	return nil
}

func (l *leafReader) content(frag []byte, eol bool) error {
	if l.pending {
		l.b.WriteString("\r\n")
	}
	l.pending = eol
	l.b.Write(frag)
	return nil
}

func (l *leafReader) filler([]byte, bool) error { return nil }

func (l *leafReader) boundary([]byte) error {
	l.done(false)
	return nil
}

func (l *leafReader) end() error {
	l.done(true)
	return nil
}

func (l *leafReader) done(last bool) {
	if !l.open {
		return
	}
	if l.pending && last {
		l.b.WriteString("\r\n")
	}
	text := l.b.Bytes()
	switch l.encoding {
	case "quoted-printable":
		if t, err := io.ReadAll(quotedprintable.NewReader(bytes.NewReader(text))); err == nil {
			text = t
		}
	case "base64":
		if t, err := io.ReadAll(base64.NewDecoder(base64.StdEncoding, bytes.NewReader(text))); err == nil {
			text = t
		}
	}
	l.Leaves = append(l.Leaves, string(text))
	l.open, l.pending = false, false
	l.b.Reset()
}
