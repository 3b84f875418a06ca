package compose_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	netmail "net/mail"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/mime"
	"poczta.example/poczta/internal/mua/compose"
	"poczta.example/poczta/internal/mua/store"
)

const id = "<new@example.org>"

func attachment(name, kind, content string) compose.Attachment {
	return compose.Attachment{Name: name, Type: kind, Octets: int64(len(content)), Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }}
}

// write writes a draft and holds what every letter must be: CRLF lines of at most 998 octets.
func write(t testing.TB, d *compose.Draft) string {
	t.Helper()
	var b bytes.Buffer
	if err := compose.Write(&b, d, now, id); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	if strings.Count(text, "\n") != strings.Count(text, "\r\n") || strings.Count(text, "\r") != strings.Count(text, "\r\n") || !strings.HasSuffix(text, "\r\n") {
		t.Errorf("line ends:\n%q", text)
	}
	for line := range strings.SplitSeq(text, "\r\n") {
		if len(line) > 998 {
			t.Errorf("a line of %d octets", len(line))
		}
	}
	return text
}

func TestWrite(t *testing.T) {
	t.Parallel()
	d := compose.New(account())
	d.To = []store.Address{{Name: "Żółw, Jan", Address: "jan@them.example"}, {Name: `Ewa "E" Nowak`, Address: "ewa@żółw.example"}}
	d.Bcc = []store.Address{{Address: "secret@them.example"}}
	d.Subject = "Hello"
	d.Text = "From here\n>quoted\nfine\n-- \nAla"
	want := "From: Ala Kowalska <ala@example.org>\r\n" +
		"To: =?utf-8?b?xbvDs8WCdywgSmFu?= <jan@them.example>, \"Ewa \\\"E\\\" Nowak\"\r\n\t<ewa@xn--w-uga1v8h.example>\r\n" +
		"Subject: Hello\r\nDate: Mon, 23 Nov 2026 15:04:05 +0100\r\nMessage-ID: <new@example.org>\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: text/plain; charset=us-ascii; format=flowed\r\nContent-Transfer-Encoding: 7bit\r\n\r\n" +
		" From here\r\n>quoted\r\nfine\r\n-- \r\nAla\r\n"
	if diff := cmp.Diff(want, write(t, &d)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"jan@them.example", "ewa@żółw.example", "secret@them.example"}, d.Recipients()); diff != "" {
		t.Errorf("recipients (-want +got):\n%s", diff)
	}
}

