package page_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mua/compose"
	"poczta.example/poczta/internal/mua/fetch"
	"poczta.example/poczta/internal/mua/outbox"
	"poczta.example/poczta/internal/mua/page"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
)

// today is the day of all tests.
var today = time.Date(2026, 11, 23, 14, 30, 0, 0, time.UTC)

// house is a person's mail with its page.
type house struct {
	t        testing.TB
	store    *store.Store
	accounts *profile.Profiles
	ala, ewa profile.Account
	outbox   *tray
	keeper   *warden
	trouble  string      // what is said on every page
	looks    []page.Look // what the last looks found, beside one that went well
	page     *page.Page
	server   *httptest.Server
	client   *http.Client // that was let in
	base     string       // the path of all pages
	looked   chan struct{}
	fetches  atomic.Pointer[[]fetch.Progress] // that run
}

// tray is an outbox in memory.
type tray struct {
	mu    sync.Mutex
	items []page.Item
	gone  []page.Item // that are done with
	sent  []*compose.Draft
	how   []page.Sending
	done  []string
	fail  error
}

func (o *tray) Check(_ context.Context, _ envelope.AccountID, recipients []string, language string) ([]string, error) {
	var all []string
	for _, r := range recipients {
		if strings.HasSuffix(r, "@nowhere.example") {
			all = append(all, map[string]string{"en": r + ": the domain takes no mail.", "pl": r + ": ta domena nie przyjmuje poczty."}[language])
		}
	}
	return all, nil
}

func (o *tray) Put(_ context.Context, d *compose.Draft, s page.Sending) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fail != nil {
		return o.fail
	}
	o.sent, o.how = append(o.sent, d), append(o.how, s)
	return nil
}

func (o *tray) List(_ context.Context, language string) ([]page.Item, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := slices.Clone(o.items)
	for i := range all {
		all[i].Says = slices.Clone(all[i].Says)
		for k, s := range all[i].Says {
			all[i].Says[k] = outbox.Say(s, language)
		}
	}
	return all, nil
}

func (o *tray) Item(_ context.Context, id, _ string) (page.Item, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, i := range o.gone {
		if i.ID == id {
			return i, nil
		}
	}
	return page.Item{}, outbox.ErrNotFound
}

func (o *tray) Do(_ context.Context, id string, c page.Decision) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.done = append(o.done, id+" "+string(c))
	return o.fail
}

func (o *tray) Fates(_ context.Context, messageID, language string) ([]string, error) {
	if messageID == "<sent1@example.org>" {
		return []string{map[string]string{"en": "ewa@example.net: delivered to mx.example.net", "pl": "ewa@example.net: dostarczono do mx.example.net"}[language]}, nil
	}
	return nil, nil
}

func newHouse(t testing.TB) *house {
	t.Helper()
	h := emptyHouse(t)
	h.ala = h.account("ala@example.org", "Ala Kowalska", "pop.example.org")
	h.ewa = h.account("biuro@ksiegarnia.example", "Księgarnia Pod Sową", "poczta.ksiegarnia.example")
	return h
}

// emptyHouse has no account yet.
func emptyHouse(t testing.TB) *house {
	t.Helper()
	h := &house{t: t, outbox: &tray{}, looked: make(chan struct{}, 9)}
	var err error
	if h.store, err = store.Open(t.Context(), store.Config{Folder: t.TempDir(), Components: []db.Component{profile.Schema, page.Schema}, Now: func() time.Time { return today }}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.store.Close(); err != nil {
			t.Error(err)
		}
	})
	h.accounts = profile.New(h.store.DB())
	h.keeper = &warden{h: h}
	h.page, err = page.New(page.Config{Store: h.store, Accounts: h.accounts, Outbox: h.outbox, Keeper: h.keeper, Fetcher: h, Zone: time.UTC, Now: func() time.Time { return today },
		Trouble: func(_ context.Context, language string) string {
			if h.trouble == "" {
				return ""
			}
			return language + ": " + h.trouble
		},
		Look: func() { h.looked <- struct{}{} },
		Fetching: func() []fetch.Progress {
			if all := h.fetches.Load(); all != nil {
				return *all
			}
			return nil
		},
		Looks: func() []page.Look { return append([]page.Look{{Account: "ala@example.org", At: today}}, h.looks...) }})
	if err != nil {
		t.Fatal(err)
	}
	h.server = httptest.NewServer(h.page)
	t.Cleanup(h.server.Close)
	h.client = h.let()
	return h
}

