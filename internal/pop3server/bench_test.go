package pop3server_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"poczta.example/poczta/internal/pop3server"
	"poczta.example/poczta/internal/pop3server/droptest"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// listen serves config on loopback until the test ends.
func listen(tb testing.TB, c pop3server.Config, implicit bool) string {
	tb.Helper()
	s, err := pop3server.New(c)
	if err != nil {
		tb.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		if implicit {
			done <- s.ServeTLS(ctx, l)
		} else {
			done <- s.Serve(ctx, l)
		}
	}()
	tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Errorf("Serve: %v", err)
		}
	})
	return l.Addr().String()
}

func letter(octets int, id string) droptest.Message {
	head := "From: a@example.org\r\nTo: b@example.org\r\nSubject: bench\r\n\r\n"
	var b bytes.Buffer
	b.WriteString(head)
	for b.Len() < octets-80 {
		b.WriteString(strings.Repeat("x", 70) + "\r\n")
	}
	b.WriteString(strings.Repeat("y", octets-b.Len()-2) + "\r\n")
	return droptest.Message{UniqueID: id, Octets: b.Bytes()}
}

type popClient struct {
	net.Conn
	r *bufio.Reader
}

func dial(tb testing.TB, addr string) *popClient {
	tb.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	p := &popClient{c, bufio.NewReaderSize(c, 64<<10)}
	p.ok(tb)
	return p
}

func (p *popClient) send(tb testing.TB, s string) {
	if _, err := p.Write([]byte(s)); err != nil {
		tb.Fatal(err)
	}
}

func (p *popClient) ok(tb testing.TB) {
	line, err := p.r.ReadSlice('\n')
	if err != nil || line[0] != '+' {
		tb.Fatalf("got %q, %v, want +OK", line, err)
	}
}

func (p *popClient) multi(tb testing.TB) {
	p.ok(tb)
	for {
		line, err := p.r.ReadSlice('\n')
		if err != nil {
			tb.Fatal(err)
		}
		if len(line) == 3 && line[0] == '.' {
			return
		}
	}
}

func (p *popClient) login(tb testing.TB) {
	p.send(tb, "USER ala\r\n")
	p.ok(tb)
	p.send(tb, "PASS secret\r\n")
	p.ok(tb)
}

func benchServer(b *testing.B, messages ...droptest.Message) string {
	post := droptest.New("secret", "ala")
	post.Fill("ala", messages...)
	return listen(b, pop3server.Config{Maildrops: post, Verifier: post, Hostname: "mail.example.org", PlaintextFrom: loopback}, false)
}

func hundred() []droptest.Message {
	var m []droptest.Message
	for i := range 100 {
		m = append(m, letter(4096, fmt.Sprintf("id%d", i)))
	}
	return m
}

// BenchmarkRetrOneByOne is 100 × RETR of 4 KiB in one session, in lock step.
func BenchmarkRetrOneByOne(b *testing.B) {
	addr := benchServer(b, hundred()...)
	c := dial(b, addr)
	c.login(b)
	b.SetBytes(100 * 4096)
	b.ReportAllocs()
	for b.Loop() {
		for i := range 100 {
			c.send(b, fmt.Sprintf("RETR %d\r\n", i+1))
			c.multi(b)
		}
	}
	b.ReportMetric(float64(b.N)*100/b.Elapsed().Seconds(), "messages/s")
}

// BenchmarkRetrPipelined is the same with all commands sent at once.
func BenchmarkRetrPipelined(b *testing.B) {
	addr := benchServer(b, hundred()...)
	c := dial(b, addr)
	c.login(b)
	var all strings.Builder
	for i := range 100 {
		fmt.Fprintf(&all, "RETR %d\r\n", i+1)
	}
	b.SetBytes(100 * 4096)
	b.ReportAllocs()
	for b.Loop() {
		c.send(b, all.String())
		for range 100 {
			c.multi(b)
		}
	}
	b.ReportMetric(float64(b.N)*100/b.Elapsed().Seconds(), "messages/s")
}

// BenchmarkRetrLarge is RETR of 1 MiB.
func BenchmarkRetrLarge(b *testing.B) {
	addr := benchServer(b, letter(1<<20, "a"))
	c := dial(b, addr)
	c.login(b)
	b.SetBytes(1 << 20)
	b.ReportAllocs()
	for b.Loop() {
		c.send(b, "RETR 1\r\n")
		c.ok(b)
		left := 1<<20 + 3
		for left > 0 {
			n, err := c.r.Discard(min(left, max(c.r.Buffered(), 1)))
			if err != nil {
				b.Fatal(err)
			}
			left -= n
		}
	}
}

// BenchmarkListings is connect, login, UIDL and LIST of 10,000 messages, QUIT.
func BenchmarkListings(b *testing.B) {
	var m []droptest.Message
	for i := range 10000 {
		m = append(m, droptest.Message{UniqueID: fmt.Sprintf("%026d", i), Octets: []byte("a: b\r\n\r\n")})
	}
	addr := benchServer(b, m...)
	b.ReportAllocs()
	for b.Loop() {
		c := dial(b, addr)
		c.login(b)
		c.send(b, "UIDL\r\nLIST\r\nQUIT\r\n")
		c.multi(b)
		c.multi(b)
		c.ok(b)
		c.Close()
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sessions/s")
}

// BenchmarkPoll is connect, login, STAT, QUIT in lock step.
func BenchmarkPoll(b *testing.B) {
	addr := benchServer(b, hundred()...)
	b.ReportAllocs()
	for b.Loop() {
		c := dial(b, addr)
		c.login(b)
		c.send(b, "STAT\r\n")
		c.ok(b)
		c.send(b, "QUIT\r\n")
		c.ok(b)
		c.Close()
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sessions/s")
}

// BenchmarkRetrSessions is 100 × RETR of 4 KiB one by one, 10 sessions for each
// processor at once.
func BenchmarkRetrSessions(b *testing.B) {
	addr := benchServer(b, hundred()...)
	b.SetParallelism(10)
	b.SetBytes(100 * 4096)
	b.RunParallel(func(pb *testing.PB) {
		c := dial(b, addr)
		c.login(b)
		for pb.Next() {
			for i := range 100 {
				c.send(b, fmt.Sprintf("RETR %d\r\n", i+1))
				c.multi(b)
			}
		}
	})
	b.ReportMetric(float64(b.N)*100/b.Elapsed().Seconds(), "messages/s")
}
