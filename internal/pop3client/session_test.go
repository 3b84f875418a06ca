package pop3client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/mailtest/memconn"
	"poczta.example/poczta/internal/mailtest/poppeer"
	"poczta.example/poczta/internal/pop3client"
)

var us = pop3client.Credentials{Username: "us", Password: "secret"}

// enter opens a session with a peer and logs in.
func enter(t *testing.T, p *poppeer.Peer, cfg pop3client.Config) *pop3client.Session {
	t.Helper()
	cfg.Plaintext = true
	s, err := pop3client.Open(t.Context(), p.Dial(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if err := s.Login(t.Context(), us); err != nil {
		t.Fatal(err)
	}
	return s
}

// scripted is a session with a server that says text after the greeting whatever it is asked.
func scripted(t *testing.T, text string, cfg pop3client.Config) *pop3client.Session {
	t.Helper()
	client, server := memconn.Pair()
	t.Cleanup(func() { _ = server.Close() })
	if _, err := io.WriteString(server, "+OK\r\n"); err != nil {
		t.Fatal(err)
	}
	s, err := pop3client.Open(t.Context(), client, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.WriteString(server, text)
		_, _ = io.Copy(io.Discard, server)
	}()
	t.Cleanup(func() { _ = s.Close(); _ = server.Close(); <-done })
	return s
}

// keep collects messages by number.
func keep(got map[int]string) func(int, io.Reader) error {
	return func(n int, r io.Reader) error {
		b, err := io.ReadAll(r)
		got[n] = string(b)
		return err
	}
}

// TestSession is a whole session, with and without each extension.
func TestSession(t *testing.T) {
	t.Parallel()
	letters := poppeer.Letters(5, 3000)
	letters[3].Data = []byte("\r\n.\r\n..\r\n\r\n.x\r\nlast line without end")
	for name, cfg := range map[string]poppeer.Config{
		"all":           {},
		"no CAPA":       {NoCAPA: true},
		"no pipelining": {Capabilities: []string{"TOP", "UIDL", "USER"}},
		"no UIDL":       {Capabilities: []string{"TOP", "USER", "PIPELINING"}, NoUIDL: true},
		"old":           {NoCAPA: true, NoUIDL: true, NoTOP: true},
		"SCRAM":         {Mechanisms: []string{"PLAIN", "SCRAM-SHA-256"}},
		"later":         {Capabilities: []string{"USER"}, Later: []string{"TOP", "UIDL", "PIPELINING"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cfg.Messages = letters
				p := poppeer.Start(t, cfg)
				var d pop3client.Dialogue
				s := enter(t, p, pop3client.Config{Dialogue: &d})
				items, err := s.List(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				var want []pop3client.Item
				var numbers []int
				for i, m := range letters {
					it := pop3client.Item{Number: i + 1, Octets: int64(len(m.Data)), UniqueID: m.ID}
					if cfg.NoUIDL {
						it.UniqueID = ""
					}
					want, numbers = append(want, it), append(numbers, i+1)
				}
				if diff := cmp.Diff(want, items); diff != "" {
					t.Errorf("items (-want +got):\n%s", diff)
				}
				got := map[int]string{}
				if err := s.Retrieve(t.Context(), numbers, keep(got)); err != nil {
					t.Error(err)
				}
				for i, m := range letters {
					if want := strings.TrimSuffix(string(m.Data), "\r\n") + "\r\n"; got[i+1] != want {
						t.Errorf("message %d: got %q, want %q", i+1, got[i+1], want)
					}
				}
				tops := map[int]string{}
				err = s.Top(t.Context(), numbers[:2], 2, keep(tops))
				if _, refused := errors.AsType[pop3client.Refusals](err); cfg.NoTOP != refused || !cfg.NoTOP && err != nil {
					t.Errorf("TOP: %v", err)
				}
				wantTop := map[int]string{}
				for n := 1; n <= 2 && !cfg.NoTOP; n++ {
					head, _, _ := strings.Cut(string(letters[n-1].Data), "..\r\n")
					wantTop[n] = head + "..\r\n"
				}
				if diff := cmp.Diff(wantTop, tops); diff != "" {
					t.Errorf("TOP 2 (-want +got):\n%s", diff)
				}
				finish(t, p, s)
				if text := d.String(); strings.Contains(text, "secret") || strings.Contains(text, "Message-ID") || !strings.Contains(text, "C: QUIT\nS: +OK goodbye\n") {
					t.Errorf("dialogue:\n%s", text)
				}
			})
		})
	}
}

// finish deletes, and quits.
func finish(t *testing.T, p *poppeer.Peer, s *pop3client.Session) {
	t.Helper()
	ctx := t.Context()
	if err := errors.Join(s.Delete(ctx, []int{5}), s.Reset(ctx), s.Noop(ctx), s.Delete(ctx, []int{1, 3})); err != nil {
		t.Error(err)
	}
	err := s.Delete(ctx, []int{3, 4, 77})
	refused, _ := errors.AsType[*pop3client.Refused](err)
	refusals, _ := errors.AsType[pop3client.Refusals](err)
	if len(refusals) != 2 || !slices.Equal(refused.Numbers, []int{3, 77}) || refusals[0].Number != 3 || refusals[1].Number != 77 || refusals[1].Command != "DELE 77" || !s.Usable() {
		t.Errorf("refused deletions: %v", err)
	}
	if err := s.Retrieve(ctx, []int{1, 2, 99}, func(int, io.Reader) error { return nil }); fmt.Sprint(err) != "2 messages refused, the first at RETR 1: server said no: no such message" {
		t.Errorf("refused messages: %v", err)
	}
	if err := s.Quit(ctx); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"id-1", "id-3", "id-4"}, p.Deleted()); diff != "" {
		t.Errorf("deleted (-want +got):\n%s", diff)
	}
	if s.Usable() || pop3client.KindOf(s.Noop(ctx)) != pop3client.KindStopped {
		t.Error("usable behind QUIT")
	}
}

