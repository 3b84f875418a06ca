package fetch

import (
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
	"poczta.example/poczta/internal/mua/store"
	"poczta.example/poczta/internal/pop3client"
)

// Bounds of what is fetched but not yet durable. A slow line commits each letter at once.
const (
	ahead       = 64 // letters that wait for the commit before
	batchMost   = mailbox.MaxAppend
	batchOctets = 8 << 20
)

// taken is a letter that has come and is not yet durable.
type taken struct {
	m       *mail
	staged  body.Staged
	partial bool
	row     *row
}

// take fetches letters: whole, or where the policy says so only their header sections.
func (r *round) take(ctx context.Context, fresh []*mail) error {
	if len(fresh) == 0 {
		return nil
	}
	inOrder(fresh)
	var whole, heads []*mail
	for _, m := range fresh {
		above := r.a.Policy.HeadersAbove
		switch {
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
	if err := r.stream(ctx, heads, true); err != nil {
		return err
	}
	return r.stream(ctx, whole, false)
}

// stream fetches letters while those that have come are made durable.
func (r *round) stream(ctx context.Context, list []*mail, partial bool) error {
	if len(list) == 0 {
		return nil
	}
	inner, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	came := make(chan *taken, ahead)
	done := make(chan error, 1)
	go func() { done <- r.commit(ctx, came, stop) }()
	by := byNumber(list)
	fn := func(n int, text io.Reader) error {
		t, err := r.stage(inner, by[n], text, partial)
		if err != nil {
			return err
		}
		select {
		case came <- t:
			t.m.came = true
			return nil
		case <-inner.Done():
			t.staged.Discard()
			return context.Cause(inner)
		}
	}
	var err error
	if partial {
		err = r.s.Top(inner, numbers(list), 0, fn)
	} else {
		err = r.s.Retrieve(inner, numbers(list), fn)
	}
	close(came)
	if stored := <-done; stored != nil {
		return stored
	}
	if partial && declined(err) { // those it does not show are fetched whole
		return r.stream(ctx, slices.DeleteFunc(list, func(m *mail) bool { return m.came || r.tooLarge(m) }), false)
	}
	return r.refuse(err)
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

// commit makes letters durable, as many at once as have come. After an error it throws away what
// comes.
func (r *round) commit(ctx context.Context, came <-chan *taken, stop context.CancelCauseFunc) error {
	var failed error
	var batch []*taken
	for t := range came {
		batch = append(batch[:0], t)
		octets := t.staged.Octets()
	more:
		for len(batch) < batchMost && octets < batchOctets {
			select {
			case t, ok := <-came:
				if !ok {
					break more
				}
				batch = append(batch, t)
				octets += t.staged.Octets()
			default:
				break more
			}
		}
		if failed == nil {
			if failed = r.keep(ctx, batch); failed != nil {
				stop(failed)
			}
		}
		for _, t := range batch {
			t.staged.Discard()
		}
	}
	return failed
}

// keep makes a batch durable, letters and journal in one transaction, and counts it.
func (r *round) keep(ctx context.Context, batch []*taken) error {
	var fresh []*taken
	for _, t := range batch {
		if err := r.describe(t); err != nil {
			return err
		}
		same, err := r.same(ctx, t)
		if err != nil {
			return err
		}
		if !same {
			fresh = append(fresh, t)
		}
	}
	if err := r.add(ctx, fresh); err != nil {
		return err
	}
	for _, t := range batch {
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
	var err error
	if w.digest, err = digestAt(t.staged, t.staged.Octets()); err != nil {
		return fmt.Errorf("look at letter %d: %w", t.m.Number, err)
	}
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

// add stores letters that are new.
func (r *round) add(ctx context.Context, list []*taken) error {
	if len(list) == 0 {
		return nil
	}
	st := r.f.c.Store
	within := func(tx db.Tx, i int, a mailbox.Appended) error {
		t := list[i]
		t.row.letter = 0
		if !a.Duplicate {
			var err error
			if t.row.letter, err = st.LetterOf(tx, a.Entry.Account, a.Entry.Number, a.Entry.UID); err != nil {
				return err
			}
		}
		return r.f.journal.put(tx, r.a.ID, t.row)
	}
	var err error
	if list[0].partial {
		imports := make([]store.Partial, len(list))
		for i, t := range list {
			imports[i] = store.Partial{Import: r.imported(t), Whole: t.m.Octets}
		}
		_, err = st.AddPartial(ctx, r.a.ID, imports, within)
	} else {
		imports := make([]mailbox.Import, len(list))
		for i, t := range list {
			imports[i] = r.imported(t)
		}
		_, err = st.Add(ctx, r.a.ID, imports, within)
	}
	if err != nil {
		return fmt.Errorf("store %d letters: %w; nothing was deleted on the server", len(list), err)
	}
	for _, t := range list {
		r.rows[t.row.key] = t.row
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
	return nil
}

// imported is a letter as the store takes it. The server's unique-id stays its own where it may.
func (r *round) imported(t *taken) mailbox.Import {
	im := mailbox.Import{Source: "POP3 " + t.row.key, Staged: t.staged, Received: received(t.staged, r.now)}
	if id, ok := strings.CutPrefix(t.row.key, "u"); ok && mailbox.LegalUniqueID(id) {
		im.UniqueID = id
	}
	return im
}

// received is when the letter came to its last server: the date of its first Received field
// (RFC 5321 §4.4), if that can be true.
func received(s body.Staged, now time.Time) time.Time {
	buf := make([]byte, min(s.Octets(), 4<<10))
	n, err := s.ReadAt(buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return now
	}
	for f := range message.Fields(buf[:n]) {
		if !f.Is("Received") {
			continue
		}
		value := f.Value()
		i := strings.LastIndexByte(value, ';')
		if i < 0 {
			return now
		}
		at, err := netmail.ParseDate(strings.TrimSpace(value[i+1:]))
		if err != nil || at.After(now) || at.Year() < 1980 {
			return now
		}
		return at
	}
	return now
}
