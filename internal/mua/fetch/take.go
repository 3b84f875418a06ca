package fetch

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	netmail "net/mail"
	"slices"
	"strings"
	"time"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/mua/fetch/arrivals"
	"poczta.example/poczta/internal/mua/store"
	"poczta.example/poczta/internal/pop3client"
)

// taken is a letter that has come and is not yet durable.
type taken struct {
	m       *mail
	staged  body.Staged
	partial bool
	row     *row
	held    int64 // octets of the dock
	place   *arrivals.Place
	// received is when it came to its last server.
	received time.Time
}

// take fetches letters: whole, or where the policy says so only their header sections. Those that had come
// when a fetch was killed it has already.
func (r *round) take(ctx context.Context, fresh []*mail) error {
	left := r.kept.Left()
	if len(fresh) == 0 {
		r.kept.Clear()
		return nil
	}
	inOrder(fresh)
	var whole, heads, here []*mail
	for _, m := range fresh {
		above := r.a.Policy.HeadersAbove
		if is := left[m.key]; is != nil && is.Told == m.Octets {
			m.kept = is
		}
		switch {
		case m.kept != nil:
			here = append(here, m)
		case (above > 0 && m.Octets > above || m.Octets > largest) && m.was == nil && m.key != "" && r.tops():
			heads = append(heads, m)
		case r.tooLarge(m):
			continue
		default:
			whole = append(whole, m)
		}
		r.todo.TotalOctets += min(m.Octets, largest)
	}
	r.todo.Account, r.todo.TotalLetters = r.a.ID, len(fresh)
	r.f.c.Progress(r.todo)
	err := r.stream(ctx, here, r.reread)
	if err == nil {
		r.kept.Clear()
		for _, m := range here {
			if !m.came { // it was not as it had come
				whole = append(whole, m)
			}
		}
		err = r.stream(ctx, heads, r.top)
	}
	if err == nil {
		err = r.stream(ctx, whole, r.retrieve)
	}
	if filed := r.file(ctx, nil); err == nil {
		err = filed
	}
	return err
}

// source gives letters, one after the other, and whether what it gives are header sections or whole letters.
type source func(ctx context.Context, list []*mail, fn func(n int, text io.Reader, partial bool) error) error

// top and retrieve are the server.
func (r *round) top(ctx context.Context, list []*mail, fn func(int, io.Reader, bool) error) error {
	err := r.s.Top(ctx, numbers(list), 0, func(n int, text io.Reader) error { return fn(n, text, true) })
	if !declined(err) {
		return err
	}
	// Those it does not show are fetched whole.
	return r.retrieve(ctx, slices.DeleteFunc(list, func(m *mail) bool { return m.came || r.tooLarge(m) }), fn)
}

func (r *round) retrieve(ctx context.Context, list []*mail, fn func(int, io.Reader, bool) error) error {
	if len(list) == 0 {
		return nil
	}
	return r.s.Retrieve(ctx, numbers(list), func(n int, text io.Reader) error { return fn(n, text, false) })
}

// reread gives letters that came before.
func (r *round) reread(ctx context.Context, list []*mail, fn func(int, io.Reader, bool) error) error {
	for _, m := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fn(m.Number, m.kept.Open(), false); err != nil {
			return err
		}
	}
	return nil
}

// stream takes letters from a source while those that have come are made durable.
func (r *round) stream(ctx context.Context, list []*mail, from source) error {
	if len(list) == 0 {
		return nil
	}
	inner, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	came := make(chan *taken, ahead)
	r.dock = newDock(aheadOctets)
	done := make(chan error, 1)
	go func() { done <- r.commit(ctx, inner, came, stop) }()
	by := byNumber(list)
	err := from(inner, list, func(n int, text io.Reader, partial bool) error {
		t, err := r.arrive(inner, by[n], text, partial)
		if t == nil || err != nil {
			return err
		}
		r.coming.Add(1)
		select {
		case came <- t:
			t.m.came = true
			return nil
		case <-inner.Done():
			r.coming.Add(-1)
			t.staged.Discard()
			return context.Cause(inner)
		}
	})
	close(came)
	if stored := <-done; stored != nil {
		return stored
	}
	return r.refuse(err)
}

