package page_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/mua/fetch"
	"poczta.example/poczta/internal/mua/store"
)

// TestFetching shows on every page how far fetches are that run, in the person's language.
func TestFetching(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	if body := h.shows("/mail", "No letters here."); strings.Contains(body, "Fetching") {
		t.Error("a fetch is told that does not run")
	}
	h.fetches.Store(&[]fetch.Progress{{Account: h.ala.ID, Letters: 1240, TotalLetters: 3000, Filing: 1250}, {Account: h.ewa.ID}, {Account: 99, TotalLetters: 7}})
	want := []string{"Fetching the mail of ala@example.org: 1,240 of 3,000 letters. Letters being put into their folders: 1,250.", "Fetching the mail of biuro@ksiegarnia.example …"}
	h.shows("/mail", append(want, "No letters here yet.")...)
	if body := h.shows("/fetching", want...); strings.Contains(body, "<html") || strings.Contains(body, "7") {
		t.Errorf("the script is given %s", body)
	}
	h.post("/preferences", url.Values{"lang": {"pl"}})
	h.shows("/settings", "Pobieram pocztę konta ala@example.org: 1\u00a0240 z 3\u00a0000 listów.")
}

// TestArrives watches the first minute of a new account: what comes shows by itself, as does how far
// the fetch is.
func TestArrives(t *testing.T) {
	t.Parallel()
	ctx := chromium(t, "")
	h := newHouse(t)
	h.enter(ctx)
	h.until(ctx, `document.body.textContent.includes("No letters here.") && !document.querySelector("#rows")`)
	h.fetches.Store(&[]fetch.Progress{{Account: h.ala.ID, Letters: 1, TotalLetters: 3000}})
	h.until(ctx, `document.querySelector("#fetching").textContent.includes("1 of 3,000")`)
	h.add(h.ala, store.Inbox, 0, text("Ewa <ewa@example.net>", "Pierwszy", "Cześć.", time.Hour))
	h.until(ctx, `document.querySelectorAll("#rows .row").length === 1`)
	h.add(h.ala, store.Inbox, 0, text("Ewa <ewa@example.net>", "Drugi", "Cześć.", time.Minute))
	h.fetches.Store(nil) // what came last shows although the fetch has ended
	h.until(ctx, `document.querySelectorAll("#rows .row").length === 2 && !document.querySelector("#fetching").childElementCount`)
	if name := js[string](ctx, h, `document.querySelector("#nav .boxes .count").textContent`); !strings.HasSuffix(name, "2") {
		t.Errorf("the inbox counts %q", name)
	}
}
