package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Rules say which snapshots of one kind and origin stay. The newest always stays. All
// zero keeps every snapshot.
type Rules struct {
	Last    int // the newest ones
	Daily   int // the newest of each of that many days, by UTC, that have one
	Weekly  int // of each of that many weeks (ISO 8601)
	Monthly int // of each of that many months
}

func (r Rules) isZero() bool { return r == Rules{} }

// Keep says of snapshots, the oldest first, which stay: it returns those that go.
func (r Rules) Keep(all []*Snapshot) (gone []*Snapshot) {
	if r.isZero() {
		return nil
	}
	groups := make(map[string][]*Snapshot)
	for _, s := range all {
		key := s.Kind + "\x00" + s.Origin
		groups[key] = append(groups[key], s)
	}
	for _, list := range groups {
		gone = append(gone, r.one(list)...)
	}
	slices.SortFunc(gone, func(a, b *Snapshot) int { return strings.Compare(a.ID, b.ID) })
	return gone
}

// one is Keep for snapshots of one origin.
func (r Rules) one(list []*Snapshot) (gone []*Snapshot) {
	week := func(t time.Time) string { y, w := t.ISOWeek(); return fmt.Sprintf("%d-%d", y, w) }
	periods := []struct {
		left int
		name func(time.Time) string
		last string
	}{
		{r.Daily, func(t time.Time) string { return t.Format("2006-01-02") }, ""},
		{r.Weekly, week, ""},
		{r.Monthly, func(t time.Time) string { return t.Format("2006-01") }, ""},
	}
	for i, s := range slices.Backward(list) {
		n := len(list) - 1 - i
		keep := n == 0 || n < r.Last
		for p := range periods {
			p := &periods[p]
			if name := p.name(s.Time.UTC()); p.left > 0 && name != p.last {
				p.last, p.left, keep = name, p.left-1, true
			}
		}
		if !keep {
			gone = append(gone, s)
		}
	}
	return gone
}

// Pruned is what Prune did.
type Pruned struct {
	Forgotten []string `json:"forgotten"` // snapshots
	Packs     int      `json:"packs"`     // removed
	Rewritten int      `json:"rewritten"` // of those, with chunks that were still needed
	Freed     int64    `json:"freed"`     // octets in the target
	Kept      int64    `json:"kept"`      // octets of packs that stay
}

// deadShare is the share of octets that nobody needs from which on a pack is rewritten.
const deadShare = 0.25

// tidier is a Target in which a Put that is killed may leave something that no List shows.
// Tidy is called with the lock in hand and says how many octets it freed.
type tidier interface {
	Tidy(ctx context.Context) (freed int64, err error)
}

// Prune forgets the snapshots that the rules do not keep, and frees what no snapshot
// needs any more: packs of which nothing is needed are removed, those with much that is
// not are rewritten. Killed at any instant it leaves every snapshot whole, and the next Prune
// goes on. ErrLocked while another writes; ErrDamaged, with nothing removed, when a
// snapshot can't be read whole, since nobody knows then what it needs.
func (r *Repository) Prune(ctx context.Context, rules Rules) (done Pruned, err error) {
	l, err := takeLock(ctx, r.config, "prune")
	if err != nil {
		return done, fmt.Errorf("prune backups: %w", err)
	}
	defer func() { err = errors.Join(err, l.release(ctx)) }()
	p := &pruning{r: r, l: l, done: Pruned{Forgotten: []string{}}}
	if err := p.run(ctx, rules); err != nil {
		return p.done, fmt.Errorf("prune backups: %w", err)
	}
	return p.done, nil
}

// Forget removes one snapshot. What it alone needed goes with the next Prune.
func (r *Repository) Forget(ctx context.Context, id string) (err error) {
	if _, err := r.Snapshot(ctx, id); err != nil && !errors.Is(err, ErrDamaged) {
		return err
	}
	l, err := takeLock(ctx, r.config, "forget")
	if err != nil {
		return fmt.Errorf("forget backup %s: %w", id, err)
	}
	defer func() { err = errors.Join(err, l.release(ctx)) }()
	return r.config.Target.Remove(ctx, snapshotFolder+id)
}

// pruning is one run of Prune.
type pruning struct {
	r    *Repository
	l    *lock
	live *marks // chunks that snapshots name
	seen int64  // leaves and lists read
	done Pruned
}

