package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mua/store"
)

const (
	ala envelope.AccountID = 1
	ewa envelope.AccountID = 2
)

// clock is a clock that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// house is a store in a folder of the test.
type house struct {
	*store.Store
	t     testing.TB
	clock *clock
	cfg   store.Config
}

func open(t testing.TB) *house {
	t.Helper()
	h := &house{t: t, clock: newClock()}
	h.cfg = store.Config{Folder: t.TempDir(), Now: h.clock.Now}
	h.reopen()
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return h
}

// reopen opens the store, again after it was closed.
func (h *house) reopen() {
	h.t.Helper()
	if h.Store != nil {
		if err := h.Close(); err != nil {
			h.t.Fatal(err)
		}
	}
	s, err := store.Open(context.Background(), h.cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	h.Store = s
}

// stage stages a text.
func (h *house) stage(text string) mailbox.Import {
	h.t.Helper()
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\n", "\r\n")
	st, err := h.Body().Stage(context.Background(), int64(len(text)))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(st.Discard)
	if _, err := io.WriteString(st, text); err != nil {
		h.t.Fatal(err)
	}
	return mailbox.Import{Staged: st, Received: h.clock.Now()}
}

// add adds texts to a folder ("" is as it arrives) and returns their ids, 0 for duplicates.
func (h *house) add(account envelope.AccountID, folder string, texts ...string) []store.LetterID {
	h.t.Helper()
	var batch []mailbox.Import
	for _, text := range texts {
		im := h.stage(text)
		im.Mailbox = folder
		batch = append(batch, im)
	}
	return h.addAll(account, batch)
}

func (h *house) addAll(account envelope.AccountID, batch []mailbox.Import) []store.LetterID {
	h.t.Helper()
	ids := make([]store.LetterID, len(batch))
	_, err := h.Add(context.Background(), account, batch, func(tx db.Tx, i int, a mailbox.Appended) (err error) {
		if ids[i] = 0; !a.Duplicate {
			ids[i], err = h.LetterOf(tx, account, a.Entry.Number, a.Entry.UID)
		}
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return ids
}

// index catches up.
func (h *house) index() {
	h.t.Helper()
	if err := h.Catchup(context.Background(), nil); err != nil {
		h.t.Fatal(err)
	}
}

// subjects are what a query finds.
func (h *house) subjects(q store.Query) []string {
	h.t.Helper()
	subjects := []string{}
	for {
		page, err := h.List(context.Background(), q)
		if err != nil {
			h.t.Fatal(err)
		}
		for _, m := range page.Letters {
			subjects = append(subjects, m.Subject)
		}
		if q.Cursor = page.Cursor; q.Cursor == "" {
			return subjects
		}
	}
}

// found is subjects of a search, sorted.
func (h *house) found(text string) string {
	h.t.Helper()
	s := h.subjects(store.Query{Text: text})
	slices.Sort(s)
	return strings.Join(s, " ")
}

// letter is a small letter.
func letter(subject, more string) string {
	return "From: Ala Kowalska <ala@example.org>\nTo: ewa@example.net\nSubject: " + subject + "\nDate: Sun, 01 Nov 2026 10:00:00 +0000\n" + more
}

func TestAddAndList(t *testing.T) {
	t.Parallel()
	h := open(t)
	ids := h.add(ala, store.Inbox,
		"From: =?iso-8859-2?q?=A3ukasz?= <lukasz@example.org>\nTo: Ala <ala@example.org>, ewa@example.org\nCc: jan@example.org\nSubject: =?utf-8?b?xbzDs8WCxIc=?=\n"+
			"Date: Mon, 02 Nov 2026 08:00:00 +0100\nMessage-ID: <1@example.org>\n\nThe first\nline.\n",
		letter("old", "Message-ID: <2@example.org>\n\nx\n"))
	page, err := h.List(t.Context(), store.Query{Accounts: []envelope.AccountID{ala}, Folder: store.Inbox})
	if err != nil || len(page.Letters) != 2 || page.Cursor != "" {
		t.Fatalf("%+v, %v", page, err)
	}
	got := page.Letters[0]
	want := store.Summary{ID: ids[0], Account: ala, Folder: store.Inbox, UID: 1, Octets: got.Octets, Received: h.clock.Now(), Date: time.Date(2026, 11, 2, 7, 0, 0, 0, time.UTC),
		Subject: "żółć", From: []store.Address{{Name: "Łukasz", Address: "lukasz@example.org"}},
		To:        []store.Address{{Name: "Ala", Address: "ala@example.org"}, {Address: "ewa@example.org"}, {Address: "jan@example.org"}},
		MessageID: "<1@example.org>", Thread: int64(ids[0]), UniqueID: got.UniqueID}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("listed at once (-want +got):\n%s", diff)
	}
	h.index()
	m, err := h.Summary(t.Context(), ids[0])
	if want.Snippet = "The first line."; err != nil || !cmp.Equal(want, m) {
		t.Errorf("indexed: %v, %s", err, cmp.Diff(want, m))
	}
	l, err := h.Letter(t.Context(), ids[0])
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b, err := io.ReadAll(io.NewSectionReader(l, 0, l.Size))
	if err != nil || !strings.HasSuffix(string(b), "\r\n\r\nThe first\r\nline.\r\n") || l.Root.Type != "text" {
		t.Errorf("read %q, %v", b, err)
	}
	if _, err := h.Letter(t.Context(), 99); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("no such letter: %v", err)
	}
	if by, err := h.ByMessageID(t.Context(), "<2@example.org>"); err != nil || len(by) != 1 || by[0].ID != ids[1] {
		t.Errorf("by Message-ID: %+v, %v", by, err)
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	h := open(t)
	var want []string
	for i := range 57 {
		account := envelope.AccountID(1 + i%3)
		subject := fmt.Sprintf("n%02d", i)
		h.add(account, []string{store.Inbox, store.Archive}[i%2], strings.Replace(letter(subject, "\nword"+fmt.Sprint(i%5)+"\n"), "10:00:00", fmt.Sprintf("10:%02d:00", i), 1))
		want = append(want, subject)
	}
	h.index()
	slices.Reverse(want)
	if diff := cmp.Diff(want, h.subjects(store.Query{Limit: 5})); diff != "" {
		t.Errorf("all accounts and folders (-want +got):\n%s", diff)
	}
	pick := func(keep func(i int) bool) (some []string) {
		for i := 56; i >= 0; i-- {
			if keep(i) {
				some = append(some, fmt.Sprintf("n%02d", i))
			}
		}
		return some
	}
	for name, c := range map[string]struct {
		q    store.Query
		want []string
	}{
		"one folder of two accounts": {store.Query{Accounts: []envelope.AccountID{1, 2}, Folder: store.Archive, Limit: 4}, pick(func(i int) bool { return i%3 != 2 && i%2 == 1 })},
		"search":                     {store.Query{Text: "word3", Limit: 3}, pick(func(i int) bool { return i%5 == 3 })},
		"search in a folder":         {store.Query{Text: "word3 in:archive", Limit: 2}, pick(func(i int) bool { return i%5 == 3 && i%2 == 1 })},
		"search in an account":       {store.Query{Text: "word3 account:2", Limit: 2}, pick(func(i int) bool { return i%5 == 3 && i%3 == 1 })},
		"without a word":             {store.Query{Text: "-word3", Limit: 7}, pick(func(i int) bool { return i%5 != 3 })},
		"oldest first":               {store.Query{Text: "word4", Sort: store.Oldest, Limit: 3}, reverse(pick(func(i int) bool { return i%5 == 4 }))},
		"oldest of a folder":         {store.Query{Folder: store.Inbox, Sort: store.Oldest, Limit: 3}, reverse(pick(func(i int) bool { return i%2 == 0 }))},
		"nobody's account":           {store.Query{Text: "word3 account:77"}, []string{}},
	} {
		if diff := cmp.Diff(c.want, h.subjects(c.q)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if _, err := h.List(t.Context(), store.Query{Cursor: "x"}); err == nil {
		t.Error("a cursor of nothing is taken")
	}
	if _, err := h.List(t.Context(), store.Query{Text: "is:blue"}); !errors.Is(err, store.ErrQuery) {
		t.Errorf("a search that can't be: %v", err)
	}
}

func reverse(s []string) []string { slices.Reverse(s); return s }

func TestSearch(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.add(ala, store.Inbox,
		letter("polish", "\nZażółć gęślą jaźń w Łodzi.\n"),
		letter("html", "Content-Type: text/html\n\n<p>An <b>invoice</b> for you</p>\n"),
		letter("attached", "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nhere\n--b\nContent-Type: text/plain; name=\"faktura-2026.txt\"\nContent-Disposition: attachment\n\nkwota do zapłaty\n--b--\n"),
		letter("phrase", "\nthe quick brown fox\n"),
		letter("unphrase", "\nbrown the fox quick\n"))
	h.add(ewa, store.Junk, letter("junk", "\nquick invoice\n"))
	h.add(ewa, store.Sent, "From: ewa@example.net\nTo: Łukasz Żak <lz@example.com>\nSubject: sent\nDate: Thu, 01 Oct 2026 10:00:00 +0000\n\n東京 and tower\n")
	if got := h.found("invoice"); got != "" {
		t.Errorf("before the index: %q", got)
	}
	h.index()
	for text, want := range map[string]string{
		"zazolc": "polish", "ŁODZI": "polish", "jaz*": "polish", "invoice": "html", "b": "", "p": "",
		`"quick brown"`: "phrase", "quick brown": "phrase unphrase", "quick -phrase": "unphrase", "quick in:anywhere": "junk phrase unphrase", "quick in:junk": "junk",
		"faktura": "attached", "file:faktura": "attached", "kwota": "attached", "body:kwota": "", "attachment:kwota": "attached", "has:attachment": "attached", "has:attachment quick": "",
		"from:ala": "attached html phrase polish unphrase", "from:kowalska subject:html": "html", "to:lukasz": "sent", "to:lz@example.com": "sent", "from:lukasz": "", "with:ewa": "attached html phrase polish sent unphrase",
		"before:2026-10-15": "sent", "after:2026-10-15 fox": "phrase unphrase", "東": "sent", "東京": "sent", "京東": "", "account:2": "sent", "account:2 tower": "sent", "fox OR tower": "phrase sent unphrase",
		"is:unread tower": "sent", "is:read": "", "larger:1k": "", "smaller:200": "html phrase polish sent unphrase", "nosuchword": "",
	} {
		if got := h.found(text); got != want {
			t.Errorf("%q finds %q, want %q", text, got, want)
		}
	}
	if got := h.subjects(store.Query{Text: "invo", Typing: true}); !cmp.Equal(got, []string{"html"}) {
		t.Errorf("typing: %q", got)
	}
	p, err := h.Indexed(t.Context())
	if err != nil || p != (store.Progress{Done: 7, Total: 7}) {
		t.Errorf("indexed %+v, %v", p, err)
	}
	steps := 0
	if err := h.Reindex(t.Context(), func(store.Progress) { steps++ }); err != nil || steps == 0 || h.found("invoice") != "html" {
		t.Errorf("anew: %v, %q", err, h.found("invoice"))
	}
}

func TestChanges(t *testing.T) {
	t.Parallel()
	h := open(t)
	ids := h.add(ala, store.Inbox, letter("one", "\nalpha\n"), letter("two", "\nalpha\n"), letter("three", "\nalpha\n"))
	h.index()
	ctx := t.Context()
	if n, err := h.SetFlags(ctx, append(ids[:2:2], 99), mailbox.Seen|mailbox.Flagged, 0); n != 2 || err != nil {
		t.Fatalf("flags of %d, %v", n, err)
	}
	if n, err := h.SetFlags(ctx, ids[1:2], 0, mailbox.Flagged); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	for text, want := range map[string]string{"is:unread": "three", "alpha is:flagged": "one", "is:read": "one two", "is:flagged is:read": "one"} {
		if got := h.found(text); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	if got := h.subjects(store.Query{Unread: true}); !cmp.Equal(got, []string{"three"}) {
		t.Errorf("unread: %v", got)
	}
	if got := h.subjects(store.Query{Flagged: true, Folder: store.Inbox}); !cmp.Equal(got, []string{"one"}) {
		t.Errorf("flagged: %v", got)
	}
	if n, err := h.Move(ctx, ids[:2], "Work/Big"); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := h.Move(ctx, ids[:2], "Work/Big"); n != 0 || err != nil {
		t.Errorf("moved where it is: %d, %v", n, err)
	}
	if got := h.found("alpha in:work/big"); got != "one two" {
		t.Errorf("moved: %q", got)
	}
	m, err := h.Summary(ctx, ids[0])
	if err != nil || m.Folder != "Work/Big" || m.Flags != mailbox.Seen|mailbox.Flagged {
		t.Errorf("%+v, %v", m, err)
	}
	if n, err := h.Remove(ctx, ids[:2]); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	if got := h.found("alpha") + "|" + h.found("alpha in:trash"); got != "three|one two" {
		t.Errorf("in Trash: %q", got)
	}
	if n, err := h.Restore(ctx, ids[1:2]); n != 1 || err != nil || h.found("alpha in:work/big") != "two" {
		t.Errorf("restored from Trash: %d, %v", n, err)
	}
	if n, err := h.Remove(ctx, ids[:1]); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if got := h.found("alpha in:anywhere"); got != "three two" {
		t.Errorf("in retention: %q", got)
	}
	if got := h.subjects(store.Query{Removed: true}); !cmp.Equal(got, []string{"one"}) {
		t.Errorf("removed: %v", got)
	}
	err = h.DB().View(ctx, func(tx db.Tx) error {
		var n int64
		err := tx.QueryRow(`SELECT COUNT(*) FROM letter_text WHERE letter_text MATCH 'alpha'`).Scan(&n)
		if n != 2 {
			t.Errorf("the index holds %d letters, want 2", n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := h.Letter(ctx, ids[0])
	if err != nil || l.Removed.IsZero() {
		t.Errorf("a letter in retention: %v", err)
	}
	if n, err := h.Restore(ctx, ids[:1]); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	h.index()
	if got := h.found("alpha in:work/big is:flagged"); got != "one" {
		t.Errorf("restored from retention: %q", got)
	}
	if again, err := h.Summary(ctx, ids[0]); err != nil || again.UniqueID == m.UniqueID || !again.Removed.IsZero() {
		t.Errorf("restored: %+v, %v", again, err)
	}
}

// TestRetain removes past Trash, and brings back to where it was.
func TestRetain(t *testing.T) {
	t.Parallel()
	h := open(t)
	ids := h.add(ala, store.Drafts, letter("draft", "\nalpha\n"))
	h.index()
	if n, err := h.Retain(t.Context(), ids); n != 1 || err != nil || h.found("alpha in:anywhere") != "" {
		t.Errorf("retained %d, %v", n, err)
	}
	if n, err := h.Restore(t.Context(), ids); n != 1 || err != nil || !cmp.Equal(h.subjects(store.Query{Folder: store.Drafts}), []string{"draft"}) {
		t.Errorf("restored %d, %v", n, err)
	}
	if _, err := h.Remove(t.Context(), ids); err != nil {
		t.Fatal(err)
	}
	page, err := h.Threads(t.Context(), store.Query{Folder: store.Trash})
	if err != nil || len(page.Threads) != 1 || page.Threads[0].Letters != 1 || len(page.Threads[0].People) != 1 {
		t.Errorf("threads in Trash: %+v, %v", page, err)
	}
}

func TestPurgeAccount(t *testing.T) {
	t.Parallel()
	h := open(t)
	ids := h.add(ala, store.Inbox, letter("one", "\nalpha\n"), letter("two", "\nalpha\n"), letter("three", "\nalpha\n"))
	h.add(ewa, store.Inbox, letter("hers", "\nalpha\n"))
	h.index()
	if _, err := h.Retain(t.Context(), ids[:1]); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := h.PurgeAccount(t.Context(), ala); err != nil {
			t.Fatal(err)
		}
	}
	all, err := h.Folders(t.Context())
	if err != nil || len(all) != 1 || all[0].Account != ewa || h.found("alpha") != "hers" || len(h.subjects(store.Query{Removed: true})) != 0 {
		t.Errorf("folders %+v, %v, found %q", all, err, h.found("alpha"))
	}
	if again := h.add(ala, store.Inbox, letter("one", "\nalpha\n")); again[0] <= ids[2] {
		t.Errorf("added again: %v", again)
	}
}

// TestTime has Trash empty itself and retention end.
func TestTime(t *testing.T) {
	t.Parallel()
	h := open(t)
	ids := h.add(ala, store.Inbox, letter("one", "Message-ID: <1@x>\n\nalpha\n"))
	h.index()
	ctx := t.Context()
	if _, err := h.Remove(ctx, ids); err != nil {
		t.Fatal(err)
	}
	tidy := func(after time.Duration, want string) {
		t.Helper()
		h.clock.Advance(after)
		if err := errors.Join(h.Mailboxes().Sweep(ctx), h.Tidy(ctx)); err != nil {
			t.Fatal(err)
		}
		got := "gone"
		if m, err := h.Summary(ctx, ids[0]); err == nil {
			if got = m.Folder; !m.Removed.IsZero() {
				got = "retained"
			}
		}
		if got != want {
			t.Errorf("the letter is %s, want %s", got, want)
		}
	}
	tidy(store.DefaultTrashAfter-time.Hour, store.Trash)
	tidy(2*time.Hour, "retained")
	tidy(store.DefaultRetention-time.Hour, "retained")
	tidy(2*time.Hour, "gone")
	again := h.add(ala, store.Inbox, letter("two", "In-Reply-To: <1@x>\n\nbeta\n"))
	if again[0] <= ids[0] {
		t.Errorf("id %d after %d", again[0], ids[0])
	}
	h.reopen()
	if last := h.add(ala, store.Inbox, letter("three", "\ngamma\n")); last[0] <= again[0] {
		t.Errorf("id %d after %d and a restart", last[0], again[0])
	}
}

func TestPartial(t *testing.T) {
	t.Parallel()
	h := open(t)
	ctx := t.Context()
	im := h.stage(letter("big", "Message-ID: <1@x>\n\n"))
	im.UniqueID = "theirs"
	var id store.LetterID
	_, err := h.AddPartial(ctx, ala, []store.Partial{{Import: im, Whole: 5000}}, func(tx db.Tx, _ int, a mailbox.Appended) (err error) {
		id, err = h.LetterOf(tx, ala, a.Entry.Number, a.Entry.UID)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	h.index()
	if _, err := h.SetFlags(ctx, []store.LetterID{id}, mailbox.Flagged, 0); err != nil {
		t.Fatal(err)
	}
	m, err := h.Summary(ctx, id)
	if err != nil || !m.Partial || m.Octets != 5000 || h.found("is:partial") != "big" || h.found("larger:4k") != "big" {
		t.Errorf("partial: %+v, %v", m, err)
	}
	whole := letter("big", "Message-ID: <1@x>\n\n"+strings.Repeat("alpha beta\n", 400))
	within := false
	if err := h.Complete(ctx, id, h.stage(whole).Staged, func(db.Tx) error { within = true; return nil }); err != nil || !within {
		t.Fatal(err)
	}
	h.index()
	done, err := h.Summary(ctx, id)
	if err != nil || done.Partial || done.Flags != mailbox.Flagged || done.UniqueID != "theirs" || done.UID != m.UID || done.Octets != int64(strings.Count(whole, "\n")+len(whole)) || h.found("alpha") != "big" {
		t.Errorf("whole: %+v, %v, %q", done, err, h.found("alpha"))
	}
	dup := h.stage(whole)
	dup.Mailbox, dup.UniqueID = store.Inbox, "theirs"
	if ids := h.addAll(ala, []mailbox.Import{dup}); ids[0] != 0 {
		t.Error("the whole letter fetched again is no duplicate")
	}
	if err := h.Complete(ctx, 99, h.stage(whole).Staged, nil); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("no such letter: %v", err)
	}
}

func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	h := open(t)
	if _, err := store.Open(t.Context(), h.cfg); !errors.Is(err, store.ErrBusy) {
		t.Errorf("a second opening: %v", err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), h.cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.Store = s
}

func TestFolders(t *testing.T) {
	t.Parallel()
	h := open(t)
	ctx := t.Context()
	if err := h.AddAccount(ctx, ala); err != nil {
		t.Fatal(err)
	}
	if err := h.AddAccount(ctx, ala); err != nil {
		t.Errorf("again: %v", err)
	}
	h.add(ala, "Work", letter("a", "\na\n"))
	h.add(ala, "Work/Deep", letter("b", "\nb\n"), letter("c", "\nc\n"))
	names := func() string {
		t.Helper()
		all, err := h.Folders(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var s []string
		for _, f := range all {
			s = append(s, fmt.Sprintf("%s:%d/%d", f.Name, f.Unread, f.Messages))
		}
		return strings.Join(s, " ")
	}
	const standard = "INBOX:0/0 Drafts:0/0 Sent:0/0 Archive:0/0 Junk:0/0 "
	if got := names(); got != standard+"Trash:0/0 Work:1/1 Work/Deep:2/2" {
		t.Errorf("folders: %s", got)
	}
	if err := h.RenameFolder(ctx, ala, "Work", "Play"); err != nil {
		t.Fatal(err)
	}
	if got := names(); got != standard+"Trash:0/0 Play:1/1 Play/Deep:2/2" {
		t.Errorf("renamed: %s", got)
	}
	if err := h.RemoveFolder(ctx, ala, "Play"); err != nil {
		t.Fatal(err)
	}
	if got := names(); got != standard+"Trash:3/3" {
		t.Errorf("removed: %s", got)
	}
	if err := h.CreateFolder(ctx, ala, "Work"); err != nil || names() != standard+"Trash:3/3 Work:0/0" {
		t.Errorf("made again: %v, %s", err, names())
	}
	for _, err := range []error{h.RenameFolder(ctx, ala, store.Inbox, "x"), h.RemoveFolder(ctx, ala, store.Trash)} {
		if !errors.Is(err, store.ErrStandard) {
			t.Errorf("a standard folder: %v", err)
		}
	}
	if err := h.RemoveFolder(ctx, ala, "None"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("no such folder: %v", err)
	}
	if err := h.CreateFolder(ctx, ala, "Work"); !errors.Is(err, mailbox.ErrExists) {
		t.Errorf("made twice: %v", err)
	}
	ids := h.add(ala, "Gone", letter("d", "\nd\n"))
	if err := h.RemoveFolder(ctx, ala, "Gone"); err != nil {
		t.Fatal(err)
	}
	if n, err := h.Restore(ctx, ids); err != nil || n != 1 || names() != standard+"Trash:3/3 Gone:1/1 Work:0/0" {
		t.Errorf("restored into a removed folder: %d, %v, %s", n, err, names())
	}
}

func TestAddressBook(t *testing.T) {
	t.Parallel()
	h := open(t)
	from := func(who string) string { return "From: " + who + "\nTo: ala@example.org\nSubject: x\n\nx" + who + "\n" }
	h.add(ala, store.Inbox, from("Łukasz Żak <lz@example.org>"), from("lukrecja@example.com"), from("lukrecja@example.com")+"again\n", from("Luk Pisze <luk@list.example>"))
	h.add(ala, store.Sent, "From: ala@example.org\nTo: \"Ewa Nowak\" <EWA@example.org>\nBcc: luk@list.example\nSubject: y\n\ny\n", "From: ala@example.org\nTo: ewa@example.org\nSubject: z\n\nz\n")
	h.index()
	find := func(prefix string) string {
		t.Helper()
		all, err := h.Addresses(t.Context(), prefix, 10)
		if err != nil {
			t.Fatal(err)
		}
		var s []string
		for _, p := range all {
			s = append(s, fmt.Sprintf("%s<%s>%d/%d", p.Name, p.Address.Address, p.Sent, p.Received))
		}
		return strings.Join(s, " ")
	}
	for prefix, want := range map[string]string{
		"luk": "Luk Pisze<luk@list.example>1/1 <lukrecja@example.com>0/2 Łukasz Żak<lz@example.org>0/1", "zak luk": "Łukasz Żak<lz@example.org>0/1",
		"ewa@ex": "Ewa Nowak<ewa@example.org>2/0", "NOW": "Ewa Nowak<ewa@example.org>2/0", "xyz": "", "@": "",
	} {
		if got := find(prefix); got != want {
			t.Errorf("%q finds %s, want %s", prefix, got, want)
		}
	}
	if err := h.Reindex(t.Context(), nil); err != nil || find("ewa") != "Ewa Nowak<ewa@example.org>2/0" {
		t.Errorf("counted again by a new index: %s, %v", find("ewa"), err)
	}
	if got := find(""); !strings.HasPrefix(got, "Ewa Nowak") {
		t.Errorf("all: %s", got)
	}
}

// TestRareHits has searches look through several windows.
func TestRareHits(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it adds 4,600 letters")
	}
	h := open(t)
	var want []string
	for n := 0; n < 4600; {
		var texts []string
		for ; len(texts) < mailbox.MaxAppend && n < 4600; n++ {
			more := ""
			if n%1500 == 7 {
				more = strings.Repeat("y", 2000)
				want = append(want, fmt.Sprint("n", n))
			}
			date := h.clock.Now().Add(-time.Duration(5000-n) * time.Minute).Format(time.RFC1123Z)
			texts = append(texts, fmt.Sprintf("From: a@example.org\nSubject: n%d\nDate: %s\n\ncommon %s\n", n, date, more))
		}
		h.add(ala, store.Inbox, texts...)
	}
	h.index()
	for _, text := range []string{"larger:1k", "common larger:1k"} {
		for _, limit := range []int{1, 2, 3, 50} {
			if got := h.subjects(store.Query{Text: text, Sort: store.Oldest, Limit: limit}); !cmp.Equal(got, want) {
				t.Errorf("%s, oldest, %d a page: %v, want %v", text, limit, got, want)
			}
			if got := reverse(h.subjects(store.Query{Text: text, Limit: limit})); !cmp.Equal(got, want) {
				t.Errorf("%s, %d a page: %v, want %v", text, limit, got, want)
			}
		}
	}
	if got := h.found("common larger:1k is:flagged"); got != "" {
		t.Errorf("flagged: %s", got)
	}
}
