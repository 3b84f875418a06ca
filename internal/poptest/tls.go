package poptest

import (
	"context"
	"time"

	"poczta.example/poczta/internal/pop3"
)

// tlsChecks are those of STLS.
var tlsChecks = []check{
	{40, "STLS begins TLS, and CAPA works under it", "RFC 2595 §4", func(s *Suite, ctx context.Context) error {
		return s.stls(ctx, func(c *client) error {
			_, err := c.capabilities()
			return err
		})
	}},
	{41, "STLS under TLS: -ERR", "RFC 2595 §4", func(s *Suite, ctx context.Context) error {
		return s.stls(ctx, func(c *client) error { return c.err("STLS") })
	}},
	{42, "STLS is not announced under TLS", "RFC 2595 §4", func(s *Suite, ctx context.Context) error {
		return s.stls(ctx, func(c *client) error {
			capa, err := c.capabilities()
			if _, has := capa["STLS"]; err == nil && has {
				return fail("no STLS", "STLS")
			}
			return err
		})
	}},
	{43, "STLS after the login: -ERR", "RFC 2595 §4", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).login, func(c *client) error { return c.err("STLS") })
	}},
	{44, "plaintext sent behind STLS is not run", "RFC 2595 §4, CVE-2011-0411", injection},
	{45, "a USER of before STLS does not count after it", "RFC 2595 §4", func(s *Suite, ctx context.Context) error {
		c, err := s.plain(ctx)
		if err != nil {
			return err
		}
		if r, err := c.do("USER " + s.config.User); err != nil || r.Status != pop3.StatusOK {
			return skip("USER is refused without TLS")
		}
		if err := c.ok("STLS"); err != nil {
			return err
		}
		if err := c.handshake(ctx); err != nil {
			return err
		}
		r, err := c.do("PASS " + s.config.Password)
		if err == nil && r.Status == pop3.StatusOK {
			return info("it counts: the name was learnt in the clear")
		}
		return err
	}},
	{46, "passwords without TLS", "RFC 5034 §4, RFC 8314 §3", func(s *Suite, ctx context.Context) error {
		if s.config.TLS {
			return skip("the connection is TLS from the first octet")
		}
		return s.with(ctx, (*Suite).connect, func(c *client) error {
			r, err := c.do("USER " + s.config.User)
			if err != nil || r.Status != pop3.StatusOK {
				return info("are refused")
			}
			return info("are taken from this client")
		})
	}},
}

// plain opens a connection that could begin STLS.
func (s *Suite) plain(ctx context.Context) (*client, error) {
	if s.config.TLS {
		return nil, skip("the connection is TLS from the first octet")
	}
	c, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	capa, err := c.capabilities()
	if err != nil {
		return nil, err
	}
	if _, ok := capa["STLS"]; !ok {
		return nil, skip("CAPA does not announce STLS")
	}
	return c, nil
}

// stls runs f on a connection that began TLS by STLS.
func (s *Suite) stls(ctx context.Context, f func(*client) error) error {
	c, err := s.plain(ctx)
	if err != nil {
		return err
	}
	if err := c.ok("STLS"); err != nil {
		return err
	}
	if err := c.handshake(ctx); err != nil {
		return err
	}
	return f(c)
}

// injection sends a command in the packet of STLS, as one who sits between could.
func injection(s *Suite, ctx context.Context) error {
	c, err := s.plain(ctx)
	if err != nil {
		return err
	}
	if err := c.send("STLS\r\nCAPA\r\n"); err != nil {
		return err
	}
	r, err := c.reply()
	if err != nil || r.Status != pop3.StatusOK {
		return nil // refused or closed
	}
	if err := c.handshake(ctx); err != nil {
		return nil // the server took the plaintext for TLS, and gave up
	}
	if !c.quiet(500 * time.Millisecond) {
		r, _ := c.reply()
		return fail("silence, or no session at all", "under TLS: "+show(r))
	}
	return nil
}
