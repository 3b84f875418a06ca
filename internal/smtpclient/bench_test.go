package smtpclient_test

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/smtpclient"
)

// counting counts what a session asks of its connection.
type counting struct {
	net.Conn
	writes, deadlines int
}

func (c *counting) Write(b []byte) (int, error) {
	c.writes++
	return c.Conn.Write(b)
}

func (c *counting) SetDeadline(t time.Time) error {
	c.deadlines++
	return c.Conn.SetDeadline(t)
}

// BenchmarkSend sends messages of 4 KiB to one recipient over one connection of loopback
// TCP; the peer's work is in the figure.
func BenchmarkSend(b *testing.B) {
	data := bytes.Repeat([]byte("a line of mail data with sixty-two octets, its end included.\r\n"), 66)
	for _, bm := range []struct {
		name string
		ext  []string
	}{{"DATA", []string{"PIPELINING", "8BITMIME"}}, {"BDAT", []string{"PIPELINING", "8BITMIME", "CHUNKING"}}, {"no PIPELINING", []string{"8BITMIME"}}} {
		b.Run(bm.name, func(b *testing.B) {
			p := peer.Start(b, peer.Config{Extensions: bm.ext, Discard: true})
			s, err := smtpclient.Open(b.Context(), dialTCP(b, p), smtpclient.Config{Hello: "us.example", Dialogue: new(smtpclient.Dialogue)})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			m := &smtpclient.Message{ReversePath: "a@us.example", Size: int64(len(data)), Recipients: []smtpclient.Recipient{{ForwardPath: "b@peer.example"}},
				Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }}
			b.ReportAllocs()
			for b.Loop() {
				if o, err := s.Send(b.Context(), m); err != nil || !o.Recipients[0].Accepted {
					b.Fatal(err)
				}
			}
		})
	}
}

// answering is a connection that answers everything at once, without a server.
type answering struct {
	net.Conn
	in bytes.Reader
}

func (c *answering) Write(b []byte) (int, error) {
	if bytes.HasSuffix(b, []byte("DATA\r\n")) {
		c.in.Reset([]byte("250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data with <CR><LF>.<CR><LF>\r\n"))
	} else {
		c.in.Reset([]byte("250 2.0.0 Ok: queued as 4ZqX1m5Jf2z1t\r\n"))
	}
	return len(b), nil
}

func (c *answering) Read(b []byte) (int, error)  { return c.in.Read(b) }
func (c *answering) SetDeadline(time.Time) error { return nil }
func (c *answering) Close() error                { return nil }

// BenchmarkSendAlone is the client's own work for a message of 4 KiB.
func BenchmarkSendAlone(b *testing.B) {
	data := bytes.Repeat([]byte("a line of mail data with sixty-two octets, its end included.\r\n"), 66)
	c := &answering{}
	c.in.Reset([]byte("220 them ESMTP\r\n"))
	s, err := smtpclient.Open(b.Context(), &hello{answering: c}, smtpclient.Config{Hello: "us.example", Dialogue: new(smtpclient.Dialogue)})
	if err != nil {
		b.Fatal(err)
	}
	m := &smtpclient.Message{ReversePath: "a@us.example", Size: int64(len(data)), Recipients: []smtpclient.Recipient{{ForwardPath: "b@peer.example"}},
		Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }}
	b.ReportAllocs()
	for b.Loop() {
		if o, err := s.Send(b.Context(), m); err != nil || !o.Recipients[0].Accepted {
			b.Fatal(err)
		}
	}
}

// hello answers EHLO first.
type hello struct {
	*answering
	said bool
}

func (c *hello) Write(b []byte) (int, error) {
	if !c.said {
		c.said = true
		c.in.Reset([]byte("250-them\r\n250-PIPELINING\r\n250 SIZE 100000\r\n"))
		return len(b), nil
	}
	return c.answering.Write(b)
}

// endless is a connection that says its text again and again.
type endless struct {
	net.Conn
	text []byte
	at   int
	sent int
}

func (c *endless) Read(b []byte) (int, error) {
	n := copy(b, c.text[c.at:])
	c.at += n
	c.sent += n
	if c.at == len(c.text) {
		c.at = 0
	}
	return n, nil
}

func (c *endless) Write(b []byte) (int, error) { return len(b), nil }
func (c *endless) SetDeadline(time.Time) error { return nil }
func (c *endless) Close() error                { return nil }

// dialTCP connects to the peer by loopback TCP.
func dialTCP(t testing.TB, p *peer.Peer) net.Conn {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", p.Listen(t).String())
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// flights is a connection that says one part of its text at the beginning and one behind
// each write.
type flights struct {
	net.Conn
	parts [][]byte
	now   []byte
}

func newFlights(text []byte) *flights {
	parts := bytes.Split(text, []byte("|"))
	return &flights{parts: parts[1:], now: parts[0]}
}

func (c *flights) Read(b []byte) (int, error) {
	if len(c.now) == 0 {
		return 0, io.EOF
	}
	n := copy(b, c.now)
	c.now = c.now[n:]
	return n, nil
}

func (c *flights) Write(b []byte) (int, error) {
	if len(c.parts) > 0 {
		c.now = append(bytes.Clone(c.now), c.parts[0]...)
		c.parts = c.parts[1:]
	}
	return len(b), nil
}

func (c *flights) SetDeadline(time.Time) error { return nil }
func (c *flights) Close() error                { return nil }
