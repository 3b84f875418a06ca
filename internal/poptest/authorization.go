package poptest

import (
	"context"
	"fmt"
	"strings"
	"time"

	"poczta.example/poczta/internal/pop3"
)

// authorizationChecks are those of the AUTHORIZATION state and of command lines.
var authorizationChecks = []check{
	{1, "greeting is +OK", "RFC 1939 §4", func(s *Suite, ctx context.Context) error {
		_, err := s.connect(ctx)
		return err
	}},
	{2, "QUIT in AUTHORIZATION: +OK, and the connection is closed", "RFC 1939 §4", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).connect, func(c *client) error {
			if err := c.ok("QUIT"); err != nil {
				return err
			}
			if !c.ended() {
				return fail("connection closed", "connection stays open")
			}
			return nil
		})
	}},
	{3, "keywords in any case of letters", "RFC 1939 §3", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).connect, func(c *client) error { return c.ok("qUiT") })
	}},
	{4, "unknown commands: -ERR, and the session goes on", "RFC 1939 §3", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).connect, func(c *client) error { return c.refuses("QUIT", "BLURDYBLOOP", "QUITE") })
	}},
	{5, "an empty line: -ERR", "RFC 1939 §3", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).connect, func(c *client) error { return c.refuses("QUIT", "") })
	}},
	{6, "STAT LIST RETR DELE before a login: -ERR", "RFC 1939 §4", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).connect, func(c *client) error { return c.refuses("", "STAT", "LIST", "RETR 1", "DELE 1") })
	}},
	{7, "NOOP RSET TOP UIDL before a login: -ERR", "RFC 1939 §5", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).connect, func(c *client) error { return c.refuses("", "RSET", "TOP 1 0", "UIDL", "NOOP") })
	}},
	{8, "PASS without USER: -ERR", "RFC 1939 §7", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).secure, func(c *client) error { return c.refuses("", "PASS "+s.config.Password) })
	}},
	{9, "USER without argument: -ERR", "RFC 1939 §7", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).secure, func(c *client) error { return c.refuses("", "USER") })
	}},
	{10, "wrong password: -ERR", "RFC 1939 §7", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).secure, func(c *client) error {
			_, err := c.wrongPassword(s.config.User)
			return err
		})
	}},
	{11, "wrong password has [AUTH] where AUTH-RESP-CODE is announced", "RFC 3206 §6", func(s *Suite, ctx context.Context) error {
		if err := s.needs("AUTH-RESP-CODE"); err != nil {
			return err
		}
		return s.with(ctx, (*Suite).secure, func(c *client) error {
			r, err := c.wrongPassword(s.config.User)
			if err == nil && !r.Code.Is(pop3.CodeAuth) {
				return fail("-ERR [AUTH]", show(r))
			}
			return err
		})
	}},
	{12, "USER does not tell who exists", "RFC 1939 §13", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).secure, func(c *client) error { return c.ok("USER no-such-user-0815") })
	}},
	{13, "after a failed login another is possible", "RFC 1939 §4", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).secure, func(c *client) error {
			if _, err := c.wrongPassword(s.config.User); err != nil {
				return err
			}
			if r, err := c.do("USER " + s.config.User); err != nil || r.Status != pop3.StatusOK {
				return info("the session ends after one failed login")
			}
			return c.ok("PASS " + s.config.Password)
		})
	}},
	{14, "a command of 255 octets is one command", "RFC 2449 §4", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).connect, func(c *client) error {
			return c.oneReply("USER " + strings.Repeat("u", 248) + "\r\n")
		})
	}},
	{15, "a line of 8,000 octets: one -ERR, or the end", "RFC 2449 §4", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).connect, func(c *client) error { return c.oneReply(strings.Repeat("STAT ", 1600) + "\r\n") })
	}},
	{16, "1 MiB without line end is not kept reading for ever", "RFC 2449 §4", flood},
	{17, "NUL and control characters: -ERR, or the end", "RFC 1939 §3", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).connect, func(c *client) error { return c.oneReply("ST\x00AT\x01\x02\x7f\r\n") })
	}},
	{18, "octets over 127 as keyword: -ERR, or the end", "RFC 1939 §3", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).connect, func(c *client) error { return c.oneReply("\xff\xfe\xfd\xfc\r\n") })
	}},
	{19, "a command that comes octet by octet is answered once", "RFC 1939 §3", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).connect, func(c *client) error {
			for _, b := range []byte("QUIT\r\n") {
				if err := c.send(string(b)); err != nil {
					return err
				}
			}
			_, err := c.reply()
			return err
		})
	}},
	{20, "a command ended by LF alone", "RFC 1939 §3", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).connect, func(c *client) error {
			if err := c.send("QUIT\n"); err != nil {
				return err
			}
			if c.quiet(500 * time.Millisecond) {
				return info("waits for CRLF")
			}
			return info("is taken as a command")
		})
	}},
	{21, "a command ended by CR alone is no command", "RFC 1939 §3", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).connect, func(c *client) error {
			if err := c.send("QUIT\r"); err != nil {
				return err
			}
			if !c.quiet(500 * time.Millisecond) {
				return fail("the server waits for LF", "a reply")
			}
			return nil
		})
	}},
}

