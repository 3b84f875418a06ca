package pop3server_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/pop3server"
	"poczta.example/poczta/internal/pop3server/droptest"
)

var update = flag.Bool("update", false, "rewrite the golden transcripts with what the server says")

// golden are the maildrops of the transcripts. mrose has those of RFC 1939 §10:
// two messages of 120 and 200 octets.
func golden(post *droptest.Post) {
	post.Fill("mrose", letter120(), letter200())
	post.Fill("ala",
		droptest.Message{UniqueID: "dots", Octets: []byte("Subject: dots\r\n\r\n.\r\n..\r\na.\r\n.b\r\n")},
		droptest.Message{UniqueID: "no-body", Octets: []byte("Subject: no body\r\n\r\n")},
		droptest.Message{UniqueID: "no-blank-line", Octets: []byte("Subject: no blank line\r\n")},
		droptest.Message{UniqueID: "no-header", Octets: []byte("\r\nbody\r\n")},
		droptest.Message{UniqueID: "utf8", Octets: []byte("Subject: żółw\r\n\r\nx\r\n"), Surrogate: []byte("Subject: =?utf-8?Q?=C5=BC=C3=B3=C5=82w?=\r\n\r\nx\r\n")},
	)
	post.Fill("zażółć gęślą", letter120())
}

func letter120() droptest.Message {
	head := "From: a@example.org\r\nSubject: one\r\n\r\n"
	return droptest.Message{UniqueID: "whqtswO00WBw418f9t5JxYwZ", Octets: []byte(head + strings.Repeat("x", 120-len(head)-2) + "\r\n")}
}

func letter200() droptest.Message {
	head := "From: a@example.org\r\nSubject: two\r\n\r\nline 1\r\nline 2\r\n"
	return droptest.Message{UniqueID: "QhdPYR:00WBw1Ph7x7", Octets: []byte(head + strings.Repeat("y", 200-len(head)-2) + "\r\n")}
}

// step is a piece of a transcript: what the client sends in one go, and what the
// server answers.
type step struct {
	comments, client, server []string
	tls, wait                bool
}

func readTranscript(t *testing.T, name string) []step {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	steps := []step{{}}
	last := func() *step { return &steps[len(steps)-1] }
	for _, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		kind, rest, _ := strings.Cut(line, " ")
		if kind != "S:" && len(last().server) > 0 || kind == "TLS" || kind == "WAIT" {
			steps = append(steps, step{})
		}
		switch kind {
		case "S:":
			last().server = append(last().server, rest)
		case "C:":
			last().client = append(last().client, rest)
		case "TLS":
			last().tls = true
		case "WAIT":
			last().wait = true
		case "#", "":
			last().comments = append(last().comments, line)
		default:
			t.Fatalf("%s: line %q begins with none of C: S: # TLS WAIT", name, line)
		}
	}
	return steps
}

// The ways in which a client's lines are fed.
var feeds = map[string]func(*peer, []string) string{
	"lines": func(p *peer, lines []string) string {
		var got strings.Builder
		for _, l := range lines {
			got.WriteString(p.say(expand(l)))
		}
		return got.String()
	},
	"pipelined": func(p *peer, lines []string) string {
		var all strings.Builder
		for _, l := range lines {
			all.WriteString(expand(l))
		}
		return p.say(all.String())
	},
	"octets": func(p *peer, lines []string) string {
		for _, l := range lines {
			for _, c := range []byte(expand(l)) {
				_, _ = p.conn.Write([]byte{c})
			}
		}
		return p.take()
	},
}

// expand makes the octets of a line: <n*c> stands for n times the character c,
// <00> for an octet.
func expand(line string) string {
	var out strings.Builder
	for {
		head, tail, found := strings.Cut(line, "<")
		out.WriteString(head)
		if !found {
			return out.String() + "\r\n"
		}
		inner, rest, _ := strings.Cut(tail, ">")
		var n int
		var c rune
		var x byte
		if k, _ := fmt.Sscanf(inner, "%d*%c", &n, &c); k == 2 {
			out.WriteString(strings.Repeat(string(c), n))
		} else if k, _ := fmt.Sscanf(inner, "%02x", &x); k == 1 && len(inner) == 2 {
			out.WriteByte(x)
		} else {
			out.WriteString("<" + inner + ">")
		}
		line = rest
	}
}

// TestTranscripts plays testdata/*.txt, line by line, pipelined, and octet by
// octet: the replies must be the same to the octet.
func TestTranscripts(t *testing.T) {
	t.Parallel()
	names, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(names) < 10 {
		t.Fatalf("found %d transcripts, %v", len(names), err)
	}
	for _, name := range names {
		for feed, send := range feeds {
			if *update && feed != "lines" {
				continue
			}
			t.Run(filepath.Base(name)+"/"+feed, func(t *testing.T) {
				change := func(c *pop3server.Config) {
					if strings.Contains(name, "notls") {
						c.TLS = nil
					}
					if strings.Contains(name, "nologin") {
						c.PlaintextFrom = nil
					}
					if strings.Contains(name, "policy") {
						c.LoginDelay = 900 * time.Second
						c.Expire = 60*24*time.Hour + time.Hour
						c.Language = "pl"
					}
				}
				inBubble(t, change, func(b *bubble) {
					golden(b.post)
					play(t, b.dial(), name, send)
				})
			})
		}
	}
}

func play(t *testing.T, p *peer, name string, send func(*peer, []string) string) {
	t.Helper()
	defer p.close()
	var rewritten strings.Builder
	steps := readTranscript(t, name)
	for i, s := range steps {
		for _, c := range s.comments {
			rewritten.WriteString(c + "\n")
		}
		if s.tls {
			rewritten.WriteString("TLS\n")
			if err := p.startTLS(); err != nil {
				t.Fatalf("step %d: start TLS: %v", i, err)
			}
		}
		if s.wait {
			rewritten.WriteString("WAIT\n")
			<-time.After(9 * time.Minute)
		}
		var got string
		if len(s.client) == 0 {
			got = p.take()
		} else {
			got = send(p, s.client)
		}
		for _, c := range s.client {
			rewritten.WriteString("C: " + c + "\n")
		}
		want := ""
		if len(s.server) > 0 {
			want = strings.Join(s.server, "\r\n") + "\r\n"
		}
		if diff := cmp.Diff(want, got); diff != "" && !*update {
			t.Errorf("step %d, after %q (-want +got):\n%s", i, s.client, diff)
		}
		for _, l := range strings.SplitAfter(got, "\r\n") {
			if l != "" {
				if l = strings.TrimSuffix(l, "\r\n"); l != "" {
					l = " " + l
				}
				rewritten.WriteString("S:" + l + "\n")
			}
		}
	}
	if *update {
		if err := os.WriteFile(name, []byte(rewritten.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
