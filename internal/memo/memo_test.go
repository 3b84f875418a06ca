package memo_test

import (
	"sync"
	"testing"
	"time"

	"poczta.example/poczta/internal/memo"
)

var start = time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)

func TestMemo(t *testing.T) {
	t.Parallel()
	m := memo.New[string, int](100, time.Minute)
	if v, fresh := m.Get("a", start); v != 0 || fresh {
		t.Errorf("nothing was put: %d, %v", v, fresh)
	}
	m.Put("a", 1, start)
	for _, tt := range []struct {
		after time.Duration
		fresh bool
	}{{0, true}, {time.Minute - 1, true}, {time.Minute, false}, {time.Hour, false}} {
		if v, fresh := m.Get("a", start.Add(tt.after)); v != 1 || fresh != tt.fresh {
			t.Errorf("after %v: %d, %v", tt.after, v, fresh)
		}
	}
	m.Put("a", 2, start.Add(time.Minute))
	if v, fresh := m.Get("a", start.Add(90*time.Second)); v != 2 || !fresh {
		t.Errorf("put anew: %d, %v", v, fresh)
	}
	m.Put("b", 3, start)
	m.Forget("a")
	m.ForgetAll(func(k string) bool { return k == "b" })
	if n := m.Len(); n != 0 {
		t.Errorf("%d are kept after all were forgotten", n)
	}
}

func TestMemoIsBounded(t *testing.T) {
	t.Parallel()
	m := memo.New[int, int](160, time.Minute)
	var group sync.WaitGroup
	for g := range 4 {
		group.Go(func() {
			for i := range 5000 {
				m.Put(g*5000+i, i, start)
			}
		})
	}
	group.Wait()
	if n := m.Len(); n > 160 || n < 100 {
		t.Errorf("%d are kept, want at most 160 and about as many", n)
	}
	late := start.Add(time.Hour)
	m.Put(-1, 7, late)
	if v, fresh := m.Get(-1, late); v != 7 || !fresh {
		t.Error("a full table takes no new answer")
	}
}
