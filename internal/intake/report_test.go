package intake_test

import (
	"strings"
	"testing"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/mailtest/intaketest"
)

func outs(a address.Address) []address.Address { return []address.Address{a} }

// TestSuccessReports: who asked for NOTIFY=SUCCESS hears of mailboxes here and of
// expansion, in the same Accept.
func TestSuccessReports(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, from, to string
		notify         envelope.Notify
		want           string          // in the report; "" for none
		left           envelope.Notify // of the recipient afterwards
	}{
		{"mailbox", "jan@example.net", "ala@example.org", envelope.NotifySuccess | envelope.NotifyFailure, "Action: delivered", envelope.NotifySuccess | envelope.NotifyFailure},
		{"alias of mailboxes", "jan@example.net", "team@example.org", envelope.NotifySuccess, "Action: delivered", envelope.NotifySuccess},
		{"alias to elsewhere too", "jan@example.net", "mixed@example.org", envelope.NotifySuccess, "Action: expanded", envelope.NotifyNever},
		{"alias to elsewhere too, failure", "jan@example.net", "mixed@example.org", envelope.NotifySuccess | envelope.NotifyFailure, "Action: expanded", envelope.NotifyFailure},
		{"alias to elsewhere alone", "jan@example.net", "out@example.org", envelope.NotifySuccess, "", envelope.NotifySuccess},
		{"not asked", "jan@example.net", "ala@example.org", envelope.NotifyFailure, "", envelope.NotifyFailure},
		{"never", "jan@example.net", "ala@example.org", envelope.NotifyNever, "", envelope.NotifyNever},
		{"null reverse-path", "", "ala@example.org", envelope.NotifySuccess, "", envelope.NotifySuccess},
		{"to a mailbox here", "ola@example.org", "ala@example.org", envelope.NotifySuccess, "Action: delivered", envelope.NotifySuccess},
		{"reader unknown", "gone@example.org", "ala@example.org", envelope.NotifySuccess, "", envelope.NotifySuccess},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			e := env(t, tt.from)
			e.EnvelopeID = "id+1"
			tx, err := h.Begin(e, intake.Rules{})
			if err != nil {
				t.Fatal(err)
			}
			r := envelope.Recipient{ForwardPath: intaketest.To(t, tt.to), Notify: tt.notify, Original: envelope.OriginalRecipient{Type: "rfc822", Address: "first@example.net"}}
			if err := tx.Rcpt(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Data(t.Context(), strings.NewReader(plain)); err != nil {
				t.Fatal(err)
			}
			d := h.accepter.Accepted()[0]
			if got := d.Envelope.Recipients[0].Notify; got != tt.left {
				t.Errorf("NOTIFY is %b afterwards, want %b", got, tt.left)
			}
			checkReport(t, d, tt.from, tt.want)
			if h.accepter.Leaked() != 0 {
				t.Errorf("%d staged messages were not discarded", h.accepter.Leaked())
			}
		})
	}
}

func checkReport(t *testing.T, d intaketest.Accepted, from, want string) {
	t.Helper()
	if want == "" {
		if len(d.Also) != 0 {
			t.Errorf("a report nobody asked for: %s", d.Also[0].Text)
		}
		return
	}
	if len(d.Also) != 1 {
		t.Fatalf("%d reports", len(d.Also))
	}
	also := d.Also[0]
	for _, must := range []string{want, "Original-Envelope-Id: id+1", "Original-Recipient: rfc822; first@example.net", "Subject: Hi\r\n", "To: <" + from + ">"} {
		if !strings.Contains(also.Text, must) {
			t.Errorf("the report lacks %q: %s", must, also.Text)
		}
	}
	if !also.Envelope.ReversePath.IsNull() || also.Envelope.Recipients[0].Notify != envelope.NotifyNever || also.ID == d.ID {
		t.Errorf("the report's envelope: %+v", also.Envelope)
	}
	if local := strings.HasSuffix(from, "@example.org"); local != (len(also.Locals) == 1) || local == (len(also.Remotes) == 1) {
		t.Errorf("the report goes to %v, %v", also.Locals, also.Remotes)
	}
}

// TestRepeatedRecipients: NOTIFY of repeated paths is joined.
func TestRepeatedRecipients(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.router.Routes["ala@example.org"] = account.Route{Match: account.MatchAddress, Locals: h.router.Routes["ala@example.org"].Locals}
	for _, tt := range []struct{ a, b, want envelope.Notify }{
		{0, envelope.NotifySuccess, envelope.NotifySuccess},
		{envelope.NotifyFailure, envelope.NotifySuccess, envelope.NotifyFailure | envelope.NotifySuccess},
		{envelope.NotifyFailure, envelope.NotifyNever, envelope.NotifyNever},
		{envelope.NotifyNever, envelope.NotifySuccess, envelope.NotifyNever},
	} {
		tx, err := h.Begin(env(t, ""), intake.Rules{})
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []envelope.Notify{tt.a, tt.b} {
			if err := tx.Rcpt(t.Context(), envelope.Recipient{ForwardPath: intaketest.To(t, "ala@example.org"), Notify: n}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := tx.Data(t.Context(), strings.NewReader(plain)); err != nil {
			t.Fatal(err)
		}
		all := h.accepter.Accepted()
		if got := all[len(all)-1].Envelope.Recipients[0].Notify; got != tt.want {
			t.Errorf("%b and %b: got %b, want %b", tt.a, tt.b, got, tt.want)
		}
	}
}