// TestWindow retrieves more than a window holds, in any order, with all kinds of sizes.
func TestWindow(t *testing.T) {
	t.Parallel()
	letters := poppeer.Letters(1500, 300)
	for _, i := range []int{3, 700, 701, 1499} {
		letters[i].Data = bytes.Repeat([]byte(".0123456789\r\n"), 400_000)
	}
	for name, rules := range map[string][]poppeer.Rule{
		"right sizes": nil,
		"wrong sizes": {{Stage: poppeer.List, Do: poppeer.WrongSizes()}},
		"no sizes":    {{Stage: poppeer.List, Do: poppeer.EachLine("no sizes", func(l string) string { n, _, _ := strings.Cut(l, " "); return n + " 0" })}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := poppeer.Start(t, poppeer.Config{Messages: letters, Rules: rules})
			s := enter(t, p, pop3client.Config{})
			items, err := s.List(t.Context())
			if err != nil || len(items) != len(letters) {
				t.Fatal(len(items), err)
			}
			numbers := make([]int, len(letters))
			for i := range numbers {
				numbers[i] = len(letters) - i
			}
			var order []int
			err = s.Retrieve(t.Context(), numbers, func(n int, r io.Reader) error {
				order = append(order, n)
				var b bytes.Buffer
				if n%7 == 0 {
					return nil // not wanted after all
				}
				if _, err := io.Copy(&b, r); err != nil {
					return err
				}
				if !bytes.Equal(b.Bytes(), letters[n-1].Data) {
					return fmt.Errorf("message %d has %d octets, want %d", n, b.Len(), len(letters[n-1].Data))
				}
				return nil
			})
			if err != nil || !slices.Equal(order, numbers) {
				t.Errorf("got %d messages, %v", len(order), err)
			}
			if err := s.Delete(t.Context(), numbers); err != nil {
				t.Error(err)
			}
			if err := s.Quit(t.Context()); err != nil || len(p.Messages()) != 0 {
				t.Errorf("%d messages are left: %v", len(p.Messages()), err)
			}
		})
	}
}

// TestGiveUp: an error of fn comes back as it is, and the session goes on if little is left.
func TestGiveUp(t *testing.T) {
	t.Parallel()
	full := errors.New("disk is full")
	for name, tc := range map[string]struct {
		octets, messages, at int
		usable               bool
	}{
		"little to come": {300, 100, 1, true}, "last one": {300, 3, 3, true}, "a long one": {3 << 20, 3, 2, false}, "many": {40 << 10, 300, 7, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := poppeer.Start(t, poppeer.Config{Messages: poppeer.Letters(tc.messages, tc.octets)})
			s := enter(t, p, pop3client.Config{})
			items, err := s.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			calls := 0
			err = s.Retrieve(t.Context(), numbersOf(items), func(n int, r io.Reader) error {
				calls++
				if n == tc.at {
					_, _ = io.CopyN(io.Discard, r, 10)
					return full
				}
				return nil
			})
			if err != full || s.Usable() != tc.usable || calls != tc.at { //nolint:errorlint // as it is
				t.Fatalf("got %v after %d calls, usable %v", err, calls, s.Usable())
			}
			if tc.usable {
				got := map[int]string{}
				if err := errors.Join(s.Retrieve(t.Context(), []int{2}, keep(got)), s.Quit(t.Context())); err != nil || !strings.Contains(got[2], "<2@peer.example>") {
					t.Errorf("behind it: %v, %.60q", err, got[2])
				}
			}
		})
	}
}

func numbersOf(items []pop3client.Item) []int {
	var all []int
	for _, it := range items {
		all = append(all, it.Number)
	}
	return all
}

// TestContext ends waiting at every place, at once.
func TestContext(t *testing.T) {
	t.Parallel()
	for _, stage := range poppeer.Stages() {
		if slices.Contains([]poppeer.Stage{poppeer.Stls, poppeer.Handshake, poppeer.Auth, poppeer.Stat}, stage) {
			continue
		}
		t.Run(stage.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := poppeer.Start(t, poppeer.Config{Messages: poppeer.Letters(3, 300), Rules: []poppeer.Rule{{Stage: stage, Do: poppeer.Stall()}}})
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				began := time.Now()
				err := everything(ctx, p.Dial())
				if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took != time.Second || pop3client.KindOf(err) != pop3client.KindStopped && stage != poppeer.Quit {
					t.Errorf("after %v: %v", took, err)
				}
			})
		})
	}
}

