package dkim_test

import (
	"bytes"
	"strings"
	"testing"

	"poczta.example/poczta/internal/dkim"
	"poczta.example/poczta/internal/message"
)

// FuzzParseTags: what is read can be written and is read the same again.
func FuzzParseTags(f *testing.F) {
	for _, s := range []string{"v=1; a=b;", " v = 1 ;\r\n h=a :\r\n b", "b=YQ==", "v=1;;", "=", ";"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tags, err := dkim.ParseTags(s)
		if err != nil {
			return
		}
		var words []string
		for _, tag := range tags {
			words = append(words, tag.Name+"="+tag.Value)
		}
		again, err := dkim.ParseTags(strings.Join(words, ";"))
		if err != nil || len(again) != len(tags) {
			t.Fatalf("%q: got %v (%v), want %v", s, again, err, tags)
		}
		for i := range tags {
			if tags[i] != again[i] {
				t.Errorf("got %v, want %v", again[i], tags[i])
			}
		}
		_, _ = dkim.ParseSignature(s)
		_, _ = dkim.ParseKey(s)
	})
}

// FuzzBody: in any pieces the canonical body is the same, a canonical body is
// canonical, and relaxed comes after simple.
func FuzzBody(f *testing.F) {
	for _, s := range []string{"", "\r\n", " C \r\nD \t E\r\n\r\n\r\n", "a\rb\r\r\n \r", "a \nb\n"} {
		f.Add([]byte(s), uint8(1))
	}
	f.Fuzz(func(t *testing.T, body []byte, size uint8) {
		for _, c := range []dkim.Canonicalization{dkim.Simple, dkim.Relaxed} {
			whole := canonBody(c, body)
			var pieces [][]byte
			for rest := body; len(rest) > 0; {
				n := min(int(size)%17+1, len(rest))
				pieces, rest = append(pieces, rest[:n]), rest[n:]
			}
			if got := canonBody(c, pieces...); got != whole {
				t.Errorf("%s: %q in pieces of %d gives %q, whole %q", c, body, int(size)%17+1, got, whole)
			}
			if again := canonBody(c, []byte(whole)); again != whole {
				t.Errorf("%s: %q becomes %q, and that %q", c, body, whole, again)
			}
			if n := len(whole); n > len(body)+2 {
				t.Errorf("%s: %d octets became %d", c, len(body), n)
			}
		}
		simple, relaxed := canonBody(dkim.Simple, body), canonBody(dkim.Relaxed, body)
		if got := canonBody(dkim.Relaxed, []byte(simple)); got != relaxed {
			t.Errorf("relaxed after simple: %q, want %q", got, relaxed)
		}
		if want := plainRelaxed(string(body)); relaxed != want {
			t.Errorf("%q: relaxed is %q, by the letter %q", body, relaxed, want)
		}
	})
}

// plainRelaxed is RFC 6376 §3.4.4 by the letter, line by line.
func plainRelaxed(body string) string {
	lines := strings.Split(body, "\r\n")
	for i, line := range lines {
		words := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
		if len(words) > 0 && strings.ContainsAny(line[:1], " \t") {
			words[0] = " " + words[0]
		}
		lines[i] = strings.Join(words, " ")
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\r\n") + "\r\n"
}

// FuzzHeader: a canonical field is canonical, and one line.
func FuzzHeader(f *testing.F) {
	f.Add([]byte("A: X\r\nB : Y\t\r\n\tZ  \r\n"))
	f.Add([]byte("A:\n\n"))
	f.Fuzz(func(t *testing.T, header []byte) {
		for field := range message.Fields(header) {
			if field.Malformed() {
				continue
			}
			out := dkim.Relaxed.AppendField(nil, field)
			if bytes.Count(out, []byte("\n")) != 1 || !bytes.HasSuffix(out, []byte("\r\n")) {
				t.Errorf("%q becomes %q", field.Raw, out)
			}
			for again := range message.Fields(out) {
				if got := dkim.Relaxed.AppendField(nil, again); !bytes.Equal(got, out) {
					t.Errorf("%q becomes %q, and that %q", field.Raw, out, got)
				}
			}
		}
	})
}

// FuzzVerify: nobody's message panics the Verifier or passes with our key.
func FuzzVerify(f *testing.F) {
	r := keys(f)
	f.Add([]byte(sign(f, r.signer(f), letter, dkim.Options{})))
	f.Add([]byte(letter))
	f.Add([]byte("DKIM-Signature: v=1; b=\r\nDKIM-Signature:\r\n\r\n"))
	f.Add([]byte("DKIM-Signature: v=1; a=rsa-sha256; d=example.org; s=rsa; h=From; bh=" + hash32 + "; b=YQ==; l=99999999999999999999\r\nFrom: a\r\n\r\nx"))
	f.Fuzz(func(t *testing.T, msg []byte) {
		for _, res := range verify(t, r.zone, msg, now) {
			if (res.Err == nil) != (res.Status == dkim.Pass) {
				t.Errorf("%s with %v", res.Status, res.Err)
			}
			if res.Status == dkim.Pass && !bytes.Contains(msg, []byte("example.org")) {
				t.Errorf("passes: %q", msg)
			}
		}
	})
}
