package account

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/secure/precis"

	"poczta.example/poczta/internal/address"
)

// loginKey returns the key a login name is looked up by: an address's key, or a
// name folded as RFC 8265 §3.3 says (UsernameCaseMapped). ok is false for what
// can't be a login name.
func loginKey(login string) (key string, ok bool) {
	if login == "" || len(login) > MaxLoginOctets {
		return "", false
	}
	if strings.IndexByte(login, '@') >= 0 {
		addr, err := address.Parse(login)
		return addr.Key(), err == nil
	}
	if isGraphicASCII(login) {
		return strings.ToLower(login), true
	}
	key, err := precis.UsernameCaseMapped.CompareKey(login)
	return key, err == nil && key != ""
}

func isGraphicASCII(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// checkText refuses what a name or label must not hold.
func checkText(what, s string, limit int) error {
	if len(s) > limit || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Errorf("%s %w: it must be UTF-8 without control characters, at most %d octets", what, ErrInvalid, limit)
	}
	return nil
}

func checkLanguage(s string) error {
	if s != "en" && s != "pl" {
		return fmt.Errorf("language %.20q %w: give en or pl", s, ErrInvalid)
	}
	return nil
}

func checkQuota(octets int64) error {
	if octets < 0 {
		return fmt.Errorf("quota of %d octets %w: give 0 for no limit, or more", octets, ErrInvalid)
	}
	return nil
}

// checkNewAddress refuses addresses that should not be given to an account:
// RFC 5321 §4.5.3.1.1 bounds what others need to take.
func checkNewAddress(addr address.Address) error {
	switch {
	case addr.IsZero():
		return fmt.Errorf("address %w: it is missing", ErrInvalid)
	case addr.Domain().IsLiteral():
		return fmt.Errorf("address %s %w: an account's domain must be a name", addr, ErrInvalid)
	case len(addr.Local()) > address.MaxLocalPartOctets:
		return fmt.Errorf("address %s %w: its local-part is longer than %d octets", addr, ErrInvalid, address.MaxLocalPartOctets)
	}
	return nil
}

// base returns the address without its subaddress, and the subaddress; ok is
// false when it has none.
func (a *Accounts) base(addr address.Address) (base address.Address, detail string, ok bool) {
	sep := a.config.Separator
	if sep == "" {
		return base, "", false
	}
	user, detail, ok := strings.Cut(addr.Local(), sep)
	if !ok || user == "" {
		return base, "", false
	}
	base, err := addr.WithLocal(user)
	return base, detail, err == nil
}
