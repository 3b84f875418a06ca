package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/daemon"
)

// FaultRow is a fault of the store.
type FaultRow struct {
	Segment string `json:"segment"`
	Offset  int64  `json:"offset"`
	Octets  int64  `json:"octets"`
	Body    string `json:"body"`
	Fault   string `json:"fault"`
}

// checker is a body store that can be read through; all of ours are.
type checker interface {
	Check(ctx context.Context, fn func(body.Finding) error) error
}

// StoreCheck reads every octet of the body store and every row that leads to it,
// and reports what is damaged or missing.
func (d *Desk) StoreCheck(ctx context.Context) error {
	store, ok := d.Rooms.Body.(checker)
	if !ok {
		return errors.New("check store: this kind of body store can't be checked")
	}
	var rows []FaultRow
	const most = 10000
	total := 0
	err := store.Check(ctx, func(f body.Finding) error {
		if total++; total > most {
			return nil
		}
		row := FaultRow{Segment: f.Segment, Offset: f.Offset, Octets: f.Stored, Fault: f.Err.Error()}
		if !f.ID.IsZero() {
			row.Body = f.ID.String()
		}
		rows = append(rows, row)
		return nil
	})
	if err != nil {
		return fmt.Errorf("check store: %w", err)
	}
	err = table(d, rows, "SEGMENT\tOFFSET\tMESSAGE\tFAULT", func(r FaultRow) string {
		return fmt.Sprintf("%s\t%d\t%s\t%s", r.Segment, r.Offset, r.Body, r.Fault)
	})
	if err != nil {
		return err
	}
	if total > 0 {
		return fmt.Errorf("the store has %d faults; the messages named are lost here unless a backup has them, all others can be read", total)
	}
	d.say("The store is whole.")
	return nil
}

// MergeRow is the outcome of a merge.
type MergeRow struct {
	Segments int   `json:"segments"`
	Freed    int64 `json:"freed"`
	Kept     int   `json:"kept"`
}

// StoreMerge rewrites segments with purged mail now, at full speed.
func (d *Desk) StoreMerge(ctx context.Context) error {
	if d.Rooms.Segments == nil {
		d.say("Messages lie in the database; there is nothing to merge.")
		if d.JSON {
			return table(d, []MergeRow(nil), "", nil)
		}
		return nil
	}
	r, err := d.Rooms.Segments.Merge(ctx, body.MergeOptions{})
	if err != nil {
		return fmt.Errorf("merge: %w", err)
	}
	if r.Freed > 0 { // the old segments leave the disk when their grace is over
		select {
		case <-ctx.Done():
			return fmt.Errorf("merge: %w", ctx.Err())
		case <-time.After(daemon.MergeGrace + 100*time.Millisecond):
		}
		if _, err := d.Rooms.Segments.Merge(ctx, body.MergeOptions{DeadShare: 1}); err != nil {
			return fmt.Errorf("remove merged segments: %w", err)
		}
	}
	return table(d, []MergeRow{{r.Segments, r.Freed, r.Kept}}, "SEGMENTS\tOCTETS FREED\tKEPT", func(r MergeRow) string {
		return fmt.Sprintf("%d\t%d\t%d", r.Segments, r.Freed, r.Kept)
	})
}

// StoreSnapshot copies the database now.
func (d *Desk) StoreSnapshot(ctx context.Context) error {
	file, err := d.Rooms.Snapshot(ctx, d.Now())
	if err != nil {
		return err
	}
	d.say("%s", file)
	return nil
}
