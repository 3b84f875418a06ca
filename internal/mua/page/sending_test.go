package page_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mua/outbox"
	"poczta.example/poczta/internal/mua/page"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
	"poczta.example/poczta/internal/smtpclient"
)

// away is a network that is not there.
type away struct{}

func (away) SMTP(context.Context, profile.Account) (*smtpclient.Session, error) {
	return nil, errors.New("the network is away")
}

// TestThrough writes an answer, keeps it as a draft, hands it to the real outbox, and takes it back:
// all that belongs to it stays, and there is one of it at any time.
func TestThrough(t *testing.T) {
	t.Parallel()
	s, err := store.Open(t.Context(), store.Config{Folder: t.TempDir(), Components: []db.Component{profile.Schema, outbox.Schema, page.Schema}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	h := &house{t: t, store: s, accounts: profile.New(s.DB())}
	h.ala = h.account("ala@example.org", "Ala Kowalska", "pop.example.org")
	o, err := outbox.New(outbox.Config{Store: s, Lines: away{}, Accounts: h.accounts})
	if err != nil {
		t.Fatal(err)
	}
	if h.page, err = page.New(page.Config{Store: s, Accounts: h.accounts, Outbox: page.Through(o, rand.Reader), Zone: time.UTC}); err != nil {
		t.Fatal(err)
	}
	h.server = httptest.NewServer(h.page)
	t.Cleanup(h.server.Close)
	h.client = h.let()
	files := h.add(h.ala, store.Inbox, 0, withFiles())

	form := url.Values{"from": {h.from()}, "forward": {fmt.Sprint(files)}, "to": {"ewa@example.net"}, "bcc": {"tajny@example.net"}, "subject": {"Fwd: Umowa"}, "text": {"Zobacz umowę."}, "do": {"save"}}
	_, to := h.write(form, map[string]string{"mój.txt": "zażółć"})
	h.shows(to, `mój.txt</bdi> <span class="quiet">10 B</span>`)
	form.Set("draft", strings.TrimPrefix(to, "/write?draft="))
	form.Set("do", "send")
	form.Set("notify", "1")
	if code, to := h.write(form, nil); code != http.StatusSeeOther || to != "/outbox" {
		t.Fatalf("send: %d %.2000s", code, to)
	}
	if len(h.drafts()) != 0 {
		t.Errorf("%d drafts beside the outbox", len(h.drafts()))
	}
	h.shows("/outbox", "Fwd: Umowa", "waiting", "tajny@example.net")
	items, err := o.List(t.Context())
	if err != nil || len(items) != 1 {
		t.Fatalf("%v, %v", items, err)
	}
	r, size, err := s.Octets(t.Context(), items[0].Letter)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(io.NewSectionReader(r, 0, size))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"umowa 2026.pdf", "JVBERi0xLjQKJcOkw7zDtsOfCg==", "To: ewa@example.net"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("the letter lacks %q", want)
		}
	}
	if strings.Contains(string(b), "tajny") {
		t.Error("the letter tells its Bcc")
	}
	id := fmt.Sprint(items[0].ID)
	h.post("/outbox", url.Values{"id": {id}, "do": {"retry"}}) // else it waits for a while, to be taken back
	if err := o.Flush(t.Context()); err == nil {
		t.Error("sent without a network")
	}
	h.shows("/outbox", "network is away")
	if code, _ := h.post("/outbox", url.Values{"id": {id}, "do": {"undo"}}); code != http.StatusSeeOther {
		t.Errorf("undo: %d", code)
	}
	d := h.drafts()
	if len(d) != 1 {
		t.Fatalf("%d drafts after it was taken back", len(d))
	}
	h.shows(fmt.Sprintf("/write?draft=%d", d[0].ID), "Fwd: Umowa", "umowa 2026.pdf", "mój.txt", "Zobacz umowę.")
	for _, do := range []string{"again", "done"} {
		h.post("/outbox", url.Values{"id": {id}, "do": {do}})
		h.shows("/outbox", "nothing to decide")
	}
	h.post("/outbox", url.Values{"id": {"x"}, "do": {"undo"}})
	h.shows("/outbox", "no such letter in the outbox")
}

