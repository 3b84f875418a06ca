package dkim_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/dkim"
	"poczta.example/poczta/internal/message"
)

// foreign is a folder of the foreign test data; without it the test is skipped,
// and fails where CI says that it must be there.
func foreign(t testing.TB, name string) string {
	t.Helper()
	dir := filepath.Join(os.Getenv("POCZTA_TESTDATA"), name)
	if _, err := os.Stat(dir); os.Getenv("POCZTA_TESTDATA") == "" || err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("POCZTA_TESTDATA does not name the foreign test data")
		}
		t.Skip("foreign test data is not here: set POCZTA_TESTDATA")
	}
	return dir
}

// wire makes CRLF of every bare LF.
func wire(b []byte) []byte {
	return bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
}

func canonBody(c dkim.Canonicalization, pieces ...[]byte) string {
	var out bytes.Buffer
	b := dkim.NewBody(c, &out)
	for _, p := range pieces {
		_, _ = b.Write(p)
	}
	_ = b.Close()
	return out.String()
}

func canonHeader(c dkim.Canonicalization, header string) string {
	var out []byte
	for f := range message.Fields([]byte(header)) {
		out = c.AppendField(out, f)
	}
	return string(out)
}

func TestBody(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, body, simple, relaxed string }{
		{"RFC 6376 §3.4.5", " C \r\nD \t E\r\n\r\n\r\n", " C \r\nD \t E\r\n", " C\r\nD E\r\n"},
		{"empty", "", "\r\n", ""},
		{"line ends alone", "\r\n\r\n", "\r\n", ""},
		{"blanks alone", " \t\r\n  ", " \t\r\n  \r\n", ""},
		{"no line end", "a", "a\r\n", "a\r\n"},
		{"no line end behind a blank", "a ", "a \r\n", "a\r\n"},
		{"empty lines within", "a\r\n\r\n\r\nb\r\n", "a\r\n\r\n\r\nb\r\n", "a\r\n\r\n\r\nb\r\n"},
		{"blank lines at the end", "a\r\n \r\n\t\r\n", "a\r\n \r\n\t\r\n", "a\r\n"},
		{"blank line within", "a\r\n \r\nb\r\n", "a\r\n \r\nb\r\n", "a\r\n\r\nb\r\n"},
		{"bare CR is content", "a\rb\r\r\n", "a\rb\r\r\n", "a\rb\r\r\n"},
		{"bare CR at the end", "a \r", "a \r\r\n", "a \r\r\n"},
		{"bare LF is content", "a \nb\r\n", "a \nb\r\n", "a \nb\r\n"},
		{"tab before a word", "a\tb\r\n", "a\tb\r\n", "a b\r\n"},
		{"blank at the start", "\t a\r\n", "\t a\r\n", " a\r\n"},
		{"octets beyond ASCII", "\xff\x00 \x80\r\n", "\xff\x00 \x80\r\n", "\xff\x00 \x80\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for c, want := range map[dkim.Canonicalization]string{dkim.Simple: tt.simple, dkim.Relaxed: tt.relaxed} {
				if diff := cmp.Diff(want, canonBody(c, []byte(tt.body))); diff != "" {
					t.Errorf("%s, whole (-want +got):\n%s", c, diff)
				}
				if diff := cmp.Diff(want, canonBody(c, bytes.SplitAfter([]byte(tt.body), nil)...)); diff != "" {
					t.Errorf("%s, octet by octet (-want +got):\n%s", c, diff)
				}
			}
		})
	}
}

func TestHeader(t *testing.T) {
	t.Parallel()
	// RFC 6376 §3.4.5
	const header = "A: X\r\nB : Y\t\r\n\tZ  \r\n"
	if diff := cmp.Diff("a:X\r\nb:Y Z\r\n", canonHeader(dkim.Relaxed, header)); diff != "" {
		t.Errorf("relaxed (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(header, canonHeader(dkim.Simple, header)); diff != "" {
		t.Errorf("simple (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff("x-none:\r\nsubject:Zażółć\r\n", canonHeader(dkim.Relaxed, "X-None: \r\nSubject:\r\n Zażółć")); diff != "" {
		t.Errorf("relaxed (-want +got):\n%s", diff)
	}
}

// TestFlankerCanonicalization: some of the messages lie there with bare LF as line
// ends, which their expectations count as line ends; here they are made CRLF, as
// on the wire. The expectations stay as they are.
func TestFlankerCanonicalization(t *testing.T) {
	t.Parallel()
	dir := foreign(t, "dkim/flanker-canonicalization")
	files, err := filepath.Glob(filepath.Join(dir, "email.*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in %s (%v)", dir, err)
	}
	for _, file := range files {
		number := strings.TrimPrefix(filepath.Ext(file), ".")
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		raw = wire(raw)
		header, rest, _ := message.SplitHeader(raw)
		for _, c := range []dkim.Canonicalization{dkim.Simple, dkim.Relaxed} {
			t.Run(number+" "+c.String(), func(t *testing.T) {
				t.Parallel()
				want, err := os.ReadFile(filepath.Join(dir, c.String()+".expected."+number))
				if err != nil {
					t.Fatal(err)
				}
				got := canonHeader(c, string(header)) + "\r\n" + canonBody(c, dkim.AfterEmptyLine(rest))
				if diff := cmp.Diff(string(want), got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
	}
}
