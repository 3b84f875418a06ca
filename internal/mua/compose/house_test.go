package compose_test

import (
	"io"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
)

var now = time.Date(2026, 11, 23, 15, 4, 5, 0, time.FixedZone("", 3600))

func account() profile.Account {
	return profile.Account{ID: 1, Address: "ala@example.org", Name: "Ala Kowalska", Aliases: []string{"biuro@example.org"}}
}

func openStore(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{Folder: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// add stores a letter, written with LF, and opens it.
func add(t *testing.T, s *store.Store, text string) *store.Letter {
	t.Helper()
	staged, err := s.Body().Stage(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer staged.Discard()
	if _, err := io.WriteString(staged, strings.ReplaceAll(text, "\n", "\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Add(t.Context(), 1, []mailbox.Import{{Staged: staged, Received: now}}, nil); err != nil {
		t.Fatal(err)
	}
	page, err := s.Since(t.Context(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	return letter(t, s, page[len(page)-1].ID)
}

func letter(t *testing.T, s *store.Store, id store.LetterID) *store.Letter {
	t.Helper()
	l, err := s.Letter(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}
