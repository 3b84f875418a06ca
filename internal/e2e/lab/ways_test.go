package lab_test

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

// smartHost: mail for a domain goes to another server of ours, with AUTH under
// verified TLS; mail that a host refuses for our reputation takes the other way, too.
func (w *world) smartHost(t *testing.T) {
	t.Parallel()
	t.Run("for a domain, with AUTH", func(t *testing.T) {
		t.Parallel()
		w.submit(t, w.branch, "bea@branch.test", letter{from: "bea@branch.test", to: "kasia@postfix.test", token: "smart-host"})
		f, _ := w.branch.on(t).fate("smart-host", "kasia@postfix.test", soon, "relayed")
		wants(t, "trace", f.Detail, "mx.ours.test", "TLS 1.3", "verify")
		wants(t, "letter", find(t, w.postfix, "kasia", "smart-host"), "with ESMTPSA", "Return-Path: <bea@branch.test>")
	})
	t.Run("when refused for reputation", func(t *testing.T) {
		t.Parallel()
		w.submit(t, w.branch, "bea@branch.test", letter{from: "bea@branch.test", to: "picky@exim.test", token: "reputation"})
		f, _ := w.branch.on(t).fate("reputation", "picky@exim.test", soon, "relayed")
		wants(t, "trace", f.Detail, "mx.ours.test")
		w.logged(t, w.exim, "log/mainlog", "rejected RCPT <picky@exim.test>", "mx.branch.test")
		find(t, w.exim, "picky", "reputation")
	})
}

// forward: a letter from Postfix to an alias here goes on to Exim under an address of
// ours, whose SPF allows us; a report to that address is taken, a forged one is not.
func (w *world) forward(t *testing.T) {
	t.Parallel()
	w.post(t, w.postfix, letter{from: "kasia@postfix.test", to: "emils@ours.test", token: "forwarded"})
	m := find(t, w.exim, "emil", "forwarded")
	found := regexp.MustCompile(`(?i)Return-path: <(SRS0=[^@>]+=postfix\.test=kasia@ours\.test)>`).FindStringSubmatch(m)
	if found == nil {
		t.Fatalf("the reverse-path is not SRS:\n%s", m)
	}
	// v=spf1 mx, so SPF of that address holds: Exim got it from an address of mx.ours.test.
	if !regexp.MustCompile(`from \[(10\.77\.0\.10|fd00:77::10)\] \(helo=mx\.ours\.test\)`).MatchString(m) {
		t.Errorf("it did not come from an address of mx.ours.test:\n%s", m)
	}
	s := connect(t, w.client, w.ours.addr, 25)
	s.say("EHLO client.test", "250")
	s.give(letter{to: found[1], token: "srs-back"})
	// Nothing has verified kasia's reverse-path, so the alias's owner is told and not she.
	w.arrives(t, w.ours.on(t), "ala@ours.test", soon, "srs-back")
	s.say("MAIL FROM:<>", "250")
	s.say("RCPT TO:<SRS0=aaaa=bb=postfix.test=kasia@ours.test>", "550")
}

// relayDomain: a backup MX asks the host behind it before it takes a recipient.
func (w *world) relayDomain(t *testing.T) {
	t.Parallel()
	s := connect(t, w.client, w.branch.addr, 25)
	wants(t, "EHLO", s.say("EHLO client.test", "250"), "ETRN")
	s.say("MAIL FROM:<kasia@postfix.test>", "250")
	s.say("RCPT TO:<nobody@backed.test>", "550")
	s.say("RCPT TO:<emil@elsewhere.test>", "550")
	s.say("RSET", "250")
	s.give(letter{from: "kasia@postfix.test", to: "emil@backed.test", token: "gateway"})
	f, _ := w.branch.on(t).fate("gateway", "emil@backed.test", soon, "relayed")
	wants(t, "trace", f.Detail, "mx.exim.test", "dane")
	find(t, w.exim, "emil", "gateway")
}

// blockedPort cuts a server off from port 25, as providers do for homes. What is
// returned looks, later, whether it has noticed and taken the provider's way.
func (w *world) blockedPort(t *testing.T) func(*testing.T) {
	t.Helper()
	for _, family := range []string{"-4", "-6"} {
		w.home.run("ip", family, "route", "add", "unreachable", "default", "table", "25")
		w.home.run("ip", family, "rule", "add", "ipproto", "tcp", "dport", "25", "lookup", "25")
	}
	rcpts := []string{"kasia@postfix.test", "emil@exim.test", "nobody@far91.plain", "nobody@far92.plain"}
	for _, r := range rcpts {
		w.submit(t, w.home, "hugo@home.test", letter{from: "hugo@home.test", to: r, token: "blocked-" + r[len(r)-12:]})
	}
	return func(t *testing.T) {
		home := w.home.on(t)
		f, way := home.fate("blocked-"+rcpts[0][len(rcpts[0])-12:], rcpts[0], 3*time.Minute, "relayed")
		wants(t, "trace", f.Detail, "mx.ours.test", "verify")
		wants(t, "attempts", way, "no route to host")
		wants(t, "letter", find(t, w.postfix, "kasia", "blocked-"+rcpts[0][len(rcpts[0])-12:]), "Return-Path: <hugo@home.test>")
		wants(t, "log", home.p.text(), "port 25 outward seems to be blocked")
		check := func(args ...string) string {
			var said strings.Builder
			for _, r := range home.list(append([]string{"check"}, args...)...) {
				said.WriteString(r.Text + "\n")
			}
			return said.String()
		}
		wants(t, "poczta check", check(), "hosts of several networks do not answer", "your provider seems to block outgoing mail")
		wants(t, "poczta check --probe", check("--probe", "postfix.test", "--probe", "far91.plain", "--probe", "far92.plain"), "none of the mail hosts of 3 domains answers on port 25")
	}
}
