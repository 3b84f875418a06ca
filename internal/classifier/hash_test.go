package classifier_test

import (
	"errors"
	"strings"
	"testing"
	"testing/iotest"

	"poczta.example/poczta/internal/classifier"
)

const hashed = "From: ola@example.net\r\nSubject: a long\r\n letter\r\nX-Pocztas: mine\r\n\r\nDear Ala,\r\n\r\nyours.\r\n"

func hashOf(t testing.TB, msg string) [32]byte {
	t.Helper()
	h, err := classifier.HashOf(strings.NewReader(msg))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestHashOf(t *testing.T) {
	t.Parallel()
	long := hashed + strings.Repeat("x", 3<<20)
	for _, c := range []struct {
		name, a, b string
		same       bool
	}{
		{"delivered", hashed, "Return-Path: <ola@example.net>\r\nDelivered-To: ala@example.org\r\nX-Poczta-Verdict: junk; score=7.0; rule=\"score\"\r\n" +
			"Received: from mx.example.net\r\n\tby mx.example.org; now\r\nAuthentication-Results: mx.example.org; none\r\n" + hashed, true},
		{"with line ends of Unix", hashed, strings.ReplaceAll(hashed, "\r\n", "\n"), true},
		{"folded anew, with a blank line more", hashed, strings.Replace(hashed, "long\r\n letter", "long letter", 1) + "\r\n", true},
		{"out of an mbox", hashed, "From ola@example.net Mon Nov 23 12:00:00 2026\nStatus: RO\n" + hashed, true},
		{"another subject", hashed, strings.Replace(hashed, "a long", "a short", 1), false},
		{"another field of a like name", hashed, strings.Replace(hashed, "mine", "yours", 1), false},
		{"another text", hashed, strings.Replace(hashed, "yours", "mine", 1), false},
		{"a field moved into the body", "A: b\r\n\r\nc\r\n", "A: bc\r\n\r\n", false},
		{"no header section", "\x00 no field\r\n", "\x00 no fields\r\n", false},
		{"beyond what counts", long, long + "y", true},
		{"its beginning alone", long, long[:1<<21], true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := hashOf(t, c.a) == hashOf(t, c.b); got != c.same {
				t.Errorf("the same: %v, want %v", got, c.same)
			}
		})
	}
	broken := errors.New("broken")
	if _, err := classifier.HashOf(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("a message that can't be read: %v", err)
	}
}

// FuzzHashOf: what is written above a message does not change which message it is.
func FuzzHashOf(f *testing.F) {
	f.Add(hashed)
	f.Add("\r\n\r\n")
	f.Add("From a\nFrom b\n\n")
	f.Fuzz(func(t *testing.T, msg string) {
		if !strings.HasPrefix(msg, "Subject: ") {
			msg = "Subject: " + msg
		}
		if hashOf(t, msg) != hashOf(t, "Received: by x\r\nX-Poczta-Verdict: y\r\n"+msg) {
			t.Errorf("%q is another message behind trace fields", msg)
		}
	})
}
