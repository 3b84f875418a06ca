package message

import (
	"errors"
	"fmt"
	"mime"
	"strings"

	"poczta.example/poczta/internal/address"
)

// ErrAddressList is wrapped by ParseAddressList's errors.
var ErrAddressList = errors.New("address list is malformed")

// maxListItems bounds the memory that one address field can ask for.
const maxListItems = 10000

// Mailbox is one mailbox of an address list (RFC 5322 §3.4).
type Mailbox struct {
	Name    string // display-name, unquoted, encoded-words decoded; "" when absent
	Address address.Address
}

// listItem is a mailbox, or the begin or end of a group.
type listItem struct {
	kind itemKind
	Mailbox
}

type itemKind uint8

const (
	itemMailbox itemKind = iota
	itemGroup            // begin; Name is the group's
	itemGroupEnd
)

// ParseAddressList reads the unfolded value of a From, Sender, To … field and
// returns its mailboxes, those of groups included (RFC 5322 §3.4, RFC 6854),
// with comments, quoted strings, encoded-words, routes and the obsolete forms of
// §4.4, and with UTF-8 (RFC 6532). What can't be read whole is an error: a
// reader that guesses can be led astray.
func ParseAddressList(value string) ([]Mailbox, error) {
	items, err := parseList(value)
	if err != nil {
		return nil, err
	}
	var list []Mailbox
	for _, it := range items {
		if it.kind == itemMailbox {
			list = append(list, it.Mailbox)
		}
	}
	return list, nil
}

// listParser walks over an address list.
type listParser struct {
	s     string
	i     int
	items []listItem
}

func parseList(value string) ([]listItem, error) {
	p := &listParser{s: value}
	inGroup := false
	for {
		if err := p.skip(); err != nil {
			return nil, err
		}
		switch c := p.peek(); {
		case c == 0 && inGroup:
			return nil, p.fail("the group has no closing semicolon")
		case c == 0 && p.i >= len(p.s):
			return p.items, nil
		case c == ',':
			p.i++
			continue
		case c == ';' && inGroup:
			p.i++
			inGroup = false
			p.items = append(p.items, listItem{kind: itemGroupEnd})
			if err := p.separator(false); err != nil {
				return nil, err
			}
			continue
		}
		group, err := p.element(inGroup)
		if err != nil {
			return nil, err
		}
		if len(p.items) > maxListItems {
			return nil, p.fail("more mailboxes than can be read")
		}
		if group {
			inGroup = true
			continue
		}
		if err := p.separator(inGroup); err != nil {
			return nil, err
		}
	}
}

// separator checks that an element is followed by a comma, the end, or the end
// of its group.
func (p *listParser) separator(inGroup bool) error {
	if err := p.skip(); err != nil {
		return err
	}
	c := p.peek()
	if p.i >= len(p.s) || c == ',' || c == ';' && inGroup {
		return nil
	}
	return p.fail("a comma is missing")
}

// element reads a mailbox, or the begin of a group.
func (p *listParser) element(inGroup bool) (group bool, err error) {
	words, dotted, err := p.phrase()
	if err != nil {
		return false, err
	}
	switch p.peek() {
	case '<':
		p.i++
		a, err := p.angle()
		if err != nil {
			return false, err
		}
		p.items = append(p.items, listItem{Mailbox: Mailbox{Name: displayName(words), Address: a}})
		return false, nil
	case ':':
		if inGroup || len(words) == 0 {
			return false, p.fail("a colon stands where a mailbox should")
		}
		p.i++
		p.items = append(p.items, listItem{kind: itemGroup, Mailbox: Mailbox{Name: displayName(words)}})
		return true, nil
	case '@':
		if !dotted {
			return false, p.fail("a name stands in front of an address without angle brackets")
		}
		a, err := p.domainOf(joinLocal(words))
		if err != nil {
			return false, err
		}
		p.items = append(p.items, listItem{Mailbox: Mailbox{Address: a}})
		return false, nil
	}
	return false, p.fail("a mailbox is missing")
}

// angle reads what stands behind "<": an optional route, addr-spec, ">".
func (p *listParser) angle() (address.Address, error) {
	if err := p.skip(); err != nil {
		return address.Address{}, err
	}
	if p.peek() == '@' || p.peek() == ',' { // obs-route
		end := strings.IndexByte(p.s[p.i:], ':')
		if end < 0 || strings.ContainsAny(p.s[p.i:p.i+end], `<>"`) {
			return address.Address{}, p.fail("the route has no end")
		}
		p.i += end + 1
	}
	words, dotted, err := p.phrase()
	if err != nil {
		return address.Address{}, err
	}
	if !dotted || p.peek() != '@' {
		return address.Address{}, p.fail("the angle brackets hold no address")
	}
	a, err := p.domainOf(joinLocal(words))
	if err != nil {
		return address.Address{}, err
	}
	if err := p.skip(); err != nil {
		return address.Address{}, err
	}
	if p.peek() != '>' {
		return address.Address{}, p.fail("the angle bracket is not closed")
	}
	p.i++
	return a, nil
}

// domainOf reads "@" and the domain behind a local-part.
func (p *listParser) domainOf(local string) (address.Address, error) {
	p.i++
	if err := p.skip(); err != nil {
		return address.Address{}, err
	}
	var host string
	if p.peek() == '[' {
		end := strings.IndexByte(p.s[p.i:], ']')
		if end < 0 {
			return address.Address{}, p.fail("the address literal is not closed")
		}
		host = p.s[p.i : p.i+end+1]
		p.i += end + 1
	} else {
		words, dotted, err := p.phrase()
		if err != nil {
			return address.Address{}, err
		}
		for _, w := range words {
			if w.quoted {
				return address.Address{}, p.fail("the domain is quoted")
			}
		}
		if !dotted {
			return address.Address{}, p.fail("the domain is missing or broken")
		}
		host = joinLocal(words)
	}
	d, err := address.ParseDomain(host)
	if err != nil {
		return address.Address{}, fmt.Errorf("%w: %w", ErrAddressList, err)
	}
	a, err := address.New(local, d)
	if err != nil {
		return address.Address{}, fmt.Errorf("%w: %w", ErrAddressList, err)
	}
	return a, nil
}

// fail makes an error that shows where reading stopped.
func (p *listParser) fail(why string) error {
	at := p.s[min(p.i, len(p.s)):]
	if len(at) > 40 {
		at = at[:40] + "…"
	}
	return fmt.Errorf("%w: %s at %q", ErrAddressList, why, at)
}

// displayName joins the words of a phrase and decodes encoded-words.
func displayName(words []listWord) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 && w.text != "." && !w.glued {
			b.WriteByte(' ')
		}
		b.WriteString(w.text)
	}
	s := b.String()
	if strings.Contains(s, "=?") {
		dec := mime.WordDecoder{}
		if d, err := dec.DecodeHeader(s); err == nil {
			return d
		}
	}
	return s
}

// joinLocal joins words parted by dots into a local-part or domain.
func joinLocal(words []listWord) string {
	var b strings.Builder
	for _, w := range words {
		b.WriteString(w.text)
	}
	return b.String()
}
