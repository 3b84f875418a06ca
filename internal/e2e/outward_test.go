package e2e_test

import (
	"bufio"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/dkim"
	"poczta.example/poczta/internal/dsn"
	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/message"
)

// wish is a message with what its sender asks for, and what is to become of it.
type wish struct {
	id    string // Message-ID
	from  string // parameters of MAIL
	to    string
	rcpt  string // parameters of RCPT
	extra string // header fields, each with CRLF
	body  string

	came   string // at the peer: parameters of MAIL that must be there; "none" when it must not come
	rcpts  string // parameters of RCPT, exactly, with came
	report string // action and status of the report to the sender; "" for none
}

// submits begins a session of ala's under TLS, as a mail program does.
func (s *server) submits() *client {
	s.t.Helper()
	conn, err := tls.Dial("tcp", s.addr(465), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // the server's own certificate
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute * patience))
	c := &client{s.t, net.Conn(conn), bufio.NewReader(conn)}
	c.expect("220")
	c.say("EHLO client.test", "250")
	c.say("AUTH PLAIN "+plain(ala, password), "235")
	return c
}

// write submits letters in one session.
func (s *server) write(letters ...wish) {
	s.t.Helper()
	c := s.submits()
	for _, l := range letters {
		c.say("MAIL FROM:<"+ala+"> "+l.from, "250")
		c.say("RCPT TO:<"+l.to+"> "+l.rcpt, "250")
		c.say("DATA", "354")
		c.say("From: "+ala+"\r\nMessage-ID: <"+l.id+">\r\n"+l.extra+"\r\n"+l.body+"\r\n.", "250")
	}
	c.say("QUIT", "221")
}

// tlsa is the record that vouches for a peer's certificate.
func tlsa(name string, port int, cert tls.Certificate) string {
	sum := sha256.Sum256(cert.Leaf.RawSubjectPublicKeyInfo)
	return fmt.Sprintf("_%d._tcp.%s. TLSA 3 1 1 %s", port, name, hex.EncodeToString(sum[:]))
}

// validates has the name server answer as one that validates DNSSEC.
func (n *names) validates() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.secure = true
}

// came is what a peer took of a Message-ID.
func came(p *peer.Peer, id string) (m peer.Message, ok bool) {
	for _, m := range p.Messages() {
		if m.ID == "<"+id+">" {
			return m, true
		}
	}
	return m, false
}

// signed checks that the domain's two signatures hold.
func (s *server) signed(id string, mail []byte) {
	s.t.Helper()
	zone := records{}
	for _, k := range s.list("domain", "list")[0]["dkim"].([]any) {
		key := k.(map[string]any)
		zone[key["name"].(string)] = key["record"].(string)
	}
	v, err := dkim.NewVerifier(dkim.VerifierConfig{Records: zone})
	if err != nil {
		s.t.Fatal(err)
	}
	header, rest, _ := message.SplitHeader(mail)
	check := v.Begin(header)
	_, _ = check.Write(dkim.AfterEmptyLine(rest))
	results := check.Results(s.t.Context(), time.Now())
	if len(results) != 2 {
		s.t.Errorf("%s has %d signatures, want 2:\n%s", id, len(results), mail)
	}
	for _, r := range results {
		if r.Status != dkim.Pass {
			s.t.Errorf("%s: %s is %s: %v", id, r.Signature.Algorithm, r.Status, r.Err)
		}
	}
}

// wishes are what TestWishes sends: at new.test everything is offered, at half.test all but
// REQUIRETLS, at old.test nothing; liar.test shows a certificate that its zone does not name.
func wishes() []wish {
	eight := "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
	return []wish{
		{id: "tls", from: "REQUIRETLS", to: "a@new.test", came: "REQUIRETLS"},
		{id: "tls-half", from: "REQUIRETLS", to: "a@half.test", came: "none", report: "failed 5.7.30"},
		{id: "tls-old", from: "REQUIRETLS", to: "a@old.test", came: "none", report: "failed 5.7.10"},
		{id: "liar", to: "a@liar.test", came: "none"},
		{id: "liar-no", to: "a@honest.test", extra: "TLS-Required: No\r\n"},
		{id: "by-n", from: "BY=3600;N", to: "a@new.test", came: "BY="},
		{id: "by-rt", from: "BY=3600;RT", to: "a@new.test", came: ";RT", report: "relayed 2.0.0"},
		{id: "by-n-old", from: "BY=3600;N", to: "a@old.test", report: "relayed 2.0.0"},
		{id: "by-n-never", from: "BY=3600;N", to: "a@old.test", rcpt: "NOTIFY=NEVER"},
		{id: "by-r-old", from: "BY=3600;R", to: "a@old.test", came: "none", report: "failed 5.4.7"},
		{id: "priority", from: "MT-PRIORITY=3", to: "a@new.test", came: "MT-PRIORITY=3"},
		{id: "priority-old", from: "MT-PRIORITY=3", to: "a@old.test"},
		{id: "dsn", from: "RET=HDRS ENVID=QQ314159", to: "a@new.test", rcpt: "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Bob@new.test",
			came: "RET=HDRS ENVID=QQ314159", rcpts: "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Bob@new.test"},
		{id: "dsn-old", from: "RET=HDRS ENVID=QQ314160", to: "a@old.test", rcpt: "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Bob@old.test", report: "relayed 2.0.0"},
		{id: "utf8", from: "SMTPUTF8", to: "żółw@new.test", extra: "Subject: żółw\r\n", came: "SMTPUTF8"},
		{id: "utf8-address", from: "SMTPUTF8", to: "żółw@old.test", came: "none", report: "failed 5.6.7"},
		{id: "utf8-header", from: "SMTPUTF8", to: "a@old.test", extra: "Subject: żółw\r\n", came: "none", report: "failed 5.6.9"},
		{id: "utf8-ascii", from: "SMTPUTF8", to: "a@old.test", extra: "Subject: x\r\n"},
		{id: "eight", from: "BODY=8BITMIME", to: "a@new.test", extra: eight, body: "zażółć gęślą jaźń", came: "BODY=8BITMIME"},
		{id: "eight-old", from: "BODY=8BITMIME", to: "a@old.test", extra: eight, body: "zażółć gęślą jaźń"},
		{id: "eight-signed", from: "BODY=8BITMIME", to: "a@old.test", body: "--x\r\n" + eight + "\r\nzażółć\r\n--x\r\n\r\nx\r\n--x--",
			extra: "MIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary=x; micalg=pgp-sha256; protocol=\"application/pgp-signature\"\r\n",
			came:  "none", report: "failed 5.6.3"},
	}
}

