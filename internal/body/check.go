package body

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"poczta.example/poczta/internal/message"
)

// Finding is a fault that Check found.
type Finding struct {
	Position
	Stored int64      // octets concerned, 0 when not known
	ID     message.ID // of the body whose row leads here; zero for damage as such
	Err    error      // wraps ErrDamaged or ErrNewer
}

// maxSpans bounds the damaged places that Check remembers.
const maxSpans = 1 << 16

// Check reads every octet of every segment, then every row of the table body when
// Config.DB is set, and calls fn for each fault: first for damaged places as such,
// in the order of the log, then for each body that has a row and is damaged or
// missing, in order of id. Torn ends of segments are no fault as long as no row
// leads there. It stops at the first error of fn.
func (s *Segments) Check(ctx context.Context, fn func(Finding) error) error {
	spans := map[string][]Item{}
	count := 0
	err := s.Scan(ctx, Position{}, func(item Item) error {
		if item.Damage == nil {
			return nil
		}
		if count++; count <= maxSpans {
			spans[item.Segment] = append(spans[item.Segment], item)
		}
		if item.Torn {
			return nil
		}
		return fn(Finding{Position: item.Position, Stored: item.Stored, Err: item.Damage})
	})
	if err != nil || s.config.DB == nil {
		return err
	}
	return eachRow(ctx, s.config.DB, func(row bodyRow) error {
		if row.loc.Segment == "" {
			return nil // kept in rows
		}
		err := s.checkRow(row, spans)
		if err != nil { // a merge may have moved it
			loc, lookupErr := s.config.Locate(ctx, row.id)
			if errors.Is(lookupErr, ErrNotFound) {
				return nil
			}
			if lookupErr != nil {
				return lookupErr
			}
			if loc != row.loc {
				row.loc = loc
				err = s.checkRow(row, spans)
			}
		}
		if err == nil {
			return nil
		}
		return fn(Finding{Position: Position{Segment: row.loc.Segment, Offset: row.loc.Offset}, Stored: row.loc.Stored, ID: row.id, Err: err})
	})
}

// checkRow reports whether the row leads to its record, outside all damage.
func (s *Segments) checkRow(row bodyRow, spans map[string][]Item) error {
	loc := row.loc
	if !isSegment(loc.Segment, suffixShared) && !isSegment(loc.Segment, suffixLarge) {
		return fmt.Errorf("%q is no segment: %w", loc.Segment, ErrDamaged)
	}
	for _, item := range spans[loc.Segment] {
		if item.Offset < loc.Offset+loc.Stored && (item.Stored == 0 || loc.Offset < item.Offset+item.Stored) {
			return item.Damage
		}
	}
	f, err := s.files.acquire(loc.Segment)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("segment %s is missing: %w", loc.Segment, ErrDamaged)
	}
	if err != nil {
		return err
	}
	defer s.files.release(f)
	var head [recordHeaderLen]byte
	if err := readFull(f, head[:], loc.Offset); err != nil {
		return err
	}
	_, err = checkHead(head[:], row.id, loc)
	return err
}
