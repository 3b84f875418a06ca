package message

import (
	"encoding/base64"
	"mime"
	"strings"
	"unicode/utf8"
)

// Downgrade returns the surrogate of a header section for programs without
// UTF-8 (RFC 6856 §2, after the ideas of RFC 6857 and RFC 6858). The result is
// ASCII; its length is what the surrogate adds to the size of the body. Fields
// that are ASCII stay as they are, octet for octet. Others:
//
//   - a field with addresses keeps its name; display-names become encoded-words,
//     and an address whose local-part is not ASCII becomes
//     <invalid@internationalized-address.invalid> with the true one in its
//     display-name, so that nobody answers to a wrong mailbox unknowingly;
//   - Return-Path, which has no place for a display-name, is that path alone;
//   - Content-Type and Content-Disposition keep their structure, values become
//     RFC 2231 extended parameters;
//   - Received loses its "for" clause;
//   - another structured field, whose grammar has no place for encoded-words, is
//     renamed Downgraded-NAME with its value in encoded-words;
//   - any other field becomes encoded-words.
//
// Header fields inside of body parts are left as they are.
func Downgrade(header []byte) []byte {
	if !NeedsUTF8(header) {
		return header
	}
	out := make([]byte, 0, len(header)+len(header)/2)
	for f := range Fields(header) {
		if !NeedsUTF8(f.Raw) {
			out = append(out, f.Raw...)
			continue
		}
		out = downgradeField(out, f)
	}
	return out
}

// invalidMailbox stands for an address that can't be shown (RFC 6858 §2.1).
const invalidMailbox = "<invalid@internationalized-address.invalid>"

func downgradeField(out []byte, f Field) []byte {
	name := f.Name()
	switch kindOf(name) {
	case kindMalformed:
		return append(out, questionMarks(f.Raw)...)
	case kindAddress:
		if items, err := parseList(f.Value()); err == nil {
			return appendAddresses(out, name, items)
		}
		return appendEncoded(out, "Downgraded-"+name, f.Value())
	case kindParameters:
		return appendParameters(out, f)
	case kindReceived:
		return appendReceived(out, f)
	case kindStructured:
		return appendEncoded(out, "Downgraded-"+name, f.Value())
	case kindReturnPath:
		return append(out, name+": "+invalidMailbox+"\r\n"...)
	default:
		return appendEncoded(out, name, f.Value())
	}
}

// fieldKind says how a field is downgraded.
type fieldKind uint8

const (
	kindUnstructured fieldKind = iota
	kindMalformed
	kindAddress
	kindParameters
	kindReceived
	kindStructured
	kindReturnPath
)

func kindOf(name string) fieldKind {
	switch strings.ToLower(name) {
	case "":
		return kindMalformed
	case "from", "sender", "reply-to", "to", "cc", "bcc", "resent-from", "resent-sender", "resent-reply-to",
		"resent-to", "resent-cc", "resent-bcc", "disposition-notification-to",
		"return-receipt-to", "errors-to", "mail-followup-to", "mail-reply-to":
		return kindAddress
	case "return-path":
		return kindReturnPath
	case "content-type", "content-disposition":
		return kindParameters
	case "received":
		return kindReceived
	case "message-id", "in-reply-to", "references", "resent-message-id", "content-id", "original-message-id",
		"date", "resent-date", "mime-version", "content-transfer-encoding", "content-location", "content-base",
		"dkim-signature", "domainkey-signature", "authentication-results", "received-spf",
		"arc-seal", "arc-message-signature", "arc-authentication-results",
		"list-id", "list-help", "list-post", "list-subscribe", "list-unsubscribe", "list-owner", "list-archive",
		"list-unsubscribe-post", "auto-submitted", "autocrypt", "original-recipient", "disposition-notification-options":
		return kindStructured
	}
	return kindUnstructured
}

// encodedWords writes s as encoded-words of RFC 2047, each within 75 octets, in
// base64, which is legal in every place. Octets that are no UTF-8 are labelled
// unknown-8bit (RFC 1428).
func encodedWords(s string) []string {
	charset, valid := "UTF-8", utf8.ValidString(s)
	if !valid {
		charset = "unknown-8bit"
	}
	const most = 39 // octets of text in a word: 52 of base64, with the frame under 75
	var words []string
	for s != "" {
		n := min(most, len(s))
		for valid && n < len(s) && !utf8.RuneStart(s[n]) {
			n--
		}
		words = append(words, "=?"+charset+"?B?"+base64.StdEncoding.EncodeToString([]byte(s[:n]))+"?=")
		s = s[n:]
	}
	return words
}

