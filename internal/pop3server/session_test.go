package pop3server_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"poczta.example/poczta/internal/mailtest/memconn"
	"poczta.example/poczta/internal/pop3"
	"poczta.example/poczta/internal/pop3server"
	"poczta.example/poczta/internal/pop3server/droptest"
)

func want(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestDroppedConnectionDeletesNothing ends sessions with marks in every way but
// QUIT (RFC 1939 §6).
func TestDroppedConnectionDeletesNothing(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"close", "half a command", "autologout", "shutdown", "errors", "QUIT without line end"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			inBubble(t, nil, func(b *bubble) {
				golden(b.post)
				p := b.dial()
				p.login("mrose")
				want(t, p.say("DELE 1\r\nDELE 2\r\n"), "+OK marked as deleted\r\n+OK marked as deleted\r\n")
				switch how {
				case "half a command":
					p.say("QUI")
				case "QUIT without line end":
					p.say("QUIT")
				case "autologout":
					<-time.After(10*time.Minute + time.Second)
					want(t, p.take(), "") // RFC 1939 §3: no response
					if !p.closed() {
						t.Error("connection is open after the autologout time")
					}
				case "shutdown":
					if err := b.server.Shutdown(context.Background()); err != nil {
						t.Error(err)
					}
					want(t, p.take(), "-ERR [SYS/TEMP] server is shutting down; nothing was deleted\r\n")
				case "errors":
					got := p.say(strings.Repeat("FOO\r\n", 30))
					if !strings.HasSuffix(got, "-ERR too many errors\r\n") || !p.closed() {
						t.Errorf("30 bad commands: got %q", got)
					}
				}
				p.close()
				settle()
				if n := len(b.post.Messages("mrose")); n != 2 {
					t.Errorf("%d messages are left, want 2", n)
				}
			})
		})
	}
}

// TestQuitDeletes checks the UPDATE state, also when the transaction fails.
func TestQuitDeletes(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(b *bubble) {
		golden(b.post)
		p := b.dial()
		p.login("mrose")
		p.say("DELE 1\r\n")
		b.post.Fail(nil, droptest.ErrDisk)
		want(t, p.say("QUIT\r\n"), "-ERR [SYS/TEMP] nothing was deleted; try again later\r\n")
		if !p.closed() {
			t.Error("session goes on after QUIT")
		}
		if n := len(b.post.Messages("mrose")); n != 2 {
			t.Fatalf("%d messages are left after a failed QUIT, want 2", n)
		}
		b.post.Fail(nil, nil)
		p = b.dial()
		p.login("mrose")
		want(t, p.say("DELE 1\r\nQUIT\r\nSTAT\r\n"), "+OK marked as deleted\r\n+OK deleted, bye\r\n")
		left := b.post.Messages("mrose")
		if len(left) != 1 || left[0].UniqueID != letter200().UniqueID {
			t.Errorf("after DELE 1 and QUIT %d messages are left", len(left))
		}
	})
}

// TestBrokenMessages checks that a damaged message is never taken for whole.
func TestBrokenMessages(t *testing.T) {
	t.Parallel()
	big := letter(200_000, "big")
	big.ReadErr = errors.New("checksum is wrong")
	small := letter120()
	small.ReadErr, small.ReadShort = errors.New("checksum is wrong"), 10
	short := letter120()
	short.ReadErr, short.ReadShort = io.EOF, 1
	coded := letter120()
	coded.ReadErr = &pop3.Error{Code: pop3.CodeSysPerm, Text: "body is damaged", Err: errors.New("secret path")}
	long := letter120()
	long.Extra = []byte("x")
	inBubble(t, nil, func(b *bubble) {
		b.post.Fill("mrose", small, short, coded, letter120(), big, long)
		p := b.dial()
		p.login("mrose")
		want(t, p.say("RETR 1\r\n"), "-ERR [SYS/TEMP] message cannot be read for the moment; try again later\r\n")
		want(t, p.say("RETR 2\r\n"), "-ERR [SYS/PERM] message is damaged; tell the administrator\r\n")
		want(t, p.say("RETR 3\r\n"), "-ERR [SYS/PERM] body is damaged\r\n")
		want(t, p.say("RETR 6\r\n"), "-ERR [SYS/PERM] message is damaged; tell the administrator\r\n")
		if got := p.say("RETR 4\r\nTOP 1 0\r\n"); strings.Count(got, "\r\n.\r\n") != 2 {
			t.Errorf("RETR of a good message and TOP of a bad one's header: got %q", got)
		}
		got := p.say("RETR 5\r\nNOOP\r\n")
		if strings.Contains(got, "\r\n.\r\n") || !p.closed() {
			t.Errorf("a message that broke after %d octets was ended by a dot, or the session went on", len(got))
		}
	})
}

