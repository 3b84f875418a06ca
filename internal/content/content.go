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
	// OurDomain reports whether the domain (lower case, A-labels) is one of ours; nil: none is.
	OurDomain func(domain string) bool
	// Outside says that the message comes from strangers, so that our domains in a display-name count.
	Outside bool
	Now     time.Time // for Date; zero: dates are not judged
}

// Limits bound what is read; zero fields are the defaults.
type Limits struct {
	MIME  mime.Limits
	Text  int // octets of visible text; 256 KiB
	HTML  int // octets of HTML that are read for it; 1 MiB
	Links int // links; 500
	URL   int // octets of a link's URL and of what it shows; 2,048
}

// Content is what a message says.
type Content struct {
	Root    *mime.Part
	Header  []byte // the message's header section
	Subject string // decoded
	From    []message.Mailbox
	// Text is the visible text of the readable parts in order, in UTF-8: plain text, and of
	// HTML what a person sees. Of multipart/alternative both are there. Cut at Limits.Text.
	Text  string
	Links []Link
	// Parts are the leaves that are attachments or no text, enclosed messages' too.
	Parts []*mime.Part
	Items []verdict.Item
}

// Link is where the text leads to.
type Link struct {
	URL   string // as written, entities decoded; cut at Limits.URL
	Host  string // lower case, A-labels, without port; an address literal without brackets; "" when there is none
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
	root, err := mime.Parse(r, size, l.MIME)
	if err != nil {
		return nil, err
	}
	return &Content{Root: root, Header: root.Header}, nil
}
