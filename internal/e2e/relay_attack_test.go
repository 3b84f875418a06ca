package e2e_test

import (
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/mailtest/peer"
)

// TestNobodyRelays: strangers find no way through aliases, forwards, SRS addresses, relay
// domains or ETRN to a third party.
func TestNobodyRelays(t *testing.T) {
	t.Parallel()
	p := peer.Start(t, peer.Config{})
	s := setup(t, plaintext, unlimited, unwatched, hub(p.Listen(t)), "[[relay.domain]]\ndomain = \"backup.test\"\nrecipients = \"any\"\netrn_from = [\"192.0.2.1\"]")
	s.run(password+"\n", "account", "add", ola)
	s.run("", "account", "forward", ola, "new@far.test", "--no-keep")
	s.start()
	s.stranger("jan@remote.test", ola, "250", "From: jan@remote.test\r\nTo: "+ola+"\r\n\r\ntext")
	s.idle(10 * time.Second)
	took := p.Messages()
	if len(took) != 1 || !strings.HasPrefix(took[0].From, "SRS0=") {
		t.Fatalf("the copy that went on: %+v", took)
	}
	back := took[0].From
	for _, to := range []string{
		"victim@far.test", "@" + domain + ":victim@far.test", "victim%far.test@" + domain, "far.test!victim@" + domain, `"victim@far.test"@` + domain,
		"victim@[127.0.0.1]", "victim@[10.0.0.1]", "victim@[IPv6:::1]", "victim@localhost", "victim@mx." + domain,
		"victim%far.test@backup.test", `"victim@far.test"@backup.test`,
		"SRS0=AAAAAAAA=AA=far.test=victim@" + domain, "SRS1=AAAAAAAA=AA=far.test==AAAAAAAA=AA=x.test=victim@" + domain,
		strings.Replace(back, "remote.test=jan", "far.test=victim", 1), strings.Replace(back, "=jan@", "=victim@", 1),
	} {
		for _, from := range []string{"", "jan@remote.test", ola} {
			s.stranger(from, to, "550", "")
		}
	}
	s.stranger("jan@remote.test", back, "550", "")
	for range 3 { // an address that was made here takes reports: they go to whose forward it is
		s.stranger("", back, "250", "From: <>\r\nSubject: Buy!\r\n\r\ntext")
	}
	c := dial(t, s.addr(25))
	c.expect("220")
	c.say("EHLO remote.test", "250")
	for _, node := range []string{"backup.test", "@test", "#", domain} {
		if reply := c.say("ETRN "+node, ""); !strings.HasPrefix(reply, "5") && !strings.HasPrefix(reply, "459") {
			t.Errorf("ETRN %s: %s", node, reply)
		}
	}
	s.idle(10 * time.Second)
	if n := len(p.Messages()); n != 1 {
		t.Errorf("%d messages went out: %+v", n-1, p.Messages()[1:])
	}
	if n := s.letters(ola); n != 3 {
		t.Errorf("%d of 3 reports lie in the mailbox of whose forward it is", n)
	}
}

// TestHostileWords: what a host says reaches no terminal and no header section as it is.
func TestHostileWords(t *testing.T) {
	t.Parallel()
	const evil = "\x1b[2J\x1b]0;owned\a\u202e\u0085 \r\nX-Injected: 1\r\n\r\n"
	words := strings.ReplaceAll(evil, "\r\n", "\r")
	p := peer.Start(t, peer.Config{Extensions: []string{"8BITMIME", "X-" + words}, Rules: []peer.Rule{
		{Stage: peer.Rcpt, Match: "gone@", Do: peer.Reply("550 5.1.1 " + words)},
		{Stage: peer.Rcpt, Match: "later@", Do: peer.Reply("450 4.2.1 " + words)},
	}})
	s := setup(t, plaintext, unlimited, unwatched, hub(p.Listen(t)))
	s.start()
	l := newLog()
	s.send(l, post{"words@test", []string{"gone@far.test", "later@far.test"}})
	s.await("the report", 20*time.Second, func() bool { return s.letters(ala) > 0 })
	for _, command := range [][]string{{"queue", "list"}, {"queue", "destinations"}, {"trace", "later@far.test"}, {"trace", "gone@far.test"},
		{"queue", "list", "--json"}, {"queue", "destinations", "--json"}, {"trace", "later@far.test", "--json"}, {"trace", "gone@far.test", "--json"}} {
		out, stderr, code := s.command("", command...)
		if code != 0 || out == "" {
			t.Errorf("%v: %d, %s", command, code, stderr)
		}
		if strings.ContainsAny(out+stderr, "\x1b\a\r\u0085") || command[len(command)-1] != "--json" && strings.Contains(out, "\u202e") {
			t.Errorf("%v prints %q", command, out)
		}
		if command[0] == "trace" && !strings.Contains(out, "[2J") {
			t.Errorf("%v does not show what was said: %s", command, out)
		}
	}
	for _, reports := range s.returned() {
		for _, r := range reports {
			if strings.ContainsAny(r.Diagnostic, "\x1b\a\r\u0085") {
				t.Errorf("the report says %q", r.Diagnostic)
			}
		}
	}
	if log := s.log.String(); strings.ContainsAny(log, "\x1b\a\r\u0085") {
		t.Errorf("the log has controls: %q", log)
	}
}
