package relaydomain

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"poczta.example/poczta/internal/address"
)

// Bounds of a list of recipients.
const (
	MaxList        = 1 << 20 // addresses
	maxListLine    = 4096    // octets
	listLineBuffer = 512
)

// ReadList reads the recipients of a domain: an address a line, where blanks around
// it, empty lines and lines that begin with "#" don't count. An error names the line.
func ReadList(r io.Reader, domain address.Domain) ([]address.Address, error) {
	var list []address.Address
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, listLineBuffer), maxListLine)
	n := 0
	for lines.Scan() {
		n++
		text := strings.TrimSpace(lines.Text())
		if text == "" || text[0] == '#' {
			continue
		}
		a, err := address.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if a.Domain() != domain {
			return nil, fmt.Errorf("line %d: %s is not an address of %s", n, a.Unicode(), domain.Unicode())
		}
		if len(list) == MaxList {
			return nil, fmt.Errorf("line %d: a list has at most %d addresses; ask the domain's host instead (recipients = \"call\")", n, MaxList)
		}
		list = append(list, a)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", n+1, err)
	}
	return list, nil
}
