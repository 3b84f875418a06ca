package intake_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/report"
	"poczta.example/poczta/internal/verp"
)

// separated is a house with subaddresses.
func separated(t *testing.T, separator string) *house {
	t.Helper()
	h := newHouse(t)
	host := intaketest.Addr(t, "x@mx.example.org").Domain()
	reporter, err := report.New(report.Config{Hostname: host, Accepter: h.accepter, Router: h.router})
	if err != nil {
		t.Fatal(err)
	}
	h.Intake, err = intake.New(intake.Config{Hostname: host, Accepter: h.accepter, Router: h.router, Rooms: h.rooms, Reporter: reporter,
		Separator: separator, Now: func() time.Time { return h.now }})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestCheckVERP(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		separator, from string
		d               verp.Delimiters
		want            string
	}{
		{"", "", "", ""},
		{"+", "ala@example.org", "", ""},
		{"+", "ala@example.org", "+=", ""},
		{"-", "ala@example.org", "-=", ""},
		{"+", "team@example.org", "+-", ""},
		{"-", "ala@example.org", "+=", "501 5.4"},
		{"", "ala@example.org", "+=", "501 5.4"},
		{"+", "", "+=", "501 5.4"},
		{"+", "ala+shop@example.org", "+=", "501 5.4"},
		{"+", "ala@example.net", "+=", "501 5.4"},
		{"+", "gone@example.org", "+=", "501 5.4"},
		{"+", "off@example.org", "+=", "501 5.4"},
		{"+", "db@example.org", "+=", "other"},
	} {
		e := env(t, tt.from)
		e.VERP = tt.d
		if got := code(separated(t, tt.separator).CheckVERP(t.Context(), &e)); got != tt.want {
			t.Errorf("%q from <%s> where %q parts subaddresses: %q, want %q", tt.d, tt.from, tt.separator, got, tt.want)
		}
	}
}

// TestVERP: copies here and elsewhere, those of aliases too, have their recipient's path.
func TestVERP(t *testing.T) {
	t.Parallel()
	h := separated(t, "+")
	e := env(t, "ala@example.org")
	e.VERP = verp.Default
	rules := intake.Rules{Relay: relayAll, Ours: true}
	if err := h.send(t, e, rules, plain, "far@example.com", "Near@example.com", "ola@example.org", "out@example.org", "far@example.com"); err != nil {
		t.Fatal(err)
	}
	d := h.accepter.Accepted()[0]
	var got []string
	for _, r := range d.Remotes {
		got = append(got, r.ForwardPath.String()+" "+r.ReversePath.String())
	}
	for _, l := range d.Locals {
		got = append(got, string(l.Prefix))
	}
	want := []string{
		"<far@example.com> <ala+far=example.com@example.org>",
		"<Near@example.com> <ala+Near=example.com@example.org>",
		"<far@example.com> <ala+out=example.org@example.org>",
		"Return-Path: <ala+ola=example.org@example.org>\r\nDelivered-To: ola@example.org\r\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if d.Envelope.ReversePath.String() != "<ala@example.org>" {
		t.Errorf("the message's own reverse-path is %s", d.Envelope.ReversePath)
	}
	if got := code(h.send(t, e, rules, plain, strings.Repeat("x", 230)+"@example.com")); got != "553 1.3" {
		t.Errorf("a path that is too long: %q", got)
	}
	if err := h.send(t, env(t, "ala@example.org"), rules, plain, strings.Repeat("x", 230)+"@example.com"); err != nil {
		t.Errorf("without XVERP: %v", err)
	}
}

// TestVERPHeld: the paths wait with a message that is held, and are those of its copies
// when it is released.
func TestVERPHeld(t *testing.T) {
	t.Parallel()
	h := separated(t, "+")
	e := env(t, "ala@example.org")
	e.VERP, e.HoldUntil = "+-", h.now.Add(time.Hour)
	if err := h.send(t, e, intake.Rules{Relay: relayAll, Ours: true}, plain, "ola@example.org", "mixed@example.org"); err != nil {
		t.Fatal(err)
	}
	j := queue.Job{Message: queue.Message{ReversePath: "ala@example.org", HoldUntil: h.now}}
	for _, r := range h.accepter.Accepted()[0].Remotes {
		j.Recipients = append(j.Recipients, queue.Recipient{ForwardPath: strings.Trim(r.ForwardPath.String(), "<>"), ReversePath: strings.Trim(r.ReversePath.String(), "<>"),
			Notify: envelope.NotifySuccess})
	}
	if _, results, err := h.ReleaseJob(t.Context(), &j, strings.NewReader(plain), nil); err != nil || len(results) != 2 || results[0] != nil || results[1] != nil {
		t.Fatalf("%v, %v", results, err)
	}
	d := h.accepter.Accepted()[1]
	if p := string(d.Locals[0].Prefix); !strings.Contains(p, "Return-Path: <ala+ola-example.org@example.org>") {
		t.Errorf("%q", p)
	}
	if got := d.Remotes[0].ReversePath.String(); got != "<ala+mixed-example.org@example.org>" {
		t.Errorf("the copy that goes on has %s", got)
	}
	j.Recipients[0].ReversePath = "@"
	if _, _, err := h.ReleaseJob(t.Context(), &j, strings.NewReader(plain), nil); err == nil {
		t.Error("a malformed reverse-path is taken")
	}
}

// TestVERPForward: the copy of a forward keeps its recipient's path.
func TestVERPForward(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.router.Routes["out@example.org"] = account.Route{Match: account.MatchAlias, Remotes: outs(intaketest.Addr(t, "far@example.com")),
		Forwarders: []account.Forwarder{{Source: "out@example.org", Domain: intaketest.Addr(t, "x@example.org").Domain()}}}
	e := env(t, "ala@example.org")
	e.VERP = verp.Default
	if err := h.send(t, e, intake.Rules{Ours: true}, plain, "out@example.org"); err != nil {
		t.Fatal(err)
	}
	if r := h.accepter.Accepted()[0].Remotes[0]; r.Forward != "out@example.org" || r.ReversePath.String() != "<ala+out=example.org@example.org>" {
		t.Errorf("forward of %q goes with %s", r.Forward, r.ReversePath)
	}
}
