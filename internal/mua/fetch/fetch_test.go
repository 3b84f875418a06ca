package fetch_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/mailtest/poppeer"
	"poczta.example/poczta/internal/mua/fetch"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
	"poczta.example/poczta/internal/pop3client"
)

func TestFetchesOnceAndLeaves(t *testing.T) {
	t.Parallel()
	mail := poppeer.Letters(300, 900)
	h := newHouse(t, poppeer.Config{Messages: mail}, profile.Leave)
	if res := h.sync(t); res.Fetched != 300 || res.Deleted != 0 || res.OnServer != 300 {
		t.Errorf("first: %+v", res)
	}
	h.mustHold(t, "first", mail)
	if last := h.done[len(h.done)-1]; last.Letters != 300 || last.TotalLetters != 300 || last.Octets != last.TotalOctets {
		t.Errorf("progress ends with %+v", last)
	}
	if res := h.sync(t); res.Fetched != 0 {
		t.Errorf("again: %+v", res)
	}
	more := append(slices.Clone(mail[100:]), poppeer.Message{ID: "new", Data: []byte("Subject: new\r\n\r\nhello\r\n")})
	h.peer.SetMessages(more...)
	if res := h.sync(t); res.Fetched != 1 || res.Recognised != 0 {
		t.Errorf("one more: %+v", res)
	}
	for id, n := range h.peer.Given() {
		if n != 1 {
			t.Errorf("%s was given %d times", id, n)
		}
	}
	if d := h.peer.Deleted(); len(d) != 0 {
		t.Errorf("deleted %v", d)
	}
}

func TestDeletesByPolicy(t *testing.T) {
	t.Parallel()
	mail := poppeer.Letters(5, 300)
	t.Run("at once", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t, poppeer.Config{Messages: mail}, profile.Fetched)
		if res := h.sync(t); res.Fetched != 5 || res.Deleted != 5 || len(h.peer.Messages()) != 0 {
			t.Errorf("%+v", res)
		}
		h.mustHold(t, "after", mail)
	})
	t.Run("after days", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t, poppeer.Config{Messages: mail}, profile.Days)
		h.sync(t)
		h.now = h.now.Add(7*24*time.Hour - time.Minute)
		if res := h.sync(t); res.Deleted != 0 {
			t.Errorf("too early: %+v", res)
		}
		h.now = h.now.Add(time.Minute)
		if res := h.sync(t); res.Deleted != 5 || len(h.peer.Messages()) != 0 {
			t.Errorf("in time: %+v", res)
		}
		h.mustHold(t, "after", mail)
	})
	t.Run("following the person", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t, poppeer.Config{Messages: mail}, profile.Leave)
		h.account.Policy.Follow = true
		h.sync(t)
		page, err := h.store.List(t.Context(), store.Query{})
		if err != nil {
			t.Fatal(err)
		}
		id := page.Letters[0].ID
		for range 2 { // into Trash, and out of it
			if res := h.sync(t); res.Deleted != 0 {
				t.Errorf("%+v while the letter is in a folder", res)
			}
			if _, err := h.store.Remove(t.Context(), []store.LetterID{id}); err != nil {
				t.Fatal(err)
			}
		}
		if res := h.sync(t); res.Deleted != 1 || len(h.peer.Messages()) != 4 {
			t.Errorf("%+v", res)
		}
	})
}

// TestChangedUniqueIDs renames everything on the server.
func TestChangedUniqueIDs(t *testing.T) {
	t.Parallel()
	mail := poppeer.Letters(40, 500)
	for _, tt := range []struct {
		name string
		cfg  poppeer.Config
		keep profile.Keep
		want fetch.Result
	}{
		{"left there", poppeer.Config{}, profile.Leave, fetch.Result{Recognised: 40}},
		{"without TOP", poppeer.Config{NoTOP: true, Capabilities: []string{"USER", "UIDL", "PIPELINING"}}, profile.Leave, fetch.Result{Recognised: 40}},
		{"to be deleted", poppeer.Config{}, profile.Days, fetch.Result{Recognised: 40}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.cfg.Messages = mail
			h := newHouse(t, tt.cfg, tt.keep)
			h.sync(t)
			h.peer.ChangeIDs(func(id string) string { return "new-" + id })
			if res := h.sync(t); res.Fetched != tt.want.Fetched || res.Recognised != tt.want.Recognised || res.Deleted != tt.want.Deleted {
				t.Errorf("%+v", res)
			}
			if res := h.sync(t); res.Fetched != 0 || res.Recognised != 0 {
				t.Errorf("again: %+v", res)
			}
			h.mustHold(t, "then", mail)
			if tt.keep != profile.Days {
				return
			}
			given := maps.Clone(h.peer.Given())
			h.now = h.now.Add(8 * 24 * time.Hour)
			if res := h.sync(t); res.Deleted != 40 {
				t.Errorf("when due: %+v", res)
			}
			for _, id := range h.peer.Deleted() {
				if h.peer.Given()[id] == given[id] {
					t.Errorf("%s was deleted without having been compared whole", id)
				}
			}
		})
	}
}

