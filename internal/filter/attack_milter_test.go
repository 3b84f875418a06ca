package filter_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"poczta.example/poczta/internal/clamd"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/filter"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/milter"
	"poczta.example/poczta/internal/trace"
	"poczta.example/poczta/internal/verdict"
)

func relayAll(context.Context, envelope.Recipient) error { return nil }

// listen serves each connection by fn until the test ends.
func listen(t *testing.T, fn func(c net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.Map
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Store(c, true)
			wg.Go(func() { defer c.Close(); fn(held{c, done}) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		close(done)
		conns.Range(func(c, _ any) bool { c.(net.Conn).Close(); return true })
		wg.Wait()
	})
	return l.Addr().String()
}

// held is a connection of a test that ends when done is closed.
type held struct {
	net.Conn
	done chan struct{}
}

// libmilter speaks version 6 and says at the end what says is, and "c"; rcpt answers recipients.
func libmilter(rcpt func(path string) string, says ...string) func(c net.Conn) {
	send := func(c net.Conn, s string) bool {
		_, err := c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(s))), s...))
		return err == nil
	}
	return func(c net.Conn) {
		r := bufio.NewReader(c)
		for {
			var size [4]byte
			if _, err := io.ReadFull(r, size[:]); err != nil {
				return
			}
			b := make([]byte, binary.BigEndian.Uint32(size[:]))
			if _, err := io.ReadFull(r, b); err != nil {
				return
			}
			switch b[0] {
			case 'O':
				send(c, "O\x00\x00\x00\x06\x00\x00\x00\xff\x00\x00\x00\x00")
			case 'D', 'A', 'K':
			case 'Q':
				return
			case 'R':
				path, _, _ := strings.Cut(string(b[1:]), "\x00")
				if rcpt == nil {
					send(c, "c")
				} else {
					send(c, rcpt(path))
				}
			case 'E':
				for _, s := range says {
					if s == "cut" {
						return
					}
					if s == "progress for ever" {
						for tick := time.Tick(20 * time.Millisecond); send(c, "p"); {
							<-tick
						}
						return
					}
					send(c, s)
				}
				send(c, "c")
			default:
				send(c, "c")
			}
		}
	}
}

// spool is a body in memory.
type spool struct{ bytes.Buffer }

func (s *spool) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(s.Bytes()).ReadAt(p, off)
}

// withMilter has a milter that does what it should, and the time that takes.
func withMilter(t *testing.T, then verdict.Action, fn func(c net.Conn)) func(c *filter.Config) {
	return withMilterFor(t, then, fn, time.Minute)
}

func withMilterFor(t *testing.T, then verdict.Action, fn func(c net.Conn), each time.Duration) func(c *filter.Config) {
	return func(c *filter.Config) {
		client := must[*milter.Client](t)(milter.New(milter.Config{Name: "fake", Address: listen(t, fn), Hostname: "mx.example.org", Connect: each, Reply: each, End: each, Total: 3 * each,
			MaxIdle: -1, Spool: func(context.Context) (milter.Spool, error) { return &spool{}, nil }}))
		t.Cleanup(func() { _ = client.Close() })
		c.Milters = []filter.Milter{{Client: client, Use: filter.Use{Incoming: true, Outgoing: true, Down: then}}}
	}
}

// TestMilterFaults: a milter that misbehaves gets what Down says, in bounded time.
func TestMilterFaults(t *testing.T) {
	t.Parallel()
	faults := map[string]func(c net.Conn){
		"silent":                   func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"hangs up":                 func(net.Conn) {},
		"babbles":                  func(c net.Conn) { _, _ = io.Copy(c, neverEnding{}) },
		"cut off at the end":       libmilter(nil, "cut"),
		"progress for ever":        libmilter(nil, "progress for ever"),
		"injects a field":          libmilter(nil, "hX-Y\x00 a\r\nBcc: evil@far.test\x00"),
		"injects the end":          libmilter(nil, "hX-Y\x00 a\r\n\r\nbody\x00"),
		"bad name":                 libmilter(nil, "hX-Y: z\r\nA\x00 a\x00"),
		"bare CR":                  libmilter(nil, "hX-Y\x00 a\rb\x00"),
		"recipient with commands":  libmilter(nil, "+<a@far.test>\r\nDATA\x00"),
		"reply with lines":         libmilter(nil, "y550 5.7.1 no\r\n250 ok\x00"),
		"reply that is no refusal": libmilter(nil, "y250 2.0.0 fine\x00"),
		"unknown reply":            libmilter(nil, "Z"),
		"many changes":             libmilter(nil, strings.Split(strings.Repeat("hX-Y\x00 a\x00|", 20000), "|")...),
	}
	for name, fault := range faults {
		for then, want := range map[verdict.Action]int{verdict.Deliver: 0, verdict.Defer: 451, verdict.Quarantine: 0} {
			t.Run(name+", "+then.String(), func(t *testing.T) {
				t.Parallel()
				once(t, func(d db.Database) {
					h := newHouse(t, d, withMilterFor(t, then, fault, time.Second))
					began := time.Now()
					got, err := h.receive("192.0.2.1", "jan@good.test", letter("jan@good.test", "Dear Ala"), ala)
					if took := time.Since(began); took > patience {
						t.Errorf("it took %s", took)
					}
					switch {
					case code(err) != want:
						t.Errorf("got %v, want %d", err, want)
					case err == nil && (got.Locals[0].State == trace.Quarantined) != (then == verdict.Quarantine):
						t.Errorf("it lies in %q", got.Locals[0].Mailbox)
					case err == nil && (strings.Contains(got.Text, "evil") || len(got.Remotes) > 0):
						t.Errorf("the milter wrote into it: %s", got.Text)
					}
				})
			})
		}
	}
}

