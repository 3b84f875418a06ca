package smtp_test

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/smtp"
)

// feed gives src to a parser in pieces and returns the replies and what is left.
func feed(p *smtp.ReplyParser, src string, piece int) (replies []smtp.Reply, rest string, err error) {
	for len(src) > 0 {
		part := src[:min(piece, len(src))]
		n, done, err := p.Feed([]byte(part))
		if done {
			replies = append(replies, p.Reply())
		}
		if err != nil {
			return replies, src[n:], err
		}
		if n == 0 {
			return replies, src, errors.New("no progress")
		}
		src = src[n:]
	}
	return replies, "", nil
}

func TestReplyParser(t *testing.T) {
	t.Parallel()
	type reply = smtp.Reply
	long := strings.Repeat("x", 600)
	for _, tt := range []struct {
		name, src string
		hello     bool
		want      []reply
		err       error
	}{
		{name: "plain", src: "250 OK\r\n", want: []reply{{Code: 250, Text: "OK", Plain: true}}},
		{name: "enhanced", src: "550 5.1.1 nobody\r\n", want: []reply{{Code: 550, Subject: 1, Detail: 1, Text: "nobody"}}},
		{name: "enhanced on each line", src: "550-5.7.26 see\r\n550-5.7.26  there\r\n550 5.7.26 bye\r\n",
			want: []reply{{Code: 550, Subject: 7, Detail: 26, Text: "see\nthere\nbye"}}},
		{name: "enhanced on the first line only", src: "550-5.7.1 see\r\n550 there\r\n", want: []reply{{Code: 550, Subject: 7, Detail: 1, Text: "see\nthere"}}},
		{name: "enhanced alone", src: "250 2.0.0\r\n", want: []reply{{Code: 250}}},
		{name: "enhanced of another class", src: "550 4.1.1 nobody\r\n", want: []reply{{Code: 550, Text: "4.1.1 nobody", Plain: true}}},
		{name: "a number, no status", src: "250 2.0.0abc\r\n", want: []reply{{Code: 250, Text: "2.0.0abc", Plain: true}}},
		{name: "four digits", src: "250 2.1234.0 x\r\n", want: []reply{{Code: 250, Text: "2.1234.0 x", Plain: true}}},
		{name: "class 3 has none", src: "354 3.0.0 go\r\n", want: []reply{{Code: 354, Text: "3.0.0 go", Plain: true}}},
		{name: "greeting has none", hello: true, src: "220 2.0.0 host\r\n", want: []reply{{Code: 220, Text: "2.0.0 host", Plain: true}}},
		{name: "refused greeting has one", hello: true, src: "554 5.7.1 no\r\n", want: []reply{{Code: 554, Subject: 7, Detail: 1, Text: "no"}}},
		{name: "no text", src: "250\r\n250-\r\n250 \r\n", want: []reply{{Code: 250, Plain: true}, {Code: 250, Text: "\n", Plain: true}}},
		{name: "LF alone", src: "250-a\n250 b\n", want: []reply{{Code: 250, Text: "a\nb", Plain: true}}},
		{name: "codes of one class", src: "250-a\r\n251 b\r\n", want: []reply{{Code: 251, Text: "a\nb", Plain: true}}},
		{name: "codes of two classes", src: "250-a\r\n550 b\r\n", err: smtp.ErrReplySyntax},
		{name: "two replies", src: "250 a\r\n421 4.3.2 b\r\n", want: []reply{{Code: 250, Text: "a", Plain: true}, {Code: 421, Subject: 3, Detail: 2, Text: "b"}}},
		{name: "controls and bad UTF-8", src: "250 a\x00b\x1b[1m\rc\xff zażółć\r\n", want: []reply{{Code: 250, Text: "a?b?[1m?c? zażółć", Plain: true}}},
		{name: "long line", src: "250 " + long + "\r\n", want: []reply{{Code: 250, Text: long, Plain: true}}},
		{name: "no code", src: "OK\r\n", err: smtp.ErrReplySyntax},
		{name: "empty line", src: "\r\n", err: smtp.ErrReplySyntax},
		{name: "class 1", src: "150 x\r\n", err: smtp.ErrReplySyntax},
		{name: "class 6", src: "650 x\r\n", err: smtp.ErrReplySyntax},
		{name: "bad separator", src: "250:x\r\n", err: smtp.ErrReplySyntax},
		{name: "four-digit code", src: "2500 x\r\n", err: smtp.ErrReplySyntax},
		{name: "lines", src: strings.Repeat("250-x\r\n", 99) + "250 y\r\n",
			want: []reply{{Code: 250, Text: strings.Repeat("x\n", 99) + "y", Plain: true}}},
		{name: "too many lines", src: strings.Repeat("250-x\r\n", 100), err: smtp.ErrReplyTooLong},
		{name: "too many octets", src: "250 " + strings.Repeat("x", smtp.MaxReplyOctets), err: smtp.ErrReplyTooLong},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, piece := range []int{1 << 21, 4096, 7, 1} {
				p := smtp.ReplyParser{Hello: tt.hello}
				got, _, err := feed(&p, tt.src, piece)
				if !errors.Is(err, tt.err) {
					t.Errorf("pieces of %d: error %v, want %v", piece, err, tt.err)
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("pieces of %d (-want +got):\n%s", piece, diff)
				}
			}
		})
	}
}

