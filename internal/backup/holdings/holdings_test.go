package holdings_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/backup/holdings"
	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/trace"
)

func components() []db.Component {
	return []db.Component{account.Component(), body.Schema, mailbox.Schema, queue.Schema, trace.Schema}
}

// house is a store for tests.
type house struct {
	db       db.Database
	body     body.Store
	segments *body.Segments
	mail     *mailbox.Store
	accounts *account.Accounts
	scratch  string
	ids      []envelope.AccountID
}

// engines makes an empty database of each engine.
var engines = map[string]func(t *testing.T) db.Database{
	"sqlite":     func(t *testing.T) db.Database { return dbtest.SQLite(t) },
	"postgresql": func(t *testing.T) db.Database { return dbtest.Postgres(t) },
}

// open builds a house over a database: on segments, or on rows for PostgreSQL.
func open(t *testing.T, d db.Database) *house {
	t.Helper()
	h := &house{db: d, scratch: filepath.Join(t.TempDir(), "moment.db")}
	var journal body.Journal
	if d.Engine() == "sqlite" {
		s, err := body.OpenSegments(t.Context(), body.Config{FS: disk.NewFault(1), DB: d, StoreID: d.StoreID(), SegmentOctets: 64 << 10, LargeOctets: 16 << 10, Grace: time.Nanosecond})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		h.body, h.segments, journal = s, s, s
	} else {
		rows, err := body.NewRows(body.RowsConfig{DB: d})
		if err != nil {
			t.Fatal(err)
		}
		h.body = rows
	}
	var err error
	if h.mail, err = mailbox.New(mailbox.Config{DB: d, Body: h.body, Journal: journal}); err != nil {
		t.Fatal(err)
	}
	if h.accounts, err = account.New(account.Config{DB: d, Separator: "+", Iterations: 4096}); err != nil {
		t.Fatal(err)
	}
	return h
}

// furnish makes n accounts.
func (h *house) furnish(t *testing.T, n int) {
	t.Helper()
	if err := db.Migrate(t.Context(), h.db, components()); err != nil {
		t.Fatal(err)
	}
	domain, err := address.ParseDomain("example.org")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.accounts.AddDomain(t.Context(), domain); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		a, err := address.Parse(fmt.Sprintf("person%d@example.org", i))
		if err != nil {
			t.Fatal(err)
		}
		made, err := h.accounts.Add(t.Context(), account.NewAccount{Address: a, Password: "correct horse"})
		if err != nil {
			t.Fatal(err)
		}
		h.ids = append(h.ids, made.ID)
	}
}

func login(i int) string { return fmt.Sprintf("person%d@example.org", i) }

// put imports letters into an account.
func (h *house) put(t *testing.T, i int, letters ...mailbox.Import) {
	t.Helper()
	for batch := range slices.Chunk(letters, mailbox.MaxAppend) {
		if _, err := h.mail.Append(t.Context(), h.ids[i], login(i), batch); err != nil {
			t.Fatal(err)
		}
	}
}

// letter stages a letter of about size octets.
func (h *house) letter(t *testing.T, n, size int) mailbox.Import {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "From: =?utf-8?q?Za=C5=BC=C3=B3=C5=82=C4=87?= <z@example.com>\r\nSubject: letter %d\r\nMessage-ID: <%d@example.com>\r\n\r\n", n, n)
	r := rand.New(rand.NewPCG(uint64(n), 7))
	for b.Len() < size {
		fmt.Fprintf(&b, "%d %x %x %x\r\n", n, r.Uint64(), r.Uint64(), r.Uint64())
	}
	text := b.String()
	st, err := h.body.Stage(t.Context(), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(st, text); err != nil {
		t.Fatal(err)
	}
	return mailbox.Import{Mailbox: []string{"INBOX", "Work/Offers", "Zażółć"}[n%3], Flags: mailbox.Flags(n % 32), UniqueID: fmt.Sprintf("uid-%d", n),
		Received: time.UnixMicro(1_700_000_000_000_000 + int64(n)).UTC(), Staged: st}
}

