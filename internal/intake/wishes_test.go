package intake_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/message"
)

func relayAll(context.Context, envelope.Recipient) error { return nil }

// TestHold: what is to be held waits in the queue for every recipient, those with
// a mailbox here too; they are judged as ever.
func TestHold(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.rooms.Full = map[envelope.AccountID]bool{2: true}
	e := env(t, "ala@example.org")
	e.HoldUntil = h.now.Add(time.Hour)
	for to, want := range map[string]string{
		"gone@example.org": "550 1.1", "off@example.org": "550 2.1", "ola@example.org": "452 2.2", "postmaster": "550 1.3", "far@example.com": "550 7.1",
	} {
		if got := code(h.send(t, e, intake.Rules{}, plain, to)); got != want {
			t.Errorf("%s: %q, want %q", to, got, want)
		}
	}
	if err := h.send(t, e, intake.Rules{Relay: relayAll, Ours: true}, plain, "ala@example.org", "mixed@example.org", "far@example.com", "ala@example.org"); err != nil {
		t.Fatal(err)
	}
	d := h.accepter.Accepted()[0]
	var paths []string
	for _, r := range d.Remotes {
		paths = append(paths, r.ForwardPath.String())
	}
	want := []string{"<ala@example.org>", "<mixed@example.org>", "<far@example.com>"}
	if diff := cmp.Diff(want, paths); diff != "" || len(d.Locals) != 0 || !d.Envelope.HoldUntil.Equal(e.HoldUntil) || !d.Ours {
		t.Errorf("%d locals, until %v, ours %v; (-want +got):\n%s", len(d.Locals), d.Envelope.HoldUntil, d.Ours, diff)
	}
	if h.rooms.Held() != 0 {
		t.Errorf("%d octets of room are still held", h.rooms.Held())
	}
}

// TestRelease: a held message is delivered as it was stored, to who is ours now,
// and the queue is settled in the same transaction.
func TestRelease(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.rooms.Full = map[envelope.AccountID]bool{1: true} // room was promised when the message came
	var held intake.Held
	held.Envelope = env(t, "jan@example.net")
	held.Envelope.HoldUntil = h.now
	held.Envelope.EnvelopeID = "id+1"
	for _, to := range []string{"ala@example.org", "far@example.com", "gone@example.org", "mixed@example.org", "db@example.org", "Ala@example.org"} {
		held.Envelope.Recipients = append(held.Envelope.Recipients, envelope.Recipient{ForwardPath: intaketest.To(t, to), Notify: envelope.NotifySuccess,
			Original: envelope.OriginalRecipient{Type: "rfc822", Address: "first@example.net"}})
	}
	held.ID = message.ID{1}
	stored := "Received: by mx.example.org; x\r\nReturn-Path: <kept@example.net>\r\n" + plain
	held.Message = strings.NewReader(stored)
	var taken []int
	held.Within = func(_ db.Tx, t []int) error { taken = t; return nil }
	out, err := h.Release(t.Context(), held)
	if err != nil {
		t.Fatal(err)
	}
	codes := make([]string, len(out.Results))
	for i, err := range out.Results {
		if codes[i] = code(err); errors.Is(err, account.ErrNotLocal) {
			codes[i] = "not local"
		}
	}
	if diff := cmp.Diff([]string{"", "not local", "550 1.1", "", "other", ""}, codes); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
	d := h.accepter.Accepted()[0]
	if err := d.Within(nil); err != nil || !slices.Equal(taken, []int{0, 3, 5}) {
		t.Errorf("settled %v, %v", taken, err)
	}
	if d.Text != stored || len(d.Head) != 0 || d.ID != out.ID || d.ID == held.ID || d.MessageID != "<1@example.net>" {
		t.Errorf("delivered as %s: head %q, message id %s, %q", d.ID, d.Head, d.MessageID, d.Text)
	}
	if len(d.Locals) != 1 || len(d.Remotes) != 1 || !d.Envelope.HoldUntil.IsZero() || !strings.Contains(string(d.Locals[0].Prefix), "Return-Path: <jan@example.net>\r\n") {
		t.Errorf("%d locals, %d remotes, held until %v", len(d.Locals), len(d.Remotes), d.Envelope.HoldUntil)
	}
	if len(d.Also) != 1 || !strings.Contains(d.Also[0].Text, "Action: delivered") || !strings.Contains(d.Also[0].Text, "Action: expanded") {
		t.Errorf("%d reports", len(d.Also))
	}
	if n := h.accepter.Leaked(); n != 0 {
		t.Errorf("%d staged messages were not discarded", n)
	}
}

// TestReleaseFails: nothing is delivered, nothing staged stays.
func TestReleaseFails(t *testing.T) {
	t.Parallel()
	for name, break1 := range map[string]func(*house, *intake.Held){
		"stage":  func(h *house, _ *intake.Held) { h.accepter.StageErr = errors.New("no") },
		"write":  func(h *house, _ *intake.Held) { h.accepter.WriteErr = errors.New("no") },
		"accept": func(h *house, _ *intake.Held) { h.accepter.AcceptErr = errors.New("no") },
		"read":   func(_ *house, held *intake.Held) { held.Message = failing{} },
		"nothing": func(_ *house, held *intake.Held) {
			held.Envelope.Recipients[0].ForwardPath = intaketest.To(t, "far@example.com")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			held := intake.Held{Envelope: env(t, "jan@example.net"), Message: strings.NewReader(plain)}
			held.Envelope.Recipients = []envelope.Recipient{{ForwardPath: intaketest.To(t, "ala@example.org")}}
			break1(h, &held)
			out, err := h.Release(t.Context(), held)
			if (err == nil) != (name == "nothing") || !out.ID.IsZero() {
				t.Errorf("got %v, %v", out, err)
			}
			if len(h.accepter.Accepted()) != 0 || h.accepter.Leaked() != 0 {
				t.Errorf("%d accepted, %d leaked", len(h.accepter.Accepted()), h.accepter.Leaked())
			}
		})
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("segment is gone") }

