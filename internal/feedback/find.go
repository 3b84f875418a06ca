package feedback

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"

	"poczta.example/poczta/internal/mime"
)

// Kind is what a part of a message seems to hold.
type Kind uint8

// The kinds.
const (
	XML    Kind = iota // an aggregate report: ReadXML
	JSON               // a report of TLS (RFC 8460)
	Fields             // a failure report: ReadFailure
	Text               // words for people, which may be a failure report: ReadPlainFailure
)

// maxParts bounds the parts of a message that are looked at.
const maxParts = 8

// Find looks for reports in a message: parts with the media types of reports, or named or
// packed like them, wherever they stand, and the message itself when it has one part. Types are
// believed less than content. try gets what is in each, unpacked and of at most
// l.Unpacked octets, until it returns nil. The error is that of the last try, or wraps
// ErrFormat when there is nothing to try. Enclosed messages are not looked into: of a
// failure report that is the message it is about.
func Find(r io.ReaderAt, root *mime.Part, l Limits, try func(Kind, io.Reader) error) error {
	last := fmt.Errorf("%w: no part of the message is one", ErrFormat)
	for _, c := range candidates(root) {
		var err error
		switch c.kind {
		case Fields, Text:
			err = try(c.kind, c.part.Open(r))
		default:
			err = Unpack(c.part.Open(r), l, func(plain io.Reader) error {
				in := bufio.NewReader(plain)
				kind, ok := sniff(in)
				if !ok {
					return fmt.Errorf("%w: neither XML nor JSON", ErrFormat)
				}
				return try(kind, in)
			})
		}
		if err == nil {
			return nil
		}
		last = err
	}
	return last
}

// sniff tells XML from JSON by the first octets.
func sniff(in *bufio.Reader) (Kind, bool) {
	head, _ := in.Peek(512) // fewer at the end
	if bytes.HasPrefix(head, []byte{0xff, 0xfe}) || bytes.HasPrefix(head, []byte{0xfe, 0xff}) {
		return XML, true // UTF-16
	}
	head = bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")), " \t\r\n")
	switch {
	case bytes.HasPrefix(head, []byte("<")):
		return XML, true
	case bytes.HasPrefix(head, []byte("{")):
		return JSON, true
	}
	return 0, false
}

// candidate is a part with what its type says; XML stands for any file.
type candidate struct {
	part *mime.Part
	kind Kind
}

// candidates are the parts to try, the likeliest first.
func candidates(root *mime.Part) []candidate {
	var out, texts []candidate
	var walk func(p *mime.Part)
	walk = func(p *mime.Part) {
		if p.Type == "multipart" {
			for _, c := range p.Children {
				walk(c)
			}
			return
		}
		switch {
		case p.Type == "message" && p.Subtype == "feedback-report":
			out = append(out, candidate{p, Fields})
		case isFile(p):
			out = append(out, candidate{p, XML})
		case p.Type == "text" && p.Subtype == "plain" && p.Parent != nil && p.Parent.Subtype == "report":
			texts = append(texts, candidate{p, Text})
		}
	}
	walk(root)
	out = append(out, texts...)
	return out[:min(len(out), maxParts)]
}

// isFile reports whether a part may be a report's file by its type or its name.
func isFile(p *mime.Part) bool {
	switch p.Type + "/" + p.Subtype {
	case "application/gzip", "application/x-gzip", "application/gzip-compressed", "application/gzipped", "application/x-gunzip", "application/zip",
		"application/x-zip", "application/x-zip-compressed", "application/xml", "text/xml", "application/json",
		"application/tlsrpt+json", "application/tlsrpt+gzip":
		return true
	}
	name := strings.ToLower(p.Filename)
	for _, end := range []string{".xml", ".gz", ".zip", ".json"} {
		if strings.HasSuffix(name, end) {
			return true
		}
	}
	return false
}
