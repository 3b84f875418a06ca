package pop3client

import (
	"bytes"
	"strconv"
	"strings"
)

// DialogueOctets is how much a Dialogue keeps when its Max is zero.
const DialogueOctets = 16 << 10

// Dialogue records a session: a line "C: …" for each command and "S: …" for each status
// line. Credentials, listings and messages are left out, they appear in brackets as how
// much there was. Of a long dialogue the beginning and the end are kept. The zero value is
// ready; it is used by one session at a time, and read between its calls.
type Dialogue struct {
	Max int // octets kept; 0 means DialogueOctets

	head, tail []byte
	cut        bool
}

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

// line records one line; who is "C: " or "S: ".
func (d *Dialogue) line(who, text string) {
	half := DialogueOctets / 2
	if d.Max > 0 {
		half = d.Max / 2
	}
	text = text[:min(len(text), half/4)] // no line takes it all
	if n := len(who) + len(text) + 1; len(d.tail) == 0 && !d.cut && len(d.head)+n <= half {
		d.head = append(append(append(d.head, who...), text...), '\n')
		return
	}
	d.tail = append(append(append(d.tail, who...), text...), '\n')
	if len(d.tail) > half {
		keep := d.tail[len(d.tail)-half/2:]
		if i := bytes.IndexByte(keep, '\n'); i >= 0 {
			keep = keep[i+1:]
		}
		d.tail, d.cut = append(d.tail[:0], keep...), true
	}
}

// sent records command lines.
func (d *Dialogue) sent(commands string) {
	if d == nil {
		return
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(commands, "\r\n"), "\r\n") {
		d.line("C: ", line)
	}
}

// reply records a status line.
func (d *Dialogue) reply(line []byte) {
	if d != nil {
		d.line("S: ", brief(string(line[:min(len(line), MaxText)])))
	}
}

// hidden records what came and is not shown.
func (d *Dialogue) hidden(what string, n int64, unit string) {
	if d != nil {
		d.line("S: ", "["+what+" of "+strconv.FormatInt(n, 10)+" "+unit+"]")
	}
}

// note records what happened beside replies.
func (d *Dialogue) note(text string) {
	if d != nil {
		d.line("-- ", text)
	}
}
