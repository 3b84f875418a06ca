package filter_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"net/netip"
	"strings"
	"testing"

	"poczta.example/poczta/internal/attachment"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/filter"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/verdict"
)

// TestArchiveBomb: a bomb does what the operator says, for mail that comes in and goes out.
func TestArchiveBomb(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(append([]byte("<html>"), make([]byte, 32<<20)...))
	_ = w.Close()
	msg := strings.Replace(letter("jan@good.test", ""), "\r\n\r\n", "\r\nMIME-Version: 1.0\r\nContent-Type: application/gzip; name=\"page.html.gz\"\r\nContent-Transfer-Encoding: base64\r\n\r\n"+
		base64.StdEncoding.EncodeToString(b.Bytes()), 1)
	for _, c := range []struct {
		bomb    verdict.Action
		code    int
		mailbox string
		out     int
	}{{verdict.Deliver, 0, "", 0}, {verdict.Quarantine, 0, "Quarantine", 550}, {verdict.Refuse, 550, "", 550}} {
		t.Run(c.bomb.String(), func(t *testing.T) {
			t.Parallel()
			once(t, func(d db.Database) {
				h := newHouse(t, d, func(fc *filter.Config) {
					fc.Attachments = must[*attachment.Inspector](t)(attachment.New(attachment.Config{Bomb: c.bomb}))
				})
				got, err := h.receive("192.0.2.1", "jan@good.test", msg, ala)
				if code(err) != c.code || err == nil && got.Locals[0].Mailbox != c.mailbox {
					t.Errorf("as it comes in: %v, %+v", err, got)
				}
				env := envelope.Envelope{ReversePath: intaketest.From(t, ala), Origin: envelope.Origin{Account: 1, Login: "ala", Protocol: "ESMTPSA", Peer: netip.MustParseAddrPort("192.0.2.9:1")}}
				if _, err = h.hand(env, intake.Rules{Inspect: h.filter.Inspect, Ours: true}, msg, "ola@example.org"); code(err) != c.out {
					t.Errorf("as it goes out: %v, want %d", err, c.out)
				}
			})
		})
	}
}