// everything says all that a client can say, and stops at the first error.
func everything(ctx context.Context, conn net.Conn) error {
	s, err := pop3client.Open(ctx, conn, pop3client.Config{Plaintext: true, UTF8: true})
	if err != nil {
		return err
	}
	defer s.Close()
	drop := func(int, io.Reader) error { return nil }
	for _, step := range []func() error{
		func() error { return s.Login(ctx, us) },
		func() error { _, err := s.List(ctx); return err },
		func() error { return s.Top(ctx, []int{1, 2}, 0, drop) },
		func() error { return s.Retrieve(ctx, []int{1, 2, 3}, drop) },
		func() error { return s.Noop(ctx) },
		func() error { return s.Reset(ctx) },
		func() error { return s.Delete(ctx, []int{1, 2}) },
		func() error { return s.Quit(ctx) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// TestBareLF: a bare LF ends nothing, unless the server ends all its lines so.
func TestBareLF(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ text, want string }{
		"LF and dot in a letter": {"+OK\r\na\n.\r\n+OK injected\r\nb\n..c\r.\n\r\n..\r\n.\r\n", "a\n.\r\n+OK injected\r\nb\n..c\r.\n\r\n.\r\n"},
		"only LF":                {"+OK\na\n..b\n\n.\n", "a\r\n.b\r\n\r\n"},
		"LF and CRLF":            {"+OK\na\r\n..b\n.c\n.\r\n", "a\r\n.b\r\nc\r\n"},
		"CR before the end":      {"+OK\r\na\r\r\n.\r\n", "a\r\r\n"},
		"dot and CR":             {"+OK\r\n.\rx\r\n.\r\n", "\rx\r\n"},
		"nothing":                {"+OK\r\n.\r\n", ""},
		"blank":                  {"+OK\r\n\r\n.\r\n", "\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := scripted(t, "-ERR no CAPA\r\n"+tc.text, pop3client.Config{})
			if _, err := s.Capabilities(t.Context()); err == nil {
				t.Fatal("what came too early was taken")
			}
			for _, piece := range []int{1, 2, 3, 1 << 20} {
				conn := &pieces{text: "+OK\r\n-ERR no CAPA\r\n", then: tc.text, piece: piece}
				s, err := pop3client.Open(t.Context(), conn, pop3client.Config{})
				if err != nil {
					t.Fatal(err)
				}
				got := map[int]string{}
				if err := s.Retrieve(t.Context(), []int{1}, keep(got)); err != nil || got[1] != tc.want {
					t.Errorf("in pieces of %d: got %q, want %q: %v", piece, got[1], tc.want, err)
				}
			}
		})
	}
}

// pieces is a connection that gives text in pieces, a line of replies for each write, and
// then all that follows. It ends there.
type pieces struct {
	net.Conn
	text, then string
	piece      int
	writes     int
	ready      int // octets of text that may be read
}

func (c *pieces) Read(b []byte) (int, error) {
	if c.ready == 0 && c.writes < 2 {
		c.ready = strings.IndexByte(c.text, '\n') + 1
	}
	if c.ready == 0 && c.writes >= 2 {
		c.text, c.then = c.text+c.then, ""
		c.ready = len(c.text)
	}
	if c.ready == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), c.piece)], c.text[:c.ready])
	c.text, c.ready = c.text[n:], c.ready-n
	return n, nil
}

func (c *pieces) Write(b []byte) (int, error) {
	c.writes++
	return len(b), nil
}

func (c *pieces) Close() error                     { return nil }
func (c *pieces) SetDeadline(time.Time) error      { return nil }
func (c *pieces) SetReadDeadline(time.Time) error  { return nil }
func (c *pieces) SetWriteDeadline(time.Time) error { return nil }

// TestEndedByServer: what a server says when it ends a session by itself reaches the person.
func TestEndedByServer(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		last string
		kind pop3client.Kind
	}{
		{"-ERR [SYS/TEMP] going down\r\n", pop3client.KindTemporary}, {"-ERR autologout\r\n", pop3client.KindNetwork}, {"", pop3client.KindNetwork}, {"+OK what?\r\n", pop3client.KindNetwork},
	} {
		client, server := memconn.Pair()
		if _, err := io.WriteString(server, "+OK\r\n"); err != nil {
			t.Fatal(err)
		}
		s, err := pop3client.Open(t.Context(), client, pop3client.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(server, tc.last); err != nil {
			t.Fatal(err)
		}
		_ = server.Close()
		err = s.Noop(t.Context())
		e, _ := errors.AsType[*pop3client.Error](err)
		if kind := pop3client.KindOf(err); e == nil || s.Usable() || kind != tc.kind || strings.HasPrefix(tc.last, "-ERR") && (!e.Refused || e.Reply == "") {
			t.Errorf("%q: %v of kind %v, want %v", tc.last, err, kind, tc.kind)
		}
	}
}
