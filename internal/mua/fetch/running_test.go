package fetch_test

import (
	"testing"

	"poczta.example/poczta/internal/mailtest/poppeer"
	"poczta.example/poczta/internal/mua/fetch"
	"poczta.example/poczta/internal/mua/profile"
)

// TestRunning asks how far a fetch is while it runs, from before anything is known to its end.
func TestRunning(t *testing.T) {
	t.Parallel()
	h := newHouse(t, poppeer.Config{Messages: poppeer.Letters(20, 500)}, profile.Leave)
	var early, most fetch.Progress
	h.before = func() {
		if all := h.Running(); len(all) == 1 {
			early = all[0]
		}
	}
	h.told = func(p fetch.Progress) {
		if all := h.Running(); len(all) != 1 || all[0] != p {
			t.Errorf("%+v was told, %+v runs", p, all)
		} else if p.Letters > most.Letters {
			most = p
		}
	}
	h.sync(t)
	if early != (fetch.Progress{Account: h.account.ID}) || most.Letters != 20 || most.TotalLetters != 20 {
		t.Errorf("%+v before the login, %+v at most", early, most)
	}
	if all := h.Running(); len(all) != 0 {
		t.Errorf("%+v runs after the end", all)
	}
}
