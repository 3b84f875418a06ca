package page_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"poczta.example/poczta/internal/mua/page"
	"poczta.example/poczta/internal/mua/profile"
)

// archive adds an account that only keeps letters.
func (h *house) archive(name string) profile.Account {
	h.t.Helper()
	a, err := h.accounts.Add(h.t.Context(), profile.Account{Address: name, Archive: true, Policy: profile.Policy{Keep: profile.Leave}})
	if err == nil {
		err = h.store.AddAccount(h.t.Context(), a.ID)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return a
}

// TestArchiveAlone: old mail without a provider is read; writing asks for an account in one sentence.
func TestArchiveAlone(t *testing.T) {
	t.Parallel()
	h := emptyHouse(t)
	old := h.archive("Old mail")
	id := h.add(old, "INBOX", 0, text("Ola <ola@example.org>", "Lunch", "soup", 0))
	h.index()
	h.keeper.set(func() { h.keeper.lock = page.Locked })
	h.shows("/mail", "Lunch", "!/look", "!/unlock")
	h.shows(fmt.Sprintf("/mail?open=%d", id), "soup")
	h.shows("/folders", "Old mail")
	h.shows("/settings", "Old mail", "(archive)", "It keeps letters that were imported", `!name="keep"`, fmt.Sprintf(`/accounts/%d"`, old.ID))
	path := fmt.Sprintf("/accounts/%d", old.ID)
	h.shows(path, "Old mail", "Its letters stay here, unless you remove them too", "!New password", `!name="in_host"`)
	for _, at := range []string{"/write", fmt.Sprintf("/write?reply=%d", id), fmt.Sprintf("/write?forward=%d", id)} {
		h.shows(at, "There is no account yet. Add one in the settings.", "!<select id=\"from\"")
	}
	form := url.Values{"from": {fmt.Sprintf("%d %s", old.ID, old.Address)}, "to": {"ewa@example.net"}, "text": {"x"}, "do": {"send"}}
	if code, body := h.write(form, nil); code < 400 || !strings.Contains(body, "This is an archive: it keeps letters, and neither fetches nor sends. To write, add an account in the settings.") || len(h.outbox.sent) != 0 {
		t.Errorf("a letter from an archive: %d %s", code, body)
	}
	if code, _ := h.post(path, url.Values{"do": {"password"}, "password": {"x"}}); code != http.StatusBadRequest {
		t.Errorf("a password for an archive: %d", code)
	}
	if code, _ := h.post("/settings", url.Values{"id": {fmt.Sprint(old.ID)}, "keep": {"fetched"}}); code != http.StatusBadRequest {
		t.Errorf("settings of an archive: %d", code)
	}
	if code, to := h.post(path, url.Values{"do": {"remove"}, "sure": {"1"}}); code != http.StatusSeeOther || to != "/settings" {
		t.Errorf("removed while the passwords are locked: %d %s", code, to)
	}
}

// TestArchiveBeside: old letters are answered from an account that sends.
func TestArchiveBeside(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	old := h.archive("Old mail")
	id := h.add(old, "INBOX", 0, text("Ola <ola@example.org>", "Lunch", "soup", 0))
	h.shows(fmt.Sprintf("/write?reply=%d", id), "ola@example.org", `value="`+h.from()+`" selected`, fmt.Sprintf(`!value="%d `, old.ID))
	h.shows("/mail", "/look", "Old mail")
	form := url.Values{"from": {h.from()}, "reply": {fmt.Sprint(id)}, "to": {"ola@example.org"}, "subject": {"Re: Lunch"}, "text": {"As ever."}, "do": {"send"}}
	if code, to := h.write(form, nil); code != http.StatusSeeOther || to != "/outbox" || len(h.outbox.sent) != 1 || h.outbox.sent[0].Account != h.ala.ID {
		t.Errorf("an answer to an old letter: %d %s", code, to)
	}
}
