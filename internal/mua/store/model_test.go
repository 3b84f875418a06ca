package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mua/store"
)

// modelLetter is what a letter must be.
type modelLetter struct {
	account envelope.AccountID
	folder  string
	origin  string
	word    string // that only its text has
	flags   mailbox.Flags
	removed bool
	partial bool
}

// model is what a store must hold.
type model struct {
	h       *house
	r       *rand.Rand
	letters map[store.LetterID]*modelLetter
	n       int
	landed  int
}

var modelFolders = []string{store.Inbox, store.Archive, "Work", "Work/Deep"}

// some picks letters.
func (m *model) some() []store.LetterID {
	var ids []store.LetterID
	for _, id := range slices.Sorted(maps.Keys(m.letters)) {
		if m.r.IntN(4) == 0 {
			ids = append(ids, id)
		}
	}
	m.r.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	return ids
}

// step does one random operation on both.
func (m *model) step() error {
	ctx := context.Background()
	switch op := m.r.IntN(12); op {
	case 0, 1, 2:
		return m.add(ctx)
	case 3:
		set, unset := mailbox.Flags(m.r.IntN(8)), mailbox.Flags(m.r.IntN(8))
		ids := m.some()
		for _, id := range ids {
			if l := m.letters[id]; !l.removed {
				l.flags = l.flags&^unset | set
			}
		}
		_, err := m.h.SetFlags(ctx, ids, set, unset)
		return err
	case 4, 5:
		ids, to := m.some(), modelFolders[m.r.IntN(len(modelFolders))]
		for _, id := range ids {
			if l := m.letters[id]; !l.removed && l.folder != to {
				l.folder, l.origin = to, ""
			}
		}
		_, err := m.h.Move(ctx, ids, to)
		return err
	case 6:
		return m.remove(ctx)
	case 7:
		return m.restore(ctx)
	case 8:
		return m.complete(ctx)
	case 9:
		return m.h.Catchup(ctx, nil)
	case 10:
		if m.r.IntN(2) == 0 {
			m.h.reopen()
			return nil
		}
		return m.h.crash()
	}
	return m.check(ctx)
}

// add adds a letter, whole or partial, or one that is there.
func (m *model) add(ctx context.Context) error {
	n := m.r.IntN(m.n + 3)
	fresh := n >= m.n
	if fresh {
		n = m.n
		m.n++
	}
	l := &modelLetter{account: envelope.AccountID(1 + n%2), folder: modelFolders[n%3], word: fmt.Sprintf("word%dx", n), partial: n%5 == 0}
	im := m.h.stage(m.text(n, !l.partial))
	im.Mailbox, im.UniqueID = l.folder, fmt.Sprintf("u%d", n)
	var id store.LetterID
	within := func(tx db.Tx, _ int, a mailbox.Appended) (err error) {
		if id = 0; !a.Duplicate {
			id, err = m.h.LetterOf(tx, l.account, a.Entry.Number, a.Entry.UID)
		}
		return err
	}
	var err error
	if m.r.IntN(3) == 0 {
		id, err = m.land(ctx, l, im)
	} else if l.partial {
		_, err = m.h.AddPartial(ctx, l.account, []store.Partial{{Import: im, Whole: 1000}}, within)
	} else {
		_, err = m.h.Add(ctx, l.account, []mailbox.Import{im}, within)
	}
	if err != nil {
		return err
	}
	if !fresh && !l.partial && id != 0 {
		return fmt.Errorf("letter %d was added before and is no duplicate", n)
	}
	if id != 0 {
		if fresh {
			m.letters[id] = l
		} else { // a partial one, fetched again after it was completed: it is another content
			m.letters[id] = l
		}
	}
	return nil
}

// land adds a letter in two halves, with a restart or a crash between them now and then.
func (m *model) land(ctx context.Context, l *modelLetter, im mailbox.Import) (store.LetterID, error) {
	landing := store.Landing{Import: im, Note: []byte("x")}
	if l.partial {
		landing.Whole = 1000
	}
	if err := m.h.Land(ctx, l.account, []store.Landing{landing}); err != nil {
		return 0, err
	}
	switch m.r.IntN(4) {
	case 0:
		m.h.reopen()
	case 1:
		if err := m.h.crash(); err != nil {
			return 0, err
		}
	}
	if err := m.h.File(ctx, nil); err != nil {
		return 0, err
	}
	all, ids := m.h.noted()
	if m.landed++; len(all) != m.landed {
		return 0, fmt.Errorf("%d letters were filed of %d that landed", len(all), m.landed)
	}
	return ids[len(ids)-1], nil
}

// text is letter n.
func (m *model) text(n int, whole bool) string {
	t := fmt.Sprintf("From: p%d@example.org\nSubject: number %d\nMessage-ID: <%d@x>\nIn-Reply-To: <%d@x>\n\n", n%7, n, n, n-n%4)
	if whole {
		t += fmt.Sprintf("word%dx common\n", n)
	}
	return t
}

