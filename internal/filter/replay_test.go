package filter_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"net/netip"
	"strings"
	"testing"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/dkim"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/filter"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/reputation"
	"poczta.example/poczta/internal/resolver"
	"poczta.example/poczta/internal/verify"
)

// TestReplay: spam that somebody else had signed and that is sent again to others is not held
// against who signed it, nor are they helped by the signer's good name.
func TestReplay(t *testing.T) {
	t.Parallel()
	key := ed25519.NewKeyFromSeed([]byte("01234567890123456789012345678901"))
	public := base64.StdEncoding.EncodeToString(key.Public().(ed25519.PublicKey))
	signed := func(t *testing.T, h *house, msg string) string {
		t.Helper()
		domain := must[address.Domain](t)(address.ParseDomain("signer.test"))
		s := must[*dkim.Signer](t)(dkim.NewSigner(domain, dkim.SigningKey{Selector: "s", Private: key}))
		header, rest, _ := message.SplitHeader([]byte(msg))
		g := s.Begin(header, dkim.Options{})
		_, _ = g.Write(dkim.AfterEmptyLine(rest))
		return string(must[[]byte](t)(g.Fields(h.now))) + msg
	}
	for _, c := range []struct {
		name, from, msg, path string
		domain, address       bool // that it is held against them
		other                 string
	}{
		{"straight", "Jan <jan@signer.test>", "To: ala@example.org\r\n", "x@far.test", true, true, ""},
		{"sent again", "Jan <jan@signer.test>", "To: me@elsewhere.test\r\n", "x@far.test", false, false, ""},
		{"sent again by a domain of its own", "Jan <jan@signer.test>", "To: me@elsewhere.test\r\n", "x@spammer.test", false, false, "spammer.test"},
		{"signed by a third party", "Jan <jan@other.test>", "To: ala@example.org\r\n", "x@far.test", false, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dbtest.Each(t, rooms(), func(t *testing.T, d db.Database) {
				h := newHouse(t, d, func(fc *filter.Config) {
					z := must[*resolver.Zone](t)(resolver.NewZone(zone + "s._domainkey.signer.test. TXT \"v=DKIM1; k=ed25519; p=" + public + "\"\n_dmarc.signer.test. TXT \"v=DMARC1; p=reject\"\nspammer.test. TXT \"v=spf1 ip4:203.0.113.9 -all\"\n"))
					fc.Verifier = must[*verify.Verifier](t)(verify.New(verify.Config{Resolver: z, Hostname: fc.Hostname, Now: fc.Now}))
					fc.Greylist = nil
				})
				if err := h.wishes.AddTrap(t.Context(), "ola@example.org"); err != nil {
					t.Fatal(err)
				}
				msg := signed(t, h, "From: "+c.from+"\r\n"+c.msg+"Subject: CHEAP WATCHES!!!\r\nDate: Mon, 23 Nov 2026 11:59:00 +0000\r\nMessage-ID: <1@good.test>\r\n\r\nBuy at http://192.0.2.99/ now\r\n")
				_, _ = h.receive("203.0.113.9", c.path, msg, ala, "ola@example.org")
				known := func(s reputation.Subject) bool {
					for _, st := range must[[]reputation.Standing](t)(h.seen.Look(t.Context(), s)) {
						if st.Bad > 0 {
							return true
						}
					}
					return false
				}
				signer := must[address.Domain](t)(address.ParseDomain("signer.test"))
				if got := known(reputation.Subject{Domain: signer}); got != c.domain {
					t.Errorf("it is held against the signer's domain: %v, want %v", got, c.domain)
				}
				if got := known(reputation.Subject{Address: must[address.Address](t)(address.Parse("jan@signer.test"))}); got != c.address {
					t.Errorf("it is held against the author: %v, want %v", got, c.address)
				}
				if !known(reputation.Subject{Peer: netip.MustParseAddr("203.0.113.9")}) {
					t.Error("it is not held against the network")
				}
				if c.other != "" && !known(reputation.Subject{Domain: must[address.Domain](t)(address.ParseDomain(c.other))}) {
					t.Errorf("it is not held against %s, which SPF proves", c.other)
				}
			})
		})
	}
}

// TestNobodyLooks: mail that comes in, of which no filter wants to know, is neither read nor judged.
func TestNobodyLooks(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, rooms(), func(t *testing.T, d db.Database) {
		for _, c := range []struct {
			name  string
			adapt func(*filter.Config)
			looks bool
		}{
			{"conduct alone", func(*filter.Config) {}, false},
			{"a milter for what goes out", func(c *filter.Config) { c.Milters = []filter.Milter{{Use: filter.Use{Outgoing: true}}} }, false},
			{"a milter for what comes in", func(c *filter.Config) { c.Milters = []filter.Milter{{Use: filter.Use{Incoming: true}}} }, true},
			{"clamd for what goes out", func(c *filter.Config) { c.Clamd = &filter.Clamd{Use: filter.Use{Outgoing: true}} }, false},
			{"clamd for what comes in", func(c *filter.Config) { c.Clamd = &filter.Clamd{Use: filter.Use{Incoming: true}} }, true},
			{"scores", func(c *filter.Config) { c.NoScore = false }, true},
		} {
			h := newHouse(t, d, func(fc *filter.Config) {
				fc.Verifier, fc.Attachments, fc.NoScore = nil, nil, true
				c.adapt(fc)
			})
			env := envelope.Envelope{ReversePath: intaketest.From(t, "ola@good.test"), Origin: envelope.Origin{Peer: netip.MustParseAddrPort("192.0.2.1:25")}}
			for outgoing, want := range map[bool]bool{false: c.looks, true: true} {
				i, err := h.filter.Inspect(t.Context(), intake.Incoming{Envelope: &env, Header: []byte("From: ola@good.test\r\n"), Outgoing: outgoing})
				if err != nil || (i != nil) != want {
					t.Errorf("%s: looks at mail that goes out (%v): %v, want %v (%v)", c.name, outgoing, i != nil, want, err)
				}
				if i != nil {
					i.Abort()
				}
			}
			if !c.looks {
				got, err := h.receive("192.0.2.1", "ola@good.test", letter("Ola <ola@good.test>", "text"), ala)
				if err != nil || got == nil || strings.Contains(string(got.Locals[0].Prefix), intake.VerdictField) || got.Locals[0].Mailbox != "" {
					t.Errorf("%s: it was judged, or not taken: %+v, %v", c.name, got, err)
				}
			}
		}
	})
}
