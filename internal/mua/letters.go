package mua

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mua/store"
)

// FolderRow is a folder in lists.
type FolderRow struct {
	Account  string `json:"account"`
	Folder   string `json:"folder"`
	Messages int64  `json:"messages"`
	Unread   int64  `json:"unread"`
	Octets   int64  `json:"octets"`
	Retained int64  `json:"retained_octets"`
}

// Folders lists the folders of all accounts.
func (d *Desk) Folders(ctx context.Context) error {
	list, err := d.Mail.Store.Folders(ctx)
	if err != nil {
		return err
	}
	name, err := d.names(ctx)
	if err != nil {
		return err
	}
	accounts, err := d.Mail.Accounts.List(ctx)
	if err != nil {
		return err
	}
	known := map[envelope.AccountID]bool{}
	for _, a := range accounts {
		known[a.ID] = true
	}
	rows := make([]FolderRow, 0, len(list))
	for _, f := range list {
		if !known[f.Account] && f.Messages == 0 && (!d.JSON || f.Retained == 0) {
			continue // of an account that was removed nothing is left to see
		}
		rows = append(rows, FolderRow{name(f.Account), f.Name, f.Messages, f.Unread, f.Octets, f.Retained})
	}
	return table(d, rows, "ACCOUNT\tFOLDER\tLETTERS\tUNREAD\tSIZE", func(r FolderRow) string {
		return fmt.Sprintf("%s\t%s\t%d\t%d\t%s", r.Account, flat(r.Folder), r.Messages, r.Unread, size(r.Octets))
	})
}

// LetterRow is a letter in lists.
type LetterRow struct {
	ID          store.LetterID  `json:"id"`
	Account     string          `json:"account"`
	Folder      string          `json:"folder"`
	Date        time.Time       `json:"date"`
	From        []store.Address `json:"from"`
	To          []store.Address `json:"to"`
	Subject     string          `json:"subject"`
	Flags       []string        `json:"flags"`
	Octets      int64           `json:"octets"`
	Attachments int             `json:"attachments"`
	Thread      int64           `json:"thread"`
	MessageID   string          `json:"message_id"`
	UniqueID    string          `json:"unique_id"`
	Partial     bool            `json:"headers_only"`
	Snippet     string          `json:"snippet"`
	Removed     *time.Time      `json:"removed,omitempty"`
}

func row(s store.Summary, name string) LetterRow {
	r := LetterRow{ID: s.ID, Account: name, Folder: s.Folder, Date: s.Date, From: s.From, To: s.To, Subject: s.Subject, Flags: flagNames(s.Flags),
		Octets: s.Octets, Attachments: s.Attachments, Thread: s.Thread, MessageID: s.MessageID, UniqueID: s.UniqueID, Partial: s.Partial, Snippet: s.Snippet}
	if !s.Removed.IsZero() {
		r.Removed = &s.Removed
	}
	return r
}

// flagNames are the words of flags.
func flagNames(f mailbox.Flags) []string {
	out := []string{}
	for _, x := range []struct {
		flag mailbox.Flags
		name string
	}{{mailbox.Seen, "read"}, {mailbox.Answered, "answered"}, {mailbox.Forwarded, "forwarded"}, {mailbox.Flagged, "flagged"}, {mailbox.Draft, "draft"}} {
		if f&x.flag != 0 {
			out = append(out, x.name)
		}
	}
	return out
}

// marks are flags in a column: new, flagged, answered, forwarded, with attachments, headers only.
func marks(s store.Summary) string {
	var b strings.Builder
	put := func(on bool, r rune) {
		if on {
			b.WriteRune(r)
		}
	}
	put(s.Flags&mailbox.Seen == 0, 'N')
	put(s.Flags&mailbox.Flagged != 0, '!')
	put(s.Flags&mailbox.Answered != 0, 'r')
	put(s.Flags&mailbox.Forwarded != 0, 'f')
	put(s.Attachments > 0, '@')
	put(s.Partial, '~')
	if b.Len() == 0 {
		return "-"
	}
	return b.String()
}

// who writes people for a column.
func who(list []store.Address) string {
	if len(list) == 0 {
		return "-"
	}
	out := list[0].Name
	if out == "" {
		out = list[0].Address
	}
	if len(list) > 1 {
		out += fmt.Sprintf(" +%d", len(list)-1)
	}
	return clip(out, 28)
}

// Listing selects what List and Search show.
type Listing struct {
	Accounts                           []string
	Folder                             string
	Text                               string // a search
	Unread, Flagged, Removed, Everyone bool
	Oldest                             bool
	Thread                             int64
	Limit                              int // letters in all; 0 is 50
}

