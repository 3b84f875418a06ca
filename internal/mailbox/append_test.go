package mailbox_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/post/posttest"
)

// imports stages messages: each is "unique-id|source|subject".
func imports(t *testing.T, h *posttest.House, folder string, specs ...string) []mailbox.Import {
	t.Helper()
	var all []mailbox.Import
	for _, spec := range specs {
		f := strings.Split(spec, "|")
		all = append(all, mailbox.Import{Mailbox: folder, UniqueID: f[0], Source: f[1], Flags: mailbox.Seen, Received: h.Clock.Now().Add(-time.Hour),
			Staged: h.Stage(t, posttest.Text(f[2]))})
	}
	return all
}

// appendAll imports and returns "new" or "dup" for each.
func appendAll(t *testing.T, h *posttest.House, batch []mailbox.Import) string {
	t.Helper()
	out, err := h.Mailboxes.Append(t.Context(), ala, posttest.Login(ala), batch)
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, a := range out {
		if a.Duplicate {
			words = append(words, "dup")
		} else {
			words = append(words, "new")
		}
	}
	return strings.Join(words, " ")
}

// hasty is a database whose next views run out of time after their work.
type hasty struct {
	db.Database
	left atomic.Int32
}

func (d *hasty) View(ctx context.Context, fn func(db.Tx) error) error {
	err := d.Database.View(ctx, fn)
	if err == nil && d.left.Add(-1) >= 0 {
		return db.ErrTooLong
	}
	return err
}

func TestImportLooksAgainAfterASlowView(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, posttest.Components(), func(t *testing.T, d db.Database) {
		slow := &hasty{Database: d}
		h := posttest.Open(t, slow, posttest.Options{Clock: posttest.NewClock()})
		specs := []string{"0001abc|1|a", "|2|b"}
		appendAll(t, h, imports(t, h, "", specs...))
		slow.left.Store(4)
		if got := appendAll(t, h, imports(t, h, "", append(specs, "0003abc|3|c")...)); got != "dup dup new" {
			t.Errorf("import with slow views: %s", got)
		}
		slow.left.Store(1000)
		_, err := h.Mailboxes.Append(t.Context(), ala, posttest.Login(ala), imports(t, h, "", "0004abc|4|d"))
		if !errors.Is(err, db.ErrTooLong) {
			t.Errorf("import with views that are always slow: got %v", err)
		}
	})
}

func TestImportTwiceMakesNoDuplicates(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		specs := []string{"0001abc|1|a", "0002abc|2|b", "|file3|same", "|file4|same", "bad id|5|c", strings.Repeat("x", 71) + "|6|d"}
		for _, step := range []struct{ what, want string }{
			{"first", "new new new new new new"},
			{"again", "dup dup dup dup dup dup"},
		} {
			if got := appendAll(t, h, imports(t, h, "", specs...)); got != step.want {
				t.Errorf("%s import: %s, want %s", step.what, got, step.want)
			}
		}
		if got := appendAll(t, h, imports(t, h, "Other", specs[0])); got != "new" {
			t.Errorf("import into another mailbox: %s", got)
		}
		if got := appendAll(t, h, imports(t, h, "", "0001abc|1|another content", "0001abc|1|another content")); got != "new dup" {
			t.Errorf("another message with a unique-id that is taken: %s", got)
		}
		d := open(t, h.Mailboxes, ala, true)
		ids := uniqueIDs(d)
		if len(ids) != 7 || ids[0] != "0001abc" || ids[1] != "0002abc" || len(ids[2]) != 26 || ids[6] == "0001abc" {
			t.Errorf("unique-ids are %q", ids)
		}
		if got := read(t, d, 1); got != posttest.Text("b") {
			t.Errorf("message is %q", got)
		}
		if err := d.Remove(t.Context(), []int{0}); err != nil {
			t.Fatal(err)
		}
		if got := appendAll(t, h, imports(t, h, "", specs[0])); got != "dup" {
			t.Errorf("import of a removed message: %s", got)
		}
	})
}

func TestImportOfOwnExport(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		h.Deliver(t, ala, posttest.Text("one"))
		h.Deliver(t, ala, posttest.Text("two"))
		back := h.Deliver(t, ala, posttest.Text("comes back")).String()
		if err := open(t, h.Mailboxes, ala, true).Remove(t.Context(), []int{0, 2}); err != nil {
			t.Fatal(err)
		}
		if n, err := h.Mailboxes.Restore(t.Context(), ala, "", mailbox.Selection{UniqueIDs: []string{back}}); n != 1 || err != nil {
			t.Fatalf("restored %d, %v", n, err)
		}
		var exported []mailbox.Import
		err := h.Mailboxes.Walk(t.Context(), ala, func(e mailbox.Entry) error {
			r, err := h.Mailboxes.OpenEntry(t.Context(), &e)
			if err != nil {
				return err
			}
			defer r.Close()
			b, err := io.ReadAll(r)
			exported = append(exported, mailbox.Import{Mailbox: e.Mailbox, UniqueID: e.UniqueID, Received: e.Received, Staged: h.Stage(t, string(b))})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := appendAll(t, h, exported); got != "dup dup" {
			t.Errorf("into where it came from: %s", got)
		}
		out, err := h.Mailboxes.Append(t.Context(), 8, posttest.Login(8), exported)
		if err != nil || out[0].Duplicate || out[0].Entry.UniqueID != exported[0].UniqueID {
			t.Errorf("into another account: %+v, %v", out, err)
		}
		if diff := cmp.Diff(uniqueIDs(open(t, h.Mailboxes, ala, true)), uniqueIDs(open(t, h.Mailboxes, 8, true))); diff != "" {
			t.Errorf("unique-ids of the copy (-want +got):\n%s", diff)
		}
	})
}

func TestTwoImportsAtOnce(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		var specs []string
		for i := range 100 {
			specs = append(specs, fmt.Sprintf("id%d|%d|%d", i, i, i))
		}
		var wg sync.WaitGroup
		for range 4 {
			batch := imports(t, h, "New", specs...)
			wg.Go(func() {
				if _, err := h.Mailboxes.Append(context.Background(), ala, "", batch); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		l, release, err := h.Mailboxes.Listing(t.Context(), ala, "New")
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		if l.Len() != len(specs) {
			t.Errorf("%d messages, want %d", l.Len(), len(specs))
		}
		if _, err := h.Mailboxes.Append(t.Context(), ala, "", make([]mailbox.Import, mailbox.MaxAppend+1)); !errors.Is(err, mailbox.ErrBatch) {
			t.Errorf("too large a batch: %v", err)
		}
	})
}

// BenchmarkAppend imports batches of small messages with unique-ids.
func BenchmarkAppend(b *testing.B) {
	d := dbtest.SQLite(b)
	if err := db.Migrate(context.Background(), d, posttest.Components()); err != nil {
		b.Fatal(err)
	}
	h := posttest.Open(b, d, posttest.Options{})
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		batch := make([]mailbox.Import, mailbox.MaxAppend)
		for i := range batch {
			n++
			batch[i] = mailbox.Import{UniqueID: fmt.Sprintf("%016x", n), Received: h.Clock.Now(), Staged: h.Stage(b, posttest.Long(4096))}
		}
		if _, err := h.Mailboxes.Append(context.Background(), ala, "", batch); err != nil {
			b.Fatal(err)
		}
		for i := range batch {
			batch[i].Staged.Discard()
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "messages/s")
}