// TestSTLSInjection sends plaintext behind STLS: it must not be run, before or after the handshake.
func TestSTLSInjection(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(b *bubble) {
		p := b.dial()
		p.take()
		want(t, p.say("STLS\r\nCAPA\r\n"), "-ERR nothing may follow STLS before TLS begins\r\n")
		if !p.closed() {
			t.Error("session goes on after plaintext behind STLS")
		}
		p = b.dial()
		p.take()
		want(t, p.say("USER mrose\r\n"), "+OK send PASS\r\n")
		want(t, p.say("LANG pl\r\n"), "+OK pl zmieniono język\r\n")
		p.say("STLS\r\n")
		if err := p.startTLS(); err != nil {
			t.Fatal(err)
		}
		// What was said in the clear is forgotten: the name, the language.
		want(t, p.say("PASS secret\r\n"), "-ERR send USER first\r\n")
		p.close()
		p = b.dial()
		p.take()
		p.say("STLS\r\n")
		got := p.say("this is no ClientHello\r\n")
		if !p.closed() || strings.Contains(got, "ERR") || strings.Contains(got, "OK") {
			t.Errorf("no TLS after STLS: got %q", got)
		}
	})
}

// TestUnavailable maps the collaborators' failures to response codes.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(b *bubble) {
		p := b.dial()
		p.take()
		b.post.Fail(droptest.ErrDisk, nil)
		want(t, p.say("USER mrose\r\nPASS secret\r\n"), "+OK send PASS\r\n-ERR [SYS/TEMP] maildrop is unavailable for the moment; try again later\r\n")
		b.post.Fail(&pop3.Error{Code: pop3.CodeInUse, Text: "another session is open"}, nil)
		want(t, p.say("USER mrose\r\nPASS secret\r\nSTAT\r\n"), "+OK send PASS\r\n-ERR [IN-USE] another session is open\r\n-ERR command is not valid in this state\r\n")
		b.post.Fail(nil, nil)
		want(t, p.say("USER mrose\r\nPASS secret\r\n"), "+OK send PASS\r\n+OK maildrop has 0 messages (0 octets)\r\n")
		want(t, p.say("LIST\r\nUIDL\r\nSTAT\r\nRETR 1\r\n"), "+OK 0 messages\r\n.\r\n+OK 0 messages\r\n.\r\n+OK 0 0\r\n-ERR no such message\r\n")
	})
}

// TestLoginDelay checks RFC 2449 §6.5.
func TestLoginDelay(t *testing.T) {
	t.Parallel()
	inBubble(t, func(c *pop3server.Config) { c.LoginDelay = 5 * time.Minute }, func(b *bubble) {
		for range 2 {
			p := b.dial()
			p.login("mrose")
			p.say("QUIT\r\n")
			p = b.dial()
			p.take()
			want(t, p.say("USER mrose\r\nPASS secret\r\n"), "+OK send PASS\r\n-ERR [LOGIN-DELAY] too early after the last login; wait\r\n")
			want(t, p.say("USER ala\r\nPASS wrong\r\n"), "+OK send PASS\r\n-ERR [AUTH] login name or password is wrong\r\n")
			p.close()
			<-time.After(5 * time.Minute)
		}
	})
}

