package repeat_test

import (
	"crypto/sha256"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/repeat"
)

var (
	first  = message.ID{1}
	second = message.ID{2}
)

func letter(text string) repeat.Letter {
	return repeat.Letter{Account: 7, SHA256: sha256.Sum256([]byte(text))}
}

// register is one whose clock the test moves.
func register(t *testing.T, d db.Database) (*repeat.Register, *atomic.Int64) {
	t.Helper()
	var now atomic.Int64
	now.Store(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC).UnixMicro())
	r, err := repeat.New(repeat.Config{DB: d, Now: func() time.Time { return time.UnixMicro(now.Load()) }})
	if err != nil {
		t.Fatal(err)
	}
	return r, &now
}

func note(t *testing.T, d db.Database, r *repeat.Register, l repeat.Letter, id message.ID, to ...string) error {
	t.Helper()
	return d.Update(t.Context(), func(tx db.Tx) error { return r.Note(tx, l, to, id) })
}

func before(t *testing.T, r *repeat.Register, l repeat.Letter, to ...string) []message.ID {
	t.Helper()
	ids, err := r.Before(t.Context(), l, to)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func each(t *testing.T, fn func(t *testing.T, d db.Database)) {
	t.Helper()
	dbtest.Each(t, []db.Component{repeat.Schema}, fn)
}

func TestKnownByAccountOctetsAndRecipient(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d db.Database) {
		r, _ := register(t, d)
		l := letter("hello")
		if err := note(t, d, r, l, first, "a@x", "b@x"); err != nil {
			t.Fatal(err)
		}
		if err := note(t, d, r, l, second, "c@x"); err != nil { // the same letter for somebody else
			t.Fatal(err)
		}
		if diff := cmp.Diff([]message.ID{second, {}, first}, before(t, r, l, "c@x", "d@x", "a@x")); diff != "" {
			t.Error(diff)
		}
		other := l
		other.Account++
		for _, l := range []repeat.Letter{other, letter("hello!")} {
			if got := before(t, r, l, "a@x"); !got[0].IsZero() {
				t.Errorf("%+v was taken as %v, but only another was", l, got[0])
			}
		}
	})
}

func TestForgottenAfterSevenDays(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d db.Database) {
		r, now := register(t, d)
		l := letter("hello")
		if err := note(t, d, r, l, first, "a@x"); err != nil {
			t.Fatal(err)
		}
		now.Add((7*24*time.Hour - time.Second).Microseconds())
		if got := before(t, r, l, "a@x"); got[0] != first {
			t.Error("forgotten before seven days have passed")
		}
		if err := note(t, d, r, l, second, "a@x"); !errors.Is(err, repeat.ErrRepeated) {
			t.Errorf("taken a second time: %v", err)
		}
		now.Add((2 * time.Second).Microseconds())
		if got := before(t, r, l, "a@x"); !got[0].IsZero() {
			t.Error("known after seven days")
		}
		if err := note(t, d, r, l, second, "a@x"); err != nil {
			t.Errorf("a row that is too old stands in the way: %v", err)
		}
		if got := before(t, r, l, "a@x"); got[0] != second {
			t.Errorf("known as %v", got[0])
		}
	})
}

// TestOneOfManyIsFirst hands the same letter in from many sides at once.
func TestOneOfManyIsFirst(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d db.Database) {
		r, _ := register(t, d)
		var wg sync.WaitGroup
		var taken atomic.Int64
		for i := range 16 {
			wg.Go(func() {
				err := note(t, d, r, letter("hello"), message.ID{byte(i + 1)}, "a@x", "b@x")
				switch {
				case err == nil:
					taken.Add(1)
				case !errors.Is(err, repeat.ErrRepeated):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := taken.Load(); n != 1 {
			t.Errorf("taken %d times", n)
		}
	})
}

func TestRunDropsWhatIsOld(t *testing.T) {
	t.Parallel()
	d := dbtest.SQLite(t)
	if err := db.Migrate(t.Context(), d, []db.Component{repeat.Schema}); err != nil {
		t.Fatal(err)
	}
	r, now := register(t, d)
	for i := range 300 {
		if err := note(t, d, r, letter(string(rune('a'+i))), first, "a@x"); err != nil {
			t.Fatal(err)
		}
	}
	now.Add((8 * 24 * time.Hour).Microseconds())
	if err := note(t, d, r, letter("young"), second, "a@x"); err != nil {
		t.Fatal(err)
	}
	if err := repeat.Sweep(r, t.Context()); err != nil {
		t.Fatal(err)
	}
	var n int64
	if err := d.View(t.Context(), func(tx db.Tx) error { return tx.QueryRow(`SELECT count(*) FROM repeat`).Scan(&n) }); err != nil || n != 2 {
		t.Errorf("%d rows stay, %v; want the two of the young letter", n, err)
	}
}