type neverEnding struct{}

func (neverEnding) Read(p []byte) (int, error) { return len(p), nil }

// TestMilterRecipients: what a milter does to recipients is what becomes of them, and nobody
// whom it adds gets what was held back from all others.
func TestMilterRecipients(t *testing.T) {
	t.Parallel()
	run := func(name string, milter func(c net.Conn), msg string, check func(t *testing.T, got *intaketest.Accepted, err error), to ...string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			once(t, func(d db.Database) {
				h := newHouse(t, d, withMilter(t, verdict.Defer, milter))
				got, err := h.receive("192.0.2.1", "jan@good.test", msg, to...)
				check(t, got, err)
			})
		})
	}
	fine, forged := letter("jan@good.test", "Dear Ala"), letter("Boss <boss@example.org>", "Pay this")
	run("adds to a letter", libmilter(nil, "+<copy@far.test>\x00", "+<ola@example.org>\x00"), fine, func(t *testing.T, got *intaketest.Accepted, err error) {
		if err != nil || len(got.Remotes) != 1 || got.Remotes[0].Held != "" || len(got.Locals) != 2 || got.Locals[1].Mailbox != "" {
			t.Errorf("%v %+v", err, got)
		}
	}, ala)
	run("adds to a forgery", libmilter(nil, "+<copy@far.test>\x00", "+<ola@example.org>\x00"), forged, func(t *testing.T, got *intaketest.Accepted, err error) {
		if err != nil || len(got.Remotes) != 1 || got.Remotes[0].Held == "" || len(got.Locals) != 2 || got.Locals[1].State != trace.Quarantined || got.Locals[1].Mailbox != "Quarantine" {
			t.Errorf("%v %+v", err, got)
		}
	}, ala)
	run("adds whom nobody knows", libmilter(nil, "+<nobody@example.org>\x00"), fine, func(t *testing.T, got *intaketest.Accepted, err error) {
		if err == nil || got != nil {
			t.Errorf("%v %+v", err, got)
		}
	}, ala)
	run("deletes in another case", libmilter(nil, "-<ALA@Example.ORG>\x00"), fine, func(t *testing.T, got *intaketest.Accepted, err error) {
		if err != nil || got.Locals[0].State != trace.Discarded || got.Locals[1].State != 0 {
			t.Errorf("%v %+v", err, got)
		}
	}, ala, "ola@example.org")
	run("deletes all", libmilter(nil, "-<ala@example.org>\x00", "-<ola@example.org>\x00"), forged, func(t *testing.T, got *intaketest.Accepted, err error) {
		if err != nil || got.Locals[0].State != trace.Discarded || got.Locals[1].State != trace.Discarded || got.Locals[0].Mailbox != "" {
			t.Errorf("%v %+v", err, got)
		}
	}, ala, "ola@example.org")
	run("deletes and adds again", libmilter(nil, "-<ala@example.org>\x00", "+<ala@example.org>\x00"), fine, func(t *testing.T, got *intaketest.Accepted, err error) {
		if err != nil || got.Locals[0].State != 0 {
			t.Errorf("%v %+v", err, got)
		}
	}, ala)
	refuses := libmilter(func(path string) string {
		if strings.Contains(path, "ala@") {
			return "r"
		}
		return "c"
	})
	run("refuses one", refuses, fine, func(t *testing.T, got *intaketest.Accepted, err error) {
		if err != nil || got.Locals[0].Mailbox != "Quarantine" || got.Locals[1].State != 0 {
			t.Errorf("%v %+v", err, got)
		}
	}, ala, "ola@example.org")
	run("refuses all", refuses, fine, func(t *testing.T, got *intaketest.Accepted, err error) {
		if code(err) != 550 {
			t.Errorf("%v %+v", err, got)
		}
	}, ala)
}

