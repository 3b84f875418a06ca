package milter_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/dkim"
	"poczta.example/poczta/internal/mailtest/ports"
	"poczta.example/poczta/internal/mailtest/rspamdtest"
	"poczta.example/poczta/internal/milter"
)

// service starts a milter of the system's and returns when its socket takes connections. It is
// stopped by its process id.
func service(t *testing.T, network, socket, program string, args ...string) *exec.Cmd {
	t.Helper()
	path := need(t, program)
	var out strings.Builder
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	late := time.After(2 * time.Minute)
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		if c, err := net.Dial(network, socket); err == nil {
			c.Close()
			return cmd
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("%s ended: %v\n%s", program, err, out.String())
		case <-late:
			t.Fatalf("%s does not listen on %s", program, socket)
		case <-tick.C:
		}
	}
}

// need finds a program, or skips the test where it may.
func need(t *testing.T, program string) string {
	t.Helper()
	for _, name := range []string{program, "/usr/sbin/" + program} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("POCZTA_REQUIRE_SERVICES") != "" {
		t.Fatalf("%s is not installed", program)
	}
	t.Skipf("%s is not installed", program)
	return ""
}

// folder is a temporary folder with a name short enough for sockets.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// signed is the sample message with a DKIM signature of ours, and the key record.
func signed(t *testing.T) (milter.Message, string) {
	t.Helper()
	private := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	domain, err := address.ParseDomain("a.test")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := dkim.NewSigner(domain, dkim.SigningKey{Selector: "s1", Private: private})
	if err != nil {
		t.Fatal(err)
	}
	record, err := dkim.Record(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	m := sample(t)
	m.Header = []byte("From: ala@a.test\r\nTo: ola@b.test\r\nSubject:  Hello\r\n  folded\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@a.test>\r\n")
	signing := signer.Begin(m.Header, dkim.Options{})
	if _, err := io.WriteString(signing, sampleBody); err != nil {
		t.Fatal(err)
	}
	fields, err := signing.Fields(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	m.Header = append(fields, m.Header...)
	return m, record
}

// zone is a DNS of TXT records for our own verifier.
type zone map[string]string

// TXT implements dkim.Records.
func (z zone) TXT(_ context.Context, name string) ([]string, error) {
	if r, ok := z[strings.TrimSuffix(name, ".")]; ok {
		return []string{r}, nil
	}
	return nil, dkim.ErrNoKey
}

// nameServer serves a zone on port 53 of a loopback address and returns a resolv.conf that leads
// there. Only root can.
func nameServer(t *testing.T, z zone) string {
	t.Helper()
	var conn net.PacketConn
	var err error
	host := ""
	for i := range 50 {
		host = fmt.Sprintf("127.53.%d.%d", os.Getpid()%250+1, i+1)
		if conn, err = net.ListenPacket("udp", host+":53"); err == nil {
			break
		}
	}
	if err != nil {
		if os.Getenv("POCZTA_REQUIRE_SERVICES") != "" {
			t.Fatal(err)
		}
		t.Skipf("no name server for the milter: %v", err)
	}
	started := make(chan struct{})
	server := &dns.Server{PacketConn: conn, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		a := new(dns.Msg)
		a.SetReply(q)
		name := q.Question[0].Name
		if text, ok := z[strings.ToLower(strings.TrimSuffix(name, "."))]; ok && q.Question[0].Qtype == dns.TypeTXT {
			a.Answer = append(a.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 60}, Txt: []string{text}})
		} else if !ok {
			a.Rcode = dns.RcodeNameError
		}
		_ = w.WriteMsg(a)
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.ActivateAndServe() }()
	<-started
	t.Cleanup(func() { _ = server.Shutdown(); <-ended })
	return write(t, filepath.Join(folder(t), "resolv.conf"), "nameserver "+host+"\noptions timeout:2 attempts:1\n")
}

// TestOpenDKIM has a real OpenDKIM verify what we sign, over a UNIX socket and over TCP; and
// sign what we verify.
func TestOpenDKIM(t *testing.T) {
	t.Parallel()
	m, record := signed(t)
	for _, network := range []string{"unix", "tcp"} {
		t.Run("verify "+network, func(t *testing.T) {
			t.Parallel()
			dir := folder(t)
			names := write(t, filepath.Join(dir, "dns"), "s1._domainkey.a.test "+record+"\n")
			socket, at, address := "local:"+dir+"/s", dir+"/s", "unix:"+dir+"/s"
			if network == "tcp" {
				port := strconv.Itoa(ports.Free(t))
				socket, at = "inet:"+port+"@127.0.0.1", "127.0.0.1:"+port
				address = socket
			}
			conf := write(t, filepath.Join(dir, "conf"), "Mode v\nSyslog no\nAuthservID mx.test\nSocket "+socket+"\nTestDNSData file:"+names+"\n")
			service(t, network, at, "opendkim", "-f", "-x", conf)
			c := newClient(t, address, nil)
			forged := m
			forged.Body, forged.Size = strings.NewReader("Something else.\r\n"), 17
			for i, test := range []struct {
				m    milter.Message
				want string
			}{{m, "dkim=pass"}, {forged, "dkim=fail"}, {m, "dkim=pass"}} {
				r, err := c.Filter(t.Context(), test.m)
				if err != nil {
					t.Fatal(err)
				}
				after := string(test.m.Apply(r.Changes).Header)
				if r.Action != milter.Accept || !strings.HasPrefix(after, "Authentication-Results: mx.test;") || !strings.Contains(after, test.want) {
					t.Errorf("message %d: %+v\n%s", i, r, after)
				}
			}
		})
	}
	t.Run("sign", func(t *testing.T) {
		t.Parallel()
		dir := folder(t)
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		file := write(t, filepath.Join(dir, "key"), string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})))
		conf := write(t, filepath.Join(dir, "conf"), "Mode s\nSyslog no\nRequireSafeKeys no\nDomain a.test\nSelector r\nKeyFile "+file+"\nSocket local:"+dir+"/s\n")
		service(t, "unix", dir+"/s", "opendkim", "-f", "-x", conf)
		c := newClient(t, "unix:"+dir+"/s", nil)
		m := sample(t)
		m.Header = []byte("From: ala@a.test\r\nTo: ola@b.test\r\nSubject:  Hello\r\n  folded\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\n")
		m.Origin.Login = "ala" // who has authenticated is signed for
		r, err := c.Filter(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		m = m.Apply(r.Changes)
		record, err := dkim.Record(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		verifier, err := dkim.NewVerifier(dkim.VerifierConfig{Records: zone{"r._domainkey.a.test": record}})
		if err != nil {
			t.Fatal(err)
		}
		check := verifier.Begin(m.Header)
		if _, err := io.WriteString(check, sampleBody); err != nil {
			t.Fatal(err)
		}
		results := check.Results(t.Context(), time.Now())
		if len(results) != 1 || results[0].Status != dkim.Pass {
			t.Errorf("our verifier says %+v of\n%s", results, m.Header)
		}
	})
}

