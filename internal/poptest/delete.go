package poptest

import (
	"context"
	"fmt"
	"slices"

	"poczta.example/poczta/internal/pop3"
)

// deleteChecks are those of DELE, RSET and the UPDATE state. They run only when
// Config.Destructive allows it.
var deleteChecks = []check{
	{120, "DELE marks: no number, no listing, not counted; others keep their numbers", "RFC 1939 §5", destructive(2, marking)},
	{121, "RSET takes the marks back", "RFC 1939 §5", destructive(1, func(s *Suite, ctx context.Context, c *client, ids []string) error {
		n, octets, err := c.stat()
		if err != nil {
			return err
		}
		if err := c.ok("DELE 1"); err != nil {
			return err
		}
		if err := c.ok("RSET"); err != nil {
			return err
		}
		m, after, err := c.stat()
		if err == nil && (m != n || after != octets) {
			return fail(fmt.Sprintf("+OK %d %d", n, octets), fmt.Sprintf("+OK %d %d", m, after))
		}
		if err != nil {
			return err
		}
		return c.ok("QUIT")
	})},
	{122, "a dropped connection deletes nothing", "RFC 1939 §6", destructive(1, func(s *Suite, ctx context.Context, c *client, ids []string) error {
		if err := c.ok("DELE 1"); err != nil {
			return err
		}
		_ = c.conn.Close()
		return s.left(ctx, ids)
	})},
	{123, "QUIT without its line end deletes nothing", "RFC 1939 §6", destructive(1, func(s *Suite, ctx context.Context, c *client, ids []string) error {
		if err := c.ok("DELE 1"); err != nil {
			return err
		}
		if err := c.send("QUIT"); err != nil {
			return err
		}
		_ = c.conn.Close()
		return s.left(ctx, ids)
	})},
	{124, "DELE and QUIT delete exactly what was marked", "RFC 1939 §6", destructive(3, func(s *Suite, ctx context.Context, c *client, ids []string) error {
		for _, command := range []string{"DELE 2", "QUIT"} {
			if err := c.ok(command); err != nil {
				return err
			}
		}
		if !c.ended() {
			return fail("connection closed", "connection stays open")
		}
		return s.left(ctx, slices.Delete(slices.Clone(ids), 1, 2))
	})},
	{125, "pipelined DELE and QUIT delete", "RFC 2449 §6.6", destructive(1, func(s *Suite, ctx context.Context, c *client, ids []string) error {
		if err := c.send("DELE 1\r\nQUIT\r\n"); err != nil {
			return err
		}
		for range 2 {
			if r, err := c.reply(); err != nil || r.Status != pop3.StatusOK {
				return fail("+OK to each", fmt.Sprintf("%s %v", show(r), err))
			}
		}
		return s.left(ctx, ids[1:])
	})},
}

// destructive logs in with at least n messages in the mailbox.
func destructive(n int, f func(s *Suite, ctx context.Context, c *client, ids []string) error) func(*Suite, context.Context) error {
	return func(s *Suite, ctx context.Context) error {
		if !s.config.Destructive {
			return skip("would delete: use -destructive")
		}
		return s.with(ctx, (*Suite).login, func(c *client) error {
			ids, err := c.uidl()
			if err != nil {
				return err
			}
			if len(ids) < n {
				return skip(fmt.Sprintf("needs %d messages in the mailbox", n))
			}
			return f(s, ctx, c, ids)
		})
	}
}

// marking checks a session with message 1 marked, and ends it by RSET and QUIT.
func marking(_ *Suite, _ context.Context, c *client, ids []string) error {
	n, octets, err := c.stat()
	if err != nil {
		return err
	}
	sizes, err := c.list()
	if err != nil {
		return err
	}
	if err := c.ok("DELE 1"); err != nil {
		return err
	}
	if err := c.refuses("", "DELE 1", "RETR 1", "LIST 1", "TOP 1 0", "UIDL 1"); err != nil {
		return err
	}
	m, left, err := c.stat()
	if err != nil {
		return err
	}
	if m != n-1 || left != octets-sizes[0] {
		return fail(fmt.Sprintf("STAT: +OK %d %d", n-1, octets-sizes[0]), fmt.Sprintf("+OK %d %d", m, left))
	}
	body, err := c.multi("LIST")
	if err != nil {
		return err
	}
	if ls := lines(body); len(ls) != len(sizes)-1 || ls[0] != fmt.Sprintf("2 %d", sizes[1]) {
		return fail("LIST begins with message 2", fmt.Sprintf("%.60q", body))
	}
	r, err := c.do("UIDL 2")
	if err == nil && r.Text != "2 "+ids[1] {
		return fail("+OK 2 "+ids[1], show(r))
	}
	if err != nil {
		return err
	}
	if err := c.ok("RSET"); err != nil {
		return err
	}
	return c.ok("QUIT")
}

// left checks which unique-ids a new session sees. A server may take a moment to
// notice that the last connection is gone.
func (s *Suite) left(ctx context.Context, want []string) error {
	c, err := s.login(ctx)
	for tries := 0; err != nil && tries < 20 && wait(ctx, s.config.Timeout/20); tries++ {
		c, err = s.login(ctx)
	}
	if err != nil {
		return err
	}
	got, err := c.uidl()
	if err == nil && !slices.Equal(got, want) {
		return fail(fmt.Sprintf("%d messages", len(want)), fmt.Sprintf("%d messages, or others", len(got)))
	}
	return err
}
