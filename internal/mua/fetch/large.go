package fetch

import "fmt"

// largest is what the store takes of one letter, in octets. A larger one must not keep those behind
// it from coming: its header section comes, where the server shows it alone, and the rest stays there.
const largest = 1 << 30

// headerHint is how much room is made at first for a header section, in octets.
const headerHint = 16 << 10

// tooLarge reports, and says, that a letter is left on the server for its size.
func (r *round) tooLarge(m *mail) bool {
	if m.Octets <= largest {
		return false
	}
	r.note(&r.res.Refused, fmt.Sprintf("letter %d has %d octets by the server's word, of which %d at most are taken; it stays on the server", m.Number, m.Octets, int64(largest)))
	return true
}
