package report_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/dsn"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/report"
)

// TestStrangers: NOTIFY=SUCCESS with a forged reverse-path brings a few short reports to
// whom it names, and not as many as a stranger likes.
func TestStrangers(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 3, 35, 9, 0, time.UTC)
	success := []dsn.Recipient{{Final: intaketest.To(t, "ala@example.org"), Action: dsn.Delivered, Status: dsn.Status{Class: 2}}}
	header := []byte("From: a@b.example\r\nX-Text:" + strings.Repeat("\r\n Buy!", 1000) + "\r\nSubject: " + strings.Repeat("y", 4000) + "\r\nX-End: z\r\n")
	for _, tt := range []struct {
		name    string
		from    func(i int) envelope.Origin
		to      func(i int) string
		about   []dsn.Recipient
		foreign bool
		want    int
		shorter bool
	}{
		{"one victim", func(i int) envelope.Origin { return peer(fmt.Sprintf("198.51.%d.1:25", i)) }, func(int) string { return "victim@example.net" }, success, false, 10, true},
		{"one stranger", func(i int) envelope.Origin { return peer(fmt.Sprintf("198.51.100.%d:25", i)) }, func(i int) string { return fmt.Sprintf("v%d@example.net", i) }, success, false, 20, true},
		{"an account", func(int) envelope.Origin { o := peer("198.51.100.1:25"); o.Account = 1; return o }, func(int) string { return "a@example.net" }, success, false, 50, false},
		{"a local program", func(int) envelope.Origin { return peer("127.0.0.1:25") }, func(int) string { return "a@example.net" }, success, false, 50, false},
		{"failures", func(int) envelope.Origin { return peer("198.51.100.1:25") }, func(int) string { return "a@example.net" }, failed(t), true, 50, false},
		{"relayed on", func(int) envelope.Origin { return envelope.Origin{} }, func(int) string { return "victim@example.net" }, success, true, 10, true},
		{"relayed on for many", func(int) envelope.Origin { return envelope.Origin{} }, func(i int) string { return fmt.Sprintf("v%d@example.net", i) }, success, true, 50, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, accepter := newReporter(t, func(c *report.Config) { c.Now = func() time.Time { return now } })
			for i := range 50 {
				o := report.Original{Envelope: envelope.Envelope{ReversePath: intaketest.From(t, tt.to(i)), Origin: tt.from(i)}, Header: header, Foreign: tt.foreign}
				if err := r.Send(t.Context(), o, tt.about); err != nil {
					t.Fatal(err)
				}
			}
			got := accepter.Accepted()
			if len(got) != tt.want || accepter.Leaked() != 0 {
				t.Fatalf("%d reports, want %d; %d left staged", len(got), tt.want, accepter.Leaked())
			}
			whole := bytes.Contains([]byte(got[0].Text), header)
			if whole == tt.shorter || tt.shorter && (len(got[0].Text) > 12<<10 || !strings.Contains(got[0].Text, " Buy!\r\n\r\n--")) {
				t.Errorf("the report has %d octets; whole header %v", len(got[0].Text), whole)
			}
		})
	}
}

func peer(addr string) envelope.Origin {
	return envelope.Origin{Protocol: "ESMTP", Peer: netip.MustParseAddrPort(addr)}
}
