package power_test

import (
	"context"
	"testing"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post/posttest"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/rebuild"
)

// components are the tables of all rooms.
func components() []db.Component {
	return append(posttest.Components(), account.Component(), rebuild.Schema)
}

// small makes segments so small that a few messages fill one.
func small(fsys disk.FS, d db.Database) body.Config {
	return body.Config{FS: fsys, DB: d, StoreID: d.StoreID(), SegmentOctets: 6000, LargeOctets: 4096, Grace: time.Nanosecond}
}

// openHouse opens segments on fsys and the rooms over them, with the segments as the journal.
func openHouse(tb testing.TB, fsys disk.FS, d db.Database, clock *posttest.Clock, adjust ...func(*body.Config)) (*posttest.House, *body.Segments, error) {
	tb.Helper()
	c := small(fsys, d)
	for _, f := range adjust {
		if f != nil {
			f(&c)
		}
	}
	s, err := body.OpenSegments(context.Background(), c)
	if err != nil {
		return nil, nil, err
	}
	h := posttest.Open(tb, d, posttest.Options{Body: s, Clock: clock,
		Mailbox: func(c *mailbox.Config) { c.Journal = s },
		Queue: func(c *queue.Config) {
			c.Finished = func(finished, _ []message.ID) {
				for _, id := range finished {
					s.Append(body.Event{Kind: body.EventFinished, ID: id, Time: clock.Now()})
				}
			}
		}})
	return h, s, nil
}
