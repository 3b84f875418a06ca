package post_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/post/posttest"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/trace"
)

const modelAccounts = 4

// Places of an entry in the model.
const (
	inInbox = 1 + iota
	inRetention
	gone
)

// known is what the model knows of one entry. Whoever has claimed it may change it.
type known struct {
	account  envelope.AccountID
	body     message.ID
	uniqueID string
	text     string
	place    int
	version  int
	claimed  bool
}

// queuedLetter is a message in the queue.
type queuedLetter struct {
	remotes int
	claimed bool
}

// world is the model: all workers act on all accounts at once, and claim the
// entries that they act on.
type world struct {
	house    *posttest.House
	segments *body.Segments

	mu      sync.Mutex
	entries []*known
	queued  map[message.ID]*queuedLetter
	fates   map[message.ID]int // of every message ever accepted
}

// claim returns up to n entries of a place that nobody acts on, of one account.
func (w *world) claim(r *rand.Rand, place, n int) (mine []*known) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.entries) == 0 {
		return nil
	}
	account := envelope.AccountID(1 + r.IntN(modelAccounts))
	from := r.IntN(len(w.entries))
	for i := range w.entries {
		k := w.entries[(from+i)%len(w.entries)]
		if len(mine) < n && k.account == account && k.place == place && !k.claimed {
			k.claimed = true
			mine = append(mine, k)
		}
	}
	return mine
}

// settle gives claimed entries back in their new place.
func (w *world) settle(mine []*known, place int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, k := range mine {
		k.place, k.claimed = place, false
		k.version++
	}
}

// act does one random act.
func (w *world) act(t *testing.T, r *rand.Rand, name string) error {
	ctx := context.Background()
	switch op := r.IntN(20); {
	case op < 7:
		return w.accept(ctx, t, r, name)
	case op < 8:
		return w.importOne(ctx, t, r, name)
	case op < 11:
		return w.remove(ctx, r)
	case op < 13:
		return w.restore(ctx, r)
	case op < 15:
		return w.purge(ctx, r)
	case op < 16:
		return w.unqueue(ctx)
	case op < 17:
		return w.house.Mailboxes.Sweep(ctx)
	case op < 18:
		_, err := w.segments.Merge(ctx, body.MergeOptions{})
		return err
	}
	return w.list(ctx, r)
}

func (w *world) accept(ctx context.Context, t *testing.T, r *rand.Rand, name string) error {
	var to []envelope.AccountID
	for a := range modelAccounts {
		if r.IntN(3) == 0 {
			to = append(to, envelope.AccountID(a+1))
		}
	}
	var remotes []string
	for i := range r.IntN(3) {
		remotes = append(remotes, fmt.Sprintf("r%d@d%d.example", i, r.IntN(3)))
	}
	if len(to)+len(remotes) == 0 {
		to = []envelope.AccountID{1}
	}
	text := posttest.Text(name) + strings.Repeat(".dots and more\r\n", r.IntN(3)*r.IntN(150))
	d := w.house.Delivery(t, text, to, remotes...)
	texts := map[*post.Delivery]string{d: text}
	var report *post.Delivery
	if r.IntN(4) == 0 {
		reportText := posttest.Text("report of " + name)
		report = w.house.Delivery(t, reportText, []envelope.AccountID{envelope.AccountID(1 + r.IntN(modelAccounts))})
		d.Also, texts[report] = []post.Delivery{*report}, reportText
	}
	if err := w.house.Post.Accept(ctx, d); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range []*post.Delivery{d, report} {
		if l == nil {
			continue
		}
		for i := range l.Locals {
			w.entries = append(w.entries, &known{account: l.Locals[i].Account, body: l.ID, uniqueID: l.ID.String(), text: texts[l], place: inInbox})
		}
		w.fates[l.ID] = len(l.Locals) + len(l.Remotes)
	}
	if len(remotes) > 0 {
		w.queued[d.ID] = &queuedLetter{remotes: len(remotes)}
	}
	return nil
}

func (w *world) importOne(ctx context.Context, t *testing.T, r *rand.Rand, name string) error {
	account, text, id := envelope.AccountID(1+r.IntN(modelAccounts)), posttest.Text(name), "import-"+strings.ReplaceAll(name, " ", "-")
	for round := range 2 { // the second time it is known
		out, err := w.house.Mailboxes.Append(ctx, account, "", []mailbox.Import{{UniqueID: id, Received: w.house.Clock.Now(), Staged: w.house.Stage(t, text)}})
		if err != nil {
			return err
		}
		if out[0].Duplicate != (round == 1) {
			return fmt.Errorf("import %s, time %d: duplicate is %t", id, round+1, out[0].Duplicate)
		}
		if round == 0 {
			w.mu.Lock()
			w.entries = append(w.entries, &known{account: account, body: out[0].Entry.Body, uniqueID: id, text: text, place: inInbox})
			w.mu.Unlock()
		}
	}
	return nil
}