// TestProxyAndAdmit checks who is believed to be who.
func TestProxyAndAdmit(t *testing.T) {
	t.Parallel()
	var seen []netip.AddrPort
	released := 0
	change := func(c *pop3server.Config) {
		c.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		c.Admit = func(peer netip.AddrPort) (func(), error) {
			seen = append(seen, peer)
			if peer.Addr() == netip.MustParseAddr("192.0.2.9") {
				return nil, &pop3.Error{Code: pop3.CodeSysTemp, Text: "too many connections from your address"}
			}
			return func() { released++ }, nil
		}
	}
	inBubble(t, change, func(b *bubble) {
		p := b.dialFrom("10.1.2.3:5")
		_, _ = io.WriteString(p.conn, "PROXY TCP4 127.0.0.9 192.0.2.1 4711 110\r\nUSER mrose\r\nPASS secret\r\nQUIT\r\n")
		want(t, p.take(), "+OK mail.example.org POP3 server ready\r\n+OK send PASS\r\n+OK maildrop has 0 messages (0 octets)\r\n+OK bye\r\n")
		p = b.dialFrom("10.1.2.3:6")
		_, _ = io.WriteString(p.conn, "PROXY TCP4 192.0.2.9 192.0.2.1 4711 110\r\n")
		want(t, p.take(), "-ERR [SYS/TEMP] too many connections from your address\r\n")
		p = b.dialFrom("10.1.2.3:7")
		if got := p.say("USER mrose\r\n"); got != "" || !p.closed() {
			t.Errorf("a named peer without PROXY header got %q", got)
		}
		p = b.dialFrom("10.1.2.3:8") // says nothing
		if settle(); !p.closed() {
			t.Error("a named peer that says nothing is not closed")
		}
		// A peer not named can't pretend: its header is a bad command, and it may not use plain passwords.
		p = b.dialFrom("192.0.2.7:5")
		p.take()
		want(t, p.say("PROXY TCP4 127.0.0.9 192.0.2.1 4711 110\r\n"), "-ERR unknown command\r\n")
		want(t, p.say("USER mrose\r\n"), "-ERR use STLS first: passwords are not taken in the clear\r\n")
		p.close()
		settle()
		want(t, seen[0].String()+" "+seen[1].String()+" "+seen[2].String(), "127.0.0.9:4711 192.0.2.9:4711 192.0.2.7:5")
		if len(seen) != 3 || released != 2 {
			t.Errorf("admitted %d times and released %d times, want 3 and 2", len(seen), released)
		}
	})
}

// TestStalls checks that a peer that stops at any point costs a bounded time.
func TestStalls(t *testing.T) {
	t.Parallel()
	for name, stall := range map[string]func(*bubble) *peer{
		"before greeting is read": func(b *bubble) *peer { return b.dial() },
		"within a command": func(b *bubble) *peer {
			p := b.dial()
			p.say("NO")
			return p
		},
		"within AUTH": func(b *bubble) *peer {
			p := b.dial()
			p.say("AUTH PLAIN\r\n")
			return p
		},
		"within the handshake": func(b *bubble) *peer {
			p := b.dial()
			p.say("STLS\r\n")
			return p
		},
		"octet by octet": func(b *bubble) *peer {
			p := b.dial()
			for range 45 { // a line that takes longer than the autologout time
				_, _ = p.conn.Write([]byte("x"))
				<-time.After(20 * time.Second)
			}
			return p
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, nil, func(b *bubble) {
				p := stall(b)
				<-time.After(10*time.Minute + time.Second)
				if !p.closed() {
					t.Error("connection is open after the autologout time")
				}
				p.close()
			})
		})
	}
}

// TestAutologoutIsNotEarly checks that every command, however soon after another,
// begins the whole time anew (RFC 1939 §3).
func TestAutologoutIsNotEarly(t *testing.T) {
	t.Parallel()
	for _, pause := range []time.Duration{0, 499 * time.Millisecond, 500 * time.Millisecond, 5 * time.Minute} {
		t.Run(pause.String(), func(t *testing.T) {
			t.Parallel()
			inBubble(t, nil, func(b *bubble) {
				golden(b.post)
				p := b.dial()
				p.login("mrose")
				_, _ = io.WriteString(p.conn, "STAT\r\n")
				<-time.After(pause)
				_, _ = io.WriteString(p.conn, "STAT\r\n")
				<-time.After(pop3server.DefaultIdleTimeout - time.Nanosecond) // say would wait longer
				want(t, p.say("STAT\r\n"), strings.Repeat("+OK 2 320\r\n", 3))
				<-time.After(pop3server.DefaultIdleTimeout)
				if !p.closed() {
					t.Error("connection is open after the autologout time")
				}
				p.close()
			})
		})
	}
}

// TestPeerThatDoesNotRead asks for a lot and reads nothing.
func TestPeerThatDoesNotRead(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(b *bubble) {
		b.post.Fill("mrose", letter(1<<20, "big"))
		p := b.dial()
		p.login("mrose")
		_ = p.conn.SetReadDeadline(time.Unix(1, 0))
		<-p.stopped
		_, _ = io.WriteString(p.conn, "DELE 1\r\nRSET\r\nRETR 1\r\n")
		<-time.After(pop3server.DefaultWriteTimeout + time.Second)
		synctest.Wait()
		if n := b.post.Opened(); n != 0 {
			t.Error("session goes on while the peer does not read")
		}
	})
}

