package spf

import "context"

// Expand fills in the macros of a domain-spec.
func Expand(q Request, spec, domain string) (string, error) {
	e := (&Checker{}).begin(q)
	return e.expand(context.Background(), spec, domain, false, true)
}
