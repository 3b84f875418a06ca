package dmarcreport_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/dmarc"
	"poczta.example/poczta/internal/dmarcreport"
)

// fakeDB notes when what is done. It holds nothing.
type fakeDB struct {
	db.Database
	begin time.Time
	mu    sync.Mutex
	log   []string
}

func (f *fakeDB) note(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if line := time.Since(f.begin).String() + " " + what; len(f.log) == 0 || f.log[len(f.log)-1] != line {
		f.log = append(f.log, line)
	}
}

func (f *fakeDB) View(_ context.Context, fn func(db.Tx) error) error { return fn(fakeTx{f: f}) }

func (f *fakeDB) UpdateLow(_ context.Context, fn func(db.Tx) error) error { return fn(fakeTx{f: f}) }

type fakeTx struct {
	db.Tx
	f *fakeDB
}

func (x fakeTx) Exec(query string, _ ...any) (int64, error) {
	what, _, _ := strings.Cut(query, " ")
	x.f.note(what)
	return 0, nil
}

// Query is asked for what is to be sent of a day.
func (x fakeTx) Query(_ string, args ...any) (db.Rows, error) {
	x.f.note(fmt.Sprint("send ", args[0].(int64)-dmarcreport.Day(x.f.begin)))
	return noRows{}, nil
}

type noRows struct{ db.Rows }

func (noRows) Next() bool   { return false }
func (noRows) Err() error   { return nil }
func (noRows) Close() error { return nil }

// TestRun counts at once, sends each hour what was missed and from the delay on what is of the day
// before, and writes what is left at its end.
func TestRun(t *testing.T) {
	t.Parallel()
	w := open(t, noDB{}, dmarc.RFC9989)
	row := w.row("example.org", "192.0.2.1", "example.org")
	synctest.Test(t, func(t *testing.T) { // begins at midnight, 2000-01-01 UTC
		fake := &fakeDB{begin: time.Now()}
		cfg := w.cfg
		cfg.DB, cfg.Delay, cfg.Now = fake, 90*time.Minute, nil
		r, err := dmarcreport.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		r.Note(row)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Hour+30*time.Minute+time.Second)
		defer cancel()
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		<-time.After(3*time.Hour + 30*time.Minute + 500*time.Millisecond)
		r.Note(row)
		if err := <-done; err != nil {
			t.Error(err)
		}
		want := []string{"0s send -3", "0s send -2", "0s DELETE", "30s INSERT", "1h0m0s send -3", "1h0m0s send -2", "1h0m0s DELETE",
			"2h0m0s send -3", "2h0m0s send -2", "2h0m0s send -1", "2h0m0s DELETE", "3h0m0s send -3", "3h0m0s send -2", "3h0m0s send -1", "3h0m0s DELETE", "3h30m1s INSERT"}
		if diff := cmp.Diff(want, fake.log); diff != "" {
			t.Error(diff)
		}
	})
}

// noDB is a database that is never asked.
type noDB struct{ db.Database }
