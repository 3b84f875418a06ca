package page_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"poczta.example/poczta/internal/mua/oauth"
	"poczta.example/poczta/internal/mua/page"
	"poczta.example/poczta/internal/mua/store"
)

// spoken remembers what the page's live region says, in order.
const spoken = `(window.spoken ??= [], new MutationObserver(() => { const t = document.querySelector("#told").textContent; if (t) window.spoken.push(t) }).observe(document.querySelector("#told"), {childList: true}), 1)`

// TestZoom magnifies each page as people with little sight do: twice and four times, and by larger
// letters alone. Nothing is cut off at the side, and everything can be scrolled to.
func TestZoom(t *testing.T) {
	t.Parallel()
	ctx := chromium(t, "")
	dir := shots(t)
	h := newHouse(t)
	news, files := furnish(h)
	talks := h.talks()
	h.enter(ctx)
	pages := map[string]string{"inbox": "/mail", "html": fmt.Sprintf("/mail?open=%d", news), "files": fmt.Sprintf("/mail?open=%d", files), "write": fmt.Sprintf("/write?reply=%d", files), "outbox": "/outbox", "settings": "/settings", "rule": "/rules/1",
		"folders": "/folders", "account-new": "/accounts/new", "account": fmt.Sprintf("/accounts/%d", h.ala.ID), "code": talks["code"], "certificate": talks["certificate"]}
	for _, z := range []struct {
		name    string
		w, high int64
		scale   float64
		letters string
	}{{"200%", 680, 425, 2, "100%"}, {"400%", 340, 212, 4, "100%"}, {"letters", 1360, 850, 1, "200%"}} {
		h.must(chromedp.Do(ctx, chromedp.EmulateViewport(z.w, z.high, chromedp.EmulateScale(z.scale))))
		for name, path := range pages {
			h.goTo(ctx, h.at(path))
			before := js[float64](ctx, h, `parseFloat(getComputedStyle(document.body).fontSize)`)
			js[int](ctx, h, fmt.Sprintf(`(document.documentElement.style.fontSize = %q, document.querySelectorAll("details.part").forEach(d => d.open = true), 1)`, z.letters))
			if after := js[float64](ctx, h, `parseFloat(getComputedStyle(document.body).fontSize)`); z.letters == "200%" && after < 1.9*before {
				t.Errorf("%s has letters of %v though twice %v are wanted", name, after, before)
			}
			h.shoot(ctx, dir, fmt.Sprintf("zoom-%s-%s", name, strings.TrimSuffix(z.name, "%")))
			if wide := js[int64](ctx, h, `document.documentElement.scrollWidth`); wide > z.w {
				t.Errorf("%s at %s is %d pixels wide in a window of %d", name, z.name, wide, z.w)
			}
			// What can be used can be brought into view: nothing that does not scroll cuts it off.
			if lost := js[[]string](ctx, h, `[...document.querySelectorAll("#main a,#main button,#main input:not([type=hidden]),#main select,#main textarea,#main summary")].filter(n => n.checkVisibility() && !n.closest(".hidden") && !n.matches(".hidden") && n.offsetParent).filter(n => { n.scrollIntoView({block: "center"}); const r = n.getBoundingClientRect(); return r.bottom <= 0 || r.top >= innerHeight || r.right <= 0 || r.left >= innerWidth || r.left < -1 }).map(n => n.outerHTML.slice(0, 90)).slice(0, 4)`); len(lost) > 0 {
				t.Errorf("%s at %s can't show %s", name, z.name, strings.Join(lost, "\n\t"))
			}
		}
	}
}

// TestLowSight is a visit with the keyboard and a screen reader: names and sizes of what can be
// used, where the focus is after each action, and what is said.
func TestLowSight(t *testing.T) {
	t.Parallel()
	ctx := chromium(t, "")
	h := newHouse(t)
	_, files := furnish(h)
	h.enter(ctx)
	h.marks(ctx, files)
	h.sizes(ctx, files)
	h.sameNames(ctx)
	h.places(ctx)
	h.saying(ctx)
	h.problems(ctx)
	h.singleKeys(ctx)
}

