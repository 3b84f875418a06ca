package account

import (
	"bufio"
	"errors"
	"strings"
)

// Waiting is how many logins wait for a place in the pool.
func (a *Accounts) Waiting() int64 { return a.pool.waiting.Load() }

// ParseForeign is parseImported, as to the hash that is stored.
func ParseForeign(field string) (hash string, ok bool) {
	p, err := parseImported(field, false)
	return p.hash, err == nil
}

// CheckForeign is checkForeign.
func CheckForeign(hash, password string) (bool, error) { return checkForeign(hash, password) }

// ParseImportText runs the parsers of an import over text.
func ParseImportText(text string) {
	lines := lineReader{r: bufio.NewReaderSize(strings.NewReader(text), MaxImportLineOctets+2)}
	for {
		line, err := lines.next()
		if errors.Is(err, ErrInvalid) {
			continue
		}
		if err != nil {
			return
		}
		for _, parse := range []func(string) (importFields, error){parseCSV, parseDovecot} {
			if f, err := parse(line); err == nil {
				_, _ = f.parseAddress(NewAccount{}.Address.Domain())
				_, _ = parseOctets(f.quota)
				_, _ = parseImported(f.password, true)
			}
		}
	}
}

// Forget makes every cached answer stale.
func (a *Accounts) Forget() { a.bump() }

// Derive derives keys once.
func Derive(password string, iterations int) error {
	_, err := derive(password, make([]byte, saltOctets), iterations)
	return err
}
