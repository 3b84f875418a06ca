package page_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
)

func (h *house) summary(id store.LetterID) store.Summary {
	h.t.Helper()
	m, err := h.store.Summary(h.t.Context(), id)
	if err != nil {
		h.t.Fatal(err)
	}
	return m
}

func TestLists(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	furnish(h)
	h.shows("/mail", "Jesienne nowości w ogrodzie", "Zamówienie 1182", "[gophers] Weekly notes, part 0", "!part 60", "!You won", "!Plan na przyszły")
	h.shows(fmt.Sprintf("/mail?a=%d", h.ewa.ID), "Zamówienie 1182", "!Jesienne")
	h.shows("/mail?f=Junk", "You won", "!Jesienne")
	h.shows("/mail?f=Drafts", "To: Ewa")
	h.shows("/mail?f=*", "Jesienne", "!You won")
	h.shows("/mail?unread=1", "Jesienne", "!Umowa i zestawienie</bdi></span>\n    <span class=\"marks\"></span>", "!part 1<")
	h.shows("/mail?v=threads", "Ewa Wiśniewska, Ala Kowalska", `<span class="letters">3</span>`)
	h.shows("/mail?q=paczka", "Zamówienie 1182", "!Jesienne")
	h.shows("/mail?q=has:attachment", "Umowa i zestawienie", "!Zamówienie 1182")
	h.shows("/mail?q=after:x", "can&#39;t be understood", "!Jesienne")
	h.shows("/mail?q=niczegotakiego", "Nothing was found")
	h.shows("/mail?q=spot&typing=1", "Spotkanie w czwartek")
	body := h.shows("/mail", "More letters")
	_, rest, _ := strings.Cut(body, `href="`+h.base+`/mail?c=`)
	cursor, _, _ := strings.Cut(rest, `"`)
	h.shows("/mail?c="+cursor, "part 60", "!Jesienne")
}

// TestMarks shows what became of letters, and what else should be known.
func TestMarks(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.add(h.ala, store.Inbox, mailbox.Seen, text("ewa@example.net", "First", "Text", time.Hour))
	h.shows("/mail", "!>answered<", "!>passed on<", "!role=\"status\">en: ")
	h.add(h.ala, store.Inbox, mailbox.Seen|mailbox.Answered, text("ewa@example.net", "Second", "Text", time.Hour))
	h.shows("/mail", ">answered<", "!>passed on<")
	h.add(h.ala, store.Inbox, mailbox.Forwarded, text("ewa@example.net", "Third", "Text", time.Hour))
	h.trouble = "backups fail"
	h.shows("/mail", ">answered<", ">passed on<", `role="status">en: backups fail`)
}

func TestReading(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	news, files := furnish(h)
	body := h.shows(fmt.Sprintf("/mail?open=%d", news), "Sklep Zielnik", "SPF passed", "DMARC passed", "2 remote images were not loaded.", "1 link names another host", `sandbox="allow-popups allow-popups-to-escape-sandbox"`,
		fmt.Sprintf(`src="%s/letter/%d/html"`, h.base, news), "!alert(1)", "no junk (points: 1.2).")
	if h.summary(news).Flags&mailbox.Seen == 0 || strings.Contains(body, "unread current") {
		t.Error("the letter that is open is not read")
	}
	h.shows(fmt.Sprintf("/mail?open=%d&as=text", news), "Zobacz: <a", `href="https://zielnik.example/nowosci"`, "!<iframe")
	h.shows(fmt.Sprintf("/mail?open=%d", files), "Umowa i zestawienie", "<blockquote>On Friday", "umowa 2026.pdf", "x_script_.html", "!DKIM", "!../..", "Ewa &lt;ewa@example.net&gt;", `href="https://example.net/umowy?id=7&amp;x=1"`)
	sent, err := h.store.List(t.Context(), store.Query{Folder: store.Sent})
	if err != nil || len(sent.Letters) != 1 {
		t.Fatal(err)
	}
	h.shows(fmt.Sprintf("/mail?f=Sent&open=%d", sent.Letters[0].ID), "delivered to mx.example.net", "3 letters in this conversation", "Przyniosę plany")
	for path, want := range map[string]int{"/mail?open=9999": 404, "/letter/9999/source": 404, "/letter/x/source": 404, fmt.Sprintf("/letter/%d/part/99", news): 404, fmt.Sprintf("/letter/%d/part/x", news): 404, "/nothing": 404, "/static/x/page.js": 404} {
		if code, body := h.get(path); code != want || !strings.Contains(body, "Not here") {
			t.Errorf("%s: %d", path, code)
		}
	}
}