// with opens a connection and runs f on it.
func (s *Suite) with(ctx context.Context, open func(*Suite, context.Context) (*client, error), f func(*client) error) error {
	c, err := open(s, ctx)
	if err != nil {
		return err
	}
	return f(c)
}

// refuses sends commands that must be answered -ERR, and then, if not empty,
// one that must be +OK.
func (c *client) refuses(then string, commands ...string) error {
	for _, command := range commands {
		if err := c.err(command); err != nil {
			return err
		}
	}
	if then == "" {
		return nil
	}
	return c.ok(then)
}

// wrongPassword tries to log in with a wrong password.
func (c *client) wrongPassword(user string) (pop3.Reply, error) {
	if err := c.ok("USER " + user); err != nil {
		return pop3.Reply{}, err
	}
	r, err := c.do("PASS not-" + c.suite.config.Password)
	if err == nil && r.Status != pop3.StatusErr {
		return r, fail("-ERR", show(r))
	}
	return r, err
}

// oneReply sends a line and expects either one reply that is followed by the
// right reply to QUIT, or the end of the connection.
func (c *client) oneReply(line string) error {
	if err := c.send(line); err != nil {
		return nil // closed while we wrote
	}
	r, err := c.reply()
	if err != nil {
		if c.ended() {
			return nil
		}
		return err
	}
	if r.Status == pop3.StatusOK && !strings.HasPrefix(line, "USER ") {
		return fail("-ERR", show(r))
	}
	if !c.quiet(200 * time.Millisecond) {
		if c.ended() {
			return nil
		}
		return fail("one reply", "several")
	}
	return c.ok("QUIT")
}

// flood sends up to 1 MiB without a line end and looks when the server has enough.
func flood(s *Suite, ctx context.Context) error {
	return s.with(ctx, (*Suite).connect, func(c *client) error {
		block := strings.Repeat("x", 64<<10)
		for i := range 16 {
			if err := c.send(block); err != nil {
				return info("the server ends the session within %d KiB", 64*(i+1))
			}
		}
		if !c.quiet(500 * time.Millisecond) {
			r, _ := c.reply()
			return info("the server answers %s before the line ends", show(r))
		}
		if err := c.send("\r\n"); err != nil {
			return info("the server ends the session after 1 MiB")
		}
		r, err := c.reply()
		if err != nil {
			return info("the server ends the session after 1 MiB")
		}
		if r.Status != pop3.StatusErr {
			return fail("-ERR", show(r))
		}
		return info("%s", fmt.Sprintf("the server reads 1 MiB and answers %s", show(r)))
	})
}
