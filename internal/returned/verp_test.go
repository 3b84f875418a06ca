package returned_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/trace"
)

// TestCameBack: mail that no program can read is on the trace of the recipient whom the
// address names, of the newest message that asked for such addresses.
func TestCameBack(t *testing.T) {
	t.Parallel()
	const says = " returned mail to this recipient's reverse-path: "
	for _, tt := range []struct {
		name, to, header string
		want             []string // of the second letter; of the first with "first: "
	}{
		{"newest", "ala+near=example.com@example.org", "Subject: gone\r\n", []string{"1" + says + `"gone"`}},
		{"another spelling", "ALA+Near=EXAMPLE.com@example.org", "", []string{"1" + says + `""`}},
		{"other delimiter", "ala+far-example.com@example.org", "Subject: a\r\n b\r\n", []string{"0" + says + `"a b"`}},
		{"the one that is answered", "ala+near=example.com@example.org", "In-Reply-To: <1@example.org>\r\n", []string{"first: 1" + says + `""`}},
		{"answers another's", "ala+near=example.com@example.org", "In-Reply-To: <2@example.net>\r\n", []string{"1" + says + `""`}},
		{"no such recipient", "ala+other=example.com@example.org", "", nil},
		{"of somebody else", "ola+near=example.com@example.org", "", nil},
		{"another separator", "ala-near=example.com@example.org", "", nil},
		{"a plain subaddress", "ala+near@example.org", "", nil},
		{"never asked for", "ala+once=example.com@example.org", "", nil},
		{"long subject", "ala+near=example.com@example.org", "Subject: " + strings.Repeat("ż", 300) + "\r\n", []string{"1" + says + `"` + strings.Repeat("ż", 100) + `"`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dbtest.Each(t, []db.Component{trace.Schema}, func(t *testing.T, d db.Database) {
				h := newHouse(t, d)
				second := h.variable(t)
				h.returns.CameBack(t.Context(), about(t, tt.to), []byte(tt.header))
				var got []string
				for id, prefix := range map[message.ID]string{h.letter: "first: ", second: "", h.forwarded: "forwarded: "} {
					for _, e := range h.told(t, id) {
						got = append(got, prefix+e)
					}
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// variable has ala write to far, near and again with a path for each; the first letter
// and one to once without.
func (h *house) variable(t *testing.T) message.ID {
	t.Helper()
	second := newID(t, 3)
	err := h.db.Update(t.Context(), func(tx db.Tx) error {
		r := trace.Record{ID: second, Accepted: now, ReversePath: "ala@example.org", MessageID: "<3@example.org>"}
		for i, to := range []string{"far@example.com", "near@example.com"} {
			r.Fates = append(r.Fates, trace.Fate{N: i, Recipient: to, State: trace.Relayed, Changed: now, Detail: "250 taken"})
		}
		if err := h.trace.Record(tx, &r); err != nil {
			return err
		}
		r.ID, r.MessageID, r.Fates = newID(t, 4), "<4@example.org>", []trace.Fate{{Recipient: "once@example.com", State: trace.Relayed, Changed: now}}
		if err := h.trace.Record(tx, &r); err != nil {
			return err
		}
		return h.trace.Note(tx, second, trace.Event{At: now, N: -1, Kind: trace.VERP})
	})
	if err != nil {
		t.Fatal(err)
	}
	return second
}

func about(t *testing.T, to string) *post.Delivery {
	t.Helper()
	return &post.Delivery{ID: newID(t, 9), Envelope: envelope.Envelope{Recipients: []envelope.Recipient{{ForwardPath: intaketest.To(t, to)}}}}
}

// told is what came back for a message.
func (h *house) told(t *testing.T, id message.ID) (all []string) {
	t.Helper()
	events, err := h.trace.Events(context.Background(), trace.Viewer{Operator: true}, id)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Kind != trace.VERP {
			all = append(all, fmt.Sprintf("%d %s %s", e.N, e.Kind, strings.Split(e.Detail, " (message")[0]))
		}
	}
	return all
}

// TestVERPReport: the address says whom a report is about, whatever it names itself.
func TestVERPReport(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, []db.Component{trace.Schema}, func(t *testing.T, d db.Database) {
		h := newHouse(t, d)
		second := h.variable(t)
		strange := failed("mailbox-7@store.example.com", "Message-ID: <1@example.org>\r\n")
		got := h.come(t, 9, "ala+near=example.com@example.org", strange, h.letter)
		if len(got) != 1 || !strings.HasPrefix(got[0], "1 returned failed 5.1.1") {
			t.Errorf("by Message-ID: %q", got)
		}
		strange.Header = nil
		h.come(t, 10, "ala+far=example.com@example.org", strange, second)
		if got := h.told(t, second); len(got) != 1 || !strings.HasPrefix(got[0], "0 returned failed 5.1.1") {
			t.Errorf("by the address alone: %q", got)
		}
	})
}