// TestTakenForAnother has a new letter with the header section and size of one that is here.
func TestTakenForAnother(t *testing.T) {
	t.Parallel()
	h := newHouse(t, poppeer.Config{Messages: []poppeer.Message{{ID: "1", Data: []byte("Subject: bill\r\n\r\nfirst\r\n")}}}, profile.Leave)
	h.sync(t)
	other := poppeer.Message{ID: "2", Data: []byte("Subject: bill\r\n\r\nother\r\n")}
	h.peer.SetMessages(other)
	if res := h.sync(t); res.Recognised != 1 {
		t.Errorf("%+v", res)
	}
	h.account.Policy.Keep = profile.Fetched
	if res := h.sync(t); res.Deleted != 0 {
		t.Errorf("deleted what is not here: %+v", res)
	}
	h.sync(t)
	if got := letters(t, h.store); len(got) != 2 || !slices.Contains(got, string(other.Data)) {
		t.Errorf("here are %q", got)
	}
}

// TestOddServers fetches three times from servers that know little or err: nothing comes twice.
func TestOddServers(t *testing.T) {
	t.Parallel()
	plain := []string{"USER", "PIPELINING"}
	same := poppeer.Letters(3, 300)
	same = append(same, poppeer.Message{ID: "twin", Data: same[0].Data})
	rule := func(stage poppeer.Stage, f poppeer.Fault) []poppeer.Rule {
		return []poppeer.Rule{{Stage: stage, Do: f}}
	}
	for _, tt := range []struct {
		name  string
		cfg   poppeer.Config
		again int // letters given a second and third time
	}{
		{"nothing odd", poppeer.Config{}, 0},
		{"no UIDL", poppeer.Config{NoUIDL: true, Capabilities: []string{"USER", "PIPELINING", "TOP"}}, 0},
		{"no UIDL, no CAPA", poppeer.Config{NoUIDL: true, NoCAPA: true}, 0},
		{"no UIDL, no TOP", poppeer.Config{NoUIDL: true, NoTOP: true, Capabilities: plain}, 2},
		{"no UIDL, no TOP, no CAPA", poppeer.Config{NoUIDL: true, NoTOP: true, NoCAPA: true}, 2},
		{"all unique-ids alike", poppeer.Config{Rules: rule(poppeer.Uidl, poppeer.SameIDs())}, 0},
		{"illegal unique-ids", poppeer.Config{Rules: rule(poppeer.Uidl, poppeer.BadIDs())}, 0},
		{"wrong sizes", poppeer.Config{Rules: rule(poppeer.List, poppeer.WrongSizes())}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.cfg.Messages = same
			h := newHouse(t, tt.cfg, profile.Leave)
			for i := range 3 {
				h.sync(t)
				h.mustHold(t, fmt.Sprintf("fetch %d", i+1), same)
			}
			given := 0
			for _, n := range h.peer.Given() {
				given += n
			}
			if want := 4 * (1 + tt.again); given != want {
				t.Errorf("%d letters were given, want %d", given, want)
			}
			h.account.Policy.Keep = profile.Fetched
			h.sync(t)
			if left := len(h.peer.Messages()); left != 0 {
				t.Errorf("%d letters stay on the server", left)
			}
			h.mustHold(t, "deleted there", same)
		})
	}
}

// TestSameNameAnotherLetter reuses a unique-id, with another size and with the same after a deletion.
func TestSameNameAnotherLetter(t *testing.T) {
	t.Parallel()
	a, b := poppeer.Message{ID: "1", Data: []byte("Subject: a\r\n\r\na\r\n")}, poppeer.Message{ID: "1", Data: []byte("Subject: b\r\n\r\nb, longer\r\n")}
	c := poppeer.Message{ID: "1", Data: []byte("Subject: c\r\n\r\nc, longer\r\n")}
	h := newHouse(t, poppeer.Config{Messages: []poppeer.Message{a}}, profile.Leave)
	h.sync(t)
	h.peer.SetMessages(b)
	h.sync(t)
	h.mustHold(t, "another size", []poppeer.Message{a, b})
	h.account.Policy.Keep = profile.Fetched
	h.sync(t)
	h.sync(t) // it is gone
	h.peer.SetMessages(c)
	h.sync(t)
	h.mustHold(t, "after a deletion", []poppeer.Message{a, b, c})
}