// TestOpenDMARC asks a real OpenDKIM and then a real OpenDMARC, which sees the first one's
// Authentication-Results; it finds policies in a DNS of its own.
func TestOpenDMARC(t *testing.T) {
	t.Parallel()
	need(t, "opendmarc")
	m, record := signed(t)
	resolvConf := nameServer(t, zone{
		"_dmarc.a.test": "v=DMARC1; p=reject", "_dmarc.q.test": "v=DMARC1; p=quarantine", "_dmarc.n.test": "v=DMARC1; p=none",
	})
	dir := folder(t)
	names := write(t, filepath.Join(dir, "dns"), "s1._domainkey.a.test "+record+"\n")
	conf := write(t, filepath.Join(dir, "k.conf"), "Mode v\nSyslog no\nAuthservID mx.test\nSocket local:"+dir+"/k\nTestDNSData file:"+names+"\n")
	service(t, "unix", dir+"/k", "opendkim", "-f", "-x", conf)
	conf = write(t, filepath.Join(dir, "d.conf"), "AuthservID mx.test\nTrustedAuthservIDs mx.test\nRejectFailures true\nHoldQuarantinedMessages true\nSyslog false\nSocket local:"+dir+"/d\n")
	service(t, "unix", dir+"/d", "unshare", "-m", "sh", "-c", `mount --bind "$1" /etc/resolv.conf && exec "$2" -f -c "$3"`, "sh", resolvConf, need(t, "opendmarc"), conf)
	first, second := newClient(t, "unix:"+dir+"/k", nil), newClient(t, "unix:"+dir+"/d", nil)

	from := func(domain string) milter.Message {
		m := sample(t)
		m.Header = fmt.Appendf(nil, "From: x@%s\r\nTo: ola@b.test\r\nSubject: Hi\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: <2@x.test>\r\n", domain)
		return m
	}
	for name, test := range map[string]struct {
		m      milter.Message
		action milter.Action
		field  string // in Authentication-Results
	}{
		"signed":             {m, milter.Accept, "dmarc=pass"},
		"forged, reject":     {from("a.test"), milter.Reject, ""},
		"forged, quarantine": {from("q.test"), milter.Quarantine, "dmarc=fail"},
		"forged, none":       {from("n.test"), milter.Accept, "dmarc=fail"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := first.Filter(t.Context(), test.m)
			if err != nil {
				t.Fatal(err)
			}
			seen := test.m.Apply(r.Changes)
			if r, err = second.Filter(t.Context(), seen); err != nil {
				t.Fatal(err)
			}
			after := string(seen.Apply(r.Changes).Header)
			if r.Action != test.action || !strings.Contains(after, test.field) {
				t.Errorf("%s: %+v\n%s", r.Action, r, after)
			}
			if r.Action == milter.Reject && (r.Reply.Code != 550 || r.Reply.Subject != 7) {
				t.Errorf("reply %s", r.Reply)
			}
		})
	}
}

// TestMilterDies kills a real milter in its sleep: what comes next is an error, not a verdict.
func TestMilterDies(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	conf := write(t, filepath.Join(dir, "conf"), "Mode v\nSyslog no\nSocket local:"+dir+"/s\n")
	cmd := service(t, "unix", dir+"/s", "opendkim", "-f", "-x", conf)
	c := newClient(t, "unix:"+dir+"/s", nil)
	if _, err := c.Filter(t.Context(), sample(t)); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Kill()
	r, err := c.Filter(t.Context(), sample(t))
	if err == nil || len(r.Changes) > 0 {
		t.Errorf("got %+v, %v", r, err)
	}
}

// TestRspamdMilter asks a real Rspamd as a milter, over TCP: several messages, of which one is
// refused in between.
func TestRspamdMilter(t *testing.T) {
	t.Parallel()
	server := rspamdtest.Start(t)
	c := newClient(t, server.Milter, nil)
	spam := sample(t)
	spam.Body, spam.Size = strings.NewReader(rspamdtest.GTUBE+"\r\n"), int64(len(rspamdtest.GTUBE)+2)
	for i, test := range []struct {
		m    milter.Message
		want milter.Action
	}{{sample(t), milter.Accept}, {spam, milter.Reject}, {sample(t), milter.Accept}} {
		r, err := c.Filter(t.Context(), test.m)
		if err != nil {
			t.Fatal(err)
		}
		if r.Action != test.want || r.Action == milter.Reject && r.Reply.Code/100 != 5 {
			t.Errorf("message %d: %+v", i, r)
		}
	}
}
