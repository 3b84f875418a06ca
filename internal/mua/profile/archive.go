package profile

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// ErrArchive means that an archive was named for something that needs servers.
var ErrArchive = errors.New("this is an archive, which keeps letters and neither fetches nor sends")

// maxArchiveName is how long an archive's name may be, in octets.
const maxArchiveName = 100

// validateArchive checks an archive: a name that can't be taken for an address or a number, and nothing of servers.
func (a *Account) validateArchive() error {
	if err := checkArchiveName(a.Address); err != nil {
		return err
	}
	if a.Incoming.Host+a.Incoming.Login+a.Outgoing.Host+a.Outgoing.Login != "" || a.OAuth != nil || len(a.Aliases) > 0 {
		return fmt.Errorf("archive %q: it has no servers and no further addresses", a.Address)
	}
	return nil
}

func checkArchiveName(name string) error {
	fits := func(r rune) bool {
		return unicode.IsLetter(r) || unicode.IsMark(r) || unicode.IsDigit(r) || strings.ContainsRune(" ._-", r)
	}
	first := strings.IndexFunc(name, unicode.IsLetter) == 0
	if !first || len(name) > maxArchiveName || strings.TrimSpace(name) != name || strings.ContainsFunc(name, func(r rune) bool { return !fits(r) }) {
		return fmt.Errorf("%q can't be an archive's name: it begins with a letter, and has letters, digits, blanks, dots, - and _, %d octets at most", name, maxArchiveName)
	}
	return nil
}

// Served are the accounts that have servers: all but archives.
func Served(all []Account) []Account {
	return slices.DeleteFunc(slices.Clone(all), func(a Account) bool { return a.Archive })
}

// ChooseServed is Choose for what needs servers: "" is the only account that has them. ErrArchive
// where an archive is named, or nothing else is there.
func ChooseServed(all []Account, name string) (Account, error) {
	served := Served(all)
	if name == "" && len(served) == 0 && len(all) > 0 {
		return Account{}, &onlyArchives{}
	}
	a, err := Choose(served, name)
	if err != nil && name != "" {
		if other, oerr := Choose(all, name); oerr == nil {
			return other, fmt.Errorf("%s: %w", other.Address, ErrArchive)
		}
	}
	return a, err
}

// onlyArchives is ErrArchive with what to do.
type onlyArchives struct{}

func (*onlyArchives) Error() string {
	return "there is no account yet that fetches and sends, only an archive; set one up with: poczta mail add ADDRESS"
}

func (*onlyArchives) Is(target error) bool { return target == ErrArchive || target == ErrNotFound }
