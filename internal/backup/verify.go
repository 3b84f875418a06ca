package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// Fault is something that Verify found wrong.
type Fault struct {
	Object   string `json:"object,omitempty"`   // of the repository
	Snapshot string `json:"snapshot,omitempty"` // that is affected
	Section  string `json:"section,omitempty"`
	Key      []byte `json:"-"`               // of the item affected; of the first one when Items is not 1
	Items    int64  `json:"items,omitempty"` // affected items: what a leaf held
	Problem  string `json:"problem"`
}

// Verification is what Verify did.
type Verification struct {
	Snapshots int   `json:"snapshots"`
	Items     int64 `json:"items"` // of all snapshots together
	Packs     int   `json:"packs"`
	Chunks    int64 `json:"chunks"`
	Octets    int64 `json:"octets"`  // read from the target
	Garbage   int64 `json:"garbage"` // octets of packs that no snapshot needs
	Faults    int64 `json:"faults"`
	Damaged   int64 `json:"damaged"` // of the faults, those of objects: Repair has the index forget them
	// Broken are the snapshots with faults, the oldest first, and Healable those of them that have no
	// whole snapshot of the same store behind them: only what Create finds can heal them.
	Broken   []string `json:"broken,omitempty"`
	Healable []string `json:"healable,omitempty"`
}

