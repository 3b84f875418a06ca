package mailfile

import (
	"encoding/base64"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// utf7 is the base64 of modified UTF-7 (RFC 9051 appendix A.1).
var utf7 = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").WithPadding(base64.NoPadding)

// decodeUTF7 decodes a folder's name from modified UTF-7. A name that is not
// well-formed is taken as it is, with octets that are no UTF-8 replaced.
func decodeUTF7(name string) string {
	var out strings.Builder
	for rest := name; ; {
		before, after, found := strings.Cut(rest, "&")
		out.WriteString(before)
		if !found {
			return strings.ToValidUTF8(out.String(), "\ufffd")
		}
		code, tail, found := strings.Cut(after, "-")
		if !found {
			return strings.ToValidUTF8(name, "\ufffd")
		}
		if code == "" {
			out.WriteByte('&')
		} else {
			octets, err := utf7.DecodeString(code)
			if err != nil || len(octets)%2 != 0 {
				return strings.ToValidUTF8(name, "\ufffd")
			}
			units := make([]uint16, len(octets)/2)
			for i := range units {
				units[i] = uint16(octets[2*i])<<8 | uint16(octets[2*i+1])
			}
			out.WriteString(string(utf16.Decode(units)))
		}
		rest = tail
	}
}

// encodeUTF7 encodes a folder's name in modified UTF-7.
func encodeUTF7(name string) string {
	var out strings.Builder
	var wide []rune
	flush := func() {
		if len(wide) == 0 {
			return
		}
		var octets []byte
		for _, u := range utf16.Encode(wide) {
			octets = append(octets, byte(u>>8), byte(u))
		}
		out.WriteString("&" + utf7.EncodeToString(octets) + "-")
		wide = wide[:0]
	}
	for _, r := range name {
		if r >= ' ' && r < utf8.RuneSelf && r != 0x7f {
			flush()
			out.WriteRune(r)
			if r == '&' {
				out.WriteByte('-')
			}
			continue
		}
		wide = append(wide, r)
	}
	flush()
	return out.String()
}
