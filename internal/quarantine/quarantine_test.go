package quarantine_test

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post/posttest"
	"poczta.example/poczta/internal/quarantine"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/reputation"
	"poczta.example/poczta/internal/trace"
)

const ala, ola envelope.AccountID = 1, 2

// teacher is a Learner and a Corrector that remembers.
type teacher struct {
	mu    sync.Mutex
	lines []string
	fail  error
}

func (l *teacher) Learn(_ context.Context, _ envelope.AccountID, msg io.ReaderAt, size int64, spam bool) error {
	b, err := io.ReadAll(io.NewSectionReader(msg, 0, size))
	if err != nil {
		return err
	}
	value, _ := message.Get(b, "Subject")
	l.add(map[bool]string{true: "spam ", false: "ham "}[spam] + value)
	return l.fail
}

func (l *teacher) Correct(_ context.Context, sub reputation.Subject, spam bool) {
	l.add(map[bool]string{true: "bad ", false: "good "}[spam] + sub.Peer.String() + " " + sub.Domain.String() + " " + sub.Address.String())
}

func (l *teacher) add(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, s)
}

func (l *teacher) said() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.lines...)
}

type room struct {
	*posttest.House
	*quarantine.Room
	teacher *teacher
}

func each(t *testing.T, fn func(t *testing.T, r *room)) {
	t.Helper()
	t.Parallel()
	dbtest.Each(t, append(posttest.Components(), quarantine.Schema), func(t *testing.T, d db.Database) {
		h := posttest.Open(t, d, posttest.Options{})
		r := &room{House: h, teacher: &teacher{}}
		q, err := quarantine.New(quarantine.Config{DB: d, Mailboxes: h.Mailboxes, Trace: h.Trace, Queue: h.Queue, Learner: r.teacher, Reputation: r.teacher,
			Hostname: "mx.poczta.example", Now: h.Clock.Now, Quota: func(context.Context, envelope.AccountID) (int64, error) { return 4000, nil }})
		must(t, err)
		r.Room = q
		fn(t, r)
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// setApart delivers a message into a folder.
func (r *room) setApart(t *testing.T, account envelope.AccountID, folder, text string) message.ID {
	t.Helper()
	d := r.Delivery(t, text, []envelope.AccountID{account})
	d.Locals[0].Mailbox = folder
	domain, err := address.ParseDomain("origin.example")
	must(t, err)
	d.Within = r.Within(d, quarantine.Note{Rule: "score 12.3 is at least 10.0", Score: 12.3,
		Subject: reputation.Subject{Peer: netip.MustParseAddr("192.0.2.1"), Domain: domain}})
	must(t, r.Post.Accept(t.Context(), d))
	return d.ID
}

func (r *room) list(t *testing.T, f quarantine.Filter) (out []string) {
	t.Helper()
	for after := ""; ; {
		items, next, err := r.List(t.Context(), f, after, 1) // one a page, so that paging is tried
		must(t, err)
		for _, it := range items {
			out = append(out, strings.Join([]string{string(it.Kind), it.Login, it.Recipient, it.Rule, it.Sender}, "|"))
		}
		if after = next; after == "" {
			return out
		}
	}
}

func (r *room) fate(t *testing.T, id message.ID) string {
	t.Helper()
	found, err := r.Trace.Find(t.Context(), trace.Viewer{Operator: true}, trace.Query{ID: id})
	must(t, err)
	return found[0].Fates[0].State.String() + " " + found[0].Fates[0].Detail
}

func (r *room) inbox(t *testing.T, account envelope.AccountID) (ids []string) {
	t.Helper()
	d, err := r.Mailboxes.Open(t.Context(), posttest.Identity(account), true)
	must(t, err)
	defer d.Close()
	for i := range d.Len() {
		ids = append(ids, string(d.AppendUniqueID(nil, i)))
	}
	return ids
}

func TestRelease(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		plain := r.Deliver(t, ala, posttest.Text("plain"))
		id := r.setApart(t, ala, mailbox.Quarantine, posttest.Text("wanted"))
		if diff := cmp.Diff([]string{plain.String()}, r.inbox(t, ala)); diff != "" {
			t.Errorf("POP3 shows what is set apart (-want +got):\n%s", diff)
		}
		if got, want := r.fate(t, id), "quarantined Quarantine: score 12.3 is at least 10.0"; got != want {
			t.Errorf("fate is %q, want %q", got, want)
		}
		if diff := cmp.Diff([]string{"quarantine|" + posttest.Login(ala) + "||score 12.3 is at least 10.0|sender@origin.example"}, r.list(t, quarantine.Filter{})); diff != "" {
			t.Errorf("list (-want +got):\n%s", diff)
		}
		it, err := r.Show(t.Context(), ala, id)
		must(t, err)
		in, err := r.Room.Open(t.Context(), it)
		must(t, err)
		before, err := io.ReadAll(in)
		must(t, errors.Join(err, in.Close()))
		if _, err := r.Show(t.Context(), ola, id); !errors.Is(err, quarantine.ErrNotFound) {
			t.Errorf("another account sees it: %v", err)
		}
		if n, err := r.Release(t.Context(), quarantine.Filter{Account: ola, ID: id}, "ola"); n != 0 || err != nil {
			t.Errorf("another account released %d, %v", n, err)
		}
		n, err := r.Release(t.Context(), quarantine.Filter{Account: ala, ID: id}, "ala")
		if n != 1 || err != nil {
			t.Fatalf("released %d, %v", n, err)
		}
		if diff := cmp.Diff([]string{plain.String(), id.String()}, r.inbox(t, ala)); diff != "" {
			t.Errorf("INBOX after the release (-want +got):\n%s", diff)
		}
		d, err := r.Mailboxes.Open(t.Context(), posttest.Identity(ala), true)
		must(t, err)
		defer d.Close()
		out, _, err := d.Read(t.Context(), 1)
		must(t, err)
		after, err := io.ReadAll(out)
		must(t, errors.Join(err, out.Close()))
		if diff := cmp.Diff(string(before), string(after)); diff != "" {
			t.Errorf("released octets differ:\n%s", diff)
		}
		if got, want := r.fate(t, id), "delivered INBOX: released by ala"; got != want {
			t.Errorf("fate is %q, want %q", got, want)
		}
		if diff := cmp.Diff([]string{"ham wanted", "good 192.0.2.1 origin.example "}, r.teacher.said()); diff != "" {
			t.Errorf("learned (-want +got):\n%s", diff)
		}
		if r.Journal.Count(body.EventMoved) != 1 {
			t.Error("no journal record of the move")
		}
		if n, err := r.Release(t.Context(), quarantine.Filter{Account: ala, ID: id}, "ala"); n != 0 || err != nil {
			t.Errorf("released again: %d, %v", n, err)
		}
		if u, err := r.Mailboxes.Usage(t.Context(), ala); err != nil || u.Apart != 0 || u.Messages != 2 {
			t.Errorf("usage is %+v, %v", u, err)
		}
	})
}

// TestReleaseOnce: of several who release at once one does.
func TestReleaseOnce(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		id := r.setApart(t, ala, mailbox.Junk, posttest.Text("x"))
		got := make(chan int, 6)
		for i := range cap(got) {
			go func() {
				f, n, err := quarantine.Filter{Account: ala, ID: id}, 0, error(nil)
				if i%3 == 0 {
					n, err = r.Delete(t.Context(), f, "x", false)
				} else {
					n, err = r.Release(t.Context(), f, "x")
				}
				if err != nil {
					t.Error(err)
				}
				got <- n
			}()
		}
		n := 0
		for range cap(got) {
			n += <-got
		}
		u, err := r.Mailboxes.Usage(t.Context(), ala)
		gone, _, err2 := r.Mailboxes.Deleted(t.Context(), ala, mailbox.Selection{}, "", 0)
		if n != 1 || u.Messages+int64(len(gone)) != 1 || u.Apart != 0 || errors.Join(err, err2) != nil {
			t.Errorf("%d times; usage %+v, %d deleted, %v", n, u, len(gone), errors.Join(err, err2))
		}
	})
}

