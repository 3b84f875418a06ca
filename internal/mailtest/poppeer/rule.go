package poppeer

import (
	"fmt"
	"strings"
	"time"
)

// Stage is a moment at which the server answers or waits.
type Stage uint8

// The stages. Auth applies to each reply of an exchange; Body is in the middle of the text
// of RETR and TOP, behind Fault.After octets of it.
const (
	Connect Stage = iota
	Greeting
	Capa
	Stls
	Handshake
	UTF8
	Auth
	User
	Pass
	Stat
	List
	Uidl
	Retr
	Top
	Body
	Dele
	Noop
	Rset
	Quit
	stages
)

var stageNames = [stages]string{"connect", "greeting", "CAPA", "STLS", "handshake", "UTF8", "AUTH", "USER", "PASS", "STAT", "LIST", "UIDL", "RETR", "TOP", "body",
	"DELE", "NOOP", "RSET", "QUIT"}

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
	Nth   int    // the how manieth time the stage is reached in its connection, from 1
	Match string // the command's whole argument: the message number for RETR, TOP, Body and DELE
	Times int    // how often the rule applies; 0 for always
	Do    Fault
}

type ruleState struct {
	Rule
	used int
}

// rule returns the fault for a moment; nil for none. It counts the stage.
func (p *Peer) rule(stage Stage, conn, nth int, arg string) *Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stages[stage]++
	for _, r := range p.rules {
		if r.Stage == stage && (r.Conn == 0 || r.Conn == conn) && (r.Nth == 0 || r.Nth == nth) &&
			(r.Match == "" || r.Match == arg) && (r.Times == 0 || r.used < r.Times) {
			r.used++
			f := r.Do
			return &f
		}
	}
	return nil
}

// Fault is what the server does in place of its usual reply: it waits for Delay, says the
// usual reply if Usual says so, with Edit applied to its lines, then Lines, Raw or Flood,
// with Drip between octets, and then closes if Close or RST say so. A fault that says
// nothing and does not close is silent for ever. At Body the text goes on behind it. Make
// one with the functions below.
type Fault struct {
	Name    string                        // for String, where the rest does not tell
	Delay   time.Duration                 // before anything is said; negative is for ever
	Usual   bool                          // the usual reply is said
	Edit    func(lines []string) []string // changes the usual reply's lines, without status line and final dot
	NoDot   bool                          // the usual reply has no final dot
	Lines   []string                      // a reply, lines without CRLF
	Raw     []byte                        // octets as they are
	Flood   int64                         // octets of lines before the rest; negative never ends
	OneLine bool                          // the flood is one line
	Drip    time.Duration                 // between two octets of the reply
	After   int64                         // at Body: octets of the text, as stuffed, that are sent before
	Close   bool
	RST     bool // close with RST where the connection can
	Removed int  // at Quit: how many marked messages are removed, negative for all
}

// Reply answers with lines, as in "-ERR [IN-USE] later".
func Reply(lines ...string) Fault { return Fault{Lines: lines} }

// Drop closes the connection without a word.
func Drop() Fault { return Fault{Close: true} }

// RST resets the connection; in memory it is closed.
func RST() Fault { return Fault{RST: true} }

// Stall says nothing, and reads nothing, for ever.
func Stall() Fault { return Fault{Delay: -1} }

// Late gives the usual reply behind a delay.
func Late(d time.Duration) Fault { return Fault{Delay: d, Usual: true, Removed: -1} }

// Dripped gives the usual reply one octet at a time.
func Dripped(every time.Duration) Fault { return Fault{Usual: true, Drip: every, Removed: -1} }

// Garbage says what is no POP3.
func Garbage() Fault { return Fault{Raw: []byte("\x00\xff\xfe HTTP/1.1 200 OK\r\n\r\n<html>\r\n")} }

// Flood says about so many octets in lines, then the usual reply.
func Flood(octets int64) Fault { return Fault{Flood: octets, Usual: true, Removed: -1} }

// Endless gives +OK and lines that never end.
func Endless() Fault { return Fault{Flood: -1} }

// EndlessLine gives a line that never ends.
func EndlessLine() Fault { return Fault{Flood: -1, OneLine: true} }

// Trickle gives lines that never end, one octet at a time.
func Trickle(every time.Duration) Fault { return Fault{Flood: -1, Drip: every} }

// Extra gives the usual reply and one nobody asked for.
func Extra() Fault { return Fault{Usual: true, Lines: []string{"+OK once more"}, Removed: -1} }

