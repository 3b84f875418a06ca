package page

import (
	"context"
	"errors"
	"net/http"
	"time"

	"poczta.example/poczta/internal/mua/compose"
)

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
