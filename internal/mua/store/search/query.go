package search

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// ErrQuery is wrapped by Parse's errors, each a plain sentence.
var ErrQuery = errors.New("the search can't be understood")

// Column is a part of a letter that is searched.
type Column string

// The columns of the index.
const (
	Subject    Column = "subject"
	Sender     Column = "sender"
	Recipients Column = "recipients" // To, Cc, Bcc
	Body       Column = "body"
	Files      Column = "files"  // names of attachments
	Inside     Column = "inside" // text of attachments
)

// Is is a state that is asked for.
type Is struct{ Unread, Read, Flagged, Unflagged, Answered, Unanswered, Draft, Partial bool }

// Query is what a person asked for.
type Query struct {
	// Match is the expression for FTS5; "" when no word is asked for.
	Match string
	// Without is what must not match, where Match is "".
	Without       string
	Is            Is
	HasAttachment bool
	NoAttachment  bool
	In            []string // folders, one of them
	Accounts      []string // one of them
	After         time.Time
	Before        time.Time
	Larger        int64 // octets; 0 is not asked
	Smaller       int64
	// Unknown are words like foo:bar whose part in front of the colon is no field; they were taken as text.
	Unknown []string
}

// Fields are the words in front of a colon that people are told of, each asking one part or narrowing
// the letters down.
func Fields() []string {
	return []string{"from", "to", "cc", "with", "subject", "body", "text", "file", "attachment", "in", "account", "is", "has", "before", "after", "on", "larger", "smaller"}
}

// Unknown is Query.Unknown of a search, as far as it can be read.
func Unknown(text string) []string {
	q, _ := Parse(text, time.Time{}, false)
	return q.Unknown
}

// Bounds of what a person may write.
const (
	maxText  = 4096
	maxTerms = 64

	minPrefix = 3 // letters: the beginnings that the index has; fewer match half of all words
)

// Parse reads a search. Words must all occur, at beginnings of three letters and more with *; "in quotes" one after
// another; -word not; a OR b one of both. from: to: subject: body: file: ask one part; in:
// account: is: has: before: after: on: larger: smaller: narrow the letters down. Days are
// YYYY-MM-DD (or a year, or a month) in zone, or 3d, 2w, 6m, 1y before now. With typing the
// last word may be unfinished. In what is no such word a colon is punctuation.
func Parse(text string, now time.Time, typing bool) (Query, error) {
	if len(text) > maxText {
		return Query{}, fmt.Errorf("%w: it is longer than %d octets", ErrQuery, maxText)
	}
	p := parser{now: now, typing: typing && !strings.HasSuffix(text, " ")}
	for p.rest = text; ; {
		p.rest = strings.TrimLeftFunc(p.rest, unicode.IsSpace)
		if p.rest == "" {
			break
		}
		if err := p.term(); err != nil {
			return Query{}, err
		}
		if p.terms++; p.terms > maxTerms {
			return Query{}, fmt.Errorf("%w: more than %d words", ErrQuery, maxTerms)
		}
	}
	p.finish()
	return p.q, nil
}

type parser struct {
	q      Query
	rest   string
	now    time.Time
	typing bool
	terms  int
	yes    []string // FTS5 expressions that must match
	no     []string
	or     bool // the last word was OR
}

// term reads one term.
func (p *parser) term() error {
	negative := false
	if len(p.rest) > 1 && p.rest[0] == '-' && !unicode.IsSpace(rune(p.rest[1])) {
		negative, p.rest = true, p.rest[1:]
	}
	name := ""
	if i := strings.IndexAny(p.rest, ": \t\n\""); i > 0 && p.rest[i] == ':' {
		if key := strings.ToLower(p.rest[:i]); known[key] {
			name, p.rest = key, p.rest[i+1:]
		}
	}
	value, quoted := p.value()
	if name == "" && !quoted && looksLikeField(value) {
		p.q.Unknown = append(p.q.Unknown, value)
	}
	if name == "" && !quoted && value == "OR" && !negative && len(p.yes) > 0 {
		p.or = true
		return nil
	}
	if column, ok := columns[name]; ok {
		p.words(column, value, quoted, negative)
		return nil
	}
	if strings.TrimSpace(value) == "" {
		return nil // unfinished
	}
	return p.narrow(name, value, negative)
}

