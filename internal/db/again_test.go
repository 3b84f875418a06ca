package db_test

import (
	"errors"
	"fmt"
	"testing"

	"poczta.example/poczta/internal/db"
)

// TestAgain: a view whose time was up is tried five times in all, any other outcome ends it.
func TestAgain(t *testing.T) {
	t.Parallel()
	other := errors.New("other")
	for _, c := range []struct {
		name  string
		slow  int // times that come first
		then  error
		tries int
		want  error
	}{
		{"at once", 0, nil, 1, nil},
		{"after four", 4, nil, 5, nil},
		{"always slow", 9, nil, 5, db.ErrTooLong},
		{"another error", 1, other, 2, other},
	} {
		tries := 0
		err := db.Again(func() error {
			if tries++; tries <= c.slow {
				return fmt.Errorf("view: %w", db.ErrTooLong)
			}
			return c.then
		})
		if tries != c.tries || !errors.Is(err, c.want) {
			t.Errorf("%s: %d tries, %v", c.name, tries, err)
		}
	}
}