func TestReplyKeepsBound(t *testing.T) {
	t.Parallel()
	var p smtp.ReplyParser
	line := "250-" + strings.Repeat("x", 10_000) + "\r\n"
	got, _, err := feed(&p, strings.Repeat(line, 99)+"250 end\r\n", 4096)
	if err != nil || len(got) != 1 || len(got[0].Text) > smtp.MaxReplyText+smtp.MaxReplyLines {
		t.Fatalf("%v, %d replies of %d octets", err, len(got), len(got[0].Text))
	}
	if got, _, err := feed(&p, "250 next\r\n", 4096); err != nil || got[0].Text != "next" {
		t.Errorf("behind it: %v, %v", got, err)
	}
}

// TestPlainReply: what came without an enhanced code prints without one.
func TestPlainReply(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{"550 nobody\r\n": "550 nobody", "550 5.0.0 nobody\r\n": "550 5.0.0 nobody", "550-a\r\n550 b\r\n": "550 a / b"} {
		var p smtp.ReplyParser
		got, _, err := feed(&p, src, 100)
		if err != nil || got[0].String() != want {
			t.Errorf("%q: got %v, %v, want %s", src, got, err, want)
		}
		if wire := string(got[0].AppendTo(nil)); wire != src {
			t.Errorf("goes out as %q, came as %q", wire, src)
		}
	}
}

func testdata(t testing.TB, name string) string {
	root := os.Getenv("POCZTA_TESTDATA")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared", "testdata")
	}
	path := filepath.Join(root, name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no foreign test data (POCZTA_TESTDATA): %v", err)
	}
	return path
}

// TestForeignReplies reads the replies of real servers that MailKit collected: each file is
// whole replies with the code that its first line shows.
func TestForeignReplies(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(testdata(t, "smtp/mailkit-server-replies"), "*.txt"))
	if err != nil || len(files) < 20 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var p smtp.ReplyParser
		got, rest, err := feed(&p, string(text), 1<<20)
		if err != nil || rest != "" || len(got) != 1 || !strings.HasPrefix(string(text), got[0].String()[:3]) {
			t.Errorf("%s: %v, rest %q, %v", filepath.Base(file), got, rest, err)
		}
	}
}