func (d *Desk) query(ctx context.Context, l Listing) (store.Query, error) {
	q := store.Query{Folder: l.Folder, Text: l.Text, Unread: l.Unread, Flagged: l.Flagged, Removed: l.Removed, Everywhere: l.Everyone, Thread: l.Thread}
	if l.Oldest {
		q.Sort = store.Oldest
	}
	var err error
	if q.Accounts, err = d.numbers(ctx, l.Accounts); err != nil {
		return q, err
	}
	return q, d.named(ctx, q)
}

// maxPage is how many letters are asked for at once.
const maxPage = 500

// List shows letters; with Listing.Text those that it finds.
func (d *Desk) List(ctx context.Context, l Listing) error {
	q, err := d.query(ctx, l)
	if err != nil {
		return err
	}
	if l.Text != "" {
		if err := d.upToDate(ctx); err != nil {
			return err
		}
	}
	if l.Limit <= 0 {
		l.Limit = 50
	}
	var found []store.Summary
	for len(found) < l.Limit {
		q.Limit = min(l.Limit-len(found), maxPage)
		page, err := d.Mail.Store.List(ctx, q)
		if err != nil {
			return err
		}
		found = append(found, page.Letters...)
		if q.Cursor = page.Cursor; q.Cursor == "" {
			break
		}
	}
	if err := d.letters(ctx, found); err != nil {
		return err
	}
	d.nothing(len(found))
	if q.Cursor != "" && !d.JSON {
		d.say(d.choose("(There are more: --limit %d.)", "(Jest ich więcej: --limit %d.)"), 2*l.Limit)
	}
	return nil
}

// letters prints summaries.
func (d *Desk) letters(ctx context.Context, found []store.Summary) error {
	name, err := d.names(ctx)
	if err != nil {
		return err
	}
	if d.JSON {
		rows := make([]LetterRow, 0, len(found))
		for _, s := range found {
			rows = append(rows, row(s, name(s.Account)))
		}
		return d.encode(rows)
	}
	return table(d, found, "ID\t\tDATE\tFROM\tSUBJECT\tFOLDER\tSIZE", func(s store.Summary) string {
		return fmt.Sprintf("%d\t%s\t%s\t%s\t%s\t%s\t%s", s.ID, marks(s), s.Date.Local().Format("2006-01-02 15:04"), who(s.From), clip(s.Subject, 60), clip(s.Folder, 24), size(s.Octets))
	})
}

// indexWait is how long a search waits while Run indexes too.
const indexWait = 5 * time.Second

// upToDate indexes what is not yet. While Run does so too, what is not done within a few seconds is
// said to be missing.
func (d *Desk) upToDate(ctx context.Context) error {
	p, err := d.Mail.Store.Indexed(ctx)
	if err != nil || p.Done >= p.Total {
		return err
	}
	if !d.Mail.running.Load() {
		if p.Total-p.Done > 1000 {
			fmt.Fprintf(d.Err, d.choose("Indexing %s …\n", "Do zindeksowania: %s …\n"), d.count(int(p.Total-p.Done)))
		}
		return d.Mail.Store.Catchup(ctx, nil)
	}
	soon, cancel := context.WithTimeout(ctx, indexWait)
	defer cancel()
	err = d.Mail.Store.Catchup(soon, nil)
	if err == nil || ctx.Err() != nil || soon.Err() == nil {
		return err
	}
	if p, err = d.Mail.Store.Indexed(ctx); err == nil && p.Done < p.Total {
		fmt.Fprintf(d.Err, d.choose("%d of %d letters are indexed as yet; the others are not found.\n", "Zindeksowano dotąd %d z %d listów; pozostałych nie widać w wynikach.\n"), p.Done, p.Total)
	}
	return err
}

// ThreadRow is a conversation in lists.
type ThreadRow struct {
	Newest  LetterRow       `json:"newest"`
	Letters int64           `json:"letters"`
	Unread  int64           `json:"unread"`
	People  []store.Address `json:"people"`
}