// TestReadBack writes letters of all kinds and reads them with our own reader and with Go's.
func TestReadBack(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("słowo ", 400)
	eml := "From: x@y.example\r\nSubject: inside\r\n\r\nDzień dobry\r\n"
	for name, d := range map[string]compose.Draft{
		"plain":            {Subject: "S", Text: "one\n\n  indented\nFrom x\n> quote\n>> deep"},
		"paragraphs":       {Subject: long, Text: long + "\n" + strings.Repeat("x", 3000) + "\n" + strings.Repeat("a ", 500) + "\nend"},
		"Polish":           {Subject: "Zażółć gęślą jaźń " + long, Text: "Zażółć\n=20 = x\n."},
		"attachments":      {Subject: "A", Text: "see", Attachments: []compose.Attachment{attachment("zażółć gęślą jaźń "+long+".pdf", "application/pdf", strings.Repeat("\x00\xff", 5000)), attachment(`quo"te.txt`, "text/plain; charset=utf-8", "ż"), attachment("", "nonsense", "")}},
		"enclosed":         {Subject: "E", Text: "", Attachments: []compose.Attachment{attachment("inside.eml", "message/rfc822", eml)}},
		"unfit to enclose": {Subject: "E", Text: "", Attachments: []compose.Attachment{attachment("inside.eml", "message/rfc822", "Subject: x\n\nbare\n")}},
		"encoded-word":     {Subject: "=?utf-8?q?raw?=", Text: "\u0007bell \xff"},
		"injection":        {Subject: "x\r\nBcc: evil@example.com", Text: "t", InReplyTo: "<a@b>\r\nX: y", References: []string{"<a@b>", "<bad id@b>", "<ż@b>"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d.From = store.Address{Name: "Ala = ?Ż? <x>", Address: "ala@example.org"}
			d.To = []store.Address{{Name: "Ewa\r\nX-Evil: 1", Address: "ewa@them.example"}}
			text := write(t, &d)
			m, err := netmail.ReadMessage(strings.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			if m.Header.Get("Bcc") != "" || m.Header.Get("X-Evil") != "" || m.Header.Get("X") != "" {
				t.Errorf("fields were smuggled in: %v", m.Header)
			}
			from, err := m.Header.AddressList("From")
			if err != nil || len(from) != 1 || from[0].Name != d.From.Name || from[0].Address != d.From.Address {
				t.Errorf("From is %v (%v)", from, err)
			}
			root, err := mime.Parse(strings.NewReader(text), int64(len(text)), mime.Limits{})
			if err != nil || root.AllDefects() != 0 {
				t.Errorf("defects %v (%v)", root.AllDefects(), err)
			}
			if message.NeedsUTF8(root.Header) {
				t.Errorf("the header section is not ASCII:\n%s", root.Header)
			}
			subject := strings.Join(strings.Fields(d.Subject), " ")
			if v, _ := message.Get(root.Header, "Subject"); mime.DecodeWords(v) != subject {
				t.Errorf("subject %.80q, want %.80q", mime.DecodeWords(v), subject)
			}
			same(t, &d, text)
		})
	}
}

// same reads a letter as a draft again and compares.
func same(t *testing.T, d *compose.Draft, text string) {
	t.Helper()
	l := add(t, openStore(t), strings.ReplaceAll(text, "\r\n", "\n"))
	got, err := compose.Read(account(), l)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.TrimRight(strings.ToValidUTF8(strings.ReplaceAll(d.Text, "\u0007", ""), "\uFFFD"), "\n ")
	var lines []string
	for line := range strings.SplitSeq(want, "\n") { // a quote is written with a blank behind its marks
		if rest := strings.TrimLeft(line, ">"); rest != line && rest != "" && rest[0] != ' ' {
			line = line[:len(line)-len(rest)] + " " + rest
		}
		lines = append(lines, strings.TrimRight(line, " "))
	}
	if diff := cmp.Diff(strings.Join(lines, "\n"), got.Text); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
	if len(got.Attachments) != len(d.Attachments) {
		t.Fatalf("%d attachments, want %d", len(got.Attachments), len(d.Attachments))
	}
	for i := range d.Attachments {
		a, b := content(t, &d.Attachments[i]), content(t, &got.Attachments[i])
		if a != b {
			t.Errorf("attachment %d: %d octets, want %d: %.80q", i, len(b), len(a), b)
		}
		if name := d.Attachments[i].Name; name != "" && got.Attachments[i].Name != strings.TrimSpace(name) {
			t.Errorf("attachment %d is named %q, want %q", i, got.Attachments[i].Name, name)
		}
	}
}

func content(t *testing.T, a *compose.Attachment) string {
	t.Helper()
	r, err := a.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestBrokenAttachment has an attachment that can't be read whole: nothing that looks whole is written.
func TestBrokenAttachment(t *testing.T) {
	t.Parallel()
	broken := errors.New("disk")
	for _, err := range []error{broken, io.ErrUnexpectedEOF} {
		d := compose.New(account())
		d.Attachments = []compose.Attachment{{Name: "x", Open: func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader("some"), iotest.ErrReader(err))), nil
		}}}
		if got := compose.Write(io.Discard, &d, now, id); !errors.Is(got, err) {
			t.Errorf("%v: got %v", err, got)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	to := []store.Address{{Address: "ewa@them.example"}}
	for name, tt := range map[string]struct {
		d    compose.Draft
		want []compose.Kind
	}{
		"fine":         {compose.Draft{To: to, Subject: "S", Text: "Hello"}, nil},
		"empty":        {compose.Draft{}, []compose.Kind{compose.NoRecipients, compose.NoSubject, compose.NoText}},
		"bad address":  {compose.Draft{To: []store.Address{{Address: "ewa"}}, Subject: "S", Text: "x"}, []compose.Kind{compose.BadAddress}},
		"promised":     {compose.Draft{To: to, Subject: "S", Text: "See the attached file."}, []compose.Kind{compose.NoAttachment}},
		"promised, pl": {compose.Draft{To: to, Subject: "S", Text: "W załączniku faktura."}, []compose.Kind{compose.NoAttachment}},
		"they did":     {compose.Draft{To: to, Subject: "S", Text: "Ewa wrote:\n> see the attached file\n\nThanks.\n-- \nattached"}, nil},
		"many":         {compose.Draft{To: make([]store.Address, 0), Cc: many(30), Subject: "S", Text: "x"}, []compose.Kind{compose.ManyRecipients}},
	} {
		tt.d.From = store.Address{Address: "ala@example.org"}
		var got []compose.Kind
		for _, p := range tt.d.Check() {
			got = append(got, p.Kind)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func many(n int) []store.Address {
	all := make([]store.Address, n)
	for i := range all {
		all[i].Address = string(rune('a'+i%26)) + strings.Repeat("x", i) + "@them.example"
	}
	return all
}

func TestParseAddresses(t *testing.T) {
	t.Parallel()
	good, bad := compose.ParseAddresses(`ewa@x.example; "Nowak, Jan" <jan@x.example>, Żółw (z) Jan <zolw@x.example>
nobody, Dr. No <no@x.example>,, ` + "\n")
	want := []store.Address{{Address: "ewa@x.example"}, {Name: "Nowak, Jan", Address: "jan@x.example"}, {Name: "Żółw Jan", Address: "zolw@x.example"}, {Name: "Dr. No", Address: "no@x.example"}}
	if diff := cmp.Diff(want, good); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"nobody"}, bad); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNewID(t *testing.T) {
	t.Parallel()
	d := compose.New(account())
	a, err := d.NewID(now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b, err := d.NewID(now, rand.Reader)
	if err != nil || a == b || !strings.HasSuffix(a, "@example.org>") {
		t.Errorf("%s %s %v", a, b, err)
	}
}

// FuzzText writes texts and subjects and reads them back.
func FuzzText(f *testing.F) {
	f.Add("Hello\n> quote\n", "Subject", "Ala", "file.txt")
	f.Add("From x\n -- \n-- \nż"+strings.Repeat("y ", 90), "=?x", "=?utf-8?q?x?=", "a\"b\\")
	f.Add("x", "x", strings.Repeat("[", 3000), "x")
	f.Add("x", strings.Repeat("x", 3000), strings.Repeat("x", 3000), strings.Repeat("x", 3000))
	f.Fuzz(func(t *testing.T, text, subject, name, file string) {
		d := compose.Draft{From: store.Address{Name: name, Address: "ala@example.org"}, Subject: subject, Text: text, Attachments: []compose.Attachment{attachment(file, "a/b", text)}}
		out := write(t, &d)
		root, err := mime.Parse(strings.NewReader(out), int64(len(out)), mime.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if len(root.Children) != 2 || message.NeedsUTF8(root.Header) && utf8.ValidString(subject+name) {
			t.Errorf("%d parts, header section\n%s", len(root.Children), root.Header)
		}
		if m, err := netmail.ReadMessage(strings.NewReader(out)); err != nil || m.Header.Get("Bcc") != "" {
			t.Errorf("%v %v", m, err)
		} else if from, err := m.Header.AddressList("From"); err != nil || len(from) != 1 || from[0].Address != "ala@example.org" {
			t.Errorf("From %q: %v", m.Header.Get("From"), err)
		}
		var got bytes.Buffer
		if _, err := io.Copy(&got, root.Children[1].Open(strings.NewReader(out))); err != nil || got.String() != text {
			t.Errorf("attachment %q, want %q", got.String(), text)
		}
	})
}
