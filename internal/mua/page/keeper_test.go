package page_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mua/line"
	"poczta.example/poczta/internal/mua/outbox"
	"poczta.example/poczta/internal/mua/page"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
	"poczta.example/poczta/internal/mua/vault"
	"poczta.example/poczta/internal/pop3client"
)

// warden keeps accounts in memory, and does with the person what the test wants.
type warden struct {
	h *house

	mu           sync.Mutex
	lock         page.Lock
	pass         string // the passphrase of the file
	with         func(ctx context.Context, who page.Person, n page.NewAccount) error
	added        []page.NewAccount
	servers      []profile.Account
	words        []string // what else was done
	certificates []page.Certificate
	fail         error
}

func (w *warden) Add(ctx context.Context, who page.Person, _ string, n page.NewAccount) error {
	if w.with != nil {
		if err := w.with(ctx, who, n); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.added = append(w.added, n)
	return w.fail
}

func (w *warden) Server(_ context.Context, a profile.Account) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.servers = append(w.servers, a)
	return w.fail
}

func (w *warden) Password(_ context.Context, id envelope.AccountID, password string) error {
	return w.did(fmt.Sprintf("password %d %s", id, password))
}

func (w *warden) Login(ctx context.Context, who page.Person, _ string, id envelope.AccountID, l page.Login) error {
	if w.with != nil {
		if err := w.with(ctx, who, page.NewAccount{}); err != nil {
			return err
		}
	}
	return w.did(strings.TrimSpace(fmt.Sprintf("login %d %s %s", id, l.ClientSecret, l.DeviceURL)))
}

func (w *warden) Certificate(_ context.Context, id envelope.AccountID, c page.Certificate) error {
	w.mu.Lock()
	w.certificates = append(w.certificates, c)
	w.mu.Unlock()
	return w.did(fmt.Sprintf("certificate %d %t", id, c.Identity != nil))
}

func (w *warden) Remove(_ context.Context, id envelope.AccountID, letters bool) error {
	return w.did(fmt.Sprintf("remove %d %t", id, letters))
}

func (w *warden) did(what string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.words = append(w.words, what)
	return w.fail
}

func (w *warden) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *warden) Lock() (page.Lock, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lock, nil
}

func (w *warden) Unlock(passphrase string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lock == page.Locked && passphrase != w.pass {
		return fmt.Errorf("open secrets.age: %w", vault.ErrPassphrase)
	}
	w.pass, w.lock = passphrase, page.Unlocked
	return nil
}

// talk follows an attempt until the page shows what is looked for.
func (h *house) talk(path, until string) string {
	h.t.Helper()
	deadline := time.Now().Add(time.Minute)
	seen := ""
	for time.Now().Before(deadline) {
		r, err := http.NewRequest("GET", h.at(path+"?seen="+seen), nil)
		if err != nil {
			h.t.Fatal(err)
		}
		r.Header.Set("X-Poczta-Part", "talk")
		body, code := h.do(r)
		if code != http.StatusOK {
			h.t.Fatalf("%s: %d %s", path, code, body)
		}
		if strings.Contains(body, until) {
			return body
		}
		m := regexp.MustCompile(`data-version="(\d+)"`).FindStringSubmatch(body)
		if m == nil || !strings.Contains(body, "data-running") && seen == m[1] {
			h.t.Fatalf("%s ends without %q: %s", path, until, body)
		}
		seen = m[1]
	}
	h.t.Fatalf("%s never shows %q", path, until)
	return ""
}

