package daemon

import (
	"context"
	"time"
)

// MergeIfDue lets the tests have merges at other times.
func MergeIfDue(ctx context.Context, r *Rooms, now time.Time) (done bool, err error) {
	_, done, err = r.mergeIfDue(ctx, now)
	return done, err
}

// MergeDue is what is due a time after merges, and after a purge; 0 is no purge.
func MergeDue(sinceDaily, sinceWhole, sincePurge time.Duration) (share float64, due bool) {
	now := time.Now()
	m := mergeTimes{daily: now.Add(-sinceDaily), whole: now.Add(-sinceWhole)}
	if sincePurge != 0 {
		m.purged = now.Add(-sincePurge)
	}
	return m.due(now)
}

// DropSnapshots removes all but the newest as the daily snapshot does.
func DropSnapshots(r *Rooms) error { return r.dropSnapshots(snapshotsKept) }
