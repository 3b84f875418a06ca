package e2e_test

import (
	"bufio"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/mailtest/peer"
)

// stranger sends a message to one recipient on port 25, and wants a reply to RCPT.
func (s *server) stranger(from, to, rcpt, text string) {
	s.t.Helper()
	conn, err := net.DialTimeout("tcp", s.addr(25), 5*time.Second*patience)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute * patience))
	r := bufio.NewReader(conn)
	ok := converse(conn, r, "", "220") && converse(conn, r, "EHLO remote.test", "250") && converse(conn, r, "MAIL FROM:<"+from+">", "250") &&
		converse(conn, r, "RCPT TO:<"+to+">", rcpt)
	if ok && rcpt == "250" {
		ok = converse(conn, r, "DATA", "354") && converse(conn, r, text+"\r\n.", "250")
	}
	if !ok {
		s.t.Fatalf("mail from %s to %s did not go as wanted\n%s", from, to, s.log)
	}
}

// letters is how many messages a mailbox has.
func (s *server) letters(account string) int {
	s.t.Helper()
	n := 0
	for _, row := range s.list("mailbox", "list", account) {
		n += int(row["messages"].(float64))
	}
	return n
}

const ola = "ola@" + domain

// TestForwarding: mail goes on under SRS; a stranger hears nothing of a forward that fails,
// its owner does, and in the end the forward is suspended. Who submits here gets a report
// that does not show where the forward leads.
func TestForwarding(t *testing.T) {
	t.Parallel()
	p := peer.Start(t, peer.Config{Rules: []peer.Rule{{Stage: peer.Rcpt, Match: "gone@", Do: peer.Reply("550 5.1.1 no gone@far.test here")}}})
	s := setup(t, plaintext, unlimited, hub(p.Listen(t)))
	s.run(password+"\n", "account", "add", ola)
	s.run("", "account", "forward", ola, "new@far.test", "--no-keep")
	s.start()
	letter := "From: jan@remote.test\r\nTo: " + ola + "\r\nMessage-ID: <%d@remote.test>\r\n\r\ntext"
	s.stranger("jan@remote.test", ola, "250", fmt.Sprintf(letter, 0))
	s.idle(10 * time.Second)
	took := p.Messages()
	if len(took) != 1 || !strings.HasPrefix(took[0].From, "SRS0=") || !strings.HasSuffix(took[0].From, "=remote.test=jan@"+domain) ||
		!strings.HasSuffix(string(took[0].Data), strings.ReplaceAll(fmt.Sprintf(letter, 0), "\r\n.", "")+"\r\n") {
		t.Fatalf("the copy that went on: %+v", took)
	}
	back := took[0].From

	s.run("", "account", "forward", ola, "gone@far.test", "--no-keep")
	l := newLog()
	s.send(l, post{"ours@test", []string{ola}})
	s.idle(10 * time.Second)
	for key, reports := range s.returned() {
		if key.Rcpt != ola || len(reports) != 1 || reports[0].Diagnostic != "" {
			t.Errorf("ala is told of %v: %+v", key, reports)
		}
	}
	for i := range 4 {
		s.stranger("jan@remote.test", ola, "250", fmt.Sprintf(letter, 1+i))
		s.idle(10 * time.Second)
	}
	if got := s.list("account", "suspended"); len(got) != 1 || got[0]["source"] != ola || got[0]["target"] != "gone@far.test" {
		t.Errorf("suspended: %v", got)
	}
	if n := s.letters(ola); n != 2 { // a notice of the failure and one that it is suspended
		t.Errorf("%d notices", n)
	}
	s.stranger("jan@remote.test", ola, "250", fmt.Sprintf(letter, 9))
	if n := s.letters(ola); n != 3 {
		t.Errorf("mail for a suspended forward is lost: %d", n)
	}
	if out, _, _ := s.command("", "check", "--no-dns"); !strings.Contains(out, "poczta account forward "+ola+" --resume") {
		t.Errorf("check says nothing of it: %s", out)
	}
	if took := p.Messages(); len(took) != 1 {
		t.Errorf("strangers were told: %+v", took[1:])
	}

	// What comes back to the first copy goes to its owner, and nothing else may.
	report := "From: MAILER-DAEMON@far.test\r\nContent-Type: multipart/report; boundary=b\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n" +
		"Reporting-MTA: dns; far.test\r\n\r\nFinal-Recipient: rfc822; new@far.test\r\nAction: failed\r\nStatus: 5.2.1\r\n\r\n--b\r\n" +
		"Content-Type: text/rfc822-headers\r\n\r\nMessage-ID: <0@remote.test>\r\n\r\n--b--"
	s.stranger("", back, "250", report)
	s.stranger("spam@remote.test", back, "550", "")
	s.stranger("", strings.Replace(back, "jan", "eva", 1), "550", "")
	if n := s.letters(ola); n != 4 {
		t.Errorf("the report is not with the owner: %d", n)
	}
	if e := s.events("<0@remote.test>"); !slices.ContainsFunc(e, func(x string) bool { return strings.HasPrefix(x, "returned: failed 5.2.1 from far.test") }) {
		t.Errorf("the trace does not know what came back: %v", e)
	}
	if got := s.fates("<0@remote.test>"); got[ola] != "relayed" {
		t.Errorf("the fate has changed: %v", got)
	}
}

// TestOutOfOffice: a reply leaves with a null reverse-path and a signature, once, and the
// report of a later bounce is on the trace of what ala sent.
func TestOutOfOffice(t *testing.T) {
	t.Parallel()
	p := peer.Start(t, peer.Config{})
	s := setup(t, plaintext, unlimited, hub(p.Listen(t)))
	s.start()
	s.run("", "account", "vacation", ala, "--on")
	letter := "From: jan@remote.test\r\nTo: " + ala + "\r\nSubject: Hi\r\nMessage-ID: <1@remote.test>\r\n\r\ntext"
	s.stranger("jan@remote.test", ala, "250", letter)
	s.stranger("jan@remote.test", ala, "250", letter)
	s.stranger("list@remote.test", ala, "250", "List-Id: <x.remote.test>\r\n"+letter)
	s.idle(10 * time.Second)
	took := p.Messages()
	if len(took) != 1 || took[0].From != "" || took[0].Rcpts[0].Path != "jan@remote.test" {
		t.Fatalf("replies: %+v", took)
	}
	for _, want := range []string{"Auto-Submitted: auto-replied\r\n", "Subject: Auto: Hi\r\n", "In-Reply-To: <1@remote.test>\r\n", "DKIM-Signature: "} {
		if !strings.Contains(string(took[0].Data), want) {
			t.Errorf("the reply lacks %q: %s", want, took[0].Data)
		}
	}
	l := newLog()
	s.send(l, post{"bounced@test", []string{"later@far.test"}})
	s.idle(10 * time.Second)
	sent := p.Messages()[1]
	_, envid, _ := strings.Cut(sent.Params, "ENVID=")
	envid, _, _ = strings.Cut(envid, " ")
	s.stranger("", ala, "250", "From: MAILER-DAEMON@far.test\r\nContent-Type: multipart/report; boundary=b\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n"+
		"Original-Envelope-Id: "+envid+"\r\nReporting-MTA: dns; far.test\r\n\r\nFinal-Recipient: rfc822; LATER@far.test\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n--b--")
	if e := s.events("<bounced@test>"); envid == "" || !slices.ContainsFunc(e, func(x string) bool { return strings.HasPrefix(x, "returned: failed 5.1.1 from far.test") }) {
		t.Errorf("ENVID %q; the trace does not know what came back: %v", envid, e)
	}
}
