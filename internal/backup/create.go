package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"
)

// Create makes a snapshot of what the source holds. What the newest snapshot of the
// same kind and origin has is not read again, and what the repository has is not
// stored again. Broken off at any instant it leaves the repository as it was, but for
// packs that the next Create uses and Prune removes. ErrLocked while another writes.
//
// Items whose octets the source can't read are kept without them and named in the
// report. When at is not zero it is the moment that the source shows; else it is now.
func (r *Repository) Create(ctx context.Context, src Source, at time.Time) (report Report, err error) {
	began := r.config.Now()
	if at.IsZero() {
		at = began
	}
	l, err := takeLock(ctx, r.config, "create")
	if err != nil {
		return report, fmt.Errorf("make backup: %w", err)
	}
	defer func() { err = errors.Join(err, l.release(ctx)) }()
	free, err := r.hold(ctx) // others may have written since
	defer free()
	if err != nil {
		return report, fmt.Errorf("make backup: %w", err)
	}
	w := &creation{r: r, src: src, pack: newPacker(r)}
	s, err := w.run(ctx, at)
	if err == nil {
		err = l.valid(ctx)
	}
	if err == nil {
		s.Report.Took = r.config.Now().Sub(began)
		err = r.storeSnapshot(ctx, s)
	}
	if err != nil {
		return report, fmt.Errorf("make backup: %w", err)
	}
	return s.Report, nil
}

// creation is one run of Create.
type creation struct {
	r      *Repository
	src    Source
	pack   *packer
	parent *Snapshot // nil for none
	report Report
	buf    []byte
}

// run stores all but the snapshot's object.
func (w *creation) run(ctx context.Context, at time.Time) (*Snapshot, error) {
	facts, err := w.src.Facts()
	if err != nil {
		return nil, err
	}
	if err := w.findParent(ctx); err != nil {
		return nil, err
	}
	names, err := w.src.Sections(ctx)
	if err != nil {
		return nil, err
	}
	s := &Snapshot{ID: snapshotID(at), Time: at.UTC(), Host: w.r.config.Host, Kind: w.src.Kind(), Origin: w.src.Origin(), Facts: facts}
	if w.parent != nil {
		s.Parent = w.parent.ID
	}
	w.buf = make([]byte, PieceOctets)
	for _, name := range names {
		sec, err := w.section(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("section %s: %w", name, err)
		}
		s.sections = append(s.sections, sec)
	}
	if err := w.pack.finish(ctx); err != nil {
		return nil, err
	}
	w.report.Snapshot, w.report.Time, w.report.Parent, w.report.Stored = s.ID, s.Time, s.Parent, w.pack.stored
	s.Report = w.report
	return s, nil
}

// findParent looks for the newest snapshot of the same kind and origin.
func (w *creation) findParent(ctx context.Context) error {
	all, err := w.r.List(ctx)
	if err != nil && !errors.Is(err, ErrDamaged) {
		return err
	}
	if err != nil {
		w.r.config.Logger.Error("a backup can't be read; poczta backup verify tells more", "error", err)
	}
	for _, s := range all {
		if s.Kind == w.src.Kind() && s.Origin == w.src.Origin() {
			w.parent = s
		}
	}
	return nil
}

// section stores one section.
func (w *creation) section(ctx context.Context, name string) (section, error) {
	out := newSectionWriter(ctx, w.pack, name)
	before, stop := iter.Pull2(w.before(ctx, name))
	defer stop()
	old := &olderItems{next: before}
	done := w.report
	err := w.src.Items(ctx, name, func(it Item) error {
		v, fresh, err := w.item(ctx, it, old)
		if err != nil {
			return err
		}
		w.count(name, it, v, fresh, done)
		if v.damaged {
			out.section.Damaged++
		}
		return out.add(ctx, it.Key, v.encode(), v.octets+int64(len(it.Data)))
	})
	if err != nil {
		return out.section, err
	}
	return out.finish(ctx)
}

