package smtp

import (
	"strconv"
	"strings"
)

// String returns the reply in one line, as logs show it.
func (r Reply) String() string {
	s := strconv.Itoa(r.Code)
	if c := r.Code / 100; !r.Plain && (c == 2 || c == 4 || c == 5) {
		s += " " + strconv.Itoa(c) + "." + strconv.Itoa(r.Subject) + "." + strconv.Itoa(r.Detail)
	}
	return s + " " + strings.ReplaceAll(r.Text, "\n", " / ")
}