// TestFrame holds the frame of a letter's HTML to its policy.
func TestFrame(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	news, _ := furnish(h)
	r, err := h.client.Get(h.at(fmt.Sprintf("/letter/%d/html", news)))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r.Body)
	r.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	policy, body := r.Header.Get("Content-Security-Policy"), string(b)
	for _, want := range []string{"default-src 'none'", "sandbox allow-popups allow-popups-to-escape-sandbox", "form-action 'none'", "base-uri 'none'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the policy %q lacks %s", policy, want)
		}
	}
	for _, bad := range []string{"script-src", "allow-scripts", "allow-same-origin", "https:"} {
		if strings.Contains(policy, bad) {
			t.Errorf("the policy %q has %s", policy, bad)
		}
	}
	for _, bad := range []string{"<script", "onload", "<form", "t.example", "wrzos.jpg"} {
		if strings.Contains(body, bad) {
			t.Errorf("the frame has %s", bad)
		}
	}
	_, rest, _ := strings.Cut(body, `src="/inline/`)
	seal, _, _ := strings.Cut(rest, `"`)
	p, err := http.Get(h.server.URL + "/inline/" + seal) // without a cookie, as the frame does
	if err != nil {
		t.Fatal(err)
	}
	p.Body.Close()
	if p.StatusCode != 200 || p.Header.Get("Content-Type") != "image/png" || p.Header.Get("Cross-Origin-Resource-Policy") != "cross-origin" {
		t.Errorf("picture: %s %v", p.Status, p.Header)
	}
	other := seal[:strings.LastIndexByte(seal, '/')+1] + "0"
	if p, err := http.Get(h.server.URL + "/inline/" + other); err != nil || p.StatusCode != 404 {
		t.Errorf("another part by the same seal: %v, %v", p.Status, err)
	} else {
		p.Body.Close()
	}
	h.shows(fmt.Sprintf("/letter/%d/html?images=yes", news), "https://zielnik.example/i/wrzos.jpg", "!t.example")
	h.shows(fmt.Sprintf("/mail?open=%d&images=yes", news), "Remote images were loaded", "html?images=yes")
}

func TestFiles(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, files := furnish(h)
	tests := []struct{ path, disposition, kind, begins string }{
		{fmt.Sprintf("/letter/%d/part/2", files), `attachment; filename="umowa 2026.pdf"`, "application/octet-stream", "%PDF-1.4"},
		{fmt.Sprintf("/letter/%d/part/3", files), `attachment; filename=x_script_.html`, "application/octet-stream", "<script>"},
		{fmt.Sprintf("/letter/%d/original", files), `attachment; filename="Umowa i zestawienie.eml"`, "application/octet-stream", "From: Jan Nowak"},
		{fmt.Sprintf("/letter/%d/source", files), "", "text/plain; charset=utf-8", "From: Jan Nowak"},
	}
	for _, tt := range tests {
		r, err := h.client.Get(h.at(tt.path))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Header.Get("Content-Disposition"); got != tt.disposition || r.Header.Get("Content-Type") != tt.kind || !strings.HasPrefix(string(b), tt.begins) {
			t.Errorf("%s: %s, %s, %.20q", tt.path, got, r.Header.Get("Content-Type"), b)
		}
		if p := r.Header.Get("Content-Security-Policy"); !strings.HasPrefix(p, "default-src 'none'") || !strings.Contains(p, "sandbox") {
			t.Errorf("%s: %s", tt.path, p)
		}
	}
}