func (h *house) source() holdings.Config {
	return holdings.Config{Kind: "server", DB: h.db, Body: h.body, Components: components(), Scratch: h.scratch,
		Skip: []string{"maildrop_lock", "node", "queued_shard"},
		Accounts: func(ctx context.Context, d db.Database, fn func(holdings.Account) error) error {
			return account.Each(ctx, d, func(id envelope.AccountID, login, addr string) error {
				return fn(holdings.Account{ID: id, Login: login, Address: addr})
			})
		},
		Files: func() ([]holdings.File, error) {
			return []holdings.File{{Name: "poczta.toml", Octets: []byte("hostname = \"a\"\n")}}, nil
		}}
}

// moment takes a moment; the caller closes it.
func (h *house) moment(t *testing.T) *holdings.Moment {
	t.Helper()
	m, err := holdings.Open(t.Context(), h.source())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// repository opens a repository in a folder in memory, or makes it.
func repository(t *testing.T, f disk.FS) *backup.Repository {
	t.Helper()
	r, err := backup.OpenOrInit(t.Context(), backup.Config{Target: backup.NewFolder(f, "."), Key: backup.Key{Passphrase: "correct horse", WorkFactor: 4}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// save makes a backup of the house as it is.
func (h *house) save(t *testing.T, r *backup.Repository) *backup.Snapshot {
	t.Helper()
	m := h.moment(t)
	report, err := r.Create(t.Context(), m, m.Time())
	if err := errors.Join(err, m.Close()); err != nil {
		t.Fatal(err)
	}
	s, err := r.Snapshot(t.Context(), report.Snapshot)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// state is what people see of an account: mailboxes with their letters.
type state struct {
	Mailbox, UniqueID string
	Flags             mailbox.Flags
	UID               mailbox.UID
	Received          time.Time
	Octets            int64
	SHA256            [32]byte
}

func (h *house) state(t *testing.T, id envelope.AccountID) (all []state) {
	t.Helper()
	err := h.mail.Walk(t.Context(), id, func(e mailbox.Entry) error {
		rd, err := h.mail.OpenEntry(t.Context(), &e)
		if err != nil {
			return err
		}
		defer rd.Close()
		octets, err := io.ReadAll(rd)
		all = append(all, state{e.Mailbox, e.UniqueID, e.Flags, e.UID, e.Received, e.Octets, sha256.Sum256(octets)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func (h *house) validities(t *testing.T, id envelope.AccountID) map[string]uint32 {
	t.Helper()
	all, err := h.mail.Mailboxes(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]uint32)
	for _, m := range all {
		out[m.Name] = m.UIDValidity
	}
	return out
}

// restoreAll restores a snapshot to an empty database of an engine.
func restoreAll(t *testing.T, r *backup.Repository, s *backup.Snapshot, d db.Database) (*house, holdings.Restored) {
	t.Helper()
	h := open(t, d)
	tr, err := trace.New(trace.Config{DB: d})
	if err != nil {
		t.Fatal(err)
	}
	q, err := queue.New(queue.Config{DB: d, Trace: tr})
	if err != nil {
		t.Fatal(err)
	}
	done, err := holdings.All(t.Context(), r, s, holdings.Into{DB: d, Body: h.body, Components: components(), Mailboxes: h.mail, Hold: q.HoldAll})
	if err != nil {
		t.Fatal(err)
	}
	return h, done
}

// TestAllBetweenEngines backs up each engine and restores to each.
func TestAllBetweenEngines(t *testing.T) {
	t.Parallel()
	for from, makeFrom := range engines {
		for to, makeTo := range engines {
			t.Run(from+" to "+to, func(t *testing.T) {
				t.Parallel()
				h := open(t, makeFrom(t))
				h.furnish(t, 3)
				for i := range 120 {
					h.put(t, i%3, h.letter(t, i, 300+i*40))
				}
				h.put(t, 0, h.letter(t, 3000, 3<<20))
				removed, err := h.mail.Remove(t.Context(), h.ids[1], login(1), "INBOX", []mailbox.UID{1})
				if err != nil {
					t.Fatal(err)
				}
				queueLetter(t, h)
				r := repository(t, disk.NewFault(9))
				s := h.save(t, r)
				var before [][]state
				for i := range h.ids {
					before = append(before, h.state(t, h.ids[i]))
				}
				old := h.validities(t, h.ids[0])
				again, done := restoreAll(t, r, s, makeTo(t))
				for i, want := range before {
					if diff := cmp.Diff(want, again.state(t, h.ids[i])); diff != "" {
						t.Errorf("account %d (-want +got):\n%s", i, diff)
					}
				}
				for name, v := range again.validities(t, h.ids[0]) {
					if v <= old[name] {
						t.Errorf("UIDVALIDITY of %s is %d, was %d: it must rise", name, v, old[name])
					}
				}
				if done.Messages != 121-int64(removed) || done.Retained != int64(removed) || done.Held != 1 || done.Lost != 0 || done.Accounts != 3 {
					t.Errorf("restored: %+v", done)
				}
				if _, err := again.accounts.Get(t.Context(), login(2)); err != nil {
					t.Errorf("account: %v", err)
				}
				if err := holdings.Unfinished(t.Context(), again.db); err != nil {
					t.Errorf("unfinished: %v", err)
				}
				next, err := again.accounts.Add(t.Context(), account.NewAccount{Address: mustAddress(t, "next@example.org"), Password: "correct horse"})
				if err != nil || slices.Contains(h.ids, next.ID) {
					t.Errorf("next account has id %d: %v", next.ID, err)
				}
				if n, err := again.mail.Restore(t.Context(), h.ids[1], login(1), mailbox.Selection{}); err != nil || n != removed {
					t.Errorf("put back %d from retention, want %d: %v", n, removed, err)
				}
			})
		}
	}
}

func mustAddress(t *testing.T, s string) address.Address {
	t.Helper()
	a, err := address.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// queueLetter puts a letter into the queue, by its rows.
func queueLetter(t *testing.T, h *house) {
	t.Helper()
	im := h.letter(t, 7777, 500)
	id := [16]byte{1, 2, 3, 4, 5, 6, 7}
	locs, release, err := h.body.Commit(t.Context(), []body.Record{{ID: id, Staged: im.Staged}})
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	err = h.db.Update(t.Context(), func(tx db.Tx) error {
		if err := body.Insert(tx, id, locs[0], 1); err != nil {
			return err
		}
		if _, err := tx.Exec(`INSERT INTO queued_message (id, queued, reverse_path, reverse_key, body_type, smtputf8, ret, envid, octets, account, login, priority, recipients)
			VALUES (?, 1, 'a@example.org', 'a@example.org', 0, 0, 0, '', 10, 1, 'a', 0, 1)`, id[:]); err != nil {
			return err
		}
		_, err := tx.Exec(`INSERT INTO queued_recipient (id, n, fate, forward_path, forward_key, destination, notify, orcpt_type, orcpt, state, attempts, next_attempt, priority, last_status)
			VALUES (?, 0, 0, 'b@example.net', 'b@example.net', 'example.net', 0, '', '', 0, 0, 0, 0, '')`, id[:])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestHot makes backups while mail arrives, is removed, purged and merged, and compares
// each with what a moment showed.
func TestHot(t *testing.T) {
	t.Parallel()
	for name, engine := range engines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := open(t, engine(t))
			h.furnish(t, 2)
			for i := range 200 {
				h.put(t, i%2, h.letter(t, i, 200+i*30))
			}
			r := repository(t, disk.NewFault(3))
			var wg sync.WaitGroup
			for round := range 4 {
				m := h.moment(t)
				want := [][]state{h.state(t, h.ids[0]), h.state(t, h.ids[1])} // nobody writes between the two
				stop := make(chan struct{})
				wg.Go(func() { h.disturb(t, 1000*(round+1), stop) })
				report, err := r.Create(t.Context(), m, m.Time())
				close(stop)
				wg.Wait()
				if err := errors.Join(err, m.Close()); err != nil {
					t.Fatal(err)
				}
				if report.Damaged > 0 {
					t.Errorf("round %d: %d items could not be read: %v", round, report.Damaged, report.Names)
				}
				s, err := r.Snapshot(t.Context(), report.Snapshot)
				if err != nil {
					t.Fatal(err)
				}
				again, _ := restoreAll(t, r, s, dbtest.SQLite(t))
				for i := range want {
					if diff := cmp.Diff(want[i], again.state(t, h.ids[i])); diff != "" {
						t.Errorf("round %d, account %d (-want +got):\n%s", round, i, diff)
					}
				}
			}
			if _, err := r.Verify(t.Context(), func(f backup.Fault) { t.Errorf("fault: %s", f.Text()) }); err != nil {
				t.Error(err)
			}
		})
	}
}

// disturb delivers, removes, purges and merges until stop, at least three times.
func (h *house) disturb(t *testing.T, n int, stop <-chan struct{}) {
	ctx := context.WithoutCancel(t.Context())
	for i := 0; ; i++ {
		id, who := h.ids[i%2], login(i%2)
		h.put(t, i%2, h.letter(t, n+i, 400))
		l, release, err := h.mail.Listing(ctx, id, "INBOX")
		if err != nil {
			t.Error(err)
			return
		}
		var uids []mailbox.UID
		for k := 0; k < l.Len() && k < 5; k++ {
			uids = append(uids, l.UID(k))
		}
		release()
		_, err = h.mail.Remove(ctx, id, who, "INBOX", uids)
		if err == nil {
			_, err = h.mail.Purge(ctx, id, mailbox.Selection{})
		}
		if err == nil && h.segments != nil {
			_, err = h.segments.Merge(ctx, body.MergeOptions{})
		}
		if err != nil {
			t.Errorf("disturb: %v", err)
			return
		}
		if i < 2 {
			continue
		}
		select {
		case <-stop:
			return
		default:
		}
	}
}

// TestMail restores letters of an account: back into it, into another, some of them.
func TestMail(t *testing.T) {
	t.Parallel()
	for name, engine := range engines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := open(t, engine(t))
			h.furnish(t, 2)
			for i := range 60 {
				h.put(t, 0, h.letter(t, i, 300))
			}
			r := repository(t, disk.NewFault(5))
			s := h.save(t, r)
			want := h.state(t, h.ids[0])
			mail := func(sel holdings.Selection, to int) holdings.Restored {
				t.Helper()
				done, err := holdings.Mail(t.Context(), r, s, sel, holdings.Mailroom{Body: h.body, Mailboxes: h.mail, Account: h.ids[to], Login: login(to)})
				if err != nil {
					t.Fatal(err)
				}
				return done
			}
			all := holdings.Selection{Account: login(0)}
			if done := mail(all, 0); done.Messages != 0 || done.Duplicates != 60 {
				t.Errorf("restored over what is there: %+v", done)
			}
			if _, err := h.mail.Remove(t.Context(), h.ids[0], login(0), "INBOX", []mailbox.UID{2, 3, 4}); err != nil {
				t.Fatal(err)
			}
			if _, err := h.mail.Purge(t.Context(), h.ids[0], mailbox.Selection{}); err != nil {
				t.Fatal(err)
			}
			highest := h.highest(t, h.ids[0])
			if done := mail(all, 0); done.Messages != 3 || done.Duplicates != 57 {
				t.Errorf("restored three: %+v", done)
			}
			sameButUIDs(t, want, h.state(t, h.ids[0]))
			for _, st := range h.state(t, h.ids[0])[:20] {
				if st.Mailbox == "INBOX" && st.UID <= highest && slices.Contains([]mailbox.UID{2, 3, 4}, st.UID) {
					t.Errorf("uid %d is used again", st.UID)
				}
			}
			one := holdings.Selection{Account: strings.ToUpper(login(0)), MessageID: "<17@example.com>"}
			if done := mail(one, 1); done.Messages != 1 {
				t.Errorf("one by Message-ID: %+v", done)
			}
			if got := h.state(t, h.ids[1]); len(got) != 1 || got[0].UniqueID != "uid-17" || got[0].Flags != 17 || got[0].Mailbox != "Zażółć" {
				t.Errorf("the letter in another account: %+v", got)
			}
			if done := mail(holdings.Selection{Account: login(0), UniqueID: "uid-18"}, 1); done.Messages != 1 {
				t.Errorf("one by unique-id: %+v", done)
			}
			if done := mail(holdings.Selection{Account: login(0), Text: "ZAŻÓŁĆ", Mailbox: "Work/Offers"}, 1); done.Messages != 20 {
				t.Errorf("by text: %+v", done)
			}
			if done := mail(all, 1); done.Messages != 60-22 || done.Duplicates != 22 {
				t.Errorf("the rest: %+v", done)
			}
			if err := holdings.Find(t.Context(), r, s, holdings.Selection{Account: "nobody@example.org"}, false, nil); !errors.Is(err, backup.ErrNotFound) {
				t.Errorf("an account that is not there: %v", err)
			}
		})
	}
}

func (h *house) highest(t *testing.T, id envelope.AccountID) mailbox.UID {
	t.Helper()
	all, err := h.mail.Mailboxes(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return all[0].UIDNext - 1
}

// sameButUIDs compares states without uids and order.
func sameButUIDs(t *testing.T, want, got []state) {
	t.Helper()
	plain := func(all []state) []state {
		out := slices.Clone(all)
		for i := range out {
			out[i].UID = 0
		}
		slices.SortFunc(out, func(a, b state) int { return strings.Compare(a.UniqueID, b.UniqueID) })
		return out
	}
	if diff := cmp.Diff(plain(want), plain(got)); diff != "" {
		t.Errorf("letters (-want +got):\n%s", diff)
	}
}

// TestDamagedSource keeps what can be read of a store with a damaged letter.
func TestDamagedSource(t *testing.T) {
	t.Parallel()
	f := disk.NewFault(1)
	d := dbtest.SQLite(t)
	h := open(t, d)
	s, err := body.OpenSegments(t.Context(), body.Config{FS: f, DB: d, StoreID: d.StoreID()})
	if err != nil {
		t.Fatal(err)
	}
	h.body, h.segments = s, s
	if h.mail, err = mailbox.New(mailbox.Config{DB: d, Body: s, Journal: s}); err != nil {
		t.Fatal(err)
	}
	h.furnish(t, 1)
	for i := range 10 {
		h.put(t, 0, h.letter(t, i, 600))
	}
	names, err := f.List("body")
	if err != nil {
		t.Fatal(err)
	}
	flipped := false
	for _, n := range names {
		if strings.HasSuffix(n, ".seg") {
			flipped = f.Flip("body/"+n, 2500, 1) == nil
		}
	}
	if !flipped {
		t.Fatal("nothing was damaged")
	}
	r := repository(t, disk.NewFault(2))
	snap := h.save(t, r)
	if snap.Report.Damaged != 1 {
		t.Fatalf("report: %+v", snap.Report)
	}
	again, done := restoreAll(t, r, snap, dbtest.SQLite(t))
	if done.Lost != 1 || done.Messages != 9 || len(again.state(t, h.ids[0])) != 9 {
		t.Errorf("restored: %+v", done)
	}
}

// TestBrokenOff stops a restore and looks that it is seen.
func TestBrokenOff(t *testing.T) {
	t.Parallel()
	for name, engine := range engines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := open(t, dbtest.SQLite(t))
			h.furnish(t, 1)
			for i := range 30 {
				h.put(t, 0, h.letter(t, i, 600))
			}
			r := repository(t, disk.NewFault(2))
			s := h.save(t, r)
			to := open(t, engine(t))
			ctx, cancel := context.WithCancel(t.Context())
			into := holdings.Into{DB: to.db, Body: &stopping{Store: to.body, stop: cancel}, Components: components(), Mailboxes: to.mail}
			if _, err := holdings.All(ctx, r, s, into); err == nil {
				t.Fatal("the restore was not broken off")
			}
			if err := holdings.Unfinished(t.Context(), to.db); !errors.Is(err, holdings.ErrUnfinished) {
				t.Errorf("got %v, want ErrUnfinished", err)
			}
			if _, err := holdings.All(t.Context(), r, s, into); !errors.Is(err, holdings.ErrUnfinished) {
				t.Errorf("again: %v, want ErrUnfinished", err)
			}
			if _, err := holdings.All(t.Context(), r, s, holdings.Into{DB: h.db, Body: h.body, Components: components(), Mailboxes: h.mail}); !errors.Is(err, holdings.ErrNotEmpty) {
				t.Errorf("over what is there: %v, want ErrNotEmpty", err)
			}
		})
	}
}

// stopping cancels at the first commit.
type stopping struct {
	body.Store
	stop func()
}

func (s *stopping) Commit(ctx context.Context, recs []body.Record) ([]body.Location, func(), error) {
	s.stop()
	return s.Store.Commit(ctx, recs)
}
