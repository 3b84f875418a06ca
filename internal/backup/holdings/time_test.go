package holdings_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/backup/holdings"
	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/mailbox"
)

// past is a house at some time, and its backup.
type past struct {
	at     time.Time
	states [][]state // by account
	next   map[string]mailbox.UID
}

// history makes a house that changes, with a backup of each day: letters come, are marked, go.
func history(t *testing.T, d db.Database, r *backup.Repository) (h *house, days []past) {
	t.Helper()
	h = open(t, d)
	h.furnish(t, 2)
	for day := range 3 {
		for i := range 24 {
			h.put(t, i%2, h.letter(t, 100*day+i, 300+i*70))
		}
		if day > 0 {
			if _, err := h.mail.SetFlags(t.Context(), mailbox.FlagChange{Account: h.ids[0], Login: login(0), Mailbox: "INBOX", UIDs: []mailbox.UID{mailbox.UID(2 * day)}, Set: mailbox.Seen | mailbox.Flagged}); err != nil {
				t.Fatal(err)
			}
			if _, err := h.mail.Remove(t.Context(), h.ids[0], login(0), "INBOX", []mailbox.UID{mailbox.UID(2*day - 1)}); err != nil {
				t.Fatal(err)
			}
		}
		p := past{at: time.Date(2026, 11, 20+day, 3, 0, 0, 0, time.UTC), next: map[string]mailbox.UID{}}
		m := h.moment(t)
		_, err := r.Create(t.Context(), m, p.at)
		if err := errors.Join(err, m.Close()); err != nil {
			t.Fatal(err)
		}
		for _, id := range h.ids {
			p.states = append(p.states, h.state(t, id))
		}
		all, err := h.mail.Mailboxes(t.Context(), h.ids[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range all {
			p.next[b.Name] = b.UIDNext
		}
		days = append(days, p)
	}
	return h, days
}

// listing is what UIDL would say of each mailbox, and the flags.
func listing(all []state) string {
	var b strings.Builder
	in, n := "", 0
	for _, s := range all {
		if s.Mailbox != in {
			in, n = s.Mailbox, 0
			fmt.Fprintf(&b, "%s\r\n", in)
		}
		n++
		fmt.Fprintf(&b, "%d %s %d %d\r\n", n, s.UniqueID, s.Octets, s.Flags)
	}
	return b.String()
}

// laptop is a person's store.
func laptop(t *testing.T) *house {
	t.Helper()
	h := open(t, dbtest.SQLite(t))
	if err := db.Migrate(t.Context(), h.db, []db.Component{body.Schema, mailbox.Schema, index}); err != nil {
		t.Fatal(err)
	}
	h.ids = append(h.ids, 7, 8)
	return h
}

// TestPointInTime restores everything, an account and one letter as of each of three days onto empty
// machines of both engines, and an account into a person's store and from there into a server's.
func TestPointInTime(t *testing.T) {
	t.Parallel()
	for name, engine := range engines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := repository(t, disk.NewFault(9))
			_, days := history(t, engine(t), r)
			if _, err := r.At(t.Context(), "server", days[0].at.Add(-time.Second)); !errors.Is(err, backup.ErrNotFound) {
				t.Errorf("before the first: %v", err)
			}
			for i, day := range days {
				s, err := r.At(t.Context(), "server", day.at.Add(time.Duration(i)*11*time.Hour))
				if err != nil || !s.Time.Equal(day.at) {
					t.Fatalf("day %d: %+v, %v", i, s, err)
				}
				for to, empty := range engines {
					t.Run(fmt.Sprintf("day %d to %s", i, to), func(t *testing.T) { // one after the other: a repository is for one
						day.whole(t, r, s, empty(t))
						fresh := open(t, empty(t))
						fresh.furnish(t, 2)
						day.account(t, r, s, fresh)
					})
				}
				t.Run(fmt.Sprintf("day %d to a person", i), func(t *testing.T) {
					person := laptop(t)
					day.account(t, r, s, person)
					day.back(t, person)
				})
			}
		})
	}
}

