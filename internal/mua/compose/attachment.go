package compose

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"strings"

	"poczta.example/poczta/internal/message"
)

// write writes an attachment with its fields.
func (a *Attachment) write(w io.Writer) error {
	if a.Open == nil {
		return errors.New("its content is missing")
	}
	kind, params := a.kind()
	if kind == "message/rfc822" {
		encoding, err := a.enclosable()
		if err != nil {
			return err
		}
		if encoding != "" {
			return a.enclose(w, encoding)
		}
		kind, params = "application/octet-stream", ""
	}
	b := message.AppendField(nil, "Content-Type", kind+params+param("name", a.Name))
	b = message.AppendField(b, "Content-Disposition", "attachment"+param("filename", a.Name))
	b = append(b, "Content-Transfer-Encoding: base64\r\n\r\n"...)
	if _, err := w.Write(b); err != nil {
		return err
	}
	r, err := a.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	return encode(w, r)
}

// kind is a media type that can stand in a field, and its charset.
func (a *Attachment) kind() (kind, params string) {
	kind, more, err := mime.ParseMediaType(a.Type)
	if err != nil || !strings.Contains(kind, "/") || strings.HasPrefix(kind, "multipart/") || message.NeedsUTF8([]byte(kind)) {
		return "application/octet-stream", ""
	}
	if c := more["charset"]; c != "" && strings.HasPrefix(kind, "text/") {
		params = param("charset", c)
	}
	return kind, params
}

// enclosable is the encoding in which a letter may be enclosed, for base64 may not be used
// (RFC 2046 §5.2.1); "" when it can't go as a letter.
func (a *Attachment) enclosable() (string, error) {
	r, err := a.Open()
	if err != nil {
		return "", err
	}
	defer r.Close()
	encoding, line, last := "7bit", 0, byte('\n')
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		for _, c := range buf[:n] {
			if c == 0 || (last == '\r') != (c == '\n') { // NUL, or a bare CR or LF
				return "", nil
			}
			if c >= 0x80 {
				encoding = "8bit"
			}
			if line++; line > 999 && c != '\n' { // with the CR
				return "", nil
			}
			if c == '\n' {
				line = 0
			}
			last = c
		}
		if errors.Is(err, io.EOF) {
			if last == '\r' {
				encoding = ""
			}
			return encoding, nil
		}
		if err != nil {
			return "", err
		}
	}
}

// enclose writes a letter within this one.
func (a *Attachment) enclose(w io.Writer, encoding string) error {
	b := message.AppendField(nil, "Content-Type", "message/rfc822"+param("name", a.Name))
	b = message.AppendField(b, "Content-Disposition", "attachment"+param("filename", a.Name))
	b = append(b, "Content-Transfer-Encoding: "+encoding+"\r\n\r\n"...)
	if _, err := w.Write(b); err != nil {
		return err
	}
	r, err := a.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(w, r)
	return err
}

// paramChunk is how many octets of a value stand in one piece (RFC 2231 §3).
const paramChunk = 50

// param writes a parameter behind a field's value: quoted where it is ASCII, else encoded
// (RFC 2231); "" for none.
func param(name, value string) string {
	value = strings.ToValidUTF8(strings.Map(plain, value), "_")
	if value == "" {
		return ""
	}
	if !message.NeedsUTF8([]byte(value)) && len(value) <= paramChunk && !strings.Contains(value, "  ") {
		return "; " + name + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value) + `"`
	}
	var b bytes.Buffer
	piece, n := "utf-8''", 0
	end := func() {
		fmt.Fprintf(&b, "; %s*%d*=%s", name, n, piece)
		piece, n = "", n+1
	}
	for i := range len(value) {
		c := value[i]
		if len(piece) >= paramChunk {
			end()
		}
		if c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == '.' || c == '-' || c == '_' {
			piece += string(rune(c))
		} else {
			piece += fmt.Sprintf("%%%02X", c)
		}
	}
	if n == 0 {
		return "; " + name + "*=" + piece
	}
	end()
	return b.String()
}

// encode writes base64 in lines of 76 (RFC 2045 §6.8).
func encode(w io.Writer, r io.Reader) error {
	const line = 57
	in, out := make([]byte, 300*line), make([]byte, 0, 300*78)
	for {
		n, err := 0, error(nil)
		for n < len(in) && err == nil { // io.ReadFull would hide a reader's own io.ErrUnexpectedEOF
			var k int
			k, err = r.Read(in[n:])
			n += k
		}
		out = out[:0]
		for at := 0; at < n; at += line {
			out = base64.StdEncoding.AppendEncode(out, in[at:min(n, at+line)])
			out = append(out, "\r\n"...)
		}
		if _, werr := w.Write(out); werr != nil {
			return werr
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}