// TestFirstAccount leads who has nothing yet to their first account, through all that may be asked.
func TestFirstAccount(t *testing.T) {
	t.Parallel()
	h := emptyHouse(t)
	h.keeper.lock = page.Fresh
	question := "Servers outside the domain: pop.elsewhere.example. Send name and password there?"
	link := "https://provider.example/login?x=1&y=2"
	came := make(chan bool)
	h.keeper.with = func(ctx context.Context, who page.Person, n page.NewAccount) error {
		who.Say("Looking for the servers …")
		who.Say("https://autoconfig.example.org: nothing\n  POP3 pop.elsewhere.example:995, TLS")
		yes, err := who.Confirm(question)
		if err != nil || !yes {
			return errors.Join(err, page.ErrUnconfirmed)
		}
		if p, err := who.Password("Password of x: "); err != nil || p != "tajne" {
			return fmt.Errorf("the password is %q, %w", p, err)
		}
		if err := who.Browse(link); err != nil {
			return err
		}
		select {
		case <-came:
		case <-ctx.Done():
			return ctx.Err()
		}
		return nil
	}
	if code, to := h.get("/mail"); code != http.StatusSeeOther && !strings.Contains(to, "Welcome") {
		t.Errorf("/mail: %d %.300s", code, to)
	}
	h.shows("/accounts/new", "Welcome", `name="passphrase2"`, "no keyring", "Servers by hand", `name="in_host"`)
	form := url.Values{"address": {"ala@example.org"}, "password": {"tajne"}, "name": {"Ala"}, "passphrase": {"correct horse"}, "passphrase2": {"other"}}
	code, body := h.post("/accounts/new", form)
	if code != 422 || !strings.Contains(body, "passphrases differ") || strings.Contains(body, "tajne") || !strings.Contains(body, `value="ala@example.org"`) {
		t.Errorf("%d %.2000s", code, body)
	}
	form.Set("passphrase2", "correct horse")
	code, to := h.post("/accounts/new", form)
	if code != http.StatusSeeOther || !strings.HasPrefix(to, "/talk/") {
		t.Fatalf("%d %.2000s", code, to)
	}
	if h.keeper.pass != "correct horse" {
		t.Errorf("the passphrase is %q", h.keeper.pass)
	}
	asked := h.talk(to, "pop.elsewhere.example. Send name")
	if !strings.Contains(asked, `<li class="found">POP3 pop.elsewhere.example:995, TLS`) || strings.Contains(asked, "tajne") {
		t.Errorf("the steps: %s", asked)
	}
	if len(h.keeper.added) != 0 {
		t.Error("added before the person agreed")
	}
	h.post(to, url.Values{"do": {"yes"}})
	h.talk(to, `href="https://provider.example/login?x=1&amp;y=2" target="_blank" rel="noopener noreferrer"`)
	close(came)
	h.talk(to, `data-done="1"`)
	if code, end := h.get(to); code != http.StatusSeeOther || end == "" {
		t.Errorf("the end: %d %.300s", code, end)
	}
	if len(h.keeper.added) != 1 || h.keeper.added[0].Password != "tajne" || h.keeper.added[0].Incoming != "" {
		t.Errorf("added %+v", h.keeper.added)
	}
	if code, _ := h.get(to); code != http.StatusNotFound {
		t.Errorf("the attempt is there behind its end: %d", code)
	}
}

