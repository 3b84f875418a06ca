package mime_test

import (
	"bytes"
	"encoding/base64"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"poczta.example/poczta/internal/mime"
)

// counter counts what is read.
type counter struct {
	r     io.ReaderAt
	n     int64
	large int
}

func (c *counter) ReadAt(b []byte, off int64) (int, error) {
	c.n += int64(len(b))
	c.large = max(c.large, len(b))
	return c.r.ReadAt(b, off)
}

// repeat is a message of a head and many copies of a text.
type repeat struct {
	head, text string
	size       int64
}

func (r repeat) ReadAt(b []byte, off int64) (int, error) {
	for n := 0; n < len(b); {
		at := off + int64(n)
		switch head := int64(len(r.head)); {
		case at >= r.size:
			return n, io.EOF
		case at < head:
			n += copy(b[n:], r.head[at:])
		default:
			n += copy(b[n:min(len(b), n+int(r.size-at))], r.text[(at-head)%int64(len(r.text)):])
		}
	}
	return len(b), nil
}

// nested is a message of n multiparts in each other.
func nested(n int) []byte {
	var b bytes.Buffer
	for i := range n {
		s := strconv.Itoa(1000 + i)
		b.WriteString("Content-Type: multipart/mixed; boundary=b" + s + "\n\n--b" + s + "\n")
	}
	return b.Bytes()
}

// bombOctets is the size of BenchmarkBombs' messages; TestBombs takes shorter ones.
const bombOctets = 50 << 20

func bombs() map[string]repeat {
	multi := "Content-Type: multipart/mixed; boundary=a\n\n"
	all := map[string]repeat{
		"boundaries":       {multi, "--a\n", bombOctets},
		"finals":           {multi + "--a\n\n", "--a--\n", bombOctets},
		"prefixes":         {multi, "--ax\n", bombOctets},
		"no boundaries":    {multi, "--b\n", bombOctets},
		"nested multipart": {"", "Content-Type: multipart/mixed; boundary=a\n\n--a\n", bombOctets},
		"nested message":   {"", "Content-Type: message/rfc822\n\n", bombOctets},
		"one line":         {multi, "-", bombOctets},
		"one field":        {"Subject: ", "x", bombOctets},
		"many fields":      {"", "Content-Type: multipart/mixed; boundary=a\n", bombOctets},
		"many params":      {"Content-Type: text/plain", ";a=b", bombOctets},
		"many segments":    {"Content-Type: text/plain", ";\n a*1*=b", bombOctets},
		"comments":         {"Content-Type: text/plain; a=", "(", bombOctets},
		"header sections":  {multi, "--a\n" + strings.Repeat("X: "+strings.Repeat("y", 1000)+"\n", 1000), bombOctets},
		"uuencoded":        {"\n", "begin 644 a\n#86)C\nend\n", bombOctets},
		"begin lines":      {"\n", "begin 644 a\n", bombOctets},
		"blank field":      {"Content-Type:", " \n", bombOctets},
	}
	for name, r := range all { // longer texts are quicker to repeat
		r.text = strings.Repeat(r.text, 1+32<<10/len(r.text))
		all[name] = r
	}
	return all
}

// TestBombs: whatever a message is made of, it is read at most once, in chunks, and what is
// kept is bounded. Not parallel: it counts what the process allocates.
func TestBombs(t *testing.T) {
	for name, bomb := range bombs() {
		bomb.size = 16 << 20 // more than every limit
		c := &counter{r: bomb}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		root, err := mime.Parse(c, bomb.size, mime.Limits{})
		runtime.ReadMemStats(&after)
		if err != nil {
			t.Fatal(err)
		}
		parts, headers := 0, 0
		for p := range root.All() {
			parts++
			headers += len(p.Header)
		}
		if c.n > bomb.size || c.large > 32<<10 {
			t.Errorf("%s: read %d of %d octets, up to %d at once", name, c.n, bomb.size, c.large)
		}
		if parts > mime.DefaultParts || headers > mime.DefaultHeaders {
			t.Errorf("%s: %d parts, %d octets of header sections", name, parts, headers)
		}
		got := after.TotalAlloc - before.TotalAlloc
		if got > 24<<20 {
			t.Errorf("%s: %d octets allocated", name, got)
		}
		t.Logf("%-16s %4d parts, %7d octets of header sections, read %8d, allocated %8d, defects %s", name, parts, headers, c.n, got, root.AllDefects())
	}
}

// TestDepth: what is nested too deep is left whole.
func TestDepth(t *testing.T) {
	t.Parallel()
	msg := nested(100)
	root := parse(t, msg)
	depth := 0
	for p := range root.All() {
		depth++
		if len(p.Children) == 0 && !p.Defects.Has(mime.DeepNesting) {
			t.Errorf("the last part at depth %d does not say so: %s", depth, p.Defects)
		}
	}
	if depth != mime.DefaultDepth+1 {
		t.Errorf("%d parts, want %d", depth, mime.DefaultDepth+1)
	}
}

