package smtp

import (
	"errors"
	"strconv"
)

// maxReplyText is the most octets of text in one reply line: what MaxReplyLine
// leaves beside the code, a separator, an enhanced status code and CRLF.
const maxReplyText = MaxReplyLine - len("250-5.999.999 \r\n")

// AppendTo appends the reply as it goes over the wire to b: every line with the
// code and, in classes 2, 4 and 5, with the enhanced status code (RFC 2034 §4).
// Lines longer than MaxReplyLine are split; octets that a reply can't carry
// (controls, anything but ASCII) become "?".
func (r Reply) AppendTo(b []byte) []byte { return r.append(b, !r.Plain) }

// AppendPlain is AppendTo without the enhanced status code, for greetings and the
// replies to EHLO, HELO and LHLO.
func (r Reply) AppendPlain(b []byte) []byte { return r.append(b, false) }

func (r Reply) append(b []byte, enhanced bool) []byte {
	text := r.Text
	for {
		line, rest, more := cutLine(text)
		b = r.appendCode(b, enhanced, more)
		for i := range len(line) {
			if c := line[i]; c < ' ' && c != '\t' || c > '~' {
				b = append(b, '?')
			} else {
				b = append(b, c)
			}
		}
		b = append(b, '\r', '\n')
		if !more {
			return b
		}
		text = rest
	}
}

// cutLine takes the first line off text, at "\n" or where a line must be split.
func cutLine(text string) (line, rest string, more bool) {
	blank := 0
	for i := range len(text) {
		switch {
		case text[i] == '\n':
			return text[:i], text[i+1:], true
		case i == maxReplyText && blank > 0:
			return text[:blank], text[blank+1:], true
		case i == maxReplyText:
			return text[:i], text[i:], true
		case text[i] == ' ':
			blank = i
		}
	}
	return text, "", false
}

func (r Reply) appendCode(b []byte, enhanced, more bool) []byte {
	b = strconv.AppendInt(b, int64(r.Code), 10)
	if more {
		b = append(b, '-')
	} else {
		b = append(b, ' ')
	}
	class := r.Code / 100
	if !enhanced || class != 2 && class != 4 && class != 5 {
		return b
	}
	b = append(b, byte('0'+class), '.')
	b = strconv.AppendInt(b, int64(r.Subject), 10)
	b = append(b, '.')
	b = strconv.AppendInt(b, int64(r.Detail), 10)
	return append(b, ' ')
}

// Positive reports whether the reply is of class 2 or 3.
func (r Reply) Positive() bool { return r.Code >= 200 && r.Code < 400 }

// Temporary reports whether the reply is of class 4.
func (r Reply) Temporary() bool { return r.Code/100 == 4 }

// Refuse makes an Error of its parts; code, subject and detail as in 550, 1, 1.
func Refuse(code, subject, detail int, text string) *Error {
	return &Error{Reply: Reply{Code: code, Subject: subject, Detail: detail, Text: text}}
}

// ReplyOf returns the reply that err asks for: its own when an Error is in its
// chain, otherwise 451 4.3.0, since an unknown cause must make the peer try again.
// known is false in the latter case: the caller logs err.
func ReplyOf(err error) (r Reply, known bool) {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reply, true
	}
	return Reply{Code: 451, Subject: 3, Text: "Local error, try again later"}, false
}