func (h *house) account(addr, name, host string) profile.Account {
	h.t.Helper()
	a, err := h.accounts.Add(h.t.Context(), profile.Account{Address: addr, Name: name, Signature: name + "\ntel. 22 555 01 02", Aliases: nil,
		Incoming: profile.Server{Server: clientconfig.Server{Protocol: clientconfig.POP3, Host: host, Port: 995, Security: clientconfig.TLS}, Login: addr},
		Outgoing: profile.Server{Server: clientconfig.Server{Protocol: clientconfig.SMTP, Host: host, Port: 465, Security: clientconfig.TLS}, Login: addr},
		Policy:   profile.Policy{Keep: profile.Leave}})
	if err != nil {
		h.t.Fatal(err)
	}
	if err := h.store.AddAccount(h.t.Context(), a.ID); err != nil {
		h.t.Fatal(err)
	}
	return a
}

// let is a browser that was let in.
func (h *house) let() *http.Client {
	h.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		h.t.Fatal(err)
	}
	c := &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	at, err := h.page.Enter(h.server.URL)
	if err != nil {
		h.t.Fatal(err)
	}
	r, err := c.Get(at)
	if err != nil {
		h.t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusOK {
		h.t.Fatalf("enter: %s", r.Status)
	}
	h.base = r.Cookies()[0].Path
	return c
}

// at is where a page stands.
func (h *house) at(path string) string { return h.server.URL + h.base + path }

// stage stages a text, to be discarded in the end.
func (h *house) stage(text string) body.Staged {
	h.t.Helper()
	text = strings.ReplaceAll(text, "\n", "\r\n")
	st, err := h.store.Body().Stage(context.Background(), int64(len(text)))
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := io.WriteString(st, text); err != nil {
		h.t.Fatal(err)
	}
	return st
}