// TestMilterChanges: fields that only we may write are not written by a milter either, a new body is
// what is stored, and what a service adds to a header section is added to the changed one too.
func TestMilterChanges(t *testing.T) {
	t.Parallel()
	once(t, func(d db.Database) {
		h := newHouse(t, d, withMilter(t, verdict.Defer, libmilter(nil, "hX-Poczta-Verdict\x00 deliver\x00", "hReturn-Path\x00 <x@y.test>\x00", "hX-Seen\x00 yes\x00", "bnew body\r\n")))
		got, err := h.receive("192.0.2.1", "jan@good.test", letter("jan@good.test", "Dear Ala"), ala)
		if err != nil || strings.Contains(got.Text, "Verdict") || strings.Contains(got.Text, "Return-Path") || !strings.Contains(got.Text, "X-Seen: yes\r\n") || !strings.HasSuffix(got.Text, "\r\n\r\nnew body\r\n") {
			t.Errorf("%v: %+v", err, got)
		}
		env := envelope.Envelope{ReversePath: intaketest.From(t, ala), Origin: envelope.Origin{Account: 1, Login: "ala", Protocol: "ESMTPSA", Peer: netip.MustParseAddrPort("192.0.2.9:1")}}
		rules := intake.Rules{Inspect: h.filter.Inspect, Ours: true, Judge: func(_ context.Context, d *intake.Draft) error {
			d.Header = append([]byte("Message-ID: <made@example.org>\r\n"), d.Header...)
			return nil
		}}
		got, err = h.hand(env, rules, "From: ala@example.org\r\nSubject: x\r\n\r\nhello\r\n", "ola@example.org")
		if err != nil || strings.Count(got.Text, "<made@example.org>") != 1 || !strings.Contains(got.Text, "X-Seen: yes\r\n") {
			t.Errorf("%v: %+v", err, got)
		}
	})
}

// TestClamdFaults: the same of clamd: dead, silent, cut off in mid-stream, or answering nonsense.
func TestClamdFaults(t *testing.T) {
	t.Parallel()
	faults := map[string]func(c net.Conn){
		"silent":   func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"deaf":     func(c net.Conn) { <-c.(held).done },
		"hangs up": func(net.Conn) {},
		"cut off":  func(c net.Conn) { _, _ = io.CopyN(io.Discard, c, 100_000) },
		"babbles":  func(c net.Conn) { _, _ = io.Copy(c, neverEnding{}) },
		"nonsense": func(c net.Conn) { _, _ = c.Write([]byte("stream: \x1b[2J\x00")) },
	}
	msg := letter("jan@good.test", strings.Repeat("Dear Ala, a long letter\r\n", 40000))
	for name, fault := range faults {
		for then, want := range map[verdict.Action]int{verdict.Deliver: 0, verdict.Defer: 451, verdict.Quarantine: 0} {
			t.Run(name+", "+then.String(), func(t *testing.T) {
				t.Parallel()
				once(t, func(d db.Database) {
					h := newHouse(t, d, func(c *filter.Config) {
						client := must[*clamd.Client](t)(clamd.New(clamd.Config{Network: "tcp", Address: listen(t, fault), Timeout: time.Second}))
						c.Clamd = &filter.Clamd{Client: client, Use: filter.Use{Incoming: true, Outgoing: true, Down: then, Large: then}}
					})
					got, err := h.receive("192.0.2.1", "jan@good.test", msg, ala)
					if code(err) != want || err == nil && (got.Locals[0].State == trace.Quarantined) != (then == verdict.Quarantine) {
						t.Errorf("got %v %+v, want %d", err, got, want)
					}
					env := envelope.Envelope{ReversePath: intaketest.From(t, ala), Origin: envelope.Origin{Account: 1, Login: "ala", Protocol: "ESMTPSA", Peer: netip.MustParseAddrPort("192.0.2.9:1")}}
					_, err = h.hand(env, intake.Rules{Inspect: h.filter.Inspect, Ours: true}, msg, "ola@example.org")
					if code(err) == 550 || (err == nil) != (then == verdict.Deliver) {
						t.Errorf("of our own people: %v", err)
					}
				})
			})
		}
	}
}
