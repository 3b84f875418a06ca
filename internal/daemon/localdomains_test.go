package daemon_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/daemon"
)

func TestLocalDomainsAreRemembered(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	asked, ours, failing := 0, false, errors.New("the database is away")
	var err error
	own := daemon.Remembered(func(context.Context, address.Domain) (bool, error) {
		asked++
		return ours, err
	}, func() time.Time { return now })
	d, parseErr := address.ParseDomain("example.com")
	if parseErr != nil {
		t.Fatal(parseErr)
	}
	for i, step := range []struct {
		after time.Duration // the step before
		ours  bool
		err   error
		want  bool
		asked int // so far
	}{
		{0, false, failing, false, 1}, // an error is not remembered
		{0, false, nil, false, 2},
		{9 * time.Second, true, nil, false, 2}, // just added elsewhere
		{time.Second, true, nil, true, 3},
		{9 * time.Second, false, failing, true, 3}, // nobody asks meanwhile
		{time.Second, false, failing, false, 4},
		{0, false, nil, false, 5},
	} {
		now = now.Add(step.after)
		ours, err = step.ours, step.err
		got, gotErr := own(t.Context(), d)
		if asked != step.asked || gotErr == nil && got != step.want || gotErr != nil && step.err == nil {
			t.Errorf("step %d: %v, %v after %d questions; want %v after %d", i, got, gotErr, asked, step.want, step.asked)
		}
	}
}
