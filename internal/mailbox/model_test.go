package mailbox_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mailtest/pgtest"
	"poczta.example/poczta/internal/post/posttest"
)

// model is what one account must hold. One goroutine at a time works on an
// account and its model; accounts are worked on side by side.
type model struct {
	mu       sync.Mutex
	account  envelope.AccountID
	inbox    []string          // unique-ids in order
	retained map[string]bool   // unique-ids
	subject  map[string]string // of each unique-id
	ever     map[string]bool   // unique-ids that were ever given
	imported int
}

// step does one random operation and checks its result.
func (m *model) step(t *testing.T, h *posttest.House, r *rand.Rand, n int) error {
	ctx := context.Background()
	switch op := r.IntN(10); {
	case op < 4:
		subject := fmt.Sprintf("a%d n%d", m.account, n)
		return m.arrived(h.Deliver(t, m.account, posttest.Text(subject)).String(), subject)
	case op == 4:
		return m.importOne(t, h, r)
	case op < 7:
		return m.remove(ctx, h, r)
	case op == 7:
		return m.restore(ctx, h, r)
	case op == 8 && len(m.retained) > 0:
		n, err := h.Mailboxes.Purge(ctx, m.account, mailbox.Selection{})
		if err == nil && n != len(m.retained) {
			err = fmt.Errorf("purged %d, want %d", n, len(m.retained))
		}
		clear(m.retained)
		return err
	}
	return m.check(ctx, h, r)
}

func (m *model) arrived(id, subject string) error {
	if m.ever[id] {
		return fmt.Errorf("unique-id %s was given twice", id)
	}
	m.ever[id] = true
	m.inbox, m.subject[id] = append(m.inbox, id), subject
	return nil
}

func (m *model) importOne(t *testing.T, h *posttest.House, r *rand.Rand) error {
	n := r.IntN(m.imported + 1)
	subject := fmt.Sprintf("a%d import %d", m.account, n)
	id := fmt.Sprintf("import-%d", n)
	out, err := h.Mailboxes.Append(context.Background(), m.account, "", []mailbox.Import{{UniqueID: id, Received: h.Clock.Now(), Staged: h.Stage(t, posttest.Text(subject))}})
	if err != nil {
		return err
	}
	if out[0].Duplicate != (n < m.imported) {
		return fmt.Errorf("import %d of %d: duplicate is %v", n, m.imported, out[0].Duplicate)
	}
	if out[0].Duplicate {
		return nil
	}
	m.imported++
	return m.arrived(id, subject)
}

func (m *model) remove(ctx context.Context, h *posttest.House, r *rand.Rand) error {
	d, err := h.Mailboxes.Open(ctx, posttest.Identity(m.account), true)
	if err != nil {
		return err
	}
	defer d.Close()
	var indexes []int
	var left []string
	for i, id := range uniqueIDs(d) {
		if r.IntN(3) == 0 {
			indexes = append(indexes, i)
			m.retained[id] = true
		} else {
			left = append(left, id)
		}
	}
	m.inbox = left
	return d.Remove(ctx, indexes)
}

func (m *model) restore(ctx context.Context, h *posttest.House, r *rand.Rand) error {
	before := len(m.inbox)
	var want int
	var sel mailbox.Selection
	for id := range m.retained {
		if r.IntN(2) == 0 {
			sel.UniqueIDs = append(sel.UniqueIDs, id)
			want++
		}
	}
	if want == 0 {
		return nil
	}
	n, err := h.Mailboxes.Restore(ctx, m.account, "", sel)
	if err != nil || n != want {
		return fmt.Errorf("restored %d, want %d: %w", n, want, errors.Join(err))
	}
	d, err := h.Mailboxes.Open(ctx, posttest.Identity(m.account), true)
	if err != nil {
		return err
	}
	defer d.Close()
	for i := before; i < d.Len(); i++ {
		id := string(d.AppendUniqueID(nil, i))
		subject, err := subjectOf(ctx, d, i)
		if err == nil {
			err = m.arrived(id, subject)
		}
		if err != nil {
			return err
		}
	}
	for _, id := range sel.UniqueIDs {
		delete(m.retained, id)
	}
	return nil
}

// check compares the account with its model.
func (m *model) check(ctx context.Context, h *posttest.House, r *rand.Rand) error {
	d, err := h.Mailboxes.Open(ctx, posttest.Identity(m.account), true)
	if err != nil {
		return err
	}
	defer d.Close()
	if got := uniqueIDs(d); !slices.Equal(got, m.inbox) {
		return fmt.Errorf("account %d has %q, want %q", m.account, got, m.inbox)
	}
	u, err := h.Mailboxes.Usage(ctx, m.account)
	if err != nil {
		return err
	}
	if u.Messages != int64(len(m.inbox)) || u.Octets != d.TotalOctets() {
		return fmt.Errorf("account %d: usage %+v, maildrop has %d messages of %d octets", m.account, u, d.Len(), d.TotalOctets())
	}
	if d.Len() > 0 {
		i := r.IntN(d.Len())
		if got, err := subjectOf(ctx, d, i); err != nil || got != m.subject[m.inbox[i]] {
			return fmt.Errorf("account %d: message %d has subject %q (%v), want %q", m.account, i, got, err, m.subject[m.inbox[i]])
		}
	}
	gone, _, err := h.Mailboxes.Deleted(ctx, m.account, mailbox.Selection{}, "", 10_000)
	if err != nil || len(gone) != len(m.retained) {
		return fmt.Errorf("account %d retains %d, want %d: %w", m.account, len(gone), len(m.retained), errors.Join(err))
	}
	for _, e := range gone {
		if !m.retained[e.UniqueID] {
			return fmt.Errorf("account %d retains %s, which was not removed", m.account, e.UniqueID)
		}
	}
	return nil
}

