package poptest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// capaChecks are those of CAPA.
var capaChecks = []check{
	{30, "CAPA in AUTHORIZATION", "RFC 2449 §5", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).connect, func(c *client) error {
			capa, err := c.capabilities()
			if err != nil {
				return err
			}
			return info("%s", strings.Join(slices.Sorted(maps.Keys(capa)), " "))
		})
	}},
	{31, "CAPA in TRANSACTION", "RFC 2449 §5", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).login, func(c *client) error {
			_, err := c.capabilities()
			return err
		})
	}},
	{32, "capabilities without difference are the same in both states", "RFC 2449 §6, RFC 5034 §3", sameCapabilities},
	{33, "STLS is announced in AUTHORIZATION only, and not under TLS", "RFC 2595 §4", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).login, func(c *client) error {
			capa, err := c.capabilities()
			if _, has := capa["STLS"]; err == nil && has {
				return fail("no STLS in TRANSACTION", "STLS")
			}
			return err
		})
	}},
	{34, "arguments of EXPIRE and LOGIN-DELAY", "RFC 2449 §6.5, §6.7", capaArguments},
	{35, "TOP and UIDL are announced", "RFC 2449 §6.1, §6.8", func(s *Suite, _ context.Context) error {
		if len(s.capa) == 0 {
			return skip("there is no CAPA")
		}
		if !s.has("TOP") || !s.has("UIDL") {
			return info("TOP: %v, UIDL: %v", s.has("TOP"), s.has("UIDL"))
		}
		return nil
	}},
	{36, "PIPELINING is announced", "RFC 2449 §6.6", func(s *Suite, _ context.Context) error {
		if !s.has("PIPELINING") {
			return info("no")
		}
		return nil
	}},
	{37, "CAPA with an argument: -ERR", "RFC 2449 §5", func(s *Suite, ctx context.Context) error {
		return s.with(ctx, (*Suite).connect, func(c *client) error {
			r, err := c.do("CAPA x")
			if err == nil && statusName(r.Status) == "+OK" {
				return info("the argument is ignored")
			}
			return err
		})
	}},
}

// changing are the tags that may differ between the states.
var changing = []string{"STLS", "LOGIN-DELAY", "EXPIRE", "IMPLEMENTATION"}

func sameCapabilities(s *Suite, ctx context.Context) error {
	c, err := s.login(ctx)
	if err != nil {
		return err
	}
	after, err := c.capabilities()
	if err != nil {
		return err
	}
	var differences []string
	for tag := range s.capa {
		if _, ok := after[tag]; !ok && !slices.Contains(changing, tag) {
			differences = append(differences, tag+" is gone")
		}
	}
	for tag := range after {
		if !s.has(tag) && !slices.Contains(changing, tag) {
			differences = append(differences, tag+" is new")
		}
	}
	if len(differences) > 0 {
		slices.Sort(differences)
		return fail("the same in both states", strings.Join(differences, ", "))
	}
	return nil
}

func capaArguments(s *Suite, _ context.Context) error {
	if len(s.capa) == 0 {
		return skip("there is no CAPA")
	}
	for _, tag := range []string{"EXPIRE", "LOGIN-DELAY"} {
		args, ok := s.capa[tag]
		if !ok {
			continue
		}
		first, second, more := strings.Cut(args, " ")
		_, err := strconv.ParseUint(first, 10, 64)
		if err != nil && (tag != "EXPIRE" || first != "NEVER") || more && second != "USER" {
			return fail(tag+" with a number or NEVER, perhaps USER", fmt.Sprintf("%s %q", tag, args))
		}
	}
	return nil
}