func TestFilters(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		r.setApart(t, ala, mailbox.Quarantine, posttest.Text("one"))
		junk := r.setApart(t, ola, mailbox.Junk, posttest.Text("two"))
		r.setApart(t, ola, mailbox.Inbox, posttest.Text("three")) // no folder of what is set apart
		d := r.Delivery(t, posttest.Text("four"), nil, "a@far.example", "b@far.example", "c@far.example")
		d.Remotes[2].Held = quarantine.HeldReason + "spam"
		must(t, r.Post.Accept(t.Context(), d))
		_, err := r.Queue.Hold(t.Context(), queue.Filter{ForwardPath: "a@far.example"}, quarantine.HeldReason+"virus")
		must(t, err)
		_, err = r.Queue.Hold(t.Context(), queue.Filter{ForwardPath: "b@far.example"}, "the operator's reason")
		must(t, err)
		tests := []struct {
			name  string
			f     quarantine.Filter
			kinds string
		}{
			{"all", quarantine.Filter{}, "quarantine junk queue queue"},
			{"kind", quarantine.Filter{Kind: quarantine.Queue}, "queue queue"},
			{"account", quarantine.Filter{Account: ola}, "junk"},
			{"account and queue", quarantine.Filter{Account: ola, Kind: quarantine.Queue}, ""},
			{"id", quarantine.Filter{ID: junk}, "junk"},
			{"rule", quarantine.Filter{Rule: "VIRUS"}, "queue"},
			{"sender", quarantine.Filter{Sender: "<SENDER@origin.example>"}, "quarantine junk queue queue"},
			{"null sender", quarantine.Filter{Sender: "<>"}, ""},
			{"before", quarantine.Filter{Before: r.Clock.Now().Add(-time.Second)}, ""},
		}
		for _, tt := range tests {
			var kinds []string
			for _, l := range r.list(t, tt.f) {
				kind, _, _ := strings.Cut(l, "|")
				kinds = append(kinds, kind)
			}
			if got := strings.Join(kinds, " "); got != tt.kinds {
				t.Errorf("%s: %q, want %q", tt.name, got, tt.kinds)
			}
		}
		if _, _, err := r.List(t.Context(), quarantine.Filter{}, "a.1", 0); err == nil {
			t.Error("a malformed cursor is no error")
		}
		if _, err := r.Release(t.Context(), quarantine.Filter{}, "x"); !errors.Is(err, quarantine.ErrEmptyFilter) {
			t.Errorf("empty filter: %v", err)
		}
		n, err := r.Release(t.Context(), quarantine.Filter{Kind: quarantine.Queue}, "x")
		if n != 2 || err != nil {
			t.Errorf("released %d, %v", n, err)
		}
		m, err := r.Queue.Show(t.Context(), d.ID)
		must(t, err)
		if m.Recipients[0].State != queue.Waiting || m.Recipients[1].State != queue.Held || m.Recipients[2].State != queue.Waiting {
			t.Errorf("recipients are %v and %v", m.Recipients[0].State, m.Recipients[1].State)
		}
	})
}

