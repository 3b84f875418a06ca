package report_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"strings"
	"testing"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/report"
)

func TestSendLetter(t *testing.T) {
	t.Parallel()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, to   string
		sent, fail bool
		signed     int
	}{
		{"mailbox here", "ala@example.org", true, false, 0},
		{"forwarded too", "both@example.org", true, false, 1},
		{"nobody", "none@example.org", false, false, 0},
		{"database away", "db@example.org", false, true, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, accepter := newReporter(t, func(c *report.Config) { c.Signers = &signers{domain: "example.org", private: private} })
			within := errors.New("within")
			sent, err := r.SendLetter(t.Context(), report.Letter{From: intaketest.Addr(t, "poczta@mx.example.org"), To: intaketest.Addr(t, tt.to),
				Write: func(w io.Writer, id message.ID) error {
					_, err := io.WriteString(w, "From: poczta@mx.example.org\r\nX-ID: "+id.String()+"\r\n\r\nx\r\n")
					return err
				},
				Within: func(db.Tx) error { return within }})
			if sent != tt.sent || (err != nil) != tt.fail {
				t.Fatalf("sent %v, %v", sent, err)
			}
			if !sent {
				return
			}
			got := accepter.Accepted()
			if len(got) != 1 || !got[0].Delivery.Envelope.ReversePath.IsNull() || !errors.Is(got[0].Delivery.Within(nil), within) ||
				strings.Count(string(got[0].Delivery.Head), "DKIM-Signature:") != tt.signed || !strings.Contains(got[0].Text, "X-ID: "+got[0].Delivery.ID.String()) {
				t.Errorf("accepted %+v", got)
			}
		})
	}
}