// Threads shows conversations.
func (d *Desk) Threads(ctx context.Context, l Listing) error {
	q, err := d.query(ctx, l)
	if err != nil {
		return err
	}
	if q.Limit = l.Limit; q.Limit <= 0 || q.Limit > maxPage {
		q.Limit = 50
	}
	page, err := d.Mail.Store.Threads(ctx, q)
	if err != nil {
		return err
	}
	name, err := d.names(ctx)
	if err != nil {
		return err
	}
	rows := make([]ThreadRow, 0, len(page.Threads))
	for _, t := range page.Threads {
		rows = append(rows, ThreadRow{row(t.Newest, name(t.Newest.Account)), t.Letters, t.Unread, t.People})
	}
	d.nothing(len(rows))
	return table(d, rows, "THREAD\tNEWEST\tLETTERS\tUNREAD\tDATE\tPEOPLE\tSUBJECT", func(r ThreadRow) string {
		return fmt.Sprintf("%d\t%d\t%d\t%d\t%s\t%s\t%s", r.Newest.Thread, r.Newest.ID, r.Letters, r.Unread, r.Newest.Date.Local().Format("2006-01-02 15:04"), who(r.People), clip(r.Newest.Subject, 60))
	})
}

// Marking is what Mark sets and clears.
type Marking struct{ Read, Unread, Flag, Unflag, Answered, Unanswered bool }

// Mark sets and clears flags of letters.
func (d *Desk) Mark(ctx context.Context, words []string, m Marking) error {
	list, err := ids(words)
	if err != nil {
		return err
	}
	var set, unset mailbox.Flags
	for _, x := range []struct {
		on, off bool
		flag    mailbox.Flags
	}{{m.Read, m.Unread, mailbox.Seen}, {m.Flag, m.Unflag, mailbox.Flagged}, {m.Answered, m.Unanswered, mailbox.Answered}} {
		if x.on && x.off {
			return fmt.Errorf("%w: %s", ErrUsage, d.choose("a flag can't be set and cleared at once", "znaku nie da się naraz ustawić i zdjąć"))
		}
		if x.on {
			set |= x.flag
		}
		if x.off {
			unset |= x.flag
		}
	}
	if set|unset == 0 {
		return fmt.Errorf("%w: %s --read, --unread, --flag, --unflag, --answered, --unanswered", ErrUsage, d.choose("say what to mark:", "podaj, co oznaczyć:"))
	}
	list, missing := d.sift(ctx, list, d.inFolder)
	n, err := d.Mail.Store.SetFlags(ctx, list, set, unset)
	return d.did(len(list), n, d.choose("{} changed.", "Zmieniono {}."), err, missing)
}

// did says how many letters a command changed, of those that it was for. It fails with missing, of
// those that it was not for. The number stands for {} in what.
func (d *Desk) did(asked, n int, what string, err, missing error) error {
	if err != nil {
		return errors.Join(err, missing)
	}
	if asked > 0 {
		d.say("%s", strings.Replace(what, "{}", d.count(n), 1))
	}
	return missing
}

// Move moves letters to a folder of their account.
func (d *Desk) Move(ctx context.Context, folder string, words []string) error {
	name, err := folderName(folder)
	if err != nil {
		return err
	}
	list, err := ids(words)
	if err != nil {
		return err
	}
	list, missing := d.sift(ctx, list, d.inFolder)
	n, err := d.Mail.Store.Move(ctx, list, name)
	what := d.choose("{} moved to ", "Przeniesiono {} do: ") + name
	if err == nil && n < len(list) {
		what += fmt.Sprintf(d.choose("; %d lay there already", "; już tam leżały: %d"), len(list)-n)
	}
	return d.did(len(list), n, what+".", err, missing)
}

// Delete moves letters to Trash, and those in Trash into retention.
func (d *Desk) Delete(ctx context.Context, words []string) error {
	list, err := ids(words)
	if err != nil {
		return err
	}
	list, missing := d.sift(ctx, list, d.inFolder)
	n, err := d.Mail.Store.Remove(ctx, list)
	what := d.choose("{} deleted; poczta mail restore brings them back.", "Usunięto {}; poczta mail restore je przywraca.")
	if n == 1 {
		what = d.choose("{} deleted; poczta mail restore brings it back.", "Usunięto {}; poczta mail restore go przywraca.")
	}
	return d.did(len(list), n, what, err, missing)
}

// Restore brings letters back from Trash and from retention.
func (d *Desk) Restore(ctx context.Context, words []string) error {
	list, err := ids(words)
	if err != nil {
		return err
	}
	list, missing := d.sift(ctx, list, func(s store.Summary) string {
		if s.Removed.IsZero() && s.Folder != store.Trash {
			return fmt.Sprintf(d.choose("letter %d is not deleted: it lies in %s", "list %d nie jest usunięty: leży w folderze %s"), s.ID, s.Folder)
		}
		return ""
	})
	n, err := d.Mail.Store.Restore(ctx, list)
	return d.did(len(list), n, d.choose("{} restored.", "Przywrócono {}."), err, missing)
}