// remove deletes as POP3 does: from a session's own list.
func (w *world) remove(ctx context.Context, r *rand.Rand) error {
	mine := w.claim(r, inInbox, 1+r.IntN(4))
	if len(mine) == 0 {
		return nil
	}
	d, err := w.house.Mailboxes.Open(ctx, posttest.Identity(mine[0].account), true)
	if err != nil {
		return err
	}
	defer d.Close()
	index := map[string]int{}
	for i := range d.Len() {
		index[string(d.AppendUniqueID(nil, i))] = i
	}
	var indexes []int
	for _, k := range mine {
		i, ok := index[k.uniqueID]
		if !ok {
			return fmt.Errorf("account %d does not list %s, which nobody has touched", k.account, k.uniqueID)
		}
		indexes = append(indexes, i)
	}
	if err := d.Remove(ctx, indexes); err != nil {
		return err
	}
	w.settle(mine, inRetention)
	return nil
}

func ids(mine []*known) (sel mailbox.Selection) {
	for _, k := range mine {
		sel.UniqueIDs = append(sel.UniqueIDs, k.uniqueID)
	}
	return sel
}

func (w *world) restore(ctx context.Context, r *rand.Rand) error {
	mine := w.claim(r, inRetention, 1+r.IntN(3))
	if len(mine) == 0 {
		return nil
	}
	account := mine[0].account
	n, err := w.house.Mailboxes.Restore(ctx, account, posttest.Login(account), ids(mine))
	if err != nil || n != len(mine) {
		return fmt.Errorf("restored %d, want %d: %w", n, len(mine), errors.Join(err))
	}
	fresh := map[message.ID]string{}
	err = w.house.Mailboxes.Walk(ctx, account, func(e mailbox.Entry) error { fresh[e.Body] = e.UniqueID; return nil })
	if err != nil {
		return err
	}
	for _, k := range mine {
		if fresh[k.body] == "" || fresh[k.body] == k.uniqueID {
			return fmt.Errorf("restored message %s has unique-id %q", k.uniqueID, fresh[k.body])
		}
		w.mu.Lock()
		k.uniqueID = fresh[k.body]
		w.mu.Unlock()
	}
	w.settle(mine, inInbox)
	return nil
}

func (w *world) purge(ctx context.Context, r *rand.Rand) error {
	mine := w.claim(r, inRetention, 1+r.IntN(3))
	if len(mine) == 0 {
		return nil
	}
	n, err := w.house.Mailboxes.Purge(ctx, mine[0].account, ids(mine))
	if err != nil || n != len(mine) {
		return fmt.Errorf("purged %d, want %d: %w", n, len(mine), errors.Join(err))
	}
	w.settle(mine, gone)
	return nil
}

func (w *world) unqueue(ctx context.Context) error {
	var id message.ID
	var mine *queuedLetter
	w.mu.Lock()
	for k, q := range w.queued {
		if !q.claimed {
			id, mine, q.claimed = k, q, true
			break
		}
	}
	w.mu.Unlock()
	if mine == nil {
		return nil
	}
	n, err := w.house.Queue.Remove(ctx, queue.Filter{ID: id}, "by hand")
	if err != nil || n != mine.remotes {
		return fmt.Errorf("took %d recipients of %s from the queue, want %d: %w", n, id, mine.remotes, errors.Join(err))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.queued, id)
	return nil
}

// view is what the model says of an account's entries, with their versions.
func (w *world) view(account envelope.AccountID) map[*known]known {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := map[*known]known{}
	for _, k := range w.entries {
		if k.account == account && !k.claimed {
			all[k] = *k
		}
	}
	return all
}

// list compares a session's list with what did not change while it was opened.
func (w *world) list(ctx context.Context, r *rand.Rand) error {
	account := envelope.AccountID(1 + r.IntN(modelAccounts))
	before := w.view(account)
	d, err := w.house.Mailboxes.Open(ctx, posttest.Identity(account), true)
	if err != nil {
		return err
	}
	defer d.Close()
	index := map[string]int{}
	for i := range d.Len() {
		id := string(d.AppendUniqueID(nil, i))
		if _, twice := index[id]; twice {
			return fmt.Errorf("account %d lists %s twice", account, id)
		}
		index[id] = i
	}
	after := w.view(account)
	read := 0
	for k, was := range before {
		if is, ok := after[k]; !ok || is.version != was.version {
			continue // somebody acted on it
		}
		i, listed := index[was.uniqueID]
		if listed != (was.place == inInbox) {
			return fmt.Errorf("account %d: %s is in place %d and listed: %t", account, was.uniqueID, was.place, listed)
		}
		if listed && read < 3 {
			read++
			if err := readsAs(ctx, d, i, was.text); err != nil {
				return fmt.Errorf("account %d: %s: %w", account, was.uniqueID, err)
			}
		}
	}
	return nil
}

