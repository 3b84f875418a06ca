package config

import (
	"errors"
	"fmt"
	"strings"
)

// Problem is one thing wrong in a configuration file.
type Problem struct {
	File string // as given to Load
	Line int    // counted from 1; 0 when the problem is something missing
	Key  string // as in "smtp.max_size"; "" for syntax
	Text string // what is wrong, with what to do
}

// Error returns "file:line: key: text".
func (p *Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	b.WriteString(": ")
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.Text)
	return b.String()
}

// Problems returns the problems that err, an error of Load or Parse, holds.
func Problems(err error) []*Problem {
	if err == nil {
		return nil
	}
	if p, ok := errors.AsType[*Problem](err); ok {
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			var out []*Problem
			for _, e := range joined.Unwrap() {
				out = append(out, Problems(e)...)
			}
			return out
		}
		return []*Problem{p}
	}
	return nil
}

// nearest returns the name of the list that is most like s, or "" when none is near.
func nearest(s string, list []string) string {
	best, bestDist := "", len(s)/2+1
	for _, c := range list {
		if d := distance(s, c); d < bestDist {
			best, bestDist = c, d
		}
	}
	return best
}

// distance is the edit distance of two short names.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diag := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diag, row[j] = row[j], min(row[j]+1, row[j-1]+1, diag+cost)
		}
	}
	return row[len(b)]
}
