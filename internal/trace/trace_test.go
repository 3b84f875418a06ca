package trace_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post/posttest"
	"poczta.example/poczta/internal/trace"
)

// bench is a trace with a clock.
type bench struct {
	*trace.Trace
	db    db.Database
	clock *posttest.Clock
}

func each(t *testing.T, fn func(t *testing.T, b *bench)) {
	t.Helper()
	t.Parallel()
	dbtest.Each(t, []db.Component{trace.Schema}, func(t *testing.T, d db.Database) {
		clock := posttest.NewClock()
		tr, err := trace.New(trace.Config{DB: d, Now: clock.Now})
		if err != nil {
			t.Fatal(err)
		}
		fn(t, &bench{tr, d, clock})
	})
}

// record writes a message from sender (account 1) to some recipients, delivered
// to accounts 2, 3, …; "a=b" is an alias a that leads to b, "a>b" one that leads to remote b.
func (b *bench) record(t *testing.T, sender, messageID string, to ...string) trace.Record {
	t.Helper()
	id, err := message.NewID(b.clock.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r := trace.Record{ID: id, Accepted: b.clock.Now().UTC(), ReversePath: sender, MessageID: messageID, Peer: netip.MustParseAddr("192.0.2.1"), ConnID: "c1",
		Account: 1, Login: "one", Octets: 1234, SHA256: [32]byte{1, 2}}
	for n, spec := range to {
		f := trace.Fate{N: n, Recipient: spec, Account: 2, State: trace.Delivered, Changed: r.Accepted, Detail: "INBOX"}
		if alias, target, ok := strings.Cut(spec, "="); ok {
			f.Recipient, f.Target, f.Account = alias, target, 3
		} else if alias, target, ok := strings.Cut(spec, ">"); ok {
			f.Recipient, f.Target, f.Account, f.State, f.Detail = alias, target, 0, trace.Queued, ""
		}
		r.Fates = append(r.Fates, f)
	}
	b.update(t, func(tx db.Tx) error { return b.Record(tx, &r) })
	return r
}

func (b *bench) update(t *testing.T, fn func(db.Tx) error) {
	t.Helper()
	if err := b.db.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

// ids returns the ids that a search finds.
func (b *bench) ids(t *testing.T, v trace.Viewer, q trace.Query) []string {
	t.Helper()
	found, err := b.Find(t.Context(), v, q)
	if err != nil {
		t.Fatal(err)
	}
	ids := []string{}
	for _, r := range found {
		ids = append(ids, r.ID.String())
	}
	return ids
}

var operator = trace.Viewer{Operator: true}

func TestRecordIsFoundAsItWas(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		r := b.record(t, "ala@poczta.example", "<x@y>", "ola@poczta.example", "info@poczta.example=ela", "jan@poczta.example>jan@far.example")
		found, err := b.Find(t.Context(), operator, trace.Query{ID: r.ID})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]trace.Record{r}, found, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("record (-want +got):\n%s", diff)
		}
		if _, err := b.Find(t.Context(), operator, trace.Query{ID: message.ID{1}}); !errors.Is(err, trace.ErrNotFound) {
			t.Errorf("an unknown id: %v", err)
		}
		if _, err := b.Find(t.Context(), operator, trace.Query{}); err == nil {
			t.Error("an empty query is accepted")
		}
	})
}

