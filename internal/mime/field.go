package mime

import (
	"strings"

	"poczta.example/poczta/internal/message"
)

// readHeader reads the fields of MIME of the part's header section.
func (p *Part) readHeader() {
	var seen struct{ kind, encoding, disposition, id, name bool }
	var typeName string
	for f := range message.Fields(p.Header) {
		if f.Malformed() {
			if f.Offset > 0 || !strings.HasPrefix(strings.TrimPrefix(string(f.Raw[:min(8, len(f.Raw))]), ">"), "From ") {
				p.Defects |= BadHeader
			}
			continue
		}
		if len(f.Raw) < 11 || f.Raw[0]|0x20 != 'c' || f.Raw[7] != '-' {
			continue
		}
		switch {
		case f.Is("Content-Type"):
			if p.first(&seen.kind) {
				typeName = p.readType(f.Value())
			}
		case f.Is("Content-Transfer-Encoding"):
			if p.first(&seen.encoding) {
				p.readEncoding(f.Value())
			}
		case f.Is("Content-Disposition"):
			if p.first(&seen.disposition) {
				p.readDisposition(f.Value())
			}
		case f.Is("Content-ID"):
			if p.first(&seen.id) {
				p.ID = strings.Trim(f.Value(), "<> \t")
			}
		}
	}
	switch {
	case p.Filename == "":
		p.Filename = typeName
	case typeName != "" && typeName != p.Filename:
		p.Defects |= TypeAsName
	}
	p.checkOctets()
}

// first notes that a field stands here; a second one does not count.
func (p *Part) first(seen *bool) bool {
	if *seen {
		p.Defects |= RepeatedField
		return false
	}
	*seen = true
	return true
}

// checkOctets looks for octets at which programs stumble.
func (p *Part) checkOctets() {
	for i, c := range p.Header {
		if c > '\r' {
			continue
		}
		switch {
		case c == 0:
			p.Defects |= NUL
		case c == '\r' && (i+1 == len(p.Header) || p.Header[i+1] != '\n'):
			p.Defects |= BareCR
		}
	}
}

// readType reads Content-Type and returns the name parameter.
func (p *Part) readType(value string) (name string) {
	kind, rest, bad := cutValue(value)
	typ, sub, slash := strings.Cut(kind, "/")
	typ, sub = strings.ToLower(strings.TrimSpace(typ)), strings.ToLower(strings.TrimSpace(sub))
	if bad {
		p.Defects |= BadParam
	}
	if !slash || !token(typ) || !token(sub) {
		p.Defects |= BadType // RFC 2045 §5.2: then it is text/plain
		if typ != "multipart" {
			typ, sub = "text", "plain"
		}
	}
	p.Type, p.Subtype = typ, sub
	params, raw, defects := readParams(rest, "boundary")
	p.Params = params
	p.Defects |= defects
	p.Charset = strings.ToLower(strings.TrimSpace(params["charset"]))
	if p.Charset != "" && p.Type == "text" && !known(p.Charset) {
		p.Defects |= BadCharset
	}
	if p.Type == "multipart" {
		p.boundary = strings.TrimRight(raw, " \t\r\n")
		switch n := len(p.boundary); {
		case n == 0:
			p.Defects |= NoBoundary
		case n > maxBoundaryOctets:
			p.Defects |= NoBoundary | BadBoundary
			p.boundary = ""
		case n > 70: // RFC 2046 §5.1.1
			p.Defects |= BadBoundary
		}
	}
	return params["name"]
}

func (p *Part) readEncoding(value string) {
	word, _, _ := cutValue(value)
	switch strings.ToLower(strings.TrimSpace(word)) {
	case "", "7bit", "8bit", "binary":
	case "base64":
		p.Encoding = Base64
	case "quoted-printable":
		p.Encoding = QuotedPrintable
	case "x-uuencode", "x-uue", "uuencode", "uue":
		p.Encoding = UUEncode
	default:
		p.Defects |= BadEncoding
		p.guessEncoding(strings.ToLower(word))
	}
}

// guessEncoding reads words that lenient programs take for an encoding.
func (p *Part) guessEncoding(word string) {
	switch {
	case strings.Contains(word, "base64") || word == "base-64" || word == "b64":
		p.Encoding = Base64
	case strings.Contains(word, "quoted") || word == "qp":
		p.Encoding = QuotedPrintable
	}
}

func (p *Part) readDisposition(value string) {
	word, rest, bad := cutValue(value)
	p.Disposition = strings.ToLower(strings.TrimSpace(word))
	if bad || !token(p.Disposition) {
		p.Defects |= BadDisposition
		if !token(p.Disposition) {
			p.Disposition = ""
		}
	}
	params, _, defects := readParams(rest, "")
	p.Defects |= defects
	p.Filename = params["filename"]
	if p.Filename == "" {
		p.Filename = params["name"]
	}
}
