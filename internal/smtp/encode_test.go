package smtp_test

import (
	"bytes"
	"strings"
	"testing"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/smtp"
)

// encode feeds src in pieces, by Scan where it can be sent as it is.
func encode(e *smtp.Encoder, src []byte, piece int) []byte {
	var out []byte
	for len(src) > 0 {
		part := src[:min(piece, len(src))]
		before := *e
		if e.Scan(part) {
			*e = before
			out = e.Append(out, part)
		} else {
			out = append(out, part...)
		}
		src = src[len(part):]
	}
	return e.End(out)
}

func TestEncode(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, src, want, chunked string
		bare                     bool
	}{
		{name: "empty", src: "", want: ".\r\n", chunked: ""},
		{name: "line", src: "a\r\n", want: "a\r\n.\r\n", chunked: "a\r\n"},
		{name: "no end", src: "a", want: "a\r\n.\r\n", chunked: "a\r\n"},
		{name: "dots", src: ".\r\n..\r\na.\r\n.b\r\n", want: "..\r\n...\r\na.\r\n..b\r\n.\r\n", chunked: ".\r\n..\r\na.\r\n.b\r\n"},
		{name: "end of data inside", src: "a\r\n.\r\nMAIL", want: "a\r\n..\r\nMAIL\r\n.\r\n", chunked: "a\r\n.\r\nMAIL\r\n"},
		{name: "bare LF and dot", src: "a\n.\r\nb\r\n", want: "a\n..\r\nb\r\n.\r\n", chunked: "a\n.\r\nb\r\n", bare: true},
		{name: "bare LF first", src: "\na\r\n", want: "\na\r\n.\r\n", chunked: "\na\r\n", bare: true},
		{name: "bare CR", src: "a\rb\r\n", want: "a\rb\r\n.\r\n", chunked: "a\rb\r\n", bare: true},
		{name: "CR CR LF", src: "a\r\r\n", want: "a\r\r\n.\r\n", chunked: "a\r\r\n", bare: true},
		{name: "CR at the end", src: "a\r", want: "a\r\r\n.\r\n", chunked: "a\r\r\n", bare: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, piece := range []int{1 << 10, 1, 2, 3} {
				var e smtp.Encoder
				if got := encode(&e, []byte(tt.src), piece); string(got) != tt.want || e.Bare() != tt.bare || e.Octets() != int64(len(tt.src)) {
					t.Errorf("pieces of %d: got %q, bare %v, %d octets; want %q, %v", piece, got, e.Bare(), e.Octets(), tt.want, tt.bare)
				}
				e = smtp.Encoder{Chunked: true}
				if got := encode(&e, []byte(tt.src), piece); string(got) != tt.chunked || e.Bare() != tt.bare {
					t.Errorf("chunked, pieces of %d: got %q, bare %v; want %q, %v", piece, got, e.Bare(), tt.chunked, tt.bare)
				}
			}
		})
	}
}

// FuzzEncode: our decoder gives back what was encoded, it stops nowhere else, and both see
// the same bare line ends.
func FuzzEncode(f *testing.F) {
	f.Add([]byte("a\r\n.\r\n..\r\n\n.\r.\r\n"), 2)
	f.Fuzz(func(t *testing.T, src []byte, piece int) {
		piece = max(piece%100, 1)
		var e smtp.Encoder
		wire := encode(&e, src, piece)
		var d smtp.Decoder
		got, taken, done := decodeAll(&d, wire, 1<<20, 1<<20)
		want := src
		if len(src) > 0 && src[len(src)-1] != '\n' {
			want = append(bytes.Clone(src), "\r\n"...)
		}
		if e.Bare() != (d.Facts.BareCR || d.Facts.BareLF) {
			t.Fatalf("%q: bare %v here, %+v there", src, e.Bare(), d.Facts)
		}
		if !e.Bare() && (!done || taken != len(wire) || !bytes.Equal(got, want)) {
			t.Fatalf("%q came back as %q from %q", src, got, wire)
		}
	})
}

func TestAppendOriginal(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		o    envelope.OriginalRecipient
		utf8 bool
		want string
	}{
		{envelope.OriginalRecipient{Type: "rfc822", Address: "a+b=c@x.example"}, false, "rfc822;a+2Bb+3Dc@x.example"},
		{envelope.OriginalRecipient{Type: "utf-8", Address: `zoë\+ @x.example`}, false, `utf-8;zo\x{EB}\x{5C}\x{2B}\x{20}@x.example`},
		{envelope.OriginalRecipient{Type: "utf-8", Address: `zoë@x.example`}, true, `utf-8;zoë@x.example`},
	} {
		got := string(smtp.AppendOriginal(nil, tt.o, tt.utf8))
		if got != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
		r, err := smtp.ParseRcpt("TO:<a@x.example> ORCPT="+got, smtp.ExtDSN, tt.utf8)
		if err != nil || r.Original != tt.o {
			t.Errorf("%s is read as %+v, %v", got, r.Original, err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	src := []byte(strings.Repeat("a line of about sixty octets, as mail has them, and a bit\r\n", 70))
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	for b.Loop() {
		var e smtp.Encoder
		if e.Scan(src) || e.Bare() {
			b.Fatal("no dot is there")
		}
	}
}

func BenchmarkReplyParser(b *testing.B) {
	src := []byte("250 2.0.0 Ok: queued as 4ZqX1m5Jf2z1t\r\n")
	var p smtp.ReplyParser
	b.ReportAllocs()
	for b.Loop() {
		if _, done, err := p.Feed(src); !done || err != nil {
			b.Fatal(err)
		}
	}
}
