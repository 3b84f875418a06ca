package verify

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/message"
)

// maxAuthors is how many author domains are evaluated (RFC 9989 §11.5 asks for a limit), and
// maxFound how many are noted.
const (
	maxAuthors = 4
	maxFound   = 50
)

// Errors of Report.FromErr; test with errors.Is.
var (
	ErrNoFrom      = errors.New("there is no From field")
	ErrManyFrom    = errors.New("there are several From fields")
	ErrBadFrom     = errors.New("the From field can't be read")
	ErrNoAuthor    = errors.New("the From field names nobody")
	ErrManyAuthors = errors.New("the From field names several domains")
)

// readAuthors finds the domains that a person may take for the author's (RFC 9989 §5.3.1): those of
// every From field, of groups too. A field that can't be read gives what looks like a domain behind
// an "@" in it: mail programs show something, and it must not be a way around. Sender and
// Resent-From do not count: DMARC does not look at them, and resending hosts leave them as they are.
func (r *Report) readAuthors(fields []message.Field) {
	count := 0
	var bad error
	for _, f := range fields {
		if !f.Is("From") {
			continue
		}
		count++
		list, err := message.ParseAddressList(f.Value())
		if err != nil {
			bad = err
			for _, d := range domainsIn(f.Value()) {
				r.addAuthor(d)
			}
		}
		for _, m := range list {
			r.addAuthor(m.Address.Domain())
		}
	}
	r.sound = count == 1 && bad == nil
	switch {
	case count == 0:
		r.FromErr = ErrNoFrom
	case count > 1:
		r.FromErr = ErrManyFrom
	case bad != nil:
		r.FromErr = fmt.Errorf("%w: %w", ErrBadFrom, bad)
	case len(r.Authors) == 0:
		r.FromErr = ErrNoAuthor
	case len(r.Authors) > 1:
		r.FromErr = ErrManyAuthors
	}
	if len(r.Authors) > 0 {
		r.From = r.Authors[0].Domain
	}
}

func (r *Report) addAuthor(d address.Domain) {
	if d.IsZero() || len(r.Authors) == maxFound || slices.ContainsFunc(r.Authors, func(a Author) bool { return a.Domain == d }) {
		return
	}
	r.Authors = append(r.Authors, Author{Domain: d})
}

// domainsIn finds what looks like domains behind "@" in text that is no address list.
func domainsIn(s string) []address.Domain {
	var out []address.Domain
	for tries := 0; tries < 4*maxFound && len(out) < maxFound; tries++ {
		_, rest, ok := strings.Cut(s, "@")
		if !ok {
			break
		}
		s = rest
		rest = strings.TrimLeft(rest, " \t")
		end := strings.IndexFunc(rest, func(c rune) bool { return c <= ' ' || c < 0x80 && strings.ContainsRune("<>()[]:;@\\,\"", c) })
		if end >= 0 {
			rest = rest[:end]
		}
		if len(rest) > address.MaxDomainOctets {
			continue
		}
		if d, err := address.ParseDomain(rest); err == nil && !d.IsLiteral() {
			out = append(out, d)
		}
	}
	return out
}

// maxLists bounds the List-Id fields that are looked at.
const maxLists = 4

// readLists notes List-Id (RFC 2919): what stands in angle brackets.
func (r *Report) readLists(fields []message.Field) {
	for _, f := range fields {
		if len(r.lists) == maxLists || !f.Is("List-Id") {
			continue
		}
		id := f.Value()
		if open := strings.LastIndexByte(id, '<'); open >= 0 {
			id, _, _ = strings.Cut(id[open+1:], ">")
		}
		r.lists = append(r.lists, strings.ToLower(strings.TrimSpace(id)))
	}
}