// TestSetupRefused says in plain words why an account is not set up, and lets the person mend it
// without typing everything again.
func TestSetupRefused(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.keeper.with = func(_ context.Context, who page.Person, n page.NewAccount) error {
		who.Say("https://autoconfig.example.org/: there is nothing")
		if yes, err := who.Confirm("Really?"); err != nil || !yes {
			return errors.Join(err, fmt.Errorf("told: %w", page.ErrUnconfirmed))
		}
		if n.Incoming == "" {
			return page.ErrNoServers
		}
		return nil
	}
	_, to := h.post("/accounts/new", url.Values{"address": {"nowa@example.org"}, "password": {"tajne"}})
	h.talk(to, "Really?")
	h.post(to, url.Values{"do": {"no"}})
	h.talk(to, "No server was confirmed")
	if got := h.shows("/accounts/new?again="+strings.TrimPrefix(to, "/talk/"), `value="nowa@example.org"`, "the one that you entered", "<details class=\"part\" open><summary>Servers by hand"); strings.Contains(got, "tajne") {
		t.Error("the password stands in the page")
	}
	_, to = h.post("/accounts/new", url.Values{"address": {"nowa@example.org"}, "again": {strings.TrimPrefix(to, "/talk/")}})
	h.talk(to, "Really?")
	h.post(to, url.Values{"do": {"yes"}})
	body := h.talk(to, "No servers for fetching and sending were found")
	if button, list := strings.Index(body, ">Change and try again</a>"), strings.Index(body, "<summary>What was done"); button < 0 || list < button {
		t.Errorf("the way back stands at %d, what was done at %d: %s", button, list, body)
	}
	// What was agreed to is not asked again, and the password is still known.
	_, to = h.post("/accounts/new", url.Values{"address": {"nowa@example.org"}, "again": {strings.TrimPrefix(to, "/talk/")}, "in_host": {"pop.example.org"}, "out_host": {"smtp.example.org"}, "out_security": {"starttls"}})
	h.talk(to, `data-done="1"`)
	if n := h.keeper.added; len(n) != 1 || n[0].Password != "tajne" || n[0].Incoming != "pop.example.org:995" || n[0].Outgoing != "smtp.example.org:587" || n[0].OutgoingSecurity != "starttls" {
		t.Errorf("added %+v", n)
	}
	for _, c := range []struct {
		name string
		form url.Values
		says string
	}{
		{"no address", url.Values{"address": {"ala"}}, "is no e-mail address"},
		{"one server", url.Values{"address": {"a@b.example"}, "in_host": {"pop.b.example"}}, "Name both servers"},
		{"a port that is none", url.Values{"address": {"a@b.example"}, "in_host": {"pop.b.example"}, "in_port": {"70000"}, "out_host": {"smtp.b.example"}}, "is no port"},
		{"a host that is none", url.Values{"address": {"a@b.example"}, "in_host": {"pop b"}, "out_host": {"smtp.b.example"}}, "is no server&#39;s name"},
		{"no encryption far away", url.Values{"address": {"a@b.example"}, "in_host": {"192.0.2.1"}, "in_security": {"none"}, "out_host": {"smtp.b.example"}}, "only for a server on this very computer"},
		{"half a certificate", url.Values{"address": {"a@b.example"}, "certificate": {"/x"}}, "its file and that of its key"},
	} {
		if code, body := h.post("/accounts/new", c.form); code != 422 || !strings.Contains(body, c.says) {
			t.Errorf("%s: %d, no %q", c.name, code, c.says)
		}
	}
	// An attempt that is stopped ends, whatever it waits for.
	h.keeper.set(func() {
		h.keeper.with = func(ctx context.Context, _ page.Person, _ page.NewAccount) error { <-ctx.Done(); return ctx.Err() }
	})
	_, to = h.post("/accounts/new", url.Values{"address": {"nowa@example.org"}, "password": {"x"}})
	h.talk(to, "data-running")
	h.post(to, url.Values{"do": {"stop"}})
	h.talk(to, "It was stopped; nothing is saved.")
	if code, _ := h.get("/talk/x"); code != http.StatusNotFound {
		t.Errorf("an attempt that is none: %d", code)
	}
}

func untrusted(outgoing bool) error {
	return fmt.Errorf("outgoing server: %w", &page.Untrusted{Outgoing: outgoing, Certificate: &line.CertificateError{Host: "pop.example.org", SHA256: strings.Repeat("ab12", 16), Err: x509.UnknownAuthorityError{}}})
}

