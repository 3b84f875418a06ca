package holdings

import (
	"context"
	"slices"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mailbox"
)

// tableLetter is a person's table of letters. Its column whole is 0, or the octets of the whole letter
// while only its header section is there. A server's store has no such table.
const tableLetter = "letter"

// place is where a letter of an account lies; one in retention keeps it.
type place struct {
	number int64
	uid    mailbox.UID
}

// isPartial reports whether the store had only the header section of a letter. The table is
// read once, when the first letter matches: it is in order of id, so all of it.
func (w *finder) isPartial(ctx context.Context, l *Letter) (bool, error) {
	if w.partial == nil {
		var err error
		if w.partial, err = w.partials(ctx); err != nil {
			return false, err
		}
	}
	return w.partial[place{l.Number, l.UID}], nil
}

// partials are the account's letters of which only the header section is in the backup.
func (w *finder) partials(ctx context.Context) (map[place]bool, error) {
	all := make(map[place]bool)
	i := slices.IndexFunc(w.facts.Tables, func(t db.Table) bool { return t.Name == tableLetter })
	if i < 0 {
		return all, nil
	}
	if _, ok := columns(w.facts.Tables[i])["whole"]; !ok {
		return all, nil // another table of that name
	}
	err := storedRows(ctx, w.r, w.s, w.facts, tableLetter, nil, nil, func(r *row) error {
		if r.int("account") == int64(w.account.ID) && r.int("whole") != 0 {
			all[place{r.int("number"), mailbox.UID(r.uint32("uid"))}] = true
		}
		return r.err
	})
	return all, err
}
