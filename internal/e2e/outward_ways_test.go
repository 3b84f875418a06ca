package e2e_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/mailtest/peer"
)

// origins is a listener that tells where connections come from.
type origins struct {
	net.Listener
	seen chan string
}

// Accept implements net.Listener.
func (o origins) Accept() (net.Conn, error) {
	c, err := o.Listener.Accept()
	if err == nil {
		host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
		select {
		case o.seen <- host:
		default:
		}
	}
	return c, err
}

// details are what the trace says of a message's fates.
func (s *server) details(id string) string {
	s.t.Helper()
	var all []string
	for _, row := range s.list("trace", "<"+id+">") {
		for _, f := range row["fates"].([]any) {
			x := f.(map[string]any)
			all = append(all, fmt.Sprint(x["state"], ": ", x["detail"]))
		}
	}
	return strings.Join(all, "\n")
}

// TestWaysOut sends mail by every way but the usual one: to another server's submission
// port with a login under TLS, by LMTP, by the fallback when the MX host does not like us,
// from an address of our choice, held for later, and by priority.
func TestWaysOut(t *testing.T) {
	t.Parallel()
	far := setup(t, plaintext)
	far.run("", "domain", "add", "lists.test")
	far.run("", "alias", "add", "x@lists.test", ala)
	far.start()
	mx := peer.Start(t, peer.Config{Name: "mx.near.test"})
	picky := peer.Start(t, peer.Config{Rules: []peer.Rule{{Stage: peer.Rcpt, Do: peer.Reply("554 5.7.1 Client host [192.0.2.1] blocked using a blocklist")}}})
	rescue := peer.Start(t, peer.Config{Name: "rescue.test"})
	s := setup(t, plaintext)
	secret := filepath.Join(s.dir, "smart")
	if err := os.WriteFile(secret, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n := newNames(t, "near.test. MX 5 mx.near.test.", "mx.near.test. A 127.77.2.1", "picky.test. MX 5 mx.picky.test.", "mx.picky.test. A 127.77.2.2", "rescue.test. A 127.77.2.3")
	s.outward(n, "sources = [\"127.77.9.9\"]\nconnections_per_site = 1")
	s.configure(strings.Join([]string{"# ways",
		fmt.Sprintf("[[relay.route]]\nname = \"smart\"\nsenders = [%q]\ndomains = [\"smart.test\"]\nhost = %q\ntls = \"encrypt\"\nuser = %q\npassword_file = %q", ala, far.addr(587), ala, secret),
		fmt.Sprintf("[[relay.route]]\nname = \"lmtp\"\ndomains = [\"lists.test\"]\nhost = %q\ntls = \"none\"\nprotocol = \"lmtp\"", far.addr(24)),
		fmt.Sprintf("[[relay.route]]\nname = \"rescue\"\nfallback = true\nhost = \"rescue.test:%d\"\ntls = \"none\"", s.relayPort())}, "\n"))
	l, err := net.Listen("tcp", fmt.Sprintf("127.77.2.1:%d", s.relayPort()))
	if err != nil {
		t.Fatal(err)
	}
	from := origins{l, make(chan string, 1)}
	mx.Serve(from)
	listenAt(t, picky, "127.77.2.2", s.relayPort())
	listenAt(t, rescue, "127.77.2.3", s.relayPort())
	s.start()
	far.run("", "domain", "add", "smart.test")
	far.run("", "alias", "add", "x@smart.test", ala)
	held := time.Now()
	s.write(wish{id: "smart", to: "x@smart.test"}, wish{id: "lists", to: "x@lists.test"}, wish{id: "picky", to: "x@picky.test"},
		wish{id: "held-here", from: "HOLDFOR=3", to: ala}, wish{id: "held-there", from: "HOLDFOR=3", to: "x@near.test"})
	s.await("held mail is delivered here", 20*time.Second, func() bool { return strings.Contains(s.details("held-here"), "relayed") })
	s.idle(20 * time.Second)
	if took := time.Since(held); took < 3*time.Second {
		t.Errorf("held mail went after %s", took)
	}
	for id, want := range map[string]string{
		"smart":      "by smart (TLS 1.3",
		"lists":      "by lmtp",
		"picky":      "by rescue: 250 2.0.0 taken as 1 (after mx.picky.test [127.77.2.2]",
		"held-there": "relayed: mx.near.test [127.77.2.1]",
	} {
		if got := s.details(id); !strings.Contains(got, want) {
			t.Errorf("%s: the trace says %q, want %q", id, got, want)
		}
	}
	if got := <-from.seen; got != "127.77.9.9" {
		t.Errorf("the connection came from %s", got)
	}
	for _, id := range []string{"smart", "lists"} {
		if rows := far.list("trace", "<"+id+">"); len(rows) != 1 || (rows[0]["login"] == ala) != (id == "smart") {
			t.Errorf("%s at the other server: %v", id, rows)
		}
	}
	before := len(mx.Messages())
	s.run("", "queue", "suspend", "near.test", "--reason", "a test")
	s.write(wish{id: "p0", to: "x@near.test"}, wish{id: "p-3", from: "MT-PRIORITY=-3", to: "x@near.test"},
		wish{id: "p4", from: "MT-PRIORITY=4", to: "x@near.test"}, wish{id: "p2", from: "MT-PRIORITY=2", to: "x@near.test"})
	if got := len(mx.Messages()); got != before {
		t.Errorf("%d messages went to a suspended destination", got-before)
	}
	s.run("", "queue", "resume", "near.test")
	s.idle(20 * time.Second)
	var order []string
	for _, m := range mx.Messages()[before:] {
		order = append(order, m.ID)
	}
	if got := strings.Join(order, " "); got != "<p4> <p2> <p0> <p-3>" {
		t.Errorf("in the order of priority came %s", got)
	}
}
