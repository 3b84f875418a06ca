package poptest

import (
	"bytes"
	"context"
	"fmt"
	"strings"
)

// retrieveChecks are those of RETR and TOP.
var retrieveChecks = []check{
	{100, "RETR gives exactly the octets that LIST tells", "RFC 1939 §5, §11", func(s *Suite, ctx context.Context) error {
		return s.filled(ctx, func(c *client, sizes []int64) error {
			for i := range min(len(sizes), 50) {
				msg, err := c.multi(fmt.Sprintf("RETR %d", i+1))
				if err != nil {
					return err
				}
				if int64(len(msg)) != sizes[i] {
					return fail(fmt.Sprintf("message %d: %d octets", i+1, sizes[i]), fmt.Sprintf("%d", len(msg)))
				}
			}
			return nil
		})
	}},
	{101, "lines of messages end with CRLF, no CR or LF stands alone", "RFC 1939 §3, RFC 5322 §2.3", func(s *Suite, ctx context.Context) error {
		return s.filled(ctx, func(c *client, sizes []int64) error {
			for i := range min(len(sizes), 50) {
				msg, err := c.multi(fmt.Sprintf("RETR %d", i+1))
				if err != nil {
					return err
				}
				if bare(msg) {
					return fail("CRLF", fmt.Sprintf("message %d has a bare CR or LF", i+1))
				}
			}
			return nil
		})
	}},
	{102, "lines that begin with dots come back as they were sent", "RFC 1939 §3", func(s *Suite, ctx context.Context) error {
		return s.seeded(ctx, func(c *client, number int, sent Message) error {
			msg, err := c.multi(fmt.Sprintf("RETR %d", number))
			if err == nil && !bytes.HasSuffix(msg, sent.body()) {
				return fail(fmt.Sprintf("the body of message %d (%s) as sent", number, sent.Name), difference(sent.body(), msg))
			}
			return err
		})
	}},
	{103, "RETR twice gives the same", "RFC 1939 §5", func(s *Suite, ctx context.Context) error {
		return s.filled(ctx, func(c *client, sizes []int64) error {
			a, err := c.multi("RETR 1")
			if err != nil {
				return err
			}
			b, err := c.multi("RETR 1")
			if err == nil && !bytes.Equal(a, b) {
				return fail("the same", difference(a, b))
			}
			return err
		})
	}},
	{104, "pipelined RETR of all", "RFC 2449 §6.6", func(s *Suite, ctx context.Context) error {
		return s.filled(ctx, func(c *client, sizes []int64) error {
			var all strings.Builder
			n := min(len(sizes), 20)
			for i := range n {
				fmt.Fprintf(&all, "RETR %d\r\n", i+1)
			}
			if err := c.send(all.String()); err != nil {
				return err
			}
			for i := range n {
				if _, err := c.reply(); err != nil {
					return err
				}
				if msg, err := c.body(); err != nil || int64(len(msg)) != sizes[i] {
					return fail(fmt.Sprintf("%d octets", sizes[i]), fmt.Sprintf("%d, %v", len(msg), err))
				}
			}
			return nil
		})
	}},
	{110, "TOP n 0: header section and blank line", "RFC 1939 §7", topCheck(0)},
	{111, "TOP n 1: and one line of the body", "RFC 1939 §7", topCheck(1)},
	{112, "TOP n 3", "RFC 1939 §7", topCheck(3)},
	{113, "TOP n 99999999: the whole message", "RFC 1939 §7", topCheck(99999999)},
	{114, "TOP without number of lines: -ERR", "RFC 1939 §7", func(s *Suite, ctx context.Context) error {
		return s.filled(ctx, func(c *client, _ []int64) error { return c.refuses("NOOP", "TOP 1", "TOP") })
	}},
	{115, "TOP with a negative number of lines: -ERR", "RFC 1939 §7", func(s *Suite, ctx context.Context) error {
		return s.filled(ctx, func(c *client, _ []int64) error { return c.refuses("NOOP", "TOP 1 -1", "TOP 1 x") })
	}},
	{116, "TOP with more lines than 64 bits count", "RFC 1939 §7", func(s *Suite, ctx context.Context) error {
		return s.filled(ctx, func(c *client, _ []int64) error {
			r, err := c.do("TOP 1 18446744073709551617")
			if err != nil || statusName(r.Status) == "-ERR" {
				return err
			}
			top, err := c.body()
			if err != nil {
				return err
			}
			msg, err := c.multi("RETR 1")
			if err == nil && !bytes.Equal(top, msg) {
				return fail("-ERR, or the whole message", fmt.Sprintf("%d of %d octets", len(top), len(msg)))
			}
			return err
		})
	}},
}

// bare reports whether a CR or LF stands alone.
func bare(msg []byte) bool {
	for i, b := range msg {
		if b == '\n' && (i == 0 || msg[i-1] != '\r') || b == '\r' && (i+1 == len(msg) || msg[i+1] != '\n') {
			return true
		}
	}
	return false
}

// topCheck compares TOP with what it must cut from RETR.
func topCheck(n int) func(*Suite, context.Context) error {
	return func(s *Suite, ctx context.Context) error {
		return s.filled(ctx, func(c *client, sizes []int64) error {
			for i := range min(len(sizes), 20) {
				msg, err := c.multi(fmt.Sprintf("RETR %d", i+1))
				if err != nil {
					return err
				}
				top, err := c.multi(fmt.Sprintf("TOP %d %d", i+1, n))
				if err != nil {
					return err
				}
				if want := topOf(msg, n); !bytes.Equal(top, want) {
					return fail(fmt.Sprintf("message %d: %d octets", i+1, len(want)), fmt.Sprintf("%d octets; %s", len(top), difference(want, top)))
				}
			}
			return nil
		})
	}
}

// topOf is TOP in the plainest way; it does not share code with the server.
func topOf(msg []byte, n int) []byte {
	var out []byte
	body := false
	for _, l := range bytes.SplitAfter(msg, []byte("\n")) {
		if body {
			if n--; n < 0 {
				break
			}
		}
		out = append(out, l...)
		body = body || string(l) == "\r\n"
	}
	return out
}

// seeded runs f for each seed that is found in the mailbox by its Message-ID.
func (s *Suite) seeded(ctx context.Context, f func(c *client, number int, sent Message) error) error {
	if len(s.config.Seeds) == 0 {
		return skip("no message of ours is in the mailbox: use -send")
	}
	return s.filled(ctx, func(c *client, sizes []int64) error {
		found := 0
		for i := len(sizes) - 1; i >= 0 && found < len(s.config.Seeds); i-- {
			msg, err := c.multi(fmt.Sprintf("RETR %d", i+1))
			if err != nil {
				return err
			}
			for _, sent := range s.config.Seeds {
				if bytes.Contains(msg, []byte(sent.ID)) {
					found++
					if err := f(c, i+1, sent); err != nil {
						return err
					}
				}
			}
		}
		if found == 0 {
			return skip("no message of ours is in the mailbox")
		}
		return nil
	})
}

// difference tells where two texts part.
func difference(want, got []byte) string {
	i := 0
	for i < len(want) && i < len(got) && want[i] == got[i] {
		i++
	}
	return fmt.Sprintf("they part at octet %d: want %.30q, got %.30q", i, want[i:], got[min(i, len(got)):])
}
