package admin_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"poczta.example/poczta/internal/classifier"
	"poczta.example/poczta/internal/mailtest/rspamdtest"
)

// train has messages learned and returns what was said.
func (o *office) train(spam bool, messages ...string) string {
	o.t.Helper()
	o.In = bytes.NewReader(stream(o.t, messages...))
	return o.run("train", o.SpamTrain(o.t.Context(), "", spam))
}

const delivered = "Return-Path: <jan@far.test>\r\nX-Poczta-Verdict: junk; score=8.0; rule=\"score\"\r\nReceived: from far.test by mx.example.org; Mon, 23 Nov 2026 12:00:00 +0000\r\n" +
	"Authentication-Results: mx.example.org; none\r\n"

// TestLearnOnce: one letter counts once, whichever way it comes, and its last class is the one.
func TestLearnOnce(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	msg := "From: jan@far.test\r\nSubject: cheap\r\n\r\nCheap watches.\r\n"
	o.train(true, msg, delivered+msg)
	o.says("a third time", o.train(true, "From jan@far.test Mon Nov 23 12:00:00 2026\n"+strings.ReplaceAll(msg, "\r\n", "\n")), `knows 1 messages of spam and 0 wanted`)
	back := delivered + strings.Replace(delivered, "12:00", "12:01", 1) + msg
	if err := o.Rooms.Learner.Learn(t.Context(), classifier.Common, strings.NewReader(back), int64(len(back)), false); err != nil {
		t.Fatal(err)
	}
	if s, err := o.Rooms.Classifier.Stats(t.Context(), classifier.Common); err != nil || s.Spam != 0 || s.Ham != 1 {
		t.Errorf("it is known %d times as spam and %d as wanted, want 0 and 1 (%v)", s.Spam, s.Ham, err)
	}
}

// TestRspamdLearns: what is trained and marked reaches a real Rspamd by the configuration, and an
// Rspamd that is away stops nobody from learning.
func TestRspamdLearns(t *testing.T) {
	t.Parallel()
	s := rspamdtest.Start(t)
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte(rspamdtest.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	letter := func(i int) string {
		text := []string{"Cheap watches and many more bargains are waiting for you in our shop.", "Win a journey around the whole world, only today and without any risk.",
			"The minutes of yesterday's meeting are attached, as you asked me for them."}[i-1]
		return fmt.Sprintf("From: jan@far.test\r\nSubject: letter %d\r\n\r\n%s\r\n", i, text)
	}
	for _, c := range []struct {
		name, controller string
		want             int
	}{{"there", s.Controller, 3}, {"away", "127.0.0.1:1", 0}} {
		t.Run(c.name, func(t *testing.T) { // one after the other: they count at one Rspamd
			before := s.Learned(t)
			o := openOffice(t, fmt.Sprintf("[rspamd]\nurl = \"http://%s\"\nlearn = true\ncontroller = \"http://%s\"\npassword_file = %q", s.Check, c.controller, secret))
			o.says("training", o.train(true, letter(1), letter(2)), `^2 messages are learned as spam`)
			marked := letter(3)
			if err := o.Rooms.Learner.Learn(t.Context(), 1, strings.NewReader(marked), int64(len(marked)), false); err != nil {
				t.Error(err)
			}
			if err := o.Rooms.Learner.Close(); err != nil { // it waits for what is on its way
				t.Error(err)
			}
			if n := s.Learned(t) - before; n != c.want {
				t.Errorf("Rspamd has learned %d messages, want %d", n, c.want)
			}
		})
	}
}