// maxField is how long a word in front of a colon is that may be meant as a field, in letters.
const maxField = 20

// looksLikeField reports whether a word may be meant to ask a part of the letters, by a name that is
// none: letters, a colon, and something behind it that makes no address of a page.
func looksLikeField(word string) bool {
	name, rest, ok := strings.Cut(word, ":")
	n := utf8.RuneCountInString(name)
	return ok && n > 1 && n <= maxField && rest != "" && !strings.HasPrefix(rest, "//") && !strings.EqualFold(name, "mailto") && !strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsLetter(r) })
}

// value reads what stands up to a blank, or in quotes.
func (p *parser) value() (value string, quoted bool) {
	if strings.HasPrefix(p.rest, `"`) {
		value, rest, _ := strings.Cut(p.rest[1:], `"`)
		p.rest = rest
		return value, true
	}
	end := strings.IndexFunc(p.rest, unicode.IsSpace)
	if end < 0 {
		end = len(p.rest)
	}
	value, p.rest = p.rest[:end], p.rest[end:]
	return value, false
}

// columns are the words in front of a colon that ask a part; "" asks all.
var columns = map[string][]Column{
	"": nil, "from": {Sender}, "to": {Recipients}, "cc": {Recipients}, "with": {Sender, Recipients},
	"subject": {Subject}, "body": {Body}, "text": {Body, Inside}, "file": {Files}, "filename": {Files}, "attachment": {Files, Inside},
}

// known are the words in front of a colon.
var known = map[string]bool{
	"from": true, "to": true, "cc": true, "with": true, "subject": true, "body": true, "text": true, "file": true, "filename": true, "attachment": true,
	"in": true, "folder": true, "account": true, "is": true, "has": true, "before": true, "after": true, "since": true, "on": true, "larger": true, "smaller": true,
}

// words adds a word or a phrase.
func (p *parser) words(columns []Column, value string, quoted, negative bool) {
	prefix := !quoted && (strings.HasSuffix(value, "*") || p.typing && strings.TrimSpace(p.rest) == "")
	words := Words(value)
	if len(words) == 0 {
		return
	}
	prefix = prefix && utf8.RuneCountInString(words[len(words)-1]) >= minPrefix
	var b strings.Builder
	if len(columns) > 0 {
		b.WriteString("{")
		for _, c := range columns {
			b.WriteString(string(c) + " ")
		}
		b.WriteString("} : ")
	}
	b.WriteString(`"` + strings.Join(words, " ") + `"`) // words hold letters and digits alone
	if prefix {
		b.WriteString("*")
	}
	switch expr := b.String(); {
	case negative:
		p.no = append(p.no, expr)
	case p.or:
		last := len(p.yes) - 1
		p.yes[last] = "(" + p.yes[last] + " OR " + expr + ")"
	default:
		p.yes = append(p.yes, expr)
	}
	p.or = false
}

// finish makes the expressions.
func (p *parser) finish() {
	without := ""
	if len(p.no) > 0 {
		without = "(" + strings.Join(p.no, " OR ") + ")"
	}
	if len(p.yes) == 0 {
		p.q.Without = without
		return
	}
	p.q.Match = strings.Join(p.yes, " AND ")
	if without != "" {
		p.q.Match = "(" + p.q.Match + ") NOT " + without
	}
}

