package admin

import (
	"context"
	"fmt"
	"time"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/daemon"
	"poczta.example/poczta/internal/db"
)

// FaultRow is a fault of the store.
type FaultRow struct {
	Segment string `json:"segment"`
	Offset  int64  `json:"offset"`
	Octets  int64  `json:"octets"`
	Body    string `json:"body"`
	Fault   string `json:"fault"`
}

// StoreCheck reads every octet of the segments and every row that leads to them,
// and reports what is damaged or missing.
func (d *Desk) StoreCheck(ctx context.Context) error {
	if d.Rooms.Segments == nil {
		return d.checkRows(ctx)
	}
	var rows []FaultRow
	const most = 10000
	total := 0
	err := d.Rooms.Segments.Check(ctx, func(f body.Finding) error {
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

// checkRows looks for bodies in rows that miss some of their octets.
func (d *Desk) checkRows(ctx context.Context) error {
	var broken int64
	err := d.Rooms.DB.View(ctx, func(tx db.Tx) error {
		return tx.QueryRow(`SELECT COUNT(*) FROM body b WHERE b.segment = '' AND b.octets <> (SELECT COALESCE(SUM(LENGTH(c.octets)), 0) FROM body_chunk c WHERE c.id = b.id)`).Scan(&broken)
	})
	if err != nil {
		return fmt.Errorf("check store: %w", err)
	}
	if d.JSON {
		if err := table(d, []FaultRow(nil), "", nil); err != nil {
			return err
		}
	}
	if broken > 0 {
		return fmt.Errorf("%d messages miss octets in the database; restore it from a backup", broken)
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
