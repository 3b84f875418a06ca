package peer

import (
	"fmt"
	"strings"
	"time"
)

// Stage is a moment at which the server answers or waits.
type Stage uint8

// The stages. Hello is EHLO, HELO and LHLO; Body is in the middle of mail data, behind
// Fault.After octets; Final answers the final dot, and each BDAT, Data only DATA.
const (
	Connect Stage = iota
	Greeting
	Hello
	StartTLS
	Handshake
	Auth
	Mail
	Rcpt
	Data
	Body
	Final
	Reset
	Quit
	stages
)

var stageNames = [stages]string{"connect", "greeting", "EHLO", "STARTTLS", "handshake", "AUTH", "MAIL", "RCPT", "DATA", "body", "final", "RSET", "QUIT"}

// String returns the stage's name.
func (s Stage) String() string { return stageNames[s] }

// Stages lists all stages, for tests of every one.
func Stages() []Stage {
	all := make([]Stage, stages)
	for i := range all {
		all[i] = Stage(i)
	}
	return all
}

// Rule says what happens at a stage; zero fields fit everything.
type Rule struct {
	Stage Stage
	Conn  int    // the number of the connection, from 1
	Mail  int    // the number of the MAIL command since the peer began, from 1
	Rcpt  int    // the number of the RCPT command in its transaction, from 1; at Final in LMTP that of the accepted recipient
	Match string // part of the command's argument, or of the forward-path at Final in LMTP
	Times int    // how often the rule applies; 0 for always
	Do    Fault
}

type ruleState struct {
	Rule
	used int
}

// moment is where a session stands when it looks for a rule.
type moment struct {
	stage            Stage
	conn, mail, rcpt int
	arg              string
}

func (r *ruleState) fits(m moment) bool {
	return r.Stage == m.stage && (r.Conn == 0 || r.Conn == m.conn) && (r.Mail == 0 || r.Mail == m.mail) &&
		(r.Rcpt == 0 || r.Rcpt == m.rcpt) && strings.Contains(m.arg, r.Match) && (r.Times == 0 || r.used < r.Times)
}

// rule returns the fault for a moment; nil for none. It counts the stage.
func (p *Peer) rule(m moment) *Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stages[m.stage]++
	for _, r := range p.rules {
		if r.fits(m) {
			r.used++
			f := r.Do
			return &f
		}
	}
	return nil
}

// Fault is what the server does in place of its usual reply: it waits for Delay, says
// Lines, Raw or Flood, with Drip between octets, and then closes if Close or RST say so. A
// fault that says nothing and does not close is silent for ever. Make one with the
// functions below.
type Fault struct {
	Delay   time.Duration // before anything is said; negative is for ever
	Lines   []string      // a reply, lines without CRLF; refuses when its code is 4xx or 5xx
	Usual   bool          // the usual reply is said too, before Lines and Raw
	Raw     []byte        // octets as they are
	Flood   int64         // octets of a multi-line reply before its last line; negative never ends
	OneLine bool          // the flood is one line
	Drip    time.Duration // between two octets of the reply
	Read    time.Duration // at Body: between two octets that are read
	After   int64         // at Body: octets of mail data that are read before
	Close   bool
	RST     bool // close with RST where the connection can
}

// Reply answers with lines, as in "450 4.2.0 later". Behind 421 the connection is closed.
func Reply(lines ...string) Fault {
	return Fault{Lines: lines, Close: strings.HasPrefix(lines[0], "421")}
}

// Drop closes the connection without a word.
func Drop() Fault { return Fault{Close: true} }

// RST resets the connection; in memory it is closed.
func RST() Fault { return Fault{RST: true} }

// Stall says nothing, and reads nothing, for ever.
func Stall() Fault { return Fault{Delay: -1} }

// Late gives the usual reply behind a delay.
func Late(d time.Duration) Fault { return Fault{Delay: d, Usual: true} }

// Dripped gives the usual reply one octet at a time.
func Dripped(every time.Duration) Fault { return Fault{Usual: true, Drip: every} }

// Garbage says what is no SMTP.
func Garbage() Fault { return Fault{Raw: []byte("\x00\xff\xfe HTTP/1.1 200 OK\r\n\r\n<html>\r\n")} }

// Flood gives a multi-line reply of about so many octets before its last line.
func Flood(octets int64) Fault { return Fault{Flood: octets, Usual: true} }

// Endless gives a multi-line reply that never ends.
func Endless() Fault { return Fault{Flood: -1} }

// EndlessLine gives a line that never ends.
func EndlessLine() Fault { return Fault{Flood: -1, OneLine: true} }

// Trickle gives a reply that never ends, one octet at a time.
func Trickle(every time.Duration) Fault { return Fault{Flood: -1, Drip: every} }

// Extra gives the usual reply and one nobody asked for.
func Extra() Fault { return Fault{Usual: true, Lines: []string{"250 2.0.0 once more"}} }

// SlowRead, at Body, reads the mail data one octet at a time.
func SlowRead(every time.Duration) Fault { return Fault{Read: every} }

// ThenDrop closes the connection behind the fault.
func (f Fault) ThenDrop() Fault {
	f.Close = true
	return f
}

// AfterOctets, at Body, lets so many octets of mail data come before.
func (f Fault) AfterOctets(n int64) Fault {
	f.After = n
	return f
}

// atOnce reports whether all of the fault can be said without time between. A reset is no
// such fault: it takes back what has not been read.
func (f *Fault) atOnce() bool { return f.Delay == 0 && f.Drip == 0 && f.Flood == 0 && !f.RST }

// refuses reports whether the fault is a reply that refuses.
func (f *Fault) refuses() bool {
	return f != nil && !f.Usual && len(f.Lines) > 0 && f.Lines[0] != "" && f.Lines[0][0] >= '4'
}

// positive reports whether the client is told yes.
func (f *Fault) positive() bool {
	return f == nil || f.Usual || len(f.Lines) > 0 && !f.refuses()
}

// String describes the fault, for the names of tests.
func (f Fault) String() string {
	var parts []string
	add := func(ok bool, format string, args ...any) {
		if ok {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(f.Delay > 0, "late")
	add(f.Delay < 0, "stall")
	add(f.Usual && len(f.Lines) > 0, "usual and")
	add(f.Usual && f.Flood == 0 && len(f.Lines) == 0, "usual")
	add(len(f.Lines) > 0, "%s", strings.Join(f.Lines, "/"))
	add(len(f.Raw) > 0, "garbage")
	add(f.Flood < 0 && f.OneLine, "endless line")
	add(f.Flood < 0 && !f.OneLine, "endless")
	add(f.Flood > 0, "flood %d", f.Flood)
	add(f.Drip > 0, "dripped")
	add(f.Read > 0, "slow read")
	add(f.Close, "drop")
	add(f.RST, "RST")
	return strings.Join(parts, " ")
}
