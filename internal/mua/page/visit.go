package page

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mua/outbox"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
	"poczta.example/poczta/internal/mua/vault"
)

// visit is one request of who was let in.
type visit struct {
	p *Page
	w http.ResponseWriter
	r *http.Request
	t *words
	s *session

	accounts []profile.Account // read once, by known
}

// errRequest is a request that our pages do not make.
var errRequest = errors.New("the request can't be read")

// visited makes a handler of what may fail.
func (p *Page) visited(f func(*visit) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v := &visit{p: p, w: w, r: r, t: wordsFor(r), s: p.gate.session(r)}
		if v.s == nil { // it ended since the gate looked
			p.refuse(w, r, http.StatusUnauthorized)
			return
		}
		if err := f(v); err != nil {
			v.fail(err)
		}
	}
}

// fail shows an error.
func (v *visit) fail(err error) {
	code, title, text := http.StatusInternalServerError, v.t.Failed, v.t.trouble(err)
	switch {
	case errors.Is(err, store.ErrNotFound), errors.Is(err, profile.ErrNotFound):
		code, title, text = http.StatusNotFound, v.t.NotFound, v.t.NotFoundText
	case errors.Is(err, errRequest):
		code, text = http.StatusBadRequest, v.t.BadRequest
	case errors.Is(err, context.Canceled):
		return // the browser went away
	default:
		v.p.cfg.Logger.Warn("page failed", "path", v.r.URL.Path, "error", err)
	}
	v.w.WriteHeader(code)
	v.show("error.html", struct {
		frame
		Text string
	}{v.bare(title), text})
}

// missing answers for addresses that are none.
func (v *visit) missing() error { return store.ErrNotFound }

// show writes a page. What fails behind the first octet can only be logged.
func (v *visit) show(name string, data any) error {
	v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if err := v.p.templates.ExecuteTemplate(v.w, name, data); err != nil {
		v.p.cfg.Logger.Debug("page not written", "template", name, "error", err)
	}
	return nil
}

// redirect goes on to one of our own pages, after a command.
func (v *visit) redirect(to string) error {
	http.Redirect(v.w, v.r, v.p.gate.base+to, http.StatusSeeOther)
	return nil
}

