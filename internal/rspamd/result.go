package rspamd

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"poczta.example/poczta/internal/verdict"
)

// Action is Rspamd's word for what should be done. Operators can define more than these.
type Action string

// The actions that Rspamd knows by itself.
const (
	NoAction       Action = "no action"
	Greylist       Action = "greylist"
	AddHeader      Action = "add header"
	RewriteSubject Action = "rewrite subject"
	SoftReject     Action = "soft reject"
	Reject         Action = "reject"
	QuarantineIt   Action = "quarantine"
	DiscardIt      Action = "discard"
)

// Symbol is a rule of Rspamd that matched.
type Symbol struct {
	Name  string
	Score float64
}

// Header is a field that Rspamd wants added.
type Header struct{ Name, Value string }

// Result is Rspamd's opinion.
type Result struct {
	Action        Action
	Score         float64 // limited to ±MaxScore
	Required      float64 // score from which on Rspamd rejects
	Symbols       []Symbol
	Skipped       bool     // Rspamd did not look further; the action may yet say something
	Message       string   // what it would have the client read on a refusal; printable ASCII, one line
	AddHeaders    []Header // one line each
	RemoveHeaders []string
	obey          bool
}

// Limits of what is taken from an answer.
const (
	MaxScore    = 1000
	maxSymbols  = 200
	maxHeaders  = 50
	maxValue    = 900
	maxName     = 100
	maxSentence = 300
)

type reply struct {
	Skipped  bool     `json:"is_skipped"`
	Score    *float64 `json:"score"`
	Required float64  `json:"required_score"`
	Action   Action   `json:"action"`
	Symbols  map[string]struct {
		Score float64 `json:"score"`
	} `json:"symbols"`
	Messages json.RawMessage `json:"messages"`
	Milter   struct {
		Add    map[string]json.RawMessage `json:"add_headers"`
		Remove map[string]json.RawMessage `json:"remove_headers"`
	} `json:"milter"`
}

// parseResult reads an answer of /checkv2.
func parseResult(text []byte) (Result, error) {
	var r reply
	if err := json.Unmarshal(text, &r); err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrReply, err)
	}
	if r.Action == "" || r.Score == nil {
		return Result{}, fmt.Errorf("%w: no action or no score in it", ErrReply)
	}
	out := Result{Action: Action(clip(string(r.Action), maxName)), Score: limit(*r.Score), Required: limit(r.Required), Skipped: r.Skipped}
	for name, s := range r.Symbols {
		out.Symbols = append(out.Symbols, Symbol{clip(name, maxName), limit(s.Score)})
	}
	slices.SortFunc(out.Symbols, func(a, b Symbol) int {
		return cmp.Or(cmp.Compare(math.Abs(b.Score), math.Abs(a.Score)), cmp.Compare(a.Name, b.Name))
	})
	out.Symbols = out.Symbols[:min(len(out.Symbols), maxSymbols)]
	var said struct {
		SMTP string `json:"smtp_message"`
	}
	if json.Unmarshal(r.Messages, &said) == nil { // old versions have a list here
		out.Message = ascii(clip(said.SMTP, maxSentence))
	}
	for name, raw := range r.Milter.Add {
		for _, v := range headerValues(raw) {
			if fieldName(name) && len(out.AddHeaders) < maxHeaders {
				out.AddHeaders = append(out.AddHeaders, Header{name, clip(v, maxValue)})
			}
		}
	}
	slices.SortStableFunc(out.AddHeaders, func(a, b Header) int { return cmp.Compare(a.Name, b.Name) })
	for name := range r.Milter.Remove {
		if fieldName(name) && len(out.RemoveHeaders) < maxHeaders {
			out.RemoveHeaders = append(out.RemoveHeaders, name)
		}
	}
	slices.Sort(out.RemoveHeaders)
	return out, nil
}

// headerValues reads the forms in which Rspamd gives a field's value: text, {"value": text},
// or a list of these.
func headerValues(raw json.RawMessage) []string {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return nil
	}
	switch raw[0] {
	case '"':
		var s string
		if json.Unmarshal(raw, &s) == nil {
			return []string{s}
		}
	case '{':
		var o struct {
			Value *string `json:"value"`
		}
		if json.Unmarshal(raw, &o) == nil && o.Value != nil {
			return []string{*o.Value}
		}
	case '[':
		var list []json.RawMessage
		if json.Unmarshal(raw, &list) != nil {
			return nil
		}
		var out []string
		for _, one := range list[:min(len(list), maxHeaders)] {
			if one = bytes.TrimSpace(one); len(one) > 0 && one[0] != '[' {
				out = append(out, headerValues(one)...)
			}
		}
		return out
	}
	return nil
}

// Demand is what the action asks for in our words, whether or not it is obeyed.
func (r Result) Demand() verdict.Action {
	switch r.Action {
	case Reject:
		return verdict.Refuse
	case SoftReject, Greylist:
		return verdict.Defer
	case AddHeader, RewriteSubject:
		return verdict.Junk
	case QuarantineIt:
		return verdict.Quarantine
	case DiscardIt:
		return verdict.Discard
	case NoAction:
	}
	return verdict.Deliver
}

// detailSymbols is how many symbols an Item names.
const detailSymbols = 5

// noPoints is the scale of an opinion without points: verdict takes a scale of 0 for 1.
const noPoints = 1e-9

// Items is the opinion as evidence: the score as the scale, and with Config.Obey the action as
// demand. None when Rspamd did not look.
func (r Result) Items() []verdict.Item {
	if r.Action == "" || r.Skipped && r.Action == NoAction { // GTUBE is skipped and rejected
		return nil
	}
	names := make([]string, 0, detailSymbols)
	for _, s := range r.Symbols {
		if s.Score != 0 && len(names) < detailSymbols {
			names = append(names, fmt.Sprintf("%s %s", s.Name, formatScore(s.Score)))
		}
	}
	detail := fmt.Sprintf("%s of %s, %s", formatScore(r.Score), formatScore(r.Required), r.Action)
	if len(names) > 0 {
		detail += ": " + strings.Join(names, ", ")
	}
	it := verdict.Item{Name: verdict.Rspamd, Detail: clip(detail, verdict.MaxDetailOctets), Scale: r.Score}
	if it.Scale == 0 {
		it.Scale = noPoints
	}
	if r.obey {
		it.Demand = r.Demand()
	}
	return []verdict.Item{it}
}

func limit(f float64) float64 { return max(-MaxScore, min(MaxScore, f)) }

// fieldName reports whether s is the name of a header field (RFC 5322 §2.2).
func fieldName(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == ':' {
			return false
		}
	}
	return s != "" && len(s) <= maxName
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

// ascii replaces what an SMTP reply must not hold.
func ascii(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 0x7f {
			return '?'
		}
		return r
	}, s)
}
