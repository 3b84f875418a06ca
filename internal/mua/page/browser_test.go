package page_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"

	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mua/oauth"
	"poczta.example/poczta/internal/mua/page"
	"poczta.example/poczta/internal/mua/store"
)

// shots is where screenshots are put; "" where nobody would look at them.
func shots(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("POCZTA_SCREENSHOTS")
	if dir != "" {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// shoot puts a screenshot there.
func (h *house) shoot(ctx context.Context, dir, name string) {
	h.t.Helper()
	if dir == "" {
		return
	}
	shot, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	h.must(err)
	h.must(os.WriteFile(filepath.Join(dir, name+".png"), shot, 0o644))
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
		{ID: "2", State: page.Perhaps, From: "ala@example.org", Recipients: []string{"ewa@example.net", "jan@example.net"}, Subject: "Zaproszenie", At: today.Add(-20 * time.Minute), Attempts: 1, Says: []string{"The connection was lost before the server confirmed the letter."}},
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
	h.t.Cleanup(func() { // before the server ends: the page would go on asking it
		_ = chromedp.Do(ctx, chromedp.Navigate("about:blank"))
	})
	h.goTo(ctx, at)
	h.until(ctx, `location.pathname === document.body.dataset.base + "/mail" && document.querySelector("#nav")`)
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
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`new Promise(ok=>{const end=Date.now()+1000;(function f(){if(document.readyState==="complete"&&(`+condition+`))ok(true);else if(Date.now()>end)ok(false);else setTimeout(f,15)})()})`, chromedp.EvalAwaitPromise))
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
	ctx := chromium(t, "")
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
	talks := h.talks()
	shop := h.ewa
	shop.OAuth, shop.Certificate = &clientconfig.OAuth{AuthURL: "https://provider.example/auth", TokenURL: "https://provider.example/token", DeviceURL: "https://provider.example/device"}, string(proofFile(t, "ec.crt"))
	h.must(h.accounts.Update(t.Context(), shop))
	pages := []struct{ name, path, do string }{
		{"inbox", "/mail", ""}, {"html", fmt.Sprintf("/mail?open=%d", news), ""}, {"files", fmt.Sprintf("/mail?open=%d", files), `document.querySelector(".letter .more").open = true`}, {"threads", "/mail?v=threads", ""},
		{"search", "/mail?q=spotkanie", ""}, {"nothing", "/mail?q=niczegotakiego", ""}, {"write", fmt.Sprintf("/write?draft=%d", draft), ""}, {"reply", fmt.Sprintf("/write?reply=%d", files), ""},
		{"outbox", "/outbox", ""}, {"people", "/people", ""}, {"settings", "/settings", ""}, {"rules", "/rules", ""}, {"rule", "/rules/1", ""}, {"missing", "/letter/999/html", ""},
		{"account-new", "/accounts/new", `document.querySelectorAll("details.part").forEach(d => d.open = true)`}, {"account", fmt.Sprintf("/accounts/%d", h.ala.ID), ""},
		{"question", talks["question"], ""}, {"login", talks["login"], ""}, {"code", talks["code"], ""}, {"account-certificate", fmt.Sprintf("/accounts/%d", h.ewa.ID), `document.querySelectorAll("details.part").forEach(d => d.open = true)`}, {"certificate", talks["certificate"], ""}, {"refused", talks["refused"], ""},
		{"folders", "/folders", ""}, {"folder-delete", fmt.Sprintf("/folders?a=%d&remove=Projekty/Ogr%%C3%%B3d", h.ala.ID), ""}, {"unlock", "/unlock", ""}, {"fresh", "/accounts/new", ""},
		{"help", "/mail", `document.querySelector("#help").showModal()`}, {"menu", "/mail", `document.querySelector(".menu-button").click()`},
	}
	for _, look := range []struct {
		lang, theme, width string
		w                  int64
		axe                bool // colours and places differ, other words do not matter to it
	}{{"en", "light", "wide", 1360, true}, {"pl", "dark", "wide", 1360, true}, {"en", "dark", "phone", 390, true}, {"pl", "light", "phone", 390, true}, {"pl", "light", "wide", 1360, false}, {"en", "dark", "wide", 1360, false}} {
		if err := chromedp.Do(ctx, chromedp.EmulateViewport(look.w, 844)); err != nil {
			t.Fatal(err)
		}
		js[int](ctx, h, fmt.Sprintf(`fetch(document.body.dataset.base + "/preferences", {method: "POST", body: new URLSearchParams({lang: %q, theme: %q})}).then(() => 1)`, look.lang, look.theme))
		for _, p := range pages {
			if p.name == "menu" && look.width != "phone" {
				continue
			}
			h.keeper.set(func() { h.keeper.lock = map[string]page.Lock{"unlock": page.Locked, "fresh": page.Fresh}[p.name] })
			h.goTo(ctx, h.at(p.path))
			if p.do != "" {
				js[int](ctx, h, "("+p.do+", 1)")
			}
			wide, lang, theme := js[int64](ctx, h, `document.documentElement.scrollWidth`), js[string](ctx, h, `document.documentElement.lang`), js[string](ctx, h, `document.documentElement.dataset.theme`)
			name := fmt.Sprintf("%s-%s-%s-%s", p.name, look.lang, look.theme, look.width)
			h.shoot(ctx, dir, name)
			if wide > look.w {
				t.Errorf("%s is %d pixels wide in a window of %d", name, wide, look.w)
			}
			if p.name == "files" && !js[bool](ctx, h, `(() => { const m = document.querySelector(".letter .drop").getBoundingClientRect(), r = document.querySelector(".reader").getBoundingClientRect(); return m.width > 200 && m.left >= r.left && m.right <= r.right && m.top >= 0 && m.bottom <= innerHeight })()`) {
				t.Errorf("the menu of %s reaches out of its place", name)
			}
			if lang != look.lang || theme != look.theme {
				t.Errorf("%s is in %s and %s", name, lang, theme)
			}
			if axe != "" && look.axe {
				h.accessible(ctx, name, axe)
			}
		}
	}
}

