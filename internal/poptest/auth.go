package poptest

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"github.com/xdg-go/scram"

	"poczta.example/poczta/internal/pop3"
)

// authChecks are those of AUTH.
var authChecks = []check{
	{50, "AUTH PLAIN with initial response", "RFC 5034 §4, RFC 4616", func(s *Suite, ctx context.Context) error {
		return s.auth(ctx, "PLAIN", func(c *client) error { return c.ok("AUTH PLAIN " + s.plainResponse()) })
	}},
	{51, "AUTH PLAIN: an empty challenge is \"+ \", then the response", "RFC 5034 §4", func(s *Suite, ctx context.Context) error {
		return s.auth(ctx, "PLAIN", func(c *client) error {
			if err := c.send("AUTH PLAIN\r\n"); err != nil {
				return err
			}
			line, err := c.line()
			if err != nil {
				return err
			}
			if line != "+ " {
				return fail(`"+ "`, fmt.Sprintf("%q", line))
			}
			return c.ok(s.plainResponse())
		})
	}},
	{52, "AUTH cancelled by *: -ERR, and the session goes on", "RFC 5034 §4", func(s *Suite, ctx context.Context) error {
		return s.auth(ctx, "PLAIN", func(c *client) error {
			if err := c.answered("AUTH PLAIN", pop3.StatusChallenge); err != nil {
				return err
			}
			return c.refuses("QUIT", "*")
		})
	}},
	{53, "a response that is not base64: -ERR", "RFC 5034 §4", func(s *Suite, ctx context.Context) error {
		return s.auth(ctx, "PLAIN", func(c *client) error {
			if err := c.answered("AUTH PLAIN", pop3.StatusChallenge); err != nil {
				return err
			}
			return c.err("A=BB!")
		})
	}},
	{54, "an unknown mechanism: -ERR", "RFC 5034 §4", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).secure, func(c *client) error { return c.refuses("QUIT", "AUTH NO-SUCH-MECHANISM") })
	}},
	{55, "AUTH PLAIN with wrong password: -ERR", "RFC 5034 §4", func(s *Suite, ctx context.Context) error {
		return s.auth(ctx, "PLAIN", func(c *client) error {
			return c.err("AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+s.config.User+"\x00not-"+s.config.Password)))
		})
	}},
	{56, "mechanism names in any case of letters", "RFC 5034 §5", func(s *Suite, ctx context.Context) error {
		return s.auth(ctx, "PLAIN", func(c *client) error { return c.ok("auth plain " + s.plainResponse()) })
	}},
	{57, "AUTH LOGIN", "draft-murchison-sasl-login", func(s *Suite, ctx context.Context) error {
		return s.auth(ctx, "LOGIN", func(c *client) error {
			if err := c.answered("AUTH LOGIN", pop3.StatusChallenge); err != nil {
				return err
			}
			if err := c.answered(base64.StdEncoding.EncodeToString([]byte(s.config.User)), pop3.StatusChallenge); err != nil {
				return err
			}
			return c.ok(base64.StdEncoding.EncodeToString([]byte(s.config.Password)))
		})
	}},
	{58, "AUTH SCRAM-SHA-1, server's signature right", "RFC 5802", func(s *Suite, ctx context.Context) error {
		return s.scram(ctx, "SCRAM-SHA-1", scram.SHA1, false)
	}},
	{59, "AUTH SCRAM-SHA-256, server's signature right", "RFC 7677", func(s *Suite, ctx context.Context) error {
		return s.scram(ctx, "SCRAM-SHA-256", scram.SHA256, false)
	}},
	{60, "AUTH SCRAM-SHA-256-PLUS bound to TLS", "RFC 7677, RFC 9266", func(s *Suite, ctx context.Context) error {
		return s.scram(ctx, "SCRAM-SHA-256-PLUS", scram.SHA256, true)
	}},
	{61, "SCRAM with a wrong password: -ERR", "RFC 5802 §7", func(s *Suite, ctx context.Context) error {
		return s.auth(ctx, "SCRAM-SHA-256", func(c *client) error {
			cl, err := scram.SHA256.NewClient(s.config.User, "not-"+s.config.Password, "")
			if err != nil {
				return err
			}
			r, err := c.converse("SCRAM-SHA-256", cl.NewConversation())
			if err == nil || r.Status != pop3.StatusErr {
				return fail("-ERR", show(r))
			}
			return nil
		})
	}},
	{62, "AUTH after the login: -ERR", "RFC 5034 §4", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).login, func(c *client) error { return c.refuses("NOOP", "AUTH PLAIN "+s.plainResponse()) })
	}},
	{63, "AUTH without argument", "RFC 1734", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).secure, func(c *client) error {
			r, err := c.do("AUTH")
			if err == nil && r.Status == pop3.StatusOK {
				return info("lists mechanisms")
			}
			return err
		})
	}},
}

func (s *Suite) plainResponse() string {
	return base64.StdEncoding.EncodeToString([]byte("\x00" + s.config.User + "\x00" + s.config.Password))
}

// auth runs f on a connection where the mechanism is announced.
func (s *Suite) auth(ctx context.Context, mechanism string, f func(*client) error) error {
	if !slices.Contains(strings.Fields(strings.ToUpper(s.capa["SASL"])), mechanism) {
		return skip("CAPA does not announce SASL " + mechanism)
	}
	return s.with(ctx, (*Suite).secure, f)
}

func (s *Suite) scram(ctx context.Context, mechanism string, hash scram.HashGeneratorFcn, plus bool) error {
	return s.auth(ctx, mechanism, func(c *client) error {
		cl, err := hash.NewClient(s.config.User, s.config.Password, "")
		if err != nil {
			return err
		}
		conversation := cl.NewConversation()
		if plus {
			state := c.tls.ConnectionState()
			binding, err := scram.NewTLSExporterBinding(&state)
			if err != nil {
				return skip("no tls-exporter: " + err.Error())
			}
			conversation = cl.NewConversationWithChannelBinding(binding)
		}
		r, err := c.converse(mechanism, conversation)
		if err != nil {
			return fail("+OK", show(r)+": "+err.Error())
		}
		if !conversation.Valid() {
			return fail("the server's signature", "none, or a wrong one")
		}
		return c.ok("STAT")
	})
}

// converse runs an exchange to its end.
func (c *client) converse(mechanism string, x *scram.ClientConversation) (pop3.Reply, error) {
	r, err := c.do("AUTH " + mechanism)
	challenge := ""
	for err == nil && r.Status == pop3.StatusChallenge {
		var text []byte
		if text, err = base64.StdEncoding.DecodeString(r.Text); err != nil {
			return r, err
		}
		challenge = string(text)
		var response string
		if response, err = x.Step(challenge); err != nil {
			_, _ = c.do("*")
			return r, err
		}
		r, err = c.do(base64.StdEncoding.EncodeToString([]byte(response)))
	}
	if err == nil && r.Status != pop3.StatusOK {
		err = errNotOK
	}
	return r, err
}
