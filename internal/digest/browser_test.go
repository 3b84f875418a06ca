package digest_test

import (
	"context"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"poczta.example/poczta/internal/envelope"
)

// chromium starts a Chromium that prefers light or dark, or skips the test where there is none.
func chromium(t *testing.T, scheme string) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") != "" || os.Getenv("POCZTA_REQUIRE_SERVICES") != "" {
			t.Fatal("no Chromium: install Debian's package chromium")
		}
		t.Skip("no Chromium is installed: what a browser shows was not tested")
	}
	folder, err := os.MkdirTemp("", "poczta-chromium-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(folder) }) // Chromium's own files, which a child of it may still write
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath(path), chromedp.NoSandbox,
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"), chromedp.UserDataDir(folder), chromedp.WSURLReadTimeout(2*time.Minute), chromedp.Flag("blink-settings", "preferredColorScheme="+map[string]string{"dark": "0", "light": "1"}[scheme]))
	all, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(all)
	t.Cleanup(cancel)
	must(t, chromedp.Do(ctx))
	ctx, end := context.WithTimeout(ctx, 5*time.Minute)
	t.Cleanup(end)
	return ctx
}

// see is what an expression comes to in the page.
func see[T any](ctx context.Context, t *testing.T, expression string) T {
	t.Helper()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	must(t, err)
	return v
}

// until waits for a condition in the page, or in the one that follows it.
func until(ctx context.Context, t *testing.T, condition string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`new Promise(ok => { const end = Date.now() + 1000; (function f() { if (document.readyState === "complete" && (`+condition+`)) ok(true); else if (Date.now() > end) ok(false); else setTimeout(f, 15) })() })`, chromedp.EvalAwaitPromise))
		if err == nil && ok { // an error: the page gives way to the next
			return
		}
	}
	t.Fatalf("%s never comes true", condition)
}

// leastContrast is the least contrast of a text with what lies behind it (WCAG 2.2, 1.4.3).
const leastContrast = `(() => {
	const rgb = c => c.match(/[\d.]+/g).map(Number)
	const light = c => { const [r, g, b] = rgb(c).map(x => (x /= 255) <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b }
	const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (rgb(c)[3] !== 0) return c } return "rgb(255, 255, 255)" }
	return Math.min(...[...document.querySelectorAll("h1, h2, dt, dd, p, pre, button")].map(e => { const [a, b] = [light(getComputedStyle(e).color), light(behind(e))]; return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) }))
})()`

// again sets another message apart, a day later so that a digest is due.
func (h *house) again(t *testing.T) envelope.AccountID {
	t.Helper()
	h.Clock.Advance(24 * time.Hour)
	h.setApart(t, ala, spamScore, "From: jan@origin.example\r\nSubject: again\r\n\r\nGood day\r\n")
	return ala
}

// TestBrowser: a person on a phone reads the page in their language, nothing is wider than the
// screen, and the keyboard alone releases. POCZTA_SCREENSHOTS keeps what was seen.
func TestBrowser(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := chromium(t, "light")
		server := httptest.NewServer(h)
		t.Cleanup(server.Close)
		must(t, chromedp.Do(ctx, chromedp.EmulateViewport(390, 844)))
		look := func(name string) {
			t.Helper()
			if wide := see[int](ctx, t, `document.documentElement.scrollWidth`); wide > 390 {
				t.Errorf("%s is %d wide on a screen of 390", name, wide)
			}
			if dir := os.Getenv("POCZTA_SCREENSHOTS"); dir != "" {
				shot, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
				must(t, err)
				must(t, os.WriteFile(filepath.Join(dir, name+".png"), shot, 0o644))
			}
		}
		long := strings.Repeat("0123456789abcdef", 20)
		for _, tt := range []struct {
			account             envelope.AccountID
			lang, heading, done string
			buttons             string
		}{
			{ala, "en", "Mail that was set apart", "The message was released. Your mail program will fetch it as new.", "Release|Release, and always allow this sender|Delete"},
			{ola, "pl", "Zatrzymane wiadomości", "Wiadomość została zwolniona. Twój program pocztowy pobierze ją jako nową.", "Zwolnij|Zwolnij i zawsze przepuszczaj tego nadawcę|Usuń"},
		} {
			h.setApart(t, tt.account, spamScore, "From: \"Jan "+long+"\" <jan@origin.example>\r\nSubject: "+long+"\r\n\r\nSee https://origin.example/"+long+"\r\n")
			token := h.digest(t, tt.account).web[0]
			came := len(h.inbox(t, tt.account))
			must(t, chromedp.Do(ctx, chromedp.Navigate(server.URL+"/quarantine/"+token)))
			look("digest-" + tt.lang)
			if got := see[string](ctx, t, `[document.documentElement.lang, document.title, document.querySelector("main h1").innerText].join("|")`); got != tt.lang+"|"+tt.heading+"|"+tt.heading {
				t.Errorf("the page says %q", got)
			}
			if got := see[string](ctx, t, `[...document.querySelectorAll("button")].map(b => b.innerText).join("|")`); got != tt.buttons {
				t.Errorf("buttons %q, want %q", got, tt.buttons)
			}
			if n := see[int](ctx, t, `document.querySelectorAll("a, img, script, link").length`); n != 0 {
				t.Errorf("the page has %d links, images or scripts", n)
			}
			// The first stop of the keyboard is the first button, and it shows.
			must(t, chromedp.Do(ctx, chromedp.KeyEvent("\t")))
			if got := see[string](ctx, t, `document.activeElement.value + " " + getComputedStyle(document.activeElement).outlineStyle`); got != "release solid" {
				t.Errorf("the first stop of the keyboard is %q", got)
			}
			must(t, chromedp.Do(ctx, chromedp.KeyEvent("\r")))
			until(ctx, t, `document.querySelector("p[role=status]")`)
			look("digest-done-" + tt.lang)
			if got := see[string](ctx, t, `document.querySelector("p[role=status]").innerText`); got != tt.done {
				t.Errorf("after Enter the page says %q", got)
			}
			if got := len(h.inbox(t, tt.account)); got != came+1 {
				t.Errorf("%d messages came into the INBOX, want the one that was released", got-came)
			}
		}
		// By night too, everything can be read.
		token := h.digest(t, h.again(t)).web[0]
		for _, scheme := range []string{"light", "dark"} {
			ctx := chromium(t, scheme)
			must(t, chromedp.Do(ctx, chromedp.EmulateViewport(390, 844), chromedp.Navigate(server.URL+"/quarantine/"+token)))
			if got := see[bool](ctx, t, `matchMedia("(prefers-color-scheme: dark)").matches`); got != (scheme == "dark") {
				t.Errorf("%s: the browser prefers the other", scheme)
			}
			if got := see[float64](ctx, t, leastContrast); got < 7 {
				t.Errorf("%s: a text has a contrast of %.1f : 1, want 7", scheme, got)
			}
		}
	})
}
