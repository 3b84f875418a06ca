// Package content reads what a message says: its visible text, its links, its attachments,
// and the oddities of its header section, structure and text as evidence.
//
// Read is a pure function of the octets and Facts; it looks nothing up and runs in bounded
// memory and linear time.
package content

import (
	"io"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/mime"
	"poczta.example/poczta/internal/verdict"
)

// Facts are what is known of the message beside its octets; all may be zero.
type Facts struct {
	// From is the reverse-path's address; zero for the null reverse-path.
	From address.Address
	// OurDomain reports whether the domain (lower case, A-labels) is one of ours; nil: none is,
	// as for mail of our own people, who may name themselves so.
	OurDomain func(domain string) bool
	Now       time.Time // for Date; zero: dates are not held against it
}

// Limits bound what is read; zero fields are the defaults.
type Limits struct {
	MIME  mime.Limits
	Text  int // octets of visible text; 256 KiB
	Raw   int // octets of readable parts that are decoded for it; 1 MiB
	Links int // links; 500
	URL   int // octets of a link's URL and of what it shows; 2,048
}

func (l Limits) withDefaults() Limits {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&l.Text, 256<<10)
	set(&l.Raw, 1<<20)
	set(&l.Links, 500)
	set(&l.URL, 2048)
	return l
}

// Content is what a message says.
type Content struct {
	Root    *mime.Part
	Header  []byte // the message's header section
	Subject string // decoded
	From    []message.Mailbox
	// Text is the visible text of the readable parts in order, in UTF-8: plain text, and of
	// HTML what a person sees, those of enclosed messages too. Of multipart/alternative all
	// are there. Invisible characters are left out. Cut at Limits.Text.
	Text  string
	Links []Link
	// Parts are the leaves that are attachments or no text, enclosed messages' too.
	Parts []*mime.Part
	Items []verdict.Item
}

// Link is where the text leads to.
type Link struct {
	URL string // as written, entities decoded; cut at Limits.URL
	// Host is lower case, in A-labels, without port, as a browser reads it; an address in
	// digits and dots, or IPv6 without brackets; "" when there is none, as in mailto.
	Host  string
	Shown string // the text that a person clicks, blanks squeezed; of a plain-text URL, the URL
	Kind  Kind
}

// Kind says how a link stands in the text.
type Kind uint8

// The kinds.
const (
	Anchor Kind = iota // a, area
	Plain              // a URL in the text
	Image              // img: loaded, not followed
	Form               // a form's action
)

// Read reads a message of size octets. It never fails on bad mail; an error is r's alone.
func Read(r io.ReaderAt, size int64, f Facts, l Limits) (*Content, error) {
	l = l.withDefaults()
	root, err := mime.Parse(r, size, l.MIME)
	if err != nil {
		return nil, err
	}
	c := &Content{Root: root, Header: root.Header}
	h := readHeader(root.Header)
	c.Subject, c.From = h.subject, h.from
	b := body{l: l, room: l.Raw, text: make([]byte, 0, min(int64(l.Text), size, 4<<10))}
	for p := range root.All() {
		if err := b.part(r, p); err != nil {
			return nil, err
		}
	}
	c.Text, c.Links, c.Parts = string(b.text), b.links, b.parts
	e := evidence{}
	e.header(&h, root, f)
	e.names(&h, f)
	e.structure(root)
	e.body(&b)
	e.look(c)
	c.Items = e.items
	return c, nil
}
