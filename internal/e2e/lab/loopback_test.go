package lab_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/user"
	"strings"
	"testing"

	"poczta.example/poczta/internal/mailtest/certtest"
)

// TestLoopback is the exchange where namespaces are not allowed: every host is an
// address of loopback, on port 25 all the same. Postfix and Exim have the system's
// resolver there, so only what we send is authenticated by DANE.
func TestLoopback(t *testing.T) {
	t.Parallel()
	programs(t)
	net4 := fmt.Sprintf("127.%d.%d.", 1+os.Getpid()%250, os.Getpid()/250%250)
	l, err := net.Listen("tcp", net4+oursHost+":25")
	if err != nil {
		t.Skipf("skipped, port 25 of loopback is not to be had: %v", err)
	}
	_ = l.Close()
	dir, err := os.MkdirTemp("", "pl")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	n := &wire{t: t, dir: dir, net4: net4, net4Mask: net4 + "0/24"}
	w := &world{net: n, ca: certtest.New(t)}
	authority, resolver, ours := n.host("ns.test", 2), n.host("resolver.test", 3), n.host("mx.ours.test", 10)
	w.postfix, w.exim, w.client = n.host("mx.postfix.test", 20), n.host("mx.exim.test", 30), n.host("client.test", 50)
	cert, postfix := w.ca.Leaf("mx.ours.test"), w.ca.Leaf("mx.postfix.test")
	w.eximCert = w.ca.Leaf("mx.exim.test")
	w.ours = setup(t, ours, w.ca.Cert, cert, "ours.test", "ala@ours.test", "\n[relay]\nallow_loopback = true\n")
	var z zones
	for h, c := range map[*host]tls.Certificate{ours: cert, w.postfix: postfix, w.exim: w.eximCert} {
		z.machine(h)
		z.in("test", tlsa(h.name, c.Leaf))
	}
	z.in("test", w.ours.lines("ours.test")...)
	z.in("test", "postfix.test. MX 10 mx.postfix.test.", "exim.test. MX 10 mx.exim.test.")
	z.serve(t, authority, resolver)
	keep(t, w.postfix.dir, "ca.pem", certPEM(tls.Certificate{Certificate: [][]byte{w.ca.Cert.Raw}}))
	startPostfix(t, w.postfix, postfix, []string{"postfix.test"}, []string{"kasia@postfix.test"})
	peers := map[string]*host{"kasia@postfix.test": w.postfix}
	if _, err := user.Lookup("Debian-exim"); err == nil {
		w.startExim(t)
		peers["emil@exim.test"] = w.exim
	} else {
		t.Log("without Exim: its user Debian-exim is not on this host, and without namespaces it can't be made up")
	}
	w.ours.serve()
	t.Run("ours to others", func(t *testing.T) {
		for to, at := range peers {
			w.submit(t, w.ours, "ala@ours.test", letter{from: "ala@ours.test", to: to, token: "loop-" + to})
			f, _ := w.ours.on(t).fate("loop-"+to, to, soon, "relayed")
			wants(t, "trace", f.Detail, at.name, "TLS 1.3", "dane")
			local, _, _ := strings.Cut(to, "@")
			find(t, at, local, "loop-"+to)
		}
	})
	t.Run("outbox", w.outbox)
	t.Run("others to ours", func(t *testing.T) {
		for _, from := range peers {
			w.post(t, from, letter{from: "x@" + strings.TrimPrefix(from.name, "mx."), to: "ala@ours.test", token: "back-" + from.name})
			wants(t, "letter", w.arrives(t, w.ours.on(t), "ala@ours.test", soon, "back-"+from.name), "with ESMTPS")
		}
	})
}
