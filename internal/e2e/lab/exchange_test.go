package lab_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const soon = 40 * time.Second

// exchange: mail goes between our server, Postfix and Exim, each way, under TLS whose
// certificate DANE has authenticated; what we sign holds for others.
func (w *world) exchange(t *testing.T) {
	t.Parallel()
	t.Run("ours to Postfix", func(t *testing.T) {
		t.Parallel()
		w.submit(t, w.ours, "ala@ours.test", letter{from: "ala@ours.test", to: "kasia@postfix.test", token: "ours-postfix", mail: " BODY=8BITMIME", body: "Zażółć gęślą jaźń.\r\n"})
		f, _ := w.ours.on(t).fate("ours-postfix", "kasia@postfix.test", soon, "relayed")
		wants(t, "trace", f.Detail, "mx.postfix.test", "TLS 1.3", "dane", "250 2.0.0")
		m := find(t, w.postfix, "kasia", "ours-postfix")
		wants(t, "letter", m, "Return-Path: <ala@ours.test>", "using TLSv1.3", "Zażółć gęślą jaźń.", "\n. dots\n")
		w.opendkim(t, m)
	})
	t.Run("ours to Exim", func(t *testing.T) {
		t.Parallel()
		w.submit(t, w.ours, "ala@ours.test", letter{from: "ala@ours.test", to: "emil@exim.test", token: "ours-exim"})
		f, _ := w.ours.on(t).fate("ours-exim", "emil@exim.test", soon, "relayed")
		wants(t, "trace", f.Detail, "mx.exim.test", "TLS 1.3", "dane", "250")
		wants(t, "letter", find(t, w.exim, "emil", "ours-exim"), "X-Lab-DKIM: ours.test ed25519-sha256 pass", "X-Lab-DKIM: ours.test rsa-sha256 pass", "with esmtps")
	})
	t.Run("Postfix to ours", func(t *testing.T) {
		t.Parallel()
		w.post(t, w.postfix, letter{from: "kasia@postfix.test", to: "ala@ours.test", token: "postfix-ours"})
		wants(t, "letter", w.arrives(t, w.ours.on(t), "ala@ours.test", soon, "postfix-ours"), "from mx.postfix.test", "with ESMTPS", "Return-Path: <kasia@postfix.test>")
		w.logged(t, w.postfix, "mail.log", "Verified TLS connection established to mx.ours.test")
	})
	t.Run("Exim to ours", func(t *testing.T) {
		t.Parallel()
		w.post(t, w.exim, letter{from: "emil@exim.test", to: "ala@ours.test", token: "exim-ours"})
		wants(t, "letter", w.arrives(t, w.ours.on(t), "ala@ours.test", soon, "exim-ours"), "from mx.exim.test", "with ESMTPS", "Return-Path: <emil@exim.test>")
		w.logged(t, w.exim, "log/mainlog", "=> ala@ours.test", "CV=dane", "250 2.0.0 Accepted")
	})
}

// opendkim asks opendkim-testmsg, with the laboratory's DNS, if it is installed.
func (w *world) opendkim(t *testing.T, maildir string) {
	t.Helper()
	if _, err := exec.LookPath("opendkim-testmsg"); err != nil {
		t.Log("opendkim-testmsg is not asked: apt-get install opendkim-tools")
		return
	}
	w.client.on(t).feed(maildir, "opendkim-testmsg") // fails when the signature does not hold
}

// wants asks text for words.
func wants(t *testing.T, what, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !containsAll(text, []string{word}) {
			t.Errorf("%s has no %q:\n%s", what, word, text)
		}
	}
}

// logged waits until one line of a host's log holds all the words.
func (w *world) logged(t *testing.T, h *host, file string, words ...string) {
	t.Helper()
	await(t, strings.Join(words, ", ")+" in the log of "+h.name, soon, func() bool {
		text, err := os.ReadFile(filepath.Join(h.dir, file))
		for line := range strings.Lines(string(text)) {
			if err == nil && containsAll(line, words) {
				return true
			}
		}
		return false
	})
}
