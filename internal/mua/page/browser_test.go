package page_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mua/page"
	"poczta.example/poczta/internal/mua/store"
)

// required reports that a missing program is a failure.
func required() bool { return os.Getenv("CI") != "" || os.Getenv("POCZTA_REQUIRE_SERVICES") != "" }

// chromium starts a Chromium, or skips the test where there is none.
func chromium(t *testing.T) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil && path == "" {
			path = p
		}
	}
	if path == "" {
		if required() {
			t.Fatal("no Chromium: install Debian's package chromium")
		}
		t.Skip("no Chromium is installed: what a browser shows was not tested")
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.WindowSize(1360, 850),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"), chromedp.UserDataDir(t.TempDir()))
	all, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(all)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start Chromium: %v", err)
	}
	ctx, end := context.WithTimeout(ctx, 4*time.Minute)
	t.Cleanup(end)
	return ctx
}

// shots is where screenshots are put.
func shots(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("POCZTA_SCREENSHOTS"); dir != "" {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	return t.TempDir()
}

// furnish fills a house with mail to look at, and returns the newsletter and the letter with files.
func furnish(h *house) (news, files store.LetterID) {
	h.t.Helper()
	news = h.add(h.ala, store.Inbox, 0, newsletter())
	files = h.add(h.ala, store.Inbox, mailbox.Flagged, withFiles())
	first := h.add(h.ala, store.Inbox, mailbox.Seen|mailbox.Answered, text("Ewa Wiśniewska <ewa@example.net>", "Spotkanie w czwartek", "Czy czwartek o 10 pasuje?\n\nEwa", 50*time.Hour, "Message-ID: <th1@example.net>"))
	_ = first
	h.add(h.ala, store.Sent, mailbox.Seen, text("Ala Kowalska <ala@example.org>", "Re: Spotkanie w czwartek", "Pasuje, do zobaczenia.\n\nAla", 49*time.Hour, "Message-ID: <sent1@example.org>", "In-Reply-To: <th1@example.net>", "References: <th1@example.net>"))
	h.add(h.ala, store.Inbox, 0, text("Ewa Wiśniewska <ewa@example.net>", "Re: Spotkanie w czwartek", "Świetnie! Przyniosę plany.", time.Hour, "Message-ID: <th3@example.net>", "In-Reply-To: <sent1@example.org>", "References: <th1@example.net> <sent1@example.org>"))
	h.add(h.ewa, store.Inbox, 0, text("Wydawnictwo Sowa <zamowienia@sowa.example>", "Zamówienie 1182 wysłane", "Paczka jest w drodze.", 5*time.Hour))
	for i := range 70 {
		flags := mailbox.Seen
		if i%9 == 0 {
			flags = 0
		}
		h.add(h.ala, store.Inbox, flags, text(fmt.Sprintf("List %d <lista%d@example.com>", i, i%7), fmt.Sprintf("[gophers] Weekly notes, part %d", i), "The notes of this week, with a few words more so that the line is long enough to be cut in a list.", time.Duration(60+i*11)*time.Hour))
	}
	h.add(h.ala, store.Junk, 0, text("Prince <prince@spam.example>", "You won", "Money.", 9*time.Hour))
	h.add(h.ala, store.Drafts, mailbox.Seen|mailbox.Draft, "From: Ala Kowalska <ala@example.org>\nTo: Ewa <ewa@example.net>\nSubject: Plan na przyszły tydzień\nDate: Mon, 23 Nov 2026 09:00:00 +0000\n\nCześć Ewo,\n\n")
	if err := h.store.CreateFolder(h.t.Context(), h.ala.ID, "Projekty/Ogród"); err != nil {
		h.t.Fatal(err)
	}
	if _, err := h.store.SaveRule(h.t.Context(), store.Rule{Name: "Listy dyskusyjne", Conditions: []store.Condition{{Field: "subject", Op: "contains", Value: "[gophers]"}}, Move: "Projekty/Ogród", MarkRead: true}); err != nil {
		h.t.Fatal(err)
	}
	h.outbox.items = []page.Item{
		{ID: "2", State: page.Perhaps, From: "ala@example.org", Recipients: []string{"ewa@example.net", "jan@example.net"}, Subject: "Zaproszenie", At: today.Add(-20 * time.Minute), Attempts: 1, Says: []string{"The connection was lost after the final dot."}},
		{ID: "1", State: page.Waiting, From: "ala@example.org", Recipients: []string{"biuro@example.com"}, Subject: "Oferta", At: today.Add(-3 * time.Hour), Next: today.Add(4 * time.Minute), Attempts: 2},
	}
	h.index()
	return news, files
}

// enter lets the browser in.
func (h *house) enter(ctx context.Context) {
	h.t.Helper()
	at, err := h.page.Enter(h.server.URL)
	if err != nil {
		h.t.Fatal(err)
	}
	h.goTo(ctx, at)
	h.until(ctx, `location.pathname === "/mail" && document.querySelector("#nav")`)
}

func (h *house) goTo(ctx context.Context, at string) {
	h.t.Helper()
	if err := chromedp.Do(ctx, chromedp.Navigate(at)); err != nil {
		h.t.Fatalf("%s: %v", at, err)
	}
}

// js is what an expression comes to in the page; a promise is waited for.
func js[T any](ctx context.Context, h *house, expression string) T {
	h.t.Helper()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		h.t.Fatalf("%.200s: %v", expression, err)
	}
	return v
}

