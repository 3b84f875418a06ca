package clamd

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"poczta.example/poczta/internal/verdict"
)

// Result is what clamd said of a message.
type Result struct {
	Infected  bool   // something was found
	Signature string // its name, printable, at most 128 octets
	// Heuristic means that a rule of thumb found it ("Heuristics."), or that it is a program
	// that may be wanted ("PUA."); clamd finds both only when it is configured to.
	Heuristic bool
	Octets    int64 // how much was scanned
}

// Items is the evidence of the result: none when nothing was found. What clamd could not open
// is no virus: encrypted archives and exceeded limits have names of their own.
func (r Result) Items() []verdict.Item {
	if !r.Infected {
		return nil
	}
	name := verdict.Virus
	switch {
	case strings.HasPrefix(r.Signature, "Heuristics.Encrypted."):
		name = verdict.Encrypted
	case strings.HasPrefix(r.Signature, "Heuristics.Limits.Exceeded"):
		name = verdict.Uninspected
	case strings.HasPrefix(r.Signature, "Heuristics.OLE2.ContainsMacros"):
		name = verdict.Macros
	case r.Heuristic:
		name = verdict.VirusHeurist
	}
	return []verdict.Item{{Name: name, Detail: "ClamAV names it " + r.Signature}}
}

// Version is what clamd tells of itself.
type Version struct {
	Text     string    // as clamd wrote it
	Engine   string    // as "1.4.6"
	Database int       // the number of the signatures; 0 when there are only local ones
	Built    time.Time // when they were made, to a day because clamd writes no time zone
}

// parseReply reads the reply to INSTREAM, without its end.
func parseReply(s string) (Result, error) {
	text, found := strings.CutPrefix(s, "stream: ")
	switch {
	case found && text == "OK":
		return Result{}, nil
	case found && strings.HasSuffix(text, " FOUND"):
		name := printable(strings.TrimSuffix(text, " FOUND"), 128)
		heuristic := strings.HasPrefix(name, "Heuristics.") || strings.HasPrefix(name, "PUA.")
		return Result{Infected: true, Signature: name, Heuristic: heuristic}, nil
	case strings.HasPrefix(s, "INSTREAM size limit exceeded"):
		return Result{}, ErrTooLarge
	case strings.HasSuffix(s, "ERROR"):
		return Result{}, ErrRefused
	}
	return Result{}, ErrReply
}

// parseVersion reads the reply to VERSION: "ClamAV 1.4.6/27811/Sun Nov 22 09:24:55 2026".
func parseVersion(s string) (Version, error) {
	rest, found := strings.CutPrefix(s, "ClamAV ")
	if !found {
		return Version{}, ErrReply
	}
	v := Version{Text: printable(s, 128)}
	parts := strings.SplitN(rest, "/", 3)
	v.Engine = printable(parts[0], 32)
	if len(parts) == 3 {
		n, err := strconv.Atoi(parts[1])
		if err != nil {
			return v, fmt.Errorf("%w: number of the signatures: %w", ErrReply, err)
		}
		v.Database = n
		// A date of another form is left out: it is only told to people.
		v.Built, _ = time.Parse(time.ANSIC, strings.TrimSpace(parts[2]))
	}
	return v, nil
}

// printable keeps the printable US-ASCII of s, at most n octets of it.
func printable(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), n)]
}
