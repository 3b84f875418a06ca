package mua_test

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"

	"poczta.example/poczta/internal/mailtest/poppeer"
	"poczta.example/poczta/internal/mua/profile"
)

// TestOpen reads mail in the page while it is served, asks for a second address, and ends.
func TestOpen(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.add(poppeer.Dovecot(t, letters(3)), profile.Leave)
	h.must(h.desk("", false).Sync(t.Context(), nil))
	ctx, stop := context.WithCancel(t.Context())
	addresses, done := make(chan string, 1), make(chan error, 1)
	d := h.desk("", false)
	go func() {
		done <- d.Open(ctx, 0, func(a string) error { addresses <- a; return nil })
	}()
	first := <-addresses
	jar, err := cookiejar.New(nil)
	h.must(err)
	client := &http.Client{Jar: jar}
	get := func(address string) (int, string) {
		resp, err := client.Get(address)
		h.must(err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		h.must(err)
		return resp.StatusCode, string(text)
	}
	base, _, _ := strings.Cut(first, "/enter")
	if code, text := get(base + "/mail"); code == http.StatusOK || strings.Contains(text, "Żółw") {
		t.Errorf("without the token: %d", code)
	}
	code, entered := get(first)
	if code != http.StatusOK {
		t.Errorf("entering: %d", code)
	}
	_, rest, _ := strings.Cut(entered, "url=")
	path, _, _ := strings.Cut(rest, "/mail")
	base += path // the pages' own path, which nobody else knows
	if code, text := get(base + "/mail"); code != http.StatusOK || !strings.Contains(text, "Żółw") {
		t.Errorf("%d %.300s", code, text)
	}
	client.Jar = nil
	if code, _ := get(first); code == http.StatusOK {
		t.Error("the address opens the page twice")
	}
	client.CloseIdleConnections()
	other := *d
	other.Out = io.Discard
	h.must(other.Open(ctx, 0, func(a string) error { addresses <- a; return nil }))
	if second := <-addresses; second == first || !strings.HasPrefix(second, strings.TrimSuffix(base, path)) {
		t.Errorf("the second address is %s, the first %s", second, first)
	}
	stop()
	h.must(<-done)
}
