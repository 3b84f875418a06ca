package power_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/post/posttest"
	"poczta.example/poczta/internal/queue"
)

// runner runs the script: what users do to a store, one after the other.
type runner struct {
	tb    testing.TB
	fsys  disk.FS
	db    db.Database
	clock *posttest.Clock

	now  *state // acknowledged
	next *state // what the step under way makes of it; nil between steps
	// failed is told of a step that failed; what it returns ends the script.
	failed func(what string, err error) error

	house    *posttest.House
	segments *body.Segments
	count    int
	steps    int
	after    func(step int) // called between steps; may be nil
	adjust   func(*body.Config)
}

// newRunner returns a runner over an empty store.
func newRunner(tb testing.TB, fsys disk.FS, d db.Database) *runner {
	return &runner{tb: tb, fsys: fsys, db: d, clock: posttest.NewClock(), now: newState()}
}

// step is one act: change says what it makes of the state, act does it.
func (r *runner) step(what string, change func(*state), act func(ctx context.Context, next *state) error) error {
	r.next = r.now.clone()
	change(r.next)
	err := act(context.Background(), r.next)
	if err == nil {
		r.now, r.next = r.next, nil
		r.steps++
		r.clock.Advance(time.Second)
		if r.after != nil {
			r.after(r.steps)
		}
		return nil
	}
	defer func() { r.next = nil }()
	return r.failed(what, err)
}

// text is a new message of about n octets.
func (r *runner) text(n int) string {
	r.count++
	line := "." + strings.Repeat("x", 60) + "\r\n"
	return posttest.Text(fmt.Sprintf("letter %d", r.count)) + strings.Repeat(line, n/len(line))
}

// accept has a message of about n octets accepted for accounts and remote addresses.
func (r *runner) accept(n int, to []envelope.AccountID, remotes ...string) error {
	text := r.text(n)
	d := r.house.Delivery(r.tb, "", to, remotes...)
	change := func(s *state) {
		for _, a := range to {
			s.inbox[a][text] = d.ID.String()
		}
		if len(remotes) > 0 {
			s.queued[text] = d.ID.String()
		}
	}
	return r.step("accept", change, func(ctx context.Context, _ *state) error {
		st, err := r.house.Post.Stage(ctx, int64(len(text)))
		if err != nil {
			return err
		}
		defer st.Discard()
		if _, err := io.WriteString(st, text); err != nil {
			return err
		}
		d.Staged = st
		return r.house.Post.Accept(ctx, d)
	})
}

// remove has a POP3 session delete the messages with the indexes.
func (r *runner) remove(a envelope.AccountID, indexes ...int) error {
	d, err := r.house.Mailboxes.Open(context.Background(), posttest.Identity(a), true)
	if err != nil {
		return r.failed("open", err)
	}
	defer d.Close()
	indexes = slices.DeleteFunc(indexes, func(i int) bool { return i >= d.Len() })
	change := func(s *state) {
		for _, i := range indexes {
			id := string(d.AppendUniqueID(nil, i))
			for text, have := range s.inbox[a] {
				if have == id || have == "" && !hasID(s.inbox[a], id) {
					s.retained[a][text] = id
					delete(s.inbox[a], text)
					break
				}
			}
		}
	}
	return r.step("remove", change, func(ctx context.Context, _ *state) error { return d.Remove(ctx, indexes) })
}

func hasID(m map[string]string, id string) bool {
	for _, have := range m {
		if have == id {
			return true
		}
	}
	return false
}

// purge has all removed mail of an account purged.
func (r *runner) purge(a envelope.AccountID) error {
	return r.step("purge", func(s *state) { clear(s.retained[a]) }, func(ctx context.Context, _ *state) error {
		_, err := r.house.Mailboxes.Purge(ctx, a, mailbox.Selection{})
		return err
	})
}

// restore has all removed mail of an account put back under new unique-ids.
func (r *runner) restore(a envelope.AccountID) error {
	change := func(s *state) {
		for text := range s.retained[a] {
			s.inbox[a][text] = ""
		}
		clear(s.retained[a])
	}
	return r.step("restore", change, func(ctx context.Context, next *state) error {
		if _, err := r.house.Mailboxes.Restore(ctx, a, posttest.Login(a), mailbox.Selection{}); err != nil {
			return err
		}
		next.inbox[a] = map[string]string{}
		return lookInbox(ctx, r.house, a, next.inbox[a])
	})
}

// unqueue has an operator empty the queue.
func (r *runner) unqueue() error {
	return r.step("unqueue", func(s *state) { clear(s.queued) }, func(ctx context.Context, _ *state) error {
		_, err := r.house.Queue.Remove(ctx, queue.Filter{All: true}, "test")
		return err
	})
}

// merge rewrites segments twice, so that the first round's are unlinked.
func (r *runner) merge() error {
	return r.step("merge", func(*state) {}, func(ctx context.Context, _ *state) error {
		for range 2 {
			if _, err := r.segments.Merge(ctx, body.MergeOptions{}); err != nil {
				return err
			}
		}
		return nil
	})
}

func (r *runner) flush() error {
	return r.step("flush", func(*state) {}, func(ctx context.Context, _ *state) error { return r.segments.Flush(ctx) })
}

// open begins a life of the process; close ends it.
func (r *runner) open() error {
	return r.step("open", func(*state) {}, func(context.Context, *state) (err error) {
		r.house, r.segments, err = openHouse(r.tb, r.fsys, r.db, r.clock, r.adjust)
		return err
	})
}

func (r *runner) close() error {
	return r.step("close", func(*state) {}, func(context.Context, *state) error { return r.segments.Close() })
}

// script is two lives of a process.
func (r *runner) script() error {
	one, two, both := []envelope.AccountID{1}, []envelope.AccountID{2}, []envelope.AccountID{1, 2}
	for life := range 2 {
		for _, act := range []func() error{
			r.open,
			func() error { return r.accept(10, one) },
			func() error { return r.accept(900, both) },
			func() error { return r.accept(2500, two, "a@far.example", "b@far.example") },
			func() error { return r.accept(6000, both) }, // a segment of its own
			func() error { return r.remove(1, 0, 1) },
			func() error { return r.accept(3000, one) }, // rotation
			func() error { return r.accept(700, []envelope.AccountID{3}) },
			func() error { return r.remove(2, 1) },
			func() error { return r.restore(2) },
			func() error { return r.purge(1) },
			func() error { return r.accept(0, nil, "c@far.example") },
			r.merge,
			r.flush,
			func() error { return r.accept(50, both) },
			func() error { return r.remove(2, 0, 2) },
			func() error {
				if life == 0 {
					return nil
				}
				return r.unqueue()
			},
			func() error { return r.purge(2) },
			r.merge,
			func() error { return r.accept(2000, one) },
			r.close,
		} {
			if err := act(); err != nil {
				return err
			}
		}
	}
	return nil
}