// arrive takes a letter in, and keeps it for the case that the process is killed before the letter is durable. It returns
// nil for a letter that was kept and is not as it had come.
func (r *round) arrive(ctx context.Context, m *mail, text io.Reader, partial bool) (*taken, error) {
	held := r.dock.take(ctx, m.Octets)
	t, err := r.stage(ctx, m, text, partial)
	if err != nil {
		return nil, err
	}
	t.held = held
	if m.kept != nil && t.staged.SHA256() != m.kept.SHA256 {
		t.staged.Discard()
		r.dock.give(held)
		m.kept = nil
		return nil, nil
	}
	if err := r.describe(t); err != nil { // here, while the commit before waits for the disk
		t.staged.Discard()
		return nil, err
	}
	if m.kept == nil && !partial && !t.row.odd && t.row.key[0] != 's' {
		t.place = r.kept.Put(t.row.key, m.Octets, t.staged.Octets(), t.row.sha256, t.staged)
	}
	return t, nil
}

// declined reports that the server does not do what was asked, for some letters or at all.
func declined(err error) bool {
	var refused pop3client.Refusals
	var unsupported *pop3client.Unsupported
	return errors.As(err, &refused) || errors.As(err, &unsupported)
}

// stage takes a letter's octets.
func (r *round) stage(ctx context.Context, m *mail, text io.Reader, partial bool) (*taken, error) {
	hint := m.Octets
	if partial {
		hint = min(hint, headerHint)
	}
	staged, err := r.f.c.Store.Body().Stage(ctx, hint)
	if err != nil {
		return nil, fmt.Errorf("make room for letter %d of %d octets: %w; nothing was deleted on the server", m.Number, m.Octets, err)
	}
	if _, err := io.Copy(staged, text); err != nil {
		staged.Discard()
		return nil, fmt.Errorf("take letter %d: %w", m.Number, err)
	}
	return &taken{m: m, staged: staged, partial: partial}, nil
}

// unload makes the octets of a batch durable, and finds out which letters lie here already.
func (r *round) unload(ctx context.Context, batch []*taken) (*load, error) {
	l := &load{batch: batch, fresh: make([]*taken, 0, len(batch))}
	for _, t := range batch {
		same, err := r.same(ctx, t)
		if err != nil {
			return nil, err
		}
		if !same {
			l.fresh = append(l.fresh, t)
		}
	}
	if len(l.fresh) == 0 {
		return l, nil
	}
	landings := make([]store.Landing, len(l.fresh))
	for i, t := range l.fresh {
		landings[i] = store.Landing{Import: r.imported(t), Note: t.row.note()}
		if t.partial {
			landings[i].Whole = max(1, t.m.Octets)
		}
	}
	var err error
	if l.bodies, err = r.f.c.Store.Unload(ctx, r.a.ID, landings); err != nil {
		return nil, unstored(len(l.fresh), err)
	}
	for _, t := range l.fresh {
		r.rows[t.row.key] = t.row
	}
	return l, nil
}

// unstored says that letters could not be made durable.
func unstored(n int, err error) error {
	return fmt.Errorf("store %d letters: %w; nothing was deleted on the server", n, err)
}

// keep puts a batch into the tables, letters and what the journal will say of them in one transaction, and counts it.
func (r *round) keep(ctx context.Context, l *load) error {
	if l.bodies != nil {
		if err := l.bodies.Land(ctx); err != nil {
			return unstored(len(l.fresh), err)
		}
	}
	r.waiting += len(l.fresh)
	for _, t := range l.fresh {
		switch {
		case t.partial:
			r.res.Headers++
		default:
			r.res.Fetched++
		}
		if t.row.odd && t.staged.Octets() != t.m.Octets {
			r.remark("letter %d has %d octets where the server told %d; it stays on the server until it was fetched twice alike", t.m.Number, t.staged.Octets(), t.m.Octets)
		}
	}
	for _, t := range l.batch {
		r.todo.Letters++
		r.todo.Octets += min(t.m.Octets, largest)
		r.res.Octets += t.staged.Octets()
	}
	r.f.c.Progress(r.todo)
	return nil
}