// TestShutdownCutsAfterGrace checks the second step of a stop.
func TestShutdownCutsAfterGrace(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(b *bubble) {
		b.post.Fill("mrose", letter(1<<20, "big"))
		p := b.dial()
		p.login("mrose")
		_ = p.conn.SetReadDeadline(time.Unix(1, 0))
		<-p.stopped
		_, _ = io.WriteString(p.conn, "RETR 1\r\n") // runs as long as we do not read
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		begin := time.Now()
		if err := b.server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown: got %v, want deadline exceeded", err)
		}
		if took := time.Since(begin); took != 30*time.Second {
			t.Errorf("Shutdown took %v, want 30s", took)
		}
	})
}

// TestImplicitTLS checks port 995.
func TestImplicitTLS(t *testing.T) {
	t.Parallel()
	inBubble(t, func(c *pop3server.Config) { c.PlaintextFrom = nil }, func(b *bubble) {
		golden(b.post)
		p := b.dialTLS()
		want(t, p.take(), "+OK mail.example.org POP3 server ready\r\n")
		want(t, p.say("STLS\r\n"), "-ERR TLS is active already\r\n")
		p.login("mrose")
		if got := p.say("RETR 1\r\nCAPA\r\n"); !strings.Contains(got, "xx\r\n.\r\n+OK") || strings.Contains(got, "STLS") {
			t.Errorf("got %q", got)
		}
		p.close()
	})
}

// TestConfig checks that a wrong configuration is refused as a whole.
func TestConfig(t *testing.T) {
	t.Parallel()
	_, err := pop3server.New(pop3server.Config{IdleTimeout: time.Minute, ErrorDelay: -1, Language: "xx"})
	if err == nil {
		t.Fatal("got no error")
	}
	for _, part := range []string{"Maildrops", "Verifier", "Hostname", "IdleTimeout", "negative", "Language"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not name %s", err, part)
		}
	}
}

// TestHooks checks that what happens is told.
func TestHooks(t *testing.T) {
	t.Parallel()
	var told []string
	tell := func(s string) { told = append(told, s) }
	change := func(c *pop3server.Config) {
		c.Hooks = pop3server.Hooks{
			SessionBegin: func() { tell("begin") },
			SessionEnd:   func(_ time.Duration, in, out int64) { tell("end") },
			Login:        func(m, r string, _ time.Duration) { tell("login " + m + " " + r) },
			Command: func(v pop3.Verb, ok bool, _ time.Duration) {
				if v == pop3.VerbNone {
					tell("unknown")
				}
			},
			Retrieved: func(octets int64, _ time.Duration) { tell("retrieved " + strings.Repeat("x", int(octets/100))) },
			Removed:   func(n int, err error) { tell("removed") },
		}
	}
	inBubble(t, change, func(b *bubble) {
		golden(b.post)
		p := b.dial()
		p.login("mrose")
		p.say("RETR 2\r\nFOO\r\nDELE 1\r\nQUIT\r\n")
		want(t, strings.Join(told, ", "), "begin, login USER ok, retrieved xx, unknown, removed, end")
	})
}

// TestTimer checks that nine minutes of silence are allowed again and again
// (RFC 1939 §3), and that a half-closed connection still gets its replies.
func TestTimer(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(b *bubble) {
		golden(b.post)
		p := b.dial()
		p.take()
		for _, command := range []string{"USER mrose", "PASS secret", "NOOP", "DELE 1", "QUIT"} {
			<-time.After(9 * time.Minute)
			if got := p.say(command + "\r\n"); !strings.HasPrefix(got, "+OK") {
				t.Errorf("%s: got %q", command, got)
			}
		}
		client, server := memconn.PairFrom(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000})
		b.plain.conns <- server
		_, _ = io.WriteString(client, "USER mrose\r\nPASS secret\r\nSTAT\r\nDELE 1\r\n")
		_ = client.CloseWrite()
		got, err := io.ReadAll(client)
		if err != nil || !strings.HasSuffix(string(got), "+OK 1 200\r\n+OK marked as deleted\r\n") {
			t.Errorf("half-closed: got %q, %v", got, err)
		}
		if n := len(b.post.Messages("mrose")); n != 1 {
			t.Errorf("%d messages are left, want 1", n)
		}
	})
}

// TestFlood sends a line without end: it is skipped for a while, then the session ends.
func TestFlood(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(b *bubble) {
		p := b.dial()
		p.take()
		got := p.say(strings.Repeat("x", 200<<10))
		if got != "-ERR line is too long\r\n" || !p.closed() {
			t.Errorf("after 200 KiB without line end: got %q", got)
		}
	})
}