func TestCommands(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	news, files := furnish(h)
	act := func(do string, more url.Values, ids ...any) {
		t.Helper()
		form := url.Values{"do": {do}, "back": {fmt.Sprintf("/mail?open=%d", news)}}
		for _, id := range ids {
			form.Add("pick", fmt.Sprint(id))
		}
		for k, v := range more {
			form[k] = v
		}
		if code, to := h.post("/act", form); code != http.StatusSeeOther || !strings.HasPrefix(to, "/mail") {
			t.Errorf("%s: %d %s", do, code, to)
		}
	}
	flags := func(id store.LetterID, want mailbox.Flags) {
		t.Helper()
		if got := h.summary(id).Flags; got != want {
			t.Errorf("flags %b, want %b", got, want)
		}
	}
	in := func(id store.LetterID, want string) {
		t.Helper()
		if got := h.summary(id).Folder; got != want {
			t.Errorf("%d lies in %s, want %s", id, got, want)
		}
	}
	act("read", nil, news, files)
	flags(news, mailbox.Seen)
	act("unread", nil, news)
	flags(news, 0)
	act("flag", nil, news)
	flags(news, mailbox.Flagged)
	act("unflag", nil, news)
	flags(news, 0)
	for do, folder := range map[string]string{"archive": store.Archive, "junk": store.Junk, "delete": store.Trash} {
		act(do, nil, news, files)
		in(news, folder)
		h.shows("/mail", "2 letters →", "/undo")
		h.post("/undo", url.Values{"back": {"/mail"}})
		in(news, store.Inbox)
		in(files, store.Inbox)
	}
	act("move", url.Values{"folder": {"Projekty/Ogród"}}, news)
	in(news, "Projekty/Ogród")
	act("notjunk", nil, news)
	in(news, store.Inbox)
	act("delete", nil, news)
	act("delete", nil, news)
	if s, err := h.store.Standing(t.Context(), news); err != nil || s != store.Removed {
		t.Errorf("standing %v, %v", s, err)
	}
	h.shows("/mail?f=*&removed=1", "Jesienne", "Restore")
	act("restore", nil, news)
	in(news, store.Inbox)
	th, err := h.store.List(t.Context(), store.Query{Text: "przyniosę"})
	if err != nil || len(th.Letters) != 1 {
		t.Fatal(err)
	}
	act("archive", nil, fmt.Sprintf("t%d", th.Letters[0].Thread))
	in(th.Letters[0].ID, store.Archive)
	for _, bad := range []url.Values{{"do": {"explode"}, "pick": {"1"}}, {"do": {"read"}, "pick": {"x"}}, {"do": {"read"}, "pick": {"-1"}}, {"do": {"move"}, "pick": {"1"}, "folder": {"a//b\x00"}}} {
		if code, _ := h.post("/act", bad); code != http.StatusBadRequest {
			t.Errorf("%v: %d", bad, code)
		}
	}
	for _, back := range []string{"https://evil.example/", "//evil.example", `/\evil.example`, "mail"} {
		if _, to := h.post("/act", url.Values{"do": {"read"}, "back": {back}}); to != "/mail" {
			t.Errorf("back to %q leads to %q", back, to)
		}
	}
}

