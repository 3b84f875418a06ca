package page

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mua/compose"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
)

// writeView is the page on which a letter is written.
type writeView struct {
	frame
	Heading                   string
	Draft                     store.LetterID
	Reply, Forward            store.LetterID // what it answers or passes on, until it is a draft
	All, Attached             bool
	Senders                   []sender
	To, Cc, Bcc, Subject, Txt string
	Files                     []fileView
	Problems                  []string
	Anyway                    bool // only what may be passed over stands in Problems
	At                        string
	Notify                    bool
	Focus                     string
}

// sender is an address that may be written from.
type sender struct {
	Value, Text string
	Current     bool
}

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
		all, err := v.known()
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
	if err != nil { // of an account that was removed
		all, kerr := v.known()
		if kerr != nil || len(all) == 0 {
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

// sheet is the page with the form for a draft.
func (v *visit) sheet(d *compose.Draft, w wish) (*writeView, error) {
	f, err := v.full(v.t.NewLetter, "write", where{Folder: store.Inbox})
	if err != nil {
		return nil, err
	}
	view := &writeView{frame: f, Draft: w.draft, Reply: w.reply, Forward: w.forward, All: w.all, Attached: w.attached, Heading: v.t.NewLetter,
		To: typed(d.To), Cc: typed(d.Cc), Bcc: typed(d.Bcc), Subject: d.Subject, Txt: d.Text, Focus: "to"}
	switch {
	case w.reply != 0 && w.all:
		view.Heading, view.Focus = v.t.ReplyAll, "text"
	case w.reply != 0:
		view.Heading, view.Focus = v.t.Reply, "text"
	case w.forward != 0:
		view.Heading = v.t.Forward
	case d.Subject != "":
		view.Heading = d.Subject
	}
	if len(d.To) > 0 && w.reply == 0 {
		view.Focus = "text"
	}
	view.Title = view.Heading
	accounts, err := v.known()
	if err != nil {
		return nil, err
	}
	for _, a := range accounts {
		for _, addr := range append([]string{a.Address}, a.Aliases...) {
			s := sender{Value: strconv.FormatInt(int64(a.ID), 10) + " " + addr, Text: typed([]store.Address{{Name: a.Name, Address: addr}})}
			s.Current = a.ID == d.Account && strings.EqualFold(addr, d.From.Address)
			view.Senders = append(view.Senders, s)
		}
	}
	for i, a := range d.Attachments {
		file := fileView{Name: a.Name, Type: a.Type, URL: strconv.Itoa(i)}
		if a.Octets >= 0 {
			file.Size = size(counted(a.Octets, a.Open))
		}
		view.Files = append(view.Files, file)
	}
	return view, nil
}

// typed writes addresses as a person types them.
func typed(all []store.Address) string {
	var out []string
	for _, a := range all {
		if a.Name == "" {
			out = append(out, a.Address)
			continue
		}
		name := a.Name
		if strings.ContainsAny(name, `",;<>()@:\`) {
			name = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `"`
		}
		out = append(out, name+" <"+a.Address+">")
	}
	return strings.Join(out, ", ")
}

// overlay puts what the person typed over the draft.
func (v *visit) overlay(d *compose.Draft, f url.Values) error {
	for name, list := range map[string]*[]store.Address{"to": &d.To, "cc": &d.Cc, "bcc": &d.Bcc} {
		good, wrong := compose.ParseAddresses(f.Get(name))
		for _, w := range wrong { // kept, so that nothing typed is lost; Check refuses to send it
			good = append(good, store.Address{Address: w})
		}
		*list = good
	}
	d.Subject = strings.Join(strings.Fields(f.Get("subject")), " ")
	d.Text = strings.ReplaceAll(f.Get("text"), "\r\n", "\n")
	id, addr, _ := strings.Cut(f.Get("from"), " ")
	a, err := v.account(accountOf(id))
	if err != nil {
		return err
	}
	if !a.Owns(addr) {
		return errRequest
	}
	d.Account, d.From = a.ID, store.Address{Name: a.Name, Address: addr}
	return nil
}

// files puts the files that the form brings to the draft, and takes away that which it drops.
func (v *visit) files(d *compose.Draft) {
	if drop, ok := strings.CutPrefix(v.r.PostForm.Get("do"), "drop-"); ok {
		if i, err := strconv.Atoi(drop); err == nil && i >= 0 && i < len(d.Attachments) {
			d.Attachments = slices.Delete(d.Attachments, i, i+1)
		}
	}
	if v.r.MultipartForm != nil {
		for _, h := range v.r.MultipartForm.File["file"] {
			if h.Filename != "" || h.Size > 0 {
				d.Attachments = append(d.Attachments, attachment(h))
			}
		}
	}
}

func attachment(h *multipart.FileHeader) compose.Attachment {
	kind := h.Header.Get("Content-Type")
	if kind == "message/rfc822" || strings.HasPrefix(kind, "multipart/") { // as a file, whatever it holds
		kind = "application/octet-stream"
	}
	name := cleanName(h.Filename)
	if name == "" {
		name = "file"
	}
	return compose.Attachment{Name: name, Type: kind, Octets: h.Size, Open: func() (io.ReadCloser, error) { return h.Open() }}
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

// saved saves while the person types, and tells our script. beside says that the letter in Drafts is
// as it was: it is written when the page goes.
func (v *visit) saved(d *compose.Draft, draft store.LetterID) error {
	beside, err := v.keepTyped(context.WithoutCancel(v.r.Context()), d, draft)
	if err == nil && !beside {
		draft, err = v.save(d, draft)
	}
	if err != nil {
		return err
	}
	v.w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(v.w).Encode(map[string]any{"draft": draft, "beside": beside, "saved": v.t.Saved + " " + v.p.cfg.Now().In(v.p.cfg.Zone).Format("15:04")})
}

// save puts a draft into Drafts, durably, and then the one before it into retention: at no
// instant is there none.
func (v *visit) save(d *compose.Draft, before store.LetterID) (id store.LetterID, err error) {
	ctx := context.WithoutCancel(v.r.Context()) // a page that is closed while it saves has still saved
	now := v.p.cfg.Now()
	mid, err := d.NewID(now, v.p.cfg.Rand)
	if err != nil {
		return 0, err
	}
	st, err := v.p.cfg.Store.Body().Stage(ctx, int64(len(d.Text)))
	if err != nil {
		return 0, err
	}
	defer st.Discard()
	if err := compose.WriteDraft(st, d, now.In(v.p.cfg.Zone), mid); err != nil {
		return 0, err
	}
	_, err = v.p.cfg.Store.Add(ctx, d.Account, []mailbox.Import{{Mailbox: store.Drafts, Staged: st, Received: now, Flags: mailbox.Seen | mailbox.Draft}},
		func(tx db.Tx, _ int, a mailbox.Appended) (err error) {
			id, err = v.p.cfg.Store.LetterOf(tx, d.Account, a.Entry.Number, a.Entry.UID)
			return err
		})
	if err != nil {
		return 0, err
	}
	if before != 0 && before != id {
		err = v.drop(ctx, before)
	}
	return id, err
}

// drop puts a draft that is no longer wanted into retention, past Trash.
func (v *visit) drop(ctx context.Context, id store.LetterID) error {
	if err := v.forgetTyped(ctx, id); err != nil {
		return err
	}
	m, err := v.p.cfg.Store.Summary(ctx, id)
	if errors.Is(err, store.ErrNotFound) || err == nil && (m.Folder != store.Drafts || !m.Removed.IsZero()) {
		return nil
	}
	for range 2 {
		if err == nil {
			_, err = v.p.cfg.Store.Remove(ctx, []store.LetterID{id})
		}
	}
	return err
}

// checkTime is how long the recipients' domains are asked for.
const checkTime = 5 * time.Second

// send hands the letter to the outbox, or shows what stands against it.
func (v *visit) send(d *compose.Draft, q wish) error {
	var problems []string
	fatal := v.p.cfg.Outbox == nil
	if fatal {
		problems = append(problems, v.t.CannotSend)
	}
	for _, p := range d.Check() {
		problems = append(problems, v.t.problem(p))
		fatal = fatal || p.Fatal
	}
	s := Sending{Notify: v.r.PostForm.Get("notify") != "", Now: v.p.cfg.Now().In(v.p.cfg.Zone), Anyway: v.r.PostForm.Get("anyway") != "", Draft: q.draft}
	if at := v.r.PostForm.Get("at"); at != "" {
		var err error
		if s.At, err = time.ParseInLocation("2006-01-02T15:04", at, v.p.cfg.Zone); err != nil {
			return errors.Join(errRequest, err)
		}
	}
	if !fatal && !s.Anyway {
		ctx, cancel := context.WithTimeout(v.r.Context(), checkTime)
		unreached, err := v.p.cfg.Outbox.Check(ctx, d.Account, d.Recipients(), v.t.Lang)
		cancel()
		if err != nil {
			return err
		}
		problems = append(problems, unreached...)
	}
	if len(problems) > 0 && (fatal || !s.Anyway) {
		return v.again(d, q, problems, !fatal)
	}
	ctx := context.WithoutCancel(v.r.Context())
	if err := v.p.cfg.Outbox.Put(ctx, d, s); err != nil {
		v.p.cfg.Logger.Warn("letter not put into the outbox", "error", err)
		return v.again(d, q, []string{v.t.Failed + ": " + v.t.trouble(err)}, false)
	}
	if q.draft != 0 {
		if err := v.drop(ctx, q.draft); err != nil {
			return err
		}
	}
	text := v.t.InOutbox
	if s.At.IsZero() {
		text = v.t.SentSoon
	}
	v.say(flash{Text: text})
	return v.redirect("/outbox")
}

// again shows the form with what is the matter. What was typed is saved before.
func (v *visit) again(d *compose.Draft, q wish, problems []string, anyway bool) error {
	id, err := v.save(d, q.draft)
	if err != nil {
		return err
	}
	view, err := v.sheet(d, wish{draft: id})
	if err != nil {
		return err
	}
	view.Problems, view.Anyway, view.At, view.Notify = problems, anyway, v.r.PostForm.Get("at"), v.r.PostForm.Get("notify") != ""
	view.Focus = "problems"
	v.w.WriteHeader(http.StatusUnprocessableEntity)
	return v.show("write.html", view)
}

// problem says what is the matter with a draft.
func (t *words) problem(p compose.Problem) string {
	if t.Lang != polish.Lang {
		return p.Text
	}
	switch p.Kind {
	case compose.BadAddress:
		return "„" + p.Value + "” nie jest adresem e-mail: ten wygląda jak nazwa@example.org."
	case compose.NoFrom:
		return "List potrzebuje Twojego własnego adresu w polu Od."
	case compose.NoRecipients:
		return "Nie podano nikogo, kto ma dostać list."
	case compose.NoSubject:
		return "List nie ma tematu."
	case compose.NoAttachment:
		return "Treść mówi o załączniku, ale żadnego nie ma."
	case compose.NoText:
		return "List jest pusty."
	case compose.ManyRecipients:
		return "Wielu odbiorców zobaczy nawzajem swoje adresy; w ukrytej kopii by ich nie widzieli."
	}
	return p.Text
}
