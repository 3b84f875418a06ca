package rebuild_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/post/posttest"
	"poczta.example/poczta/internal/rebuild"
)

const folder = "segments"

// store is a data folder with open rooms.
type store struct {
	t     *testing.T
	data  string
	files *disk.OSFS
	clock *posttest.Clock

	db       *db.SQLite
	segments *body.Segments
	house    *posttest.House
	accounts *account.Accounts
}

func components() []db.Component {
	return append(posttest.Components(), account.Component(), rebuild.Schema)
}

func newStore(t *testing.T) *store {
	t.Helper()
	s := &store{t: t, data: t.TempDir(), clock: posttest.NewClock()}
	var err error
	if s.files, err = disk.OS(s.data); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.files.Close() })
	s.open()
	return s
}

func (s *store) segmentConfig() body.Config {
	return body.Config{FS: s.files, Folder: folder, LargeOctets: 20_000}
}

func (s *store) open() {
	s.t.Helper()
	ctx := context.Background()
	var err error
	if s.db, err = db.OpenSQLite(ctx, db.SQLiteConfig{Path: filepath.Join(s.data, "poczta.db"), ReadConns: 2}); err != nil {
		s.t.Fatal(err)
	}
	if err := db.Migrate(ctx, s.db, components()); err != nil {
		s.t.Fatal(err)
	}
	c := s.segmentConfig()
	c.DB, c.StoreID = s.db, s.db.StoreID()
	if s.segments, err = body.OpenSegments(ctx, c); err != nil {
		s.t.Fatal(err)
	}
	s.house = posttest.Open(s.t, s.db, posttest.Options{Body: s.segments, Clock: s.clock, Mailbox: func(c *mailbox.Config) { c.Journal = s.segments }})
	if s.accounts, err = account.New(account.Config{DB: s.db, Iterations: 4096}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *store) close() {
	s.t.Helper()
	if err := errors.Join(s.segments.Close(), s.db.Close()); err != nil {
		s.t.Fatal(err)
	}
}

func (s *store) config() rebuild.Config {
	return rebuild.Config{FS: s.files, Data: s.data, Database: "poczta.db", Components: components(), Segments: s.segmentConfig(), Now: s.clock.Now, Domain: "mx.example"}
}

// loseDatabase removes the database's files.
func (s *store) loseDatabase() {
	s.t.Helper()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(filepath.Join(s.data, "poczta.db"+suffix)); err != nil && !os.IsNotExist(err) {
			s.t.Fatal(err)
		}
	}
}

// rebuild closes the store, rebuilds it and opens it again.
func (s *store) rebuild(c rebuild.Config) rebuild.Report {
	s.t.Helper()
	s.close()
	r, err := rebuild.Run(context.Background(), c)
	if err != nil {
		s.t.Fatal(err)
	}
	s.open()
	s.t.Cleanup(func() { _ = errors.Join(s.segments.Close(), s.db.Close()) })
	return r
}

func (s *store) snapshot(name string) {
	s.t.Helper()
	if err := rebuild.Mark(s.t.Context(), s.db, s.segments.Settled()); err != nil {
		s.t.Fatal(err)
	}
	if err := s.db.Snapshot(s.t.Context(), filepath.Join(s.data, name)); err != nil {
		s.t.Fatal(err)
	}
}

