package smtp

import (
	"bytes"
	"errors"
	"strings"
	"unicode/utf8"
)

// Limits of a reply as a client reads it. RFC 5321 §4.5.3.1.5 allows 512 octets a
// line; servers exceed that now and then, so what is too long is cut and not refused.
const (
	// MaxReplyText is how many octets of a reply's text are kept; the rest is read and dropped.
	MaxReplyText = 64 << 10
	// MaxReplyOctets is the most octets of a whole reply, line ends included.
	MaxReplyOctets = 1 << 20
	// MaxReplyLines is the most lines of a reply.
	MaxReplyLines = 100
)

// Errors of a ReplyParser; test with errors.Is. After one the octets that follow
// have no meaning, so the connection has to be closed.
var (
	ErrReplySyntax  = errors.New("server's reply is malformed")
	ErrReplyTooLong = errors.New("server's reply is too long")
)

// ReplyParser puts a server's reply together from octets in pieces of any size (RFC
// 5321 §4.2). It keeps at most MaxReplyText of them and gives up after MaxReplyOctets
// or MaxReplyLines, so a reply that never ends costs bounded memory and work.
//
// It takes what other clients take beyond the grammar: LF alone as a line's end, a
// code without text, and lines of one reply with different codes of one class, of
// which the last line's counts. The zero value is ready for a reply; after done it is
// ready for the next. Not for concurrent use.
type ReplyParser struct {
	// Hello says that a positive reply has no enhanced status code, as that of a
	// greeting and of EHLO (RFC 2034 §4).
	Hello bool

	line   []byte // the beginning of a line that has not ended
	text   []byte // the text of the lines before, each with "\n"
	code   int
	lines  int
	octets int
	reply  Reply
}

// Feed takes octets of b up to the reply's end and returns how many. With done the
// reply is whole, see Reply. The error wraps ErrReplySyntax or ErrReplyTooLong.
func (p *ReplyParser) Feed(b []byte) (n int, done bool, err error) {
	for n < len(b) {
		i := bytes.IndexByte(b[n:], '\n')
		piece := b[n:]
		if i >= 0 {
			piece = b[n : n+i+1]
		}
		n += len(piece)
		if p.octets += len(piece); p.octets > MaxReplyOctets {
			return n, false, ErrReplyTooLong
		}
		if i < 0 {
			p.keep(piece)
			return n, false, nil
		}
		line := piece
		if len(p.line) > 0 {
			p.keep(piece)
			line = p.line
		}
		more, err := p.take(trimEnd(line))
		if err != nil {
			return n, false, err
		}
		p.line = p.line[:0]
		if !more {
			return n, true, nil
		}
	}
	return n, false, nil
}

// Reply returns the reply that Feed has found. Its text has no control character but
// the "\n" between lines and is valid UTF-8. An enhanced status code is taken out of
// the text when it is well-formed and of the code's class, whether or not the server
// has offered the extension: refusals before EHLO have it too.
func (p *ReplyParser) Reply() Reply { return p.reply }

// keep holds a piece of a line that has not ended, as much as a text may have.
func (p *ReplyParser) keep(piece []byte) {
	room := max(MaxReplyText-len(p.line), 0)
	p.line = append(p.line, piece[:min(len(piece), room)]...)
}

// trimEnd takes a line's end off.
func trimEnd(line []byte) []byte {
	line = bytes.TrimSuffix(line, []byte{'\n'})
	return bytes.TrimSuffix(line, []byte{'\r'})
}

// take reads a line without its end; more says that others follow.
func (p *ReplyParser) take(line []byte) (more bool, err error) {
	code, more, text, ok := cutReplyLine(line)
	if !ok || p.lines > 0 && code/100 != p.code/100 {
		return false, ErrReplySyntax
	}
	p.code = code
	if p.lines++; p.lines > MaxReplyLines || p.lines == MaxReplyLines && more {
		return false, ErrReplyTooLong
	}
	if !more && p.lines == 1 {
		p.finish(text)
		return false, nil
	}
	room := max(MaxReplyText-len(p.text)-1, 0)
	p.text = append(p.text, text[:min(len(text), room)]...)
	if more {
		p.text = append(p.text, '\n')
		return true, nil
	}
	p.finish(p.text)
	return false, nil
}

// cutReplyLine parts a line into code, separator and text (RFC 5321 §4.2).
func cutReplyLine(line []byte) (code int, more bool, text []byte, ok bool) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' || !isDigit(line[1]) || !isDigit(line[2]) {
		return 0, false, nil, false
	}
	code = int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	if len(line) == 3 {
		return code, false, nil, true
	}
	if line[3] != ' ' && line[3] != '-' {
		return 0, false, nil, false
	}
	return code, line[3] == '-', line[4:], true
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// finish makes the reply and readies the parser for the next one.
func (p *ReplyParser) finish(text []byte) {
	r := Reply{Code: p.code, Plain: true}
	if class := r.Code / 100; class != 3 && (class != 2 || !p.Hello) {
		if subject, detail, n := enhancedCode(text, class); n > 0 {
			r.Subject, r.Detail, r.Plain = subject, detail, false
			text = stripEnhanced(text, n)
		}
	}
	r.Text = replyText(text)
	*p = ReplyParser{Hello: p.Hello, line: p.line[:0], text: p.text[:0], reply: r}
	if cap(p.line) > 4<<10 || cap(p.text) > 4<<10 { // a flood's memory does not stay
		p.line, p.text = nil, nil
	}
}

// enhancedCode reads an enhanced status code of the class at the beginning of text
// and how many octets it has (RFC 2034 §4); 0 when there is none.
func enhancedCode(text []byte, class int) (subject, detail, n int) {
	if len(text) < 5 || text[0] != byte('0'+class) || text[1] != '.' {
		return 0, 0, 0
	}
	n = 2
	subject, n = cutNumber(text, n)
	if n == 0 || n == len(text) || text[n] != '.' {
		return 0, 0, 0
	}
	detail, n = cutNumber(text, n+1)
	if n == 0 || n < len(text) && text[n] != ' ' && text[n] != '\n' {
		return 0, 0, 0
	}
	return subject, detail, n
}

// cutNumber reads 1*3DIGIT at i and where it ends, 0 when there is none.
func cutNumber(text []byte, i int) (v, end int) {
	start := i
	for i < len(text) && i < start+3 && isDigit(text[i]) {
		v = v*10 + int(text[i]-'0')
		i++
	}
	if i == start {
		return 0, 0
	}
	return v, i
}

// stripEnhanced takes the enhanced status code, n octets long, off the first line and
// off each line that repeats it.
func stripEnhanced(text []byte, n int) []byte {
	if bytes.IndexByte(text, '\n') < 0 {
		return bytes.TrimLeft(text[n:], " ")
	}
	status := string(text[:n])
	var out []byte
	for i, line := range bytes.Split(text, []byte{'\n'}) {
		if i > 0 {
			out = append(out, '\n')
		}
		if rest, ok := bytes.CutPrefix(line, []byte(status)); ok && (len(rest) == 0 || rest[0] == ' ') {
			line = bytes.TrimLeft(rest, " ")
		}
		out = append(out, line...)
	}
	return out
}

// replyText makes a text that logs and reports can carry: control characters and
// malformed UTF-8 become "?". UTF-8 may stand in replies (RFC 6531 §3.7.4.2).
func replyText(text []byte) string {
	clean := true
	for _, c := range text {
		if c < ' ' && c != '\n' || c >= 0x7f {
			clean = false
			break
		}
	}
	if clean {
		return string(text)
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError {
			return '?'
		}
		return r
	}, string(text))
}
