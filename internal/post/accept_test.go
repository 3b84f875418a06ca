package post_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/post/posttest"
	"poczta.example/poczta/internal/trace"
)

func eachWith(t *testing.T, options func(d db.Database) posttest.Options, fn func(t *testing.T, h *posttest.House)) {
	t.Helper()
	t.Parallel()
	dbtest.Each(t, posttest.Components(), func(t *testing.T, d db.Database) { fn(t, posttest.Open(t, d, options(d))) })
}

func each(t *testing.T, fn func(t *testing.T, h *posttest.House)) {
	t.Helper()
	eachWith(t, func(db.Database) posttest.Options { return posttest.Options{} }, fn)
}

// count counts rows.
func count(t *testing.T, h *posttest.House, query string, args ...any) (n int64) {
	t.Helper()
	err := h.DB.View(context.Background(), func(tx db.Tx) error { return tx.QueryRow(query, args...).Scan(&n) })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// nothing fails the test unless no table holds anything.
func nothing(t *testing.T, h *posttest.House) {
	t.Helper()
	for _, table := range []string{"body", "entry", "mailbox", "queued_message", "queued_recipient", "trace"} {
		if n := count(t, h, `SELECT COUNT(*) FROM `+table); n != 0 {
			t.Errorf("%d rows in %s, want none", n, table)
		}
	}
}

func TestAcceptSettlesEveryRecipient(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		d := h.Delivery(t, posttest.Text("to many"), []envelope.AccountID{1, 2}, "a@far.example", "b@far.example")
		d.Envelope.Origin.Account, d.Envelope.Origin.Login = 9, "nine"
		report := h.Delivery(t, posttest.Text("report"), []envelope.AccountID{1})
		d.Also = []post.Delivery{*report}
		if err := h.Post.Accept(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		for what, want := range map[string]int64{
			`SELECT COUNT(*) FROM body`:                        2,
			`SELECT MAX(refs) FROM body`:                       3, // two entries and one queued message
			`SELECT COUNT(*) FROM entry`:                       3,
			`SELECT COUNT(*) FROM queued_recipient`:            2,
			`SELECT recipients FROM queued_message`:            2,
			`SELECT COUNT(*) FROM queued_shard`:                0, // the queue is told after the commit
			`SELECT COUNT(*) FROM trace`:                       5,
			`SELECT COUNT(*) FROM entry WHERE surrogate <> 0`:  0,
			`SELECT COUNT(*) FROM trace WHERE sha256 IS NULL `: 3, // facts stand in fate 0 alone
		} {
			if got := count(t, h, what); got != want {
				t.Errorf("%s is %d, want %d", what, got, want)
			}
		}
		found, err := h.Trace.Find(t.Context(), trace.Viewer{Operator: true}, trace.Query{ID: d.ID})
		if err != nil || len(found) != 1 {
			t.Fatalf("trace: %+v, %v", found, err)
		}
		var fates []string
		for _, f := range found[0].Fates {
			fates = append(fates, f.Recipient+" "+f.State.String())
		}
		want := []string{posttest.Login(1) + " delivered", posttest.Login(2) + " delivered", "a@far.example queued", "b@far.example queued"}
		if diff := cmp.Diff(want, fates); diff != "" {
			t.Errorf("fates (-want +got):\n%s", diff)
		}
		m, err := h.Queue.Show(t.Context(), d.ID)
		if err != nil || len(m.Recipients) != 2 || m.Recipients[0].Fate != 2 || m.Recipients[1].Destination != "far.example" || m.Account != 9 {
			t.Errorf("queued message is %+v, %v", m, err)
		}
	})
}