// entries lists a mailbox as "unique-id subject".
func (s *store) entries(id envelope.AccountID, name string) (all []string) {
	s.t.Helper()
	err := s.house.Mailboxes.Walk(s.t.Context(), id, func(e mailbox.Entry) error {
		if e.Mailbox != name {
			return nil
		}
		r, err := s.segments.Open(s.t.Context(), e.Body, 0, -1)
		if err != nil {
			return err
		}
		defer r.Close()
		b, err := io.ReadAll(r)
		_, after, _ := strings.Cut(string(b), "Subject: ")
		subject, _, _ := strings.Cut(after, "\r\n")
		all = append(all, e.UniqueID+" "+subject)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return all
}

func TestDoubtfulMailGoesToRecovered(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	sure := s.house.Deliver(t, 1, posttest.Text("sure"))
	// Durable in the segments, and the power failed before the commit, or just after it.
	id := s.house.ID(t)
	d := s.house.Delivery(t, posttest.Text("doubtful"), nil)
	meta := body.Meta{Received: s.clock.Now(), Owners: []body.Owner{{Account: 1, Login: posttest.Login(1), Mailbox: "INBOX", UniqueID: id.String()},
		{Account: 1, Login: posttest.Login(1), Mailbox: "Work", UniqueID: id.String()}, {Account: 2, Login: posttest.Login(2), Mailbox: "INBOX", UniqueID: id.String()}}}
	_, release, err := s.segments.Commit(t.Context(), []body.Record{{ID: id, Staged: d.Staged, Meta: meta}})
	if err != nil {
		t.Fatal(err)
	}
	release()
	for round := range 2 {
		s.loseDatabaseAfterClose(t)
		if r := s.rebuildNow(); r.Recovered != int64(2-2*round) || r.Messages != 3 || r.Accounts != 2 {
			t.Errorf("round %d: %+v", round, r)
		}
		if got := fmt.Sprint(s.entries(1, "INBOX")); got != fmt.Sprintf("[%s sure]", sure) {
			t.Errorf("round %d: INBOX has %s", round, got)
		}
		for a := envelope.AccountID(1); a <= 2; a++ {
			if got := fmt.Sprint(s.entries(a, rebuild.Recovered)); got != fmt.Sprintf("[%s doubtful]", id) {
				t.Errorf("round %d: Recovered of account %d has %s", round, a, got)
			}
		}
	}
}

func (s *store) loseDatabaseAfterClose(t *testing.T) {
	t.Helper()
	s.close()
	s.loseDatabase()
}

// rebuildNow rebuilds a closed store without snapshots and opens it.
func (s *store) rebuildNow() rebuild.Report {
	s.t.Helper()
	r, err := rebuild.Run(context.Background(), s.config())
	if err != nil {
		s.t.Fatal(err)
	}
	s.open()
	return r
}

// TestMovedMail: a message is where it was moved to last, also when it had been there before.
func TestMovedMail(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for _, subject := range []string{"back", "away", "stays"} {
		s.house.Deliver(t, 1, posttest.Text(subject))
	}
	move := func(from, to string, uid mailbox.UID) mailbox.UID {
		e, err := s.house.Mailboxes.Move(t.Context(), mailbox.Move{Account: 1, Login: posttest.Login(1), From: from, To: to, UID: uid})
		if err != nil {
			t.Fatal(err)
		}
		return e.UID
	}
	move("Junk", "INBOX", move("INBOX", "Junk", 1))
	move("INBOX", "Junk", 2)
	for range 2 {
		s.loseDatabaseAfterClose(t)
		r := s.rebuildNow()
		var got []string
		for _, name := range []string{"INBOX", "Junk", rebuild.Recovered} {
			for _, e := range s.entries(1, name) {
				_, subject, _ := strings.Cut(e, " ")
				got = append(got, name+" "+subject)
			}
		}
		slices.Sort(got)
		if diff := cmp.Diff([]string{"INBOX back", "INBOX stays", "Junk away"}, got); diff != "" || r.Recovered != 0 {
			t.Errorf("%+v (-want +got):\n%s", r, diff)
		}
	}
}

func TestAccountsComeBack(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	deliver := func(id envelope.AccountID, login, address string) {
		d := s.house.Delivery(t, posttest.Text(login), []envelope.AccountID{id})
		d.Locals[0].Login = login
		d.Locals[0].Prefix = []byte("Delivered-To: " + address + "\r\n")
		if err := s.house.Post.Accept(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	deliver(3, "ala@one.example", "ala@one.example") // removed, and made anew as 9
	deliver(9, "ala@one.example", "ala@one.example")
	deliver(4, "piotr", "piotr.k@two.example")
	deliver(5, "nowhere", "not an address")
	s.loseDatabaseAfterClose(t)
	if r := s.rebuildNow(); r.Accounts != 4 || r.Messages != 4 {
		t.Fatalf("%+v", r)
	}
	defer s.close()
	for login, want := range map[string]struct {
		id      envelope.AccountID
		address string
	}{"ala@one.example": {9, "ala@one.example"}, "piotr": {4, "piotr.k@two.example"}, "piotr.k@two.example": {4, "piotr.k@two.example"}, "nowhere": {5, "account-5@mx.example"}} {
		a, err := s.accounts.Get(t.Context(), login)
		if err != nil || a.ID != want.id || a.Address.String() != want.address || a.HasPassword {
			t.Errorf("%s: %+v, %v", login, a, err)
		}
	}
	if a, err := s.accounts.ByID(t.Context(), 3); err != nil || a.State != account.Removed {
		t.Errorf("the account that was removed: %+v, %v", a, err)
	}
	domains, err := s.accounts.Domains(t.Context())
	if err != nil || len(domains) != 3 {
		t.Errorf("domains: %+v, %v", domains, err)
	}
	next, err := s.accounts.Add(t.Context(), account.NewAccount{Address: posttest.Address(t, "new@one.example")})
	if err != nil || next.ID <= 9 {
		t.Errorf("the next account has id %d (%v), want one never used", next.ID, err)
	}
}

func TestSnapshotKeepsWhatTheLogDoesNotSay(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	domain := posttest.Address(t, posttest.Login(1)).Domain()
	if err := s.accounts.AddDomain(t.Context(), domain); err != nil {
		t.Fatal(err)
	}
	a, err := s.accounts.Add(t.Context(), account.NewAccount{Address: posttest.Address(t, posttest.Login(1)), Password: "Correct Horse 7"})
	if err != nil {
		t.Fatal(err)
	}
	s.house.Deliver(t, a.ID, posttest.Text("before"))
	before := s.mailboxOf(a.ID)
	s.snapshot("one.db")
	s.house.Deliver(t, a.ID, posttest.Text("after"))
	if err := os.WriteFile(filepath.Join(s.data, "two.db"), []byte(strings.Repeat("not a database ", 500)), 0o600); err != nil {
		t.Fatal(err)
	}
	c := s.config()
	c.Snapshots = []string{"one.db", "two.db"} // the newest is broken
	s.clock.Advance(time.Hour)
	r := s.rebuild(c)
	if r.Snapshot != "one.db" || r.Restored != 1 || r.Messages != 2 || r.Accounts != 0 || r.Old == "" {
		t.Errorf("%+v", r)
	}
	if got, err := s.accounts.Get(t.Context(), posttest.Login(1)); err != nil || !got.HasPassword {
		t.Errorf("account: %+v, %v", got, err)
	}
	if after := s.mailboxOf(a.ID); after.UIDValidity <= before.UIDValidity || after.Messages != 2 {
		t.Errorf("mailbox was %+v and is %+v: want a new epoch", before, after)
	}
	if _, err := os.Stat(filepath.Join(s.data, r.Old)); err != nil {
		t.Errorf("the old database: %v", err)
	}
}

func (s *store) mailboxOf(id envelope.AccountID) mailbox.Mailbox {
	s.t.Helper()
	all, err := s.house.Mailboxes.Mailboxes(s.t.Context(), id)
	if err != nil || len(all) == 0 {
		s.t.Fatal(all, err)
	}
	return all[0]
}

func TestImportsKeepTheirUniqueIDs(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	imports := func() []mailbox.Import {
		return []mailbox.Import{{UniqueID: "dovecot-1.2", Flags: mailbox.Seen, Received: s.clock.Now(), Staged: s.house.Stage(t, posttest.Text("old"))},
			{Mailbox: "Archive", UniqueID: "x", Received: s.clock.Now(), UTF8: true, Staged: s.house.Stage(t, "From: Łoś <los@origin.example>\r\nSubject: utf8\r\n\r\nHello.\r\n")}}
	}
	if _, err := s.house.Mailboxes.Append(t.Context(), 1, posttest.Login(1), imports()); err != nil {
		t.Fatal(err)
	}
	want := s.sizes(1)
	s.loseDatabaseAfterClose(t)
	s.rebuildNow()
	defer s.close()
	if got := s.sizes(1); got != want {
		t.Errorf("after rebuild: %s, want %s", got, want)
	}
	out, err := s.house.Mailboxes.Append(t.Context(), 1, posttest.Login(1), imports())
	if err != nil || !out[0].Duplicate || !out[1].Duplicate {
		t.Errorf("the import repeated: %+v, %v", out, err)
	}
}

// sizes describes all entries of an account.
func (s *store) sizes(id envelope.AccountID) (text string) {
	s.t.Helper()
	err := s.house.Mailboxes.Walk(s.t.Context(), id, func(e mailbox.Entry) error {
		text += fmt.Sprintf("%s %d %s flags %d, %d octets, surrogate %d, %s; ", e.Mailbox, e.UID, e.UniqueID, e.Flags, e.Octets, e.Surrogate, e.Received.UTC())
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return text
}

func TestDamageIsToldAndTheRestComesBack(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for i := range 3 {
		s.house.Deliver(t, 1, posttest.Text(fmt.Sprint("letter ", i)))
	}
	s.loseDatabaseAfterClose(t)
	files, err := filepath.Glob(filepath.Join(s.data, folder, "*.seg"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	octets, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	octets[strings.Index(string(octets), "letter 1")] ^= 1
	if err := os.WriteFile(files[0], octets, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := s.rebuildNow(); r.Damaged != 1 || r.Lost != 1 || r.Messages != 2 {
		t.Errorf("%+v", r)
	}
	s.close()
}

// TestKilledAtEveryProgress cancels a rebuild again and again: the old database
// stays until the new one is whole, and the next try does it.
func TestKilledAtEveryProgress(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for i := range 5 {
		s.house.Deliver(t, envelope.AccountID(1+i%2), posttest.Text(fmt.Sprint(i)))
	}
	s.close()
	old, err := os.ReadFile(filepath.Join(s.data, "poczta.db"))
	if err != nil {
		t.Fatal(err)
	}
	for k := 1; ; k++ {
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		c := s.config()
		c.Progress = func(rebuild.Progress) {
			if n++; n == k {
				cancel()
			}
		}
		r, err := rebuild.Run(ctx, c)
		cancel()
		if err == nil {
			if k < 4 || r.Messages != 5 {
				t.Errorf("after %d tries: %+v", k, r)
			}
			break
		}
		if now, err := os.ReadFile(filepath.Join(s.data, "poczta.db")); err != nil || string(now) != string(old) {
			t.Fatalf("try %d changed the old database (%v)", k, err)
		}
		if _, err := s.files.Stat("rebuild"); err == nil {
			t.Fatalf("try %d left its work files", k)
		}
	}
	names, err := s.files.List(".")
	if err != nil || len(names) != 3 { // segments, the new database, the old one
		t.Errorf("left in the data folder: %q, %v", names, err)
	}
}

// TestFinishAtEveryCut cuts the power at each call of the last step: the new database
// gets its place, never beside the old log, and the old one is kept.
func TestFinishAtEveryCut(t *testing.T) {
	t.Parallel()
	const ready = "poczta.db.rebuilt-20260102T030405.000000Z"
	for k := 1; ; k++ {
		fsys := disk.NewFault(uint64(k))
		for name, text := range map[string]string{"poczta.db": "old", "poczta.db-wal": "old log", "poczta.db-shm": "old index", ready: "new"} {
			if err := disk.WriteFile(fsys, name, []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		fsys.CutAt(fsys.Calls() + k)
		_, cutErr := rebuild.Finish(fsys, "poczta.db")
		for seed := range uint64(8) {
			after := fsys.Reopen(seed)
			if _, err := rebuild.Finish(after, "poczta.db"); err != nil {
				t.Fatalf("cut at call %d, seed %d: %v", k, seed, err)
			}
			const broken = "poczta.db.broken-20260102T030405.000000Z"
			for name, want := range map[string]string{"poczta.db": "new", broken: "old", broken + "-wal": "old log"} {
				if got, err := disk.ReadFile(after, name, 100); err != nil || string(got) != want {
					t.Errorf("cut at call %d, seed %d: %s is %q (%v), want %q", k, seed, name, got, err, want)
				}
			}
			for _, gone := range []string{ready, "poczta.db-wal", "poczta.db-shm"} {
				if _, err := after.Stat(gone); err == nil {
					t.Errorf("cut at call %d, seed %d: %s is still there", k, seed, gone)
				}
			}
		}
		if cutErr == nil {
			if k < 5 {
				t.Errorf("Finish makes %d calls only", k-1)
			}
			return
		}
	}
}