// TestWishes sends what a sender may ask for to a host that knows all extensions, whose
// certificate DANE vouches for, and to others that know fewer.
func TestWishes(t *testing.T) {
	t.Parallel()
	cert, _ := peer.Certificate(t, "mx.new.test")
	other, _ := peer.Certificate(t, "mx.liar.test")
	known := []string{"PIPELINING", "SIZE 1000000", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES", "DELIVERBY", "MT-PRIORITY", "CHUNKING"}
	peers := map[string]*peer.Peer{
		"new":    peer.Start(t, peer.Config{Name: "mx.new.test", TLS: &tls.Config{Certificates: []tls.Certificate{cert}}, Extensions: append([]string{"REQUIRETLS"}, known...)}),
		"half":   peer.Start(t, peer.Config{Name: "mx.half.test", TLS: &tls.Config{Certificates: []tls.Certificate{cert}}, Extensions: known}),
		"honest": peer.Start(t, peer.Config{Name: "mx.liar.test", TLS: &tls.Config{Certificates: []tls.Certificate{other}}, Extensions: known}),
		"old":    peer.Start(t, peer.Config{Name: "mx.old.test", Extensions: []string{"SIZE 1000000"}}),
	}
	peers["liar"] = peers["honest"]
	s := setup(t, plaintext)
	n := newNames(t, "new.test. MX 5 mx.new.test.", "mx.new.test. A 127.77.1.1", tlsa("mx.new.test", s.relayPort(), cert),
		"half.test. MX 5 mx.half.test.", "mx.half.test. A 127.77.1.2", tlsa("mx.half.test", s.relayPort(), cert),
		"liar.test. MX 5 mx.liar.test.", "honest.test. MX 5 mx.liar.test.", "mx.liar.test. A 127.77.1.3", tlsa("mx.liar.test", s.relayPort(), cert),
		"old.test. MX 5 mx.old.test.", "mx.old.test. A 127.77.1.4")
	n.validates()
	s.outward(n, "")
	s.configure("[dns]\ntrusted = true")
	for i, name := range []string{"new", "half", "honest", "old"} {
		listenAt(t, peers[name], fmt.Sprintf("127.77.1.%d", i+1), s.relayPort())
	}
	s.start()
	s.write(wishes()...)
	s.await("all but one have left", 20*time.Second, func() bool { return len(s.list("queue", "list")) == 1 })
	back := s.returned()
	for _, x := range wishes() {
		_, host, _ := strings.Cut(strings.TrimSuffix(x.to, ".test"), "@")
		m, ok := came(peers[host], x.id)
		if ok == (x.came == "none") {
			t.Errorf("%s: came %v; events %q", x.id, ok, s.events("<"+x.id+">"))
		}
		if ok && (!strings.Contains(m.Params, x.came) || m.Rcpts[0].Params != x.rcpts) {
			t.Errorf("%s: came with %q, %v", x.id, m.Params, m.Rcpts)
		}
		if ok && m.TLS == (host == "old") {
			t.Errorf("%s: TLS %v", x.id, m.TLS)
		}
		var got []string
		for _, r := range back[peer.Copy{MessageID: x.id, Rcpt: x.to}] {
			got = append(got, string(r.Action)+" "+r.Status.String())
		}
		if strings.Join(got, ", ") != x.report {
			t.Errorf("%s: reports %q, want %q", x.id, got, x.report)
		}
	}
	for id, host := range map[string]string{"eight": "new", "eight-old": "old"} {
		m, _ := came(peers[host], id)
		s.signed(id, m.Data)
	}
	if m, _ := came(peers["old"], "eight-old"); !strings.Contains(string(m.Data), "za=C5=BC=C3=B3=C5=82=C4=87") {
		t.Errorf("to a host without 8BITMIME went\n%s", m.Data)
	}
	for _, r := range back[peer.Copy{MessageID: "dsn-old", Rcpt: "a@old.test"}] {
		if r.Action != dsn.Relayed || r.Original != "Bob@old.test" {
			t.Errorf("the report of success is %+v", r)
		}
	}
	for _, row := range s.list("trace", "<tls>") {
		for _, f := range row["fates"].([]any) {
			if detail := fmt.Sprint(f.(map[string]any)["detail"]); !strings.Contains(detail, "dane") || !strings.Contains(detail, "TLS 1.3") {
				t.Errorf("the trace does not tell of the TLS: %s", detail)
			}
		}
	}
}
