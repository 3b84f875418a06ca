package smtp_test

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"poczta.example/poczta/internal/smtp"
)

// decodeAll feeds src in pieces of in octets and takes the result in pieces of out.
func decodeAll(d *smtp.Decoder, src []byte, in, out int) (got []byte, taken int, done bool) {
	buf := make([]byte, out)
	for taken < len(src) && !done {
		piece := src[taken:min(len(src), taken+in)]
		var n, m int
		n, m, done = d.Decode(buf, piece)
		if n == 0 && m == 0 {
			panic("no progress")
		}
		got = append(got, buf[:n]...)
		taken += m
	}
	return got, taken, done
}

func TestDecode(t *testing.T) {
	t.Parallel()
	type facts = smtp.DataFacts
	for _, tt := range []struct {
		name, src, want string
		rest            string // what follows the end
		open            bool   // the end is not in src
		facts           facts
	}{
		{name: "empty", src: ".\r\n"},
		{name: "one line", src: "ab\r\n.\r\nQUIT\r\n", want: "ab\r\n", rest: "QUIT\r\n", facts: facts{Octets: 4, LongestLine: 2}},
		{name: "stuffed dot", src: "..\r\n.a\r\n.\r\n", want: ".\r\na\r\n", facts: facts{Octets: 6, LongestLine: 1}},
		{name: "two dots stay one", src: "...x\r\n.\r\n", want: "..x\r\n", facts: facts{Octets: 5, LongestLine: 3}},
		{name: "empty lines", src: "\r\n\r\n.\r\n", want: "\r\n\r\n", facts: facts{Octets: 4}},
		{name: "LF dot LF", src: "a\n.\nb\r\n.\r\n", want: "a\n.\nb\r\n", facts: facts{Octets: 7, LongestLine: 5, BareLF: true}},
		{name: "LF dot CRLF", src: "a\n.\r\nb\r\n.\r\n", want: "a\n.\r\nb\r\n", facts: facts{Octets: 8, LongestLine: 3, BareLF: true}},
		{name: "CRLF dot LF", src: "a\r\n.\nb\r\n.\r\n", want: "a\r\n\nb\r\n", facts: facts{Octets: 7, LongestLine: 2, BareLF: true}},
		{name: "CRLF dot CR", src: "a\r\n.\rb\r\n.\r\n", want: "a\r\n\rb\r\n", facts: facts{Octets: 7, LongestLine: 2, BareCR: true}},
		{name: "CRLF dot CR CR LF", src: "\r\n.\r\r\n.\r\n", want: "\r\n\r\r\n", facts: facts{Octets: 5, LongestLine: 1, BareCR: true}},
		{name: "CR dot CR", src: "a\r.\rb\r\n.\r\n", want: "a\r.\rb\r\n", facts: facts{Octets: 7, LongestLine: 5, BareCR: true}},
		{name: "CR CRLF dot CRLF ends", src: "a\r\r\n.\r\n", want: "a\r\r\n", facts: facts{Octets: 4, LongestLine: 2, BareCR: true}},
		{name: "NUL and 8-bit stay", src: "\x00\xff\r\n.\r\n", want: "\x00\xff\r\n", facts: facts{Octets: 4, LongestLine: 2, NUL: true, EightBit: true}},
		{name: "NUL before dot", src: "\r\n\x00.\r\n", want: "\r\n\x00.\r\n", open: true, facts: facts{Octets: 6, LongestLine: 2, NUL: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, size := range [][2]int{{1 << 10, 1 << 10}, {1, 1}, {2, 1}, {1, 7}, {3, 2}, {1 << 10, 1}} {
				var d smtp.Decoder
				got, taken, done := decodeAll(&d, []byte(tt.src), size[0], size[1])
				if string(got) != tt.want || tt.src[taken:] != tt.rest || done == tt.open {
					t.Errorf("in %d, out %d: got %q, rest %q, done %v; want %q, %q, %v", size[0], size[1], got, tt.src[taken:], done, tt.want, tt.rest, !tt.open)
				}
				if diff := cmp.Diff(tt.facts, d.Facts); diff != "" {
					t.Errorf("in %d, out %d: facts (-want +got):\n%s", size[0], size[1], diff)
				}
			}
		})
	}
}

// TestDecodeSmuggling feeds the octet strings that other servers took for the end of data.
func TestDecodeSmuggling(t *testing.T) {
	t.Parallel()
	root := os.Getenv("POCZTA_TESTDATA")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared", "testdata")
	}
	table, err := os.ReadFile(filepath.Join(root, "smtp", "smuggling-sequences.tsv"))
	if err != nil {
		t.Skipf("no foreign test data (POCZTA_TESTDATA): %v", err)
	}
	cases := 0
	for line := range strings.Lines(string(table)) {
		fields := strings.Split(strings.TrimSpace(line), "\t")
		if strings.HasPrefix(line, "#") || len(fields) < 2 {
			continue
		}
		seq, err := hex.DecodeString(fields[1])
		if err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		cases++
		src := "Subject: a\r\n\r\nbody" + string(seq) + "MAIL FROM:<x@example.org>\r\n"
		for in := 1; in <= len(src); in++ {
			var d smtp.Decoder
			_, taken, done := decodeAll(&d, []byte(src), in, 64)
			if done || taken != len(src) {
				t.Errorf("%s ended the data, fed %d octets a time", fields[0], in)
			}
			if d.Facts.Refusal() == nil && !strings.Contains(fields[0], "x00") {
				t.Errorf("%s is not refused", fields[0])
			}
			if _, _, done = decodeAll(&d, []byte("\r\n.\r\n"), in, 64); !done {
				t.Errorf("%s: CRLF.CRLF behind it does not end the data", fields[0])
			}
		}
	}
	if cases == 0 {
		t.Fatal("the table holds no case")
	}
}