func (p *pruning) run(ctx context.Context, rules Rules) error {
	free, err := p.r.hold(ctx)
	defer free()
	if err != nil {
		return err
	}
	p.live = newMarks(p.r.index)
	all, err := p.r.List(ctx)
	if err != nil {
		return fmt.Errorf("nothing is removed while a backup can't be read (verify tells more; prune --forget ID gives it up): %w", err)
	}
	gone := rules.Keep(all)
	for _, s := range all {
		if slices.Contains(gone, s) {
			continue
		}
		if err := p.mark(ctx, s); errors.Is(err, ErrDamaged) {
			return fmt.Errorf("nothing is removed while a backup can't be read (verify tells more; prune --forget %s gives it up): %w", s.ID, err)
		} else if err != nil {
			return err
		}
	}
	if err := p.l.valid(ctx); err != nil {
		return err
	}
	for _, s := range gone {
		if err := p.r.config.Target.Remove(ctx, snapshotFolder+s.ID); err != nil {
			return err
		}
		p.done.Forgotten = append(p.done.Forgotten, s.ID)
	}
	return p.sweep(ctx)
}

// mark notes every chunk that a snapshot names.
func (p *pruning) mark(ctx context.Context, s *Snapshot) error {
	for _, sec := range s.sections {
		rd := newSectionReader(p.r, sec, nil)
		rd.touched = func(b branch) bool {
			p.seen++
			return !p.live.add(b.ID) // when it is known, all below it is, too
		}
		err := rd.walk(ctx, nil, nil, func(_, octets []byte) error {
			v, err := decodeValue(octets)
			for _, id := range v.pieces {
				p.live.add(id)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("backup %s: %w", s.ID, err)
		}
		p.r.config.Progress(Progress{Step: "prune", Items: p.seen})
	}
	return nil
}

// sweep removes and rewrites packs. The order matters: new packs, the new index, then
// the old indexes go, then the old packs.
func (p *pruning) sweep(ctx context.Context) error {
	x := p.r.index
	byPack := make([][]located, len(x.packs))
	lives := make([]int64, len(x.packs))
	totals := make([]int64, len(x.packs))
	for i, c := range x.sorted {
		totals[c.pack] += int64(c.length)
		if p.live.has(i) {
			byPack[c.pack] = append(byPack[c.pack], c)
			lives[c.pack] += int64(c.length)
		}
	}
	var keep []packed
	out := newPacker(p.r)
	out.hold = true
	stays := make(map[ID]bool)
	for n, id := range x.packs {
		dead := totals[n] - lives[n]
		switch {
		case lives[n] == 0:
		case float64(dead) > deadShare*float64(totals[n]):
			if err := p.rewrite(ctx, out, id, x.sizes[n], byPack[n]); err != nil {
				return err
			}
			p.done.Rewritten++
		default:
			stays[id] = true
			p.done.Kept += x.sizes[n]
			keep = append(keep, packed{pack: id, size: x.sizes[n], chunks: byPack[n]})
		}
	}
	if err := out.flush(ctx); err != nil {
		return err
	}
	for _, q := range out.packs {
		stays[q.pack] = true
		p.done.Kept += q.size
		p.done.Freed -= q.size
	}
	return p.replace(ctx, append(keep, out.packs...), stays)
}

// rewrite copies what is needed of a pack.
func (p *pruning) rewrite(ctx context.Context, out *packer, id ID, size int64, chunks []located) error {
	slices.SortFunc(chunks, func(a, b located) int { return int(a.offset) - int(b.offset) })
	for _, c := range chunks {
		frame, err := p.r.reader.read(ctx, id, size, c.offset, c.length)
		if err != nil {
			return err
		}
		if _, err := p.r.check(frame, c.id); err != nil {
			return err
		}
		if err := out.copy(ctx, c.id, frame); err != nil {
			return err
		}
	}
	return nil
}

// replace writes the new index, then removes old indexes and packs.
func (p *pruning) replace(ctx context.Context, packs []packed, stays map[ID]bool) error {
	t := p.r.config.Target
	names, _, err := storeIndex(ctx, t, p.r.keys, packs)
	if err != nil {
		return err
	}
	if err := p.l.valid(ctx); err != nil {
		return err
	}
	for _, old := range p.r.index.objects {
		if slices.Contains(names, old) {
			continue
		}
		if err := t.Remove(ctx, old); err != nil {
			return err
		}
	}
	var gone []Object
	err = t.List(ctx, packFolder, func(o Object) error {
		if id, ok := parsePackName(o.Name); ok && !stays[id] {
			gone = append(gone, o)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if tidy, ok := t.(tidier); ok {
		freed, err := tidy.Tidy(ctx)
		if p.done.Freed += freed; err != nil {
			return err
		}
	}
	for i, o := range gone {
		if i%64 == 0 {
			if err := p.l.valid(ctx); err != nil {
				return err
			}
		}
		if err := t.Remove(ctx, o.Name); err != nil {
			return err
		}
		p.done.Packs++
		p.done.Freed += o.Size
	}
	return nil
}