func (m *model) remove(ctx context.Context) error {
	ids := m.some()
	for _, id := range ids {
		switch l := m.letters[id]; {
		case l.removed:
		case l.folder == store.Trash:
			l.removed = true
		default:
			l.origin, l.folder = l.folder, store.Trash
		}
	}
	_, err := m.h.Remove(ctx, ids)
	return err
}

func (m *model) restore(ctx context.Context) error {
	ids := m.some()
	for _, id := range ids {
		if l := m.letters[id]; l.folder == store.Trash {
			l.folder, l.origin, l.removed = l.origin, "", false
		}
	}
	_, err := m.h.Restore(ctx, ids)
	return err
}

func (m *model) complete(ctx context.Context) error {
	for _, id := range m.some() {
		l := m.letters[id]
		var n int
		if _, err := fmt.Sscanf(l.word, "word%dx", &n); err != nil {
			return err
		}
		err := m.h.Complete(ctx, id, m.h.stage(m.text(n, true)).Staged, nil)
		if l.removed {
			if !errors.Is(err, store.ErrNotFound) {
				return fmt.Errorf("a letter in retention was completed: %v", err)
			}
			continue
		}
		if err != nil {
			return err
		}
		l.partial = false
		return nil
	}
	return nil
}

// check compares all that can be seen.
func (m *model) check(ctx context.Context) error {
	var got, want []string
	for _, removed := range []bool{false, true} {
		page, err := m.h.List(ctx, store.Query{Everywhere: true, Removed: removed, Limit: 1000})
		if err != nil {
			return err
		}
		for _, s := range page.Letters {
			got = append(got, fmt.Sprintf("%d: %d %s %d %v %v", s.ID, s.Account, s.Folder, s.Flags, s.Partial, !s.Removed.IsZero()))
		}
	}
	unread := map[string]int64{}
	for id, l := range m.letters {
		want = append(want, fmt.Sprintf("%d: %d %s %d %v %v", id, l.account, l.folder, l.flags, l.partial, l.removed))
		if !l.removed && l.flags&mailbox.Seen == 0 {
			unread[fmt.Sprintf("%d %s", l.account, l.folder)]++
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		return fmt.Errorf("letters (-want +got):\n%s", diff)
	}
	folders, err := m.h.Folders(ctx)
	if err != nil {
		return err
	}
	for _, f := range folders {
		if k := fmt.Sprintf("%d %s", f.Account, f.Name); f.Unread != unread[k] {
			return fmt.Errorf("folder %s has %d unread, want %d", k, f.Unread, unread[k])
		}
	}
	return m.checkText(ctx)
}

// checkText catches up and searches.
func (m *model) checkText(ctx context.Context) error {
	if err := m.h.Catchup(ctx, nil); err != nil {
		return err
	}
	common := 0
	for id, l := range m.letters {
		var want []store.LetterID
		for other, k := range m.letters { // two letters may share a word: see add
			if k.word == l.word && !k.removed && !k.partial {
				want = append(want, other)
			}
		}
		page, err := m.h.List(ctx, store.Query{Text: l.word, Everywhere: true})
		if err != nil {
			return err
		}
		var got []store.LetterID
		for _, s := range page.Letters {
			got = append(got, s.ID)
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			return fmt.Errorf("search for the word of letter %d finds %v, want %v", id, got, want)
		}
		if !l.removed && !l.partial {
			common++
		}
	}
	page, err := m.h.List(ctx, store.Query{Text: "common", Everywhere: true, Limit: 1000})
	if err == nil && len(page.Letters) != common {
		err = fmt.Errorf("search for a common word finds %d letters, want %d", len(page.Letters), common)
	}
	return err
}

// crash goes on with a copy of the folder as it lies there, as after kill -9; what ran is left.
func (h *house) crash() error {
	copied := h.t.TempDir()
	err := filepath.WalkDir(h.cfg.Folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(h.cfg.Folder, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(copied, rel), 0o700)
		}
		if strings.HasSuffix(rel, "-shm") {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(copied, rel), b, 0o600)
	})
	if err != nil {
		return err
	}
	h.cfg.Folder = copied
	h.reopen()
	return nil
}

// TestModel does random operations on a store and on a model, with restarts and crashes between them.
func TestModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			m := &model{h: open(t), r: rand.New(rand.NewPCG(seed, 9)), letters: map[store.LetterID]*modelLetter{}}
			notes(m.h)
			for n := range 150 {
				if err := m.step(); err != nil {
					t.Fatalf("step %d: %v", n, err)
				}
			}
			if err := m.check(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := m.h.Reconcile(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := m.check(t.Context()); err != nil {
				t.Fatalf("after Reconcile: %v", err)
			}
		})
	}
}