// Beyond are the snapshots whose faults no new backup heals: the newest of the same store is whole,
// so all that the store still has lies in the repository, and what they lack is not there.
func (v *Verification) Beyond() (ids []string) {
	for _, id := range v.Broken {
		if !slices.Contains(v.Healable, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// Verify reads every octet of the repository and compares every hash: of each pack with
// its name, of each chunk with its, of each snapshot with its check; then it walks every
// snapshot and looks that all it names is there and whole. fn is told of each fault:
// first of damaged objects, then of what they mean to which snapshot. Items whose octets
// the source could not read are no fault of the repository. It may run
// beside Create; what is written meanwhile is not verified. Verify returns an error only
// when it could not do its work.
func (r *Repository) Verify(ctx context.Context, fn func(Fault)) (Verification, error) {
	v := newVerifier(r, fn)
	if err := v.run(ctx); err != nil {
		return v.result, fmt.Errorf("verify backup: %w", err)
	}
	return v.result, nil
}

func newVerifier(r *Repository, fn func(Fault)) *verifier {
	return &verifier{r: r, fn: fn, bad: make(map[ID]bool), broken: make(map[ID]bool), good: make(map[ID]bool), whole: make(map[string]bool)}
}

// run does all of Verify.
func (v *verifier) run(ctx context.Context) error {
	r := v.r
	// Snapshots before the index: what they name was indexed before they were written.
	names, err := r.Names(ctx)
	if err != nil {
		return err
	}
	r.fixed, r.reader = true, newPackReader(r.config.Target, r.keys)
	defer func() { r.index, r.fixed = nil, false }()
	if err = v.objects(ctx); err == nil {
		err = v.packs(ctx)
	}
	for _, n := range names {
		if err == nil {
			err = v.snapshot(ctx, n)
		}
	}
	if err != nil {
		return err
	}
	for _, s := range v.walked {
		if s.faults > 0 {
			v.result.Broken = append(v.result.Broken, s.id)
			if !v.whole[s.store] {
				v.result.Healable = append(v.result.Healable, s.id)
			}
		}
	}
	v.result.Garbage = v.garbage()
	return nil
}

// verifier is one run of Verify.
type verifier struct {
	r      *Repository
	fn     func(Fault)
	result Verification
	bad    map[ID]bool // chunks that are damaged or missing
	broken map[ID]bool // packs that are not what they were
	good   map[ID]bool // leaves and lists with nothing wrong in them and below
	seen   *marks      // chunks that some snapshot names
	walked []walked
	whole  map[string]bool // stores whose newest snapshot has no faults
}

// walked is a snapshot that was walked.
type walked struct {
	id, store string
	faults    int64
}

func (v *verifier) fault(f Fault) {
	v.result.Faults++
	if f.Snapshot == "" {
		v.result.Damaged++
	}
	v.fn(f)
}

// objects reads the index objects. One that is damaged is a fault; the others count.
func (v *verifier) objects(ctx context.Context) error {
	x := newIndex()
	r := v.r
	err := r.config.Target.List(ctx, indexFolder, func(o Object) error {
		x.objects = append(x.objects, o.Name)
		return nil
	})
	if err != nil {
		return err
	}
	for _, name := range x.objects {
		err := readIndexObject(ctx, r.config.Target, r.keys, name, func(p packed) {
			n := x.number(p.pack, p.size)
			for _, c := range p.chunks {
				c.pack = n
				x.sorted = append(x.sorted, c)
			}
		})
		switch {
		case errors.Is(err, fs.ErrNotExist): // a prune replaced it
		case errors.Is(err, ErrDamaged):
			v.fault(Fault{Object: name, Problem: "the index is damaged; what only it knows of can't be found"})
		case err != nil:
			return err
		}
	}
	x.sort()
	r.index, v.seen = x, newMarks(x)
	return nil
}

// packs reads every pack that the index knows.
func (v *verifier) packs(ctx context.Context) error {
	x := v.r.index
	byPack := make([][]located, len(x.packs))
	for _, c := range x.sorted {
		byPack[c.pack] = append(byPack[c.pack], c)
	}
	for n, id := range x.packs {
		if err := v.pack(ctx, id, byPack[n]); err != nil {
			return err
		}
		v.result.Packs++
		v.r.config.Progress(Progress{Step: "verify", Items: int64(n + 1), TotalItems: int64(len(x.packs)), Octets: v.result.Octets})
	}
	return nil
}

func (v *verifier) pack(ctx context.Context, id ID, chunks []located) error {
	plain, octets, err := v.r.plainPack(ctx, id)
	v.result.Octets += octets
	if err != nil && !errors.Is(err, ErrDamaged) {
		return err
	}
	if err != nil {
		v.fault(Fault{Object: packName(id), Problem: err.Error()})
		v.broken[id] = true
		v.r.reader = newPackReader(v.r.config.Target, v.r.keys)
		return v.oneByOne(ctx, chunks)
	}
	for _, c := range chunks {
		v.result.Chunks++
		end := int64(c.offset) + int64(c.length)
		if end > int64(len(plain)) {
			v.damaged(c.id, id)
			continue
		}
		if _, err := v.r.check(plain[c.offset:end], c.id); errors.Is(err, ErrDamaged) {
			v.damaged(c.id, id)
		} else if err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) damaged(chunk, pack ID) {
	v.bad[chunk] = true
	v.fault(Fault{Object: packName(pack), Problem: "chunk " + chunk.String() + " is damaged"})
}

// oneByOne finds out which chunks of a damaged pack can still be read.
func (v *verifier) oneByOne(ctx context.Context, chunks []located) error {
	for _, c := range chunks {
		v.result.Chunks++
		_, err := v.r.chunk(ctx, c.id)
		if errors.Is(err, ErrDamaged) {
			v.bad[c.id] = true
		} else if err != nil {
			return err
		}
	}
	return nil
}

// snapshot walks one snapshot.
func (v *verifier) snapshot(ctx context.Context, name string) error {
	s, err := v.r.Snapshot(ctx, name)
	switch {
	case errors.Is(err, ErrNotFound): // forgotten meanwhile
		return nil
	case errors.Is(err, ErrDamaged):
		v.fault(Fault{Object: snapshotFolder + name, Snapshot: name, Problem: "the backup is damaged as a whole"})
		v.walked, v.whole[name] = append(v.walked, walked{id: name, store: name, faults: 1}), true // nothing heals it
		return nil
	case err != nil:
		return err
	}
	v.result.Snapshots++
	before := v.result.Faults
	for _, sec := range s.sections {
		if err := v.section(ctx, s, sec); err != nil {
			return err
		}
	}
	w := walked{id: s.ID, store: s.Kind + "\x00" + s.Origin, faults: v.result.Faults - before}
	v.walked, v.whole[w.store] = append(v.walked, w), w.faults == 0
	return nil
}

func (v *verifier) section(ctx context.Context, s *Snapshot, sec section) error {
	rd := newSectionReader(v.r, sec, nil)
	before := make(map[ID]int64) // faults found before a chunk was read
	rd.touched = func(b branch) bool {
		v.seen.add(b.ID)
		if v.good[b.ID] {
			v.result.Items += b.Items
			return false
		}
		before[b.ID] = v.result.Faults
		return true
	}
	rd.left = func(b branch) { v.good[b.ID] = v.result.Faults == before[b.ID] }
	rd.broken = func(b branch, next []byte, err error) error {
		v.fault(Fault{Snapshot: s.ID, Section: sec.Name, Key: b.First, Items: b.Items, Problem: "what the backup says of these items can't be read: " + err.Error()})
		v.result.Items += b.Items
		return nil
	}
	items := v.result.Items
	err := rd.walk(ctx, nil, nil, func(key, octets []byte) error {
		v.result.Items++
		it, err := v.r.stored(key, octets)
		if err != nil {
			v.fault(Fault{Snapshot: s.ID, Section: sec.Name, Key: key, Items: 1, Problem: err.Error()})
			return nil
		}
		for _, id := range it.pieces {
			v.seen.add(id)
			if _, ok := v.r.index.find(id); !ok || v.bad[id] {
				v.fault(Fault{Snapshot: s.ID, Section: sec.Name, Key: key, Items: 1, Problem: "its octets can't be read from the backup"})
				return nil
			}
		}
		return nil
	})
	if got := v.result.Items - items; err == nil && got != sec.Items {
		v.fault(Fault{Snapshot: s.ID, Section: sec.Name, Problem: fmt.Sprintf("it has %d items, not %d", got, sec.Items)})
	}
	if errors.Is(err, ErrDamaged) {
		v.fault(Fault{Snapshot: s.ID, Section: sec.Name, Problem: err.Error()})
		return nil
	}
	return err
}

// garbage is the octets of chunks that nothing names.
func (v *verifier) garbage() (octets int64) {
	for i, c := range v.seen.x.sorted {
		if !v.seen.has(i) {
			octets += int64(c.length)
		}
	}
	return octets
}

// Text is the fault in a line.
func (f Fault) Text() string {
	var b strings.Builder
	if f.Snapshot != "" {
		fmt.Fprintf(&b, "backup %s: ", f.Snapshot)
	}
	if f.Section != "" {
		fmt.Fprintf(&b, "%s: ", f.Section)
	}
	if f.Key != nil {
		fmt.Fprintf(&b, "item %x", f.Key)
		if f.Items > 1 {
			fmt.Fprintf(&b, " and %d that follow", f.Items-1)
		}
		b.WriteString(": ")
	}
	if f.Object != "" {
		fmt.Fprintf(&b, "%s: ", f.Object)
	}
	return b.String() + f.Problem
}