func TestDelete(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		id := r.setApart(t, ala, mailbox.Junk, posttest.Text("rubbish"))
		r.teacher.fail = errors.New("no") // is no reason not to delete
		n, err := r.Delete(t.Context(), quarantine.Filter{Account: ala}, "ala", true)
		if n != 1 || err != nil {
			t.Fatalf("deleted %d, %v", n, err)
		}
		if diff := cmp.Diff([]string{"spam rubbish"}, r.teacher.said()); diff != "" {
			t.Errorf("learned (-want +got):\n%s", diff)
		}
		gone, _, err := r.Mailboxes.Deleted(t.Context(), ala, mailbox.Selection{}, "", 0)
		if err != nil || len(gone) != 1 || r.fate(t, id) != "quarantined Junk: deleted by ala" {
			t.Errorf("retained %v, %v, fate %q", gone, err, r.fate(t, id))
		}
	})
}

// TestOwnersHand: what the owner did to a message by other means is no error.
func TestOwnersHand(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		r.setApart(t, ala, mailbox.Junk, posttest.Text("removed"))
		_, err := r.Mailboxes.Remove(t.Context(), ala, "", mailbox.Junk, []mailbox.UID{1})
		must(t, err)
		id := r.setApart(t, ala, mailbox.Junk, posttest.Text("moved"))
		_, err = r.Mailboxes.Move(t.Context(), mailbox.Move{Account: ala, From: mailbox.Junk, UID: 2, To: "Kept"})
		must(t, err)
		if got := r.list(t, quarantine.Filter{}); len(got) != 0 {
			t.Errorf("listed: %v", got)
		}
		if items, total, err := r.Untold(t.Context(), ala, r.Clock.Now().Add(time.Hour), 1); len(items) != 0 || total != 0 || err != nil {
			t.Errorf("untold %v of %d, %v", items, total, err)
		}
		if n, err := r.Release(t.Context(), quarantine.Filter{ID: id}, "x"); n != 0 || err != nil {
			t.Errorf("released %d, %v", n, err)
		}
		r.Clock.Advance(31 * 24 * time.Hour)
		if n, err := r.Sweep(t.Context()); n != 0 || err != nil {
			t.Errorf("swept %d, %v", n, err)
		}
		if accounts, err := r.Owing(t.Context(), 0, 10); err != nil || len(accounts) != 0 {
			t.Errorf("rows are left: %v, %v", accounts, err)
		}
	})
}

