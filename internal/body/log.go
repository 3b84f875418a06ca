package body

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"poczta.example/poczta/internal/message"
)

// Position is a place in the log of segments; the zero Position is its start.
type Position struct {
	Segment string
	Offset  int64
}

// Item is what Scan finds: exactly one of Body, Events and Damage is set.
type Item struct {
	Position
	Stored int64   // octets in the segment; 0 when not known
	Body   *Found  // a body that is whole
	Events []Event // the events of one record, in order
	Damage error   // wraps ErrDamaged or ErrNewer
	Torn   bool    // the damage is an unfinished end, which nobody was promised
}

// Found is a body found by Scan.
type Found struct {
	ID         message.ID
	Location   Location
	HeadOctets int64 // of the trace fields before the message
	Meta       Meta
}

// place is a segment with its place in the log.
type place struct {
	name  string
	order string // the log is in order of this, then of name
	last  string // the newest segment whose content it holds
	info  segmentInfo
	err   error // nil, or why nothing of it can be read
}

// places returns the segments in the order of the log, without those that a
// finished merge took over.
func (s *Segments) places(ctx context.Context) ([]place, error) {
	large, err := s.list(path.Join(s.config.Folder, largeFolder), suffixLarge)
	if err != nil {
		return nil, err
	}
	shared, err := s.list(s.config.Folder, suffixShared)
	if err != nil {
		return nil, err
	}
	var all []place
	for _, name := range large {
		all = append(all, place{name: name, order: name, last: name})
	}
	taken := map[string]bool{}
	for _, name := range shared {
		info, err := s.currentInfo(ctx, name)
		if errors.Is(err, errUnborn) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewer) {
			return nil, err
		}
		p := place{name: name, order: name, last: name, info: info, err: err}
		if info.head.origin != "" {
			p.order = info.head.origin
		}
		if len(info.sources) > 0 {
			p.last = slices.Max(info.sources)
		}
		for _, source := range info.sources {
			taken[source] = true
		}
		all = append(all, p)
	}
	all = slices.DeleteFunc(all, func(p place) bool { return taken[p.name] })
	slices.SortFunc(all, func(a, b place) int { return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.name, b.name)) })
	return all, nil
}

// currentInfo is info, also for a segment that is being written: then only the
// header is known, and an end up to which it is durable.
func (s *Segments) currentInfo(ctx context.Context, name string) (segmentInfo, error) {
	if !strings.HasPrefix(name, s.instance) {
		return s.info(ctx, name)
	}
	s.mu.Lock()
	info, known := s.infos[name]
	end := s.end
	s.mu.Unlock()
	if known {
		return info, nil
	}
	f, err := s.config.FS.Open(s.path(name))
	if err != nil {
		return info, fmt.Errorf("open segment %s: %w", name, err)
	}
	defer f.Close()
	if info.head, err = readSegmentHead(f); err != nil {
		return info, fmt.Errorf("segment %s: %w", name, err)
	}
	if end.Segment == name {
		info.end = end.Offset
		return info, nil
	}
	info.end, err = f.Size()
	return info, err
}

// Scan reads the log from a position to what is durable now, and calls fn for every
// body and every record of events, in order, and for all damage. A body may come more
// than once (at two places, when a merge was interrupted), also behind its events
// when it is a large one; events may be repeated. Every octet is verified. It
// may run beside everything else but Merge's unlinking, for which it waits, and
// stops at the first error of fn.
func (s *Segments) Scan(ctx context.Context, from Position, fn func(Item) error) error {
	s.merging.Lock()
	defer s.merging.Unlock()
	places, err := s.places(ctx)
	if err != nil {
		return err
	}
	for i := range places {
		p := &places[i]
		if p.last < from.Segment {
			continue
		}
		var offset int64
		if p.name == from.Segment {
			offset = from.Offset
		}
		if p.err != nil {
			err = fn(Item{Position: Position{Segment: p.name}, Damage: p.err})
		} else {
			err = s.scanPlace(ctx, p, offset, fn)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// scanPlace calls fn for everything in one segment from offset on.
func (s *Segments) scanPlace(ctx context.Context, p *place, offset int64, fn func(Item) error) error {
	f, err := s.config.FS.Open(s.path(p.name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a large message was discarded meanwhile
	}
	if err != nil {
		return fmt.Errorf("open segment %s: %w", p.name, err)
	}
	defer f.Close()
	head, size := p.info.head, int64(0)
	if size, err = f.Size(); err != nil {
		return fmt.Errorf("stat segment %s: %w", p.name, err)
	}
	large := strings.HasSuffix(p.name, suffixLarge)
	if large {
		if head, err = readSegmentHead(f); errors.Is(err, errUnborn) {
			return nil
		} else if err != nil {
			return fn(Item{Position: Position{Segment: p.name}, Stored: size, Damage: err})
		}
	} else if strings.HasPrefix(p.name, s.instance) && !p.info.sealed {
		size = min(size, p.info.end)
	}
	return newScanner(f, size, head.salt).run(ctx, max(offset, head.first), func(piece *piece) error {
		if piece.kind == kindSeal || piece.kind == kindEvents && p.info.unfinished() || piece.zeros && piece.torn && !large {
			return nil
		}
		item := piece.item(p.name)
		if large {
			item.Torn = false // its header says that it was whole
		}
		return fn(item)
	})
}

// item returns what a caller of Scan sees of the piece.
func (p *piece) item(segment string) Item {
	item := Item{Position: Position{Segment: segment, Offset: p.offset}, Stored: p.stored, Damage: p.damage, Torn: p.torn}
	if p.damage != nil {
		return item
	}
	if p.kind == kindEvents {
		item.Events, item.Damage = parseEvents(p.octets)
		if item.Damage != nil {
			item.Events = nil
		}
		return item
	}
	meta, err := parseBodyMeta(p.meta)
	if err == nil && meta.head > p.recordHead.octets {
		err = fmt.Errorf("head is longer than the record at %d: %w", p.offset, ErrDamaged)
	}
	if p.kind != kindBody {
		err = fmt.Errorf("record kind %d at %d: %w", p.kind, p.offset, ErrNewer)
	}
	if err != nil {
		item.Damage = err
		return item
	}
	item.Body = &Found{ID: p.id, HeadOctets: meta.head, Meta: meta.Meta, Location: Location{
		Segment: segment, Offset: p.offset, Stored: p.stored, Octets: p.recordHead.octets,
		SHA256: meta.sha256, Dots: p.flags&flagDots != 0,
	}}
	return item
}
