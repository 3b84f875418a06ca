package poptest

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"poczta.example/poczta/internal/pop3"
)

// listingChecks are those of LIST and UIDL and of message numbers.
var listingChecks = []check{
	{80, "LIST: numbers from 1 without gap; its sums are STAT's", "RFC 1939 §5", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).login, func(c *client) error {
			n, octets, err := c.stat()
			if err != nil {
				return err
			}
			sizes, err := c.list()
			if err != nil {
				return err
			}
			var sum int64
			for _, size := range sizes {
				sum += size
			}
			if int64(len(sizes)) != n || sum != octets {
				return fail(fmt.Sprintf("%d messages, %d octets as STAT says", n, octets), fmt.Sprintf("%d messages, %d octets", len(sizes), sum))
			}
			return nil
		})
	}},
	{81, "LIST n is the line of LIST", "RFC 1939 §5", func(s *Suite, ctx context.Context) error {
		return s.filled(ctx, func(c *client, sizes []int64) error {
			n := len(sizes)
			r, err := c.do(fmt.Sprintf("LIST %d", n))
			if want := fmt.Sprintf("%d %d", n, sizes[n-1]); err == nil && (r.Status != pop3.StatusOK || r.Text != want) {
				return fail("+OK "+want, show(r))
			}
			return err
		})
	}},
	{82, "numbers that are no message: -ERR to LIST", "RFC 1939 §5", badNumbers("LIST %s")},
	{83, "numbers that are no message: -ERR to RETR", "RFC 1939 §5", badNumbers("RETR %s")},
	{84, "numbers that are no message: -ERR to DELE", "RFC 1939 §5", badNumbers("DELE %s")},
	{85, "numbers that are no message: -ERR to UIDL", "RFC 1939 §7", badNumbers("UIDL %s")},
	{86, "numbers that are no message: -ERR to TOP", "RFC 1939 §7", badNumbers("TOP %s 0")},
	{87, "RETR and DELE without number: -ERR", "RFC 1939 §5", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).login, func(c *client) error { return c.refuses("NOOP", "RETR", "DELE") })
	}},
	{88, "UIDL: 1 to 70 characters 0x21 to 0x7E, each once", "RFC 1939 §7", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).login, func(c *client) error {
			_, err := c.uidl()
			return err
		})
	}},
	{89, "UIDL n is the line of UIDL", "RFC 1939 §7", func(s *Suite, ctx context.Context) error {
		return s.filled(ctx, func(c *client, sizes []int64) error {
			ids, err := c.uidl()
			if err != nil {
				return err
			}
			n := len(ids)
			r, err := c.do(fmt.Sprintf("UIDL %d", n))
			if want := fmt.Sprintf("%d %s", n, ids[n-1]); err == nil && (r.Status != pop3.StatusOK || r.Text != want) {
				return fail("+OK "+want, show(r))
			}
			return err
		})
	}},
	{90, "unique-ids are the same in the next session", "RFC 1939 §7", func(s *Suite, ctx context.Context) error {
		var all [2][]string
		for i := range all {
			err := s.with(ctx, (*Suite).login, func(c *client) (err error) {
				if all[i], err = c.uidl(); err != nil {
					return err
				}
				return c.ok("QUIT")
			})
			if err != nil {
				return err
			}
		}
		if len(all[0]) == 0 {
			return skip("the mailbox is empty")
		}
		for i, id := range all[0] {
			if i >= len(all[1]) || all[1][i] != id {
				return fail("the same unique-ids", fmt.Sprintf("message %d was %s", i+1, id))
			}
		}
		return nil
	}},
	{91, "UIDL and LIST name the same messages", "RFC 1939 §7", func(s *Suite, ctx context.Context) error {
		return s.filled(ctx, func(c *client, sizes []int64) error {
			ids, err := c.uidl()
			if err == nil && len(ids) != len(sizes) {
				return fail(fmt.Sprintf("%d lines", len(sizes)), fmt.Sprintf("%d", len(ids)))
			}
			return err
		})
	}},
}

// filled logs in and runs f if the mailbox has messages.
func (s *Suite) filled(ctx context.Context, f func(c *client, sizes []int64) error) error {
	return s.with(ctx, (*Suite).login, func(c *client) error {
		sizes, err := c.list()
		if err != nil {
			return err
		}
		if len(sizes) == 0 {
			return skip("the mailbox is empty: fill it, or use -send")
		}
		return f(c, sizes)
	})
}

// list asks LIST; index 0 is message 1.
func (c *client) list() ([]int64, error) {
	body, err := c.multi("LIST")
	if err != nil {
		return nil, err
	}
	var sizes []int64
	for i, l := range lines(body) {
		n, rest, ok := pair(l)
		size, err := strconv.ParseInt(rest, 10, 64)
		if !ok || err != nil || n != int64(i+1) {
			return nil, fail(fmt.Sprintf(`"%d octets"`, i+1), fmt.Sprintf("%.60q", l))
		}
		sizes = append(sizes, size)
	}
	return sizes, nil
}

// uidl asks UIDL and checks the grammar of unique-ids.
func (c *client) uidl() ([]string, error) {
	body, err := c.multi("UIDL")
	if err != nil {
		return nil, err
	}
	var ids []string
	seen := map[string]bool{}
	for i, l := range lines(body) {
		n, id, ok := pair(l)
		if !ok || n != int64(i+1) {
			return nil, fail(fmt.Sprintf(`"%d unique-id"`, i+1), fmt.Sprintf("%.60q", l))
		}
		for _, b := range []byte(id) {
			if b < 0x21 || b > 0x7e {
				return nil, fail("characters 0x21 to 0x7E", fmt.Sprintf("%q", id))
			}
		}
		if len(id) > pop3.MaxUniqueIDOctets || seen[id] {
			return nil, fail("at most 70 characters, each unique-id once", id)
		}
		seen[id] = true
		ids = append(ids, id)
	}
	return ids, nil
}

// badNumbers tries numbers that can't be of a message. It takes a new session
// now and then, for servers that end one after a few errors.
func badNumbers(format string) func(*Suite, context.Context) error {
	return func(s *Suite, ctx context.Context) error {
		numbers := []string{"0", "-1", "x", "99999999", "2147483648", "4294967296", "4294967297", "18446744073709551616",
			"18446744073709551617", "1000000000000000000000000000000001", "1x", "0x1", "1.0"}
		for some := range slices.Chunk(numbers, 3) {
			err := s.with(ctx, (*Suite).login, func(c *client) error {
				for _, number := range some {
					if err := c.err(fmt.Sprintf(format, number)); err != nil {
						return err
					}
				}
				return nil
			})
			s.closeAll()
			if err != nil {
				return err
			}
		}
		return nil
	}
}