// childFolder is set in the process that TestKill starts.
const childFolder = "POCZTA_STORE_CHILD"

// TestKillChild is that process: it adds letters, has them indexed, moves and removes some, and tells what is done.
func TestKillChild(t *testing.T) {
	folder := os.Getenv(childFolder)
	if folder == "" {
		t.Skip("it is TestKill's")
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	s, err := store.Open(ctx, store.Config{Folder: folder})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Run(ctx) }()
	h := &house{Store: s, t: t, clock: newClock()}
	for n := os.Getpid() * 1000; ; n++ {
		ids := h.add(ala, store.Inbox, letter(fmt.Sprintf("s%d", n), fmt.Sprintf("Message-ID: <%d@x>\n\nword%dx\n", n, n)))
		fmt.Printf("added %d %d\n", ids[0], n)
		if n%3 == 0 {
			if _, err := s.Move(ctx, ids, store.Archive); err != nil {
				t.Fatal(err)
			}
			fmt.Printf("moved %d %d\n", ids[0], n)
		}
		if n%20 == 0 {
			if err := s.Catchup(ctx, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestKill kills the process that works on a store, again and again: what it told is there, once, and
// is found; what it did not tell is there or not, whole.
func TestKill(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	r := rand.New(rand.NewPCG(3, 4))
	added, moved := map[string]string{}, map[string]bool{} // by number: id
	for range 5 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKillChild$")
		cmd.Env = append(os.Environ(), childFolder+"="+folder)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for left := 5 + r.IntN(60); lines.Scan(); left-- {
			f := strings.Fields(lines.Text())
			if len(f) == 3 && f[0] == "added" {
				added[f[2]] = f[1]
			}
			if len(f) == 3 && f[0] == "moved" {
				moved[f[2]] = true
			}
			if left == 0 {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait() // killed
	}
	s, err := store.Open(t.Context(), store.Config{Folder: folder})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := errors.Join(s.Reconcile(t.Context()), s.Catchup(t.Context(), nil)); err != nil {
		t.Fatal(err)
	}
	if len(added) < 20 {
		t.Fatalf("only %d letters were added", len(added))
	}
	for n, id := range added {
		page, err := s.List(t.Context(), store.Query{Text: "word" + n + "x"})
		if err != nil || len(page.Letters) != 1 || fmt.Sprint(page.Letters[0].ID) != id || moved[n] && page.Letters[0].Folder != store.Archive {
			t.Fatalf("letter %s: %+v, %v", n, page.Letters, err)
		}
		l, err := s.Letter(t.Context(), page.Letters[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
	all, err := s.List(t.Context(), store.Query{Limit: 1000})
	if err != nil || len(all.Letters) < len(added) || len(all.Letters) > len(added)+5 {
		t.Errorf("%d letters, %d were told, %v", len(all.Letters), len(added), err)
	}
}

// TestReconcile changes what the engines hold behind the store's back.
func TestReconcile(t *testing.T) {
	t.Parallel()
	h := open(t)
	ctx := t.Context()
	ids := h.add(ala, store.Inbox, letter("a", "\nalpha\n"), letter("b", "\nalpha\n"), letter("c", "\nalpha\n"), letter("d", "\nalpha\n"))
	h.index()
	im := h.stage(letter("e", "\nalpha\n"))
	im.Mailbox = "Server"
	if _, err := h.Mailboxes().Append(ctx, ala, "", []mailbox.Import{im}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Mailboxes().SetFlags(ctx, mailbox.FlagChange{Account: ala, Mailbox: store.Inbox, UIDs: []mailbox.UID{1}, Set: mailbox.Flagged}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Mailboxes().Remove(ctx, ala, "", store.Inbox, []mailbox.UID{2, 4}); err != nil {
		t.Fatal(err)
	}
	m, err := h.Summary(ctx, ids[3])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Mailboxes().Purge(ctx, ala, mailbox.Selection{UniqueIDs: []string{m.UniqueID}}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Mailboxes().Move(ctx, mailbox.Move{Account: ala, From: store.Inbox, UID: 3, To: "Moved"}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := h.Reconcile(ctx); err != nil {
			t.Fatal(err)
		}
		h.index()
		if got := h.found("alpha") + "|" + h.found("alpha in:server") + "|" + h.found("alpha in:moved") + "|" + h.found("is:flagged"); got != "a c e|e|c|a" {
			t.Errorf("found %s", got)
		}
		if got := h.subjects(store.Query{Removed: true}); !cmp.Equal(got, []string{"b"}) {
			t.Errorf("removed: %v", got)
		}
		if _, err := h.Summary(ctx, ids[3]); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("a purged letter: %v", err)
		}
	}
}
