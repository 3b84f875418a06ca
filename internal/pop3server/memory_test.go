package pop3server_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"runtime/debug"
	"testing"

	"poczta.example/poczta/internal/pop3server"
	"poczta.example/poczta/internal/pop3server/droptest"
	"poczta.example/poczta/internal/sasl"
)

// idleLimit and idleTLSLimit are the octets that an idle session may hold, the
// client's end in the same process included: 10,000 strangers in 100 MiB, 10,000
// logged-in TLS sessions in 400 MiB.
const (
	idleLimit    = 100 << 20 / 10000
	idleTLSLimit = 400 << 20 / 10000
)

func inUse() int64 {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// TestIdleMemory opens many sessions and looks what they hold. Not parallel: it
// measures the process.
func TestIdleMemory(t *testing.T) {
	const sessions = 1000
	post := droptest.New("secret", "ala")
	post.Fill("ala", hundred()...)
	cert, _, err := droptest.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	c := pop3server.Config{Maildrops: post, Verifier: post, Hostname: "mail.example.org", PlaintextFrom: loopback,
		TLS: &tls.Config{Certificates: []tls.Certificate{cert}}}
	for _, tt := range []struct {
		name  string
		tls   bool
		limit int64
	}{{"strangers", false, idleLimit}, {"logged in under TLS", true, idleTLSLimit}} {
		t.Run(tt.name, func(t *testing.T) {
			addr := listen(t, c, tt.tls)
			before := inUse()
			conns := make([]net.Conn, 0, sessions)
			clients := make([]*tls.Conn, 0, sessions)
			for range sessions {
				conn, err := net.Dial("tcp", addr)
				if err != nil {
					t.Skipf("open %d connections: %v: raise the limit of open files", sessions, err)
				}
				defer conn.Close()
				conns = append(conns, conn)
				if tt.tls {
					clients = append(clients, loginTLS(t, conn))
				} else if _, err := conn.Read(make([]byte, 512)); err != nil {
					t.Fatal(err)
				}
			}
			// Half of a TLS pair is the client's; a session of the real thing has one.
			per := (inUse() - before) / int64(len(conns))
			t.Logf("an idle session (%s) holds %d octets, both ends of it", tt.name, per)
			if per > tt.limit {
				t.Errorf("an idle session holds %d octets, the limit is %d", per, tt.limit)
			}
			runtime.KeepAlive(clients)
		})
	}
}

func loginTLS(t *testing.T, conn net.Conn) *tls.Conn {
	t.Helper()
	c := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	r := bufio.NewReaderSize(c, 512)
	fmt.Fprint(c, "USER ala\r\nPASS secret\r\nRETR 1\r\nSTAT\r\n")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line == "+OK 100 409600\r\n" {
			return c
		}
	}
}

// TestPipelinedRepliesLeaveTogether counts writes: 100 pipelined commands must
// not cost 100 writes.
func TestPipelinedRepliesLeaveTogether(t *testing.T) {
	t.Parallel()
	post := droptest.New("secret", "ala")
	s, err := pop3server.New(pop3server.Config{Maildrops: post, Verifier: post, Hostname: "mail.example.org", PlaintextFrom: loopback})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	counted := &countingListener{Listener: l, writes: make(chan int, 1000)}
	done := make(chan error, 1)
	go func() { done <- s.Serve(t.Context(), counted) }()
	c := dial(t, l.Addr().String())
	c.login(t)
	before := len(counted.writes)
	all := ""
	for range 40 {
		all += "NOOP\r\n"
	}
	c.send(t, all)
	for range 40 {
		c.ok(t)
	}
	if n := len(counted.writes) - before; n > 2 {
		t.Errorf("40 pipelined replies took %d writes, want 1, or 2 when they came in two pieces", n)
	}
	c.send(t, "QUIT\r\n")
	c.ok(t)
	_ = l.Close()
	if err := <-done; err == nil {
		t.Error("Serve returned nil though its listener was closed by others")
	}
}

type countingListener struct {
	net.Listener
	writes chan int
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return countingConn{c, l.writes}, err
}

type countingConn struct {
	net.Conn
	writes chan int
}

func (c countingConn) Write(p []byte) (int, error) {
	c.writes <- len(p)
	return c.Conn.Write(p)
}

// million is a maildrop of 1,000,000 messages that takes no memory.
type million struct{}

func (million) Open(context.Context, sasl.Identity, bool) (pop3server.Maildrop, error) {
	return million{}, nil
}
func (million) Len() int                              { return 1_000_000 }
func (million) TotalOctets() int64                    { return 1_000_000 * 5_000_000_000 }
func (million) Octets(int) int64                      { return 5_000_000_000 }
func (million) AppendUniqueID(b []byte, i int) []byte { return fmt.Appendf(b, "id%07d", i) }
func (million) Remove(context.Context, []int) error   { return nil }
func (million) Close()                                {}
func (million) Read(context.Context, int) (io.ReadCloser, bool, error) {
	return nil, false, errors.New("not there")
}

// TestMillion lists a mailbox of 1,000,000 messages and 5 PB: nothing is
// allocated for the listing, and sums do not overflow. Not parallel: it counts
// allocations.
func TestMillion(t *testing.T) {
	post := droptest.New("secret", "ala")
	addr := listen(t, pop3server.Config{Maildrops: million{}, Verifier: post, Hostname: "mail.example.org", PlaintextFrom: loopback}, false)
	c := dial(t, addr)
	c.login(t)
	c.send(t, "STAT\r\n")
	if line, err := c.r.ReadString('\n'); line != "+OK 1000000 5000000000000000\r\n" {
		t.Fatalf("STAT: got %q, %v", line, err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	c.send(t, "LIST\r\nDELE 1000000\r\nLIST\r\n")
	c.multi(t)
	c.ok(t)
	c.multi(t)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("LIST of 1,000,000 messages, twice, allocated %d octets", n)
	}
	c.send(t, "STAT\r\nQUIT\r\n")
	if line, err := c.r.ReadString('\n'); line != "+OK 999999 4999995000000000\r\n" {
		t.Fatalf("STAT: got %q, %v", line, err)
	}
	c.ok(t)
}

// BenchmarkMillion is LIST of 1,000,000 messages.
func BenchmarkMillion(b *testing.B) {
	post := droptest.New("secret", "ala")
	addr := listen(b, pop3server.Config{Maildrops: million{}, Verifier: post, Hostname: "mail.example.org", PlaintextFrom: loopback}, false)
	c := dial(b, addr)
	c.login(b)
	b.ReportAllocs()
	for b.Loop() {
		c.send(b, "LIST\r\n")
		c.multi(b)
	}
}
