package pop3_test

import (
	"bytes"
	"strings"
	"testing"

	"poczta.example/poczta/internal/pop3"
)

// stuff byte-stuffs msg in blocks that the octets of cuts choose.
func stuff(msg, cuts []byte) []byte {
	var s pop3.Stuffer
	var out []byte
	for i := 0; len(msg) > 0; i++ {
		n := len(msg)
		if len(cuts) > 0 {
			n = min(n, int(cuts[i%len(cuts)])%17+1)
		}
		out = s.Append(out, msg[:n])
		msg = msg[n:]
	}
	return s.End(out)
}

func TestStuffer(t *testing.T) {
	t.Parallel()
	for msg, want := range map[string]string{
		"":                         ".\r\n",
		"a\r\n":                    "a\r\n.\r\n",
		"a":                        "a\r\n.\r\n",
		".":                        "..\r\n.\r\n",
		".\r\n":                    "..\r\n.\r\n",
		"..\r\n.a\r\na.\r\n":       "...\r\n..a\r\na.\r\n.\r\n",
		"a\n.\nb\r\n":              "a\n..\nb\r\n.\r\n",
		"\r\n.\r\n":                "\r\n..\r\n.\r\n",
		strings.Repeat(".\r\n", 3): strings.Repeat("..\r\n", 3) + ".\r\n",
	} {
		for _, cuts := range [][]byte{nil, {0}, {1}, {2, 0}} {
			if got := string(stuff([]byte(msg), cuts)); got != want {
				t.Errorf("stuff %q in blocks %v: got %q, want %q", msg, cuts, got, want)
			}
		}
	}
}

// FuzzStuffing: unstuffing gives the message back, in blocks of any size, and
// stops exactly at the end.
func FuzzStuffing(f *testing.F) {
	f.Add([]byte("a\r\n.\r\n..b\r\n"), []byte{0}, []byte{3})
	f.Add([]byte(".\r.\n.\r\n"), []byte{1}, []byte{0})
	f.Fuzz(func(t *testing.T, msg, cuts, cuts2 []byte) {
		wire := stuff(msg, cuts)
		if whole := stuff(msg, nil); !bytes.Equal(wire, whole) {
			t.Fatalf("blocks %v give %q, the whole gives %q", cuts, wire, whole)
		}
		want := msg
		if len(msg) > 0 && msg[len(msg)-1] != '\n' {
			want = append(bytes.Clone(msg), "\r\n"...)
		}
		feed := append(bytes.Clone(wire), "+OK next"...)
		var u pop3.Unstuffer
		var got []byte
		used, done := 0, false
		for i := 0; !done; i++ {
			n := len(feed) - used
			if n == 0 {
				t.Fatalf("no end found in %q", wire)
			}
			if len(cuts2) > 0 {
				n = min(n, int(cuts2[i%len(cuts2)])%17+1)
			}
			var k int
			got, k, done = u.Append(got, feed[used:used+n])
			if !done && k != n {
				t.Fatalf("Append used %d of %d octets without an end", k, n)
			}
			used += k
		}
		if used != len(wire) || !bytes.Equal(got, want) {
			t.Errorf("message %q: wire %q, got back %q, used %d of %d", msg, wire, got, used, len(wire))
		}
	})
}

// topByLines is TOP in the plainest way.
func topByLines(msg string, n int64) string {
	var out strings.Builder
	body := false
	for _, l := range strings.SplitAfter(msg, "\n") {
		if body {
			if n--; n < 0 {
				break
			}
		}
		out.WriteString(l)
		if l == "\n" || l == "\r\n" {
			body = true
		}
	}
	return out.String()
}

func cutTop(msg []byte, n int64, cuts []byte) []byte {
	c := pop3.NewTopCutter(n)
	var out []byte
	for i := 0; len(msg) > 0; i++ {
		k := len(msg)
		if len(cuts) > 0 {
			k = min(k, int(cuts[i%len(cuts)])%17+1)
		}
		keep, done := c.Cut(msg[:k])
		out = append(out, msg[:keep]...)
		if done {
			break
		}
		msg = msg[k:]
	}
	return out
}

func TestTopCutter(t *testing.T) {
	t.Parallel()
	const head = "Subject: x\r\nTo: y\r\n\r\n"
	for _, tt := range []struct {
		msg  string
		n    int64
		want string
	}{
		{head + "1\r\n2\r\n3\r\n", 0, head},
		{head + "1\r\n2\r\n3\r\n", 2, head + "1\r\n2\r\n"},
		{head + "1\r\n2\r\n3\r\n", 3, head + "1\r\n2\r\n3\r\n"},
		{head + "1\r\n2\r\n3\r\n", 1 << 62, head + "1\r\n2\r\n3\r\n"},
		{head, 0, head}, {head, 5, head},
		{head + "\r\n\r\nx\r\n", 1, head + "\r\n"},
		{"Subject: x\r\n", 0, "Subject: x\r\n"},
		{"\r\nbody\r\n", 0, "\r\n"},
		{"", 3, ""},
		{head + "no line end", 1, head + "no line end"},
	} {
		for _, cuts := range [][]byte{nil, {0}, {1}, {4, 1}} {
			if got := string(cutTop([]byte(tt.msg), tt.n, cuts)); got != tt.want {
				t.Errorf("TOP %d of %q in blocks %v: got %q, want %q", tt.n, tt.msg, cuts, got, tt.want)
			}
		}
	}
}

func FuzzTopCutter(f *testing.F) {
	f.Add("A: b\r\n\r\n1\r\n2\r\n", int64(1), []byte{2})
	f.Add("\r\r\n\n\r\n", int64(0), []byte{0})
	f.Fuzz(func(t *testing.T, msg string, n int64, cuts []byte) {
		if n < 0 {
			return
		}
		want := topByLines(msg, n)
		if got := string(cutTop([]byte(msg), n, cuts)); got != want {
			t.Errorf("TOP %d of %q in blocks %v: got %q, want %q", n, msg, cuts, got, want)
		}
	})
}

func BenchmarkStuffer(b *testing.B) {
	msg := []byte(strings.Repeat(strings.Repeat("x", 70)+"\r\n.y\r\n", 1000))
	out := make([]byte, 0, 2*len(msg))
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	for b.Loop() {
		var s pop3.Stuffer
		_ = s.End(s.Append(out, msg))
	}
}