// before is what the parent has in a section. What can't be read counts as missing.
func (w *creation) before(ctx context.Context, name string) iter.Seq2[[]byte, []byte] {
	return func(yield func([]byte, []byte) bool) {
		var sec *section
		if w.parent != nil {
			sec = w.parent.section(name)
		}
		if sec == nil {
			return
		}
		rd := newSectionReader(w.r, *sec, nil)
		rd.broken = func(branch, []byte, error) error { return nil }
		enough := errors.New("enough")
		err := rd.walk(ctx, nil, nil, func(key, value []byte) error {
			if !yield(key, value) {
				return enough
			}
			return nil
		})
		if err != nil && !errors.Is(err, enough) {
			w.r.config.Logger.Warn("the backup before could not be read to its end; all is read again", "error", err)
		}
	}
}

// olderItems finds items of the parent, asked for in order of key.
type olderItems struct {
	next       func() ([]byte, []byte, bool)
	key, value []byte
	begun, end bool
}

func (o *olderItems) find(key []byte) (value []byte, ok bool) {
	for !o.end && (!o.begun || bytes.Compare(o.key, key) < 0) {
		var more bool
		o.key, o.value, more = o.next()
		o.begun, o.end = true, !more
	}
	if o.end || !bytes.Equal(o.key, key) {
		return nil, false
	}
	return o.value, true
}

// item makes the value of an item; fresh reports that its octets were read.
func (w *creation) item(ctx context.Context, it Item, old *olderItems) (v value, fresh bool, err error) {
	if len(it.Key)+len(it.Data) > MaxData {
		return v, false, fmt.Errorf("item %x has %d octets of data, at most %d", it.Key, len(it.Data), MaxData)
	}
	if it.Open == nil {
		return value{data: it.Data}, false, w.r.wait(ctx, int64(len(it.Data)))
	}
	if known, ok := old.find(it.Key); ok && !it.Volatile {
		v, err := decodeValue(known)
		if err == nil && v.has && !v.damaged && v.octets == it.Octets && w.have(v.pieces) {
			v.data = it.Data
			return v, false, nil
		}
	}
	v = value{data: it.Data, has: true, octets: it.Octets}
	err = w.read(ctx, it, &v)
	if errors.Is(err, ErrDamaged) {
		w.r.config.Logger.Error("backup leaves out octets that can't be read", "key", fmt.Sprintf("%x", it.Key), "error", err)
		v.damaged, v.pieces, err = true, nil, nil
	}
	return v, true, err
}

// have reports whether the repository has all chunks.
func (w *creation) have(ids []ID) bool {
	for _, id := range ids {
		if _, ok := w.r.index.find(id); !ok {
			return false
		}
	}
	return true
}

// read stores the octets of an item in pieces.
func (w *creation) read(ctx context.Context, it Item, v *value) error {
	rd, err := it.Open(ctx)
	if err != nil {
		return err
	}
	defer rd.Close()
	sum := sha256.New()
	v.octets = 0
	for {
		n, err := io.ReadFull(rd, w.buf)
		end := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !end {
			return err
		}
		if n > 0 {
			sum.Write(w.buf[:n])
			v.octets += int64(n)
			id, err := w.pack.add(ctx, w.buf[:n])
			if err != nil {
				return err
			}
			v.pieces = append(v.pieces, id)
			if err := w.r.wait(ctx, int64(n)); err != nil {
				return err
			}
		}
		if end {
			sum.Sum(v.sum[:0])
			return nil
		}
	}
}

// count adds an item to the report and tells of it.
func (w *creation) count(section string, it Item, v value, fresh bool, begun Report) {
	octets := v.octets + int64(len(it.Data))
	w.report.Items++
	w.report.Octets += octets
	if fresh {
		w.report.NewItems++
		w.report.NewOctets += v.octets
	}
	if v.damaged {
		w.report.Damaged++
		if len(w.report.Names) < maxNames {
			w.report.Names = append(w.report.Names, fmt.Sprintf("%s %x", section, it.Key))
		}
	}
	if (w.report.Items-begun.Items)%64 == 0 || fresh {
		p := Progress{Step: section, Items: w.report.Items, Octets: w.report.Octets, Stored: w.pack.stored}
		if w.parent != nil {
			p.TotalItems, p.TotalOctets = w.parent.Report.Items, w.parent.Report.Octets
		}
		w.r.config.Progress(p)
	}
}