// write posts the form of a letter with files.
func (h *house) write(fields url.Values, files map[string]string) (int, string) {
	h.t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for k, v := range fields {
		for _, one := range v {
			if err := w.WriteField(k, one); err != nil {
				h.t.Fatal(err)
			}
		}
	}
	for name, content := range files {
		f, err := w.CreateFormFile("file", name)
		if err == nil {
			_, err = io.WriteString(f, content)
		}
		if err != nil {
			h.t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		h.t.Fatal(err)
	}
	r, err := h.client.Post(h.at("/write"), w.FormDataContentType(), &b)
	if err != nil {
		h.t.Fatal(err)
	}
	defer r.Body.Close()
	if to := r.Header.Get("Location"); to != "" {
		return r.StatusCode, strings.TrimPrefix(to, h.base)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return r.StatusCode, string(body)
}

func (h *house) from() string { return fmt.Sprintf("%d %s", h.ala.ID, h.ala.Address) }

func (h *house) drafts() []store.Summary {
	h.t.Helper()
	p, err := h.store.List(h.t.Context(), store.Query{Folder: store.Drafts})
	if err != nil {
		h.t.Fatal(err)
	}
	return p.Letters
}

// TestWriting keeps one draft through all that is done to it, and sends it.
func TestWriting(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.shows("/write?to=ewa@example.net", `value="ewa@example.net"`, "tel. 22 555 01 02", "biuro@ksiegarnia.example")
	form := url.Values{"from": {h.from()}, "to": {"Ewa <ewa@example.net>, jan@example.net"}, "bcc": {"tajny@example.net"}, "subject": {"Zażółć"}, "text": {"Raz\r\nDwa"}, "do": {"save"}}
	for i, step := range []struct {
		do, change, value string
		files             map[string]string
		want              []string
	}{
		{"save", "", "", nil, []string{"Zażółć", "tajny@example.net", "Raz\nDwa"}},
		{"attach", "text", "Trzy", map[string]string{"plan.txt": "tajny plan", "../../b.txt": "drugi"}, []string{"Trzy", "plan.txt", "b.txt", "!../"}},
		{"keep", "subject", "Nowy temat", nil, []string{"Nowy temat", "plan.txt"}},
		{"drop-0", "", "", nil, []string{"Nowy temat"}},
	} {
		form.Set("do", step.do)
		if step.change != "" {
			form.Set(step.change, step.value)
		}
		code, to := h.write(form, step.files)
		if code != http.StatusSeeOther || !strings.HasPrefix(to, "/write?draft=") {
			t.Fatalf("%s: %d %s", step.do, code, to)
		}
		h.shows(to, step.want...)
		form.Set("draft", strings.TrimPrefix(to, "/write?draft="))
		if d := h.drafts(); len(d) != 1 || fmt.Sprint(d[0].ID) != form.Get("draft") {
			t.Fatalf("step %d leaves drafts %v", i, d)
		}
	}
	form.Set("do", "send")
	form.Set("at", "2026-11-24T08:00")
	form.Set("notify", "1")
	if code, to := h.write(form, nil); code != http.StatusSeeOther || to != "/outbox" {
		t.Fatalf("send: %d %s", code, to)
	}
	if len(h.drafts()) != 0 || len(h.outbox.sent) != 1 {
		t.Fatalf("%d drafts, %d sent", len(h.drafts()), len(h.outbox.sent))
	}
	d, how := h.outbox.sent[0], h.outbox.how[0]
	if got := d.Recipients(); !slices.Equal(got, []string{"ewa@example.net", "jan@example.net", "tajny@example.net"}) || d.Subject != "Nowy temat" || len(d.Attachments) != 1 || d.From.Address != h.ala.Address {
		t.Errorf("sent %+v", d)
	}
	if how.At.Hour() != 8 || !how.Notify || how.Draft == 0 {
		t.Errorf("sent how: %+v", how)
	}
	h.shows("/outbox", "The letter is in the outbox.")
}

// TestNotSent shows what stands against sending, and loses nothing of what was typed.
func TestNotSent(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	tests := []struct {
		name   string
		change url.Values
		want   string
		anyway bool
	}{
		{"nobody", url.Values{"to": {""}}, "Nobody is named", false},
		{"no address", url.Values{"to": {"ewa"}}, "is no e-mail address", false},
		{"no subject", url.Values{"subject": {""}}, "no subject", true},
		{"attachment forgotten", url.Values{"text": {"The plan is attached."}}, "speaks of an attachment", true},
		{"no such domain", url.Values{"to": {"x@nowhere.example"}}, "takes no mail", true},
	}
	for _, tt := range tests {
		form := url.Values{"from": {h.from()}, "to": {"ewa@example.net"}, "subject": {"Plan " + tt.name}, "text": {"Text of " + tt.name}, "do": {"send"}}
		for k, v := range tt.change {
			form[k] = v
		}
		code, body := h.write(form, nil)
		if code != http.StatusUnprocessableEntity || !strings.Contains(body, tt.want) || strings.Contains(body, "Send all the same") != tt.anyway || !strings.Contains(body, form.Get("text")) {
			t.Errorf("%s: %d, %.3000s", tt.name, code, body)
		}
		if len(h.drafts()) != 1 {
			t.Errorf("%s: %d drafts", tt.name, len(h.drafts()))
		}
		form.Set("draft", fmt.Sprint(h.drafts()[0].ID))
		if tt.anyway {
			form.Set("anyway", "1")
			if code, to := h.write(form, nil); code != http.StatusSeeOther {
				t.Errorf("%s anyway: %d %s", tt.name, code, to)
			}
		} else {
			form.Set("do", "discard")
			if code, to := h.write(form, nil); code != http.StatusSeeOther || to != "/mail" {
				t.Errorf("%s discarded: %d %s", tt.name, code, to)
			}
		}
	}
	h.outbox.fail = io.ErrUnexpectedEOF
	form := url.Values{"from": {h.from()}, "to": {"ewa@example.net"}, "subject": {"Plan"}, "text": {"Text"}, "do": {"send"}}
	if code, body := h.write(form, nil); code != http.StatusUnprocessableEntity || !strings.Contains(body, "unexpected EOF") || len(h.drafts()) != 1 {
		t.Errorf("outbox that fails: %d", code)
	}
	form.Set("from", fmt.Sprintf("%d boss@example.com", h.ala.ID))
	if code, _ := h.write(form, nil); code != http.StatusBadRequest {
		t.Errorf("somebody else's address: %d", code)
	}
}

// TestAnswers begins answers and forwards, with what they need from the letter.
func TestAnswers(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, files := furnish(h)
	h.shows(fmt.Sprintf("/write?reply=%d", files), "Re: Umowa i zestawienie", `value="Jan Nowak &lt;jan@example.net&gt;"`, "&gt; w załączeniu", "!umowa 2026.pdf", `name="cc" value=""`)
	h.shows(fmt.Sprintf("/write?reply=%d&all=1", files), "ewa@example.net", "!ala@example.org&gt;, ")
	h.shows(fmt.Sprintf("/write?forward=%d", files), "Fwd: Umowa i zestawienie", "umowa 2026.pdf")
	form := url.Values{"from": {h.from()}, "forward": {fmt.Sprint(files)}, "to": {"ewa@example.net"}, "subject": {"Fwd: Umowa"}, "text": {"Zobacz"}, "do": {"save"}}
	_, to := h.write(form, nil)
	h.shows(to, "umowa 2026.pdf", "Zobacz")
	form = url.Values{"from": {h.from()}, "reply": {fmt.Sprint(files)}, "to": {"jan@example.net"}, "subject": {"Re: Umowa"}, "text": {"Tak"}, "do": {"send"}}
	if code, to := h.write(form, nil); code != http.StatusSeeOther {
		t.Fatalf("%d %s", code, to)
	}
	if d := h.outbox.sent[0]; d.InReplyTo != "<files1@example.net>" || !slices.Equal(d.References, []string{"<files1@example.net>"}) {
		t.Errorf("in reply to %s, references %v", d.InReplyTo, d.References)
	}
}

func TestOutbox(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	furnish(h)
	h.shows("/mail", "asks you something")
	h.shows("/outbox", "Zaproszenie", "perhaps sent", "Send again", "It was sent", "Oferta", "Try now", "23 Nov 2026, 14:34")
	for _, do := range []string{"again", "done", "retry", "undo"} {
		if code, to := h.post("/outbox", url.Values{"id": {"2"}, "do": {do}}); code != http.StatusSeeOther || to != "/outbox" {
			t.Errorf("%s: %d %s", do, code, to)
		}
	}
	if want := []string{"2 again", "2 done", "2 retry", "2 undo"}; !slices.Equal(h.outbox.done, want) {
		t.Errorf("done: %v", h.outbox.done)
	}
	if code, _ := h.post("/outbox", url.Values{"id": {"2"}, "do": {"x"}}); code != http.StatusBadRequest {
		t.Errorf("x: %d", code)
	}
	h.outbox.fail = io.ErrUnexpectedEOF
	h.post("/outbox", url.Values{"id": {"2"}, "do": {"undo"}})
	h.shows("/outbox", "unexpected EOF")
}

func TestSettings(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.shows("/settings", "ala@example.org", "biuro@ksiegarnia.example", "tel. 22 555 01 02")
	form := url.Values{"id": {fmt.Sprint(h.ala.ID)}, "name": {"Ala  K."}, "signature": {"A.\r\n"}, "aliases": {"ala@example.com\nkowalska@example.com"}, "keep": {"days"}, "days": {"14"}, "follow": {"1"}, "headers_kb": {"500"}, "every": {"60"}}
	if code, to := h.post("/settings", form); code != http.StatusSeeOther || to != "/settings" {
		t.Fatalf("%d %s", code, to)
	}
	a, err := h.accounts.Find(t.Context(), "ala@example.org")
	if err != nil {
		t.Fatal(err)
	}
	if a.Name != "Ala K." || a.Signature != "A." || !slices.Equal(a.Aliases, []string{"ala@example.com", "kowalska@example.com"}) || a.Incoming.Host != "pop.example.org" ||
		a.Policy != (profile.Policy{Keep: profile.Days, Days: 14, Follow: true, HeadersAbove: 500_000, Every: 60}) {
		t.Errorf("%+v", a)
	}
	for _, bad := range []url.Values{{"keep": {"eat"}}, {"days": {"-1"}}, {"days": {"0"}}, {"aliases": {"nobody"}}, {"every": {"soon"}}} {
		f := url.Values{}
		for k, v := range form {
			f[k] = v
		}
		for k, v := range bad {
			f[k] = v
		}
		if code, body := h.post("/settings", f); code != http.StatusUnprocessableEntity || !strings.Contains(body, `role="alert"`) {
			t.Errorf("%v: %d", bad, code)
		}
	}
	if code, _ := h.post("/settings", url.Values{"id": {"99"}}); code != http.StatusNotFound {
		t.Errorf("no such account: %d", code)
	}
	h.post("/preferences", url.Values{"lang": {"pl"}, "theme": {"dark"}, "back": {"/settings"}})
	h.shows("/settings", `lang="pl" data-theme="dark"`, "Ustawienia")
	h.post("/preferences", url.Values{"lang": {"de"}, "theme": {"<x>"}, "back": {"/settings"}})
	h.shows("/settings", `lang="pl" data-theme="dark"`)
}

func TestRules(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	furnish(h)
	h.shows("/rules", "Listy dyskusyjne", "subject contains [gophers]")
	h.shows("/rules/new", "New rule")
	form := url.Values{"name": {"Sowa"}, "field.0": {"from"}, "op.0": {"contains"}, "value.0": {"sowa"}, "field.1": {"size"}, "op.1": {"smaller"}, "value.1": {"900"}, "move": {store.Archive}, "flag": {"1"}, "stop": {"1"}, "do": {"try"}}
	if code, body := h.post("/rules", form); code != 200 || !strings.Contains(body, "Zamówienie 1182") || strings.Contains(body, `<bdi>Jesienne`) {
		t.Errorf("try: %d", code)
	}
	form.Set("do", "save")
	if code, to := h.post("/rules", form); code != http.StatusSeeOther {
		t.Fatalf("save: %d %.500s", code, to)
	}
	all, err := h.store.Rules(t.Context())
	if err != nil || len(all) != 2 {
		t.Fatalf("%v, %v", all, err)
	}
	if r := all[1]; r.Name != "Sowa" || len(r.Conditions) != 2 || r.Conditions[1].Octets != 900_000 || r.Move != store.Archive || !r.Flag || !r.Stop {
		t.Errorf("%+v", r)
	}
	id := fmt.Sprint(all[1].ID)
	h.shows("/rules/"+id, "Sowa", `value="900"`)
	h.post("/rules", url.Values{"id": {id}, "do": {"up"}})
	if all, err = h.store.Rules(t.Context()); err != nil || all[0].Name != "Sowa" {
		t.Errorf("%v, %v", all, err)
	}
	if code, to := h.post("/rules", url.Values{"do": {"apply"}}); code != http.StatusSeeOther || to != "/rules" {
		t.Errorf("apply: %d %s", code, to)
	}
	h.shows("/rules", "Filed: 71 letters")
	h.shows("/mail?f=Archive", "Zamówienie 1182")
	form.Set("id", id)
	form.Set("name", "")
	form.Set("op.0", "matches")
	form.Set("value.0", "(")
	if code, body := h.post("/rules", form); code != http.StatusUnprocessableEntity || !strings.Contains(body, `role="alert"`) {
		t.Errorf("a rule that can't be: %d", code)
	}
	h.post("/rules", url.Values{"id": {id}, "do": {"remove"}})
	if all, err = h.store.Rules(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("%v, %v", all, err)
	}
	if code, _ := h.get("/rules/" + id); code != 404 {
		t.Errorf("a rule that is gone: %d", code)
	}
}

func TestSmallPages(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	furnish(h)
	h.shows("/people", "jan@example.net", "Jan Nowak")
	h.shows("/people?q=wis", "ewa@example.net", "!jan@example.net")
	if _, body := h.get("/addresses?q=ewa"); body != `["Ewa Wiśniewska \u003cewa@example.net\u003e"]`+"\n" && !strings.Contains(body, "ewa@example.net") {
		t.Errorf("addresses: %s", body)
	}
	h.post("/look", url.Values{"back": {"/mail"}})
	select {
	case <-h.looked:
	default:
		t.Error("nobody looked")
	}
	h.shows("/mail", "Looking for new mail.")
}

// Complete implements page.Fetcher.
func (h *house) Complete(ctx context.Context, a profile.Account, id store.LetterID) error {
	if a.ID != h.ala.ID {
		return errors.New("the server is away")
	}
	st := h.stage(text("Ewa <ewa@example.net>", "Long", "All of it.", 0))
	defer st.Discard()
	return h.store.Complete(ctx, id, st, nil)
}

// TestPartial fetches the whole of a letter of which only the header section is here.
func TestPartial(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, tt := range []struct {
		a    profile.Account
		want string
	}{{h.ala, "All of it."}, {h.ewa, "Not fetched: It did not work. The program says: “the server is away”"}} {
		st := h.stage(text("Ewa <ewa@example.net>", "Long", "", 0))
		if _, err := h.store.AddPartial(t.Context(), tt.a.ID, []store.Partial{{Import: mailbox.Import{Staged: st, Received: today}, Whole: 5_000_000}}, nil); err != nil {
			t.Fatal(err)
		}
		st.Discard()
		p, err := h.store.List(t.Context(), store.Query{Accounts: []envelope.AccountID{tt.a.ID}})
		if err != nil || len(p.Letters) != 1 {
			t.Fatal(err)
		}
		at := fmt.Sprintf("/mail?open=%d", p.Letters[0].ID)
		h.shows(at, "Only the header of this letter is here", "Fetch the whole letter (5.0 MB)")
		if code, to := h.post(fmt.Sprintf("/letter/%d/complete", p.Letters[0].ID), url.Values{"back": {at}}); code != http.StatusSeeOther || to != at {
			t.Errorf("complete: %d %s", code, to)
		}
		h.shows(at, tt.want)
	}
}

// TestBroken shows what can be shown of letters that are none.
func TestBroken(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for name, in := range map[string]string{
		"empty": "\n", "no header": "just text\n", "NUL": "Subject: a\x00b\n\nc\x00d\n", "8 bits": "Subject: \xff\xfe\nFrom: \xe9\n\n\xff\n",
		"no boundary":  "Content-Type: multipart/mixed\n\n--x\n",
		"nested":       "Content-Type: multipart/mixed; boundary=a\n\n" + strings.Repeat("--a\nContent-Type: multipart/mixed; boundary=a\n\n", 200),
		"hostile name": "Subject: <script>alert(1)</script>\nFrom: \"<img src=x onerror=alert(1)>\" <a@b.example>\nContent-Type: application/x; name=\"\u202excod.exe\r\"\n\nx\n",
	} {
		id := h.add(h.ala, store.Inbox, 0, in)
		body := h.shows(fmt.Sprintf("/mail?open=%d", id), "!<script>alert", "!<img", "!\u202e")
		if !strings.Contains(body, `class="letter"`) {
			t.Errorf("%s is not shown", name)
		}
		h.get(fmt.Sprintf("/letter/%d/html", id))
		h.shows(fmt.Sprintf("/letter/%d/source", id))
		h.shows(fmt.Sprintf("/write?reply=%d&all=1", id), "!<script>alert")
	}
}

// TestForeign shows the letters of foreign corpora: none breaks the page, none reaches into it.
func TestForeign(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("POCZTA_TESTDATA")
	if _, err := os.Stat(filepath.Join(dir, "mime")); dir == "" || err != nil {
		if required() && dir != "" {
			t.Fatal(err)
		}
		t.Skip("foreign test data is not here: set POCZTA_TESTDATA")
	}
	h := newHouse(t)
	n := 0
	err := filepath.WalkDir(filepath.Join(dir, "mime"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !slices.Contains([]string{".eml", ".msg", ".txt", ".raw"}, filepath.Ext(path)) {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil || len(b) == 0 || len(b) > 1<<20 {
			return err
		}
		n++
		id := h.add(h.ala, store.Inbox, 0, fmt.Sprintf("X-Number: %d\n", n)+strings.ReplaceAll(string(b), "\r\n", "\n"))
		for _, at := range []string{"/mail?open=%d", "/mail?open=%d&as=text", "/letter/%d/html?images=yes"} {
			code, body := h.get(fmt.Sprintf(at, id))
			if at != "/letter/%d/html?images=yes" {
				_, body, _ = strings.Cut(body, `<section class="reader"`)
			}
			if code != http.StatusOK || body == "" || strings.Contains(strings.ToLower(body), "<script") {
				t.Errorf("%s of %s: %d", at, path, code)
			}
		}
		if code, _ := h.get(fmt.Sprintf("/write?reply=%d&all=1", id)); code != http.StatusOK {
			t.Errorf("answer to %s: %d", path, code)
		}
		return nil
	})
	if err != nil || n < 50 {
		t.Fatalf("%d letters, %v", n, err)
	}
}
