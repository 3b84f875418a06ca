package poptest

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"poczta.example/poczta/internal/pop3"
)

// transactionChecks are those of the TRANSACTION state and of pipelining.
var transactionChecks = []check{
	{70, "STAT: number and octets, each after one space", "RFC 1939 §5", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).login, func(c *client) error {
			_, _, err := c.stat()
			return err
		})
	}},
	{71, "NOOP: +OK", "RFC 1939 §5", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).login, func(c *client) error { return c.ok("NOOP") })
	}},
	{72, "USER and PASS after the login: -ERR", "RFC 1939 §5", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).login, func(c *client) error {
			return c.refuses("NOOP", "USER "+s.config.User, "PASS "+s.config.Password)
		})
	}},
	{73, "unknown commands after the login: -ERR, and the session goes on", "RFC 1939 §3", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).login, func(c *client) error { return c.refuses("NOOP", "BLURDYBLOOP", "XTND") })
	}},
	{74, "superfluous arguments: -ERR", "RFC 1939 §5", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).login, func(c *client) error {
			for _, command := range []string{"STAT 1", "NOOP x", "RSET 1"} {
				r, err := c.do(command)
				if err != nil {
					return err
				}
				if r.Status == pop3.StatusOK {
					return info("%s is taken", command)
				}
			}
			return nil
		})
	}},
	{75, "QUIT: +OK, and the connection is closed", "RFC 1939 §6", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).login, func(c *client) error {
			if err := c.ok("QUIT"); err != nil {
				return err
			}
			if !c.ended() {
				return fail("connection closed", "connection stays open")
			}
			return nil
		})
	}},
	{76, "60 pipelined commands are answered in order", "RFC 2449 §6.6", pipelined},
	{77, "login, STAT and QUIT in one packet", "RFC 2449 §6.6", func(s *Suite, ctx context.Context) error {
		if err := s.needs("PIPELINING"); err != nil {
			return err
		}
		return s.with(ctx, (*Suite).secure, func(c *client) error {
			if err := c.send("USER " + s.config.User + "\r\nPASS " + s.config.Password + "\r\nSTAT\r\nQUIT\r\n"); err != nil {
				return err
			}
			for _, name := range []string{"USER", "PASS", "STAT", "QUIT"} {
				if r, err := c.reply(); err != nil || r.Status != pop3.StatusOK {
					return fail("+OK to each", fmt.Sprintf("%s: %s %v", name, show(r), err))
				}
			}
			return nil
		})
	}},
	{78, "two sessions of one mailbox at once", "RFC 1939 §4", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).login, func(*client) error {
			if _, err := s.login(ctx); err != nil {
				return info("the second is refused: %v", err)
			}
			return info("both are served")
		})
	}},
}

// stat asks STAT and reads its drop listing.
func (c *client) stat() (messages, octets int64, err error) {
	r, err := c.do("STAT")
	if err != nil {
		return 0, 0, err
	}
	n, m, ok := pair(r.Text)
	if r.Status != pop3.StatusOK || !ok {
		return 0, 0, fail("+OK nn mm", show(r))
	}
	octets, err = strconv.ParseInt(strings.Fields(m)[0], 10, 64)
	if err != nil {
		return 0, 0, fail("+OK nn mm", show(r))
	}
	return n, octets, nil
}

// pair splits "nn text".
func pair(text string) (n int64, rest string, ok bool) {
	first, rest, found := strings.Cut(text, " ")
	n, err := strconv.ParseInt(first, 10, 64)
	return n, rest, err == nil && found && rest != "" && rest[0] != ' '
}

// pipelined sends NOOP and RETR 0 by turns: +OK and -ERR must come by turns.
func pipelined(s *Suite, ctx context.Context) error {
	return s.with(ctx, (*Suite).login, func(c *client) error {
		if err := c.send(strings.Repeat("NOOP\r\nRETR 0\r\nSTAT\r\n", 20)); err != nil {
			return err
		}
		for i := range 60 {
			r, err := c.reply()
			if err != nil {
				return fail("60 replies", fmt.Sprintf("%d, then %v", i, err))
			}
			if want := i%3 != 1; (r.Status == pop3.StatusOK) != want {
				return fail("+OK -ERR +OK by turns", fmt.Sprintf("reply %d is %s", i+1, show(r)))
			}
		}
		return c.ok("QUIT")
	})
}