// talks begins attempts that stand where they are, by what they show.
func (h *house) talks() map[string]string {
	h.t.Helper()
	h.keeper.set(func() {
		h.keeper.with = func(ctx context.Context, who page.Person, n page.NewAccount) error {
			who.Say("Looking for the servers of example.org …\nhttps://autoconfig.example.org/mail/config-v1.1.xml: there is nothing\n_pop3s._tcp.example.org: found (pop.elsewhere.example)")
			who.Say("  POP3 pop.elsewhere.example:995, TLS, found in DNS without proof (_pop3s._tcp.example.org)\n  SMTP smtp.elsewhere.example:465, TLS, found in DNS without proof (_submissions._tcp.example.org)")
			switch name, _, _ := strings.Cut(n.Address, "@"); name {
			case "question":
				_, err := who.Confirm("Servers outside the domain example.org: pop.elsewhere.example, smtp.elsewhere.example. Nothing proves that the domain's owner named them. Send name and password there?")
				return err
			case "login":
				if err := who.Browse("https://provider.example/login"); err != nil {
					return err
				}
				<-ctx.Done()
				return ctx.Err()
			case "code":
				who.(coder).Code(oauth.Code{Address: "https://provider.example/device", Complete: "https://provider.example/device?code=ABCD-EFGH", Text: "ABCD-EFGH", Until: today.Add(15 * time.Minute), Away: true})
				<-ctx.Done()
				return ctx.Err()
			case "certificate":
				return untrusted(false)
			}
			return page.ErrCredentials
		}
	})
	all := map[string]string{}
	for name, until := range map[string]string{"question": "Nothing proves", "login": "https://provider.example/login", "code": "ABCD-EFGH", "certificate": "ab12 ab12", "refused": "app password"} {
		_, to := h.post("/accounts/new", url.Values{"address": {name + "@example.org"}, "password": {"tajne"}})
		h.talk(to, until)
		all[name] = to
	}
	return all
}