// TestEncodedMessages: messages in base64 in each other are entered up to a bound.
func TestEncodedMessages(t *testing.T) {
	t.Parallel()
	msg := []byte("Subject: inner\n\nhello\n")
	for range 3 {
		msg = []byte("Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n" + base64.StdEncoding.EncodeToString(msg))
	}
	root := parse(t, msg)
	if got, want := tree(root), "message/rfc822(message/rfc822(message/rfc822(text/plain)))"; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	for p := range root.All() {
		if len(p.Children) == 0 {
			if got := all(t, p.Text(bytes.NewReader(msg))); got != "hello\n" {
				t.Errorf("got %q", got)
			}
		}
	}
	small, err := mime.Parse(bytes.NewReader(msg), int64(len(msg)), mime.Limits{Decoded: 10})
	if err != nil || !small.Defects.Has(mime.LargeContainer) || len(small.Children) != 0 {
		t.Errorf("got %s %s %v", tree(small), small.Defects, err)
	}
	// a multipart that is encoded whole, whose decoded content has no boundary either
	multi := []byte("Content-Type: multipart/mixed; boundary=a\nContent-Transfer-Encoding: base64\n\n" +
		base64.StdEncoding.EncodeToString([]byte("--a\n\none\n--a\n\ntwo\n--a--\n")))
	if got, want := tree(parse(t, multi)), "multipart/mixed(text/plain text/plain)"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	none := []byte("Content-Type: multipart/mixed; boundary=a\nContent-Transfer-Encoding: base64\n\nAAAA")
	if got := parse(t, none); len(got.Children) != 0 || !got.Defects.Has(mime.NoParts) {
		t.Errorf("got %s %s", tree(got), got.Defects)
	}
}

func smallMessage() []byte {
	text := strings.Repeat("Dear Ala, the letter that I have promised is here; it speaks of =C5=BB=C3=B3=C5=82w.\r\n", 12)
	return []byte("Received: from a.example (a.example [192.0.2.1])\r\n\tby b.example (Postfix) with ESMTPS id 4F3C2\r\n\tfor <ala@example.org>; Mon, 23 Nov 2026 10:00:00 +0000\r\n" +
		"From: =?utf-8?Q?=C5=BB=C3=B3=C5=82w?= <z@example.com>\r\nTo: Ala <ala@example.org>\r\nSubject: =?utf-8?B?xbvDs8WCdw==?= and a letter\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\n" +
		"Message-ID: <1234@example.com>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=\"=_part\"\r\n\r\n" +
		"--=_part\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + text +
		"--=_part\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<html><body><p>" + text +
		"<a href=3D\"https://www.example.com/letter\">the letter</a></p></body></html>\r\n" + strings.Repeat("<p>The end of it all.</p>\r\n", 40) + "--=_part--\r\n")
}

func BenchmarkParse(b *testing.B) {
	msg := smallMessage()
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := mime.Parse(bytes.NewReader(msg), int64(len(msg)), mime.Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkText(b *testing.B) {
	msg := smallMessage()
	r := bytes.NewReader(msg)
	root := parse(b, msg)
	buf := make([]byte, 32<<10)
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	for b.Loop() {
		for p := range root.All() {
			if p.Leaf() {
				if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, p.Text(r), buf); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
}

// BenchmarkBombs reads messages of 50 MiB that are made to cost time.
func BenchmarkBombs(b *testing.B) {
	for name, bomb := range bombs() {
		b.Run(name, func(b *testing.B) {
			msg := make([]byte, bomb.size)
			if _, err := bomb.ReadAt(msg, 0); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(bomb.size)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := mime.Parse(bytes.NewReader(msg), bomb.size, mime.Limits{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// FuzzParse holds what TestForeignMessages holds, for any octets and small limits.
func FuzzParse(f *testing.F) {
	f.Add(smallMessage())
	f.Add(nested(5))
	for _, bomb := range bombs() {
		b := make([]byte, 400)
		_, _ = bomb.ReadAt(b, 0)
		f.Add(b)
	}
	f.Add([]byte("Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nU3ViamVjdDogYQoKYg=="))
	f.Add([]byte("Content-Type: text/plain; charset=utf-7\n\n+AGE-"))
	if dir := os.Getenv("POCZTA_TESTDATA"); dir != "" {
		files, _ := filepath.Glob(filepath.Join(dir, "mime", "*", "*.eml"))
		more, _ := filepath.Glob(filepath.Join(dir, "mime", "*", "*", "*.eml"))
		for _, file := range append(files, more...) {
			if b, err := os.ReadFile(file); err == nil && len(b) < 8<<10 {
				f.Add(b)
			}
		}
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		for _, l := range []mime.Limits{defaults, {Depth: 3, Parts: 5, Header: 100, Headers: 200, Decoded: 100}} {
			root, err := mime.Parse(bytes.NewReader(msg), int64(len(msg)), l)
			if err != nil {
				t.Fatal(err)
			}
			check(t, msg, root, l)
		}
	})
}
