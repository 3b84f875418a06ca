package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/daemon"
	"poczta.example/poczta/internal/dnslist"
	"poczta.example/poczta/internal/resolver"
)

// listsIn bounds the test of each DNS list; all are tested at once.
const listsIn = 10 * time.Second

// CheckLists asks each DNS list for the entries that it must and must not have (RFC 5782 §5).
func CheckLists(ctx context.Context, c *config.Config, r resolver.Resolver) []Finding {
	if !c.Spam.Enabled || len(c.Spam.Lists) == 0 {
		return nil
	}
	configured, err := daemon.DNSLists(c.Spam.Lists)
	var lists *dnslist.Lists
	if err == nil {
		lists, err = dnslist.New(dnslist.Config{Resolver: r, Lists: configured, Timeout: listsIn})
	}
	if err != nil {
		return []Finding{{Level: Failed, Area: "filters", Key: "spam.list", Text: err.Error(), Remedy: "correct the list; docs/configuration.md describes its keys"}}
	}
	var out []Finding
	for i, h := range lists.Test(ctx) {
		f := Finding{Level: Fine, Area: "filters", Key: fmt.Sprintf("spam.list[%d].zone", i), Text: "the DNS list " + h.Zone + " answers, and has its test entries"}
		switch {
		case c.Spam.Lists[i].NoTest:
			f.Text = "the DNS list " + h.Zone + " is not tested, as no_test says"
		case h.Off != nil:
			f.Level, f.Text, f.Remedy = Failed, h.Zone+": "+h.Off.Error(), listRemedy(h.Off)
		}
		out = append(out, f)
	}
	return out
}

// listRemedy says what to do about a list that fails its test. Meanwhile it is not asked.
func listRemedy(why error) string {
	const meanwhile = "; until it passes its test it is not asked about mail"
	switch {
	case errors.Is(why, dnslist.ErrRefused):
		return "lists refuse public and shared resolvers, and who asks much: let a resolver on this host ask for itself, name it in dns.servers, or take the key that the list's owner gives into the zone; read its terms" + meanwhile
	case errors.Is(why, dnslist.ErrEmpty):
		return "correct the zone; if it is right, see whether the list still exists, name another entry in test, or set no_test if it has none" + meanwhile
	case errors.Is(why, dnslist.ErrWildcard):
		return "take the list out: it has probably ended, and would refuse all mail" + meanwhile
	case errors.Is(why, dnslist.ErrMadeUp):
		return "name a resolver in dns.servers that changes no answers, or take the list out if its domain has a new owner" + meanwhile
	}
	return "see whether the list's name servers are up, and whether the resolver in dns.servers answers: dig 2.0.0.127.ZONE" + meanwhile
}
