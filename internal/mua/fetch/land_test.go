package fetch_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/mailtest/mortal"
	"poczta.example/poczta/internal/mailtest/poppeer"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/mua/fetch"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
)

// plainDigest is the digest as its definition says it.
func plainDigest(b []byte) (d [16]byte) {
	head, _, _ := message.SplitHeader(b)
	var text strings.Builder
	for f := range message.Fields(head) {
		name := strings.ToLower(f.Name())
		if slices.Contains([]string{"status", "content-length", "lines", "return-path", "delivered-to", "x-original-to"}, name) ||
			slices.ContainsFunc([]string{"x-status", "x-uid", "x-keywords", "x-mozilla-", "x-imap", "x-evolution"}, func(p string) bool { return strings.HasPrefix(name, p) }) {
			continue
		}
		text.WriteString(name + ":" + strings.Join(strings.Fields(string(f.Body())), " ") + "\n")
	}
	sum := sha256.Sum256([]byte(text.String()))
	copy(d[:], sum[:])
	return d
}

// FuzzDigest holds the digests, which journals keep for years, against their definition.
func FuzzDigest(f *testing.F) {
	for _, s := range []string{"Subject: a\r\n  b \t c\r\nStatus: RO\r\nX-UID: 1\r\nX-UIDfoo: 2\r\nX-Other: 3\r\n\r\nbody", "rubbish\r\nA : \x0b\x0c x\r\n", "S: \u00a0a\u2003b \xff\r\n", "S:\r\n \r\n a", "X-\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, want := fetch.DigestOf(b), plainDigest(b); got != want {
			t.Errorf("%q has the digest %x, want %x", b, got, want)
		}
	})
}

// FuzzNote reads notes of letters that wait to be filed.
func FuzzNote(f *testing.F) {
	f.Add(append(append([]byte{1, 3}, bytes.Repeat([]byte{7}, 48)...), 2, 4, 'u', '1'))
	f.Fuzz(func(t *testing.T, b []byte) {
		again, err := fetch.RepackNote(b)
		if err != nil {
			return
		}
		third, err := fetch.RepackNote(again)
		if err != nil || !bytes.Equal(third, again) {
			t.Errorf("%x becomes %x, %v", again, third, err)
		}
	})
}

// TestKilledWhileFiling kills the process when much has come and little is filed, on a line that
// never pauses: what was durable is here after the next start, once, and is not asked for again.
func TestKilledWhileFiling(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("kills some twenty processes")
	}
	mail := poppeer.Letters(1500, 1500)
	p := poppeer.Start(t, poppeer.Config{Messages: mail})
	server := p.Listen(t).String()
	folder := t.TempDir()
	s := openStore(t, folder)
	addAccount(t, s, profile.Fetched)
	if _, err := s.SaveRule(t.Context(), store.Rule{Name: "sevens", Conditions: []store.Condition{{Field: "subject", Op: "matches", Value: "7$"}}, Move: "Sevens"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	kills := 0
	for wait := 40 * time.Millisecond; ; wait += max(25*time.Millisecond, wait/4) {
		if ended := mortal.Run(t, wait, killFolder+"="+folder, killServer+"="+server); ended {
			break
		}
		if kills++; kills%3 == 0 { // else the process that follows finds what this one left
			mustHave(t, folder, p, mail)
		}
	}
	s = openStore(t, folder)
	defer s.Close()
	if got := letters(t, s); !slices.Equal(got, texts(mail)) {
		t.Errorf("%d letters are here, want %d: %s", len(got), len(mail), differ(got, texts(mail)))
	}
	if n := len(p.Messages()); n != 0 {
		t.Errorf("%d letters stay on the server", n)
	}
	t.Logf("killed %d times", kills)
}

// TestStoppedBeforeFiling stops a fetch whose letters are durable and not filed: it deletes
// nothing; the next one files them and fetches none again.
func TestStoppedBeforeFiling(t *testing.T) {
	t.Parallel()
	mail := poppeer.Letters(20, 500)
	h := newHouse(t, poppeer.Config{Messages: mail}, profile.Fetched)
	h.stopAtFiling(t)
	if res := h.sync(t); res.Fetched != 0 || res.Deleted != 20 {
		t.Errorf("the second fetch: %+v", res)
	}
	h.mustHold(t, "after", mail)
	for id, n := range h.peer.Given() {
		if n != 1 {
			t.Errorf("%s was given %d times", id, n)
		}
	}
}

// stopAtFiling begins a fetch that is stopped when its first letters are durable.
func (h *house) stopAtFiling(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	h.told = func(p fetch.Progress) {
		if p.Letters == p.TotalLetters {
			stop()
		}
	}
	res, err := h.Sync(ctx, h.account)
	h.told = nil
	if !errors.Is(err, context.Canceled) || res.Fetched != 20 || res.Deleted != 0 {
		t.Fatalf("the first fetch: %+v, %v", res, err)
	}
	page, err := h.store.List(t.Context(), store.Query{})
	if err != nil || len(page.Letters) != 0 || len(h.peer.Deleted()) != 0 {
		t.Errorf("%d letters are listed, %d deleted, %v", len(page.Letters), len(h.peer.Deleted()), err)
	}
}
