package message

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
)

// Strip returns the header section without the fields for which drop reports
// true; other octets are untouched. When nothing is dropped it returns header
// itself, else a copy.
func Strip(header []byte, drop func(Field) bool) []byte {
	var out []byte
	copied := 0 // octets of header that out already answers for
	for f := range Fields(header) {
		if !drop(f) {
			continue
		}
		if out == nil {
			out = make([]byte, 0, len(header))
		}
		out = append(out, header[copied:f.Offset]...)
		copied = f.Offset + len(f.Raw)
	}
	if out == nil {
		return header
	}
	return append(out, header[copied:]...)
}

// IsReturnPath reports a Return-Path field, which only final delivery may write
// (RFC 5321 §4.4).
func IsReturnPath(f Field) bool { return f.Is("Return-Path") }

// IsBcc reports a field that must not leave the submission server (RFC 5322 §3.6.3).
func IsBcc(f Field) bool { return f.Is("Bcc") || f.Is("Resent-Bcc") }

// IsMboxLine reports the "From " line of an mbox in front of a header section.
func IsMboxLine(f Field) bool { return f.Malformed() && f.Offset == 0 && isMboxLine(f.Raw) }

// FormatDate writes a date-time (RFC 5322 §3.3) with a numeric zone.
func FormatDate(t time.Time) string { return t.Format("Mon, 02 Jan 2006 15:04:05 -0700") }

// NewMessageID writes a Message-ID's value for the message id, made at host
// (RFC 5322 §3.6.4). It is derived by hashing, so that it does not tell the id,
// which is the unique-id of mailbox entries.
func NewMessageID(id ID, host address.Domain) string {
	sum := sha256.Sum256(append([]byte("Message-ID "), id[:]...))
	left := strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:15]))
	right := host.String()
	if right == "" {
		right = "localhost"
	}
	return "<" + left + "@" + right + ">"
}

// foldAt is the line length that lines we write keep to (RFC 5322 §2.1.1).
const foldAt = 78

// folder writes a field in words, breaking lines in front of words that would
// pass foldAt.
type folder struct {
	b    []byte
	line int // octets in the present line
}

func newFolder(b []byte, name string) *folder {
	b = append(append(b, name...), ':')
	return &folder{b: b, line: len(name) + 1}
}

// word adds s behind one blank, or on a new line when it would not fit.
func (f *folder) word(s string) {
	if f.line+1+len(s) > foldAt && f.line > 1 {
		f.b = append(f.b, "\r\n\t"...)
		f.line = 8
	} else {
		f.b = append(f.b, ' ')
		f.line++
	}
	f.b = append(f.b, s...)
	f.line += len(s)
}

// words adds the words of s.
func (f *folder) words(s string) {
	for w := range strings.FieldsSeq(s) {
		f.word(w)
	}
}

// end closes the field.
func (f *folder) end() []byte { return append(f.b, "\r\n"...) }

// AppendField appends a field with its value folded at blanks.
func AppendField(b []byte, name, value string) []byte {
	f := newFolder(b, name)
	f.words(value)
	return f.end()
}

// AppendText appends an unstructured field: folded when value is ASCII, as
// encoded-words otherwise. Control characters become blanks.
func AppendText(b []byte, name, value string) []byte {
	value = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, value)
	if !NeedsUTF8([]byte(value)) {
		return AppendField(b, name, value)
	}
	return appendEncoded(b, name, value)
}

// AppendPrefix appends the fields that one recipient's copy alone gets at final
// delivery: Return-Path (RFC 5321 §4.4) and, unless to is zero, Delivered-To.
func AppendPrefix(b []byte, from address.ReversePath, to address.Address) []byte {
	b = append(from.AppendTo(append(b, "Return-Path: "...)), "\r\n"...)
	if to.IsZero() {
		return b
	}
	return append(to.AppendTo(append(b, "Delivered-To: "...)), "\r\n"...)
}
