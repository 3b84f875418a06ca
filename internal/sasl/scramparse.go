package sasl

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits of SCRAM messages, in octets. RFC 5802 sets none.
const (
	maxScramOctets = 4096
	maxNonceOctets = 256
)

// clientFirst is client-first-message taken apart. RFC 5802 §7
type clientFirst struct {
	header  string // gs2-header, as written
	flag    byte   // 'n', 'y' or 'p'
	binding string // channel binding type of 'p'
	authzid string
	bare    string // client-first-message-bare, as written
	authcid string
	nonce   string
}

// clientFinal is client-final-message taken apart. RFC 5802 §7
type clientFinal struct {
	binding      []byte
	nonce        string
	proof        []byte
	withoutProof string
}

func parseClientFirst(msg []byte) (clientFirst, error) {
	var m clientFirst
	if len(msg) > maxScramOctets || !utf8.Valid(msg) || bytes.IndexByte(msg, 0) >= 0 {
		return m, fmt.Errorf("%w: it must be UTF-8 of at most %d octets", ErrMalformed, maxScramOctets)
	}
	text := string(msg)
	flag, rest, ok := strings.Cut(text, ",")
	authzid, bare, ok2 := strings.Cut(rest, ",")
	if !ok || !ok2 {
		return m, fmt.Errorf("%w: no GS2 header", ErrMalformed)
	}
	m.header, m.bare = text[:len(text)-len(bare)], bare
	switch name, isBinding := strings.CutPrefix(flag, "p="); {
	case flag == "n" || flag == "y":
		m.flag = flag[0]
	case isBinding && validBindingName(name):
		m.flag, m.binding = 'p', name
	default:
		return m, fmt.Errorf("%w: bad channel binding flag", ErrMalformed)
	}
	if authzid != "" {
		name, ok := strings.CutPrefix(authzid, "a=")
		if m.authzid, ok = saslName(name, ok); !ok {
			return m, fmt.Errorf("%w: bad authzid", ErrMalformed)
		}
	}
	return m, m.parseBare()
}

func (m *clientFirst) parseBare() error {
	attrs := strings.Split(m.bare, ",")
	if strings.HasPrefix(attrs[0], "m=") {
		return fmt.Errorf("%w: extensions are not supported", ErrMalformed)
	}
	name, ok := strings.CutPrefix(attrs[0], "n=")
	if m.authcid, ok = saslName(name, ok); !ok || len(attrs) < 2 {
		return fmt.Errorf("%w: bad username", ErrMalformed)
	}
	if m.nonce, ok = strings.CutPrefix(attrs[1], "r="); !ok || !validNonce(m.nonce) {
		return fmt.Errorf("%w: bad nonce", ErrMalformed)
	}
	return checkExtensions(attrs[2:])
}

func parseClientFinal(msg []byte) (clientFinal, error) {
	var m clientFinal
	if len(msg) > maxScramOctets || !utf8.Valid(msg) || bytes.IndexByte(msg, 0) >= 0 {
		return m, fmt.Errorf("%w: it must be UTF-8 of at most %d octets", ErrMalformed, maxScramOctets)
	}
	text := string(msg)
	at := strings.LastIndex(text, ",p=")
	if at < 0 {
		return m, fmt.Errorf("%w: no proof at its end", ErrMalformed)
	}
	m.withoutProof = text[:at]
	attrs := strings.Split(m.withoutProof, ",")
	if len(attrs) < 2 || !strings.HasPrefix(attrs[0], "c=") || !strings.HasPrefix(attrs[1], "r=") {
		return m, fmt.Errorf("%w: no channel binding or nonce", ErrMalformed)
	}
	var err error
	if m.binding, err = decode([]byte(attrs[0][2:])); err != nil {
		return m, err
	}
	if m.proof, err = decode([]byte(text[at+3:])); err != nil {
		return m, err
	}
	m.nonce = attrs[1][2:]
	return m, checkExtensions(attrs[2:])
}

// checkExtensions admits optional extensions, which are ignored: attr-val of a
// letter, "=" and at least one octet.
func checkExtensions(attrs []string) error {
	for _, a := range attrs {
		if len(a) < 3 || a[1] != '=' || !isLetter(a[0]) || a[0] == 'm' {
			return fmt.Errorf("%w: bad attribute", ErrMalformed)
		}
	}
	return nil
}

// saslName decodes a saslname: "=2C" is a comma, "=3D" an equals sign, and no
// other "=" may stand in it. ok false stays false.
func saslName(s string, ok bool) (string, bool) {
	if !ok || s == "" || len(s) > maxFieldOctets {
		return "", false
	}
	if !strings.Contains(s, "=") {
		return s, true
	}
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, "=")
		b.WriteString(before)
		if !found {
			return b.String(), true
		}
		switch {
		case strings.HasPrefix(after, "2C"):
			b.WriteByte(',')
		case strings.HasPrefix(after, "3D"):
			b.WriteByte('=')
		default:
			return "", false
		}
		s = after[2:]
	}
}

// validNonce reports whether s is printable US-ASCII without a comma, of
// bounded length.
func validNonce(s string) bool {
	if s == "" || len(s) > maxNonceOctets {
		return false
	}
	for i := range len(s) {
		if s[i] < 0x21 || s[i] > 0x7e || s[i] == ',' {
			return false
		}
	}
	return true
}

func validBindingName(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isLetter(c) && (c < '0' || c > '9') && c != '.' && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