// TestSetupInBrowser sets an account up as a person does: what happens shows by itself, the question
// has the focus when it comes, and the mail follows.
func TestSetupInBrowser(t *testing.T) {
	t.Parallel()
	ctx := chromium(t, "")
	h := emptyHouse(t)
	next := make(chan bool)
	h.keeper.with = func(_ context.Context, who page.Person, n page.NewAccount) error {
		who.Say("Looking for the servers …")
		<-next
		who.Say("  POP3 pop.elsewhere.example:995, TLS")
		if yes, err := who.Confirm("Send name and password to pop.elsewhere.example?"); err != nil || !yes {
			return errors.Join(err, page.ErrUnconfirmed)
		}
		<-next
		h.account(n.Address, "Ala", "pop.elsewhere.example")
		return nil
	}
	at, err := h.page.Enter(h.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	h.goTo(ctx, at)
	h.until(ctx, `location.pathname === document.body.dataset.base + "/accounts/new"`)
	js[int](ctx, h, `(document.querySelector("#address").focus(), 1)`)
	h.press(ctx, "ala@example.org")
	js[int](ctx, h, `(document.querySelector("#password").focus(), 1)`)
	h.press(ctx, "tajne")
	h.press(ctx, "Enter")
	h.until(ctx, `document.querySelector(".steps")?.textContent.includes("Looking for the servers")`)
	js[int](ctx, h, `(window.unturned = true, 1)`)
	next <- true
	h.until(ctx, `document.activeElement.id === "question" && document.querySelector(".asked").textContent.includes("pop.elsewhere.example") && window.unturned`)
	js[int](ctx, h, `(document.querySelector("[value=yes]").click(), 1)`)
	h.until(ctx, `document.querySelector(".trying")`)
	next <- true
	h.until(ctx, `location.pathname === document.body.dataset.base + "/mail" && document.querySelector("#flash").textContent.includes("ala@example.org is set up")`)
}

// TestKeysBehindFrame has the focus in a letter's HTML, from where no key comes here, and leads out
// of it.
func TestKeysBehindFrame(t *testing.T) {
	t.Parallel()
	ctx := chromium(t, "")
	h := newHouse(t)
	news, _ := furnish(h)
	h.enter(ctx)
	h.goTo(ctx, h.at(fmt.Sprintf("/mail?open=%d", news)))
	h.until(ctx, `document.querySelector("#frame-out").hidden`)
	middle := js[[]float64](ctx, h, `(() => { const r = document.querySelector("iframe.body").getBoundingClientRect(); return [r.left + r.width / 2, r.top + 60] })()`)
	if err := chromedp.Do(ctx, chromedp.MouseClickXY(middle[0], middle[1])); err != nil {
		t.Fatal(err)
	}
	h.until(ctx, `document.activeElement.tagName === "IFRAME" && !document.querySelector("#frame-out").hidden`)
	js[int](ctx, h, `(document.querySelector("#frame-out").click(), 1)`)
	h.until(ctx, `document.activeElement.id === "letter-title" && document.querySelector("#frame-out").hidden`)
	h.press(ctx, "r")
	h.until(ctx, `location.pathname === document.body.dataset.base + "/write"`)
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

// press types text, or one named key, where the focus is: one event for each key, whose character
// the browser makes itself, so that a key that a script takes writes nothing.
func (h *house) press(ctx context.Context, keys string) {
	h.t.Helper()
	var all []input.DispatchKeyEventParams
	if code, named := map[string]int64{"Enter": 13, "Escape": 27, "ArrowDown": 40, "Tab": 9}[keys]; named {
		all = append(all, input.DispatchKeyEventParams{Key: keys, Code: keys, WindowsVirtualKeyCode: code})
		if keys == "Enter" {
			all[0].Text = "\r"
		}
	} else {
		for _, r := range keys {
			all = append(all, input.DispatchKeyEventParams{Key: string(r), Text: string(r)})
		}
	}
	err := chromedp.Do(ctx, chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		for _, k := range all {
			for _, k.Type = range []input.DispatchKeyEventType{input.DispatchKeyEventTypeKeyDown, input.DispatchKeyEventTypeKeyUp} {
				if _, err := cdp.Call(ctx, t, input.DispatchKeyEvent, k); err != nil {
					return err
				}
				k.Text = ""
			}
		}
		return nil
	}))
	if err != nil {
		h.t.Fatal(err)
	}
}

