package smtpclient_test

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"testing"

	"poczta.example/poczta/internal/mailtest/memconn"
	"poczta.example/poczta/internal/smtpclient"
)

// scripted is a connection whose server follows a script: lines "C: text" must come and
// "S: text" are sent. It returns the client's end; the script is checked at the test's end.
func scripted(t *testing.T, script string) *memconn.Conn {
	t.Helper()
	client, server := memconn.Pair()
	done := make(chan error, 1)
	go func() { done <- play(server, script) }()
	t.Cleanup(func() {
		_ = client.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return client
}

func play(server *memconn.Conn, script string) error {
	defer server.Close()
	r, w := bufio.NewReader(server), bufio.NewWriter(server) // lines between two commands come in one piece
	for line := range strings.Lines(script) {
		line = strings.TrimSuffix(line, "\n")
		kind, text, _ := strings.Cut(strings.TrimLeft(line, "\t"), ": ")
		switch kind {
		case "S":
			_, _ = w.WriteString(text + "\r\n") // Flush tells
		case "C":
			if err := w.Flush(); err != nil {
				return fmt.Errorf("send what stands before %q: %w", text, err)
			}
			got, err := r.ReadString('\n')
			if got != text+"\r\n" {
				return fmt.Errorf("client sent %q, %v; want %q", got, err, text)
			}
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("send the last lines: %w", err)
	}
	if got, _ := r.ReadString('\n'); got != "" {
		return fmt.Errorf("client sent %q behind the script's end", got)
	}
	return nil
}

func open(t *testing.T, conn *memconn.Conn, cfg smtpclient.Config) *smtpclient.Session {
	t.Helper()
	if cfg.Hello == "" {
		cfg.Hello = "us.example"
	}
	s, err := smtpclient.Open(t.Context(), conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func letter(data string, to ...string) *smtpclient.Message {
	m := &smtpclient.Message{ReversePath: "from@us.example", Size: int64(len(data)),
		Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(data)), nil }}
	for _, rcpt := range to {
		m.Recipients = append(m.Recipients, smtpclient.Recipient{ForwardPath: rcpt})
	}
	return m
}

// outcome prints an outcome: for each recipient the stage, the code, "+" when accepted
// and "!" when the reply is ours.
func outcome(o smtpclient.Outcome) string {
	var all []string
	for _, r := range o.Recipients {
		s := fmt.Sprintf("%v %d", r.Stage, r.Reply.Code)
		if r.Accepted {
			s += "+"
		}
		if r.Local {
			s += "!"
		}
		all = append(all, s)
	}
	return strings.Join(all, ", ")
}

func TestDialogues(t *testing.T) {
	t.Parallel()
	const hello = "S: 220 them.example ESMTP\nC: EHLO us.example\n"
	for _, tt := range []struct {
		name, script string
		messages     []*smtpclient.Message
		want         []string
	}{
		{name: "no extension", script: hello + `S: 250 them.example
			C: MAIL FROM:<from@us.example>
			S: 250 2.1.0 fine
			C: RCPT TO:<a@them.example>
			S: 250 fine
			C: RCPT TO:<b@them.example>
			S: 550 5.1.1 nobody
			C: DATA
			S: 354 go on
			C: Subject: x
			C: 
			C: ..dot
			C: .
			S: 250 2.0.0 mine`,
			messages: []*smtpclient.Message{letter("Subject: x\r\n\r\n.dot\r\n", "a@them.example", "b@them.example")},
			want:     []string{"end of data 250+, RCPT 550"}},
		{name: "EHLO unknown", script: hello + `S: 502 what
			C: HELO us.example
			S: 250 them.example
			C: MAIL FROM:<from@us.example>
			S: 451 4.3.0 later`,
			messages: []*smtpclient.Message{letter("x\r\n", "a@them.example")},
			want:     []string{"MAIL 451"}},
		{name: "all refused behind 354, next in the same session", script: hello + `S: 250-them.example
			S: 250-SIZE 1000
			S: 250 PIPELINING
			C: MAIL FROM:<from@us.example> SIZE=3
			C: RCPT TO:<a@them.example>
			C: DATA
			S: 250 ok
			S: 550 no
			S: 354 go on
			C: .
			S: 554 no valid recipients
			C: MAIL FROM:<from@us.example> SIZE=3
			C: RCPT TO:<b@them.example>
			C: DATA
			S: 250 ok
			S: 250 ok
			S: 354 go on
			C: y
			C: .
			S: 250 ok`,
			messages: []*smtpclient.Message{letter("x\r\n", "a@them.example"), letter(strings.Repeat("x", 1001), "a@them.example"), letter("y\r\n", "b@them.example")},
			want:     []string{"RCPT 550", "MAIL 552!", "end of data 250+"}},
		{name: "RSET joins the next flight", script: hello + `S: 250-them.example
			S: 250 PIPELINING
			C: MAIL FROM:<from@us.example>
			C: RCPT TO:<a@them.example>
			C: DATA
			S: 250 ok
			S: 250 ok
			S: 452 disk full
			C: RSET
			C: MAIL FROM:<from@us.example>
			C: RCPT TO:<b@them.example>
			C: DATA
			S: 250 ok
			S: 250 ok
			S: 250 ok
			S: 354 go on
			C: y
			C: .
			S: 250 ok`,
			messages: []*smtpclient.Message{letter("x\r\n", "a@them.example"), letter("y\r\n", "b@them.example")},
			want:     []string{"DATA 452", "end of data 250+"}},
		{name: "BDAT in one flight", script: hello + `S: 250-them.example
			S: 250-CHUNKING
			S: 250 PIPELINING
			C: MAIL FROM:<from@us.example>
			C: RCPT TO:<a@them.example>
			C: BDAT 8 LAST
			C: .x
			C: .y
			S: 250 ok
			S: 250 ok
			S: 250 ok`,
			messages: []*smtpclient.Message{letter(".x\r\n.y\r\n", "a@them.example")},
			want:     []string{"end of data 250+"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var d smtpclient.Dialogue
			s := open(t, scripted(t, tt.script), smtpclient.Config{Dialogue: &d})
			for i, m := range tt.messages {
				o, err := s.Send(t.Context(), m)
				if err != nil {
					t.Fatalf("%v\n%s", err, d.String())
				}
				if got := outcome(o); got != tt.want[i] {
					t.Errorf("message %d: got %s, want %s\n%s", i, got, tt.want[i], d.String())
				}
			}
		})
	}
}
