package milter_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/milter"
)

// fake is a milter that does as a test says. Every packet it gets is noted.
type fake struct {
	version, actions, steps uint32
	lists                   string // behind the negotiation: macro lists
	// answer gives the replies to a command; nil: continue to everything.
	answer func(cmd byte, data []byte) []string

	mu    sync.Mutex
	said  []string // "C example.org", macros as "D..."
	conns int
	wg    sync.WaitGroup
}

// everything is what a milter may ask for in version 6.
const (
	allActions = 0x1ff
	leadSpace  = 0x100000
	canSkip    = 0x400
)

// start listens on loopback and returns the address.
func (f *fake) start(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.Map
	f.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Store(c, true)
			f.wg.Go(func() { defer c.Close(); f.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		conns.Range(func(c, _ any) bool { c.(net.Conn).Close(); return true })
		f.wg.Wait()
	})
	return l.Addr().String()
}

// packet makes a packet of a command and its data.
func packet(s string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(s))), s...)
}

func u32(n uint32) string { return string(binary.BigEndian.AppendUint32(nil, n)) }

func (f *fake) serve(c net.Conn) {
	f.mu.Lock()
	f.conns++
	f.mu.Unlock()
	r := bufio.NewReader(c)
	whole, deaf := false, false // as libmilter: after a verdict that is not "continue" at the end, it hears nothing but Q
	for {
		var head [4]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return
		}
		b := make([]byte, binary.BigEndian.Uint32(head[:]))
		if _, err := io.ReadFull(r, b); err != nil {
			return
		}
		f.note(b)
		if deaf = deaf || b[0] == 'K' && !whole; deaf && b[0] != 'Q' {
			continue
		}
		for _, reply := range f.replies(b[0], b[1:]) {
			whole = b[0] == 'E' && reply == "c"
			if reply == "cut" {
				return
			}
			if pause, ok := strings.CutPrefix(reply, "wait:"); ok {
				d, _ := time.ParseDuration(pause)
				<-time.After(d)
				continue
			}
			out := packet(reply)
			if raw, ok := strings.CutPrefix(reply, "raw:"); ok {
				out = []byte(raw)
			}
			if _, err := c.Write(out); err != nil {
				return
			}
		}
		if b[0] == 'Q' {
			return
		}
	}
}

func (f *fake) note(b []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.said = append(f.said, strings.TrimRight(string(b[:1])+" "+strings.ReplaceAll(string(b[1:]), "\x00", "|"), " "))
}

// heard returns what the milter was told, without the negotiation.
func (f *fake) heard() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string{}, f.said[min(1, len(f.said)):]...)
}

func (f *fake) connections() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.conns
}

func (f *fake) replies(cmd byte, data []byte) []string {
	if cmd == 'O' && f.version != 0 {
		return []string{"O" + u32(f.version) + u32(f.actions) + u32(f.steps) + f.lists}
	}
	switch cmd {
	case 'D', 'K', 'Q', 'A':
		return nil
	}
	if f.answer != nil {
		if r := f.answer(cmd, data); r != nil {
			return r
		}
	}
	if cmd == 'O' {
		return []string{"O" + u32(6) + u32(allActions&^0x100) + u32(leadSpace|canSkip)}
	}
	return []string{"c"}
}

// on makes an answer that differs from "continue" for one command only.
func on(cmd byte, replies ...string) func(byte, []byte) []string {
	return func(got byte, _ []byte) []string {
		if got == cmd {
			return append([]string{}, replies...)
		}
		return nil
	}
}

// spool is a body in memory.
type spool struct{ b []byte }

func (s *spool) Write(p []byte) (int, error) { s.b = append(s.b, p...); return len(p), nil }

func (s *spool) ReadAt(p []byte, off int64) (int, error) { return bytes.NewReader(s.b).ReadAt(p, off) }

func newClient(t *testing.T, address string, change func(*milter.Config)) *milter.Client {
	t.Helper()
	cfg := milter.Config{
		Name: "test", Address: address, Hostname: "mx.test", Daemon: "smtp", Software: "Poczta",
		Reply: time.Minute, End: time.Minute, Total: 2 * time.Minute,
		Spool: func(context.Context) (milter.Spool, error) { return &spool{}, nil },
	}
	if change != nil {
		change(&cfg)
	}
	c, err := milter.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func mustAddress(t testing.TB, s string) address.Address {
	t.Helper()
	a, err := address.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

const sampleHeader = "From: ala@a.test\r\nTo: ola@b.test\r\nSubject: Zażółć\r\n folded\r\nX-Empty:\r\nX-Tight:tight\r\n"

const sampleBody = "Hello.\r\n\r\nBye.\r\n"

// sample is a message from 192.0.2.7 to two people.
func sample(t testing.TB) milter.Message {
	t.Helper()
	var m milter.Message
	m.Origin = envelope.Origin{Peer: netip.MustParseAddrPort("192.0.2.7:4321"), PeerName: "out.a.test", Helo: "out.a.test", Protocol: "ESMTPS", TLS: "TLS1.3 TLS_AES_128_GCM_SHA256"}
	m.Envelope = envelope.Envelope{
		ReversePath: address.NewReversePath(mustAddress(t, "ala@a.test")), Size: 100, Body: envelope.Body8BitMIME,
		Recipients: []envelope.Recipient{
			{ForwardPath: address.NewForwardPath(mustAddress(t, "ola@b.test")), Notify: envelope.NotifyFailure | envelope.NotifyDelay},
			{ForwardPath: address.NewForwardPath(mustAddress(t, "ula@b.test"))},
		},
	}
	m.Header = []byte(sampleHeader)
	m.Body, m.Size = strings.NewReader(sampleBody), int64(len(sampleBody))
	m.QueueID = "q1"
	return m
}

// whole is a message's header section, empty line and body.
func whole(t testing.TB, m milter.Message) string {
	t.Helper()
	out := string(m.Header) + "\r\n"
	if m.Body != nil {
		b, err := io.ReadAll(io.NewSectionReader(m.Body, 0, m.Size))
		if err != nil {
			t.Fatal(err)
		}
		out += string(b)
	}
	return out
}

// apply is Apply as text: header section and envelope.
func apply(m milter.Message, changes []milter.Change) string {
	m = m.Apply(changes)
	out := fmt.Sprintf("MAIL %s\n", m.Envelope.ReversePath)
	for _, r := range m.Envelope.Recipients {
		out += fmt.Sprintf("RCPT %s\n", r.ForwardPath)
	}
	return out + strings.ReplaceAll(string(m.Header), "\r\n", "\n")
}
