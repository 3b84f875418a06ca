package pop3client

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"
)

// Capabilities is what a server offers in the session's state (RFC 2449 §6).
type Capabilities struct {
	// Known is false when the server knows no CAPA: then nothing is known of it, and
	// nothing beyond RFC 1939 may be expected.
	Known bool
	// Names are all capabilities' names in capitals, at most 200, for people.
	Names []string

	User, TOP, UIDL, STLS, Pipelining bool
	RespCodes, AuthRespCode           bool     // RFC 2449 §6.4, RFC 3206 §6
	UTF8, UTF8User                    bool     // RFC 6856 §2.1, §2.2
	SASL                              []string // mechanisms in capitals (RFC 2449 §6.3)
	// LoginDelay is how long to wait between two logins (RFC 2449 §6.5); 0 when not told.
	LoginDelay time.Duration
	// ExpireTold says that Expire means something: for how many days the server keeps mail,
	// 0 not beyond the session (RFC 2449 §6.7), -1 for ever.
	ExpireTold     bool
	Expire         int
	Implementation string
}

// Capabilities asks for what the server offers now. A server without CAPA is no error:
// Capabilities.Known is false. What is known is kept until STLS or login change it. The
// error is an *Error.
func (s *Session) Capabilities(ctx context.Context) (Capabilities, error) {
	end, err := s.begin(ctx, "CAPA")
	if err != nil {
		return Capabilities{}, err
	}
	err = end(s.know())
	return s.caps, err
}

// know asks for the capabilities unless they are known.
func (s *Session) know() error {
	if s.asked {
		return nil
	}
	err := s.ask("CAPA", s.cfg.Timeouts.Command)
	if e, ok := errors.AsType[*Error](err); ok && e.Refused && s.Usable() {
		s.caps, s.asked = Capabilities{}, true
		return nil
	}
	if err != nil {
		return err
	}
	caps := Capabilities{Known: true}
	err = s.lines("CAPA", maxCapabilities, func(line []byte) error {
		caps.take(string(line))
		return nil
	})
	if err == nil {
		s.caps, s.asked = caps, true
	}
	return err
}

// take understands one line of CAPA; what is unknown or malformed counts as a name alone.
func (c *Capabilities) take(line string) {
	words := strings.Fields(brief(line))
	if len(words) == 0 {
		return
	}
	name, args := strings.ToUpper(words[0]), words[1:]
	c.Names = append(c.Names, name)
	switch name {
	case "USER":
		c.User = true
	case "TOP":
		c.TOP = true
	case "UIDL":
		c.UIDL = true
	case "STLS":
		c.STLS = true
	case "PIPELINING":
		c.Pipelining = true
	case "RESP-CODES":
		c.RespCodes = true
	case "AUTH-RESP-CODE":
		c.AuthRespCode = true
	case "SASL":
		for _, m := range args {
			c.SASL = append(c.SASL, strings.ToUpper(m))
		}
	case "UTF8":
		c.UTF8 = true
		for _, a := range args {
			c.UTF8User = c.UTF8User || strings.EqualFold(a, "USER")
		}
	case "LOGIN-DELAY":
		if len(args) > 0 {
			if n, err := strconv.ParseUint(args[0], 10, 31); err == nil {
				c.LoginDelay = time.Duration(n) * time.Second
			}
		}
	case "EXPIRE":
		c.expire(args)
	case "IMPLEMENTATION":
		c.Implementation = strings.Join(args, " ")
	}
}

func (c *Capabilities) expire(args []string) {
	if len(args) == 0 {
		return
	}
	if strings.EqualFold(args[0], "NEVER") {
		c.ExpireTold, c.Expire = true, -1
	} else if n, err := strconv.ParseUint(args[0], 10, 31); err == nil {
		c.ExpireTold, c.Expire = true, int(n)
	}
}
