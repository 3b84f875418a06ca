package milter

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
)

// Message is what a milter is asked about. It is a value: Apply returns another one.
type Message struct {
	Origin   envelope.Origin
	Envelope envelope.Envelope
	Header   []byte      // the header section, each line with its CRLF, without the empty line
	Body     io.ReaderAt // what is behind the empty line; nil when there is nothing
	Size     int64       // of Body, octets
	QueueID  string
	// Mechanism is the SASL mechanism by which Origin.Login was proven, for the macro
	// {auth_type}. "" with a login is "UNKNOWN", since milters ask only whether there is one.
	Mechanism string
	// Macros stand beside those made of Origin and Envelope, or in their place. Names of more
	// than one letter have braces, as in "{mail_mailer}".
	Macros map[string]string
}

// Kind says what a Change does.
type Kind uint8

// The kinds of changes.
const (
	AddHeader       Kind = iota // Name and Value behind all others
	InsertHeader                // Name and Value at Index
	ChangeHeader                // the Index-th field of that Name gets Value; "" removes it
	AddRecipient                // ForwardPath, with Args
	DeleteRecipient             // ForwardPath
	ChangeFrom                  // ReversePath, with Args
	ReplaceBody                 // Body and Size
	numKinds
)

var kindNames = [numKinds]string{"add header", "insert header", "change header", "add recipient", "delete recipient", "change reverse-path", "replace body"}

// String is the kind in words.
func (k Kind) String() string {
	if k < numKinds {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Change is one thing a milter wants changed.
type Change struct {
	Kind Kind
	Name string // of a header field
	// Value is what stands behind the colon, with the blank it begins with, folded by CRLF,
	// without the line end. "" in ChangeHeader removes the field.
	Value string
	// Index of InsertHeader: 0 and 1 are in front of the fields that the milter has seen, since
	// it counts the Received field of this server as the first; n is behind the n-1-th field.
	// Beyond the last it is the end. Of ChangeHeader: 1 is the first field of that name; fields
	// removed by earlier changes of the same milter still count, as in Sendmail; beyond the last
	// it adds a field.
	Index       int
	ForwardPath address.ForwardPath
	ReversePath address.ReversePath
	Args        string      // ESMTP parameters as the milter wrote them, or ""; Apply leaves them to the caller
	Body        io.ReaderAt // lines end with CRLF
	Size        int64
}

// String tells of the change in a few words, without content.
func (c Change) String() string {
	switch c.Kind {
	case AddHeader, InsertHeader, ChangeHeader:
		if c.Kind == ChangeHeader && c.Value == "" {
			return "remove header " + c.Name
		}
		return c.Kind.String() + " " + c.Name
	case AddRecipient, DeleteRecipient:
		return c.Kind.String() + " " + c.ForwardPath.String()
	case ChangeFrom:
		return c.Kind.String() + " " + c.ReversePath.String()
	case ReplaceBody, numKinds:
	}
	return c.Kind.String()
}

// line is a field or a malformed line of a header section under change.
type line struct {
	name string // "" when malformed
	raw  []byte
	gone bool
}

// Apply returns the message with the changes of one milter, which must be all of its changes,
// in their order. m itself is not touched. Recipients that are there already are not added
// again; the parameters of a new one are the caller's to read from Change.Args.
func (m Message) Apply(changes []Change) Message {
	var lines []line
	for f := range message.Fields(m.Header) {
		lines = append(lines, line{name: f.Name(), raw: f.Raw})
	}
	m.Envelope.Recipients = slices.Clone(m.Envelope.Recipients)
	edited := false
	for _, c := range changes {
		switch c.Kind {
		case AddHeader, InsertHeader, ChangeHeader:
			lines, edited = applyHeader(lines, c), true
		case AddRecipient:
			same := func(r envelope.Recipient) bool { return r.ForwardPath.Key() == c.ForwardPath.Key() }
			if !slices.ContainsFunc(m.Envelope.Recipients, same) {
				m.Envelope.Recipients = append(m.Envelope.Recipients, envelope.Recipient{ForwardPath: c.ForwardPath})
			}
		case DeleteRecipient:
			m.Envelope.Recipients = slices.DeleteFunc(m.Envelope.Recipients, func(r envelope.Recipient) bool {
				return r.ForwardPath.Key() == c.ForwardPath.Key()
			})
		case ChangeFrom:
			m.Envelope.ReversePath = c.ReversePath
		case ReplaceBody:
			m.Body, m.Size = c.Body, c.Size
		case numKinds:
		}
	}
	if edited {
		m.Header = join(lines)
	}
	return m
}

func join(lines []line) []byte {
	var b []byte
	for _, l := range lines {
		if l.gone {
			continue
		}
		if n := len(b); n > 0 && b[n-1] != '\n' { // the last line of a message without body
			b = append(b, "\r\n"...)
		}
		b = append(b, l.raw...)
	}
	return b
}

func applyHeader(lines []line, c Change) []line {
	made := line{name: c.Name, raw: []byte(c.Name + ":" + c.Value + "\r\n")}
	switch c.Kind {
	case InsertHeader:
		at, seen := 0, 0
		for at < len(lines) && seen < c.Index-1 {
			if lines[at].name != "" && !lines[at].gone {
				seen++
			}
			at++
		}
		return slices.Insert(lines, at, made)
	case ChangeHeader:
		seen := 0
		for i := range lines {
			if !strings.EqualFold(lines[i].name, c.Name) {
				continue
			}
			if seen++; seen < max(c.Index, 1) {
				continue
			}
			lines[i].gone = c.Value == ""
			if c.Value != "" {
				lines[i].raw = made.raw
			}
			return lines
		}
		if c.Value == "" {
			return lines
		}
	case AddHeader, AddRecipient, DeleteRecipient, ChangeFrom, ReplaceBody, numKinds:
	}
	return append(lines, made)
}
