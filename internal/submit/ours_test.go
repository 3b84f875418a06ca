package submit_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/smtpserver"
	"poczta.example/poczta/internal/submit"
)

// TestOurs: mail of accounts and devices is marked as ours, and what it asks for on
// its way reaches Accept.
func TestOurs(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		session *smtpserver.Session
		from    string
	}{
		"account": {ala(), "ala@example.org"},
		"device":  {stranger("192.0.2.5"), "scanner@example.org"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOffice(t, func(c *submit.Config) {
				c.Hosts = []submit.Host{{From: []netip.Prefix{netip.MustParsePrefix("192.0.2.5/32")}, Addresses: []address.Address{intaketest.Addr(t, "scanner@example.org")}}}
			})
			hold, by := o.now.Add(time.Hour), envelope.DeliverBy{Mode: envelope.ByReturn, Time: o.now.Add(2 * time.Hour), Trace: true}
			tx, err := o.Begin(t.Context(), tt.session, envelope.Envelope{ReversePath: intaketest.From(t, tt.from), Origin: tt.session.Origin,
				RequireTLS: true, Priority: 4, HoldUntil: hold, DeliverBy: by})
			if err != nil {
				t.Fatal(err)
			}
			for _, to := range []string{"ala@example.org", "far@example.com"} {
				if err := tx.Rcpt(t.Context(), envelope.Recipient{ForwardPath: intaketest.To(t, to)}); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := tx.Data(t.Context(), strings.NewReader("From: "+tt.from+"\r\nTLS-Required: No\r\n\r\nHi\r\n")); err != nil {
				t.Fatal(err)
			}
			d := o.accepter.Accepted()[0]
			if e := d.Envelope; !e.RequireTLS || e.Priority != 4 || !e.HoldUntil.Equal(hold) || e.DeliverBy != by {
				t.Errorf("envelope %+v", e)
			}
			if !d.Ours || d.TLSOptional || len(d.Locals) != 0 || len(d.Remotes) != 2 {
				t.Errorf("ours %v, TLS optional %v, %d locals, %d remotes", d.Ours, d.TLSOptional, len(d.Locals), len(d.Remotes))
			}
		})
	}
}
