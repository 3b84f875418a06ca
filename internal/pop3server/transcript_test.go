package pop3server_test

import (
	"crypto/tls"
	"flag"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/mailtest/memconn"
	"poczta.example/poczta/internal/mailtest/transcript"
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
	comments, lines []string // of the file
	client          []string // octets
	server          []string
	tls, eof        bool
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
		if kind != "S:" && len(last().server) > 0 || kind == "TLS" || kind == "EOF" {
			steps = append(steps, step{})
		}
		switch kind {
		case "S:":
			last().server = append(last().server, rest)
		case "C:", `C"`, "C*":
			last().lines = append(last().lines, line)
			last().client = append(last().client, octets(t, kind, rest))
		case "TLS":
			last().tls = true
		case "EOF":
			last().eof = true
		case "#", "":
			last().comments = append(last().comments, line)
		default:
			t.Fatalf("%s: line %q begins with none of C: C\" C* S: # TLS EOF", name, line)
		}
	}
	return steps
}

// The ways in which a client's lines are fed.
var feeds = map[string]func(*peer, []string) string{
	"lines": func(p *peer, lines []string) string {
		var got strings.Builder
		for _, l := range lines {
			got.WriteString(p.say(l))
		}
		return got.String()
	},
	"pipelined": func(p *peer, lines []string) string {
		var all strings.Builder
		for _, l := range lines {
			all.WriteString(l)
		}
		return p.say(all.String())
	},
	"octets": func(p *peer, lines []string) string {
		for _, l := range lines {
			for _, c := range []byte(l) {
				_, _ = p.conn.Write([]byte{c})
			}
		}
		return p.take()
	},
}

// octets is what a line of the file sends, in the notation of package transcript.
func octets(t *testing.T, kind, rest string) string {
	t.Helper()
	n := 1
	if kind == "C:" {
		return rest + "\r\n"
	}
	if kind == "C*" {
		count, quoted, _ := strings.Cut(rest, " ")
		var err error
		if n, err = strconv.Atoi(count); err != nil {
			t.Fatal(err)
		}
		rest = quoted
	}
	text, err := strconv.Unquote(rest)
	if err != nil {
		t.Fatalf("%s: %v", rest, err)
	}
	return strings.Repeat(text, n)
}

// TestTranscripts plays testdata/*.txt, line by line, pipelined, and octet by
// octet: the replies must be the same to the octet; and by the runner that all
// protocols share.
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
				inBubble(t, configOf(name), func(b *bubble) {
					golden(b.post)
					play(t, b.dial(), name, send)
				})
			})
		}
		t.Run(filepath.Base(name)+"/runner", func(t *testing.T) {
			scripts, err := transcript.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			inBubble(t, configOf(name), func(b *bubble) {
				golden(b.post)
				r := transcript.Runner{TLS: &tls.Config{InsecureSkipVerify: true}}
				for _, s := range scripts {
					client, server := memconn.PairFrom(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000})
					b.plain.conns <- server
					if err := r.Run(&s, client); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// configOf is the configuration that a transcript's name asks for.
func configOf(name string) func(*pop3server.Config) {
	return func(c *pop3server.Config) {
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
		if s.eof {
			rewritten.WriteString("EOF\n")
			if !p.closed() {
				t.Errorf("step %d: the connection is open", i)
			}
		}
		var got string
		if len(s.client) == 0 {
			got = p.take()
		} else {
			got = send(p, s.client)
		}
		for _, c := range s.lines {
			rewritten.WriteString(c + "\n")
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
