package returned_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/dsn"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/forward"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/returned"
	"poczta.example/poczta/internal/trace"
)

var now = time.Date(2026, 11, 23, 3, 35, 9, 0, time.UTC)

type forwards struct{ got []forward.Return }

func (f *forwards) Returned(_ context.Context, r forward.Return) error {
	f.got = append(f.got, r)
	return nil
}

func newID(t *testing.T, n int) message.ID {
	t.Helper()
	id, err := message.NewID(now, bytes.NewReader(bytes.Repeat([]byte{byte(n)}, 16)))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// house has a trace with ala's letter to far and near, and jan's letter that ala's
// account forwarded.
type house struct {
	db                db.Database
	trace             *trace.Trace
	returns           *returned.Returns
	forwards          *forwards
	letter, forwarded message.ID
}

func newHouse(t *testing.T, d db.Database) *house {
	t.Helper()
	h := &house{db: d, forwards: &forwards{}, letter: newID(t, 1), forwarded: newID(t, 2)}
	var err1, err2 error
	h.trace, err1 = trace.New(trace.Config{DB: d, Now: func() time.Time { return now }})
	h.returns, err2 = returned.New(returned.Config{DB: d, Trace: h.trace, Forwards: h.forwards, Hostname: intaketest.Addr(t, "x@mx.example.org").Domain(), Separator: "+", Now: func() time.Time { return now }})
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	fate := func(n int, rcpt, target string) trace.Fate {
		return trace.Fate{N: n, Recipient: rcpt, Target: target, State: trace.Relayed, Changed: now, Detail: "250 taken"}
	}
	err := d.Update(context.Background(), func(tx db.Tx) error {
		return errors.Join(
			h.trace.Record(tx, &trace.Record{ID: h.letter, Accepted: now, ReversePath: "ala@example.org", MessageID: "<1@example.org>",
				Fates: []trace.Fate{fate(0, "far@example.com", ""), fate(1, "near@example.com", "")}}),
			h.trace.Record(tx, &trace.Record{ID: h.forwarded, Accepted: now, ReversePath: "jan@example.net", MessageID: "<2@example.net>",
				Fates: []trace.Fate{fate(0, "ala@example.org", "far@example.com")}}))
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// come lets a report come in, and returns the events of a message.
func (h *house) come(t *testing.T, n int, to string, r *dsn.Returned, about message.ID) []string {
	t.Helper()
	ctx := context.Background()
	h.returns.Returned(ctx, &post.Delivery{ID: newID(t, n), Envelope: envelope.Envelope{Recipients: []envelope.Recipient{{ForwardPath: intaketest.To(t, to)}}}}, r)
	events, err := h.trace.Events(ctx, trace.Viewer{Operator: true}, about)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range events {
		out = append(out, fmt.Sprintf("%d %s %s", e.N, e.Kind, strings.Split(e.Detail, " (report")[0]))
	}
	found, err := h.trace.Find(ctx, trace.Viewer{Operator: true}, trace.Query{ID: about})
	if err != nil || found[0].Fates[0].State != trace.Relayed || found[0].Fates[0].Detail != "250 taken" {
		t.Errorf("the fate has changed: %+v, %v", found, err)
	}
	return out
}

func failed(final, header string) *dsn.Returned {
	return &dsn.Returned{ReportingMTA: "mx.example.com", Header: []byte(header),
		Recipients: []dsn.ReturnedRecipient{{Final: final, Action: dsn.Failed, Status: dsn.Status{Class: 5, Subject: 1, Detail: 1}, Diagnostic: "550 5.1.1 no such user"}}}
}

func TestReturned(t *testing.T) {
	t.Parallel()
	const says = " returned failed 5.1.1 from mx.example.com: 550 5.1.1 no such user"
	received := func(h *house) string {
		return "Received: from x (by other.example id 1)\r\n\tby mx.example.org with ESMTPSA (TLS1.3)\r\n\tid " + h.letter.String() + ";\r\n\tMon, 23 Nov 2026 03:35:09 +0000\r\n"
	}
	for _, tt := range []struct {
		name, to, final string
		header          func(h *house) string
		want            []string
	}{
		{"by envelope id", "ala@example.org", "far@example.com", func(*house) string { return "ENVID" }, []string{"0" + says}},
		{"by Message-ID", "ala@example.org", "FAR@example.com", func(*house) string { return "Message-ID: <1@example.org>\r\n" }, []string{"0" + says}},
		{"by our Received", "ala@example.org", "near@example.com", received, []string{"1" + says}},
		{"unknown recipient", "ala@example.org", "other@example.com", received, []string{"-1" + says}},
		{"to somebody else", "ola@example.org", "far@example.com", received, nil},
		{"another host's Received", "ala@example.org", "far@example.com", func(h *house) string { return strings.Replace(received(h), "mx.example.org", "mx.example.net", 1) }, nil},
		{"without a header", "ala@example.org", "far@example.com", func(*house) string { return "" }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dbtest.Each(t, []db.Component{trace.Schema}, func(t *testing.T, d db.Database) {
				h := newHouse(t, d)
				r := failed(tt.final, tt.header(h))
				if string(r.Header) == "ENVID" {
					r.Header, r.EnvelopeID = nil, h.letter.String()
				}
				got := h.come(t, 9, tt.to, r, h.letter)
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Error(diff)
				}
				if len(h.forwards.got) != 0 {
					t.Errorf("a forward failed: %v", h.forwards.got)
				}
			})
		})
	}
}

// TestForwarded: a report to an SRS address is a failure of the forward.
func TestForwarded(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, []db.Component{trace.Schema}, func(t *testing.T, d db.Database) {
		h := newHouse(t, d)
		const back = "SRS0=AAAAAAAA=AA=example.net=jan@example.org"
		got := h.come(t, 9, back, failed("far@example.com", "Message-ID: <2@example.net>\r\n"), h.forwarded)
		want := []forward.Return{{To: intaketest.To(t, back), Sender: "jan@example.net", Written: "ala@example.org", Target: "far@example.com", Status: "5.1.1 550 5.1.1 no such user"}}
		if len(got) != 1 || len(h.forwards.got) != 1 || h.forwards.got[0] != want[0] {
			t.Errorf("%v, %v", got, h.forwards.got)
		}
		late := failed("far@example.com", "Message-ID: <2@example.net>\r\n")
		late.Recipients[0].Action = dsn.Delayed
		h.come(t, 10, back, late, h.forwarded)
		if len(h.forwards.got) != 1 {
			t.Errorf("a delay counts: %v", h.forwards.got)
		}
	})
}

// TestBounded: who sends reports without end fills no trace.
func TestBounded(t *testing.T) {
	t.Parallel()
	d := dbtest.SQLite(t)
	if err := db.Migrate(context.Background(), d, []db.Component{trace.Schema}); err != nil {
		t.Fatal(err)
	}
	h := newHouse(t, d)
	base := now
	returns, err := returned.New(returned.Config{DB: d, Trace: h.trace, Hostname: intaketest.Addr(t, "x@mx.example.org").Domain(),
		Now: func() time.Time { base = base.Add(time.Second); return base }})
	if err != nil {
		t.Fatal(err)
	}
	h.returns = returns
	var got []string
	for i := range 60 {
		r := failed("far@example.com", "Message-ID: <1@example.org>\r\n")
		for range 500 {
			r.Recipients = append(r.Recipients, r.Recipients[0])
		}
		got = h.come(t, 10+i, "ala@example.org", r, h.letter)
	}
	if len(got) != 20 {
		t.Errorf("%d events", len(got))
	}
}

// nothing is a trace without messages.
type nothing struct{ asked []trace.Query }

func (n *nothing) Find(_ context.Context, _ trace.Viewer, q trace.Query) ([]trace.Record, error) {
	n.asked = append(n.asked, q)
	return nil, trace.ErrNotFound
}

func (*nothing) Events(context.Context, trace.Viewer, message.ID) ([]trace.Event, error) {
	return nil, nil
}

func (*nothing) Note(db.Tx, message.ID, trace.Event) error { return nil }

// FuzzReturned: whatever header section comes back, few questions follow.
func FuzzReturned(f *testing.F) {
	f.Add([]byte("Received: by mx.example.org id 06h3a27k93fbelvgc7v0udv2r8; x\r\nMessage-ID: <1@x>\r\n"), "06h3a27k93fbelvgc7v0udv2r8")
	f.Add([]byte("Received: (by mx.example.org (id x)) by\r\n id\r\n"), "")
	f.Add([]byte("In-Reply-To: <1@x>\r\n"), "ala+a-b-c-d-e-f-g-h=x+y@example.org")
	host := intaketest.Addr(f, "x@mx.example.org").Domain()
	d := dbtest.SQLite(f)
	f.Fuzz(func(t *testing.T, header []byte, envid string) {
		n := &nothing{}
		r, err := returned.New(returned.Config{DB: d, Trace: n, Hostname: host, Separator: "+"})
		if err != nil {
			t.Fatal(err)
		}
		r.Returned(context.Background(), &post.Delivery{}, &dsn.Returned{Header: header, EnvelopeID: envid, Recipients: make([]dsn.ReturnedRecipient, 1)})
		if len(n.asked) > 7 {
			t.Fatalf("%d questions", len(n.asked))
		}
		to, err := address.ParseForwardPath("<"+envid+">", true)
		if err != nil {
			return
		}
		letter := &post.Delivery{Envelope: envelope.Envelope{Recipients: []envelope.Recipient{{ForwardPath: to}, {ForwardPath: to}}}}
		n.asked = nil
		r.Returned(context.Background(), letter, &dsn.Returned{Header: header, EnvelopeID: envid, Recipients: make([]dsn.ReturnedRecipient, 1)})
		if len(n.asked) > 13 {
			t.Fatalf("%d questions", len(n.asked))
		}
		n.asked = nil
		r.CameBack(context.Background(), letter, header)
		if len(n.asked) > 7 {
			t.Fatalf("%d questions about mail", len(n.asked))
		}
	})
}