// TestCertificate refuses a certificate, shows what it is, and takes it only from who says that they
// have compared it.
func TestCertificate(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.keeper.with = func(_ context.Context, _ page.Person, n page.NewAccount) error {
		switch {
		case n.Accept == "":
			return untrusted(false)
		case n.AcceptOutgoing == "":
			return untrusted(true)
		}
		return nil
	}
	_, to := h.post("/accounts/new", url.Values{"address": {"nowa@example.org"}, "password": {"tajne"}})
	h.talk(to, "ab12 ab12 ab12")
	h.shows(to, "The certificate of pop.example.org is not trusted", "self-signed", "Nothing secret was sent there")
	if code, body := h.post(to, url.Values{"do": {"accept"}}); code != 422 || !strings.Contains(body, "Tick that you really mean it") {
		t.Errorf("accepted without a tick: %d", code)
	}
	_, to = h.post(to, url.Values{"do": {"accept"}, "sure": {"1"}})
	h.talk(to, "ab12 ab12 ab12")
	_, to = h.post(to, url.Values{"do": {"accept"}, "sure": {"1"}})
	h.talk(to, `data-done="1"`)
	if n := h.keeper.added[0]; n.Accept != strings.Repeat("ab12", 16) || n.AcceptOutgoing != n.Accept || n.Password != "tajne" {
		t.Errorf("added %+v", n)
	}
	// The same for an account that is there.
	h.keeper.fail = untrusted(false)
	form := url.Values{"do": {"server"}, "in_host": {"pop.example.org"}, "in_port": {"995"}, "in_login": {"ala"}, "out_host": {"pop.example.org"}, "out_login": {"ala"}}
	_, to = h.post(fmt.Sprintf("/accounts/%d", h.ala.ID), form)
	h.talk(to, "ab12 ab12 ab12")
	h.keeper.set(func() { h.keeper.fail = nil })
	_, to = h.post(to, url.Values{"do": {"accept"}, "sure": {"1"}})
	h.talk(to, `data-done="1"`)
	last := h.keeper.servers[len(h.keeper.servers)-1]
	if last.Incoming.Accepted != strings.Repeat("ab12", 16) || last.Outgoing.Accepted != last.Incoming.Accepted || last.Incoming.Login != "ala" || last.ID != h.ala.ID {
		t.Errorf("saved %+v", last)
	}
}

