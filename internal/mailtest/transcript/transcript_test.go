package transcript_test

import (
	"bufio"
	"net"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/mailtest/memconn"
	"poczta.example/poczta/internal/mailtest/transcript"
)

// echo answers each line with itself, "multi" with a reply of two lines, "bye" by closing.
func echo(c net.Conn) {
	defer func() { _ = c.Close() }()
	r := bufio.NewScanner(c)
	for r.Scan() {
		line := r.Text()
		switch line {
		case "bye":
			return
		case "multi":
			line = "250-one\r\n250 two"
		case "bare":
			line = "no CR\n"
		}
		if _, err := c.Write([]byte(line + "\r\n")); err != nil {
			return
		}
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, script, err string
	}{
		{"literal", "C: a\nS: a\n", ""},
		{"literal differs", "C: a\nS: ab\n", `got "a", want "ab"`},
		{"prefix", "C: abc\nS: ab…\n", ""},
		{"prefix differs", "C: abc\nS: b…\n", "want"},
		{"expression", "C: abc\nS: /a.c/\n", ""},
		{"expression must match the whole line", "C: abcd\nS: /a.c/\n", "want /a.c/"},
		{"reply of several lines", "C: multi\nC: x\nS: 250\nS: x\n", ""},
		{"reply with another code", "C: multi\nS: 251\n", "want a reply 251"},
		{"skip", "C: multi\nC: x\nS* x\n", ""},
		{"skip to what does not come", "C: a\nCLOSE-WRITE\nS* x\n", "skip to"},
		{"Go string", "C\" \"a\\x41\\r\\n\"\nS: aA\n", ""},
		{"repeated", "C* 3 \"ab\"\nC:\nS: ababab\n", ""},
		{"pipelined", "C: a\nC: b\nS: a\nS: b\n", ""},
		{"end", "C: bye\nEOF\n", ""},
		{"no end", "C: a\nEOF\n", `got "a\r\n", want the end`},
		{"open", "EOF\n", "did not close"},
		{"half-close", "C: a\nCLOSE-WRITE\nS: a\nEOF\n", ""},
		{"line without CR", "C: bare\nS: no CR\n", "does not end with CRLF"},
		{"nothing comes", "S: a\n", "want \"a\""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			scripts, err := transcript.Parse("file.txt", tt.script)
			if err != nil {
				t.Fatal(err)
			}
			client, server := memconn.Pair()
			go echo(server)
			timeout := time.Minute
			if tt.name == "open" || tt.name == "nothing comes" {
				timeout = 20 * time.Millisecond
			}
			err = transcript.Runner{Timeout: timeout}.Run(&scripts[0], client)
			switch {
			case tt.err == "" && err != nil:
				t.Error(err)
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), "file.txt:")):
				t.Errorf("got error %v, want one with %q and the place", err, tt.err)
			}
		})
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	scripts, err := transcript.Parse("f", "# comment\n--- first one a=1 b=x=y\nS: a\n\n--- second\nC: b\n")
	if err != nil || len(scripts) != 2 || scripts[0].Name != "first one" || scripts[0].Options["a"] != "1" || scripts[0].Options["b"] != "x=y" || scripts[1].Name != "second" {
		t.Errorf("got %+v, %v", scripts, err)
	}
	for _, text := range []string{"", "X: a\n", "---\n", "S: /(/\n", "C\" a\n", "C* x \"a\"\n", "C* 99999999 \"aaaaaaaaaaaaa\"\n", "Q\n"} {
		if _, err := transcript.Parse("f", text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}
