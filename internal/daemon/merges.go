package daemon

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
)

// When segments are rewritten: those with a quarter of dead octets daily, all with
// any within a month, and within a day of a purge that somebody asked for.
const (
	mergeLook      = time.Hour
	mergeDaily     = 24 * time.Hour
	mergeWhole     = 29 * 24 * time.Hour
	mergePurged    = 20 * time.Hour
	mergeAgain     = 4 * time.Hour // when a segment with purged mail was in use
	mergeDeadShare = 0.25
)

// mergeTimes say when what was done or asked for; they stand in the table setting.
type mergeTimes struct {
	daily, whole time.Time
	purged       time.Time // zero when no purge waits
}

// due says whether a merge is due at now, and from what share of dead octets on. A
// time in the future is one of a clock that was wrong.
func (m mergeTimes) due(now time.Time) (share float64, due bool) {
	past := func(t time.Time, d time.Duration) bool { return now.Sub(t) >= d || t.After(now) }
	if past(m.whole, mergeWhole) || !m.purged.IsZero() && past(m.purged, mergePurged) {
		return 0, true
	}
	return mergeDeadShare, past(m.daily, mergeDaily)
}

// after is what the times are when a merge from a share on has ended at now.
func (m mergeTimes) after(now time.Time, share float64, kept int) mergeTimes {
	m.daily = now
	if share > 0 {
		return m
	}
	m.whole = now
	if m.purged.IsZero() || kept == 0 {
		m.purged = time.Time{}
	} else {
		m.purged = now.Add(mergeAgain - mergePurged)
	}
	return m
}

// names of the times in the table setting.
const (
	settingDaily  = "merged_daily"
	settingWhole  = "merged_whole"
	settingPurged = "purged"
)

// NotePurge remembers that purged mail has to leave the disk within a day.
func (r *Rooms) NotePurge(ctx context.Context, now time.Time) error {
	if r.Segments == nil {
		return nil
	}
	err := r.DB.Update(ctx, func(tx db.Tx) error {
		_, err := tx.Exec(`INSERT INTO setting (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING`, settingPurged, micros(now))
		return err
	})
	if err != nil {
		return fmt.Errorf("remember purge: %w", err)
	}
	return nil
}

func micros(t time.Time) string { return strconv.FormatInt(db.Micros(t), 10) }

// mergeTimes reads the times. Of a store that has none, all begin now.
func (r *Rooms) mergeTimes(ctx context.Context, now time.Time) (mergeTimes, error) {
	m := mergeTimes{daily: now, whole: now}
	at := map[string]*time.Time{settingDaily: &m.daily, settingWhole: &m.whole, settingPurged: &m.purged}
	missing := 2
	err := r.DB.View(ctx, func(tx db.Tx) error {
		rows, err := tx.Query(`SELECT name, value FROM setting WHERE name IN (?, ?, ?)`, settingDaily, settingWhole, settingPurged)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var name, value string
			if err := rows.Scan(&name, &value); err != nil {
				return err
			}
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return fmt.Errorf("setting %s is %q: %w", name, value, err)
			}
			*at[name] = db.FromMicros(n)
			if name != settingPurged {
				missing--
			}
		}
		return rows.Err()
	})
	if err == nil && missing > 0 {
		err = r.saveMergeTimes(ctx, m, m.purged)
	}
	if err != nil {
		return m, fmt.Errorf("read when segments were merged: %w", err)
	}
	return m, nil
}

// saveMergeTimes writes the times. A purge noted since read was read stays.
func (r *Rooms) saveMergeTimes(ctx context.Context, m mergeTimes, read time.Time) error {
	return r.DB.Update(ctx, func(tx db.Tx) error {
		for name, t := range map[string]time.Time{settingDaily: m.daily, settingWhole: m.whole} {
			_, err := tx.Exec(`INSERT INTO setting (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, micros(t))
			if err != nil {
				return err
			}
		}
		switch {
		case read.IsZero() || m.purged.Equal(read):
			return nil
		case m.purged.IsZero():
			_, err := tx.Exec(`DELETE FROM setting WHERE name = ? AND value = ?`, settingPurged, micros(read))
			return err
		}
		_, err := tx.Exec(`UPDATE setting SET value = ? WHERE name = ? AND value = ?`, micros(m.purged), settingPurged, micros(read))
		return err
	})
}

// mergeIfDue merges segments when it is time, and says what it did.
func (r *Rooms) mergeIfDue(ctx context.Context, now time.Time) (body.MergeResult, bool, error) {
	times, err := r.mergeTimes(ctx, now)
	if err != nil {
		return body.MergeResult{}, false, err
	}
	share, due := times.due(now)
	if !due {
		return body.MergeResult{}, false, nil
	}
	result, err := r.Segments.Merge(ctx, body.MergeOptions{Rate: int64(r.Config.Store.MergeRate), DeadShare: share})
	if err != nil {
		return result, true, err
	}
	return result, true, r.saveMergeTimes(ctx, times.after(now, share, result.Kept), times.purged)
}

// mergeLoop merges segments when it is time.
func (d *Daemon) mergeLoop(ctx context.Context) error {
	return every(ctx, mergeLook, func() {
		result, done, err := d.rooms.mergeIfDue(ctx, time.Now())
		switch {
		case err != nil && ctx.Err() == nil:
			d.log.Error("merge segments", "error", err)
		case done:
			d.log.Info("segments merged", "segments", result.Segments, "freed", result.Freed, "kept", result.Kept)
		}
	})
}
