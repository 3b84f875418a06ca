package queue_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/post/posttest"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/trace"
)

// accept accepts a message for remote recipients and returns its id.
func accept(t testing.TB, h *posttest.House, remotes ...string) message.ID {
	t.Helper()
	return acceptAs(t, h, nil, remotes...)
}

func acceptAs(t testing.TB, h *posttest.House, edit func(*post.Delivery), remotes ...string) message.ID {
	t.Helper()
	d := h.Delivery(t, posttest.Text("x"), nil, remotes...)
	d.Envelope.Origin.Account = 7
	if edit != nil {
		edit(d)
	}
	if err := h.Post.Accept(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	d.Staged.Discard()
	return d.ID
}

// join begins an incarnation.
func join(t testing.TB, h *posttest.House, name string) *queue.Node {
	t.Helper()
	n, err := h.Queue.Join(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func claim(t testing.TB, n *queue.Node, limit int) []queue.Claim {
	t.Helper()
	all, _, err := n.Claim(t.Context(), limit)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// claimed is the claims' destinations in one line.
func claimed(t testing.TB, n *queue.Node, limit int) string {
	t.Helper()
	var names []string
	for _, c := range claim(t, n, limit) {
		names = append(names, c.Destination)
	}
	return strings.Join(names, " ")
}

func take(t testing.TB, n *queue.Node, c queue.Claim, limit int) []queue.Job {
	t.Helper()
	jobs, err := n.Take(t.Context(), c, limit)
	if err != nil {
		t.Fatal(err)
	}
	return jobs
}

// words is the recipients of jobs: those of a message joined by +.
func words(jobs []queue.Job) string {
	var all []string
	for i := range jobs {
		var to []string
		for _, r := range jobs[i].Recipients {
			to = append(to, r.ForwardPath)
		}
		all = append(all, strings.Join(to, "+"))
	}
	return strings.Join(all, " ")
}

// results are the same outcome for all recipients of jobs.
func results(h *posttest.House, o queue.Outcome, jobs ...queue.Job) []queue.Result {
	var all []queue.Result
	now := h.Clock.Now()
	for i := range jobs {
		for _, r := range jobs[i].Recipients {
			all = append(all, queue.Result{ID: jobs[i].Message.ID, N: r.N, Outcome: o, At: now, Next: now.Add(10 * time.Minute),
				Status: "451 4.3.0 later", Host: "mx.far.example [192.0.2.1]", TLS: "TLS1.3"})
		}
	}
	return all
}

func settle(t testing.TB, n *queue.Node, r []queue.Result) {
	t.Helper()
	if err := n.Settle(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

func release(t testing.TB, n *queue.Node, claims ...queue.Claim) {
	t.Helper()
	if err := n.Release(t.Context(), claims...); err != nil {
		t.Fatal(err)
	}
}

// fates are the fates of a message in one line.
func fates(t testing.TB, h *posttest.House, id message.ID) string {
	t.Helper()
	found, err := h.Trace.Find(t.Context(), trace.Viewer{Operator: true}, trace.Query{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, f := range found[0].Fates {
		all = append(all, strings.TrimSpace(f.State.String()+" "+f.Detail))
	}
	return strings.Join(all, " | ")
}

// number reads a number.
func number(t testing.TB, h *posttest.House, query string, args ...any) (n int64) {
	t.Helper()
	if err := h.DB.View(t.Context(), func(tx db.Tx) error { return tx.QueryRow(query, args...).Scan(&n) }); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// run writes.
func run(t testing.TB, h *posttest.House, query string, args ...any) {
	t.Helper()
	err := h.DB.Update(t.Context(), func(tx db.Tx) error {
		_, err := tx.Exec(query, args...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// beside is another process on the same database.
func beside(t testing.TB, h *posttest.House) *posttest.House {
	t.Helper()
	return posttest.Open(t, h.DB, posttest.Options{Body: h.Body, Clock: h.Clock})
}

// work serves every claim that n gets until there is none, with one outcome, and returns whom it took.
func work(t testing.TB, h *posttest.House, n *queue.Node, o queue.Outcome) string {
	t.Helper()
	var all []string
	for range 1000 {
		claims := claim(t, n, 10)
		if len(claims) == 0 {
			slices.Sort(all)
			return strings.Join(all, " ")
		}
		for _, c := range claims {
			for jobs := take(t, n, c, 100); len(jobs) > 0; jobs = take(t, n, c, 100) {
				all = append(all, strings.FieldsFunc(words(jobs), func(r rune) bool { return r == ' ' || r == '+' })...)
				settle(t, n, results(h, o, jobs...))
			}
		}
		release(t, n, claims...)
	}
	t.Fatal("the work has no end")
	return ""
}

// many are n addresses at a domain.
func many(n int, domain string) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("r%03d@%s", i, domain)
	}
	return all
}

// aloneDB is a SQLite that never fails and has a row for every question.
type aloneDB struct{ db.Database }

func (aloneDB) Engine() string                                      { return "sqlite" }
func (aloneDB) Update(_ context.Context, _ func(db.Tx) error) error { return nil }
func (aloneDB) View(_ context.Context, _ func(db.Tx) error) error   { return nil }