// TestKeyboard reads, files and searches mail by keys alone.
func TestKeyboard(t *testing.T) {
	t.Parallel()
	ctx := chromium(t, "")
	h := newHouse(t)
	news, _ := furnish(h)
	h.enter(ctx)
	h.goTo(ctx, h.at("/mail"))
	focused := func(subject string) string {
		return fmt.Sprintf(`document.activeElement.closest("#rows .row")?.textContent.includes(%q)`, subject)
	}
	h.press(ctx, "j")
	h.until(ctx, focused("Re: Spotkanie"))
	h.press(ctx, "j")
	h.until(ctx, focused("Jesienne"))
	h.press(ctx, "j")
	h.press(ctx, "k")
	h.until(ctx, focused("Jesienne"))
	h.press(ctx, "o")
	h.until(ctx, `document.activeElement.id === "letter-title" && document.activeElement.textContent.includes("Jesienne")`)
	if m := h.summary(news); m.Flags&mailbox.Seen == 0 {
		t.Error("what was opened is not read")
	}
	if got := js[string](ctx, h, `location.search`); got != fmt.Sprintf("?open=%d", news) {
		t.Errorf("the address is %s", got)
	}
	h.press(ctx, "s")
	h.until(ctx, `document.querySelector(".letter-head .flagged")`)
	h.press(ctx, "#")
	h.until(ctx, `document.querySelector("#flash button") && !document.querySelector("#rows").textContent.includes("Jesienne")`)
	if m := h.summary(news); m.Folder != store.Trash {
		t.Errorf("# moved it to %s", m.Folder)
	}
	h.press(ctx, "z")
	h.until(ctx, `document.querySelector("#flash").textContent.includes("Undone") && document.querySelector("#rows").textContent.includes("Jesienne")`)
	h.press(ctx, "j")
	h.press(ctx, "x")
	h.press(ctx, "j")
	h.press(ctx, "x")
	h.until(ctx, `document.querySelectorAll("#rows input:checked").length === 2`)
	h.press(ctx, "e")
	h.until(ctx, `document.querySelector("#flash").textContent.includes("2 letters → Archive")`)
	h.press(ctx, "?")
	h.until(ctx, `document.querySelector("#help").open`)
	h.press(ctx, "Escape")
	h.until(ctx, `!document.querySelector("#help").open`)
	h.press(ctx, "/")
	h.until(ctx, `document.activeElement.id === "q"`)
	h.press(ctx, "paczk")
	h.until(ctx, `document.querySelector("#rows")?.textContent.includes("Zamówienie 1182") && !document.querySelector("#rows").textContent.includes("gophers") && location.search === "?q=paczk"`)
	h.goTo(ctx, h.at("/mail"))
	h.until(ctx, `document.querySelectorAll("#rows .row").length === 50`)
	js[int](ctx, h, `(document.querySelector("#more").click(), 1)`)
	h.until(ctx, `document.querySelectorAll("#rows .row").length > 60 && !document.querySelector("#more")`)
	h.press(ctx, "c")
	h.until(ctx, `location.pathname === document.body.dataset.base + "/write" && document.activeElement.id === "to"`)
}

// TestTyping writes a letter: saved while typing, as one draft, its address completed, and sent.
func TestTyping(t *testing.T) {
	t.Parallel()
	ctx := chromium(t, "")
	h := newHouse(t)
	_, files := furnish(h)
	before := len(h.drafts())
	h.enter(ctx)
	h.goTo(ctx, h.at("/write"))
	h.until(ctx, `document.activeElement.id === "to"`)
	h.press(ctx, "wis")
	h.until(ctx, `document.querySelector("#to-choices li")?.textContent.includes("ewa@example.net")`)
	h.press(ctx, "ArrowDown")
	h.until(ctx, `document.activeElement.getAttribute("aria-activedescendant") === "to-choices-0"`)
	h.press(ctx, "Enter")
	h.until(ctx, `document.querySelector("#to").value === "Ewa Wiśniewska <ewa@example.net>, "`)
	js[int](ctx, h, `(document.querySelector("#subject").focus(), 1)`)
	h.press(ctx, "Plan")
	h.until(ctx, `document.querySelector("#saved").textContent.includes("Saved") && location.search.startsWith("?draft=")`)
	first := js[string](ctx, h, `(document.querySelector("#text").focus(), location.search)`)
	h.press(ctx, "Nowy tekst")
	h.until(ctx, fmt.Sprintf(`location.search !== %q && document.querySelector("#saved").textContent.includes("Saved")`, first))
	if d := h.drafts(); len(d) != before+1 || d[0].Subject != "Plan" {
		t.Errorf("%d drafts, %q", len(d)-before, d[0].Subject)
	}
	js[int](ctx, h, `(document.querySelector("#letter .primary").click(), 1)`)
	h.until(ctx, `location.pathname === document.body.dataset.base + "/outbox" && document.querySelector("#flash").textContent.includes("in the outbox")`)
	if len(h.outbox.sent) != 1 || !strings.HasPrefix(h.outbox.sent[0].Text, "Nowy tekst") || len(h.drafts()) != before {
		t.Errorf("%d sent, %d drafts", len(h.outbox.sent), len(h.drafts())-before)
	}
	h.goTo(ctx, h.at("/write?to=jan@example.net"))
	h.until(ctx, `document.activeElement.id === "text"`)
	h.press(ctx, "Ostatnie słowa")
	h.goTo(ctx, h.at("/mail?f=Drafts"))
	h.until(ctx, `document.querySelector("#rows").textContent.includes("jan@example.net") || (location.reload(), false)`)
	if d := h.drafts(); len(d) != before+1 {
		t.Errorf("%d drafts of what was left behind", len(d)-before)
	}
	h.goTo(ctx, fmt.Sprintf("%s?open=%d", h.at("/mail"), files))
	h.press(ctx, "r")
	h.until(ctx, `location.pathname === document.body.dataset.base + "/write" && document.activeElement.id === "text" && document.activeElement.selectionStart > 50`)
}

