package hook

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"poczta.example/poczta/internal/verdict"
)

// Limits of an answer. What is over them makes the answer ErrReply, except for the reason, which
// is cut.
const (
	MaxScore   = 1000 // points, either way
	MaxHeaders = 20
	MaxTag     = 64  // octets
	maxName    = 76  // octets of a field's name
	maxValue   = 900 // octets of a field's value
	maxReason  = 150
)

// Header is a field to be added in front of the message.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Result is the program's opinion. The zero value is none.
type Result struct {
	Action  verdict.Action // least action; Deliver asks for nothing
	Score   float64        // points towards spam
	Reason  string         // one line
	Headers []Header
	Tag     string // a word for the trace; letters, digits, "-", "_", "."
	name    string
}

// parseResult reads an answer. Unknown fields are passed over.
func parseResult(text []byte) (Result, error) {
	var a struct {
		Action  string   `json:"action"`
		Score   float64  `json:"score"`
		Reason  string   `json:"reason"`
		Headers []Header `json:"add_headers"`
		Tag     string   `json:"tag"`
	}
	if err := json.Unmarshal(text, &a); err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrReply, err)
	}
	r := Result{Score: max(-MaxScore, min(MaxScore, a.Score)), Reason: clip(a.Reason, maxReason), Headers: a.Headers, Tag: a.Tag}
	if a.Action != "" && a.Action != "none" {
		var err error
		if r.Action, err = verdict.ParseAction(a.Action); err != nil {
			return Result{}, fmt.Errorf("%w: %w", ErrReply, err)
		}
	}
	if len(r.Headers) > MaxHeaders {
		return Result{}, fmt.Errorf("%w: %d header fields, %d are the limit", ErrReply, len(r.Headers), MaxHeaders)
	}
	for _, h := range r.Headers {
		if err := h.check(); err != nil {
			return Result{}, fmt.Errorf("%w: %w", ErrReply, err)
		}
	}
	if !isTag(r.Tag) {
		return Result{}, fmt.Errorf("%w: the tag is not a word of at most %d letters and digits", ErrReply, MaxTag)
	}
	return r, nil
}

// check demands one line of a field that nobody trusts, so that a program can't forge a trace or a
// result of authentication (RFC 5322 §2.2).
func (h Header) check() error {
	if len(h.Name) > maxName || len(h.Name) < 3 || !strings.EqualFold(h.Name[:2], "X-") {
		return fmt.Errorf("header field %q: names begin with X- and have at most %d octets", clip(h.Name, 40), maxName)
	}
	for i := range len(h.Name) {
		if c := h.Name[i]; c <= ' ' || c >= 0x7f || c == ':' {
			return fmt.Errorf("header field %q: the name has an octet that must not be there", clip(h.Name, 40))
		}
	}
	if len(h.Value) > maxValue || !utf8.ValidString(h.Value) || strings.ContainsFunc(h.Value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return fmt.Errorf("header field %s: the value is not one line of at most %d octets", h.Name, maxValue)
	}
	return nil
}

func isTag(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return len(s) <= MaxTag
}

// noPoints is the scale of an opinion without points: verdict takes a scale of 0 for 1.
const noPoints = 1e-9

// Items is the opinion as evidence; none when the program has none.
func (r Result) Items() []verdict.Item {
	if r.Action == verdict.Deliver && r.Score == 0 && r.Reason == "" && r.Tag == "" {
		return nil
	}
	detail := r.name
	for _, more := range []string{r.Tag, r.Reason} {
		if more != "" {
			detail += ": " + more
		}
	}
	it := verdict.Item{Name: verdict.Hook, Detail: clip(detail, verdict.MaxDetailOctets), Scale: r.Score, Demand: r.Action}
	if it.Scale == 0 {
		it.Scale = noPoints
	}
	return []verdict.Item{it}
}

// clip makes s one line of printable UTF-8 of at most n octets.
func clip(s string, n int) string {
	s = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, "?"), func(r rune) bool { return r < ' ' || r == 0x7f }), " ")
	for len(s) > n {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}