func appendEncoded(out []byte, name, value string) []byte {
	f := newFolder(out, name)
	for _, w := range encodedWords(value) {
		f.word(w)
	}
	return f.end()
}

// appendAddresses writes an address list, one mailbox after the other.
func appendAddresses(out []byte, name string, items []listItem) []byte {
	f := newFolder(out, name)
	for i, it := range items {
		tail := ","
		if i+1 == len(items) || items[i+1].kind == itemGroupEnd {
			tail = ""
		}
		switch it.kind {
		case itemGroup:
			words := phraseWords(it.Name)
			words[len(words)-1] += ":"
			addWords(f, words)
		case itemGroupEnd:
			f.word(";" + tail)
		default:
			addWords(f, mailboxWords(it.Mailbox, tail))
		}
	}
	return f.end()
}

func addWords(f *folder, words []string) {
	for _, w := range words {
		f.word(w)
	}
}

func mailboxWords(m Mailbox, tail string) []string {
	if m.Address.IsASCII() {
		if m.Name == "" {
			return []string{m.Address.String() + tail}
		}
		return append(phraseWords(m.Name), "<"+m.Address.String()+">"+tail)
	}
	shown := m.Address.Unicode()
	if m.Name != "" {
		shown = m.Name + " (" + shown + ")"
	}
	return append(encodedWords(shown), invalidMailbox+tail)
}

// phraseWords writes a display-name as words, quoted or encoded when needed;
// there is always one word at least.
func phraseWords(name string) []string {
	plain := true
	for i := range len(name) {
		c := name[i]
		if c >= 0x7f || c < ' ' {
			return encodedWords(name)
		}
		plain = plain && (c == ' ' || isListAtom(c))
	}
	if plain && !strings.Contains(name, "=?") && strings.TrimSpace(name) != "" {
		return strings.Fields(name)
	}
	if len(name) > foldAt-4 || strings.Contains(name, "=?") {
		return append(encodedWords(name), emptyWord(name)...)
	}
	return []string{`"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `"`}
}

// emptyWord is the word of an empty name.
func emptyWord(name string) []string {
	if name == "" {
		return []string{`""`}
	}
	return nil
}

// appendParameters rewrites a MIME field. One that can't be read keeps its
// structure, with question marks for what is not ASCII.
func appendParameters(out []byte, f Field) []byte {
	value, params, err := mime.ParseMediaType(f.Value())
	if err != nil || NeedsUTF8([]byte(value)) {
		return append(out, questionMarks(f.Raw)...)
	}
	s := mime.FormatMediaType(value, params)
	if s == "" {
		return append(out, questionMarks(f.Raw)...)
	}
	fold := newFolder(out, f.Name())
	parts := strings.Split(s, "; ") // a value with "; " inside is put together again by its blank
	for i, part := range parts {
		if i+1 < len(parts) {
			part += ";"
		}
		fold.word(part)
	}
	return fold.end()
}

// appendReceived leaves out the "for" clause; when that does not help, the field
// is renamed like other structured ones.
func appendReceived(out []byte, f Field) []byte {
	value := f.Value()
	if i := strings.Index(value, " for <"); i >= 0 {
		if n := strings.IndexByte(value[i:], '>'); n >= 0 {
			value = value[:i] + value[i+n+1:]
		}
	} else if i := strings.Index(value, "\tfor <"); i >= 0 {
		if n := strings.IndexByte(value[i:], '>'); n >= 0 {
			value = value[:i] + value[i+n+1:]
		}
	}
	if NeedsUTF8([]byte(value)) {
		return appendEncoded(out, "Downgraded-"+f.Name(), f.Value())
	}
	return AppendField(out, f.Name(), value)
}

func questionMarks(raw []byte) []byte {
	b := make([]byte, len(raw))
	for i, c := range raw {
		if c >= 0x80 {
			c = '?'
		}
		b[i] = c
	}
	return b
}
