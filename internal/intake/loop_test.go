package intake_test

import (
	"strings"
	"testing"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/mailtest/intaketest"
)

// TestPasses: mail that goes on elsewhere may pass this host a few times, mail for
// mailboxes as often as the standard says.
func TestPasses(t *testing.T) {
	t.Parallel()
	ours := "Received: from (by mx.example.org) x.example (a b [192.0.2.1])\r\n\tby MX.example.org with ESMTP id 1; Mon, 23 Nov 2026 03:35:09 +0000\r\n"
	others := "Received: from mx.example.org by mx.example.net (by mx.example.org) with ESMTP; Mon, 23 Nov 2026 03:35:09 +0000\r\n"
	for _, tt := range []struct {
		header, to, want string
	}{
		{strings.Repeat(ours, intake.MaxPasses), "out@example.org", ""},
		{strings.Repeat(ours, intake.MaxPasses+1), "out@example.org", "554 4.6"},
		{strings.Repeat(ours, intake.MaxPasses+1), "mixed@example.org", "554 4.6"},
		{strings.Repeat(ours, intake.MaxPasses+1), "far@example.com", "554 4.6"},
		{strings.Repeat(ours, intake.MaxPasses+1), "ala@example.org", ""},
		{strings.Repeat(others, intake.MaxReceived), "out@example.org", ""},
		{strings.Repeat(others, intake.MaxReceived+1), "ala@example.org", "554 4.6"},
		{"Received: by\r\nReceived:\r\nReceived: by mx.example.org\r\n", "out@example.org", ""},
	} {
		h := newHouse(t)
		if got := code(h.send(t, env(t, "jan@example.net"), intake.Rules{Relay: relayAll}, tt.header+plain, tt.to)); got != tt.want {
			t.Errorf("%d fields to %s: %q, want %q", strings.Count(tt.header, "Received:"), tt.to, got, tt.want)
		}
	}
}

// TestDeliveredTo: a copy does not go where the message has been; who has no other
// target keeps it, and a message with nothing left is refused.
func TestDeliveredTo(t *testing.T) {
	t.Parallel()
	been := "Delivered-To: Far@Example.com\r\n"
	for _, tt := range []struct {
		name, header    string
		to              []string
		want            string
		locals, remotes int
	}{
		{"elsewhere before", "Delivered-To: other@example.com\r\n", []string{"mixed@example.org"}, "", 1, 1},
		{"been", been, []string{"mixed@example.org"}, "", 1, 0},
		{"been, the only target", been, []string{"out@example.org"}, "554 4.6", 0, 0},
		{"been, one of two recipients", been, []string{"out@example.org", "ola@example.org"}, "", 1, 1},
		{"been, both", been, []string{"out@example.org", "mixed@example.org"}, "", 1, 1},
		{"the sender names it", been, []string{"far@example.com"}, "", 0, 1},
		{"a mailbox here", "Delivered-To: ala@example.org\r\n", []string{"ala@example.org"}, "", 1, 0},
		{"no address", "Delivered-To: far\r\nDelivered-To:\r\n", []string{"mixed@example.org"}, "", 1, 1},
		{"many", strings.Repeat("Delivered-To: x@example.com\r\n", 1000) + been, []string{"mixed@example.org"}, "", 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			got := code(h.send(t, env(t, "jan@example.net"), intake.Rules{Relay: relayAll}, tt.header+plain, tt.to...))
			if got != tt.want {
				t.Fatalf("got %q, want %q", got, tt.want)
			}
			if got != "" {
				return
			}
			if d := h.accepter.Accepted()[0]; len(d.Locals) != tt.locals || len(d.Remotes) != tt.remotes || d.Text != tt.header+plain {
				t.Errorf("%d locals, %d remotes, want %d, %d", len(d.Locals), len(d.Remotes), tt.locals, tt.remotes)
			}
		})
	}
}

// TestDeliveredToReport: where the copy is left out, all that is left was delivered.
func TestDeliveredToReport(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	tx, err := h.Begin(env(t, "jan@example.net"), intake.Rules{})
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Rcpt(t.Context(), envelope.Recipient{ForwardPath: intaketest.To(t, "mixed@example.org"), Notify: envelope.NotifySuccess}); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Data(t.Context(), strings.NewReader("Delivered-To: far@example.com\r\n"+plain)); err != nil {
		t.Fatal(err)
	}
	if d := h.accepter.Accepted()[0]; len(d.Also) != 1 || !strings.Contains(d.Also[0].Text, "Action: delivered") {
		t.Errorf("%d reports", len(d.Also))
	}
}
