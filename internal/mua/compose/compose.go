// Package compose makes letters that are to be sent: new ones, replies and forwards, kept as drafts
// while a person writes them, and written as MIME (RFC 5322, RFC 2045) at the end.
package compose

import (
	"fmt"
	"io"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
)

// Draft is a letter to be.
type Draft struct {
	Account       envelope.AccountID
	From          store.Address
	ReplyTo       []store.Address
	To, Cc, Bcc   []store.Address
	Subject, Text string // UTF-8, lines parted by "\n"; lines that begin with ">" are quotes
	// InReplyTo and References are Message-IDs with their angle brackets (RFC 5322 §3.6.4).
	InReplyTo   string
	References  []string
	Attachments []Attachment
	Letter      store.LetterID // the letter in Drafts that it was read from; 0 for none
}

// Attachment is a file of a Draft.
type Attachment struct {
	Name   string
	Type   string // as in "image/png"; "" is application/octet-stream
	Octets int64  // for people; negative when it is not known
	// Open gives the content; Write calls it twice for enclosed letters (message/rfc822), once otherwise.
	Open func() (io.ReadCloser, error)
}

// New returns an empty letter from an account, with its signature.
func New(a profile.Account) Draft {
	return Draft{Account: a.ID, From: store.Address{Name: a.Name, Address: a.Address}, Text: signed("", a)}
}

// signed puts the account's signature below a text.
func signed(text string, a profile.Account) string {
	sign := strings.TrimSpace(strings.ReplaceAll(a.Signature, "\r\n", "\n"))
	if sign == "" {
		return text
	}
	return text + "\n\n-- \n" + sign + "\n"
}

// Recipients are the addresses of To, Cc and Bcc, each once, for the envelope.
func (d *Draft) Recipients() []string {
	var all []string
	seen := map[string]bool{}
	for _, list := range [][]store.Address{d.To, d.Cc, d.Bcc} {
		for _, p := range list {
			key := p.Address
			if a, err := address.Parse(p.Address); err == nil {
				key = a.Key()
			}
			if !seen[key] {
				seen[key] = true
				all = append(all, p.Address)
			}
		}
	}
	return all
}

// NewID makes a Message-ID under the domain of the draft's From.
func (d *Draft) NewID(now time.Time, rnd io.Reader) (string, error) {
	id, err := message.NewID(now, rnd)
	if err != nil {
		return "", fmt.Errorf("make a Message-ID: %w", err)
	}
	var host address.Domain
	if a, err := address.Parse(d.From.Address); err == nil {
		host = a.Domain()
	}
	return message.NewMessageID(id, host), nil
}

// ParseAddresses reads what a person typed into To, Cc or Bcc: addresses with or without names,
// parted by commas, semicolons or line ends. What is none comes back in bad.
func ParseAddresses(text string) (good []store.Address, bad []string) {
	for _, piece := range parts(text) {
		if piece = strings.TrimSpace(piece); piece == "" {
			continue
		}
		if list, err := message.ParseAddressList(piece); err == nil && len(list) > 0 {
			for _, m := range list {
				good = append(good, store.Address{Name: m.Name, Address: m.Address.String()})
			}
			continue
		}
		if i := strings.LastIndexByte(piece, '<'); i >= 0 { // a name that should have been quoted
			if a, err := address.Parse(strings.Trim(piece[i:], "<> \t")); err == nil {
				good = append(good, store.Address{Name: strings.Trim(strings.TrimSpace(piece[:i]), `"`), Address: a.String()})
				continue
			}
		}
		bad = append(bad, piece)
	}
	return good, bad
}

// parts splits at commas, semicolons and line ends outside of quotes, comments and brackets.
func parts(s string) []string {
	var all []string
	begin, depth, quoted, angle := 0, 0, false, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '(':
			depth++
		case c == ')':
			depth = max(0, depth-1)
		case c == '<':
			angle = true
		case c == '>':
			angle = false
		case (c == ',' || c == ';') && depth == 0 && !angle, c == '\n':
			all = append(all, s[begin:i])
			begin, depth, angle = i+1, 0, false
		}
	}
	return append(all, s[begin:])
}