// TestFind searches before the rows are indexed, in part, and after.
func TestFind(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		var want []string
		for i := range 5 {
			r := b.record(t, "Ala@Poczta.example", fmt.Sprintf("<m%d@x>", i), "ola@poczta.example", "info@poczta.example=ela@poczta.example")
			want = append([]string{r.ID.String()}, want...)
			b.record(t, "other@far.example", "<other@x>", "nobody@poczta.example")
			b.clock.Advance(5 * time.Minute)
			if err := b.Index(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for range 3 {
			for _, q := range []trace.Query{{Address: "ala@poczta.example"}, {Address: "OLA@poczta.EXAMPLE"}, {Address: "info@poczta.example"}, {Address: "ela@poczta.example"}} {
				if diff := cmp.Diff(want, b.ids(t, operator, q)); diff != "" {
					t.Errorf("find %+v (-want +got):\n%s", q, diff)
				}
			}
			for _, id := range []string{"<m2@x>", " m2@x"} {
				if diff := cmp.Diff(want[2:3], b.ids(t, operator, trace.Query{MessageID: id})); diff != "" {
					t.Errorf("find %s (-want +got):\n%s", id, diff)
				}
			}
			if diff := cmp.Diff(want[:2], b.ids(t, operator, trace.Query{Address: "ala@poczta.example", Limit: 2})); diff != "" {
				t.Errorf("limit (-want +got):\n%s", diff)
			}
			if got := b.ids(t, operator, trace.Query{MessageID: "ala@poczta.example"}); len(got) != 0 {
				t.Errorf("an address found as a Message-ID: %q", got)
			}
			b.clock.Advance(24 * time.Hour)
			if err := b.Index(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestSlowUpload records a message whose id is older than what was indexed.
func TestSlowUpload(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		early, err := message.NewID(b.clock.Now(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		b.clock.Advance(time.Hour)
		b.record(t, "x@far.example", "", "y@poczta.example")
		b.clock.Advance(time.Hour)
		if err := b.Index(t.Context()); err != nil {
			t.Fatal(err)
		}
		r := trace.Record{ID: early, ReversePath: "slow@far.example", Fates: []trace.Fate{{Recipient: "y@poczta.example", State: trace.Delivered}}}
		b.update(t, func(tx db.Tx) error { return b.Record(tx, &r) })
		if got := b.ids(t, operator, trace.Query{Address: "slow@far.example"}); len(got) != 1 || got[0] != early.String() {
			t.Errorf("found %q, want %s", got, early)
		}
	})
}

func TestViewer(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		r := b.record(t, "ala@poczta.example", "<v@x>", "ola@poczta.example", "info@poczta.example=ela@poczta.example", "info@poczta.example>boss@far.example")
		q := trace.Query{ID: r.ID}
		see := func(v trace.Viewer) string {
			found, err := b.Find(t.Context(), v, q)
			if errors.Is(err, trace.ErrNotFound) {
				return "nothing"
			}
			if err != nil {
				t.Fatal(err)
			}
			s := found[0].Login
			for _, f := range found[0].Fates {
				s += fmt.Sprintf(" %s,%s,%s,%s", f.Recipient, f.Target, f.State, f.Detail)
			}
			return s
		}
		for _, c := range []struct {
			name string
			v    trace.Viewer
			want string
		}{
			{"sender", trace.Viewer{Account: 1}, "one ola@poczta.example,,delivered, info@poczta.example,,queued,"},
			{"recipient", trace.Viewer{Account: 2}, " ola@poczta.example,,delivered,INBOX"},
			{"recipient behind an alias", trace.Viewer{Account: 3}, " info@poczta.example,ela@poczta.example,delivered,INBOX"},
			{"stranger", trace.Viewer{Account: 4}, "nothing"},
			{"nobody", trace.Viewer{}, "nothing"},
		} {
			if got := see(c.v); got != c.want {
				t.Errorf("%s sees %q, want %q", c.name, got, c.want)
			}
		}
		for _, hidden := range []string{"ela@poczta.example", "boss@far.example"} {
			if got := b.ids(t, trace.Viewer{Account: 1}, trace.Query{Address: hidden}); len(got) != 0 {
				t.Errorf("the sender finds its letter by asking for %s", hidden)
			}
			if got := b.ids(t, operator, trace.Query{Address: hidden}); len(got) != 1 {
				t.Errorf("the operator does not find %s", hidden)
			}
		}
		if _, err := b.Events(t.Context(), trace.Viewer{Account: 1}, r.ID); !errors.Is(err, trace.ErrNotFound) {
			t.Errorf("events for a sender: %v", err)
		}
	})
}

func TestSettleAndEvents(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		r := b.record(t, "a@poczta.example", "", "b@poczta.example", "c@poczta.example>c@far.example")
		at := b.clock.Now().Add(time.Minute).UTC()
		b.update(t, func(tx db.Tx) error {
			if err := b.Settle(tx, r.ID, 1, trace.Relayed, "250 ok "+strings.Repeat("\u0142", trace.MaxDetailOctets), at); err != nil {
				return err
			}
			if err := b.Settle(tx, r.ID, 7, trace.Relayed, "", at); !errors.Is(err, trace.ErrNotFound) {
				t.Errorf("a fate that is not there: %v", err)
			}
			if err := b.Note(tx, r.ID, trace.Event{At: at, N: 1, Kind: "attempt", Detail: "bad \xff\x00 octets"}); err != nil {
				return err
			}
			return b.Note(tx, r.ID, trace.Event{At: at.Add(-time.Second), N: -1, Kind: "hold", Detail: "by rule"})
		})
		found, err := b.Find(t.Context(), operator, trace.Query{ID: r.ID})
		if err != nil {
			t.Fatal(err)
		}
		f := found[0].Fates[1]
		if f.State != trace.Relayed || !f.Changed.Equal(at) || len(f.Detail) > trace.MaxDetailOctets || !strings.HasPrefix(f.Detail, "250 ok") {
			t.Errorf("fate is %+v", f)
		}
		events, err := b.Events(t.Context(), operator, r.ID)
		want := []trace.Event{{At: at.Add(-time.Second), N: -1, Kind: "hold", Detail: "by rule"}, {At: at, N: 1, Kind: "attempt", Detail: "bad \ufffd\ufffd octets"}}
		if diff := cmp.Diff(want, events); diff != "" || err != nil {
			t.Errorf("events, %v (-want +got):\n%s", err, diff)
		}
	})
}

func TestDrop(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		done := b.record(t, "a@poczta.example", "<d@x>", "b@poczta.example")
		waits := b.record(t, "a@poczta.example", "<w@x>", "c@poczta.example>c@far.example")
		b.update(t, func(tx db.Tx) error { return b.Note(tx, done.ID, trace.Event{At: b.clock.Now(), Kind: "x"}) })
		drop := func(d time.Duration) trace.Record {
			t.Helper()
			b.clock.Advance(d)
			if err := errors.Join(b.Index(t.Context()), b.Drop(t.Context()), b.Drop(t.Context())); err != nil {
				t.Fatal(err)
			}
			found, err := b.Find(t.Context(), operator, trace.Query{ID: done.ID})
			if err != nil {
				return trace.Record{}
			}
			return found[0]
		}
		if r := drop(29 * 24 * time.Hour); r.Login != "one" {
			t.Errorf("after 29 days: %+v", r)
		}
		r := drop(2 * 24 * time.Hour)
		if r.Login != "" || r.ConnID != "" || r.Peer.IsValid() || r.SHA256 != [32]byte{} || r.ReversePath != "a@poczta.example" || len(r.Fates) != 1 {
			t.Errorf("after 31 days: %+v", r)
		}
		if events, err := b.Events(t.Context(), operator, done.ID); len(events) != 0 || err != nil {
			t.Errorf("events after 31 days: %v, %v", events, err)
		}
		if r := drop(60 * 24 * time.Hour); len(r.Fates) != 0 {
			t.Errorf("after 91 days: %+v", r)
		}
		if found, err := b.Find(t.Context(), operator, trace.Query{ID: waits.ID}); err != nil || len(found) != 1 {
			t.Errorf("a fate that is not final was dropped: %v", err)
		}
	})
}