// marks looks for what only a background's colour tells, also where the person has colours of their
// own.
func (h *house) marks(ctx context.Context, letter store.LetterID) {
	h.t.Helper()
	h.goTo(ctx, h.at(fmt.Sprintf("/mail?open=%d", letter)))
	if !js[bool](ctx, h, `getComputedStyle(document.querySelector(".row.current")).boxShadow !== "none" && getComputedStyle(document.querySelector(".views a[aria-current]")).textDecorationLine === "underline" && getComputedStyle(document.querySelector(".boxes a[aria-current]")).fontWeight >= 600`) {
		h.t.Error("what is chosen differs by its background alone")
	}
	colours := func(value string) {
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "forced-colors", Value: value}}})
		h.must(err)
	}
	colours("active")
	if !js[bool](ctx, h, `[".row.current", ".boxes a[aria-current]", ".views a[aria-current]"].every(s => getComputedStyle(document.querySelector(s)).outlineStyle === "solid") && getComputedStyle(document.querySelector(".row.unread")).borderLeftWidth === "4px"`) {
		h.t.Error("with colours of the person's own nothing shows what is chosen or unread")
	}
	colours("none")
}

// sizes wants 24 pixels each way of what is pressed, but for links within text (WCAG 2.5.8).
func (h *house) sizes(ctx context.Context, letter store.LetterID) {
	h.t.Helper()
	for _, path := range []string{"/mail", fmt.Sprintf("/mail?open=%d", letter), "/outbox", "/folders", "/rules", "/accounts/new", "/settings"} {
		h.goTo(ctx, h.at(path))
		small := js[[]string](ctx, h, `[...document.querySelectorAll("button,a,select,summary,input:not([type=hidden])")].filter(n => n.checkVisibility() && !n.closest(".hidden") && !n.matches(".hidden,.skip")).filter(n => {
			const hit = n.matches("input[type=checkbox],input[type=radio]") && n.closest("label") || n, r = hit.getBoundingClientRect();
			return getComputedStyle(n).display !== "inline" && (r.width < 24 || r.height < 24)
		}).map(n => n.outerHTML.slice(0, 90) + " " + n.getBoundingClientRect().width + "×" + n.getBoundingClientRect().height).slice(0, 4)`)
		if len(small) > 0 {
			h.t.Errorf("%s has small things to press: %s", path, strings.Join(small, "\n\t"))
		}
	}
}

// sameNames looks for buttons that sound alike and do different things: each says of what it is, by
// its name or its description.
func (h *house) sameNames(ctx context.Context) {
	h.t.Helper()
	for _, path := range []string{"/outbox", "/folders", "/rules", "/rules/1", "/settings", fmt.Sprintf("/accounts/%d", h.ala.ID)} {
		h.goTo(ctx, h.at(path))
		twice := js[[]string](ctx, h, `(() => { const seen = new Set(), twice = []; for (const n of document.querySelectorAll("#main button,#main a[href],#main select,#main input:not([type=hidden],[type=radio])")) {
			if (!n.checkVisibility()) continue;
			const group = n.closest("fieldset,[role=group],form")?.querySelector("legend")?.textContent ?? "", set = n.closest("[role=group]")?.getAttribute("aria-label") ?? "", card = n.matches("button,a") ? "" : n.closest("section")?.getAttribute("aria-labelledby") ?? "";
			const name = [n.getAttribute("aria-label") ?? n.labels?.[0]?.textContent.trim() ?? n.textContent.trim(), n.getAttribute("aria-describedby") ?? "", group, set, card, n.href ?? ""].join("|");
			if (seen.has(name)) twice.push(name); seen.add(name) } return twice })()`)
		if len(twice) > 0 {
			h.t.Errorf("%s has more than one of %q", path, twice)
		}
	}
}