func TestForeignOffers(t *testing.T) {
	t.Parallel()
	dir := testdata(t, "smtp/mailkit-server-replies")
	base := smtp.Offer{Name: "omta06.westchester.pa.mail.comcast.net", Size: 36700160, HasSize: true, EightBitMIME: true,
		EnhancedStatusCodes: true, StartTLS: true, Auth: []string{"LOGIN", "PLAIN"}}
	for file, change := range map[string]func(*smtp.Offer){
		"comcast-ehlo":            func(o *smtp.Offer) {},
		"comcast-ehlo+binarymime": func(o *smtp.Offer) { o.Chunking = true },
		"comcast-ehlo+digest-md5": func(o *smtp.Offer) { o.Auth = append([]string{}, "LOGIN", "PLAIN", "DIGEST-MD5") },
		"comcast-ehlo+dsn":        func(o *smtp.Offer) { o.DSN, o.Pipelining = true, true },
		"comcast-ehlo+pipelining": func(o *smtp.Offer) { o.Pipelining = true },
		"comcast-ehlo+requiretls": func(o *smtp.Offer) { o.RequireTLS = true },
		"comcast-ehlo+smtputf8":   func(o *smtp.Offer) { o.SMTPUTF8 = true },
		"comcast-ehlo+x-exps":     func(o *smtp.Offer) { o.Auth = nil },
	} {
		text, err := os.ReadFile(filepath.Join(dir, file+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		p := smtp.ReplyParser{Hello: true}
		got, _, err := feed(&p, string(text), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		want := base
		change(&want)
		if diff := cmp.Diff(want, smtp.ParseOffer(got[0].Text)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
}

// seeds are the server dialogues of go-fuzz's corpus.
func seeds(f testing.TB) [][]byte {
	root := os.Getenv("POCZTA_TESTDATA")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared", "testdata")
	}
	file, err := os.Open(filepath.Join(root, "smtp", "gofuzz-client-seeds.tar.gz"))
	if err != nil {
		f.Logf("no foreign test data (POCZTA_TESTDATA): %v", err)
		return nil
	}
	defer file.Close()
	z, err := gzip.NewReader(file)
	if err != nil {
		f.Fatal(err)
	}
	var all [][]byte
	for r := tar.NewReader(z); ; {
		if _, err := r.Next(); err != nil {
			return all
		}
		b, err := io.ReadAll(r)
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, b)
	}
}

// FuzzReplyParser: pieces make no difference, a reply's text is fit for logs and reports,
// and printing it gives it back.
func FuzzReplyParser(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s, 3)
	}
	f.Add([]byte("250-2.0.0 a\r\n250 2.0.0 b\r\n"), 1)
	f.Add([]byte("550-5.1.1 a\n551 \xff\x00\n421"), 2)
	f.Fuzz(func(t *testing.T, src []byte, piece int) {
		piece = max(piece%64, 1)
		var whole, cut smtp.ReplyParser
		a, restA, errA := feed(&whole, string(src), len(src)+1)
		b, restB, errB := feed(&cut, string(src), piece)
		if diff := cmp.Diff(a, b); diff != "" || !errors.Is(errB, errA) || restA != restB && errA == nil {
			t.Fatalf("pieces of %d: %v, %v (-whole +cut):\n%s", piece, errA, errB, diff)
		}
		for _, r := range a {
			if r.Code < 200 || r.Code > 599 || !utf8.ValidString(r.Text) || strings.ContainsAny(r.Text, "\r\x00\x1b") || len(r.Text) > 2*smtp.MaxReplyText {
				t.Fatalf("reply %#v", r)
			}
			_ = smtp.ParseOffer(r.Text)
			var again smtp.ReplyParser
			c, _, err := feed(&again, string(r.AppendTo(nil)), 1<<20)
			if err != nil && !errors.Is(err, smtp.ErrReplyTooLong) || err == nil && (len(c) != 1 || c[0].Code != r.Code) {
				t.Fatalf("%#v goes out as %q: %v, %v", r, r.AppendTo(nil), c, err)
			}
		}
	})
}
