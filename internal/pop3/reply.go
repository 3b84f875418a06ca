package pop3

import (
	"bytes"
	"errors"
	"unicode/utf8"
)

// ErrReply is returned by ParseReply for a line that is no status line.
var ErrReply = errors.New("reply is neither +OK, -ERR nor a continuation")

// AppendOK appends a positive status line. Text longer than a reply may be is cut.
func AppendOK(b []byte, text string) []byte { return appendStatus(b, "+OK", "", text) }

// AppendErr appends a negative status line with an optional response code.
func AppendErr(b []byte, code ResponseCode, text string) []byte {
	return appendStatus(b, "-ERR", code, text)
}

func appendStatus(b []byte, status string, code ResponseCode, text string) []byte {
	start := len(b)
	b = append(b, status...)
	if code != "" {
		b = append(b, " ["...)
		b = append(b, code...)
		b = append(b, ']')
	}
	room := MaxResponseOctets - 3 - (len(b) - start)
	if text == "" || room <= 0 {
		return append(b, '\r', '\n')
	}
	b = append(b, ' ')
	if code == "" && text[0] == '[' { // RESP-CODES promises that a bracket begins a code
		b = append(b, ' ')
		room--
	}
	if len(text) > room {
		text = text[:room]
		for len(text) > 0 && !utf8.ValidString(text) {
			text = text[:len(text)-1]
		}
	}
	from := len(b)
	b = append(b, text...)
	for i := from; i < len(b); i++ { // a reply is one line, whatever its text was made of
		if b[i] < ' ' || b[i] == 0x7f {
			b[i] = ' '
		}
	}
	return append(b, '\r', '\n')
}

// Status is the kind of a reply.
type Status uint8

// The kinds of replies.
const (
	StatusOK        Status = 1 + iota // +OK
	StatusErr                         // -ERR
	StatusChallenge                   // "+ " and base64 (RFC 5034 §4)
)

// Reply is a parsed status line.
type Reply struct {
	Status Status
	Code   ResponseCode // as sent, without brackets
	Text   string       // the rest
}

// ParseReply parses a status line without its line end, for clients. It accepts
// "+OK" and "-ERR" with or without text, in any case of letters.
func ParseReply(line []byte) (Reply, error) {
	var r Reply
	word, text, _ := bytes.Cut(line, []byte{' '})
	switch {
	case bytes.EqualFold(word, []byte("+OK")):
		r.Status = StatusOK
	case bytes.EqualFold(word, []byte("-ERR")):
		r.Status = StatusErr
	case string(word) == "+":
		return Reply{Status: StatusChallenge, Text: string(text)}, nil
	default:
		return r, ErrReply
	}
	if len(text) > 0 && text[0] == '[' {
		if i := bytes.IndexByte(text, ']'); i > 0 {
			r.Code = ResponseCode(text[1:i])
			text = bytes.TrimPrefix(text[i+1:], []byte{' '})
		}
	}
	r.Text = string(text)
	return r, nil
}

// Is reports whether c is the code want or a detail of it (RFC 2449 §8), without
// regard to case: SYS/TEMP is SYS.
func (c ResponseCode) Is(want ResponseCode) bool {
	if len(c) < len(want) || !bytes.EqualFold([]byte(c[:len(want)]), []byte(want)) {
		return false
	}
	return len(c) == len(want) || c[len(want)] == '/'
}
