// Package mime reads the structure of a message (RFC 2045, RFC 2046) as offsets,
// in one pass and in bounded memory, however broken the message is.
//
// It reads as the most lenient programs do, since what a person's program shows is what a
// filter must have seen; every oddity at which programs read differently is a Defect. What
// exceeds the Limits is left opaque, with a Defect, and costs linear time.
//
// Lines end with LF; a CR in front of it belongs to the line end. A Part is a value that
// nobody changes after Parse; reading parts is safe for concurrent use if the io.ReaderAt is.
package mime

import (
	"iter"
)

// Limits bound what Parse looks at; zero fields are the defaults.
type Limits struct {
	Depth   int // containers within containers: multiparts and enclosed messages; 32
	Parts   int // parts in all; 2,000
	Header  int // octets kept of one part's header section; 1 MiB
	Headers int // octets kept of all header sections; 2 MiB
	Decoded int // octets of encoded containers held in memory so that they can be entered; 4 MiB
}

// The defaults of Limits.
const (
	DefaultDepth   = 32
	DefaultParts   = 2000
	DefaultHeader  = 1 << 20
	DefaultHeaders = 2 << 20
	DefaultDecoded = 4 << 20
)

func (l Limits) withDefaults() Limits {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&l.Depth, DefaultDepth)
	set(&l.Parts, DefaultParts)
	set(&l.Header, DefaultHeader)
	set(&l.Headers, DefaultHeaders)
	set(&l.Decoded, DefaultDecoded)
	return l
}

// Part is one entity of a message: a leaf, a multipart, or an enclosed message's carrier,
// whose one child is the enclosed message.
type Part struct {
	// Header is the header section with its line ends, without the empty line; cut at
	// Limits.Header. Nil for a uuencoded block.
	Header []byte
	// Start, Body and End are offsets in octets: of the header section, of the content, and
	// behind the content. The line end in front of a boundary is the boundary's
	// (RFC 2046 §5.1.1). They count in the message, or, below a part with the Defect
	// EncodedContainer, in its decoded content.
	Start, Body, End int64
	// Type and Subtype are lower case; "text" and "plain" where the message says nothing
	// (RFC 2045 §5.2), "message" and "rfc822" in a digest (RFC 2046 §5.1.5).
	Type, Subtype string
	// Params are those of Content-Type with lower-case names, decoded (RFC 2231, and RFC 2047
	// as many programs write it), in UTF-8; nil when there are none.
	Params map[string]string
	// Disposition is lower case: "inline", "attachment", another word, or "" when absent.
	Disposition string
	// Filename is the name by Content-Disposition, or else by Content-Type; decoded, as the
	// sender wrote it: it may hold slashes and control characters.
	Filename string
	Encoding Encoding
	Charset  string // lower case, as declared; "" when it is not
	ID       string // Content-ID without its angle brackets
	Parent   *Part
	Children []*Part
	Defects  Defects // of this part alone

	depth    int     // containers around, this one too
	boundary string  // as written, of a multipart
	source   *source // where the offsets count; nil for the message itself
}

// source is the decoded content of an encoded container.
type source struct{ b []byte }

// Multipart reports a multipart that could be taken apart.
func (p *Part) Multipart() bool { return p.Type == "multipart" && len(p.Children) > 0 }

// Leaf reports a part with content of its own: no multipart or enclosed message that was
// entered. A text with uuencoded blocks is a leaf, and so are the blocks, its children.
func (p *Part) Leaf() bool {
	return len(p.Children) == 0 || p.Type != "multipart" && p.Children[0].Encoding == UUEncode && p.Children[0].Header == nil
}

// All yields the part and all below it, depth first, in their order in the message. It enters
// enclosed messages.
func (p *Part) All() iter.Seq[*Part] {
	return func(yield func(*Part) bool) { p.walk(yield) }
}

func (p *Part) walk(yield func(*Part) bool) bool {
	if !yield(p) {
		return false
	}
	for _, c := range p.Children {
		if !c.walk(yield) {
			return false
		}
	}
	return true
}

// AllDefects are those of the part and of all below it.
func (p *Part) AllDefects() Defects {
	var d Defects
	for q := range p.All() {
		d |= q.Defects
	}
	return d
}

// Encoding is a content transfer encoding (RFC 2045 §6).
type Encoding uint8

// The encodings.
const (
	Identity Encoding = iota // 7bit, 8bit, binary, none, and unknown ones (with a Defect)
	Base64
	QuotedPrintable
	UUEncode // x-uuencode, and blocks in a text
)

// String is the encoding's word.
func (e Encoding) String() string {
	switch e {
	case Base64:
		return "base64"
	case QuotedPrintable:
		return "quoted-printable"
	case UUEncode:
		return "x-uuencode"
	}
	return "identity"
}