func TestMove(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		head := "Authentication-Results: mx.poczta.example; dmarc=pass header.from=origin.example\r\n"
		id := r.Deliver(t, ala, head+posttest.Text("letter"))
		move := func(from, to string, uid mailbox.UID) mailbox.Entry {
			t.Helper()
			e, err := r.Move(t.Context(), quarantine.Move{Account: ala, Login: posttest.Login(ala), From: from, To: to, UID: uid, By: "ala"})
			must(t, err)
			return e
		}
		e := move("INBOX", mailbox.Junk, 1)
		if e.UniqueID != id.String() || len(r.inbox(t, ala)) != 0 || len(r.list(t, quarantine.Filter{Account: ala})) != 1 {
			t.Errorf("after the move: %+v", e)
		}
		if accounts, err := r.Owing(t.Context(), 0, 10); err != nil || len(accounts) != 0 {
			t.Errorf("a digest would tell of what its owner moved: %v, %v", accounts, err)
		}
		move(mailbox.Junk, mailbox.Quarantine, e.UID)
		move(mailbox.Quarantine, "inbox", 1)
		want := []string{"spam letter", "bad invalid IP origin.example sender@origin.example", "ham letter", "good invalid IP origin.example sender@origin.example"}
		if diff := cmp.Diff(want, r.teacher.said()); diff != "" {
			t.Errorf("learned (-want +got):\n%s", diff)
		}
		_, err := r.Move(t.Context(), quarantine.Move{Account: ala, From: "INBOX", To: mailbox.Junk, UID: 99})
		if !errors.Is(err, mailbox.ErrNotFound) {
			t.Errorf("a move of nothing: %v", err)
		}
	})
}

// TestMoveSentAgain: a letter that its signer may not have sent is not held against them.
func TestMoveSentAgain(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		r.Deliver(t, ala, "Authentication-Results: mx.poczta.example; dmarc=pass header.from=origin.example policy.direct=no\r\n"+posttest.Text("letter"))
		_, err := r.Move(t.Context(), quarantine.Move{Account: ala, Login: posttest.Login(ala), From: "INBOX", To: mailbox.Junk, UID: 1, By: "ala"})
		must(t, err)
		for _, said := range r.teacher.said() {
			if strings.Contains(said, "origin.example") {
				t.Errorf("it is held against its signer: %s", said)
			}
		}
	})
}

