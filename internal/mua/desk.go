package mua

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
)

// ErrUsage is wrapped by errors about how a command was called (exit 2).
var ErrUsage = errors.New("wrong usage")

// Desk is where one command works, over open mail. Used by one goroutine.
type Desk struct {
	Mail *Mail
	In   io.Reader // what the command reads
	Out  io.Writer
	Err  io.Writer
	JSON bool // lists as one array
	// Terminal says that Err is a terminal: progress is drawn there, else written line by line.
	Terminal bool
	Language string // "pl" for Polish where a person is told something; else English
	// Path makes a path absolute as the caller of the command meant it; nil leaves it.
	Path func(string) string
}

func (d *Desk) path(p string) string {
	if d.Path == nil {
		return p
	}
	return d.Path(p)
}

// table prints rows: as JSON, or with a header in columns.
func table[T any](d *Desk, rows []T, header string, line func(T) string) error {
	if d.JSON {
		if rows == nil {
			rows = []T{}
		}
		return d.encode(rows)
	}
	if len(rows) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(d.Out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, header)
	for _, r := range rows {
		fmt.Fprintln(w, printable(line(r)))
	}
	return w.Flush()
}

func (d *Desk) encode(v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	if err == nil {
		_, err = d.Out.Write(EscapeJSON(b.Bytes()))
	}
	if err != nil {
		return fmt.Errorf("write list: %w", err)
	}
	return nil
}

// EscapeJSON writes what does not print as \u in JSON, where it stands in strings alone: a terminal
// shows JSON too.
func EscapeJSON(text []byte) []byte {
	if !bytes.ContainsFunc(text, hides) {
		return text
	}
	out := make([]byte, 0, len(text)+len(text)/8)
	for _, r := range string(text) {
		switch {
		case !hides(r):
			out = utf8.AppendRune(out, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, "\\u%04x\\u%04x", high, low)
		default:
			out = fmt.Appendf(out, "\\u%04x", r)
		}
	}
	return out
}

// hides reports what could move a terminal or hide text there: C1 controls, marks of direction,
// blanks without width. Control characters below are escaped by JSON itself.
func hides(r rune) bool { return r >= 0x7f && !unicode.IsPrint(r) }

// say prints a sentence for people; with JSON it goes beside the output.
func (d *Desk) say(format string, args ...any) {
	w := d.Out
	if d.JSON {
		w = d.Err
	}
	fmt.Fprintf(w, "%s\n", printable(fmt.Sprintf(format, args...)))
}

// choose returns the text in the person's language.
func (d *Desk) choose(en, pl string) string { return choose(d.Language, en, pl) }

// choose returns the text in a person's language.
func choose(language, en, pl string) string {
	if language == "pl" || strings.HasPrefix(language, "pl_") || strings.HasPrefix(language, "pl-") {
		return pl
	}
	return en
}

// printable makes text of letters and servers harmless for a terminal: what does not print, but
// for tabs and line ends, becomes a replacement character.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || r == '\n' || r != utf8.RuneError && unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, s)
}

// flat is printable text on one line and in one column.
func flat(s string) string {
	return printable(strings.Join(strings.Fields(s), " "))
}

// clip cuts a column.
func clip(s string, runes int) string {
	s = flat(s)
	if utf8.RuneCountInString(s) <= runes {
		return s
	}
	return string([]rune(s)[:runes-1]) + "…"
}

// size writes octets for people.
func size(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
}

// ids reads the numbers of letters.
func ids(words []string) ([]store.LetterID, error) {
	var out []store.LetterID
	for _, w := range words {
		n, err := strconv.ParseInt(strings.TrimPrefix(w, "#"), 10, 64)
		if err != nil || n <= 0 {
			return nil, fmt.Errorf("%w: %q is not the number of a letter; poczta mail list shows them", ErrUsage, w)
		}
		out = append(out, store.LetterID(n))
	}
	return out, nil
}

// accounts finds the accounts that a person names; none is all.
func (d *Desk) accounts(ctx context.Context, names []string) ([]profile.Account, error) {
	if len(names) == 0 {
		return d.Mail.Accounts.List(ctx)
	}
	var out []profile.Account
	for _, n := range names {
		a, err := d.account(ctx, n)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

// account finds the account that a person names; "" is the only one.
func (d *Desk) account(ctx context.Context, name string) (profile.Account, error) {
	return d.Mail.Accounts.Find(ctx, name)
}

// numbers are the accounts' ids, for queries; none where none were named.
func (d *Desk) numbers(ctx context.Context, names []string) ([]envelope.AccountID, error) {
	if len(names) == 0 {
		return nil, nil
	}
	list, err := d.accounts(ctx, names)
	var out []envelope.AccountID
	for _, a := range list {
		out = append(out, a.ID)
	}
	return out, err
}

// names maps accounts to their addresses; those that were removed to their number.
func (d *Desk) names(ctx context.Context) (func(envelope.AccountID) string, error) {
	list, err := d.Mail.Accounts.List(ctx)
	if err != nil {
		return nil, err
	}
	known := map[envelope.AccountID]string{}
	for _, a := range list {
		known[a.ID] = a.Address
	}
	return func(id envelope.AccountID) string {
		if name, ok := known[id]; ok {
			return name
		}
		return fmt.Sprintf("(removed %d)", id)
	}, nil
}