// whole restores everything onto an empty machine: what comes then has uids that nothing had.
func (p past) whole(t *testing.T, r *backup.Repository, s *backup.Snapshot, d db.Database) {
	t.Helper()
	h, _ := restoreAll(t, r, s, d)
	h.ids = nil
	for i := range p.states {
		a, err := h.accounts.Get(t.Context(), login(i))
		if err != nil {
			t.Fatal(err)
		}
		h.ids = append(h.ids, a.ID)
		got := h.state(t, a.ID)
		if diff := cmp.Diff(listing(p.states[i]), listing(got)); diff != "" {
			t.Errorf("UIDL of account %d (-want +got):\n%s", i, diff)
		}
		if diff := cmp.Diff(p.states[i], got); diff != "" {
			t.Errorf("account %d (-want +got):\n%s", i, diff)
		}
	}
	h.put(t, 0, h.letter(t, 9000, 400))
	for _, st := range h.state(t, h.ids[0]) {
		if st.UniqueID == "uid-9000" && st.UID < p.next[st.Mailbox] {
			t.Errorf("the next letter has uid %d in %s, where %d was to come", st.UID, st.Mailbox, p.next[st.Mailbox])
		}
	}
}

// account restores one letter of an account, then the rest, into one that is empty.
func (p past) account(t *testing.T, r *backup.Repository, s *backup.Snapshot, h *house) {
	t.Helper()
	room := holdings.Mailroom{Body: h.body, Mailboxes: h.mail, Account: h.ids[0], Login: login(0)}
	want := p.states[0]
	one := want[len(want)/2]
	done, err := holdings.Mail(t.Context(), r, s, holdings.Selection{Account: login(0), UniqueID: one.UniqueID}, room)
	if err != nil || done.Messages != 1 {
		t.Fatalf("one letter: %+v, %v", done, err)
	}
	sameButUIDs(t, []state{one}, h.state(t, h.ids[0]))
	for _, wanted := range []int64{int64(len(want)) - 1, 0} {
		done, err = holdings.Mail(t.Context(), r, s, holdings.Selection{Account: login(0)}, room)
		if err != nil || done.Messages != wanted {
			t.Errorf("the account: %+v, %v; want %d", done, err, wanted)
		}
	}
	sameButUIDs(t, want, h.state(t, h.ids[0]))
	empty := holdings.Mailroom{Body: h.body, Mailboxes: h.mail, Account: h.ids[1], Login: login(1)}
	if _, err := holdings.Mail(t.Context(), r, s, holdings.Selection{Account: login(1)}, empty); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(listing(p.states[1]), listing(h.state(t, h.ids[1]))); diff != "" {
		t.Errorf("UIDL in an empty account (-want +got):\n%s", diff)
	}
}

// back backs the person's store up and restores from there into mailboxes of servers.
func (p past) back(t *testing.T, person *house) {
	t.Helper()
	c := holdings.Config{Kind: "person", DB: person.db, Body: person.body, Components: []db.Component{body.Schema, mailbox.Schema, index}, Scratch: person.scratch, Skip: []string{"summary"},
		Accounts: func(_ context.Context, _ db.Database, fn func(holdings.Account) error) error {
			for i, id := range person.ids {
				if err := fn(holdings.Account{ID: id, Login: login(i)}); err != nil {
					return err
				}
			}
			return nil
		}}
	m, err := holdings.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	r := repository(t, disk.NewFault(4))
	_, err = r.Create(t.Context(), m, m.Time())
	if err := errors.Join(err, m.Close()); err != nil {
		t.Fatal(err)
	}
	s, err := r.At(t.Context(), "person", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	for name, engine := range engines {
		server := open(t, engine(t))
		server.furnish(t, 2)
		room := holdings.Mailroom{Body: server.body, Mailboxes: server.mail, Account: server.ids[1], Login: login(1)}
		if _, err := holdings.Mail(t.Context(), r, s, holdings.Selection{Account: login(1)}, room); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(listing(p.states[1]), listing(server.state(t, server.ids[1]))); diff != "" {
			t.Errorf("UIDL on %s, by way of the person (-want +got):\n%s", name, diff)
		}
	}
}
