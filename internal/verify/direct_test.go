package verify_test

import (
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/dkim"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
)

// TestDirect: what a signature alone proves comes straight from its signer only if it is of late
// and names a recipient where nobody could have changed it.
func TestDirect(t *testing.T) {
	t.Parallel()
	ours := letter("jan@example.com")
	signAt := func(at time.Time, who, msg string) string {
		selector, name, _ := strings.Cut(who, "@")
		s, err := dkim.NewSigner(domain(t, name), dkim.SigningKey{Selector: selector, Private: edKey})
		if err != nil {
			t.Fatal(err)
		}
		header, rest, _ := message.SplitHeader([]byte(msg))
		g := s.Begin(header, dkim.Options{})
		_, _ = g.Write(dkim.AfterEmptyLine(rest))
		f, err := g.Fields(at)
		if err != nil {
			t.Fatal(err)
		}
		return string(f) + msg
	}
	far := "203.0.113.9" // which SPF allows nothing
	for _, c := range []struct {
		name, peer, reverse, to, msg string
		want                         bool
	}{
		{"by SPF, to whomever", "192.0.2.1", "jan@example.com", "x@ours.example", ours, true},
		{"signed, to its recipient", far, "x@far.example", "ala@ours.example", sign(t, "s@example.com", ours), true},
		{"signed, in capitals", far, "x@far.example", "ala@OURS.example", sign(t, "s@example.com", ours), true},
		{"signed, copied", far, "x@far.example", "ula@ours.example", sign(t, "s@example.com", "Cc: Ola <ola@ours.example>, ula@ours.example\r\n"+ours), true},
		{"signed by the domain above", far, "x@far.example", "ala@ours.example", sign(t, "s@example.com", letter("jan@sub.example.com")), true},
		{"sent again to another", far, "x@far.example", "ola@ours.example", sign(t, "s@example.com", ours), false},
		{"sent again, by a host of the reverse-path", "192.0.2.1", "x@list.example", "ola@ours.example", sign(t, "s@example.com", ours), false},
		{"sent again with another To above", far, "x@far.example", "ola@ours.example", "To: ola@ours.example\r\n" + sign(t, "s@example.com", ours), false},
		{"sent again with a Cc that nobody signed", far, "x@far.example", "ola@ours.example", "Cc: ola@ours.example\r\n" + sign(t, "s@example.com", ours), false},
		{"sent again later", far, "x@far.example", "ala@ours.example", signAt(now.Add(-73*time.Hour), "s@example.com", ours), false},
		{"nearly three days old", far, "x@far.example", "ala@ours.example", signAt(now.Add(-71*time.Hour), "s@example.com", ours), true},
		{"of tomorrow", far, "x@far.example", "ala@ours.example", signAt(now.Add(2*time.Hour), "s@example.com", ours), false},
		{"signed by somebody else", far, "x@far.example", "ala@ours.example", sign(t, "s@list.example", ours), false},
		{"proven by nothing", far, "x@far.example", "ala@ours.example", ours, false},
		{"no From", "192.0.2.1", "jan@example.com", "ala@ours.example", "Subject: x\r\n\r\nx\r\n", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a, err := address.Parse(c.to)
			if err != nil {
				t.Fatal(err)
			}
			r := runTo(t, verifier(t, config(t, world(t))), c.peer, "mx.example.com", c.reverse, c.msg, envelope.Recipient{ForwardPath: address.NewForwardPath(a)})
			if r.Direct != c.want {
				t.Errorf("direct: %v, want %v; %s", r.Direct, c.want, r.Field().Append(nil))
			}
			if said, want := strings.Contains(string(r.Field().Append(nil)), "policy.direct=no"), !c.want && r.DMARC.Status.String() == "pass"; said != want {
				t.Errorf("Authentication-Results says that it is not: %v, want %v", said, want)
			}
			if r = run(t, verifier(t, config(t, world(t))), far, "mx.example.com", c.reverse, c.msg); r.Direct {
				t.Error("direct to nobody")
			}
		})
	}
}

// FuzzDirect: no header section is too odd to be read.
func FuzzDirect(f *testing.F) {
	f.Add(letter("jan@example.com"))
	f.Add("To: ala@ours.example, :;<\r\nCc:\r\nDate: x\r\n")
	v := verifier(f, config(f, world(f)))
	a, err := address.Parse("ala@ours.example")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, msg string) {
		r := runTo(t, v, "192.0.2.1", "mx.example.com", "jan@example.com", msg, envelope.Recipient{ForwardPath: address.NewForwardPath(a)}, envelope.Recipient{})
		if r.Direct && len(r.Proven) == 0 {
			t.Error("direct, and proven by nothing")
		}
	})
}