// until waits for a condition, through pages that follow each other.
func (h *house) until(ctx context.Context, condition string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for {
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`new Promise(ok=>{const end=Date.now()+1000;(function f(){if(`+condition+`)ok(true);else if(Date.now()>end)ok(false);else setTimeout(f,15)})()})`, chromedp.EvalAwaitPromise))
		if ok {
			return
		}
		if ctx.Err() != nil {
			at, _ := chromedp.Run(context.WithoutCancel(ctx), chromedp.Location())
			h.t.Fatalf("%s never comes true at %s: %v", condition, at, err)
		}
	}
}

// TestPages shows each page in both languages and appearances, wide and as wide as a phone, and
// lets axe look for what keeps people out.
func TestPages(t *testing.T) {
	t.Parallel()
	ctx := chromium(t)
	axe := axeSource(t)
	dir := shots(t)
	h := newHouse(t)
	news, files := furnish(h)
	h.enter(ctx)
	var draft store.LetterID
	if p, err := h.store.List(t.Context(), store.Query{Folder: store.Drafts}); err != nil || len(p.Letters) != 1 {
		t.Fatalf("drafts: %v, %v", p.Letters, err)
	} else {
		draft = p.Letters[0].ID
	}
	pages := []struct{ name, path string }{
		{"inbox", "/mail"}, {"html", fmt.Sprintf("/mail?open=%d", news)}, {"files", fmt.Sprintf("/mail?open=%d", files)}, {"threads", "/mail?v=threads"},
		{"search", "/mail?q=spotkanie"}, {"nothing", "/mail?q=niczegotakiego"}, {"write", fmt.Sprintf("/write?draft=%d", draft)}, {"reply", fmt.Sprintf("/write?reply=%d", files)},
		{"outbox", "/outbox"}, {"people", "/people"}, {"settings", "/settings"}, {"rules", "/rules"}, {"rule", "/rules/1"}, {"missing", "/letter/999/html"},
	}
	for _, look := range []struct {
		lang, theme, width string
		w                  int64
	}{{"en", "light", "wide", 1360}, {"pl", "dark", "wide", 1360}, {"en", "dark", "phone", 390}, {"pl", "light", "phone", 390}, {"pl", "light", "wide", 1360}, {"en", "dark", "wide", 1360}} {
		if err := chromedp.Do(ctx, chromedp.EmulateViewport(look.w, 844)); err != nil {
			t.Fatal(err)
		}
		js[int](ctx, h, fmt.Sprintf(`fetch("/preferences", {method: "POST", body: new URLSearchParams({lang: %q, theme: %q})}).then(() => 1)`, look.lang, look.theme))
		for _, p := range pages {
			h.goTo(ctx, h.server.URL+p.path)
			wide, lang, theme := js[int64](ctx, h, `document.documentElement.scrollWidth`), js[string](ctx, h, `document.documentElement.lang`), js[string](ctx, h, `document.documentElement.dataset.theme`)
			shot, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
			if err != nil {
				t.Fatal(err)
			}
			name := fmt.Sprintf("%s-%s-%s-%s", p.name, look.lang, look.theme, look.width)
			if err := os.WriteFile(filepath.Join(dir, name+".png"), shot, 0o644); err != nil {
				t.Fatal(err)
			}
			if wide > look.w {
				t.Errorf("%s is %d pixels wide in a window of %d", name, wide, look.w)
			}
			if lang != look.lang || theme != look.theme {
				t.Errorf("%s is in %s and %s", name, lang, theme)
			}
			if axe != "" {
				h.accessible(ctx, name, axe)
			}
		}
	}
}

// accessible lets axe look at a page.
func (h *house) accessible(ctx context.Context, name, axe string) {
	h.t.Helper()
	js[int](ctx, h, axe+";0")
	out := js[string](ctx, h, `axe.run(document,{resultTypes:["violations"],iframes:false}).then(r=>JSON.stringify(r.violations.map(v=>({id:v.id,impact:v.impact,help:v.help,nodes:v.nodes.map(n=>n.html+" "+n.failureSummary).slice(0,3)}))))`)
	var found []struct {
		ID, Impact, Help string
		Nodes            []string
	}
	if err := json.Unmarshal([]byte(out), &found); err != nil {
		h.t.Fatalf("%s: axe says %q", name, out)
	}
	for _, f := range found {
		if f.Impact == "serious" || f.Impact == "critical" {
			h.t.Errorf("%s: %s (%s): %s\n%s", name, f.ID, f.Impact, f.Help, strings.Join(f.Nodes, "\n"))
		} else {
			h.t.Logf("%s: %s (%s): %s %s", name, f.ID, f.Impact, f.Help, strings.Join(f.Nodes, "\n"))
		}
	}
}