// TestDraftOfAnswer keeps what makes it an answer.
func TestDraftOfAnswer(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	files := h.add(h.ala, store.Inbox, 0, withFiles())
	form := url.Values{"from": {h.from()}, "reply": {fmt.Sprint(files)}, "to": {"jan@example.net"}, "subject": {"Re: Umowa"}, "text": {"Tak"}, "do": {"save"}}
	_, to := h.write(form, nil)
	form.Set("draft", strings.TrimPrefix(to, "/write?draft="))
	form.Set("reply", "0")
	form.Set("do", "send")
	if code, to := h.write(form, nil); code != http.StatusSeeOther {
		t.Fatalf("%d %s", code, to)
	}
	if d := h.outbox.sent[0]; d.InReplyTo != "<files1@example.net>" || !slices.Equal(d.References, []string{"<files1@example.net>"}) {
		t.Errorf("in reply to %q, references %v", d.InReplyTo, d.References)
	}
}

// TestBigDraft types into a draft with a large file: the file is not written anew with each pause, and
// what was typed is there whatever comes next.
func TestBigDraft(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	form := url.Values{"from": {h.from()}, "to": {"ewa@example.net"}, "subject": {"Zdjęcia"}, "text": {"Pierwsze słowa"}, "do": {"save"}}
	_, to := h.write(form, map[string]string{"zdjęcia.zip": strings.Repeat("duży plik ", 40_000)})
	draft := strings.TrimPrefix(to, "/write?draft=")
	pause := func(draft, text string) (now string, beside bool) {
		t.Helper()
		form := url.Values{"from": {h.from()}, "draft": {draft}, "to": {"ewa@example.net"}, "cc": {"jan@example.net"}, "subject": {"Zdjęcia z lata"}, "text": {text}, "do": {"keep"}}
		r, err := http.NewRequest("POST", h.at("/write"), strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("X-Poczta-Part", "save")
		body, code := h.do(r)
		var is struct {
			Draft  int64
			Beside bool
		}
		if err := json.Unmarshal([]byte(body), &is); err != nil || code != http.StatusOK {
			t.Fatalf("%d %s: %v", code, body, err)
		}
		return fmt.Sprint(is.Draft), is.Beside
	}
	before := h.drafts()[0]
	for _, text := range []string{"Drugie", "Drugie słowa", "Drugie słowa i trzecie"} {
		if now, beside := pause(draft, text); now != draft || !beside {
			t.Fatalf("%q was written as draft %s, beside %t", text, now, beside)
		}
	}
	if d := h.drafts(); len(d) != 1 || d[0].ID != before.ID || d[0].UID != before.UID {
		t.Errorf("the letter was written anew: %+v", d)
	}
	h.shows("/write?draft="+draft, "Drugie słowa i trzecie", "Zdjęcia z lata", "jan@example.net", "zdjęcia.zip", "!Pierwsze")
	h.shows("/mail?f=Drafts&open="+draft, "Drugie słowa i trzecie", "zdjęcia.zip", "!Pierwsze słowa</div>")
	// When the page goes, the letter is written, and what lay beside it is forgotten.
	form = url.Values{"from": {h.from()}, "draft": {draft}, "to": {"ewa@example.net"}, "subject": {"Zdjęcia z lata"}, "text": {"Na koniec"}, "do": {"keep"}}
	_, to = h.write(form, nil)
	last := strings.TrimPrefix(to, "/write?draft=")
	if last == draft || len(h.drafts()) != 1 {
		t.Errorf("at the end: %s, %d drafts", to, len(h.drafts()))
	}
	h.shows("/write?draft="+last, "Na koniec", "zdjęcia.zip")
	beside := 0
	err := h.store.DB().View(t.Context(), func(tx db.Tx) error {
		return tx.QueryRow(`SELECT COUNT(*) FROM draft_typed`).Scan(&beside)
	})
	if err != nil || beside != 0 {
		t.Errorf("%d rows lie beside no draft: %v", beside, err)
	}
	// Sent with what was typed last.
	pause(last, "Jednak tak")
	form.Set("draft", last)
	form.Set("text", "Jednak tak")
	form.Set("do", "send")
	if code, to := h.write(form, nil); code != http.StatusSeeOther || to != "/outbox" {
		t.Errorf("send: %d %.500s", code, to)
	}
	if d := h.outbox.sent[0]; d.Text != "Jednak tak" || len(d.Attachments) != 1 {
		t.Errorf("sent %q with %d files", d.Text, len(d.Attachments))
	}
	// A draft without large files is its letter at any time.
	_, to = h.write(url.Values{"from": {h.from()}, "to": {"ewa@example.net"}, "subject": {"Krótki"}, "text": {"x"}, "do": {"save"}}, nil)
	small := strings.TrimPrefix(to, "/write?draft=")
	if now, beside := pause(small, "y"); now == small || beside {
		t.Errorf("a small draft is kept beside its letter")
	}
}
