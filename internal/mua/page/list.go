package page

import (
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mua/outbox"
	"poczta.example/poczta/internal/mua/store"
)

// everywhere is the folder in an address that stands for all.
const everywhere = "*"

// pageLetters is how many rows a page of the list has.
const pageLetters = 50

// where is what the list shows and which letter is open; the address of a page.
type where struct {
	Account envelope.AccountID // 0 is all
	Folder  string             // everywhere is all
	Text    string
	Threads bool
	Unread  bool
	Removed bool
	Cursor  string
	Open    store.LetterID
	Plain   bool // text rather than HTML
	Remote  bool // with remote images
	typing  bool
}

// whereOf reads an address.
func whereOf(q url.Values) where {
	number := func(name string) int64 {
		n, err := strconv.ParseInt(q.Get(name), 10, 64)
		if err != nil {
			return 0
		}
		return n
	}
	w := where{Account: envelope.AccountID(number("a")), Folder: q.Get("f"), Text: q.Get("q"), Threads: q.Get("v") == "threads", Unread: q.Get("unread") != "",
		Removed: q.Get("removed") != "", Cursor: q.Get("c"), Open: store.LetterID(number("open")), Plain: q.Get("as") == "text", Remote: q.Get("images") == "yes", typing: q.Get("typing") != ""}
	if w.Folder == "" {
		w.Folder = store.Inbox
		if w.Text != "" && !q.Has("f") {
			w.Folder = everywhere
		}
	}
	return w
}

// URL is the address.
func (w where) URL() string {
	q := url.Values{}
	set := func(name, value string, given bool) {
		if given {
			q.Set(name, value)
		}
	}
	set("a", strconv.FormatInt(int64(w.Account), 10), w.Account != 0)
	set("f", w.Folder, w.Folder != store.Inbox && w.Folder != "" && !(w.Folder == everywhere && w.Text != ""))
	set("f", w.Folder, w.Folder == store.Inbox && w.Text != "")
	set("q", w.Text, w.Text != "")
	set("v", "threads", w.Threads)
	set("unread", "1", w.Unread)
	set("removed", "1", w.Removed)
	set("c", w.Cursor, w.Cursor != "")
	set("open", strconv.FormatInt(int64(w.Open), 10), w.Open != 0)
	set("as", "text", w.Plain)
	set("images", "yes", w.Remote)
	if len(q) == 0 {
		return "/mail"
	}
	return "/mail?" + q.Encode()
}

// In is a folder of an account, seen in the same way.
func (w where) In(account envelope.AccountID, folder string) string {
	return where{Account: account, Folder: folder, Threads: w.Threads}.URL()
}

// List is the list without an open letter.
func (w where) List() string {
	w.Open, w.Plain, w.Remote = 0, false, false
	return w.URL()
}

// At is the same list with a letter open.
func (w where) At(id store.LetterID) string {
	w.Open, w.Plain, w.Remote = id, false, false
	return w.URL()
}

// As is the open letter, in text or HTML.
func (w where) As(plain bool) string {
	w.Plain, w.Remote = plain, false
	return w.URL()
}

// WithImages is the open letter with remote images.
func (w where) WithImages() string {
	w.Remote = true
	return w.URL()
}

// InThreads is the list by threads, or by letters.
func (w where) InThreads(threads bool) string {
	w.Threads, w.Cursor = threads, ""
	return w.List()
}

// OnlyUnread is the list with or without what was read.
func (w where) OnlyUnread(unread bool) string {
	w.Unread, w.Cursor = unread, ""
	return w.List()
}

// GoneForGood is what lies in retention.
func (w where) GoneForGood() string {
	return where{Folder: everywhere, Account: w.Account, Removed: true}.URL()
}

// query is what the store is asked.
func (w where) query() store.Query {
	q := store.Query{Unread: w.Unread, Text: w.Text, Typing: w.typing, Cursor: w.Cursor, Limit: pageLetters, Removed: w.Removed}
	if w.Account != 0 {
		q.Accounts = []envelope.AccountID{w.Account}
	}
	if w.Folder != everywhere {
		q.Folder = w.Folder
	}
	return q
}

// row is a letter or thread in the list.
type row struct {
	ID       store.LetterID
	Pick     string // what names it in a command
	Who      string
	Subject  string
	Snippet  string
	Short    string // its date
	Long     string
	Machine  string // RFC 3339
	Folder   string // where the list is of several
	Letters  int64  // of a thread of more than one
	Files    int
	Unread   bool
	Flagged  bool
	Answered bool
	Passed   bool // forwarded
	Current  bool
	URL      string
}

// mailView is the page with the list and the open letter.
type mailView struct {
	frame
	Heading string
	Rows    []row
	Found   string // how many they are, said when they change
	More    string // the address of the next page
	Bad     string // why there is no list
	Hint    string // that a search may mean something else
	Moves   []string
	Letter  *letterView
}