func readsAs(ctx context.Context, d interface {
	Read(context.Context, int) (io.ReadCloser, bool, error)
}, i int, want string) error {
	r, _, err := d.Read(ctx, i)
	if err != nil {
		return err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err == nil && !strings.HasSuffix(string(b), want) {
		err = fmt.Errorf("reads as %.80q", b)
	}
	return err
}

// end compares everything once nobody acts any more.
func (w *world) end(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	refs, places := map[message.ID]int64{}, map[int]int{}
	for _, k := range w.entries {
		places[k.place]++
		if k.place != gone {
			refs[k.body]++
		}
	}
	for id := range w.queued {
		refs[id]++
	}
	for what, want := range map[string]int64{
		`SELECT COUNT(*) FROM body`:           int64(len(refs)),
		`SELECT COUNT(*) FROM entry`:          int64(places[inInbox]),
		`SELECT COUNT(*) FROM retained`:       int64(places[inRetention]),
		`SELECT COUNT(*) FROM queued_message`: int64(len(w.queued)),
		`SELECT COUNT(*) FROM mailbox m WHERE messages <> (SELECT COUNT(*) FROM entry e WHERE e.account = m.account) OR octets <> (SELECT COALESCE(SUM(octets), 0) FROM entry e WHERE e.account = m.account)
			OR retained <> (SELECT COALESCE(SUM(octets), 0) FROM retained e WHERE e.account = m.account)`: 0,
	} {
		if n := count(t, w.house, what); n != want {
			t.Errorf("%s is %d, want %d", what, n, want)
		}
	}
	for id, want := range refs {
		if n := count(t, w.house, `SELECT refs FROM body WHERE id = ?`, id[:]); n != want {
			t.Errorf("body %s has %d references, want %d", id, n, want)
		}
	}
	for id, want := range w.fates {
		found, err := w.house.Trace.Find(ctx, trace.Viewer{Operator: true}, trace.Query{ID: id})
		if err != nil || len(found) != 1 || len(found[0].Fates) != want {
			t.Fatalf("message %s: trace %+v (%v), want %d fates", id, found, err, want)
		}
		for _, f := range found[0].Fates {
			if queued := w.queued[id] != nil; f.Account == 0 && (f.State == trace.Queued) != queued || f.Account != 0 && f.State != trace.Delivered {
				t.Errorf("message %s for %s is %s; in the queue: %t", id, f.Recipient, f.State, queued)
			}
		}
	}
	r := rand.New(rand.NewPCG(1, 1))
	for range 4 * modelAccounts {
		if err := w.list(ctx, r); err != nil {
			t.Error(err)
		}
	}
	if err := w.segments.Check(ctx, func(f body.Finding) error { return fmt.Errorf("%+v", f) }); err != nil {
		t.Errorf("check: %v", err)
	}
}

// TestEveryoneAtOnce has workers accept, import, list, read, remove, restore, purge,
// take from the queue, sweep and merge in the same accounts at the same time.
func TestEveryoneAtOnce(t *testing.T) {
	each(t, func(t *testing.T, small *posttest.House) {
		const workers, acts = 8, 60
		fsys, err := disk.OS(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		d := small.DB
		s, err := body.OpenSegments(t.Context(), body.Config{FS: fsys, DB: d, SegmentOctets: 20_000, LargeOctets: 4096, Grace: 20 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := errors.Join(s.Close(), fsys.Close()); err != nil {
				t.Error(err)
			}
		}()
		w := &world{segments: s, queued: map[message.ID]*queuedLetter{}, fates: map[message.ID]int{},
			house: posttest.Open(t, d, posttest.Options{Body: s, Mailbox: func(c *mailbox.Config) { c.Journal = s }})}
		seed := rand.Uint64()
		var wg sync.WaitGroup
		for n := range workers {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(seed, uint64(n)))
				for i := range acts {
					if err := w.act(t, r, fmt.Sprintf("worker %d letter %d", n, i)); err != nil {
						t.Errorf("seed %d: %v", seed, err)
						return
					}
				}
			})
		}
		wg.Wait()
		if !t.Failed() {
			w.end(t)
		}
	})
}
