package message_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/message"
)

func TestSplitHeader(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, in, header, rest string
		complete               bool
	}{
		{"usual", "A: b\r\nC: d\r\n\r\nbody\r\n", "A: b\r\nC: d\r\n", "\r\nbody\r\n", true},
		{"folded", "A: b\r\n c\r\n\r\n", "A: b\r\n c\r\n", "\r\n", true},
		{"blanks are no empty line", "A: b\r\n \r\nC: d\r\n\r\nx", "A: b\r\n \r\nC: d\r\n", "\r\nx", true},
		{"header only", "A: b\r\n", "A: b\r\n", "", false},
		{"empty line first", "\r\nbody\r\n", "", "\r\nbody\r\n", true},
		{"body only", "hello\r\nworld\r\n", "", "hello\r\nworld\r\n", true},
		{"mbox line", "From ala Mon\r\nA: b\r\n\r\n", "From ala Mon\r\nA: b\r\n", "\r\n", true},
		{"rubbish inside", "A: b\r\nrubbish\r\nC: d\r\n\r\n", "A: b\r\nrubbish\r\nC: d\r\n", "\r\n", true},
		{"bare LF", "A: b\n\nbody", "A: b\n", "\nbody", true},
		{"CR at the end of what came", "A: b\r\n\r", "A: b\r\n\r", "", false},
		{"nothing", "", "", "", false},
		{"half a line", "Subj", "Subj", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h, r, ok := message.SplitHeader([]byte(tt.in))
			if string(h) != tt.header || string(r) != tt.rest || ok != tt.complete {
				t.Errorf("got %q, %q, %v", h, r, ok)
			}
		})
	}
}

func TestFields(t *testing.T) {
	t.Parallel()
	header := "Subject: Zażółć\r\n gęślą\r\nX-Empty:\r\nrubbish\r\nTo :  a@b \r\n: no name\r\n"
	type field struct {
		Name, Value string
		Offset      int
		Malformed   bool
	}
	var got []field
	for f := range message.Fields([]byte(header)) {
		got = append(got, field{f.Name(), f.Value(), f.Offset, f.Malformed()})
	}
	want := []field{
		{"Subject", "Zażółć gęślą", 0, false},
		{"X-Empty", "", 32, false},
		{"", "rubbish", 42, true},
		{"To", "a@b", 51, false},
		{"", ": no name", 63, true},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if v, ok := message.Get([]byte(header), "to"); v != "a@b" || !ok {
		t.Errorf("Get: %q, %v", v, ok)
	}
	if _, ok := message.Get([]byte(header), "cc"); ok {
		t.Error("Get found what is not there")
	}
	if n := message.Count([]byte("A: 1\r\na: 2\r\nB: 3\r\n"), "A"); n != 2 {
		t.Errorf("Count: %d", n)
	}
}

func TestStrip(t *testing.T) {
	t.Parallel()
	header := "From ala Mon\r\nReturn-Path: <x>\r\nA: 1\r\nBCC: a,\r\n b\r\nB: 2\r\nResent-Bcc: x\r\n"
	drop := func(f message.Field) bool {
		return message.IsReturnPath(f) || message.IsBcc(f) || message.IsMboxLine(f)
	}
	if got, want := string(message.Strip([]byte(header), drop)), "A: 1\r\nB: 2\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	same := []byte("A: 1\r\n")
	if got := message.Strip(same, drop); &got[0] != &same[0] {
		t.Error("an untouched header section was copied")
	}
}

// FuzzFields holds that fields cover the header section without gaps, that
// growing input is split as whole input is, and that stripping everything and
// nothing does so.
func FuzzFields(f *testing.F) {
	for _, s := range []string{"A: b\r\n c\r\n\r\nbody", "x\r\n\r\n", "From a\r\nB:c\r\n\r\n", "\n\n", "A:b\r\r\n\r\n", "A: b\r\n\r"} {
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		header, rest, complete := message.SplitHeader(b)
		if len(header)+len(rest) != len(b) {
			t.Fatalf("%d + %d octets of %d", len(header), len(rest), len(b))
		}
		at := 0
		for field := range message.Fields(header) {
			if field.Offset != at || len(field.Raw) == 0 {
				t.Fatalf("field at %d of %d octets, want at %d", field.Offset, len(field.Raw), at)
			}
			if field.Malformed() != (field.Name() == "") {
				t.Fatalf("field %q has no name and is not malformed", field.Raw)
			}
			if strings.ContainsAny(field.Value(), "\r\n") {
				t.Fatalf("value %q is not unfolded", field.Value())
			}
			at += len(field.Raw)
		}
		if at != len(header) {
			t.Fatalf("fields cover %d of %d octets", at, len(header))
		}
		if got := message.Strip(header, func(message.Field) bool { return true }); len(got) != 0 {
			t.Fatalf("%q is left", got)
		}
		if got := message.Strip(header, func(f message.Field) bool { return f.Is("A") }); message.Count(got, "B") != message.Count(header, "B") {
			t.Fatal("stripping A changed B")
		}
		grow(t, b, cut, len(header), complete)
	})
}

// grow feeds b in two parts.
func grow(t *testing.T, b []byte, cut, want int, complete bool) {
	t.Helper()
	if len(b) == 0 {
		return
	}
	cut = int(uint(cut) % uint(len(b)))
	n, done := message.HeaderLen(b[:cut], 0)
	if !done {
		n, done = message.HeaderLen(b, cut)
	}
	if n != want || done != complete {
		t.Fatalf("in parts of %d and %d octets: got %d, %v, want %d, %v", cut, len(b)-cut, n, done, want, complete)
	}
}

func TestHeaderLenIsLinear(t *testing.T) {
	t.Parallel()
	b := bytes.Repeat([]byte("X-Field: "+strings.Repeat("x", 60)+"\r\n"), 10000)
	from := 0
	for end := 0; end <= len(b); end += 1000 { // quadratic work would not end in time
		if n, complete := message.HeaderLen(b[:end], from); complete || n != end {
			t.Fatalf("at %d: got %d, %v", end, n, complete)
		}
		from = end
	}
}

// TestHeaderLenOfLongLines feeds lines of a megabyte octet by octet, the first of
// them in front of many short ones, as a client can in chunks of one octet: work
// that looks back each time would take minutes.
func TestHeaderLenOfLongLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1<<20)
	for name, text := range map[string]string{
		"a first line":                  "X: " + long,
		"a later line":                  "A: b\r\nX: " + long,
		"short lines behind a long one": "X: " + long[:1<<19] + strings.Repeat("\r\nY:", 1<<17),
	} {
		b, begin := []byte(text), time.Now()
		for end := 1; end <= len(b); end++ {
			if n, complete := message.HeaderLen(b[:end], end-1); complete || n != end {
				t.Fatalf("%s: at %d: got %d, %v", name, end, n, complete)
			}
		}
		if took := time.Since(begin); took > 15*time.Second {
			t.Errorf("%s: took %v", name, took)
		}
	}
}

func BenchmarkFields(b *testing.B) {
	header := bytes.Repeat([]byte("Received: from a.example (a.example [192.0.2.1])\r\n\tby b.example with ESMTP id 123;\r\n\tMon, 23 Nov 2026 03:35:09 +0000\r\n"), 10)
	b.SetBytes(int64(len(header)))
	b.ReportAllocs()
	for b.Loop() {
		if message.Count(header, "Received") != 10 {
			b.Fatal("miscounted")
		}
	}
}