// TestAcceptOwnPaths: a recipient's own reverse-path is in the queue, forwarded or not,
// and the trace knows of such a message.
func TestAcceptOwnPaths(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		for own, events := range map[bool]int{true: 1, false: 0} {
			d := h.Delivery(t, posttest.Text("news"), []envelope.AccountID{1}, "a@far.example", "b@far.example", "c@far.example")
			path := func(s string) address.ReversePath { return address.NewReversePath(posttest.Address(t, s)) }
			if own {
				d.Envelope.Recipients[1].ReversePath = path("sender+a=far.example@origin.example")
				d.Remotes[0].ReversePath = d.Envelope.Recipients[1].ReversePath
			}
			d.Remotes[1].ReversePath, d.Remotes[1].Forward = path("SRS0=x@poczta.example"), "f@poczta.example"
			if err := h.Post.Accept(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			m, err := h.Queue.Show(t.Context(), d.ID)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range m.Recipients {
				got = append(got, r.ReversePath)
			}
			want := []string{"", "SRS0=x@poczta.example", ""}
			if own {
				want[0] = "sender+a=far.example@origin.example"
			}
			if diff := cmp.Diff(want, got); diff != "" || m.ReversePath != "sender@origin.example" {
				t.Errorf("of the message %q, of its recipients (-want +got):\n%s", m.ReversePath, diff)
			}
			noted, err := h.Trace.Events(t.Context(), trace.Viewer{Operator: true}, d.ID)
			if err != nil || len(noted) != events || events == 1 && noted[0].Kind != trace.VERP {
				t.Errorf("the trace has %+v, %v", noted, err)
			}
		}
	})
}

func TestAcceptFoldsAliases(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		d := h.Delivery(t, posttest.Text("x"), []envelope.AccountID{1})
		alias := posttest.Address(t, "info@poczta.example")
		d.Envelope.Recipients = append(d.Envelope.Recipients, envelope.Recipient{ForwardPath: address.NewForwardPath(alias)}, envelope.Recipient{ForwardPath: address.Postmaster()})
		d.Locals[0].Recipients = []int{0, 1, 2}
		if err := h.Post.Accept(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		if n := count(t, h, `SELECT COUNT(*) FROM entry`); n != 1 {
			t.Errorf("%d entries, want one", n)
		}
		if n := count(t, h, `SELECT COUNT(*) FROM trace`); n != 3 {
			t.Errorf("%d fates, want three", n)
		}
	})
}

func TestAcceptRefusesUnfinishedDeliveries(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		for name, spoil := range map[string]func(*post.Delivery){
			"a recipient without a fate":    func(d *post.Delivery) { d.Locals = d.Locals[:1] },
			"no recipients":                 func(d *post.Delivery) { d.Locals, d.Envelope.Recipients = nil, nil },
			"a recipient that is not there": func(d *post.Delivery) { d.Locals[0].Recipients = []int{2} },
			"two copies for one mailbox":    func(d *post.Delivery) { d.Locals[1].Account, d.Locals[1].Mailbox = 1, "inbox" },
			"no account":                    func(d *post.Delivery) { d.Locals[0].Account = 0 },
			"a bad mailbox":                 func(d *post.Delivery) { d.Locals[0].Mailbox = "a//b" },
			"no id":                         func(d *post.Delivery) { d.ID = message.ID{} },
			"a bad message beside it":       func(d *post.Delivery) { d.Also = []post.Delivery{{}} },
		} {
			d := h.Delivery(t, posttest.Text(name), []envelope.AccountID{1, 2})
			spoil(d)
			if err := h.Post.Accept(t.Context(), d); err == nil {
				t.Errorf("%s is accepted", name)
			}
		}
		nothing(t, h)
	})
}

// faultyBody fails commits.
type faultyBody struct {
	body.Store
	err error
}

func (f *faultyBody) Commit(context.Context, []body.Record) ([]body.Location, func(), error) {
	return nil, nil, f.err
}

func TestAcceptWithFailingBodyStore(t *testing.T) {
	for _, c := range []struct {
		err  error
		full bool
	}{{body.ErrFull, true}, {body.ErrFailed, false}} {
		t.Run(c.err.Error(), func(t *testing.T) {
			eachWith(t, func(d db.Database) posttest.Options {
				return posttest.Options{Body: &faultyBody{posttest.Segments(t, d), c.err}}
			}, func(t *testing.T, h *posttest.House) {
				err := h.Post.Accept(t.Context(), h.Delivery(t, posttest.Text("x"), []envelope.AccountID{1}))
				if !errors.Is(err, c.err) || errors.Is(err, post.ErrFull) != c.full {
					t.Errorf("Accept: %v", err)
				}
				nothing(t, h)
			})
		})
	}
}

// faultyDB lets a test decide what Update does.
type faultyDB struct {
	db.Database
	mu   sync.Mutex
	plan []string // "fail", "full", "lost" (committed, outcome unknown), "unsure" (not committed, outcome unknown)
}

