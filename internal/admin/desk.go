// Package admin is the work of the commands: each is a method of Desk that runs
// over open rooms, in the process of the command line or inside the server.
package admin

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/daemon"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/resolver"
	"poczta.example/poczta/internal/trace"
)

// ErrUsage is wrapped by errors about how a command was called (exit 2).
var ErrUsage = errors.New("wrong usage")

// Desk is where one command works. Used by one goroutine.
type Desk struct {
	Rooms *daemon.Rooms
	In    io.Reader // what the command reads: a password, a file, messages
	Out   io.Writer
	Err   io.Writer
	JSON  bool // lists as one array
	Now   func() time.Time
	// Resolver asks DNS; nil makes one from the configuration.
	Resolver resolver.Resolver
}

// table prints rows: as JSON, or with a header in columns.
func table[T any](d *Desk, rows []T, header string, line func(T) string) error {
	if d.JSON {
		if rows == nil {
			rows = []T{}
		}
		e := json.NewEncoder(d.Out)
		e.SetEscapeHTML(false)
		if err := e.Encode(rows); err != nil {
			return fmt.Errorf("write list: %w", err)
		}
		return nil
	}
	if len(rows) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(d.Out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, header)
	for _, r := range rows {
		fmt.Fprintln(w, Printable(line(r)))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write list: %w", err)
	}
	return nil
}

// say prints a line for a person; nothing with --json.
func (d *Desk) say(format string, args ...any) {
	if !d.JSON {
		fmt.Fprintln(d.Out, Printable(fmt.Sprintf(format, args...)))
	}
}

// Printable makes text that peers may have written harmless for a terminal: what
// does not print, but for tabs, is written as in Go's strings.
func Printable(s string) string {
	strange := func(r rune) bool { return r != '\t' && !unicode.IsPrint(r) }
	if utf8.ValidString(s) && !strings.ContainsFunc(s, strange) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case strange(r):
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		default:
			b.WriteRune(r)
		}
		i += n
	}
	return b.String()
}

// secret reads the first line of the input: a password.
func (d *Desk) secret() (string, error) {
	line, err := bufio.NewReader(io.LimitReader(d.In, 4096)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read password: %w", err)
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return "", errors.New("no password was given: type it at the prompt, or put it on the first line of --password-file or of the standard input")
	}
	return line, nil
}

// stamp is a time in lists: RFC 3339, UTC; "" for none.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// explain adds what to do to the errors of the rooms, unless they say it already.
// what is the operation; "" when the error names it.
func explain(err error, what string) error {
	hint := ""
	switch {
	case err == nil:
		return nil
	case strings.Contains(err.Error(), "poczta "), errors.Is(err, account.ErrNotEmpty):
	case errors.Is(err, account.ErrNotLocal):
		hint = "; the domain is not served here: add it with poczta domain add"
	case errors.Is(err, account.ErrExists), errors.Is(err, mailbox.ErrExists):
		hint = "; choose another name, or remove what is there"
	case disk.IsFull(err):
		hint = "; free some space and run the command again"
	case errors.Is(err, account.ErrNotFound), errors.Is(err, mailbox.ErrNotFound), errors.Is(err, queue.ErrNotFound), errors.Is(err, trace.ErrNotFound):
		hint = "; " + listOf(what) + " shows what there is"
	}
	if what == "" {
		return fmt.Errorf("%w%s", err, hint)
	}
	return fmt.Errorf("%s: %w%s", what, err, hint)
}

// listOf is the command that lists what an operation is about.
func listOf(what string) string {
	for _, x := range []struct{ word, command string }{
		{"alias", "alias list"}, {"domain", "domain list"}, {"queue", "queue list"}, {"message", "queue list"},
		{"password of", "account app-password list"}, {"mail", "mailbox list"},
	} {
		if strings.Contains(what, x.word) {
			return "poczta " + x.command
		}
	}
	return "poczta account list"
}