// narrow takes a term that is no word of the text.
func (p *parser) narrow(name, value string, negative bool) error {
	q := &p.q
	if negative && name != "is" && name != "has" {
		return fmt.Errorf("%w: -%s: can't be turned round", ErrQuery, name)
	}
	var err error
	switch name {
	case "in", "folder":
		q.In = append(q.In, value)
	case "account":
		q.Accounts = append(q.Accounts, value)
	case "is":
		err = q.is(strings.ToLower(value), negative)
	case "has":
		if v := strings.ToLower(value); v != "attachment" && v != "attachments" && v != "file" {
			return fmt.Errorf("%w: has:%s is unknown; has:attachment is", ErrQuery, value)
		}
		q.HasAttachment, q.NoAttachment = q.HasAttachment || !negative, q.NoAttachment || negative
	case "larger":
		q.Larger, err = octets(value)
	case "smaller":
		q.Smaller, err = octets(value)
	default:
		var from, to time.Time
		if from, to, err = p.day(value); err != nil {
			return err
		}
		if name == "before" {
			q.Before = from
		} else {
			q.After = from
		}
		if name == "on" {
			q.Before = to
		}
	}
	return err
}

// is takes what stands behind is:.
func (q *Query) is(value string, negative bool) error {
	flags := map[string][2]*bool{
		"unread": {&q.Is.Unread, &q.Is.Read}, "read": {&q.Is.Read, &q.Is.Unread}, "seen": {&q.Is.Read, &q.Is.Unread},
		"flagged": {&q.Is.Flagged, &q.Is.Unflagged}, "starred": {&q.Is.Flagged, &q.Is.Unflagged},
		"answered": {&q.Is.Answered, &q.Is.Unanswered}, "replied": {&q.Is.Answered, &q.Is.Unanswered},
	}
	if pair, ok := flags[value]; ok {
		if negative {
			pair[0] = pair[1]
		}
		*pair[0] = true
		return nil
	}
	switch {
	case negative:
	case value == "draft":
		q.Is.Draft = true
		return nil
	case value == "partial":
		q.Is.Partial = true
		return nil
	}
	return fmt.Errorf("%w: is:%s is unknown; is:unread, read, flagged, answered, draft and partial are", ErrQuery, value)
}

// octets reads a size: 300, 20k, 5M.
func octets(s string) (int64, error) {
	digits := strings.TrimRight(s, "kKmMgGbB")
	n, err := strconv.ParseInt(digits, 10, 40)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%w: %q is no size; write 300, 20k or 5M", ErrQuery, s)
	}
	switch strings.ToLower(strings.TrimRight(s[len(digits):], "bB")) {
	case "":
		return n, nil
	case "k":
		return n << 10, nil
	case "m":
		return n << 20, nil
	case "g":
		return min(n, 1<<20) << 30, nil
	}
	return 0, fmt.Errorf("%w: %q is no size; write 300, 20k or 5M", ErrQuery, s)
}

// day reads a day, month or year, or a span before now; to is its end.
func (p *parser) day(s string) (from, to time.Time, err error) {
	for _, l := range []struct {
		layout  string
		y, m, d int
	}{{"2006-01-02", 0, 0, 1}, {"2006/01/02", 0, 0, 1}, {"2.1.2006", 0, 0, 1}, {"2006-01", 0, 1, 0}, {"2006", 1, 0, 0}} {
		if t, err := time.ParseInLocation(l.layout, s, p.now.Location()); err == nil {
			return t, t.AddDate(l.y, l.m, l.d), nil
		}
	}
	today := time.Date(p.now.Year(), p.now.Month(), p.now.Day(), 0, 0, 0, 0, p.now.Location())
	switch strings.ToLower(s) {
	case "today":
		return today, today.AddDate(0, 0, 1), nil
	case "yesterday":
		return today.AddDate(0, 0, -1), today, nil
	}
	if n, err := strconv.Atoi(s[:len(s)-1]); err == nil && n >= 0 && n < 10000 {
		switch s[len(s)-1] | 0x20 {
		case 'd':
			from = today.AddDate(0, 0, -n)
		case 'w':
			from = today.AddDate(0, 0, -7*n)
		case 'm':
			from = today.AddDate(0, -n, 0)
		case 'y':
			from = today.AddDate(-n, 0, 0)
		}
		if !from.IsZero() {
			return from, from.AddDate(0, 0, 1), nil
		}
	}
	return from, to, fmt.Errorf("%w: %q is no day; write 2026-11-30, 2026-11, 2026, today, or 3d, 2w, 6m, 1y for that long ago", ErrQuery, s)
}
