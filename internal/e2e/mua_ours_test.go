package e2e_test

import (
	"path/filepath"
	"strings"
	"testing"

	"poczta.example/poczta/internal/mailtest/certtest"
	"poczta.example/poczta/internal/mime"
)

// TestMailByOurServer is what TestMailFetchesFromOthers and TestMailSendsByOthers do, at our server.
func TestMailByOurServer(t *testing.T) {
	t.Parallel()
	n := newNames(t, "far.test. MX 0 .", "mx."+domain+". A 127.0.0.1", domain+". MX 10 mx."+domain+".")
	ca := certtest.New(t)
	s := setup(t, plaintext, "[smtp]\nmax_size = \"200KiB\"")
	s.outward(n, "")
	cert, key := pems(t, filepath.Join(s.dir, "server"), local(ca, nil))
	s.rewrite(`mode = "self-signed"`, `mode = "files"`)
	s.configure("[[tls.certificate]]\ncert = \"" + cert + "\"\nkey = \"" + key + "\"")
	s.start()
	ola := "ola@" + domain
	s.run(password+"\n", "account", "add", ola)
	l := newLaptop(t)
	l.does("", "add", ala, "--password-file", "password", "--incoming", s.addr(995), "--outgoing", s.addr(465), "--security", "tls", "--ca", l.write("ca.pem", authorityPEM(ca.Cert.Raw)))
	l.fetches(foreigner{drop: func(letters ...string) {
		c := dial(t, s.addr(25))
		c.expect("220")
		c.say("EHLO client.test", "250")
		for _, text := range letters {
			c.message("ola@provider.test", ala, strings.ReplaceAll(text, "\n", "\r\n"))
		}
		c.say("QUIT", "221")
	}})
	l.removes(foreigner{})
	l.says("Sent.", "send", ola, "-s", "Zażółć", "--text", "gęślą jaźń\n.\n", "--receipt", "--unchecked")
	l.fails("nobody@"+domain+" was refused", "send", ola, "nobody@"+domain, "-s", "for two", "--text", "x", "--unchecked")
	l.fails("204800", "send", ola, "-s", "too large", "-a", l.write("big.bin", strings.Repeat("0123456789abcde\n", 20000)), "--text", "x", "--unchecked")
	l.does("", "send", "nobody@far.test", "-s", "into the distance", "--text", "hello?", "--unchecked")
	l.told("into the distance", "nobody@far.test", "failed", "5.1.10")
	l.told("Zażółć", ola, "delivered", "2.")
	subjects := mime.DecodeWords(strings.Join(s.subjects(ola), "\n"))
	for subject, want := range map[string]int{"Zażółć": 1, "for two": 1, "too large": 0} {
		if got := strings.Count(subjects, subject); got != want {
			t.Errorf("%d letters %q came to ola, want %d: %s", got, subject, want, subjects)
		}
	}
}