// mail shows the list, and the open letter beside it. Our script asks for one of them alone.
func (v *visit) mail() error {
	w := whereOf(v.r.URL.Query())
	if first, err := v.first(); err != nil {
		return err
	} else if first {
		return v.redirect("/accounts/new")
	}
	part := v.r.Header.Get("X-Poczta-Part")
	view := &mailView{frame: v.bare(v.t.Mail), Heading: v.heading(w)}
	view.Where = w
	if w.Open != 0 && part != "list" { // first: it is read then, and the list says so
		l, err := v.letter(w)
		if err != nil {
			return err
		}
		view.Letter = l
	}
	if part != "letter" {
		if err := v.rows(view, w); err != nil {
			return err
		}
	}
	switch part {
	case "list":
		view.Moves = v.moves()
		return v.show("list", view)
	case "letter":
		view.Moves = v.moves()
		return v.show("reader", view)
	}
	f, err := v.full(view.Heading, "mail", w)
	if err != nil {
		return err
	}
	if view.frame = f; view.Letter != nil {
		view.Title = view.Letter.Subject
	}
	view.Moves = v.moves()
	return v.show("mail.html", view)
}

// first reports whether there is nothing yet, neither an account nor a letter of one that was
// removed: the person begins with their first account.
func (v *visit) first() (bool, error) {
	all, err := v.known()
	if err != nil || len(all) > 0 || v.p.cfg.Keeper == nil {
		return false, err
	}
	folders, err := v.p.cfg.Store.Folders(v.r.Context())
	return len(folders) == 0, err
}

// heading names what the list shows.
func (v *visit) heading(w where) string {
	switch {
	case w.Removed:
		return v.t.Removed
	case w.Text != "":
		return v.t.Search + ": " + w.Text
	case w.Folder == everywhere:
		return v.t.AllLetters
	}
	return v.t.folder(w.Folder)
}

// rows reads a page of the list.
func (v *visit) rows(view *mailView, w where) (err error) {
	next := ""
	if w.Threads && !w.Removed {
		var page store.ThreadPage
		if page, err = v.p.cfg.Store.Threads(v.r.Context(), w.query()); err == nil {
			next = page.Cursor
			for _, c := range page.Threads {
				view.Rows = append(view.Rows, v.conversation(c, w))
			}
		}
	} else {
		var page store.Page
		if page, err = v.p.cfg.Store.List(v.r.Context(), w.query()); err == nil {
			next = page.Cursor
			for _, m := range page.Letters {
				view.Rows = append(view.Rows, v.row(m, w))
			}
		}
	}
	if errors.Is(err, store.ErrQuery) {
		view.Bad = v.t.searchTrouble(err)
		return nil
	}
	if !w.typing {
		view.Hint = v.t.searchHint(w.Text)
	}
	if next != "" {
		more := w
		more.Cursor = next
		view.More = more.List()
	}
	view.Found = v.t.count(len(view.Rows), nounLetter)
	if w.Threads && !w.Removed {
		view.Found = v.t.Threads + ": " + strconv.Itoa(len(view.Rows))
	}
	if view.More != "" {
		view.Found += ", " + v.t.FoundMore
	}
	return err
}

func (v *visit) row(m store.Summary, w where) row {
	at, now := m.Date.In(v.p.cfg.Zone), v.p.cfg.Now().In(v.p.cfg.Zone)
	r := row{ID: m.ID, Pick: strconv.FormatInt(int64(m.ID), 10), Who: v.people(m.From, v.t.NoSender), Subject: m.Subject, Snippet: m.Snippet, Files: m.Attachments,
		Short: v.t.short(at, now), Long: v.t.long(at), Machine: at.Format(time.RFC3339), Unread: m.Flags&mailbox.Seen == 0, Flagged: m.Flags&mailbox.Flagged != 0,
		Answered: m.Flags&mailbox.Answered != 0, Passed: m.Flags&mailbox.Forwarded != 0, Current: m.ID == w.Open, URL: w.At(m.ID)}
	if m.Folder == store.Sent || m.Folder == store.Drafts {
		r.Who = v.t.To + ": " + v.people(m.To, "—")
	}
	if r.Subject == "" {
		r.Subject = v.t.NoSubject
	}
	if w.Folder == everywhere {
		r.Folder = v.t.folder(m.Folder)
	}
	return r
}

func (v *visit) conversation(c store.Conversation, w where) row {
	r := v.row(c.Newest, w)
	r.Pick = "t" + strconv.FormatInt(c.Newest.Thread, 10)
	r.Unread = c.Unread > 0
	if c.Letters > 1 {
		r.Letters = c.Letters
	}
	if len(c.People) > 0 && w.Folder != store.Sent && w.Folder != store.Drafts {
		r.Who = v.people(c.People, v.t.NoSender)
	}
	return r
}

// maxPeople is how many names a row shows.
const maxPeople = 4

// people are names on one line.
func (v *visit) people(all []store.Address, none string) string {
	var names []string
	for i, a := range all {
		if i == maxPeople {
			names = append(names, "…")
			break
		}
		switch {
		case a.Name != "":
			names = append(names, a.Name)
		case a.Address != "":
			names = append(names, a.Address)
		}
	}
	if len(names) == 0 {
		return none
	}
	return strings.Join(names, ", ")
}

// moves are the folders that letters may be moved to; an error leaves the list out.
func (v *visit) moves() (names []string) {
	folders, err := v.p.cfg.Store.Folders(v.r.Context())
	if err != nil {
		return nil
	}
	seen := map[string]bool{}
	for _, f := range folders {
		if !seen[f.Name] && f.Name != store.Drafts && f.Name != outbox.Folder {
			seen[f.Name] = true
			names = append(names, f.Name)
		}
	}
	return names
}
