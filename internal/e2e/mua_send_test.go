package e2e_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/mua/outbox"
)

// TestMailSendsByOthers sends by other people's submission servers, each with Dovecot beside it:
// what is taken, refused, too large, and what comes back.
func TestMailSendsByOthers(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*provider) *provider{"Postfix": (*provider).postfix, "Exim": (*provider).exim} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(newProvider(t, nil, ""))
			l := newLaptop(t)
			l.write("password", secret+"\n")
			add := []string{"add", "ala@provider.test", "--password-file", "password", "--ca", p.authority(l)}
			l.does("", append(add, p.servers()...)...)
			l.sends(p)
			l.comesBack(p)
			// The same by STARTTLS, with the account set up anew.
			l.does("", "server", "--incoming", loopback(p.pop3), "--outgoing", loopback(p.submission), "--security", "starttls")
			l.does("", "send", "ala@provider.test", "-s", "by STARTTLS", "--text", "raised", "--unchecked")
			l.arrives("by STARTTLS")
		})
	}
}

// sends sends letters of which some are not for the server.
func (l *laptop) sends(p *provider) {
	l.t.Helper()
	photo := l.write("żółw.bin", strings.Repeat("\x00\xff turtle\n", 1000))
	if out := l.does("", "send", "ala@provider.test", "ola@provider.test", "-s", "Zażółć", "--text", "gęślą jaźń\n.\n", "-a", photo, "--unchecked"); !strings.Contains(out, "Sent.") {
		l.t.Errorf("send: %s", out)
	}
	l.fails("picky", "send", "ola@provider.test", "picky@provider.test", "-s", "for two", "--text", "x", "--unchecked")
	l.fails("100", "send", "ola@provider.test", "-s", "too large", "-a", l.write("big.bin", strings.Repeat("0123456789abcde\n", 20000)), "--text", "x", "--unchecked")
	l.arrives("Zażółć")
	for subject, n := range map[string]int{"Zażółć": 1, "for two": 1, "too large": 0} {
		if got := p.holds("ola", subject); got != n {
			l.t.Errorf("%d letters %q came to ola, want %d", got, subject, n)
		}
	}
}

// comesBack sends a letter that the provider takes and returns, and one whose delivery it reports.
func (l *laptop) comesBack(p *provider) {
	l.t.Helper()
	l.does("", "send", "nobody@far.test", "-s", "into the distance", "--text", "hello?", "--unchecked")
	l.told("into the distance", "nobody@far.test", "failed", "5.")
	l.does("", "send", "ola@provider.test", "-s", "with a receipt", "--text", "there?", "--receipt", "--unchecked")
	l.told("with a receipt", "ola@provider.test", "delivered", "2.")
}

// arrives fetches until a letter with the subject is in INBOX.
func (l *laptop) arrives(subject string) {
	l.t.Helper()
	l.await(subject+" has come", func() bool {
		l.does("", "sync")
		for _, r := range l.lists("list", "--folder", "INBOX") {
			if r.Subject == subject {
				return true
			}
		}
		return false
	})
}

// told fetches until the letter in Sent says what became of a recipient's copy.
func (l *laptop) told(subject, recipient, action, status string) {
	l.t.Helper()
	var last string
	l.await(subject+" is told as "+action+": "+last, func() bool {
		l.does("", "sync")
		for _, r := range l.lists("list", "--folder", "Sent") {
			if r.Subject != subject {
				continue
			}
			last = l.does("", "read", id(r.ID), "--json")
			var letter struct {
				Fates []outbox.Fate `json:"fates"`
			}
			if err := json.Unmarshal([]byte(last), &letter); err != nil {
				l.t.Fatalf("read --json: %v: %s", err, last)
			}
			for _, f := range letter.Fates {
				for _, report := range f.Reports {
					if f.Address == recipient && string(report.Action) == action && strings.HasPrefix(report.Status, status) {
						text := l.does("", "read", id(r.ID))
						if !strings.Contains(text, recipient) {
							l.t.Errorf("read does not tell what became of it: %s", text)
						}
						return true
					}
				}
			}
		}
		return false
	})
}

// await polls until f holds.
func (l *laptop) await(what string, f func() bool) {
	l.t.Helper()
	deadline := time.Now().Add(20 * time.Second * patience)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		if time.Now().After(deadline) {
			l.t.Fatalf("waited in vain until %s", what)
		}
		<-tick.C
	}
}
