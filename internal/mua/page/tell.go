package page

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"poczta.example/poczta/internal/mua/profile"
)

// talkView is the page of an attempt that runs, asks, or failed.
type talkView struct {
	frame
	ID       string
	Version  int
	Running  bool
	Done     bool // it succeeded
	Steps    []step
	Question string
	Secret   bool
	Link     string
	Code     *codeView
	Problem  string
	Back     string
	Cert     *certView
}

// step is something that was done.
type step struct {
	Text  string
	Found bool // a server that was found
}

// certView is a certificate that may be accepted.
type certView struct{ Title, Why, Fingerprint string }

func (t *talk) over() bool {
	n, _ := t.look()
	return n.over
}

// talkOfPath finds the talk that the path names.
func (v *visit) talkOfPath() (*talk, error) {
	if t := v.p.talks.find(v.r.PathValue("id")); t != nil {
		return t, nil
	}
	return nil, profile.ErrNotFound
}

// talk shows how far an attempt is. Our script asks with the version that it shows, and is answered
// when there is another.
func (v *visit) talk() error {
	t, err := v.talkOfPath()
	if err != nil {
		return err
	}
	n, changed := t.look()
	part := v.r.Header.Get("X-Poczta-Part") == "talk"
	if seen := v.r.URL.Query().Get("seen"); part && seen == strconv.Itoa(n.version) && !n.over {
		timer := time.NewTimer(talkWait)
		defer timer.Stop()
		select {
		case <-changed:
		case <-timer.C:
		case <-v.r.Context().Done():
			return v.r.Context().Err()
		}
		n, _ = t.look()
	}
	if n.over && n.err == nil && !part {
		v.p.talks.drop(t)
		v.say(flash{Text: t.wish.success})
		return v.redirect(t.wish.done)
	}
	view := v.talkView(t, n)
	if part {
		view.frame = v.bare(t.wish.title)
		return v.show("talk", view)
	}
	if view.frame, err = v.full(t.wish.title, "settings", where{}); err != nil {
		return err
	}
	view.Follow = view.Running && view.Question == ""
	return v.show("talk.html", view)
}

func (v *visit) talkView(t *talk, n news) *talkView {
	view := &talkView{ID: t.id, Version: n.version, Running: !n.over, Done: n.over && n.err == nil, Link: n.link, Code: v.codeView(n.code), Back: t.wish.back}
	if t.wish.kind == "add" {
		view.Back += "?again=" + t.id
	}
	for _, s := range n.said {
		view.Steps = append(view.Steps, step{strings.TrimSpace(s), strings.HasPrefix(s, "  ")})
	}
	if n.question != nil {
		view.Question, view.Secret = n.question.text, n.question.secret
	}
	if n.err == nil {
		return view
	}
	if u, ok := errors.AsType[*Untrusted](n.err); ok && t.wish.accept != nil {
		c := u.Certificate
		view.Cert = &certView{v.t.about(v.t.CertificateTitle, c.Host), v.t.about(v.t.CertificateWhy, v.t.certificate(c.Err)), grouped(c.SHA256)}
		return view
	}
	view.Problem = v.t.trouble(n.err)
	return view
}

// grouped writes a fingerprint as people compare it: in groups of four.
func grouped(s string) string {
	var out []string
	for ; len(s) > 4; s = s[4:] {
		out = append(out, s[:4])
	}
	return strings.Join(append(out, s), " ")
}

// answered takes an answer, stops an attempt, or goes on with a certificate that was accepted.
func (v *visit) answered() error {
	if err := v.form(); err != nil {
		return err
	}
	t, err := v.talkOfPath()
	if err != nil {
		return err
	}
	f := v.r.PostForm
	switch do := f.Get("do"); do {
	case "yes", "no":
		t.answer(do)
	case "answer":
		t.answer(f.Get("password"))
	case "stop":
		t.cancel(errLeftAlone)
	case "accept":
		return v.accepted(t, f.Get("sure") != "")
	default:
		return errRequest
	}
	return v.redirect("/talk/" + t.id)
}

// accepted goes on with a certificate that the person knows to be right.
func (v *visit) accepted(t *talk, sure bool) error {
	n, _ := t.look()
	u, ok := errors.AsType[*Untrusted](n.err)
	if !ok || t.wish.accept == nil {
		return errRequest
	}
	if !sure {
		view := v.talkView(t, n)
		var err error
		if view.frame, err = v.full(t.wish.title, "settings", where{}); err != nil {
			return err
		}
		view.Problem = v.t.RemoveUnsure
		v.w.WriteHeader(http.StatusUnprocessableEntity)
		return v.show("talk.html", view)
	}
	next, err := v.p.begin(t.wish.accept(v, u), t.allowed)
	if err != nil {
		return err
	}
	v.p.talks.drop(t)
	return v.redirect("/talk/" + next.id)
}
