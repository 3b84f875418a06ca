package e2e_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestHAProxy puts Debian's HAProxy in front, which tells the clients' addresses by
// the PROXY protocol (v2 and v1): they stand in the trace and the log, and
// whoever comes past it is refused.
func TestHAProxy(t *testing.T) {
	t.Parallel()
	program := tool(t, "haproxy")
	s := setup(t, "[proxy]\nfrom = [\"127.0.0.1\"]")
	s.start()
	front := map[int]string{25: freeAddr(t), 110: freeAddr(t), 587: freeAddr(t), 995: freeAddr(t)}
	var conf strings.Builder
	conf.WriteString("defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n")
	for port, addr := range front {
		version := map[bool]string{true: "send-proxy", false: "send-proxy-v2"}[port == 587]
		fmt.Fprintf(&conf, "listen p%d\n bind %s\n server mx1 %s %s source 127.0.0.1\n", port, addr, s.addr(port), version)
	}
	log := &lockedBuffer{}
	cmd := exec.Command(program, "-db", "-f", keep(t, t.TempDir(), "haproxy.cfg", conf.String()))
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = log, log, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("HAProxy's log:\n%s", log)
		}
	})
	s.await("HAProxy listens", 20*time.Second, func() bool {
		conn, err := net.Dial("tcp", front[25])
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	c := dialFrom(t, "127.0.0.9", front[25])
	c.expect("220")
	c.say("EHLO client.test", "250")
	c.message("x@elsewhere.test", "ala@"+domain, "Subject: through the gateway\r\n\r\ntext\r\n")
	if rows := s.list("trace", "ala@"+domain); len(rows) != 1 || rows[0]["peer"] != "127.0.0.9" {
		t.Errorf("the trace has %v, want the client's address", rows)
	}
	sub := dialFrom(t, "127.0.0.8", front[587])
	sub.expect("220")
	if !strings.Contains(sub.say("EHLO client.test", "250"), "STARTTLS") {
		t.Error("no STARTTLS through the gateway")
	}
	pop := dialFrom(t, "127.0.0.7", front[995])
	secure := tls.Client(pop.conn, &tls.Config{InsecureSkipVerify: true})
	if err := secure.Handshake(); err != nil {
		t.Fatal(err)
	}
	pop.conn = secure
	pop.r.Reset(secure)
	pop.expect("+OK")
	pop.say("USER ala@"+domain, "+OK")
	pop.say("PASS "+password, "+OK maildrop has 1 message")
	pop.say("QUIT", "+OK")
	s.await("the log knows the POP3 client's address", 10*time.Second, func() bool { return strings.Contains(s.log.String(), "peer=127.0.0.7:") })

	past := dialFrom(t, "127.0.0.1", s.addr(110))
	if _, err := fmt.Fprint(past.conn, "CAPA\r\n"); err != nil {
		t.Fatal(err)
	}
	if reply, err := past.reply(); strings.HasPrefix(reply, "+OK") {
		t.Errorf("from the gateway without a header: got %q, %v", reply, err)
	}
}

// dialFrom connects from a loopback address of its own.
func dialFrom(t *testing.T, from, to string) *client {
	t.Helper()
	conn, err := (&net.Dialer{Timeout: 5 * time.Second * patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	return clientOn(t, conn)
}
