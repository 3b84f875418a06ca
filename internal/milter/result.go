package milter

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/verdict"
)

// Errors of Filter; test with errors.Is. Each is wrapped with what happened.
var (
	// ErrUnavailable: no connection, or one that was cut off.
	ErrUnavailable = errors.New("milter is not available")
	// ErrTimeout: the milter did not answer in time.
	ErrTimeout = errors.New("milter does not answer")
	// ErrProtocol: the milter said what it must not say.
	ErrProtocol = errors.New("milter breaks the protocol")
)

// Action is what a milter wants done.
type Action uint8

// The actions. Continue and accept are the same at the end.
const (
	Accept     Action = iota
	Quarantine        // Result.Reason says why
	TempFail          // refuse for now: Result.Reply
	Reject            // refuse for good: Result.Reply
	Discard           // take the message and drop it
	numActions
)

var actionNames = [numActions]string{"accept", "quarantine", "tempfail", "reject", "discard"}

// String is the action's word.
func (a Action) String() string {
	if a < numActions {
		return actionNames[a]
	}
	return fmt.Sprintf("action(%d)", uint8(a))
}

// Refused is a recipient that the milter refuses while the message goes on to others.
type Refused struct {
	Index  int    // in Envelope.Recipients
	Action Action // TempFail or Reject
	Reply  smtp.Reply
}

// Result is a milter's verdict. With TempFail, Reject and Discard there are no Changes; when
// all recipients were refused, Action is that of the last of them.
type Result struct {
	Action     Action
	Reply      smtp.Reply // of TempFail and Reject; ready to be sent
	Reason     string     // of Quarantine, in the milter's words
	Changes    []Change
	Recipients []Refused
	Stage      string // where the milter decided, as in "mail" or "end of message"
}

var demands = [numActions]verdict.Action{
	Accept: verdict.Deliver, Quarantine: verdict.Quarantine, TempFail: verdict.Defer, Reject: verdict.Refuse, Discard: verdict.Discard,
}

// Items is the result as evidence about the whole message; none when the milter accepts.
// name is what the operator calls the milter.
func (r Result) Items(name string) []verdict.Item {
	if r.Action == Accept || r.Action >= numActions {
		return nil
	}
	detail := name + ": " + r.Action.String()
	if r.Stage != "" && r.Stage != stageNames[stageEnd] {
		detail += " at " + r.Stage
	}
	switch {
	case r.Action == Quarantine && r.Reason != "":
		detail += ": " + r.Reason
	case r.Reply.Text != "":
		text, _, _ := strings.Cut(r.Reply.Text, "\n")
		detail += ": " + text
	}
	return []verdict.Item{{Name: verdict.Milter, Detail: clip(detail, verdict.MaxDetailOctets), Demand: demands[r.Action]}}
}

// clip shortens s to at most n octets of valid, printable UTF-8.
func clip(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	for len(s) > n {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}

// The replies of milters that give none.
func defaultReply(a Action) smtp.Reply {
	if a == TempFail {
		return smtp.Reply{Code: 451, Subject: 7, Detail: 1, Text: "Service unavailable - try again later"}
	}
	return smtp.Reply{Code: 550, Subject: 7, Detail: 1, Text: "Command rejected"}
}

// maxReplyLines and maxReplyText bound what a milter may have us say.
const (
	maxReplyLines = 32
	maxReplyText  = 512 // octets of one line: RFC 5321 §4.5.3.1.5
)

// parseReply reads the reply that a milter wants sent: lines as on the wire, in which "%%" is
// a percent sign. All lines have one code of class 4 or 5, and an enhanced code of that class
// or none (RFC 5321 §4.2.1, RFC 2034 §4).
func parseReply(s string) (smtp.Reply, error) {
	var r smtp.Reply
	lines := strings.Split(strings.TrimRight(s, "\r\n"), "\n")
	if len(lines) > maxReplyLines {
		return r, fmt.Errorf("reply of %d lines", len(lines))
	}
	texts := make([]string, 0, len(lines))
	for i, l := range lines {
		one, err := parseReplyLine(strings.TrimSuffix(l, "\r"), i == len(lines)-1)
		if err != nil {
			return r, err
		}
		if i == 0 {
			r = one
		} else if one.Code != r.Code {
			return r, errors.New("reply with two codes")
		}
		texts = append(texts, one.Text)
	}
	r.Text = strings.Join(texts, "\n")
	return r, nil
}

func parseReplyLine(l string, last bool) (smtp.Reply, error) {
	var r smtp.Reply
	if len(l) < 3 || l[0] != '4' && l[0] != '5' || l[1] < '0' || l[1] > '5' || l[2] < '0' || l[2] > '9' {
		return r, errors.New("reply without a code of class 4 or 5")
	}
	r.Code, _ = strconv.Atoi(l[:3])
	text := l[3:]
	switch {
	case text == "" && last:
	case text != "" && (text[0] == ' ' || text[0] == '-'):
		text = text[1:]
	default:
		return r, errors.New("reply with something else than a blank or hyphen behind its code")
	}
	word, rest, _ := strings.Cut(text, " ")
	if class, subject, detail, ok := enhanced(word); ok {
		if class != r.Code/100 {
			return r, errors.New("reply whose enhanced code is of another class")
		}
		r.Subject, r.Detail, text = subject, detail, rest
	} else {
		r.Subject, r.Detail = 7, 1 // our server offers enhanced codes, so every reply has one
	}
	text = strings.ReplaceAll(text, "%%", "%")
	for i := range len(text) {
		if c := text[i]; c < ' ' && c != '\t' || c >= 0x7f {
			return r, errors.New("reply with an octet that is not printable ASCII")
		}
	}
	if len(text) > maxReplyText {
		return r, fmt.Errorf("reply with a line of %d octets", len(text))
	}
	r.Text = text
	return r, nil
}

// enhanced reads an enhanced status code (RFC 3463 §2).
func enhanced(s string) (class, subject, detail int, ok bool) {
	parts := strings.Split(s, ".")
	if len(parts) != 3 || len(parts[0]) != 1 {
		return 0, 0, 0, false
	}
	var n [3]int
	for i, p := range parts {
		v, err := strconv.ParseUint(p, 10, 10)
		if err != nil || len(p) > 3 {
			return 0, 0, 0, false
		}
		n[i] = int(v) // ten bits
	}
	return n[0], n[1], n[2], true
}