// places follows the focus.
func (h *house) places(ctx context.Context) {
	h.t.Helper()
	h.goTo(ctx, h.at("/mail"))
	h.press(ctx, "Tab")
	h.until(ctx, `document.activeElement.matches(".skip") && document.activeElement.getBoundingClientRect().left >= 0`)
	h.press(ctx, "Enter")
	h.until(ctx, `document.activeElement.id === "main"`)
	// What is done to a letter leaves the person at the next one.
	h.press(ctx, "j")
	h.press(ctx, "j")
	h.press(ctx, "j")
	next := js[string](ctx, h, `document.querySelectorAll("#rows .row")[3].dataset.id`)
	h.press(ctx, "e")
	h.until(ctx, fmt.Sprintf(`document.querySelector("#flash").textContent.includes("Archive") && document.activeElement.closest(".row")?.dataset.id === %q`, next))
	h.until(ctx, `document.querySelector("#told").textContent.includes("Archive")`)
	// Menus close by Escape, and give the focus back.
	js[int](ctx, h, `(document.querySelector(".list .more summary").focus(), document.querySelector(".list .more").open = true, 1)`)
	h.press(ctx, "Tab")
	h.press(ctx, "Escape")
	h.until(ctx, `!document.querySelector(".list .more").open && document.activeElement.matches(".list .more summary")`)
	h.must(chromedp.Do(ctx, chromedp.EmulateViewport(680, 425)))
	js[int](ctx, h, `(document.querySelector(".menu-button").click(), 1)`)
	h.until(ctx, `document.activeElement.closest("#nav") && document.querySelector(".help-button").checkVisibility()`)
	h.press(ctx, "Escape")
	h.until(ctx, `document.activeElement.matches(".menu-button") && document.activeElement.getAttribute("aria-expanded") === "false" && !document.querySelector("#nav a").checkVisibility()`)
	h.must(chromedp.Do(ctx, chromedp.EmulateViewport(1360, 850)))
	// The order of reading is that of the eye: each pane behind the one left of it, and within one downwards.
	if back := js[[]string](ctx, h, `(() => { const at = n => n.getBoundingClientRect(), out = []; const panes = ["header", "#nav", "#list", "#reader"].map(s => document.querySelector(s));
		for (let i = 1; i < panes.length; i++) if (!(panes[i - 1].compareDocumentPosition(panes[i]) & Node.DOCUMENT_POSITION_FOLLOWING) || at(panes[i]).left + at(panes[i]).top < at(panes[i - 1]).left + at(panes[i - 1]).top) out.push(panes[i].id);
		for (const p of panes) { let last = -1e9; for (const n of p.querySelectorAll("a,button,select,summary,input:not([type=hidden])")) { if (!n.checkVisibility() || n.matches(".hidden") || n.closest(".hidden")) continue; if (at(n).bottom <= last) out.push(n.outerHTML.slice(0, 60)); last = at(n).top } }
		if (document.querySelector("[tabindex]:not([tabindex='-1'],[tabindex='0'])")) out.push("tabindex"); return out })()`); len(back) > 0 {
		h.t.Errorf("read against the eye: %q", back)
	}
}

