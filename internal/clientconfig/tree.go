package clientconfig

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/text/encoding/charmap"
)

// Bounds of a document beside MaxOctets.
const (
	maxElements = 5000
	maxDepth    = 24
	maxText     = 4096 // octets of one element's text that are kept
)

// element is an XML element. Namespaces are left off: those who write settings by
// hand leave them off or mistake them.
type element struct {
	name  string
	attrs map[string]string
	text  string
	kids  []*element
}

// readTree reads a document whole. Entities other than XML's own five are refused
// rather than expanded, and document types are ignored, so that a small document
// stays small. The error wraps ErrTooLarge or ErrSyntax.
func readTree(text []byte) (*element, error) {
	if len(text) > MaxOctets {
		return nil, fmt.Errorf("%w: more than %d octets", ErrTooLarge, MaxOctets)
	}
	dec := xml.NewDecoder(bytes.NewReader(bytes.TrimPrefix(text, []byte("\ufeff"))))
	dec.CharsetReader = charset
	b := treeBuilder{}
	for {
		tok, err := dec.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrSyntax, err)
		}
		if err := b.token(tok); err != nil {
			return nil, err
		}
	}
	if b.root == nil || len(b.open) > 0 {
		return nil, fmt.Errorf("%w: it is no whole XML document", ErrSyntax)
	}
	return b.root, nil
}

// treeBuilder makes a tree of tokens.
type treeBuilder struct {
	root  *element
	open  []*element
	count int
}

func (b *treeBuilder) token(tok xml.Token) error {
	switch tok := tok.(type) {
	case xml.StartElement:
		if b.count++; b.count > maxElements || len(b.open) >= maxDepth {
			return fmt.Errorf("%w: more than %d elements, or deeper than %d", ErrTooLarge, maxElements, maxDepth)
		}
		e := &element{name: tok.Name.Local}
		for _, a := range tok.Attr {
			if e.attrs == nil {
				e.attrs = map[string]string{}
			}
			e.attrs[a.Name.Local] = a.Value
		}
		switch {
		case len(b.open) > 0:
			top := b.open[len(b.open)-1]
			top.kids = append(top.kids, e)
		case b.root != nil:
			return fmt.Errorf("%w: there is more than one document", ErrSyntax)
		default:
			b.root = e
		}
		b.open = append(b.open, e)
	case xml.EndElement:
		if len(b.open) == 0 || b.open[len(b.open)-1].name != tok.Name.Local {
			return fmt.Errorf("%w: </%s> closes nothing", ErrSyntax, clip(tok.Name.Local))
		}
		b.open = b.open[:len(b.open)-1]
	case xml.CharData:
		if n := len(b.open); n > 0 {
			e := b.open[n-1]
			e.text += string(tok[:min(len(tok), maxText-min(len(e.text), maxText))])
		}
	}
	return nil
}

// charset reads the encodings that are met beside UTF-8.
func charset(name string, r io.Reader) (io.Reader, error) {
	switch strings.ToLower(name) {
	case "utf-8", "utf8", "us-ascii", "ascii":
		return r, nil
	case "iso-8859-1", "latin1", "windows-1252":
		return charmap.Windows1252.NewDecoder().Reader(r), nil
	case "iso-8859-2", "latin2":
		return charmap.ISO8859_2.NewDecoder().Reader(r), nil
	case "windows-1250":
		return charmap.Windows1250.NewDecoder().Reader(r), nil
	}
	return nil, fmt.Errorf("the character set %q is not read", clip(name))
}

// all returns the children of that name.
func (e *element) all(name string) []*element {
	var out []*element
	for _, k := range e.kids {
		if k.name == name {
			out = append(out, k)
		}
	}
	return out
}

// kid returns the first child of that name; nil for none.
func (e *element) kid(name string) *element {
	if e == nil {
		return nil
	}
	for _, k := range e.kids {
		if k.name == name {
			return k
		}
	}
	return nil
}

// value returns the text of the first child of that name, trimmed.
func (e *element) value(name string) string {
	if k := e.kid(name); k != nil {
		return strings.TrimSpace(k.text)
	}
	return ""
}

// port reads a port number.
func port(s string) (uint16, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err == nil && n > 0
}

// ipHost reads an IP address, with or without brackets.
func ipHost(s string) (string, bool) {
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	if err != nil || a.Zone() != "" {
		return "", false
	}
	return a.Unmap().String(), true
}

// clip shortens a foreign text for a message.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > 80 {
		s = strings.ToValidUTF8(s[:80], "") + "…"
	}
	return s
}

// escape writes text for XML.
func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(strings.ToValidUTF8(s, "\ufffd"))) // a Builder takes everything
	return b.String()
}
