package page

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"poczta.example/poczta/internal/mua/compose"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
)

// wish is what a form or address asks to be written.
type wish struct {
	draft, reply, forward store.LetterID
	all, attached         bool
}

func wishOf(q url.Values) wish {
	id := func(name string) store.LetterID {
		n, err := strconv.ParseInt(q.Get(name), 10, 64)
		if err != nil {
			return 0
		}
		return store.LetterID(n)
	}
	return wish{id("draft"), id("reply"), id("forward"), q.Get("all") != "", q.Get("attached") != ""}
}

// begin makes the draft that a wish begins with. close gives back the letter that it reads
// its attachments from.
func (v *visit) begin(q wish) (d compose.Draft, close func(), err error) {
	close = func() {}
	from := max(q.draft, q.reply, q.forward)
	if from == 0 {
		all, err := v.writers()
		if err != nil || len(all) == 0 {
			return d, close, err
		}
		return compose.New(all[0]), close, nil
	}
	l, err := v.p.cfg.Store.Letter(v.r.Context(), from)
	if err != nil {
		return d, close, err
	}
	close = func() {
		if err := l.Close(); err != nil {
			v.p.cfg.Logger.Debug("letter not closed", "error", err)
		}
	}
	a, err := v.account(l.Account)
	if err != nil || a.Archive { // of an account that was removed, or that does not send
		all, kerr := v.writers()
		if kerr != nil || len(all) == 0 { // the sheet says that there is nobody to write as
			close()
			return d, func() {}, errors.Join(err, kerr)
		}
		a = all[0]
	}
	switch {
	case q.draft != 0:
		if d, err = compose.Read(a, l); err == nil {
			err = v.latest(&d, q.draft)
		}
	case q.reply != 0:
		d, err = compose.Reply(a, l, q.all, v.t.Lang)
	default:
		d, err = compose.Forward(a, l, q.attached, v.t.Lang)
	}
	return d, close, err
}

// latest puts what was typed since its letter was written over a draft.
func (v *visit) latest(d *compose.Draft, draft store.LetterID) error {
	f, err := v.typed(v.r.Context(), draft)
	if err != nil || f == nil {
		return err
	}
	if err := v.overlay(d, f); !errors.Is(err, profile.ErrNotFound) && !errors.Is(err, errRequest) {
		return err
	}
	return nil // from an address that is the person's no longer: all else is typed over
}

// write shows the page for a new letter, an answer, or a draft.
func (v *visit) write() error {
	q := v.r.URL.Query()
	w := wishOf(q)
	d, close, err := v.begin(w)
	if err != nil {
		return err
	}
	defer close()
	if to := q.Get("to"); to != "" {
		good, _ := compose.ParseAddresses(to)
		d.To = append(d.To, good...)
	}
	view, err := v.sheet(&d, w)
	if err != nil {
		return err
	}
	return v.show("write.html", view)
}

// written saves, sends or discards what was typed.
func (v *visit) written() error {
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, maxUpload)
	if err := v.r.ParseMultipartForm(formMemory); err != nil && !errors.Is(err, http.ErrNotMultipart) {
		return errors.Join(errRequest, err)
	}
	if v.r.MultipartForm != nil {
		defer v.r.MultipartForm.RemoveAll()
	}
	q := wishOf(v.r.PostForm)
	do := v.r.PostForm.Get("do")
	if do == "discard" {
		if q.draft != 0 {
			if err := errors.Join(v.move([]store.LetterID{q.draft}, store.Trash, true), v.forgetTyped(v.r.Context(), q.draft)); err != nil {
				return err
			}
		}
		return v.redirect("/mail")
	}
	d, close, err := v.begin(q)
	if errors.Is(err, store.ErrNotFound) { // the draft was removed elsewhere: what was typed is still here
		q.draft = 0
		d, close, err = v.begin(q)
	}
	if err != nil {
		return err
	}
	defer close()
	if err := v.overlay(&d, v.r.PostForm); err != nil {
		return err
	}
	v.files(&d)
	if do == "send" {
		return v.send(&d, q)
	}
	if v.r.Header.Get("X-Poczta-Part") == "save" {
		return v.saved(&d, q.draft)
	}
	id, err := v.save(&d, q.draft)
	if err != nil {
		return err
	}
	if do == "save" {
		v.say(flash{Text: v.t.Saved})
	}
	return v.redirect("/write?draft=" + strconv.FormatInt(int64(id), 10))
}