// back is the page that a form came from, if that is one of ours.
func (v *visit) back() string {
	to := v.r.FormValue("back")
	if u, err := url.Parse(to); err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.Contains(to, `\`) {
		return "/mail"
	}
	return to
}

// form reads a form without files.
func (v *visit) form() error {
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, maxForm)
	if err := v.r.ParseForm(); err != nil {
		return errors.Join(errRequest, err)
	}
	return nil
}

// letterID is the letter that the path names.
func (v *visit) letterID() (store.LetterID, error) {
	id, err := strconv.ParseInt(v.r.PathValue("id"), 10, 64)
	if err != nil || id <= 0 {
		return 0, store.ErrNotFound
	}
	return store.LetterID(id), nil
}

// known are the person's accounts.
func (v *visit) known() ([]profile.Account, error) {
	if v.accounts != nil {
		return v.accounts, nil
	}
	all, err := v.p.cfg.Accounts.List(v.r.Context())
	v.accounts = all
	return all, err
}

// writers are the accounts that send.
func (v *visit) writers() ([]profile.Account, error) {
	all, err := v.known()
	return profile.Served(all), err
}

// account finds an account by its number. profile.ErrNotFound.
func (v *visit) account(id envelope.AccountID) (profile.Account, error) {
	all, err := v.known()
	if err != nil {
		return profile.Account{}, err
	}
	i := slices.IndexFunc(all, func(a profile.Account) bool { return a.ID == id })
	if i < 0 {
		return profile.Account{}, profile.ErrNotFound
	}
	return all[i], nil
}

// flash is what the next page says of the command before it.
type flash struct {
	Text string
	Bad  bool
	undo []undoing
}

// Undo reports whether it can be undone.
func (f flash) Undo() bool { return len(f.undo) > 0 }

// undoing brings letters back to where they were.
type undoing struct {
	folder string
	ids    []store.LetterID
}

// say leaves a word for the next page.
func (v *visit) say(f flash) {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	v.s.flash = f
}

// said takes it. What can be undone stays known until the next command.
func (v *visit) said() (f flash) {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	f = v.s.flash
	v.s.flash.Text = ""
	return f
}

// frame is what all pages have.
type frame struct {
	T        *words
	Title    string
	Theme    string
	NoKeys   bool   // single keys are no shortcuts (WCAG 2.1.4)
	View     string // which page it is, for the navigation
	Inside   bool   // the person was let in
	Where    where
	Boxes    []box
	Others   []group
	Accounts []profile.Account
	Flash    flash
	Looks    []lookView
	Trouble  string
	Fetching []string // how far fetches are that run
	Locked   bool     // the passwords are
	MayKeep  bool     // accounts can be set up here
	CanLook  bool
	CanSend  bool
	Unsent   int    // letters in the outbox
	Asking   bool   // one of them wants a decision
	Follow   bool   // without script it is loaded again by itself
	Self     string // the page's own address
	page     *Page
}

// Base is the path that all pages stand below.
func (f frame) Base() string { return f.page.gate.base }

// Asset is the address of an embedded file.
func (f frame) Asset(name string) string {
	return f.Base() + "/static/" + f.page.static[name].tag + "/" + name
}

// lookView is a look at an account that failed.
type lookView struct{ Account, Text string }

// box is a folder in the navigation.
type box struct {
	Name, URL string
	Unread    int64
	Count     int64 // of drafts
	Current   bool
}

// group is an account's folders.
type group struct {
	Name  string
	Open  bool
	Boxes []box
}

// bare is the frame of a page without the navigation.
func (v *visit) bare(title string) frame {
	f := frame{T: v.t, Title: title, Theme: "auto", page: v.p, Self: v.r.URL.RequestURI(), Inside: v.s != nil}
	if c, err := v.r.Cookie(themeCookie); err == nil && (c.Value == "dark" || c.Value == "light") {
		f.Theme = c.Value
	}
	if c, err := v.r.Cookie(keysCookie); err == nil {
		f.NoKeys = c.Value == "off"
	}
	return f
}

// full is the frame of a page with the navigation.
func (v *visit) full(title, view string, w where) (f frame, err error) {
	f = v.bare(title)
	f.View, f.Where = view, w
	if f.Accounts, err = v.known(); err != nil {
		return f, err
	}
	folders, err := v.p.cfg.Store.Folders(v.r.Context())
	if err != nil {
		return f, err
	}
	f.Boxes, f.Others = v.boxes(folders, f.Accounts, w, view == "mail")
	served := len(profile.Served(f.Accounts)) > 0
	f.CanLook, f.CanSend = v.p.cfg.Look != nil && (served || len(f.Accounts) == 0), v.p.cfg.Outbox != nil
	f.Fetching = v.fetches(f.Accounts)
	if v.p.cfg.Trouble != nil {
		f.Trouble = v.p.cfg.Trouble(v.r.Context(), v.t.Lang)
	}
	if v.p.cfg.Looks != nil {
		for _, l := range v.p.cfg.Looks() {
			known := slices.ContainsFunc(f.Accounts, func(a profile.Account) bool { return a.Address == l.Account })
			if l.Err != nil && known && !errors.Is(l.Err, vault.ErrLocked) { // that is said once, for all
				f.Looks = append(f.Looks, lookView{l.Account, v.t.trouble(l.Err)})
			}
		}
	}
	if f.CanSend {
		items, err := v.p.cfg.Outbox.List(v.r.Context(), v.t.Lang)
		if err != nil {
			return f, err
		}
		f.Unsent = len(items)
		f.Asking = slices.ContainsFunc(items, func(i Item) bool { return i.State == Perhaps || i.State == Refused })
	}
	if f.MayKeep = v.p.cfg.Keeper != nil; f.MayKeep && served {
		lock, err := v.p.cfg.Keeper.Lock()
		if err != nil {
			return f, err
		}
		f.Locked = lock == Locked
	}
	f.Flash = v.said()
	return f, nil
}

// boxes make the navigation: the standard folders of all accounts together, then what each
// account has.
func (v *visit) boxes(folders []store.Folder, accounts []profile.Account, w where, mail bool) (all []box, others []group) {
	for _, name := range store.Standard() {
		b := box{Name: v.t.folder(name), URL: w.In(0, name), Current: mail && w.Account == 0 && w.Folder == name && w.Text == "" && !w.Removed}
		for _, f := range folders {
			if f.Name == name && name == store.Drafts {
				b.Count += f.Messages
			} else if f.Name == name && name != store.Trash {
				b.Unread += f.Unread
			}
		}
		all = append(all, b)
	}
	all = append(all, box{Name: v.t.AllLetters, URL: w.In(0, everywhere), Current: mail && w.Account == 0 && w.Folder == everywhere && w.Text == ""})
	for _, a := range accounts {
		g := group{Name: a.Address, Open: w.Account == a.ID || len(accounts) == 1}
		for _, f := range folders {
			if f.Account != a.ID || f.Name == outbox.Folder || len(accounts) == 1 && slices.Contains(store.Standard(), f.Name) {
				continue
			}
			b := box{Name: v.t.folder(f.Name), URL: w.In(a.ID, f.Name), Current: mail && w.Account == a.ID && w.Folder == f.Name}
			if f.Name != store.Trash {
				b.Unread = f.Unread
			}
			g.Boxes = append(g.Boxes, b)
		}
		if len(g.Boxes) > 0 {
			others = append(others, g)
		}
	}
	return all, others
}

// asset serves an embedded file; its address changes with its content.
func (v *visit) asset() error {
	a, ok := v.p.static[v.r.PathValue("name")]
	if !ok || v.r.PathValue("tag") != a.tag {
		return store.ErrNotFound
	}
	v.w.Header().Set("Content-Type", a.kind)
	v.w.Header().Set("Cache-Control", "private, max-age=31536000, immutable")
	_, err := v.w.Write(a.octets)
	if err != nil {
		v.p.cfg.Logger.Debug("page not written", "error", err)
	}
	return nil
}

// preferences keeps the language and the appearance.
func (v *visit) preferences() error {
	if err := v.form(); err != nil {
		return err
	}
	for name, values := range map[string][]string{langCookie: {"en", "pl"}, themeCookie: {"auto", "light", "dark"}, keysCookie: {"on", "off"}} {
		if value := v.r.PostFormValue(strings.TrimPrefix(name, "poczta-")); slices.Contains(values, value) {
			http.SetCookie(v.w, &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: 400 * 24 * 3600, HttpOnly: true, SameSite: http.SameSiteStrictMode})
		}
	}
	return v.redirect(v.back())
}

// look asks for a look at the servers.
func (v *visit) look() error {
	if err := v.form(); err != nil {
		return err
	}
	if v.p.cfg.Look != nil {
		v.p.cfg.Look()
		v.say(flash{Text: v.t.Looking})
	}
	return v.redirect(v.back())
}