// TestAccountPage changes the servers, password and login of an account, and removes it.
func TestAccountPage(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	path := fmt.Sprintf("/accounts/%d", h.ala.ID)
	h.shows("/settings", path, "Servers, password, removal", "Add an account")
	h.shows(path, `name="in_host" value="pop.example.org"`, `name="out_port" value="465"`, "New password", "Yes, remove the account ala@example.org")
	if code, body := h.post(path, url.Values{"do": {"password"}}); code != 422 || !strings.Contains(body, "No password was given") {
		t.Errorf("an empty password: %d", code)
	}
	_, to := h.post(path, url.Values{"do": {"password"}, "password": {"nowe"}})
	h.talk(to, `data-done="1"`)
	h.get(to)
	h.shows(path, "ala@example.org: the password is saved.")
	if code, body := h.post(path, url.Values{"do": {"remove"}}); code != 422 || !strings.Contains(body, "Tick that") {
		t.Errorf("removed without a tick: %d", code)
	}
	h.keeper.fail = fmt.Errorf("%w: letter 3", page.ErrUnsent)
	if code, body := h.post(path, url.Values{"do": {"remove"}, "sure": {"1"}}); code != 422 || !strings.Contains(body, "wait in the outbox") {
		t.Errorf("removed with letters in the outbox: %d", code)
	}
	h.keeper.fail = nil
	if code, to := h.post(path, url.Values{"do": {"remove"}, "sure": {"1"}, "letters": {"1"}}); code != http.StatusSeeOther || to != "/settings" {
		t.Errorf("remove: %d %s", code, to)
	}
	h.shows("/settings", "ala@example.org is removed.")
	h.keeper.with = func(ctx context.Context, who page.Person, _ page.NewAccount) error {
		return who.Browse("https://provider.example/")
	}
	_, to = h.post(path, url.Values{"do": {"login"}, "client_secret": {"s"}})
	h.talk(to, `data-done="1"`)
	want := fmt.Sprintf("password %d nowe|remove %d false|remove %d true|login %d s", h.ala.ID, h.ala.ID, h.ala.ID, h.ala.ID)
	if got := strings.Join(h.keeper.words, "|"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, bad := range []string{"/accounts/99", "/accounts/x"} {
		if code, _ := h.get(bad); code != http.StatusNotFound {
			t.Errorf("%s: %d", bad, code)
		}
	}
	if code, _ := h.post(path, url.Values{"do": {"what"}}); code != http.StatusBadRequest {
		t.Errorf("an unknown command: %d", code)
	}
}

// TestUnlock asks for the passphrase where it is needed.
func TestUnlock(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.keeper.lock, h.keeper.pass = page.Locked, "correct horse"
	h.looks = []page.Look{{Account: "ala@example.org", Err: fmt.Errorf("log in: %w", vault.ErrLocked)}}
	h.shows("/mail", "Your passwords are locked", "/unlock", "!Not fetched")
	if code, to := h.post(fmt.Sprintf("/accounts/%d", h.ala.ID), url.Values{"do": {"password"}, "password": {"x"}}); code != http.StatusSeeOther || !strings.HasPrefix(to, "/unlock?back=") {
		t.Errorf("a password behind a lock: %d %s", code, to)
	}
	h.shows("/unlock", "lie in an encrypted file", `!name="passphrase2"`)
	if code, body := h.post("/unlock", url.Values{"passphrase": {"wrong"}}); code != 422 || !strings.Contains(body, "The passphrase is wrong.") {
		t.Errorf("a wrong passphrase: %d", code)
	}
	if code, to := h.post("/unlock", url.Values{"passphrase": {"correct horse"}, "back": {"/rules"}}); code != http.StatusSeeOther || to != "/rules" {
		t.Errorf("the passphrase: %d %s", code, to)
	}
	h.shows("/mail", "The passwords are unlocked.", "!Your passwords are locked")
}

// TestFolders makes, renames and removes folders, with what lies in them and the rules that file there.
func TestFolders(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	acc := fmt.Sprint(h.ala.ID)
	make := func(name string) (int, string) {
		return h.post("/folders", url.Values{"do": {"make"}, "a": {acc}, "name": {name}})
	}
	for _, name := range []string{" Projekty / Ogród ", "Projekty", "Praca"} {
		if code, to := make(name); code != http.StatusSeeOther || to != "/folders" {
			t.Errorf("make %q: %d %.1500s", name, code, to)
		}
	}
	id := h.add(h.ala, "Projekty/Ogród", 0, text("a@b.example", "Plany", "x", time.Hour))
	if _, err := h.store.SaveRule(t.Context(), store.Rule{Name: "Do ogrodu", Accounts: []envelope.AccountID{h.ala.ID}, Conditions: []store.Condition{{Field: "subject", Op: "contains", Value: "x"}}, Move: "Projekty/Ogród"}); err != nil {
		t.Fatal(err)
	}
	h.shows("/folders", "Projekty / Ogród", "1 letter", `value="Projekty/Ogród"`)
	for name, says := range map[string]string{"": "up to 255 octets", "a//b": "up to 255 octets", "a\x01": "up to 255 octets", "inbox": "of this name already", "Kosz/": "up to 255 octets", "Outbox": "of this name already", "Praca": "of this name already", strings.Repeat("ż", 200): "up to 255 octets"} {
		if code, body := make(name); code != 422 || !strings.Contains(body, says) {
			t.Errorf("make %q: %d", name, code)
		}
	}
	rename := func(from, to string) (int, string) {
		return h.post("/folders", url.Values{"do": {"rename"}, "a": {acc}, "folder": {from}, "name": {to}})
	}
	if code, body := rename("Projekty", "Projekty/Stare"); code != 422 || !strings.Contains(body, "into itself") {
		t.Errorf("into itself: %d", code)
	}
	if code, body := rename("Projekty", "Praca"); code != 422 || !strings.Contains(body, "of this name already") {
		t.Errorf("onto another: %d", code)
	}
	if code, body := rename("INBOX", "Moje"); code != 422 || !strings.Contains(body, "Every account has this folder") {
		t.Errorf("the inbox: %d %.200s", code, body)
	}
	if code, body := rename("Outbox", "Moje"); code != 422 || !strings.Contains(body, "wait to be sent") {
		t.Errorf("the outbox: %d %.200s", code, body)
	}
	if code, to := rename("Projekty", "Zamiary"); code != http.StatusSeeOther {
		t.Errorf("rename: %d %.1500s", code, to)
	}
	if m := h.summary(id); m.Folder != "Zamiary/Ogród" {
		t.Errorf("the letter lies in %s", m.Folder)
	}
	if r, err := h.store.Rules(t.Context()); err != nil || r[0].Move != "Zamiary/Ogród" {
		t.Errorf("the rule files to %s, %v", r[0].Move, err)
	}
	h.shows("/folders?a="+acc+"&remove=Zamiary", "Delete the folder Zamiary?", "These letters go to Trash: 1 letter", "Zamiary / Ogród", "Do ogrodu")
	if m := h.summary(id); m.Folder == store.Trash {
		t.Error("removed by being asked")
	}
	h.post("/folders", url.Values{"do": {"remove"}, "a": {acc}, "folder": {"Zamiary"}})
	if m := h.summary(id); m.Folder != store.Trash {
		t.Errorf("the letter of the removed folder lies in %s", m.Folder)
	}
	h.shows("/folders", "!Zamiary / Ogród")
	for _, q := range []string{"/folders?a=" + acc + "&remove=INBOX", "/folders?a=" + acc + "&remove=Nigdzie"} {
		if code, _ := h.get(q); code != http.StatusNotFound {
			t.Errorf("%s: %d", q, code)
		}
	}
}

// texts are what a person reads on a page, attributes that are read out included.
func texts(page string) string {
	var out strings.Builder
	page = regexp.MustCompile(`(?s)<(script|style|code|textarea).*?</(script|style|code|textarea)>`).ReplaceAllString(page, "")
	for _, m := range regexp.MustCompile(`(?:title|aria-label|placeholder)="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		out.WriteString(m[1] + "\n")
	}
	out.WriteString(regexp.MustCompile(`(?s)<[^>]*>`).ReplaceAllString(page, "\n"))
	return html.UnescapeString(out.String())
}

// TestPolishPages shows every page in Polish, with everything that can go wrong, and looks for English.
func TestPolishPages(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.post("/preferences", url.Values{"lang": {"pl"}})
	id := h.add(h.ala, store.Inbox, 0, text("Ewa <ewa@example.net>", "Spotkanie", "Czy czwartek pasuje?", time.Hour, "Message-ID: <a@example.net>"))
	sent := h.add(h.ala, store.Sent, 0, text("Ala <ala@example.org>", "Re: Spotkanie", "Tak.", time.Hour, "Message-ID: <sent1@example.org>"))
	h.index()
	h.looks = []page.Look{{Account: "ala@example.org", Err: fmt.Errorf("fetch: %w", &pop3client.Error{Command: "PASS", Refused: true, Reply: "wrong password"})},
		{Account: "biuro@ksiegarnia.example", Err: &line.CertificateError{Host: "poczta.ksiegarnia.example", Err: x509.UnknownAuthorityError{}}}}
	h.outbox.items = []page.Item{{ID: "1", State: page.Perhaps, Recipients: []string{"ewa@example.net"}, Subject: "Oferta", Says: []string{outbox.Say("The connection was lost before the server confirmed the letter.", "pl")}}}
	if err := h.store.CreateFolder(t.Context(), h.ala.ID, "Praca"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.store.SaveRule(t.Context(), store.Rule{Name: "Do pracy", Conditions: []store.Condition{{Field: "subject", Op: "contains", Value: "praca"}}, Move: "Praca"}); err != nil {
		t.Fatal(err)
	}
	acc := fmt.Sprint(h.ala.ID)
	check := func(what, body string) {
		t.Helper()
		for line := range strings.Lines(texts(body)) {
			line = regexp.MustCompile(`\S+@\S+|is:unread has:attachment|from: to: subject:|English|STARTTLS|SHA-256`).ReplaceAllString(line, "")
			if w := page.InEnglish(line); w != "" {
				t.Errorf("%s says %q: %s", what, w, strings.TrimSpace(line))
			}
		}
	}
	for _, path := range []string{"/mail", fmt.Sprintf("/mail?open=%d", id), fmt.Sprintf("/mail?f=Sent&open=%d", sent), "/mail?v=threads", "/mail?q=after:x", "/mail?q=nic", "/mail?removed=1&f=*", "/write", fmt.Sprintf("/write?reply=%d", id), "/outbox", "/people", "/settings",
		"/rules", "/rules/new", "/rules/1", "/folders", "/folders?a=" + acc + "&remove=Praca", "/accounts/new", "/accounts/" + acc, "/nothing"} {
		_, body := h.get(path)
		check(path, body)
	}
	for _, c := range []struct {
		path string
		form url.Values
	}{
		{"/folders", url.Values{"do": {"make"}, "a": {acc}, "name": {"a//b"}}}, {"/folders", url.Values{"do": {"make"}, "a": {acc}, "name": {"Praca"}}}, {"/folders", url.Values{"do": {"rename"}, "a": {acc}, "folder": {"INBOX"}, "name": {"x"}}},
		{"/settings", url.Values{"id": {acc}, "keep": {"days"}, "days": {"0"}}}, {"/settings", url.Values{"id": {acc}, "keep": {"leave"}, "aliases": {"x"}}}, {"/settings", url.Values{"id": {acc}, "keep": {"leave"}, "every": {"x"}}},
		{"/rules", url.Values{"name": {""}}}, {"/rules", url.Values{"name": {"x"}, "flag": {"1"}, "field.0": {"subject"}, "op.0": {"matches"}, "value.0": {"("}}}, {"/rules", url.Values{"name": {"x"}, "flag": {"1"}, "field.0": {"size"}, "op.0": {"larger"}, "value.0": {"x"}}},
		{"/accounts/new", url.Values{"address": {"x"}, "in_host": {"a b"}, "in_port": {"x"}}}, {"/accounts/" + acc, url.Values{"do": {"remove"}}}, {"/accounts/" + acc, url.Values{"do": {"password"}}}, {"/act", url.Values{"do": {"eat"}, "pick": {"1"}}},
	} {
		code, body := h.post(c.path, c.form)
		if code < 400 {
			t.Errorf("%s %v: %d", c.path, c.form, code)
		}
		check(fmt.Sprintf("%s %v", c.path, c.form), body)
	}
	form := url.Values{"from": {h.from()}, "to": {"nikt@nowhere.example, zły"}, "text": {"W załączniku plan."}, "do": {"send"}}
	_, body := h.write(form, nil)
	check("a letter that can't be sent", body)
	h.outbox.fail = outbox.ErrLeft
	h.post("/outbox", url.Values{"id": {"1"}, "do": {"undo"}})
	_, body = h.get("/outbox")
	check("the outbox", body)
	for _, err := range []error{untrusted(true), page.ErrNoServers, page.ErrCredentials, page.ErrNoLogin, page.ErrNoClient, errors.New("the world is not as it was")} {
		h.keeper.set(func() {
			h.keeper.with = func(_ context.Context, who page.Person, _ page.NewAccount) error {
				if _, cerr := who.Confirm("Serwery spoza domeny: a. Czy wysłać tam nazwę i hasło?"); cerr != nil {
					return cerr
				}
				return err
			}
		})
		_, to := h.post("/accounts/new", url.Values{"address": {"nowa@example.org"}, "password": {"x"}})
		check("a question", h.talk(to, "Czy wysłać"))
		h.post(to, url.Values{"do": {"yes"}})
		check(err.Error(), h.talk(to, polishTry))
		_, body := h.get(to)
		check(err.Error(), body)
	}
	h.keeper.set(func() { h.keeper.lock = page.Locked })
	for _, path := range []string{"/unlock", "/mail"} {
		_, body := h.get(path)
		check(path+" behind the lock", body)
	}
	_, body = h.post("/unlock", url.Values{"passphrase": {"x"}})
	check("a wrong passphrase", body)
	h.keeper.set(func() { h.keeper.lock = page.Fresh })
	_, body = h.get("/accounts/new")
	check("a new passphrase", body)
	stranger, err := http.NewRequest("GET", h.server.URL+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	stranger.Header.Set("Accept-Language", "pl")
	body, _ = h.do(stranger)
	check("who is not let in", body)
}

// polishTry is on the page of an attempt that failed.
const polishTry = "Popraw i spróbuj jeszcze raz"
