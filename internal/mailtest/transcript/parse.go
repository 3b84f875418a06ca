package transcript

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// Script is the dialogue of one connection.
type Script struct {
	Name    string
	File    string
	Options map[string]string // what stood behind the name
	steps   []step
}

// verb is what a step does.
type verb uint8

const (
	send verb = iota
	expect
	skipTo
	expectReply
	startTLS
	closeWrite
	closeConn
	expectEOF
)

type step struct {
	line   int // in the file
	verb   verb
	text   string // octets to send, or the line that is wanted
	prefix bool   // text is the beginning of the line
	re     *regexp.Regexp
}

// ParseFile reads the scripts of a file.
func ParseFile(path string) ([]Script, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read transcript: %w", err)
	}
	return Parse(path, string(text))
}

// Parse reads the scripts of text; name stands in errors. Steps before the first
// "---" make a script that is called like the file.
func Parse(name, text string) ([]Script, error) {
	var scripts []Script
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if head, ok := strings.CutPrefix(line, "---"); ok {
			s, err := parseHead(head)
			if err != nil {
				return nil, fmt.Errorf("%s:%d: %w", name, n, err)
			}
			s.File = name
			scripts = append(scripts, s)
			continue
		}
		if len(scripts) == 0 {
			scripts = append(scripts, Script{Name: "dialogue", File: name, Options: map[string]string{}})
		}
		st, err := parseStep(line)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
		st.line = n
		last := &scripts[len(scripts)-1]
		last.steps = append(last.steps, st)
	}
	if len(scripts) == 0 {
		return nil, fmt.Errorf("%s: no step in the file", name)
	}
	return scripts, nil
}

// parseHead reads "name words key=value …".
func parseHead(head string) (Script, error) {
	s := Script{Options: map[string]string{}}
	var name []string
	for _, word := range strings.Fields(head) {
		if k, v, ok := strings.Cut(word, "="); ok {
			s.Options[k] = v
		} else {
			name = append(name, word)
		}
	}
	s.Name = strings.Join(name, " ")
	if s.Name == "" {
		return s, fmt.Errorf("a script needs a name behind ---")
	}
	return s, nil
}

// bare are the steps without an argument.
var bare = map[string]verb{"TLS": startTLS, "CLOSE-WRITE": closeWrite, "CLOSE": closeConn, "EOF": expectEOF}

func parseStep(line string) (step, error) {
	if v, ok := bare[strings.TrimSpace(line)]; ok {
		return step{verb: v}, nil
	}
	if len(line) < 2 {
		return step{}, fmt.Errorf("step %q is not known", line)
	}
	arg := strings.TrimPrefix(line[2:], " ")
	switch line[:2] {
	case "C:":
		return step{verb: send, text: arg + "\r\n"}, nil
	case `C"`:
		text, err := strconv.Unquote(arg)
		if err != nil {
			return step{}, fmt.Errorf("step %q needs a Go string: %w", line, err)
		}
		return step{verb: send, text: text}, nil
	case "C*":
		count, quoted, _ := strings.Cut(arg, " ")
		n, err := strconv.Atoi(count)
		text, err2 := strconv.Unquote(quoted)
		if err != nil || err2 != nil || n < 1 || n*len(text) > 64<<20 {
			return step{}, fmt.Errorf("step %q needs a number and a Go string, 64 MiB in all at most", line)
		}
		return step{verb: send, text: strings.Repeat(text, n)}, nil
	case "S:":
		return parseWant(expect, arg)
	case "S*":
		return parseWant(skipTo, arg)
	}
	return step{}, fmt.Errorf("step %q is not known", line)
}

func parseWant(v verb, arg string) (step, error) {
	st := step{verb: v, text: arg}
	if text, ok := strings.CutSuffix(arg, "…"); ok {
		st.text, st.prefix = text, true
		return st, nil
	}
	if len(arg) > 2 && arg[0] == '/' && arg[len(arg)-1] == '/' {
		re, err := regexp.Compile(`\A(?:` + arg[1:len(arg)-1] + `)\z`)
		st.re = re
		return st, err
	}
	if v == expect && len(arg) == 3 && strings.Trim(arg, "0123456789") == "" {
		st.verb = expectReply
	}
	return st, nil
}

// matches reports whether a line is what the step wants.
func (st *step) matches(line string) bool {
	switch {
	case st.re != nil:
		return st.re.MatchString(line)
	case st.prefix:
		return strings.HasPrefix(line, st.text)
	}
	return line == st.text
}

// String says what the step wants, for errors.
func (st *step) String() string {
	switch {
	case st.re != nil:
		return st.text
	case st.prefix:
		return strconv.Quote(st.text) + "…"
	case st.verb == expectReply:
		return "a reply " + st.text
	}
	return strconv.Quote(st.text)
}
