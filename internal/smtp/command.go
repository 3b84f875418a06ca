package smtp

import (
	"bytes"
	"strconv"
	"strings"
)

// Command is a command line, parted into its verb and its argument.
type Command struct {
	Verb Verb
	Arg  string // without the blanks around it
}

// ParseCommand reads a command line without its CRLF (RFC 5321 §4.1.1). An unknown
// verb is no error: it is VerbUnknown. A line with a control character, a bare CR or
// LF among them, is an Error, 500 5.5.2.
func ParseCommand(line []byte) (Command, error) {
	for _, c := range line {
		if c < ' ' && c != '\t' || c == 0x7f {
			return Command{}, Refuse(500, 5, 2, "Syntax error: control character in the command line")
		}
	}
	word, rest := line, []byte(nil)
	if i := bytes.IndexByte(line, ' '); i >= 0 {
		word, rest = line[:i], line[i+1:]
	}
	verb := parseVerb(word)
	if len(rest) == 0 {
		return Command{Verb: verb}, nil
	}
	return Command{Verb: verb, Arg: string(bytes.Trim(rest, " \t"))}, nil
}

// NoArgument refuses an argument where none is allowed (RFC 5321 §4.1.1: 501).
func (c Command) NoArgument() error {
	if c.Arg != "" {
		return Refuse(501, 5, 4, c.Verb.String()+" takes no argument")
	}
	return nil
}

// ParseHello reads the argument of EHLO, HELO or LHLO. It is meant to be a domain or
// an address literal (RFC 5321 §4.1.1.1), but devices say names with underscores and
// worse, and RFC 5321 §4.1.4 asks not to refuse mail for that: any printable ASCII
// without blanks is taken.
func ParseHello(arg string) (string, error) {
	if arg == "" {
		return "", Refuse(501, 5, 4, "A domain or an address literal must follow the command")
	}
	if len(arg) > MaxHello {
		return "", Refuse(501, 5, 4, "The domain is too long")
	}
	for i := range len(arg) {
		if arg[i] <= ' ' || arg[i] > '~' {
			return "", Refuse(501, 5, 4, "A domain or an address literal in ASCII must follow the command")
		}
	}
	return arg, nil
}

// ParseBDAT reads the argument of BDAT: the chunk-size in octets, and whether this
// is the last chunk (RFC 3030 §2). A size beyond int64 is refused, as the octets
// that would follow can't be counted: the caller has to close the connection.
func ParseBDAT(arg string) (size int64, last bool, err error) {
	word, rest, _ := strings.Cut(arg, " ")
	size, ok := parseSize(word)
	if !ok {
		return 0, false, Refuse(501, 5, 4, "BDAT needs the number of octets that follow")
	}
	switch rest = strings.TrimSpace(rest); {
	case rest == "":
		return size, false, nil
	case strings.EqualFold(rest, "LAST"):
		return size, true, nil
	}
	return 0, false, Refuse(501, 5, 4, "After BDAT's octets only LAST may stand")
}

// parseSize reads 1*20DIGIT; false for anything else and for what int64 can't hold.
func parseSize(s string) (int64, bool) {
	if s == "" || len(s) > MaxSizeDigits {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// ParseAuth reads the argument of AUTH: the mechanism in upper case and the
// initial response, still in base64; has tells an absent response from an
// empty one (RFC 4954 §4).
func ParseAuth(arg string) (mechanism, initial string, has bool, err error) {
	mechanism, initial, has = strings.Cut(arg, " ")
	if mechanism == "" || len(mechanism) > 20 { // RFC 4422 §3.1: 1–20 characters
		return "", "", false, Refuse(501, 5, 4, "AUTH needs a mechanism")
	}
	mechanism = strings.ToUpper(mechanism)
	for i := range len(mechanism) {
		if c := mechanism[i]; (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return "", "", false, Refuse(501, 5, 4, "The name of the mechanism is malformed")
		}
	}
	if has && (initial == "" || strings.ContainsAny(initial, " \t")) {
		return "", "", false, Refuse(501, 5, 4, "AUTH takes a mechanism and one initial response")
	}
	return mechanism, initial, has, nil
}