// TestReleaseLargeHeader: a header section that was taken at its limit still goes
// when our trace fields stand above it.
func TestReleaseLargeHeader(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	line := "X-Long: " + strings.Repeat("x", 988) + "\r\n"
	header := strings.Repeat(line, message.MaxHeaderOctets/len(line))
	held := intake.Held{Envelope: env(t, "jan@example.net"), Message: strings.NewReader("Received: " + strings.Repeat("y", 4000) + "\r\n" + header + "\r\nbody\r\n")}
	held.Envelope.Recipients = []envelope.Recipient{{ForwardPath: intaketest.To(t, "ala@example.org")}}
	if _, err := h.Release(t.Context(), held); err != nil {
		t.Error(err)
	}
}

// TestDeliverByOver: a message that should be given back before it has come in
// whole is refused (RFC 2852).
func TestDeliverByOver(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		mode envelope.ByMode
		by   time.Duration
		want string
	}{
		{envelope.ByReturn, time.Second, ""},
		{envelope.ByReturn, 0, "554 4.7"},
		{envelope.ByReturn, -time.Second, "554 4.7"},
		{envelope.ByNotify, -time.Second, ""},
	} {
		h := newHouse(t)
		e := env(t, "jan@example.net")
		e.DeliverBy = envelope.DeliverBy{Mode: tt.mode, Time: h.now.Add(tt.by)}
		if got := code(h.send(t, e, intake.Rules{}, plain, "ala@example.org")); got != tt.want {
			t.Errorf("mode %d, %v: %q, want %q", tt.mode, tt.by, got, tt.want)
		}
		if h.accepter.Leaked() != 0 || h.rooms.Held() != 0 {
			t.Errorf("mode %d, %v: something is still held", tt.mode, tt.by)
		}
	}
}

// TestTLSRequired: the field of RFC 8689 §3.
func TestTLSRequired(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]bool{
		"":                         false,
		"TLS-Required: No\r\n":     true,
		"tls-required:no\r\n":      true,
		"TLS-Required:\r\n no\r\n": true,
		"TLS-Required: Yes\r\n":    false,
		"TLS-Required: Nope\r\n":   false,
		"TLS-Required:\r\n":        false,
		"TLS-Required: No\r\nTLS-Required: No\r\n":  false,
		"TLS-Required: Yes\r\nTLS-Required: No\r\n": false,
	} {
		for _, require := range []bool{false, true} {
			h := newHouse(t)
			e := env(t, "jan@example.net")
			e.RequireTLS = require
			if err := h.send(t, e, intake.Rules{}, header+plain, "ala@example.org"); err != nil {
				t.Fatal(err)
			}
			d := h.accepter.Accepted()[0]
			if d.TLSOptional != (want && !require) || d.Envelope.RequireTLS != require || d.Ours {
				t.Errorf("%q, REQUIRETLS %v: optional %v", header, require, d.TLSOptional)
			}
			if d.Text != header+plain { // the field goes on with the message
				t.Errorf("%q changed to %q", header, d.Text)
			}
		}
	}
}

// TestPriorityInReceived: RFC 6710 §4.1.
func TestPriorityInReceived(t *testing.T) {
	t.Parallel()
	for priority, want := range map[int]string{0: "", 4: " PRIORITY 4;", -9: " PRIORITY -9;"} {
		h := newHouse(t)
		e := env(t, "jan@example.net")
		e.Priority = priority
		if err := h.send(t, e, intake.Rules{}, plain, "ala@example.org"); err != nil {
			t.Fatal(err)
		}
		head := strings.Join(strings.Fields(string(h.accepter.Accepted()[0].Head)), " ")
		if !strings.Contains(head, want) || want == "" && strings.Contains(head, "PRIORITY") {
			t.Errorf("priority %d: %s", priority, head)
		}
	}
}

// TestReportOfWishes: what is told about a message goes as the message had to:
// with TLS and without its body (RFC 8689 §5), at its priority (RFC 6710 §4.6).
func TestReportOfWishes(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	e := env(t, "jan@example.net")
	e.RequireTLS, e.Priority, e.Return = true, -3, envelope.ReturnFull
	tx, err := h.Begin(e, intake.Rules{})
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Rcpt(t.Context(), envelope.Recipient{ForwardPath: intaketest.To(t, "ala@example.org"), Notify: envelope.NotifySuccess}); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Data(t.Context(), strings.NewReader(plain)); err != nil {
		t.Fatal(err)
	}
	d := h.accepter.Accepted()[0]
	if d.Envelope.Return != envelope.ReturnHeaders || len(d.Also) != 1 || !d.Also[0].Envelope.RequireTLS || d.Also[0].Envelope.Priority != -3 {
		t.Errorf("RET %d; reports %+v", d.Envelope.Return, d.Also)
	}
}
