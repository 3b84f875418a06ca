package message_test

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"poczta.example/poczta/internal/message"
)

func TestReader(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in, want       string
		bareLF, bareCR int64
	}{
		{"", "", 0, 0},
		{"a", "a\r\n", 0, 0},
		{"a\r\nb\r\n", "a\r\nb\r\n", 0, 0},
		{"a\nb\n", "a\r\nb\r\n", 2, 0},
		{"a\rb\r", "a\r\nb\r\n", 0, 2},
		{"a\r\r\nb", "a\r\n\r\nb\r\n", 0, 1},
		{"\n\r", "\r\n\r\n", 1, 1},
		{"a\x00b\n", "a\x00b\r\n", 1, 0},
		{"\x00", "\x00\r\n", 0, 0},
		{strings.Repeat("x", 70000) + "\n.", strings.Repeat("x", 70000) + "\r\n.\r\n", 1, 0},
	}
	for _, tt := range tests {
		for name, wrap := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "octets": iotest.OneByteReader,
			"with EOF": iotest.DataErrReader, "half": iotest.HalfReader,
		} {
			r := message.NewReader(wrap(strings.NewReader(tt.in)))
			got, err := io.ReadAll(r)
			if err != nil || string(got) != tt.want || r.BareLF() != tt.bareLF || r.BareCR() != tt.bareCR {
				t.Errorf("%s %.20q: got %.40q, %d LF, %d CR, %v", name, tt.in, got, r.BareLF(), r.BareCR(), err)
			}
			small, err := io.ReadAll(iotest.OneByteReader(message.NewReader(strings.NewReader(tt.in))))
			if err != nil || string(small) != tt.want {
				t.Errorf("read octet by octet %.20q: got %.40q, %v", tt.in, small, err)
			}
		}
	}
	if _, err := io.ReadAll(message.NewReader(iotest.ErrReader(io.ErrNoProgress))); err != io.ErrNoProgress {
		t.Errorf("got %v", err)
	}
}

// FuzzReader holds that only line ends change, that all are CRLF afterwards, and
// that a second pass changes nothing.
func FuzzReader(f *testing.F) {
	f.Add([]byte("a\r\nb\nc\rd"))
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := io.ReadAll(message.NewReader(bytes.NewReader(in)))
		if err != nil {
			t.Fatal(err)
		}
		plain := bytes.ReplaceAll(got, []byte("\r\n"), nil)
		if bytes.ContainsAny(plain, "\r\n") {
			t.Fatalf("%q has a bare CR or LF", got)
		}
		want := strings.NewReplacer("\r", "", "\n", "").Replace(string(in))
		if string(plain) != want {
			t.Fatalf("%q became %q", in, got)
		}
		again, err := io.ReadAll(message.NewReader(iotest.OneByteReader(bytes.NewReader(got))))
		if err != nil || !bytes.Equal(again, got) {
			t.Fatalf("a second pass makes %q of %q", again, got)
		}
	})
}

func BenchmarkReader(b *testing.B) {
	in := bytes.Repeat([]byte(strings.Repeat("x", 70)+"\n"), 10000)
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		if _, err := io.Copy(io.Discard, struct{ io.Reader }{message.NewReader(bytes.NewReader(in))}); err != nil {
			b.Fatal(err)
		}
	}
}