func TestSweep(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		old := r.setApart(t, ala, mailbox.Quarantine, posttest.Text("old"))
		r.Clock.Advance(20 * 24 * time.Hour)
		for range 9 { // 150 octets each: over a quarter of 4,000
			r.setApart(t, ola, mailbox.Junk, posttest.Text("flood"))
			r.Clock.Advance(time.Second)
		}
		r.Clock.Advance(11 * 24 * time.Hour)
		n, err := r.Sweep(t.Context())
		must(t, err)
		u, err := r.Mailboxes.Usage(t.Context(), ola)
		must(t, err)
		if u.Apart > 1000 || u.Apart < 800 || n != 1+9-int(u.Messages) {
			t.Errorf("swept %d, usage %+v", n, u)
		}
		if got, want := r.fate(t, old), "quarantined Quarantine: kept long enough"; got != want {
			t.Errorf("fate is %q, want %q", got, want)
		}
	})
}

// TestMovedMeanwhile: what its owner moves to another place among what is set apart, while it is put into retention,
// stays there and is listed.
func TestMovedMeanwhile(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		r.setApart(t, ala, mailbox.Junk, posttest.Text("one"))
		n, err := r.ExpireLate(t.Context(), quarantine.Filter{Account: ala}, func() {
			_, err := r.Move(t.Context(), quarantine.Move{Account: ala, Login: posttest.Login(ala), From: mailbox.Junk, To: mailbox.Quarantine, UID: 1, By: "ala"})
			must(t, err)
		})
		must(t, err)
		if got := r.list(t, quarantine.Filter{Kind: quarantine.Quarantine}); n != 0 || len(got) != 1 {
			t.Errorf("%d went into retention, listed: %v", n, got)
		}
		r.Clock.Advance(31 * 24 * time.Hour)
		if n, err := r.Sweep(t.Context()); n != 1 || err != nil {
			t.Errorf("swept %d, %v", n, err)
		}
	})
}

func TestTell(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		r.setApart(t, ala, mailbox.Quarantine, posttest.Text("one"))
		r.Clock.Advance(time.Minute)
		upTo := r.Clock.Now()
		r.setApart(t, ala, mailbox.Junk, posttest.Text("two"))
		items, total, err := r.Untold(t.Context(), ala, upTo.Add(time.Second), 1)
		if err != nil || len(items) != 1 || total != 2 {
			t.Fatalf("untold %v of %d, %v", items, total, err)
		}
		var n int64
		must(t, r.DB.Update(t.Context(), func(tx db.Tx) (err error) {
			n, err = r.Tell(tx, ala, upTo, r.Clock.Now())
			return err
		}))
		items, total, err = r.Untold(t.Context(), ala, upTo.Add(time.Second), 10)
		if err != nil || n != 1 || total != 1 || items[0].Kind != quarantine.Junk {
			t.Errorf("told %d; untold %v of %d, %v", n, items, total, err)
		}
	})
}

// TestQuota: junk fills a mailbox only beyond a quarter of its quota.
func TestQuota(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		for range 6 {
			r.setApart(t, ala, mailbox.Junk, posttest.Text("junk"))
		}
		u, err := r.Mailboxes.Usage(t.Context(), ala)
		must(t, err)
		if u.Apart < 600 || u.Apart != u.Octets {
			t.Fatalf("usage is %+v", u)
		}
		if got := u.Counted(4 * u.Apart); got != 0 {
			t.Errorf("%d octets count, want none", got)
		}
		if got, want := u.Counted(u.Apart), u.Apart-u.Apart/4; got != want {
			t.Errorf("%d octets count, want %d", got, want)
		}
		release, err := r.Mailboxes.Reserve(t.Context(), ala, u.Apart+100, 300)
		must(t, err)
		release()
	})
}