func subjectOf(ctx context.Context, d interface {
	Read(context.Context, int) (io.ReadCloser, bool, error)
}, i int) (string, error) {
	r, _, err := d.Read(ctx, i)
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	_, after, _ := strings.Cut(string(b), "Subject: ")
	subject, _, _ := strings.Cut(after, "\r\n")
	return subject, err
}

// work runs random operations of several goroutines; each picks an account and
// one of the houses, which stand on one database.
func work(t *testing.T, houses []*posttest.House, seed uint64) {
	const accounts, workers, steps = 5, 8, 60
	models := make([]*model, accounts)
	for i := range models {
		models[i] = &model{account: envelope.AccountID(i + 1), retained: map[string]bool{}, subject: map[string]string{}, ever: map[string]bool{}}
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(w)))
			for n := range steps {
				m := models[r.IntN(accounts)]
				m.mu.Lock()
				err := m.step(t, houses[r.IntN(len(houses))], r, w*steps+n)
				m.mu.Unlock()
				if err != nil {
					t.Errorf("seed %d: %v", seed, err)
					return
				}
			}
		})
	}
	wg.Wait()
	r := rand.New(rand.NewPCG(seed, 1<<32))
	for _, m := range models {
		for _, h := range houses {
			if err := m.check(context.Background(), h, r); err != nil {
				t.Errorf("seed %d, at the end: %v", seed, err)
			}
		}
	}
}

func TestRandomOperationsAgainstModel(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) { work(t, []*posttest.House{h}, rand.Uint64()) })
}

// TestTwoNodes runs the same over two Stores on one PostgreSQL, as two server
// processes are.
func TestTwoNodes(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t, pgtest.Options{NoSync: true})
	one, two := dbtest.OpenPostgres(t, url), dbtest.OpenPostgres(t, url)
	if err := db.Migrate(t.Context(), one, posttest.Components()); err != nil {
		t.Fatal(err)
	}
	segments := posttest.Segments(t, one)
	clock := posttest.NewClock()
	work(t, []*posttest.House{
		posttest.Open(t, one, posttest.Options{Body: segments, Clock: clock}),
		posttest.Open(t, two, posttest.Options{Body: segments, Clock: clock}),
	}, rand.Uint64())
}

// TestConcurrentAccessToOneAccount has deliveries, sessions that delete all they
// see, and polls of one mailbox at once: every message ends in exactly one
// session's hands or in the mailbox, and counters agree.
func TestConcurrentAccessToOneAccount(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		const writers, each = 4, 30
		var wg sync.WaitGroup
		for range writers {
			wg.Go(func() {
				for i := range each {
					h.Deliver(t, ala, posttest.Text(fmt.Sprint(i)))
				}
			})
		}
		for range 3 {
			wg.Go(func() {
				for range 20 {
					d, err := h.Mailboxes.Open(context.Background(), posttest.Identity(ala), true)
					if err != nil {
						t.Error(err)
						return
					}
					var all []int
					for i := range d.Len() {
						all = append(all, i)
					}
					if err := d.Remove(context.Background(), all); err != nil {
						t.Error(err)
					}
					d.Close()
				}
			})
		}
		wg.Wait()
		left := open(t, h.Mailboxes, ala, true)
		gone, _, err := h.Mailboxes.Deleted(t.Context(), ala, mailbox.Selection{}, "", 1000)
		if err != nil {
			t.Fatal(err)
		}
		if got := left.Len() + len(gone); got != writers*each {
			t.Errorf("%d messages left and %d retained, want %d together", left.Len(), len(gone), writers*each)
		}
		u, err := h.Mailboxes.Usage(t.Context(), ala)
		if err != nil || u.Messages != int64(left.Len()) || u.Octets != left.TotalOctets() {
			t.Errorf("usage %+v (%v), maildrop has %d messages of %d octets", u, err, left.Len(), left.TotalOctets())
		}
	})
}

// TestFirstDeliveriesAtOnce has the first messages of many accounts arrive together:
// each makes the INBOX, and one of them does.
func TestFirstDeliveriesAtOnce(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		const writers, accounts = 6, 40
		for a := range envelope.AccountID(accounts) {
			var wg sync.WaitGroup
			for range writers {
				wg.Go(func() { h.Deliver(t, 100+a, posttest.Text("first")) })
			}
			wg.Wait()
			if u, err := h.Mailboxes.Usage(t.Context(), 100+a); err != nil || u.Messages != writers {
				t.Fatalf("account %d has %d messages (%v), want %d", 100+a, u.Messages, err, writers)
			}
		}
	})
}