func (f *faultyDB) Update(ctx context.Context, fn func(db.Tx) error) error {
	f.mu.Lock()
	step := ""
	if len(f.plan) > 0 {
		step, f.plan = f.plan[0], f.plan[1:]
	}
	f.mu.Unlock()
	switch step {
	case "fail", "full":
		sentinel := map[string]error{"fail": errors.New("connection refused"), "full": db.ErrFull}[step]
		// The work is done and rolled back, as by a failing commit.
		return f.Database.Update(ctx, func(tx db.Tx) error { return errors.Join(fn(tx), sentinel) })
	case "lost":
		if err := f.Database.Update(ctx, fn); err != nil {
			return err
		}
		return fmt.Errorf("commit: %w", db.ErrUnknownOutcome)
	case "unsure":
		return fmt.Errorf("commit: %w", db.ErrUnknownOutcome)
	}
	return f.Database.Update(ctx, fn)
}

func TestAcceptWithFailingDatabase(t *testing.T) {
	for _, c := range []struct {
		name   string
		plan   []string
		stored bool
		full   bool
	}{
		{"a failed transaction", []string{"fail"}, false, false},
		{"a full database", []string{"full"}, false, true},
		{"a lost answer", []string{"lost"}, true, false},
		{"a lost answer, nothing stored", []string{"unsure"}, true, false},
		{"two lost answers", []string{"unsure", "lost"}, true, false},
		{"lost, and then the database is away for a moment", []string{"lost", "fail"}, true, false},
		{"never an answer", []string{"unsure", "unsure", "unsure", "unsure"}, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachWith(t, func(db.Database) posttest.Options {
				return posttest.Options{DB: func(d db.Database) db.Database { return &faultyDB{Database: d, plan: append([]string(nil), c.plan...)} }}
			}, func(t *testing.T, h *posttest.House) {
				err := h.Post.Accept(t.Context(), h.Delivery(t, posttest.Text("x"), []envelope.AccountID{1}, "a@far.example"))
				if (err == nil) != c.stored || errors.Is(err, post.ErrFull) != c.full {
					t.Errorf("Accept: %v", err)
				}
				if !c.stored {
					nothing(t, h)
					return
				}
				for _, table := range []string{"body", "entry", "queued_recipient"} {
					if n := count(t, h, `SELECT COUNT(*) FROM `+table); n != 1 {
						t.Errorf("%d rows in %s, want one", n, table)
					}
				}
				d, err := h.Mailboxes.Open(t.Context(), posttest.Identity(1), true)
				if err != nil || d.Len() != 1 {
					t.Fatalf("the message is not listed: %v", err)
				}
				d.Close()
			})
		})
	}
}

func TestAcceptOfACancelledTransaction(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := h.Post.Accept(ctx, h.Delivery(t, posttest.Text("x"), []envelope.AccountID{1})); err == nil {
			t.Error("accepted")
		}
		nothing(t, h)
	})
}

// TestAcceptInParallel locks rows of several accounts in transactions that name
// them in different orders.
func TestAcceptInParallel(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		const workers, rounds = 8, 15
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				for i := range rounds {
					to := []envelope.AccountID{1, 2, 3}
					for k := range to {
						j := (k*w + i) % 3
						to[k], to[j] = to[j], to[k]
					}
					if err := h.Post.Accept(context.Background(), h.Delivery(t, posttest.Text("x"), to)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		for a := range envelope.AccountID(3) {
			u, err := h.Mailboxes.Usage(t.Context(), a+1)
			if err != nil || u.Messages != workers*rounds {
				t.Errorf("account %d has %d messages (%v), want %d", a+1, u.Messages, err, workers*rounds)
			}
		}
		if n := count(t, h, `SELECT COUNT(*) FROM body WHERE refs <> 3`); n != 0 {
			t.Errorf("%d bodies with a wrong number of references", n)
		}
	})
}

func TestErrorsNameTheMessage(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		d := h.Delivery(t, posttest.Text("x"), nil)
		if err := h.Post.Accept(t.Context(), d); err == nil || !strings.Contains(err.Error(), d.ID.String()) {
			t.Errorf("error is %v", err)
		}
	})
}