func TestDeletionWithoutEffect(t *testing.T) {
	t.Parallel()
	mail := poppeer.Letters(3, 200)
	h := newHouse(t, poppeer.Config{Messages: mail, Rules: []poppeer.Rule{{Stage: poppeer.Quit, Times: 1, Do: poppeer.Reply("+OK bye")}}}, profile.Fetched)
	h.sync(t)
	if n := len(h.peer.Messages()); n != 3 {
		t.Fatalf("%d letters are left on the server", n)
	}
	if res := h.sync(t); res.Fetched != 0 || res.Deleted != 3 || len(res.Remarks) != 3 || len(h.peer.Messages()) != 0 {
		t.Errorf("%+v", res)
	}
	h.mustHold(t, "then", mail)
}

func TestHeadersFirst(t *testing.T) {
	t.Parallel()
	mail := append(poppeer.Letters(3, 200), poppeer.Message{ID: "large", Data: []byte("Subject: large\r\n\r\n" + strings.Repeat("0123456789\r\n", 500))})
	for _, noTop := range []bool{false, true} {
		h := newHouse(t, poppeer.Config{Messages: mail, NoTOP: noTop}, profile.Fetched)
		h.account.Policy.HeadersAbove = 1000
		res := h.sync(t)
		if noTop {
			if res.Fetched != 4 || res.Deleted != 4 {
				t.Errorf("TOP is refused: %+v", res)
			}
			continue
		}
		if res.Headers != 1 || res.Fetched != 3 || res.Deleted != 3 {
			t.Errorf("%+v", res)
		}
		page, err := h.store.List(t.Context(), store.Query{Text: "subject:large"})
		if err != nil || len(page.Letters) != 1 || !page.Letters[0].Partial {
			page, err = h.store.List(t.Context(), store.Query{})
			if err != nil {
				t.Fatal(err)
			}
		}
		i := slices.IndexFunc(page.Letters, func(m store.Summary) bool { return m.Partial })
		if i < 0 {
			t.Fatalf("no letter is partial: %+v", page.Letters)
		}
		if err := h.Complete(t.Context(), h.account, page.Letters[i].ID); err != nil {
			t.Fatal(err)
		}
		h.mustHold(t, "completed", mail)
		if res := h.sync(t); res.Deleted != 1 || len(h.peer.Messages()) != 0 {
			t.Errorf("after completion: %+v", res)
		}
	}
}

// TestCutLetter has a server end a letter early, once.
func TestCutLetter(t *testing.T) {
	t.Parallel()
	mail := poppeer.Letters(1, 3000)
	cut := poppeer.Reply("+OK", "Message-ID: <1@peer.example>", "Subject: half", "", "half of it", ".")
	h := newHouse(t, poppeer.Config{Messages: mail, Rules: []poppeer.Rule{{Stage: poppeer.Retr, Times: 1, Do: cut}}}, profile.Fetched)
	if res := h.sync(t); len(res.Remarks) == 0 || res.Deleted != 0 {
		t.Errorf("%+v", res)
	}
	h.sync(t)
	h.sync(t)
	h.mustHold(t, "in the end", mail)
	if len(h.peer.Messages()) != 0 {
		t.Error("the letter stays on the server")
	}
}

// TestLettersRunTogether has a server leave out a final dot between letters that were asked for ahead.
func TestLettersRunTogether(t *testing.T) {
	t.Parallel()
	mail := poppeer.Letters(4, 300)
	h := newHouse(t, poppeer.Config{Messages: mail, Rules: []poppeer.Rule{{Stage: poppeer.Retr, Match: "2", Times: 1, Do: poppeer.NoDot()}}}, profile.Leave)
	h.timeouts = quick
	for range 4 {
		_, _ = h.Sync(t.Context(), h.account) // the first one fails
		h.timeouts, h.now = pop3client.Timeouts{}, h.now.Add(time.Minute)
	}
	h.mustHold(t, "in the end", mail)
}

func TestDamagedHereStaysThere(t *testing.T) {
	t.Parallel()
	mail := poppeer.Letters(1, 200)
	h := newHouse(t, poppeer.Config{Messages: mail}, profile.Leave)
	h.sync(t)
	damage(t, h)
	h.account.Policy.Keep = profile.Fetched
	if res := h.sync(t); res.Deleted != 0 || len(res.Remarks) != 1 || len(h.peer.Messages()) != 1 {
		t.Errorf("%+v with %d letters on the server", res, len(h.peer.Messages()))
	}
	h.mustHold(t, "when it was fetched again", mail)
	if res := h.sync(t); res.Deleted != 1 || len(res.Remarks) != 0 {
		t.Errorf("after that: %+v", res)
	}
}

