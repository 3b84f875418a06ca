package poptest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"poczta.example/poczta/internal/pop3"
)

// utf8Checks are those of UTF8 and LANG.
var utf8Checks = []check{
	{130, "UTF8 in AUTHORIZATION: +OK", "RFC 6856 §2.1", func(s *Suite, ctx context.Context) error {
		return s.announced(ctx, "UTF8", (*Suite).secure, func(c *client) error { return c.ok("UTF8") })
	}},
	{131, "UTF8 with an argument: -ERR", "RFC 6856 §2.1", func(s *Suite, ctx context.Context) error {
		return s.announced(ctx, "UTF8", (*Suite).secure, func(c *client) error { return c.err("UTF8 x") })
	}},
	{132, "UTF8 after the login: -ERR", "RFC 6856 §2", func(s *Suite, ctx context.Context) error {
		return s.announced(ctx, "UTF8", (*Suite).login, func(c *client) error { return c.refuses("NOOP", "UTF8") })
	}},
	{133, "LIST matches RETR in UTF8 mode too", "RFC 6856 §2.1", func(s *Suite, ctx context.Context) error {
		return s.announced(ctx, "UTF8", (*Suite).secure, func(c *client) error {
			for _, command := range []string{"UTF8", "USER " + s.config.User, "PASS " + s.config.Password} {
				if err := c.ok(command); err != nil {
					return err
				}
			}
			sizes, err := c.list()
			if err != nil {
				return err
			}
			for i := range min(len(sizes), 20) {
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
	{134, "malformed UTF-8 as user name: -ERR", "RFC 6856 §2.2", func(s *Suite, ctx context.Context) error {
		return s.announced(ctx, "UTF8", (*Suite).secure, func(c *client) error {
			r, err := c.do("USER \xff\xfe")
			if err != nil || r.Status == pop3.StatusErr {
				return err
			}
			return c.err("PASS x")
		})
	}},
	{140, "LANG lists languages: tag, perhaps a space and a description", "RFC 6856 §3.2", func(s *Suite, ctx context.Context) error {
		return s.announced(ctx, "LANG", (*Suite).secure, func(c *client) error {
			_, err := c.languages()
			return err
		})
	}},
	{141, "LANG with each tag: +OK, the tag, a space", "RFC 6856 §3.2", func(s *Suite, ctx context.Context) error {
		return s.announced(ctx, "LANG", (*Suite).secure, func(c *client) error {
			tags, err := c.languages()
			if err != nil {
				return err
			}
			for _, tag := range tags {
				r, err := c.do("LANG " + tag)
				if err != nil {
					return err
				}
				if first, _, found := strings.Cut(r.Text, " "); r.Status != pop3.StatusOK || !strings.EqualFold(first, tag) || !found {
					return fail("+OK "+tag+" text", show(r))
				}
			}
			return nil
		})
	}},
	{142, "LANG with an unknown language: -ERR", "RFC 6856 §3.2", func(s *Suite, ctx context.Context) error {
		return s.announced(ctx, "LANG", (*Suite).secure, func(c *client) error { return c.refuses("QUIT", "LANG qaa-unknown") })
	}},
	{143, "LANG *", "RFC 6856 §3.2", func(s *Suite, ctx context.Context) error {
		return s.announced(ctx, "LANG", (*Suite).secure, func(c *client) error { return c.ok("LANG *") })
	}},
	{144, "LANG after the login", "RFC 6856 §3.1", func(s *Suite, ctx context.Context) error {
		return s.announced(ctx, "LANG", (*Suite).login, func(c *client) error { return c.ok("LANG *") })
	}},
}

// closingChecks judge what was seen in all the others.
var closingChecks = []check{
	{150, "status lines have at most 512 octets", "RFC 2449 §4", func(s *Suite, _ context.Context) error {
		if len(s.longer) > 0 {
			return fail("at most 512", strings.Join(s.longer, "; "))
		}
		return nil
	}},
	{151, "lines end with CRLF, +OK and -ERR are in capitals", "RFC 1939 §3", func(s *Suite, _ context.Context) error {
		if len(s.styles) > 0 {
			return fail("CRLF, +OK, -ERR", strings.Join(s.styles, "; "))
		}
		return nil
	}},
	{152, "with RESP-CODES a bracket begins a response code, and only then", "RFC 2449 §6.4, §8", func(s *Suite, _ context.Context) error {
		if len(s.braces) > 0 && s.has("RESP-CODES") {
			return fail("a code, or no bracket", strings.Join(s.braces, "; "))
		}
		if len(s.codes) > 0 && !s.has("RESP-CODES") {
			return info("codes come though CAPA does not announce RESP-CODES")
		}
		return nil
	}},
	{153, "response codes are registered ones", "RFC 2449 §8, RFC 3206, RFC 6856 §5", func(s *Suite, _ context.Context) error {
		for _, code := range slices.Sorted(maps.Keys(s.codes)) {
			c := pop3.ResponseCode(code)
			if !slices.ContainsFunc([]pop3.ResponseCode{pop3.CodeInUse, pop3.CodeLoginDelay, "SYS", pop3.CodeAuth, pop3.CodeUTF8}, c.Is) {
				return info("unregistered: %s", code)
			}
		}
		return nil
	}},
}

// announced runs f on a new connection if the capability is there.
func (s *Suite) announced(ctx context.Context, tag string, open func(*Suite, context.Context) (*client, error), f func(*client) error) error {
	if err := s.needs(tag); err != nil {
		return err
	}
	return s.with(ctx, open, f)
}

// languages asks LANG and checks the language listing.
func (c *client) languages() ([]string, error) {
	body, err := c.multi("LANG")
	if err != nil {
		return nil, err
	}
	var tags []string
	for _, l := range lines(body) {
		tag, text, found := strings.Cut(l, " ")
		if tag == "" || found && (text == "" || text[0] == ' ') {
			return nil, fail("tag, one space, description", fmt.Sprintf("%.60q", l))
		}
		tags = append(tags, tag)
	}
	if len(tags) == 0 {
		return nil, fail("at least one language", "none")
	}
	return tags, nil
}