// describe makes the journal's row of a letter that has come.
func (r *round) describe(t *taken) error {
	w := &row{fresh: true, key: t.m.key, octets: t.m.Octets, at: db.Micros(r.now), sha256: t.staged.SHA256(), partial: t.partial}
	if r.buf == nil {
		r.buf = make([]byte, 8<<10)
	}
	head, err := headAt(t.staged, t.staged.Octets(), r.buf)
	if err != nil {
		return fmt.Errorf("look at letter %d: %w", t.m.Number, err)
	}
	w.digest, t.received = digestOf(head), received(head, r.now)
	if w.key == "" { // without unique-id and TOP a letter is known by all it holds
		base := "s" + hex.EncodeToString(w.sha256[:])
		r.alike[base]++
		w.key = counted(base, r.alike[base])
		t.m.key = w.key
	}
	if w.odd, err = t.odd(); err != nil {
		return fmt.Errorf("look at letter %d: %w", t.m.Number, err)
	}
	r.doubt = r.doubt || w.odd
	w.odd = r.doubt && !t.partial // its end may have been lost, and what came behind it is another letter then
	w.compared = !t.partial && !w.odd
	t.row = w
	return nil
}

// odd reports whether a whole letter has another size than the server told: a line may have lost
// some of it, or brought something else in between. Servers count line ends as one octet or two, and some the
// dots that POP3 doubles; that is not odd.
func (t *taken) odd() (bool, error) {
	size, told := t.staged.Octets(), t.m.Octets
	if t.partial || size == told {
		return false, nil
	}
	var lines, dots int64
	buf := make([]byte, 64<<10)
	begin := true
	for at := int64(0); at < size; {
		n, err := t.staged.ReadAt(buf, at)
		if n == 0 && err != nil {
			return false, err
		}
		for _, c := range buf[:n] {
			if begin && c == '.' {
				dots++
			}
			if begin = c == '\n'; begin {
				lines++
			}
		}
		at += int64(n)
	}
	return told != size-lines && told != size+dots && told != size-lines+dots, nil
}

// same reports whether a letter that has come lies here already, and journals that: the one that
// the journal had under its key, or one that the server does not list any more, with equal octets.
func (r *round) same(ctx context.Context, t *taken) (bool, error) {
	if t.partial {
		return false, nil
	}
	old := r.rows[t.row.key] // its own row: the server told another size, or has no unique-ids
	if old == nil || old.sha256 != t.row.sha256 || old.partial || old.letter == 0 {
		old = r.lostBy(t.row.sha256)
	}
	if old == nil {
		return false, nil
	}
	now := *t.row
	now.letter, now.at = old.letter, old.at
	var dropped []string
	if old.key != now.key {
		dropped = append(dropped, old.key)
		delete(r.rows, old.key)
		r.res.Recognised++
	}
	r.rows[now.key] = &now
	return true, r.write(ctx, []*row{&now}, dropped)
}

// lostBy finds the row of a letter with these octets that the server does not list any more.
func (r *round) lostBy(sum [32]byte) *row {
	if r.lost == nil {
		r.lost = map[[32]byte][]*row{}
		for _, w := range r.rows {
			if w.missing() && !w.partial {
				r.lost[w.sha256] = append(r.lost[w.sha256], w)
			}
		}
	}
	for list := r.lost[sum]; len(list) > 0; list = r.lost[sum] {
		w := list[0]
		r.lost[sum] = list[1:]
		if w.missing() && r.rows[w.key] == w {
			return w
		}
	}
	return nil
}

// imported is a letter as the store takes it. The server's unique-id stays its own where it may.
func (r *round) imported(t *taken) mailbox.Import {
	im := mailbox.Import{Source: "POP3 " + t.row.key, Staged: t.staged, Received: t.received}
	if id, ok := strings.CutPrefix(t.row.key, "u"); ok && mailbox.LegalUniqueID(id) {
		im.UniqueID = id
	}
	return im
}

// received is when the letter came to its last server: the date of its first Received field
// (RFC 5321 §4.4), if that can be true.
func received(head []byte, now time.Time) time.Time {
	for f := range message.Fields(head) {
		if !f.Is("Received") {
			continue
		}
		value := f.Body()
		i := bytes.LastIndexByte(value, ';')
		if i < 0 {
			return now
		}
		at, err := parseDate(message.Unfold(value[i+1:]))
		if err != nil || at.After(now) || at.Year() < 1980 {
			return now
		}
		return at
	}
	return now
}

// parseDate reads a date, quickly where it has its usual form.
func parseDate(s string) (time.Time, error) {
	plain, _, _ := strings.Cut(s, " (")
	if at, err := time.Parse("Mon, 2 Jan 2006 15:04:05 -0700", plain); err == nil {
		return at, nil
	}
	return netmail.ParseDate(s)
}
