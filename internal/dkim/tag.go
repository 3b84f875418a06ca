package dkim

import (
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Tag is one element of a tag-list (RFC 6376 §3.2).
type Tag struct {
	Name  string // case matters
	Value string // without blanks and folding at its ends
}

// ParseTags reads a tag-list: tag-specs parted by semicolons, the last of which
// may be followed by one. A repeated name makes the list malformed (RFC 6376
// §3.2), as does a value with octets that tval does not allow; UTF-8 beyond
// ASCII is taken (RFC 8616 §5). The error says what is wrong.
func ParseTags(s string) ([]Tag, error) {
	var tags []Tag
	for more := true; more; {
		var spec string
		spec, s, more = strings.Cut(s, ";")
		if !more && trimFWS(spec) == "" && len(tags) > 0 {
			break
		}
		t, err := parseTag(spec)
		if err != nil {
			return nil, err
		}
		for _, old := range tags {
			if old.Name == t.Name {
				return nil, fmt.Errorf("tag %s= is there twice", t.Name)
			}
		}
		tags = append(tags, t)
		if len(tags) > maxTags {
			return nil, fmt.Errorf("more than %d tags", maxTags)
		}
	}
	return tags, nil
}

// maxTags bounds a list; RFC 6376 knows fifteen.
const maxTags = 64

func parseTag(spec string) (Tag, error) {
	name, value, ok := strings.Cut(spec, "=")
	name = trimFWS(name)
	if !ok {
		return Tag{}, fmt.Errorf("%.40q is no tag: it lacks =", spec)
	}
	if !isTagName(name) {
		return Tag{}, fmt.Errorf("%.40q is no name of a tag", name)
	}
	value = trimFWS(value)
	if !utf8.ValidString(value) {
		return Tag{}, fmt.Errorf("tag %s= is not UTF-8", name)
	}
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' && c != '\r' && c != '\n' || c == 0x7f {
			return Tag{}, fmt.Errorf("tag %s= holds a control character", name)
		}
	}
	return Tag{Name: name, Value: value}, nil
}

// isTagName is ALPHA *ALNUMPUNC.
func isTagName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (i == 0 || !(c >= '0' && c <= '9') && c != '_') {
			return false
		}
	}
	return s != ""
}

func trimFWS(s string) string { return strings.Trim(s, " \t\r\n") }

// dropFWS removes every blank and line end.
func dropFWS(s string) string {
	if !strings.ContainsAny(s, " \t\r\n") {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := range len(s) {
		if c := s[i]; c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			b = append(b, c)
		}
	}
	return string(b)
}

// list parts the colon-separated values of a tag, without blanks around each.
func list(s string) []string {
	parts := strings.Split(s, ":")
	for i := range parts {
		parts[i] = trimFWS(parts[i])
	}
	return parts
}

// decodeBase64 reads base64 with folding white space anywhere (RFC 6376 §2.10).
// The padding must be right; its unused bits are not looked at, since signatures
// of others have them.
func decodeBase64(s string) ([]byte, error) {
	return base64.StdEncoding.DecodeString(dropFWS(s))
}