// NoDot gives the usual reply without its final dot: the next reply follows at once.
func NoDot() Fault { return Fault{Usual: true, NoDot: true} }

// Edited gives the usual reply with its lines changed, status line and final dot left out
// of what edit sees: wrong sizes, counts, unique-ids.
func Edited(name string, edit func(lines []string) []string) Fault {
	return Fault{Name: name, Usual: true, Edit: edit}
}

// EachLine is Edited line by line.
func EachLine(name string, edit func(line string) string) Fault {
	return Edited(name, func(lines []string) []string {
		for i := range lines {
			lines[i] = edit(lines[i])
		}
		return lines
	})
}

// WrongSizes multiplies the sizes of a LIST by 1000.
func WrongSizes() Fault {
	return EachLine("wrong sizes", func(line string) string { return line + "000" })
}

// Missing leaves the first line of a listing out.
func Missing() Fault {
	return Edited("first missing", func(lines []string) []string { return lines[min(1, len(lines)):] })
}

// Twice says the first line of a listing twice.
func Twice() Fault {
	return Edited("first twice", func(lines []string) []string { return append(lines[:min(1, len(lines)):1], lines...) })
}

// Stranger adds a message to a listing that is not there.
func Stranger() Fault {
	return Edited("stranger", func(lines []string) []string { return append(lines, "4711 4711") })
}

// Backwards turns a listing round.
func Backwards() Fault {
	return Edited("backwards", func(lines []string) []string {
		for i, j := 0, len(lines)-1; i < j; i, j = i+1, j-1 {
			lines[i], lines[j] = lines[j], lines[i]
		}
		return lines
	})
}

// SameIDs gives every message of UIDL the same unique-id; in LIST the same size.
func SameIDs() Fault { return secondWord("same", func(string) string { return "1234" }) }

// ChangedIDs gives every message of UIDL another unique-id than before; in LIST no number.
func ChangedIDs() Fault { return secondWord("changed", func(old string) string { return "x" + old }) }

// BadIDs gives every message what is no unique-id.
func BadIDs() Fault { return secondWord("bad", func(string) string { return "\x01ż ó" }) }

// NoIDs leaves the second word of each line out.
func NoIDs() Fault { return secondWord("no second word", func(string) string { return "" }) }

func secondWord(name string, change func(string) string) Fault {
	return EachLine(name, func(line string) string {
		number, word, _ := strings.Cut(line, " ")
		return strings.TrimSuffix(number+" "+change(word), " ")
	})
}

// ThenDrop closes the connection behind the fault.
func (f Fault) ThenDrop() Fault {
	f.Close = true
	return f
}

// AfterOctets, at Body, lets so many octets of the text come before.
func (f Fault) AfterOctets(n int64) Fault {
	f.After = n
	return f
}

// Removing, at Quit, removes so many of the marked messages whatever is said; negative all.
func (f Fault) Removing(n int) Fault {
	f.Removed = n
	return f
}

// positive reports whether the client is told yes.
func (f *Fault) positive() bool {
	return f == nil || f.Usual || len(f.Lines) > 0 && strings.HasPrefix(f.Lines[0], "+")
}

// atOnce reports whether all of the fault can be said without time between.
func (f *Fault) atOnce() bool { return f.Delay == 0 && f.Drip == 0 && f.Flood == 0 && !f.RST }

// String describes the fault, for the names of tests.
func (f Fault) String() string {
	var parts []string
	add := func(ok bool, format string, args ...any) {
		if ok {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(f.Name != "", "%s", f.Name)
	add(f.Delay > 0, "late")
	add(f.Delay < 0, "stall")
	add(f.NoDot, "no dot")
	add(f.Usual && len(f.Lines) > 0, "usual and")
	add(f.Usual && f.Name == "" && f.Flood == 0 && len(f.Lines) == 0 && !f.NoDot && f.Delay == 0 && f.Drip == 0, "usual")
	add(len(f.Lines) > 0, "%s", strings.Join(f.Lines, "/"))
	add(len(f.Raw) > 0, "garbage")
	add(f.Flood < 0 && f.OneLine, "endless line")
	add(f.Flood < 0 && !f.OneLine, "endless")
	add(f.Flood > 0, "flood %d", f.Flood)
	add(f.Drip > 0, "dripped")
	add(f.Close, "drop")
	add(f.RST, "RST")
	return strings.Join(parts, " ")
}
