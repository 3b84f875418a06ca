package e2e_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/mailtest/peer"
)

// TestVERP: on request each recipient gets a reverse-path of their own, elsewhere and
// here; failures are told to it, and what comes back to it is on the trace.
func TestVERP(t *testing.T) {
	t.Parallel()
	p := peer.Start(t, peer.Config{Rules: []peer.Rule{{Stage: peer.Rcpt, Match: "gone", Do: peer.Reply("550 5.1.1 nobody")}}})
	s := setup(t, plaintext, unlimited, hub(p.Listen(t)))
	s.run(password+"\n", "account", "add", ola)
	s.start()
	conn, r := login(s.addr(587))
	if conn == nil {
		t.Fatalf("no login\n%s", s.log)
	}
	defer conn.Close()
	for _, step := range [][2]string{
		{"MAIL FROM:<" + ala + "> XVERP=-=", "501"}, // what comes back would not reach her
		{"MAIL FROM:<ala+list@" + domain + "> XVERP", "501"},
		{"MAIL FROM:<> XVERP", "501"},
		{"MAIL FROM:<" + ala + "> XVERP", "250"},
		{"RCPT TO:<" + strings.Repeat("x", 230) + "@far.test>", "553"},
		{"RCPT TO:<jan@far.test>", "250"},
		{"RCPT TO:<eva@far.test>", "250"},
		{"RCPT TO:<gone-1@far.test>", "250"},
		{"RCPT TO:<gone-2@far.test>", "250"},
		{"RCPT TO:<" + ola + ">", "250"},
		{"DATA", "354"},
		{"From: " + ala + "\r\nMessage-ID: <verp@test>\r\nSubject: news\r\n\r\ntext\r\n.", "250"},
	} {
		if !converse(conn, r, step[0], step[1]) {
			t.Fatalf("%.80s: not %s\n%s", step[0], step[1], s.log)
		}
	}
	s.idle(10 * time.Second)
	got := map[string]string{}
	for _, m := range p.Messages() {
		for _, to := range m.Rcpts {
			got[to.Path] = m.From
		}
	}
	want := map[string]string{"jan@far.test": "ala+jan=far.test@" + domain, "eva@far.test": "ala+eva=far.test@" + domain}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("reverse-paths (-want +got):\n%s", diff)
	}

	reports := s.texts(ala)
	for _, to := range []string{"gone-1", "gone-2"} {
		if !slices.ContainsFunc(reports, func(m string) bool {
			return strings.Contains(m, "Delivered-To: ala+"+to+"=far.test@"+domain+"\r\n") && strings.Contains(m, "Final-Recipient: rfc822; "+to+"@far.test\r\n")
		}) {
			t.Errorf("no report about %s at its reverse-path: %q", to, reports)
		}
	}
	if len(reports) != 2 {
		t.Errorf("%d reports", len(reports))
	}
	if here := s.texts(ola); len(here) != 1 || !strings.HasPrefix(here[0], "Return-Path: <ala+ola="+domain+"@"+domain+">\r\n") {
		t.Errorf("ola's copy: %q", here)
	}

	s.stranger("", "ala+jan=far.test@"+domain, "250", "From: postmaster@far.test\r\nSubject: Nicht zustellbar\r\n\r\nDer Empfaenger ist unbekannt.")
	s.stranger("", "ala+eve=far.test@"+domain, "250", "From: postmaster@far.test\r\nSubject: forged\r\n\r\nNobody wrote to eve.")
	events := s.events("<verp@test>")
	back := slices.DeleteFunc(slices.Clone(events), func(e string) bool { return !strings.HasPrefix(e, "returned: ") })
	if len(back) != 1 || !strings.HasPrefix(back[0], `returned: mail to this recipient's reverse-path: "Nicht zustellbar"`) {
		t.Errorf("what came back, as the trace has it: %q", events)
	}
	fates := map[string]string{"jan@far.test": "relayed", "eva@far.test": "relayed", "gone-1@far.test": "bounced", "gone-2@far.test": "bounced", ola: "delivered"}
	if diff := cmp.Diff(fates, s.fates("<verp@test>")); diff != "" {
		t.Errorf("fates (-want +got):\n%s", diff)
	}
}

// texts are the messages in a mailbox.
func (s *server) texts(account string) (all []string) {
	s.t.Helper()
	c := dial(s.t, s.addr(110))
	c.expect("+OK")
	c.say("USER "+account, "+OK")
	c.say("PASS "+password, "+OK")
	c.say("UIDL", "+OK")
	for i := range c.lines() {
		c.say("RETR "+string(rune('1'+i)), "+OK")
		all = append(all, strings.Join(c.lines(), "\r\n")+"\r\n")
	}
	c.say("QUIT", "+OK")
	return all
}
