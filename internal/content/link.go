package content

import (
	"bytes"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// cutScheme parts a URL behind its scheme, in lower case; "" when there is none.
func cutScheme(url string) (scheme, rest string) {
	for i := range len(url) {
		switch c := url[i]; {
		case c == ':' && i > 0:
			return strings.ToLower(url[:i]), url[i+1:]
		case 'a' <= c|0x20 && c|0x20 <= 'z':
		case i > 0 && ('0' <= c && c <= '9' || c == '+' || c == '-' || c == '.'):
		default:
			return "", url
		}
	}
	return "", url
}

// special are the schemes that browsers read in a lenient way (WHATWG URL §3.1).
func special(scheme string) bool {
	return scheme == "http" || scheme == "https" || scheme == "ftp"
}

// hostOf returns the host that a browser would go to: lower case, in A-labels, an address in
// its plain form; "" when there is none. trick says how the URL hides its host.
func hostOf(url string) (host, trick string) {
	if strings.ContainsAny(url, "\t\r\n") { // browsers drop them
		url = strings.NewReplacer("\t", "", "\r", "", "\n", "").Replace(url)
	}
	scheme, rest := cutScheme(url)
	switch {
	case special(scheme):
		rest = strings.TrimLeft(rest, `/\`)
	case scheme != "":
		return "", ""
	case strings.HasPrefix(rest, "//"):
		rest = rest[2:]
	case len(rest) < 4 || !strings.EqualFold(rest[:4], "www."):
		return "", ""
	}
	if i := strings.IndexAny(rest, `/\?#`); i >= 0 {
		rest = rest[:i]
	}
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		if i > 0 { // nobody sends passwords in links, but what looks like a host
			trick = "a link has a name in front of its host"
		}
		rest = rest[i+1:]
	}
	if strings.HasPrefix(rest, "[") {
		inner, _, _ := strings.Cut(rest[1:], "]")
		if ip, err := netip.ParseAddr(inner); err == nil {
			return ip.WithZone("").String(), trick
		}
		return "", trick
	}
	rest, _, _ = strings.Cut(rest, ":")
	if strings.IndexByte(rest, '%') >= 0 {
		rest = unescape(rest)
		trick = "a link writes its host in numbers of characters"
	}
	return canonical(rest, trick)
}

// canonical makes a host lower case, in A-labels.
func canonical(host, trick string) (string, string) {
	host = strings.ToLower(strings.Trim(host, ". "))
	if host == "" || len(host) > 1024 {
		return "", trick
	}
	if ip, odd := numeric(host); ip != "" {
		if odd {
			trick = "a link writes an address as a number"
		}
		return ip, trick
	}
	ascii := true
	for i := range len(host) {
		if host[i] <= ' ' || host[i] == '<' || host[i] == '>' || host[i] == '"' {
			return "", trick
		}
		ascii = ascii && host[i] < utf8.RuneSelf
	}
	if !ascii {
		a, err := idna.Lookup.ToASCII(host)
		if err != nil {
			if a, err = idna.Punycode.ToASCII(host); err != nil {
				return "", trick
			}
		}
		if a2, odd := numeric(a); a2 != "" && !odd {
			return a2, "a link writes an address in unusual digits"
		}
		host = a
	}
	if unicode := toUnicode(host); unicode != host {
		if w := mixedWord(unicode); w != "" {
			trick = "the host of a link mixes letters of several scripts"
		}
	}
	return host, trick
}

// toUnicode returns a host as a person sees it.
func toUnicode(host string) string {
	if !strings.Contains(host, "xn--") {
		return host
	}
	u, err := idna.Punycode.ToUnicode(host)
	if err != nil {
		return host
	}
	return u
}

// numeric reads an IPv4 address as browsers do, each part decimal, octal or hexadecimal, the
// last part filling what is left (WHATWG URL §3.5). odd says that it is not written plainly.
func numeric(host string) (ip string, odd bool) {
	if c := host[len(host)-1]; !('0' <= c && c <= '9' || 'a' <= c && c <= 'f' || c == 'x') || host[0] < '0' || host[0] > '9' {
		return "", false
	}
	if a, err := netip.ParseAddr(host); err == nil && a.Is4() {
		return host, false
	}
	parts := strings.Split(host, ".")
	if len(parts) > 4 {
		return "", false
	}
	var v uint64
	for i, p := range parts {
		base := 10
		switch {
		case strings.HasPrefix(p, "0x"):
			base, p = 16, p[2:]
		case len(p) > 1 && p[0] == '0':
			base, p = 8, p[1:]
		}
		if p == "" {
			p = "0"
		}
		n, err := strconv.ParseUint(p, base, 32)
		if err != nil {
			return "", false
		}
		if i == len(parts)-1 {
			if left := uint(8 * (4 - i)); n >= 1<<left {
				return "", false
			} else {
				v = v<<left | n
			}
		} else if n > 255 {
			return "", false
		} else {
			v = v<<8 | n
		}
	}
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}).String(), true
}

// unescape undoes %XX.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(v))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// plainLinks finds the URLs in a text: those with a scheme, and those that begin with "www.".
func (b *body) plainLinks(text []byte) {
	i, w := -1, -1 // the next of each kind; each octet is looked at once for each
	for at := 0; at < len(text) && len(b.links) < b.l.Links; {
		if i < at {
			i = nextAt(text, at, bytes.Index(text[at:], []byte("://")))
		}
		if w < at {
			w = nextAt(text, at, indexWWW(text[at:]))
		}
		from := min(i, w)
		if from == len(text) {
			return
		}
		if i < w {
			for n := 0; n < 6 && from > at && 'a' <= text[from-1]|0x20 && text[from-1]|0x20 <= 'z'; n++ {
				from--
			}
			if s, _ := cutScheme(string(text[from : i+1])); !special(s) {
				at = i + 3
				continue
			}
		}
		end := from
		for end < len(text) && end-from < b.l.URL && text[end] > ' ' && text[end] != '<' && text[end] != '>' && text[end] != '"' && text[end] != '`' && text[end] != '|' {
			end++
		}
		url := strings.TrimRight(string(bytes.ToValidUTF8(text[from:end], nil)), ".,;:!?'*_)]}")
		b.link(url, url, Plain)
		at = max(end, from+1)
	}
}

// nextAt is an index counted from at; the end when there is none.
func nextAt(text []byte, at, i int) int {
	if i < 0 {
		return len(text)
	}
	return at + i
}

// indexWWW finds "www." at the beginning of a word; -1 when there is none.
func indexWWW(text []byte) int {
	for at := 0; ; {
		i := bytes.IndexByte(text[at:], '.')
		if i < 0 {
			return -1
		}
		i += at
		if i >= 3 && text[i-1]|0x20 == 'w' && text[i-2]|0x20 == 'w' && text[i-3]|0x20 == 'w' && (i == 3 || !wordOctet(text[i-4])) &&
			i+1 < len(text) && wordOctet(text[i+1]) {
			return i - 3
		}
		at = i + 1
	}
}

func wordOctet(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || c >= utf8.RuneSelf || c == '/' || c == '.' || c == '-' || c == '@'
}
