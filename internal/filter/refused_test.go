package filter_test

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/filter"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/preference"
	"poczta.example/poczta/internal/trace"
)

// TestNotTakenIsTraced: what is refused at its end, or put off, is explained under the id that the
// peer was told, and a flood of it is not kept.
func TestNotTakenIsTraced(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, append(rooms(), trace.Schema), func(t *testing.T, d db.Database) {
		var tr *trace.Trace
		h := newHouse(t, d, func(c *filter.Config) {
			tr = must[*trace.Trace](t)(trace.New(trace.Config{DB: d, Now: c.Now}))
			c.Trace = tr
		})
		if err := h.wishes.Add(t.Context(), preference.Common, preference.Entry{Pattern: "jan@soft.test"}); err != nil {
			t.Fatal(err)
		}
		told := func(name string, err error, code, to, rule string) {
			t.Helper()
			m := regexp.MustCompile(`^` + code + ` .*\(id ([0-9a-v]{26})\)`).FindStringSubmatch(fmt.Sprint(err))
			if m == nil {
				t.Fatalf("%s: got %v, want %s with an id", name, err, code)
			}
			id, err := message.ParseID(m[1])
			if err != nil {
				t.Fatal(err)
			}
			found, err := tr.Find(t.Context(), trace.Viewer{Operator: true}, trace.Query{ID: id})
			if err != nil || len(found) != 1 || len(found[0].Fates) != 1 || found[0].MessageID != "<1@good.test>" {
				t.Fatalf("%s: the trace has %+v, %v", name, found, err)
			}
			if f := found[0].Fates[0]; f.State != trace.Refused || f.State.String() != "refused" || f.Recipient != to || !strings.HasPrefix(f.Detail, code+" ") {
				t.Errorf("%s: fate %+v", name, f)
			}
			events, err := tr.Events(t.Context(), trace.Viewer{Operator: true}, id)
			if err != nil || len(events) != 1 || events[0].Kind != filter.KindVerdict {
				t.Fatalf("%s: events %+v, %v", name, events, err)
			}
			if v, ok := filter.ParseVerdict(events[0].Detail); !ok || v.Rule != rule || len(v.Evidence) == 0 {
				t.Errorf("%s: the trace explains %+v, want rule %s", name, v, rule)
			}
		}
		_, err := h.receive("192.0.2.1", "jan@soft.test", letter("jan@soft.test", "Good day"), ala)
		told("blocked by the server", err, "550", ala, "blocked_common")
		_, err = h.receive("198.51.100.9", "who@nowhere.test", "From: a@nowhere.test\r\nFrom: b@nowhere.test\r\nMessage-ID: <1@good.test>\r\n\r\nbuy\r\n", ala)
		told("put off", err, "451", ala, "greylist")
		env := envelope.Envelope{ReversePath: intaketest.From(t, ala), Origin: envelope.Origin{Account: 1, Login: "ala", Protocol: "ESMTPSA", Peer: netip.MustParseAddrPort("192.0.2.9:1")}}
		_, err = h.hand(env, intake.Rules{Inspect: h.filter.Inspect, Ours: true}, withProgram(ala), "ola@example.org")
		told("a program that ala sends", err, "550", "ola@example.org", "attachment_forbidden")

		for range 40 {
			if _, err = h.receive("203.0.113.77", "jan@soft.test", letter("jan@soft.test", "Good day"), "ola@example.org"); code(err) != 550 {
				t.Fatalf("a flood of refusals: %v", err)
			}
		}
		found, err := tr.Find(t.Context(), trace.Viewer{Operator: true}, trace.Query{Address: "ola@example.org"})
		if err != nil || len(found) != 21 { // with ala's
			t.Errorf("the trace has %d of 40 refusals to one network within a second, %v; want 20", len(found)-1, err)
		}
	})
}
