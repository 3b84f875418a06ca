package mua

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mua/store"
	"poczta.example/poczta/internal/mua/store/search"
)

// named refuses a query that names a folder or an account which is not there, and a search that
// asks for nothing: a slip, where an empty list would say that there is no such letter.
func (d *Desk) named(ctx context.Context, q store.Query) error {
	text, err := search.Parse(q.Text, d.Mail.now(), q.Typing)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUsage, err)
	}
	unknown := text.Unknown
	if text.Unknown = nil; strings.TrimSpace(q.Text) != "" && reflect.ValueOf(text).IsZero() {
		return fmt.Errorf("%w: "+d.choose("the search %q asks for nothing; write a word, or as in from:ola", "wyszukiwanie %q o nic nie pyta; napisz słowo albo jak w from:ola"), ErrUsage, q.Text)
	}
	d.hint(unknown)
	for _, name := range text.Accounts {
		if _, err := strconv.ParseInt(name, 10, 64); err == nil { // one that was removed
			continue
		}
		if _, err := d.account(ctx, name); err != nil {
			return err
		}
	}
	folders := text.In
	if q.Folder != "" {
		folders = append(slices.Clone(folders), q.Folder)
	}
	if len(folders) == 0 || q.Removed {
		return nil
	}
	all, err := d.Mail.Store.Folders(ctx)
	if err != nil {
		return err
	}
	for _, name := range folders {
		if strings.EqualFold(name, "anywhere") {
			continue
		}
		if !slices.ContainsFunc(all, func(f store.Folder) bool {
			return strings.EqualFold(f.Name, name) && (len(q.Accounts) == 0 || slices.Contains(q.Accounts, f.Account))
		}) {
			return &explained{d.noFolder(name), store.ErrNotFound}
		}
	}
	return nil
}

// hint says that words of a search look like fields, and are none.
func (d *Desk) hint(unknown []string) {
	if len(unknown) == 0 {
		return
	}
	word := clip(strings.ReplaceAll(unknown[0], `"`, ""), 60)
	name, _, _ := strings.Cut(word, ":")
	fmt.Fprintf(d.Err, d.choose("%s: is no field of a search, so %s was looked for as text; fields are %s; put it in quotes, as in '\"%s\"', when the text is meant.\n",
		"%s: nie jest polem wyszukiwania, więc szukano tekstu %s; pola to %s; gdy chodzi o tekst, napisz go w cudzysłowie, jak w '\"%s\"'.\n"), name, word, strings.Join(search.Fields(), ", "), word)
}

// nothing says that a list is empty, beside it.
func (d *Desk) nothing(n int) {
	if n == 0 && !d.JSON {
		fmt.Fprintln(d.Err, d.choose("Nothing was found.", "Nic nie znaleziono."))
	}
}

// count writes a number of letters.
func count(n int) string {
	if n == 1 {
		return "1 letter"
	}
	return fmt.Sprintf("%d letters", n)
}

// count is count in the person's language.
func (d *Desk) count(n int) string {
	switch tens := n % 100 / 10; {
	case d.choose("en", "pl") == "en":
		return count(n)
	case n == 1:
		return "1 list"
	case tens != 1 && n%10 >= 2 && n%10 <= 4:
		return fmt.Sprintf("%d listy", n)
	}
	return fmt.Sprintf("%d listów", n)
}

// noFolder says that a folder is not there.
func (d *Desk) noFolder(name string) string {
	return fmt.Sprintf(d.choose("there is no folder %q; poczta mail folders lists them", "nie ma folderu %q; poczta mail folders pokazuje wszystkie"), name)
}

// folderName checks the name of a folder that letters go to.
func folderName(name string) (string, error) {
	if strings.TrimSpace(name) == "" {
		return "", fmt.Errorf("%w: a folder needs a name", ErrUsage)
	}
	checked, err := mailbox.CheckName(name)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUsage, err)
	}
	return checked, nil
}

// noLetter says that a letter is not here.
func (d *Desk) noLetter(id store.LetterID) error {
	return &explained{fmt.Sprintf(d.choose("there is no letter %d; poczta mail list shows those that are here", "nie ma listu %d; poczta mail list pokazuje te, które są"), id), store.ErrNotFound}
}

// inFolder is what may be asked of letters in folders.
func (d *Desk) inFolder(s store.Summary) string {
	if !s.Removed.IsZero() {
		return fmt.Sprintf(d.choose("letter %d is deleted; poczta mail restore %d brings it back", "list %d jest usunięty; poczta mail restore %d go przywraca"), s.ID, s.ID)
	}
	return ""
}

// maxMissing are told one by one.
const maxMissing = 10

// sift keeps the letters that are here and of which refuse says nothing, each once. missing tells of
// the others.
func (d *Desk) sift(ctx context.Context, list []store.LetterID, refuse func(store.Summary) string) (good []store.LetterID, missing error) {
	seen := map[store.LetterID]bool{}
	more := 0
	said := 0
	for _, id := range list {
		if seen[id] {
			continue
		}
		seen[id] = true
		s, err := d.Mail.Store.Summary(ctx, id)
		switch {
		case errors.Is(err, store.ErrNotFound):
			err = d.noLetter(id)
		case err == nil:
			if why := refuse(s); why != "" {
				err = errors.New(why)
			}
		}
		switch {
		case err == nil:
			good = append(good, id)
		case missing == nil:
			missing, said = err, 1
		case said < maxMissing:
			missing, said = fmt.Errorf("%w; %w", missing, err), said+1
		default:
			more++
		}
	}
	if more > 0 {
		missing = fmt.Errorf(d.choose("%w; and %d more", "%w; i tyle dalszych: %d"), missing, more)
	}
	return good, missing
}