// saying listens to an attempt: the focus stays where it is while steps come, each is said once, and
// the code comes with the focus, can be copied, and its waiting is told.
func (h *house) saying(ctx context.Context) {
	h.t.Helper()
	next := make(chan func(page.Person))
	h.keeper.set(func() {
		h.keeper.with = func(_ context.Context, who page.Person, _ page.NewAccount) error {
			for f := range next {
				f(who)
			}
			return page.ErrNoLogin
		}
	})
	_, to := h.post("/accounts/new", url.Values{"address": {"nowa@example.org"}, "password": {"x"}})
	h.goTo(ctx, h.at(to))
	js[int](ctx, h, spoken)
	js[int](ctx, h, `(document.querySelector("button[value=stop]").focus(), 1)`)
	for i := range 3 {
		next <- func(who page.Person) { who.Say(fmt.Sprintf("Step %d is done.", i)) }
		h.until(ctx, fmt.Sprintf(`window.spoken.at(-1) === "Step %d is done." && document.activeElement.value === "stop"`, i))
	}
	if got := js[string](ctx, h, `window.spoken.join("|")`); got != "Step 0 is done.|Step 1 is done.|Step 2 is done." {
		h.t.Errorf("said %q", got)
	}
	code := oauth.Code{Address: "https://provider.example/device", Text: "ABCD-EFGH", Until: today}
	next <- func(who page.Person) { who.(coder).Code(code) }
	h.until(ctx, `document.activeElement.id === "question" && document.querySelector("#code").textContent === "ABCD-EFGH" && !document.querySelector("#copy").hidden`)
	at := js[[]float64](ctx, h, `(() => { const r = document.querySelector("#copy").getBoundingClientRect(); return [r.left + 9, r.top + 9] })()`)
	h.must(chromedp.Do(ctx, chromedp.MouseClickXY(at[0], at[1])))
	h.until(ctx, `window.spoken.at(-1).includes("copied")`)
	js[int](ctx, h, `(document.querySelector("#copy").focus(), 1)`)
	code.Away = true
	next <- func(who page.Person) { who.(coder).Code(code) }
	h.until(ctx, `window.spoken.at(-1).includes("can't be reached") && document.activeElement.id === "copy"`)
	close(next)
	h.until(ctx, `document.activeElement.id === "problems"`)
	h.keeper.set(func() { h.keeper.with = nil })
	// Search tells how much it found.
	h.goTo(ctx, h.at("/mail"))
	js[int](ctx, h, spoken)
	h.press(ctx, "/")
	h.press(ctx, "paczka")
	h.until(ctx, `window.spoken.at(-1) === "1 letter" && document.activeElement.id === "q"`)
	h.press(ctx, "xyz")
	h.until(ctx, `window.spoken.at(-1).includes("Nothing")`)
}

// problems wants the focus where a form says what is wrong with it.
func (h *house) problems(ctx context.Context) {
	h.t.Helper()
	for path, form := range map[string]string{
		"/rules/1":                               `form.stack [name=value\\.0]`,
		fmt.Sprintf("/accounts/%d", h.ala.ID):    `[name=in_host]`,
		"/settings":                              `[name=aliases]`,
		fmt.Sprintf("/accounts/%d#c", h.ala.ID):  `[name=file_password]`,
		fmt.Sprintf("/folders?a=%d", h.ala.ID):   `.make [name=name]`,
		fmt.Sprintf("/accounts/new?x=%s", "new"): `[name=in_host]`,
	} {
		h.goTo(ctx, h.at(path))
		js[int](ctx, h, fmt.Sprintf(`(() => { document.querySelectorAll("details").forEach(d => d.open = true); const n = document.querySelector(%q), f = n.form; n.value = "a//b ("; for (const o of f.querySelectorAll("[name^=op]")) o.value = "matches"; f.noValidate = true; f.requestSubmit(f.querySelector("button[value=save],.primary") ?? f.querySelector("button")) })() ?? 1`, strings.ReplaceAll(form, `\\`, `\`)))
		h.until(ctx, `document.activeElement.id === "problems" && document.activeElement.textContent.trim() && document.activeElement.getAttribute("role") === "alert"`)
	}
}

// singleKeys switches the shortcuts off, for who speaks to their computer or slips (WCAG 2.1.4).
func (h *house) singleKeys(ctx context.Context) {
	h.t.Helper()
	h.goTo(ctx, h.at("/mail"))
	js[int](ctx, h, `(() => { const s = document.querySelector("select[name=keys]"); s.value = "off"; s.form.requestSubmit() })() ?? 1`)
	h.until(ctx, `document.body.dataset.keys === "off"`)
	h.press(ctx, "c")
	h.press(ctx, "?")
	h.press(ctx, "j")
	if !js[bool](ctx, h, `location.pathname.endsWith("/mail") && !document.querySelector("#help").open && document.activeElement === document.body`) {
		h.t.Error("a single key did something though they are switched off")
	}
	js[int](ctx, h, `(() => { const s = document.querySelector("select[name=keys]"); s.value = "on"; s.form.requestSubmit() })() ?? 1`)
	h.until(ctx, `document.body.dataset.keys !== "off"`)
}