// TestTwoAtOnce has a second look wait for the first, and end with its own context.
func TestTwoAtOnce(t *testing.T) {
	t.Parallel()
	greeted, proceed := make(chan struct{}), make(chan struct{})
	h := newHouse(t, poppeer.Config{Messages: poppeer.Letters(1, 200)}, profile.Leave)
	h.before = func() { close(greeted); <-proceed }
	type outcome struct {
		fetch.Result
		err error
	}
	look := func(ctx context.Context) chan outcome {
		c := make(chan outcome, 1)
		go func() { res, err := h.Sync(ctx, h.account); c <- outcome{res, err} }()
		return c
	}
	first := look(t.Context())
	<-greeted
	h.before = nil
	hurried, stop := context.WithCancel(t.Context())
	given, second := look(hurried), look(t.Context())
	stop()
	if o := <-given; !errors.Is(o.err, context.Canceled) {
		t.Errorf("one that does not wait: %+v", o)
	}
	close(proceed)
	if o := <-first; o.err != nil || o.Fetched != 1 {
		t.Errorf("first: %+v", o)
	}
	if o := <-second; o.err != nil || o.Fetched != 0 || o.OnServer != 1 {
		t.Errorf("second: %+v", o)
	}
}

func TestRefusedLetter(t *testing.T) {
	t.Parallel()
	mail := poppeer.Letters(3, 200)
	h := newHouse(t, poppeer.Config{Messages: mail, Rules: []poppeer.Rule{{Stage: poppeer.Retr, Match: "2", Times: 1, Do: poppeer.Reply("-ERR [SYS/TEMP] locked")}}}, profile.Fetched)
	if res := h.sync(t); res.Fetched != 2 || res.Deleted != 2 || len(res.Refused) != 1 || !strings.Contains(res.Refused[0], "locked") {
		t.Errorf("%+v", res)
	}
	h.sync(t)
	h.mustHold(t, "in the end", mail)
}

// TestEveryFaultAtEveryStage lets each fault happen once, then fetches in peace. At every moment
// what the server deleted lies here; in the end here is exactly what was there.
func TestEveryFaultAtEveryStage(t *testing.T) {
	t.Parallel()
	faults := []poppeer.Fault{
		poppeer.Reply("-ERR no"), poppeer.Reply("-ERR [SYS/TEMP] later"), poppeer.Reply("+OK"), poppeer.Drop(), poppeer.RST(), poppeer.Stall(), poppeer.Garbage(),
		poppeer.EndlessLine(), poppeer.Extra(), poppeer.NoDot(), poppeer.NoDot().ThenDrop(), poppeer.Missing(), poppeer.Twice(), poppeer.Stranger(), poppeer.Backwards(), poppeer.Reply("-ERR").ThenDrop(),
	}
	mail := poppeer.Letters(6, 700)
	for _, stage := range poppeer.Stages() {
		if stage == poppeer.Stls || stage == poppeer.Handshake || stage == poppeer.Auth {
			continue
		}
		t.Run(stage.String(), func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, poppeer.Config{}, profile.Fetched)
			for _, f := range faults {
				for _, match := range []string{"", "4"} {
					if match != "" && stage < poppeer.Retr {
						continue
					}
					rule := poppeer.Rule{Stage: stage, Match: match, Times: 1, Do: f.AfterOctets(100)}
					h.another(t, poppeer.Config{Messages: mail, Rules: []poppeer.Rule{rule}}, profile.Fetched)
					for i := 0; i < 8 && (i < 2 || len(h.peer.Messages()) > 0); i++ {
						if h.timeouts = quick; i > 3 { // the fault is over
							h.timeouts = pop3client.Timeouts{}
						}
						_, err := h.Sync(t.Context(), h.account)
						if i > 3 && err != nil { // before, a fetch may still meet a fault that those so far had no time to reach
							t.Errorf("%s %s: fetch %d: %v", stage, f, i+1, err)
						}
						here := letters(t, h.store, h.account.ID)
						for _, id := range h.peer.Deleted() {
							k := slices.IndexFunc(mail, func(m poppeer.Message) bool { return m.ID == id })
							if !slices.Contains(here, string(mail[k].Data)) {
								t.Fatalf("%s %s: %s was deleted and is not here", stage, f, id)
							}
						}
					}
					h.mustHold(t, fmt.Sprintf("%s %s %q", stage, f, match), mail)
					if n := len(h.peer.Messages()); n != 0 {
						t.Errorf("%s %s: %d letters stay on the server", stage, f, n)
					}
				}
			}
		})
	}
}

func TestKinds(t *testing.T) {
	t.Parallel()
	h := newHouse(t, poppeer.Config{Rules: []poppeer.Rule{{Stage: poppeer.Pass, Do: poppeer.Reply("-ERR [AUTH] wrong")}}}, profile.Leave)
	_, err := h.Sync(t.Context(), h.account)
	if pop3client.KindOf(err) != pop3client.KindCredentials {
		t.Errorf("%v is of kind %v", err, pop3client.KindOf(err))
	}
}