// TestHostile shows a letter that wants to load, run and send things, and hears at a proxy what
// leaves the browser.
func TestHostile(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	asked := map[string]bool{}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked[r.URL.Hostname()] = true
		w.WriteHeader(http.StatusBadGateway)
	}))
	t.Cleanup(proxy.Close)
	heard := func(host string) bool {
		mu.Lock()
		defer mu.Unlock()
		return asked[host]
	}
	ctx := chromium(t, strings.TrimPrefix(proxy.URL, "http://"))
	h := newHouse(t)
	news, _ := furnish(h)
	var pictures atomic.Int32
	inner := h.server.Config.Handler
	h.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inner.ServeHTTP(w, r)
		if strings.HasPrefix(r.URL.Path, "/inline/") && w.Header().Get("Content-Type") == "image/png" {
			pictures.Add(1)
		}
	})
	h.enter(ctx)
	h.goTo(ctx, fmt.Sprintf("%s?open=%d", h.at("/mail"), news))
	h.until(ctx, `document.querySelector("iframe.body")`)
	if pictures.Load() != 1 {
		t.Errorf("%d pictures of the letter itself were shown", pictures.Load())
	}
	if js[bool](ctx, h, `(() => { try { return !!document.querySelector("iframe.body").contentDocument } catch { return false } })()`) {
		t.Error("the frame is of our own origin")
	}
	for _, host := range []string{"zielnik.example", "t.example", "evil.example"} {
		if heard(host) {
			t.Errorf("%s was asked without a wish", host)
		}
	}
	h.goTo(ctx, fmt.Sprintf("%s?open=%d&images=yes", h.at("/mail"), news))
	if !heard("zielnik.example") {
		t.Error("the remote image was not asked for though the person wished it")
	}
	if heard("t.example") || heard("evil.example") {
		t.Error("a tracker was asked")
	}
	if got := js[string](ctx, h, `document.title`); got == "owned" {
		t.Error("the letter's script ran")
	}
	// Another program on this computer is another origin of the same site.
	var mine atomic.Pointer[string]
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := r.Header.Get("Cookie")
		mine.Store(&got)
		w.Header().Set("Content-Type", "text/html")
	}))
	t.Cleanup(other.Close)
	h.goTo(ctx, other.URL+"/mail")
	if got := mine.Load(); got == nil || strings.Contains(*got, "poczta=") {
		t.Errorf("another program on this computer got our cookie")
	}
	js[int](ctx, h, fmt.Sprintf(`fetch(%q, {method: "POST", mode: "no-cors", credentials: "include", body: new URLSearchParams({do: "delete", pick: %q})}).then(() => 1, () => 0)`, h.at("/act"), fmt.Sprint(news)))
	if m := h.summary(news); m.Folder != store.Inbox {
		t.Errorf("another origin moved a letter to %s", m.Folder)
	}
	if js[int](ctx, h, fmt.Sprintf(`new Promise(ok => { const s = document.createElement("img"); s.onload = () => ok(1); s.onerror = () => ok(0); s.src = %q; document.body.append(s) })`, h.at("/static/x/icon.svg"))) != 0 {
		t.Error("another origin read from us")
	}
}
