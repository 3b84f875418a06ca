package smtpclient

import (
	"bytes"
	"strconv"

	"poczta.example/poczta/internal/smtp"
)

// DialogueOctets is how much a Dialogue keeps when its Max is zero.
const DialogueOctets = 16 << 10

// Dialogue records a session: a line "C: …" for each line sent and "S: …" for each line
// of a reply. Credentials and mail data are left out, they appear in brackets as how
// much there was. Of a long dialogue the beginning and the end are kept. The zero value
// is ready; it is used by one session at a time, and read between its calls.
type Dialogue struct {
	Max int // octets kept; 0 means DialogueOctets

	head, tail []byte
	cut        bool
}

// Reset forgets everything but keeps the memory.
func (d *Dialogue) Reset() { d.head, d.tail, d.cut = d.head[:0], d.tail[:0], false }

// Bytes returns a copy of what was recorded, lines ended by "\n".
func (d *Dialogue) Bytes() []byte {
	b := bytes.Clone(d.head)
	if d.cut {
		b = append(b, "[...]\n"...)
	}
	return append(b, d.tail...)
}

// String returns what Bytes returns.
func (d *Dialogue) String() string { return string(d.Bytes()) }

// max returns the bound of each half.
func (d *Dialogue) half() int {
	if d.Max <= 0 {
		return DialogueOctets / 2
	}
	return d.Max / 2
}

// line records one line; who is "C: " or "S: ".
func (d *Dialogue) line(who string, text []byte) {
	half := d.half()
	text = text[:min(len(text), half/4)] // no line takes it all
	if n := len(who) + len(text) + 1; len(d.tail) == 0 && !d.cut && len(d.head)+n <= half {
		d.head = appendLine(d.head, who, text)
		return
	}
	d.tail = appendLine(d.tail, who, text)
	if len(d.tail) > half {
		keep := d.tail[len(d.tail)-half/2:]
		if i := bytes.IndexByte(keep, '\n'); i >= 0 {
			keep = keep[i+1:]
		}
		d.tail, d.cut = append(d.tail[:0], keep...), true
	}
}

func appendLine(b []byte, who string, text []byte) []byte {
	return append(append(append(b, who...), text...), '\n')
}

// sent records whole command lines.
func (d *Dialogue) sent(commands []byte) {
	if d == nil {
		return
	}
	for len(commands) > 0 {
		line, rest, _ := bytes.Cut(commands, crlf)
		d.line("C: ", line)
		commands = rest
	}
}

// hidden records that octets were sent which are not shown.
func (d *Dialogue) hidden(what string, octets int64) {
	if d == nil {
		return
	}
	var room [64]byte
	b := append(strconv.AppendInt(append(room[:0], '['), octets, 10), " octets of "...)
	d.line("C: ", append(append(b, what...), ']'))
}

// reply records a reply.
func (d *Dialogue) reply(r *smtp.Reply) {
	if d == nil {
		return
	}
	var b [smtp.MaxReplyLine]byte
	wire := r.AppendTo(b[:0])
	for len(wire) > 0 {
		line, rest, _ := bytes.Cut(wire, crlf)
		d.line("S: ", line)
		wire = rest
	}
}

// note records what happened beside replies.
func (d *Dialogue) note(text string) {
	if d != nil {
		d.line("-- ", []byte(text))
	}
}

var crlf = []byte("\r\n")
