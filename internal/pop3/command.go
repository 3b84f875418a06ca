package pop3

import (
	"bytes"
	"errors"
	"unicode/utf8"
)

// Limits in octets, with CRLF.
const (
	MaxCommandOctets  = 255   // RFC 2449 §4
	MaxResponseOctets = 512   // RFC 2449 §4: the first line of a reply
	MaxCapaOctets     = 512   // RFC 2449 §5: one line of CAPA
	MaxUniqueIDOctets = 70    // RFC 1939 §7, UIDL
	MaxSASLOctets     = 12288 // one base64 line of an exchange; RFC 5034 §4 leaves it open, RFC 4954 §4 says this
)

// Errors of ParseCommand and of the argument parsers. They carry no octets of
// the peer, so they may be logged even for PASS.
var (
	ErrUnknownCommand = errors.New("unknown command")
	ErrArguments      = errors.New("wrong arguments")
	ErrNumber         = errors.New("not a message number")
	ErrTooLong        = errors.New("line is too long")
	ErrOctets         = errors.New("control characters or malformed UTF-8")
)

// Verb is a POP3 command keyword. The zero Verb is no command.
type Verb uint8

// The commands that we know.
const (
	VerbNone Verb = iota
	VerbUser      // RFC 1939 §7
	VerbPass      // RFC 1939 §7
	VerbQuit      // RFC 1939 §4, §6
	VerbStat      // RFC 1939 §5
	VerbList      // RFC 1939 §5
	VerbRetr      // RFC 1939 §5
	VerbDele      // RFC 1939 §5
	VerbNoop      // RFC 1939 §5
	VerbRset      // RFC 1939 §5
	VerbTop       // RFC 1939 §7
	VerbUidl      // RFC 1939 §7
	VerbCapa      // RFC 2449 §5
	VerbStls      // RFC 2595 §4
	VerbAuth      // RFC 5034 §4
	VerbUTF8      // RFC 6856 §2.1
	VerbLang      // RFC 6856 §3.2
	NumVerbs      // how many Verbs there are, VerbNone included
)

// arity is the grammar of a command's arguments.
type arity uint8

const (
	noArgument  arity = iota
	optionalOne       // one word or none
	one               // one word
	oneOrTwo          // one or two words, or none for AUTH's listing
	two               // two words
	rest              // everything after the first space, which may hold spaces
)

// grammar is the table of commands. Keywords are compared without regard to case.
var grammar = [NumVerbs]struct {
	keyword string
	arity   arity
}{
	VerbUser: {"USER", rest}, VerbPass: {"PASS", rest}, VerbQuit: {"QUIT", noArgument},
	VerbStat: {"STAT", noArgument}, VerbList: {"LIST", optionalOne}, VerbRetr: {"RETR", one},
	VerbDele: {"DELE", one}, VerbNoop: {"NOOP", noArgument}, VerbRset: {"RSET", noArgument},
	VerbTop: {"TOP", two}, VerbUidl: {"UIDL", optionalOne}, VerbCapa: {"CAPA", noArgument},
	VerbStls: {"STLS", noArgument}, VerbAuth: {"AUTH", oneOrTwo}, VerbUTF8: {"UTF8", noArgument},
	VerbLang: {"LANG", optionalOne},
}

// String returns the keyword in capitals, "" for VerbNone.
func (v Verb) String() string {
	if v < NumVerbs {
		return grammar[v].keyword
	}
	return ""
}

// Command is one parsed command. First and Second are its arguments, slices of
// the parsed line; nil when absent. For USER and PASS, First is the rest of the
// line, for PASS with every space it holds (RFC 1939 §7).
type Command struct {
	Verb          Verb
	First, Second []byte
}

// ParseCommand parses line, which is without its line end and shorter than
// MaxCommandOctets by at least two octets (for AUTH the limit is
// MaxSASLOctets: clients send long initial responses despite RFC 5034 §4).
// The error is one of ErrUnknownCommand, ErrArguments, ErrTooLong, ErrOctets;
// Verb is set as soon as the keyword is known, also with an error. Leniency:
// spaces at the end are ignored, except for PASS, because old programs send them.
// It does not allocate.
func ParseCommand(line []byte) (Command, error) {
	keyword, args, spaced := bytes.Cut(line, []byte{' '})
	c := Command{Verb: lookup(keyword)}
	limit := MaxCommandOctets - 2
	if c.Verb == VerbAuth {
		limit = MaxSASLOctets - 2
	}
	switch {
	case len(line) > limit:
		return c, ErrTooLong
	case c.Verb == VerbNone:
		return c, ErrUnknownCommand
	case !cleanText(args):
		return c, ErrOctets
	}
	if c.Verb == VerbPass {
		if !spaced {
			return c, ErrArguments
		}
		c.First = args
		return c, nil
	}
	return c, c.split(bytes.TrimRight(args, " "))
}

// split fills in the arguments by the command's arity.
func (c *Command) split(args []byte) error {
	a := grammar[c.Verb].arity
	if a == rest {
		c.First = args
		return check(len(args) > 0)
	}
	if len(args) == 0 {
		return check(a == noArgument || a == optionalOne || a == oneOrTwo)
	}
	first, second, more := bytes.Cut(args, []byte{' '})
	if a == noArgument || len(first) == 0 {
		return ErrArguments
	}
	c.First = first
	if !more {
		return check(a != two)
	}
	if a == one || a == optionalOne || len(second) == 0 || bytes.IndexByte(second, ' ') >= 0 {
		return ErrArguments
	}
	c.Second = second
	return nil
}

func check(ok bool) error {
	if ok {
		return nil
	}
	return ErrArguments
}

// lookup finds the verb of a keyword; VerbNone when there is none.
func lookup(keyword []byte) Verb {
	if len(keyword) < 3 || len(keyword) > 4 {
		return VerbNone
	}
	var up [4]byte
	for i, b := range keyword {
		if 'a' <= b && b <= 'z' {
			b -= 'a' - 'A'
		}
		up[i] = b
	}
	for v := VerbUser; v < NumVerbs; v++ {
		if string(up[:len(keyword)]) == grammar[v].keyword {
			return v
		}
	}
	return VerbNone
}

// cleanText reports whether b is UTF-8 without control characters. Whether
// octets over 127 are allowed is the command's business (RFC 6856 §2.2).
func cleanText(b []byte) bool {
	for _, c := range b {
		if c < ' ' || c == 0x7f {
			return false
		}
	}
	return utf8.Valid(b)
}

// ASCII reports whether b holds no octet over 127.
func ASCII(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// ParseNumber reads a message number, a line count or an octet count: decimal
// digits only, leading zeros allowed, without sign. A number too large for an
// int64 is ErrNumber.
func ParseNumber(b []byte) (int64, error) {
	if len(b) == 0 {
		return 0, ErrNumber
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, ErrNumber
		}
		d := int64(c - '0')
		if n > (1<<63-1-d)/10 {
			return 0, ErrNumber
		}
		n = n*10 + d
	}
	return n, nil
}
