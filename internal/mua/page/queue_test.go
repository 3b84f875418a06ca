package page_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/mua/page"
)

// part is what the script is given of a page.
func (h *house) part(path, name string) string {
	h.t.Helper()
	r, err := http.NewRequestWithContext(h.t.Context(), http.MethodGet, h.at(path), nil)
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("X-Poczta-Part", name)
	body, code := h.do(r)
	if code != http.StatusOK {
		h.t.Fatalf("%s: %d %s", path, code, body)
	}
	return body
}

// soon is a letter that leaves in some seconds.
func soon() page.Item {
	return page.Item{ID: "7", State: page.Waiting, From: "ala@example.org", Recipients: []string{"ewa@example.net"}, Subject: "Obiad", At: today, Next: today.Add(6500 * time.Millisecond)}
}

// TestQueue tells when a letter leaves, and what became of those that the script shows.
func TestQueue(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.outbox.items = []page.Item{soon()}
	h.shows("/outbox", "is sent in 7 s", `value="undo" aria-describedby="item-7">Take back`)
	h.outbox.items[0].Next = today
	h.shows("/outbox", "is sent now")
	h.outbox.items[0].Attempts, h.outbox.items[0].Next = 2, today.Add(time.Minute)
	h.shows("/outbox", "next: 23 Nov 2026, 14:31", "!is sent")
	h.outbox.items = nil
	h.outbox.gone = []page.Item{{ID: "7", State: page.Sent, Subject: "Obiad", At: today}}
	body := h.part("/outbox?was=7,8,x", "queue")
	if !strings.Contains(body, `<span class="state sent">sent</span>`) || strings.Contains(body, "<button") || strings.Contains(body, "<html") {
		t.Errorf("the letter that went is shown as %s", body)
	}
	h.shows("/outbox", "Nothing is waiting to be sent.", "!Obiad")
}

// TestQueueInBrowser watches a letter leave: its seconds are counted, its button stays the same one
// meanwhile and keeps the focus, and that it was sent shows by itself.
func TestQueueInBrowser(t *testing.T) {
	t.Parallel()
	ctx := chromium(t, "")
	h := newHouse(t)
	set := func(items, gone []page.Item) {
		h.outbox.mu.Lock()
		defer h.outbox.mu.Unlock()
		h.outbox.items, h.outbox.gone = items, gone
	}
	set([]page.Item{soon()}, nil)
	h.enter(ctx)
	h.goTo(ctx, h.at("/outbox"))
	h.until(ctx, `document.querySelector(".soon").textContent === "is sent in 7 s"`)
	js[int](ctx, h, `(window.before = document.querySelector("#queue [value=undo]"), window.before.focus(), 1)`)
	next := soon()
	next.Next = today.Add(time.Second)
	set([]page.Item{next}, nil)
	h.until(ctx, `document.querySelector(".soon").textContent === "is sent in 1 s"`)
	if !js[bool](ctx, h, `window.before.isConnected && document.activeElement === window.before`) {
		t.Error("the button is another one, or has lost the focus")
	}
	next.State, next.Next = page.Sent, time.Time{}
	set(nil, []page.Item{next})
	h.until(ctx, `document.querySelector("#queue .state").textContent === "sent" && !document.querySelector("#queue button")`)
	got := []string{js[string](ctx, h, `document.querySelector("#flash").textContent`), js[string](ctx, h, `document.activeElement.id`)}
	if diff := cmp.Diff([]string{"Obiad: sent", "outbox-title"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
