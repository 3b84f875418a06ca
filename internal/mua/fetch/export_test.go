package fetch

import (
	"context"
	"log/slog"
	"strings"

	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
)

// Known are the unique-ids of letters that an account's next fetch need not ask for: those in the journal, and
// those that came whole before the process was killed.
func Known(ctx context.Context, s *store.Store, a profile.Account) (ids []string, err error) {
	rows, err := journal{s.DB()}.load(ctx, a.ID)
	if err != nil {
		return nil, err
	}
	for key := range rows {
		ids = append(ids, strings.TrimPrefix(key, "u"))
	}
	files := (&Fetcher{c: Config{Store: s, Logger: slog.New(slog.DiscardHandler)}}).arrivals(a)
	defer files.Close()
	for key := range files.Left() {
		ids = append(ids, strings.TrimPrefix(key, "u"))
	}
	return ids, nil
}

// DigestOf is digestOf.
func DigestOf(head []byte) [16]byte { return digestOf(head) }

// RepackNote reads a note and writes it again.
func RepackNote(b []byte) ([]byte, error) {
	w, err := parseNote(b)
	if err != nil {
		return nil, err
	}
	return w.note(), nil
}
