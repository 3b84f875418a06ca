package filter_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/filter"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/trace"
	"poczta.example/poczta/internal/verdict"
)

// TestMilterChangesFrom: a milter's reverse-path takes the place of the first, in the envelope, in
// Return-Path and in the trace, with RET and ENVID; what is no address is a fault of the milter.
func TestMilterChangesFrom(t *testing.T) {
	t.Parallel()
	type outcome struct {
		Code           int
		From, Prefix   string
		Return         envelope.Return
		ID, Said, Verp string
	}
	prefix := func(path string) string {
		return "Return-Path: " + path + "\r\nDelivered-To: ala@example.org\r\n"
	}
	said := func(to string) string {
		return "milter fake changed the reverse-path from <jan@good.test> to " + to
	}
	for _, c := range []struct {
		name string
		says []string
		want outcome
	}{
		{"another", []string{"e<list-bounces@good.test>\x00"}, outcome{From: "<list-bounces@good.test>", Prefix: prefix("<list-bounces@good.test>"), Return: envelope.ReturnFull, ID: "old", Said: said("<list-bounces@good.test>")}},
		{"without brackets", []string{"ex@y.test\x00"}, outcome{From: "<x@y.test>", Prefix: prefix("<x@y.test>"), Return: envelope.ReturnFull, ID: "old", Said: said("<x@y.test>")}},
		{"null", []string{"e<>\x00"}, outcome{From: "<>", Prefix: prefix("<>"), Return: envelope.ReturnFull, ID: "old", Said: said("<>")}},
		{"with parameters", []string{"e<x@y.test>\x00RET=HDRS ENVID=new+2Bid SIZE=100\x00"}, outcome{From: "<x@y.test>", Prefix: prefix("<x@y.test>"), Return: envelope.ReturnHeaders, ID: "new+id", Said: said("<x@y.test>")}},
		{"with parameters that are none", []string{"e<x@y.test>\x00RET=ALL\x00"}, outcome{From: "<x@y.test>", Prefix: prefix("<x@y.test>"), Return: envelope.ReturnFull, ID: "old", Said: said("<x@y.test>")}},
		{"twice", []string{"e<x@y.test>\x00", "e<z@y.test>\x00"}, outcome{From: "<z@y.test>", Prefix: prefix("<z@y.test>"), Return: envelope.ReturnFull, ID: "old", Said: said("<z@y.test>")}},
		{"beyond ASCII", []string{"e<jäkäry@y.test>\x00"}, outcome{From: "<jäkäry@y.test>", Prefix: prefix("<jäkäry@y.test>"), Return: envelope.ReturnFull, ID: "old", Said: said("<jäkäry@y.test>")}},
		{"no address", []string{"e<x y@@z>\x00"}, outcome{Code: 451}},
		{"two lines", []string{"e<x@y.test>\r\nX: y\x00"}, outcome{Code: 451}},
		{"parameters of two lines", []string{"e<x@y.test>\x00RET=FULL\r\nRCPT TO:<z@y.test>\x00"}, outcome{Code: 451}},
		{"and refuses", []string{"e<x@y.test>\x00", "r"}, outcome{Code: 550}},
		{"none", nil, outcome{From: "<jan@good.test>", Prefix: prefix("<jan@good.test>"), Return: envelope.ReturnFull, ID: "old"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dbtest.Each(t, append(rooms(), trace.Schema), func(t *testing.T, d db.Database) {
				tr := must[*trace.Trace](t)(trace.New(trace.Config{DB: d}))
				h := newHouse(t, d, func(fc *filter.Config) {
					withMilter(t, verdict.Defer, libmilter(nil, c.says...))(fc)
					fc.Trace = tr
				})
				env := envelope.Envelope{ReversePath: intaketest.From(t, "jan@good.test"), Return: envelope.ReturnFull, EnvelopeID: "old",
					Origin: envelope.Origin{Peer: netip.MustParseAddrPort("192.0.2.1:25"), Helo: "mx.good.test", Protocol: "ESMTP"}}
				got, err := h.hand(env, intake.Rules{Inspect: h.filter.Inspect}, letter("jan@good.test", "Dear Ala"), ala)
				o := outcome{Code: code(err)}
				if got != nil {
					o.From, o.Return, o.ID, o.Verp = got.Envelope.ReversePath.String(), got.Envelope.Return, got.Envelope.EnvelopeID, string(got.Envelope.VERP)
					p := string(got.Locals[0].Prefix)
					o.Prefix = p[:strings.Index(p, intake.VerdictField)]
					within := got.Within
					if err := d.Update(t.Context(), func(tx db.Tx) error { return within(tx) }); err != nil {
						t.Fatal(err)
					}
					for _, e := range must[[]trace.Event](t)(tr.Events(t.Context(), trace.Viewer{Operator: true}, got.ID)) {
						if e.Kind == filter.KindReversePath {
							o.Said = e.Detail
						}
					}
				}
				if diff := cmp.Diff(c.want, o); diff != "" {
					t.Errorf("(-want +got):\n%s\n%v", diff, err)
				}
			})
		})
	}
}

// TestMilterChangesFromOutgoing: the same of what our own people send elsewhere, whose own
// reverse-paths for each recipient end.
func TestMilterChangesFromOutgoing(t *testing.T) {
	t.Parallel()
	once(t, func(d db.Database) {
		h := newHouse(t, d, withMilter(t, verdict.Defer, libmilter(nil, "e<service@example.org>\x00")))
		env := envelope.Envelope{ReversePath: intaketest.From(t, ala), VERP: "+=",
			Origin: envelope.Origin{Account: 1, Login: "ala", Protocol: "ESMTPSA", Peer: netip.MustParseAddrPort("192.0.2.9:1")}}
		got, err := h.hand(env, intake.Rules{Inspect: h.filter.Inspect, Ours: true, Relay: relayAll}, letter(ala, "Dear Jan"), "jan@far.test", "ola@example.org")
		if err != nil {
			t.Fatal(err)
		}
		if p := got.Envelope.ReversePath.String(); p != "<service@example.org>" || got.Envelope.VERP != "" {
			t.Errorf("the envelope has %s and XVERP=%s", p, got.Envelope.VERP)
		}
		for _, r := range got.Remotes {
			if !r.ReversePath.IsNull() {
				t.Errorf("a copy has the reverse-path %s", r.ReversePath)
			}
		}
		for _, l := range got.Locals {
			if !strings.HasPrefix(string(l.Prefix), "Return-Path: <service@example.org>\r\n") || strings.Count(string(l.Prefix), "Return-Path") != 1 {
				t.Errorf("a copy begins with %q", l.Prefix)
			}
		}
	})
}