func TestDecodeChunked(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, src, want string
		bareCR          bool
	}{
		{name: "nothing", src: "", want: ""},
		{name: "dots mean nothing", src: ".\r\n..\r\n", want: ".\r\n..\r\n"},
		{name: "CRLF is added", src: "a", want: "a\r\n"},
		{name: "a CR at the end is bare", src: "a\r", want: "a\r\r\n", bareCR: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, in := range []int{1, 2, 100} {
				d := smtp.Decoder{Chunked: true}
				got, _, done := decodeAll(&d, []byte(tt.src), in, 3)
				got = append(got, d.Finish()...)
				if string(got) != tt.want || done || d.Facts.BareCR != tt.bareCR || d.Facts.Octets != int64(len(tt.want)) {
					t.Errorf("got %q, done %v, %+v; want %q, bare CR %v", got, done, d.Facts, tt.want, tt.bareCR)
				}
			}
		})
	}
}

// noise makes text of the octets that matter to a Decoder.
func noise(rnd *rand.Rand, n int) []byte {
	words := []string{"\r", "\n", ".", "\r\n", "\r\n.", "a", "bcdefgh", "\x00", "\xc3\xa9", strings.Repeat("x", 40)}
	var b bytes.Buffer
	for b.Len() < n {
		b.WriteString(words[rnd.IntN(len(words))])
	}
	return b.Bytes()
}

func sameAnyCut(t *testing.T, src []byte, cuts *rand.Rand, chunked bool) {
	t.Helper()
	whole := smtp.Decoder{Chunked: chunked}
	want, wantTaken, wantDone := decodeAll(&whole, src, len(src)+1, len(src)+1)
	single := smtp.Decoder{Chunked: chunked}
	got, taken, done := decodeAll(&single, src, 1, 1)
	if !bytes.Equal(got, want) || taken != wantTaken || done != wantDone || single.Facts != whole.Facts {
		t.Errorf("%q: octet by octet %q %d %v %+v, whole %q %d %v %+v", src, got, taken, done, single.Facts, want, wantTaken, wantDone, whole.Facts)
	}
	cut := smtp.Decoder{Chunked: chunked}
	got, taken, done = decodeAll(&cut, src, 1+cuts.IntN(40), 1+cuts.IntN(40))
	if !bytes.Equal(got, want) || taken != wantTaken || done != wantDone || cut.Facts != whole.Facts {
		t.Errorf("%q: cut %q %d %v %+v, whole %q %d %v %+v", src, got, taken, done, cut.Facts, want, wantTaken, wantDone, whole.Facts)
	}
}

// TestDecodeCut holds that the cut of the input changes nothing.
func TestDecodeCut(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		sameAnyCut(t, noise(rnd, 1+rnd.IntN(200)), rnd, rnd.IntN(4) == 0)
		if t.Failed() {
			return
		}
	}
}

// stuff is the sender's side of RFC 5321 §4.5.2, written without regard to speed.
func stuff(msg string) string {
	var b strings.Builder
	for line := range strings.SplitAfterSeq(msg, "\r\n") {
		if strings.HasPrefix(line, ".") {
			b.WriteByte('.')
		}
		b.WriteString(line)
	}
	return b.String() + ".\r\n"
}

// TestDecodeUndoesStuffing holds that what a right sender stuffed comes back.
func TestDecodeUndoesStuffing(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		msg := string(noise(rnd, rnd.IntN(200))) + "\r\n"
		var d smtp.Decoder
		got, _, done := decodeAll(&d, []byte(stuff(msg)), 1+rnd.IntN(300), 1+rnd.IntN(300))
		if string(got) != msg || !done {
			t.Fatalf("%q came back as %q, done %v", msg, got, done)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{".\r\n", "a\r\n.\r\n", "\r\n.\r.\r\n", "\n.\n\r.\r", "..\r\n\x00\xff"} {
		f.Add([]byte(s), uint64(7))
	}
	f.Fuzz(func(t *testing.T, src []byte, seed uint64) {
		if len(src) == 0 {
			return
		}
		rnd := rand.New(rand.NewPCG(seed, seed))
		sameAnyCut(t, src, rnd, false)
		sameAnyCut(t, src, rnd, true)
	})
}

func BenchmarkDecode(b *testing.B) {
	for _, bb := range []struct {
		name string
		line string
	}{{"lines of 76", strings.Repeat("x", 76) + "\r\n"}, {"lines of 20", strings.Repeat("x", 20) + "\r\n"}, {"every line stuffed", "." + strings.Repeat("x", 76) + "\r\n"}} {
		b.Run(bb.name, func(b *testing.B) {
			src := bytes.Repeat([]byte(bb.line), (1<<16)/len(bb.line))
			dst := make([]byte, len(src))
			b.SetBytes(int64(len(src)))
			b.ReportAllocs()
			var d smtp.Decoder
			for b.Loop() {
				d.Decode(dst, src)
			}
		})
	}
}
