package vacation

import (
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/message"
)

// maxLookedAt is how many addresses of the header section are compared.
const maxLookedAt = 1000

// Why says why no reply goes to a message, in a word for the log; "" is that one may go.
// mine reports the addresses by which the account is known: a message that names none of
// them was not written to the person (RFC 5230 §4.5).
func Why(from address.ReversePath, header []byte, mine func(address.Address) bool) string {
	switch {
	case from.IsNull(): // RFC 3834 §2
		return "null reverse-path"
	case mine(from.Address()):
		return "own address"
	case isProgram(from.Address().Local()):
		return "sender is a program"
	}
	named, looked := false, 0
	for f := range message.Fields(header) {
		if f.Malformed() {
			continue
		}
		if why := automatic(f); why != "" {
			return why
		}
		if named || looked > maxLookedAt || !isDestination(f) {
			continue
		}
		list, err := message.ParseAddressList(f.Value())
		if err != nil {
			continue
		}
		for _, m := range list {
			looked++
			named = named || mine(m.Address)
		}
	}
	if !named {
		return "not addressed to the person"
	}
	return ""
}

// isDestination reports the fields that RFC 5230 §4.5 names.
func isDestination(f message.Field) bool {
	for _, name := range []string{"To", "Cc", "Bcc", "Resent-To", "Resent-Cc", "Resent-Bcc"} {
		if f.Is(name) {
			return true
		}
	}
	return false
}

// automatic reports a field of mail that people don't write (RFC 3834 §2, RFC 5230 §4.6).
func automatic(f message.Field) string {
	value := strings.ToLower(strings.TrimSpace(f.Value()))
	switch {
	case f.Is("Auto-Submitted"):
		word, _, _ := strings.Cut(value, ";")
		word, _, _ = strings.Cut(word, "(")
		if strings.TrimSpace(word) != "no" {
			return "automatic message"
		}
	case len(f.Name()) > 5 && strings.EqualFold(f.Name()[:5], "List-"): // RFC 2369, RFC 2919
		return "mailing list"
	case f.Is("Precedence"):
		if value == "bulk" || value == "junk" || value == "list" {
			return "bulk mail"
		}
	case f.Is("X-Auto-Response-Suppress"):
		for word := range strings.FieldsFuncSeq(value, func(c rune) bool { return c == ',' || c == ' ' }) {
			if word == "all" || word == "oof" || word == "autoreply" {
				return "replies are not wanted"
			}
		}
	case f.Is("Content-Type"):
		if strings.HasPrefix(value, "multipart/report") {
			return "report"
		}
	case f.Is("X-Spam-Flag"):
		if value == "yes" {
			return "spam"
		}
	}
	return ""
}

// isProgram reports local-parts behind which nobody reads (RFC 3834 §2, RFC 5230 §4.6).
func isProgram(local string) bool {
	local = strings.ToLower(local)
	switch local {
	case "mailer-daemon", "listserv", "majordomo", "noreply", "no-reply", "donotreply", "do-not-reply", "bounce", "bounces":
		return true
	}
	for _, p := range []string{"owner-", "bounce-", "bounces-", "bounce+", "bounces+", "noreply-", "no-reply-"} {
		if strings.HasPrefix(local, p) {
			return true
		}
	}
	for _, s := range []string{"-request", "-owner", "-bounces", "-bounce", "-noreply", "-no-reply"} {
		if strings.HasSuffix(local, s) {
			return true
		}
	}
	return false
}
