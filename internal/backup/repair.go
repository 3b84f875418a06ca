package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Repair is Verify, and then an index without what was found damaged, and with what no
// index knew: chunks that can't be read count as missing, so that the next Create stores
// them again if its source still has them; that heals every snapshot that names them.
// Nothing but index objects is removed. ErrLocked while another writes.
func (r *Repository) Repair(ctx context.Context, fn func(Fault)) (done Verification, err error) {
	l, err := takeLock(ctx, r.config, "repair")
	if err != nil {
		return done, fmt.Errorf("repair backup: %w", err)
	}
	defer func() { err = errors.Join(err, l.release(ctx)) }()
	v := newVerifier(r, fn)
	if err := v.run(ctx); err != nil {
		return v.result, fmt.Errorf("repair backup: %w", err)
	}
	if v.result.Faults > 0 {
		err = v.reindex(ctx, l)
	}
	if err != nil {
		return v.result, fmt.Errorf("repair backup: %w", err)
	}
	return v.result, nil
}

// reindex writes an index of what was found whole. Chunks of packs that are damaged
// elsewhere are copied to new ones.
func (v *verifier) reindex(ctx context.Context, l *lock) error {
	x := v.seen.x
	v.r.index, v.r.fixed = x, true
	defer func() { v.r.index, v.r.fixed = nil, false }()
	out := newPacker(v.r)
	out.hold = true
	packs := make([]packed, len(x.packs))
	for n, id := range x.packs {
		packs[n] = packed{pack: id, size: x.sizes[n]}
	}
	for _, c := range x.sorted {
		switch pack := x.packs[c.pack]; {
		case v.bad[c.id]:
		case v.broken[pack]:
			frame, err := v.r.reader.read(ctx, pack, x.sizes[c.pack], c.offset, c.length)
			if err == nil {
				err = out.copy(ctx, c.id, frame)
			}
			if err != nil {
				return err
			}
		default:
			packs[c.pack].chunks = append(packs[c.pack].chunks, c)
		}
	}
	packs = slices.DeleteFunc(packs, func(p packed) bool { return len(p.chunks) == 0 })
	more, err := v.unknown(ctx)
	if err == nil {
		err = out.flush(ctx)
	}
	if err != nil {
		return err
	}
	t := v.r.config.Target
	names, _, err := storeIndex(ctx, t, v.r.keys, append(append(packs, more...), out.packs...))
	if err == nil {
		err = l.valid(ctx)
	}
	if err != nil {
		return err
	}
	for _, old := range x.objects {
		if slices.Contains(names, old) {
			continue
		}
		if err := t.Remove(ctx, old); err != nil {
			return err
		}
	}
	return nil
}

// unknown reads the packs that no index knows of, as when an index was damaged.
func (v *verifier) unknown(ctx context.Context) (more []packed, err error) {
	var ids []Object
	err = v.r.config.Target.List(ctx, packFolder, func(o Object) error {
		if id, ok := parsePackName(o.Name); ok {
			if _, known := v.seen.x.numbers[id]; !known {
				ids = append(ids, o)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, o := range ids {
		id, _ := parsePackName(o.Name)
		plain, _, err := v.r.plainPack(ctx, id)
		if errors.Is(err, ErrDamaged) {
			continue
		}
		if err != nil {
			return nil, err
		}
		p := packed{pack: id, size: o.Size}
		err = frames(v.r.codec, plain, func(id ID, octets []byte, at, length int) error {
			if v.r.keys.chunkID(octets) == id {
				p.chunks = append(p.chunks, located{id, place{offset: uint32(at), length: uint32(length)}})
			}
			return nil
		})
		if err != nil && !errors.Is(err, errFrame) {
			return nil, err
		}
		if len(p.chunks) > 0 {
			more = append(more, p)
		}
	}
	return more, nil
}