// add adds a letter and returns its id.
func (h *house) add(a profile.Account, folder string, flags mailbox.Flags, text string) (id store.LetterID) {
	h.t.Helper()
	st := h.stage(text)
	defer st.Discard()
	_, err := h.store.Add(context.Background(), a.ID, []mailbox.Import{{Mailbox: folder, Staged: st, Received: today, Flags: flags}}, func(tx db.Tx, _ int, e mailbox.Appended) (err error) {
		if e.Duplicate {
			return errors.New("the letter is there already")
		}
		id, err = h.store.LetterOf(tx, a.ID, e.Entry.Number, e.Entry.UID)
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return id
}

// index catches up.
func (h *house) index() {
	h.t.Helper()
	if err := h.store.Catchup(h.t.Context(), nil); err != nil {
		h.t.Fatal(err)
	}
}

// text is a small letter.
func text(from, subject, body string, ago time.Duration, more ...string) string {
	return fmt.Sprintf("From: %s\nTo: Ala Kowalska <ala@example.org>\nSubject: %s\nDate: %s\n%s\n%s\n", from, subject, today.Add(-ago).Format(time.RFC1123Z), strings.Join(append(more, ""), "\n"), body)
}

// get fetches a page.
func (h *house) get(path string) (int, string) {
	h.t.Helper()
	r, err := h.client.Get(h.at(path))
	if err != nil {
		h.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		h.t.Fatalf("%s: %v", path, err)
	}
	return r.StatusCode, string(b)
}

// do sends a request.
func (h *house) do(r *http.Request) (string, int) {
	h.t.Helper()
	resp, err := h.client.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(b), resp.StatusCode
}

// page fetches a page that must be there and looks for words.
func (h *house) shows(path string, words ...string) string {
	h.t.Helper()
	code, body := h.get(path)
	if code != http.StatusOK {
		h.t.Errorf("%s: %d", path, code)
	}
	for _, w := range words {
		if no, bad := strings.CutPrefix(w, "!"); bad {
			if strings.Contains(body, no) {
				h.t.Errorf("%s shows %q", path, no)
			}
		} else if !strings.Contains(body, w) {
			h.t.Errorf("%s does not show %q", path, w)
		}
	}
	return body
}

// post sends a form and returns the status and where it leads, or the page.
func (h *house) post(path string, form url.Values) (int, string) {
	h.t.Helper()
	r, err := h.client.PostForm(h.at(path), form)
	if err != nil {
		h.t.Fatal(err)
	}
	defer r.Body.Close()
	if to := r.Header.Get("Location"); to != "" {
		return r.StatusCode, strings.TrimPrefix(to, h.base)
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

// picture is a PNG.
func picture() string {
	m := image.NewRGBA(image.Rect(0, 0, 240, 60))
	for x := range 240 {
		for y := range 60 {
			m.Set(x, y, color.RGBA{R: uint8(163 - x/4), G: uint8(35 + y), B: 80, A: 255})
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		panic(err)
	}
	s := base64.StdEncoding.EncodeToString(b.Bytes())
	var out strings.Builder
	for len(s) > 76 {
		out.WriteString(s[:76] + "\n")
		s = s[76:]
	}
	return out.String() + s + "\n"
}

// newsletter is a letter as shops send them.
func newsletter() string {
	return text("Sklep Zielnik <nowosci@zielnik.example>", "=?UTF-8?Q?Jesienne_nowo=C5=9Bci_w_ogrodzie?=", `--rel
Content-Type: multipart/alternative; boundary=alt

--alt
Content-Type: text/plain; charset=utf-8

Jesienne nowości. Zobacz: https://zielnik.example/nowosci
--alt
Content-Type: text/html; charset=utf-8

<html><head><style>body{background:url(https://t.example/css)}</style></head><body onload="alert(1)">
<table width="100%" bgcolor="#eef4ea"><tr><td align="center" style="padding:20px"><img src="cid:logo@zielnik" alt="Zielnik" width="240" height="60">
<h1 style="color:#2c5d2a">Jesienne nowości</h1><p>Cebulki, wrzosy i narzędzia – <b>tylko do niedzieli</b>.</p>
<img src="https://zielnik.example/i/wrzos.jpg" alt="Wrzos" width="200" height="120"><p><a href="https://zielnik.example/nowosci">Zobacz wszystkie</a></p>
<p>Płatność: <a href="https://evil.example/login">bank.example</a></p><script>document.title="owned"</script>
<img src="https://t.example/open.gif" width="1" height="1"><form action="https://evil.example"><input name="p"></form></td></tr></table></body></html>
--alt--
--rel
Content-Type: image/png
Content-ID: <logo@zielnik>
Content-Transfer-Encoding: base64
Content-Disposition: inline; filename=logo.png

`+picture()+`--rel--`, 2*time.Hour, "MIME-Version: 1.0", "Message-ID: <news1@zielnik.example>", "Authentication-Results: pop.example.org; spf=pass smtp.mailfrom=zielnik.example; dkim=pass header.d=zielnik.example; dmarc=pass header.from=zielnik.example",
		`X-Poczta-Verdict: deliver; score=1.2; rule="default"`, "Content-Type: multipart/related; boundary=rel")
}

// withFiles is a letter with attachments, one of them with a hostile name.
func withFiles() string {
	return text("Jan Nowak <jan@example.net>", "Umowa i zestawienie", `--b
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

Dzień dobry,

w załączeniu umowa i zestawienie za październik.
Termin: 30 listopada. Szczegóły: https://example.net/umowy?id=7&x=1.

> On Friday Ala wrote:
> Czy możesz przesłać umowę?
>> Jasne.

Pozdrawiam
-- 
Jan Nowak
--b
Content-Type: application/pdf
Content-Disposition: attachment; filename="umowa 2026.pdf"
Content-Transfer-Encoding: base64

JVBERi0xLjQKJcOkw7zDtsOfCg==
--b
Content-Type: text/html
Content-Disposition: attachment; filename="../../etc/x<script>.html"

<script>alert(document.cookie)</script>
--b--`, 26*time.Hour, "MIME-Version: 1.0", "Message-ID: <files1@example.net>", "Cc: Ewa <ewa@example.net>", "Content-Type: multipart/mixed; boundary=b",
		"Authentication-Results: forged.example; dkim=pass header.d=bank.example")
}
