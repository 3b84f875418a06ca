package content_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/content"
	"poczta.example/poczta/internal/verdict"
)

var now = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

func read(t testing.TB, msg string, f content.Facts) *content.Content {
	t.Helper()
	c, err := content.Read(strings.NewReader(msg), int64(len(msg)), f, content.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// found are the names of the items.
func found(c *content.Content) string {
	var names []string
	for _, it := range c.Items {
		names = append(names, string(it.Name))
	}
	return strings.Join(sorted(names), " ")
}

const fine = "Date: Mon, 23 Nov 2026 09:59:00 +0000\nMessage-ID: <1@example.com>\nTo: ala@example.org\n"

func ours(d string) bool { return d == "example.org" }

func TestHeaderEvidence(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, header, want string }{
		{"nothing odd", fine + "From: Ala <ala@example.com>\nSubject: A letter\n", ""},
		{"nothing at all", "X: y\n", "date_missing from_bad message_id_missing to_missing"},
		{"old", "Date: Mon, 2 Nov 2026 09:59:00 +0000\nMessage-ID: <1@example.com>\nTo: a@b.example\nFrom: a@b.example\n", "date_odd"},
		{"future", "Date: Wed, 25 Nov 2026 09:59:00 +0000\nMessage-ID: <1@example.com>\nTo: a@b.example\nFrom: a@b.example\n", "date_future"},
		{"unreadable", "Date: yesterday\nMessage-ID: <1@example.com>\nTo: a@b.example\nFrom: a@b.example\n", "date_odd"},
		{"two From", fine + "From: a@b.example\nFrom: c@d.example\n", "fields_repeated from_bad"},
		{"From without address", fine + "From: Ala\n", "from_bad"},
		{"From with unquoted specials", fine + "From: Ala [IT] <ala@example.com>\n", ""},
		{"two Subjects", fine + "From: a@b.example\nSubject: x\nsubject: y\n", "fields_repeated"},
		{"name is an address of others", fine + "From: \"service@bank.example\" <x@evil.test>\n", "from_name_is_address"},
		{"name is an address of the same owner", fine + "From: \"service@mail.example.com\" <x@example.com>\n", ""},
		{"name is ours", fine + "From: \"example.org support\" <x@evil.test>\n", "from_name_is_ours"},
		{"name is our address", fine + "From: \"boss@example.org\" <x@evil.test>\n", "from_name_is_address from_name_is_ours"},
		{"encoded name is ours", fine + "From: =?utf-8?B?ZXhhbXBsZS5vcmc=?= <x@evil.test>\n", "from_name_is_ours"},
		{"replies elsewhere", fine + "From: boss@example.com\nReply-To: boss77@gmail.com\n", "reply_to_elsewhere"},
		{"replies to the same free mail", fine + "From: a@gmail.com\nReply-To: b@gmail.com\n", ""},
		{"capitals", fine + "From: a@b.example\nSubject: BUY NOW AND SAVE MONEY\n", "subject_odd"},
		{"split letters", fine + "From: a@b.example\nSubject: cheap v.i.a.g.r.a here\n", "subject_odd"},
		{"invisible", fine + "From: a@b.example\nSubject: =?utf-8?Q?via=E2=80=8Bgra?=\n", "subject_odd"},
		{"initials", fine + "From: a@b.example\nSubject: J. R. R. Tolkien\n", ""},
		{"undisclosed", "Date: Mon, 23 Nov 2026 09:59:00 +0000\nMessage-ID: <1@example.com>\nFrom: a@b.example\nTo: undisclosed-recipients:;\n", "to_missing"},
		{"malformed line", fine + "From: a@b.example\nthis is no field\n", "header_malformed"},
		{"NUL", fine + "From: a@b.example\nX: \x00\n", "header_malformed"},
		{"raw octets", fine + "From: a@b.example\nX: \xff\n", "header_malformed"},
		{"list", fine + "From: a@b.example\nList-Id: Talk <talk.example.com>\n", "mailing_list"},
		{"bulk", fine + "From: a@b.example\nPrecedence: bulk\n", "mailing_list"},
		{"mixed scripts in the name", fine + "From: =?utf-8?Q?P=D0=B0ypal?= <x@evil.test>\n", "scripts_mixed"},
		{"mixed scripts in the subject", fine + "From: a@b.example\nSubject: =?utf-8?Q?Your_acc=D0=BEunt?=\n", "scripts_mixed"},
		{"two scripts in two words", fine + "From: a@b.example\nSubject: =?utf-8?B?UmU6INCf0YDQuNCy0LXRgg==?=\n", ""},
		{"repeated Content-Type", fine + "From: a@b.example\nContent-Type: text/plain\nContent-Type: text/html\n", "mime_malformed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, eol := range []string{"\n", "\r\n"} {
				msg := strings.ReplaceAll(tt.header+"\nThis is the letter.\n", "\n", eol)
				if got := found(read(t, msg, content.Facts{OurDomain: ours, Now: now})); got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			}
		})
	}
}

func TestHTMLEvidence(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("nothing to see here ", 30)
	tests := []struct{ name, html, text, want string }{
		{"plain", "<p>Hello <b>wor</b>ld</p><p>again", "Hello world\nagain", "html_only"},
		{"head, style, script, comment", "<html><head><title>T</title><style>p{}</style></head><body><!-- no --><script>x()</script>seen</body>", "seen", "html_form html_only"},
		{"head without end", "<head><title>T</title><body>seen", "seen", "html_only"},
		{"table", "<table><tr><td>a<td>b<tr><td>c</table>", "a b\nc", "html_only"},
		{"entities", "a&nbsp;b &amp; c&#x105;", "a b & cą", "html_only"},
		{"zero width", "v&#8203;i&shy;agra", "viagra", "html_only"},
		{"display none", "<div style='display:none'>" + long + "<div>x</div></div>seen", "seen", "html_hidden_text html_only"},
		{"font-size zero", "<span style='font-size:0px'>" + long + "</span>seen", "seen", "html_hidden_text html_only"},
		{"font-size zero undone within", "<td style='font-size:0'><p style='font-size:14px'>seen</p></td>", "seen", "html_only"},
		{"white on white", "<font color=white>" + long + "</font>seen", "seen", "html_hidden_text html_only"},
		{"white on black", "<table bgcolor=black><tr><td><font color=white>seen</font></table>", "seen", "html_only"},
		{"own background", "<p style='color:#123456;background:#123456'>" + long + "</p>seen", "seen", "html_hidden_text html_only"},
		{"preview of a newsletter", "<div style='display:none'>This week in the news</div>seen", "seen", "html_only"},
		{"unclosed paragraph hides itself alone", "<p style='display:none'>x<p>seen", "seen", "html_only"},
		{"form", "<form action='http://evil.test/'><input></form>seen", "seen", "html_form html_only"},
		{"images", "<img src='http://a.test/1.png'>", "", "html_only image_only"},
		{"empty", "<p></p>", "", "body_empty html_only"},
		{"link differs", "<a href='http://evil.test/x'>www.bank.com</a>", "www.bank.com", "html_only link_differs"},
		{"link of one owner", "<a href='http://click.bank.com/x'>https://www.bank.com/login</a>", "https://www.bank.com/login", "html_only"},
		{"link shows a file name", "<a href='http://a.test/x'>report.doc</a>", "report.doc", "html_only"},
		{"bare address", "<a href='http://192.0.2.1/x'>here</a>", "here", "html_only link_to_address"},
		{"number", "<a href='http://3221225985/x'>here</a>", "here", "html_only link_disguised link_to_address"},
		{"userinfo", "<a href='http://www.bank.com@evil.test/x'>here</a>", "here", "html_only link_disguised"},
		{"escaped host", "<a href='http://%65vil.test/x'>here</a>", "here", "html_only link_disguised"},
		{"mixed host", "<a href='http://p\u0430ypal.com/'>here</a>", "here", "html_only link_disguised scripts_mixed"},
		{"idn of one script", "<a href='http://\u017c\u00f3\u0142w.pl/'>here</a>", "here", "html_only"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := read(t, fine+"From: a@b.example\nContent-Type: text/html; charset=utf-8\n\n"+tt.html, content.Facts{Now: now})
			if got := strings.TrimSpace(c.Text); got != tt.text {
				t.Errorf("text %q, want %q", got, tt.text)
			}
			if got := found(c); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestLinks(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, kind, body string
		want             []content.Link
	}{
		{"plain", "plain", "see http://a.test/x, (https://B.test:8080/y) and www.c.test.", []content.Link{
			{URL: "http://a.test/x", Host: "a.test", Shown: "http://a.test/x", Kind: content.Plain},
			{URL: "https://B.test:8080/y", Host: "b.test", Shown: "https://B.test:8080/y", Kind: content.Plain},
			{URL: "www.c.test", Host: "www.c.test", Shown: "www.c.test", Kind: content.Plain},
		}},
		{"html", "html", `<base href="http://base.test/d/"><a href=" java
script:x()">j</a><a href="x">rel</a><a href="#t">top</a><img src="cid:1"><img src="//img.test/i.png"><a href="mailto:a@b.test">write</a><a href="HTTP:\\slash.test\">s</a>`, []content.Link{
			{URL: "http://base.test/d/x", Host: "base.test", Shown: "rel", Kind: content.Anchor},
			{URL: "//img.test/i.png", Host: "img.test", Kind: content.Image},
			{URL: "mailto:a@b.test", Shown: "write", Kind: content.Anchor},
			{URL: `HTTP:\\slash.test\`, Host: "slash.test", Shown: "s", Kind: content.Anchor},
		}},
		{"text in html", "html", `go to http://a.test/1 <a href="http://b.test/">http://c.test/</a> www.d.test`, []content.Link{
			{URL: "http://a.test/1", Host: "a.test", Shown: "http://a.test/1", Kind: content.Plain},
			{URL: "http://b.test/", Host: "b.test", Shown: "http://c.test/", Kind: content.Anchor},
			{URL: "www.d.test", Host: "www.d.test", Shown: "www.d.test", Kind: content.Plain},
		}},
		{"hosts", "plain", "http://0x7f.1/ http://[2001:db8::1]:80/ http://\u017c\u00f3\u0142w.PL/", []content.Link{
			{URL: "http://0x7f.1/", Host: "127.0.0.1", Shown: "http://0x7f.1/", Kind: content.Plain},
			{URL: "http://[2001:db8::1]:80/", Host: "2001:db8::1", Shown: "http://[2001:db8::1]:80/", Kind: content.Plain},
			{URL: "http://żółw.PL/", Host: "xn--w-uga1v8h.pl", Shown: "http://żółw.PL/", Kind: content.Plain},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := read(t, fine+"Content-Type: text/"+tt.kind+"; charset=utf-8\n\n"+tt.body, content.Facts{})
			var got []content.Link
			for _, l := range c.Links {
				if !strings.Contains(l.URL, "script") {
					got = append(got, l)
				}
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestParts: attachments are listed, texts are read, those of enclosed messages too.
func TestParts(t *testing.T) {
	t.Parallel()
	c := read(t, fine+"From: a@b.example\nSubject: s\nContent-Type: multipart/mixed; boundary=x\n\n--x\n\nfirst\n--x\nContent-Type: application/pdf; name=a.pdf\n\nPDF\n"+
		"--x\nContent-Type: message/rfc822\n\nSubject: inner\n\nsecond\n--x\nContent-Type: text/plain\nContent-Disposition: attachment; filename=b.txt\n\nthird\n--x--\n", content.Facts{Now: now})
	if want := "first\nsecond"; c.Text != want {
		t.Errorf("text %q, want %q", c.Text, want)
	}
	var names []string
	for _, p := range c.Parts {
		names = append(names, p.Filename)
	}
	if got := strings.Join(names, " "); got != "a.pdf b.txt" {
		t.Errorf("parts %s", got)
	}
	if got := found(c); got != "" {
		t.Errorf("got %q", got)
	}
	if c.Subject != "s" || len(c.From) != 1 || c.From[0].Address.String() != "a@b.example" {
		t.Errorf("subject %q, from %v", c.Subject, c.From)
	}
}

// bomb is text that is made to cost time.
func bombs() map[string]string {
	html := fine + "Content-Type: text/html\n\n"
	n := 1 << 20
	rep := func(s string) string { return strings.Repeat(s, n/len(s)+1) }
	return map[string]string{
		"schemes":    fine + "\n" + rep("x://"),
		"urls":       fine + "\n" + rep("http://a.test/ "),
		"dots":       fine + "\n" + rep("www."),
		"tags":       html + rep("<div>"),
		"anchors":    html + rep("<a href=http://a.test>"),
		"attributes": html + "<a " + rep("a=b "),
		"styles":     html + rep("<p style='color:white;'>"),
		"open":       html + rep("<"),
		"subject":    "Subject: " + rep("a ") + "\n" + html,
		"to":         "To: " + rep("a@b,") + "\n" + html,
		"from":       "From: \"" + rep("example.org ") + "\" <a@b.example>\n" + html,
		"entities":   html + rep("&amp;"),
		"invisible":  fine + "Content-Type: text/plain; charset=utf-8\n\n" + rep("\u200b"),
		"at signs":   html + rep("<a href=http://@@@@>"),
	}
}

// TestBounds: text and links are cut where Limits say.
func TestBounds(t *testing.T) {
	t.Parallel()
	for name, msg := range bombs() {
		asked := 0
		c, err := content.Read(strings.NewReader(msg), int64(len(msg)), content.Facts{Now: now, OurDomain: func(string) bool { asked++; return false }},
			content.Limits{Text: 1000, Links: 10, URL: 100})
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Text) > 1000+1 || len(c.Links) > 10 || asked > 20 {
			t.Errorf("%s: %d octets of text, %d links, %d look-ups", name, len(c.Text), len(c.Links), asked)
		}
		for _, l := range c.Links {
			if len(l.URL) > 100 || len(l.Shown) > 100 {
				t.Errorf("%s: a link of %d and %d octets", name, len(l.URL), len(l.Shown))
			}
		}
	}
}

// check holds what is true of all content.
func check(t testing.TB, c *content.Content) {
	t.Helper()
	if !utf8.ValidString(c.Text) || !utf8.ValidString(c.Subject) {
		t.Fatal("text or subject is not UTF-8")
	}
	seen := map[verdict.Name]bool{}
	for _, it := range c.Items {
		if _, known := verdict.Rows[it.Name]; !known {
			t.Fatalf("%s has no row", it.Name)
		}
		if seen[it.Name] && it.Name != verdict.MixedScripts {
			t.Fatalf("%s is found twice", it.Name)
		}
		seen[it.Name] = true
		if len(it.Detail) > verdict.MaxDetailOctets || !utf8.ValidString(it.Detail) || strings.ContainsAny(it.Detail, "\r\n\x1b\x00") {
			t.Fatalf("%s: detail %q", it.Name, it.Detail)
		}
	}
	for _, l := range c.Links {
		if !utf8.ValidString(l.URL) || !utf8.ValidString(l.Shown) || strings.ContainsAny(l.Host, " \t\r\n/\\@") || strings.ToLower(l.Host) != l.Host {
			t.Fatalf("link %+v", l)
		}
	}
}

// TestForeign reads every message of the foreign suites.
func TestForeign(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("POCZTA_TESTDATA")
	files, _ := filepath.Glob(filepath.Join(dir, "mime", "*", "*.eml"))
	more, _ := filepath.Glob(filepath.Join(dir, "mime", "*", "*", "*.eml"))
	if dir == "" || len(files) == 0 {
		t.Skip("foreign test data is not here: set POCZTA_TESTDATA")
	}
	for _, file := range append(files, more...) {
		msg, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c := read(t, string(msg), content.Facts{Now: now, OurDomain: ours})
		check(t, c)
		if os.Getenv("POCZTA_DETAILS") != "" && strings.Contains(file, "rspamd") {
			t.Logf("%s: %v\n%v", filepath.Base(file), c.Items, c.Links)
		}
	}
	t.Logf("%d messages", len(files)+len(more))
}

func FuzzRead(f *testing.F) {
	for _, msg := range bombs() {
		f.Add([]byte(msg[:min(len(msg), 500)]))
	}
	f.Add([]byte("From: a\nContent-Type: text/html\n\n<p style='display:none;font-size:0'>x<a href='http://%41@0x7f.1/'>http://b.test</a>"))
	f.Fuzz(func(t *testing.T, msg []byte) {
		c, err := content.Read(bytes.NewReader(msg), int64(len(msg)), content.Facts{Now: now, OurDomain: ours}, content.Limits{Text: 300, Links: 5})
		if err != nil {
			t.Fatal(err)
		}
		check(t, c)
	})
}

func BenchmarkRead(b *testing.B) {
	text := strings.Repeat("Dear Ala, the letter that I have promised is here; it speaks of =C5=BB=C3=B3=C5=82w.\r\n", 12)
	msg := "Received: from a.example (a.example [192.0.2.1])\r\n\tby b.example (Postfix) with ESMTPS id 4F3C2\r\n\tfor <ala@example.org>; Mon, 23 Nov 2026 10:00:00 +0000\r\n" +
		"From: =?utf-8?Q?=C5=BB=C3=B3=C5=82w?= <z@example.com>\r\nTo: Ala <ala@example.org>\r\nSubject: =?utf-8?B?xbvDs8WCdw==?= and a letter\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\n" +
		"Message-ID: <1234@example.com>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=\"=_part\"\r\n\r\n" +
		"--=_part\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + text +
		"--=_part\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<html><body><p>" + text +
		"<a href=3D\"https://www.example.com/letter\">the letter</a></p></body></html>\r\n" + strings.Repeat("<p>The end of it all.</p>\r\n", 40) + "--=_part--\r\n"
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	r := strings.NewReader(msg)
	for b.Loop() {
		if _, err := content.Read(r, int64(len(msg)), content.Facts{Now: now, OurDomain: ours}, content.Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBombs(b *testing.B) {
	for name, msg := range bombs() {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(msg)))
			r := strings.NewReader(msg)
			for b.Loop() {
				if _, err := content.Read(r, int64(len(msg)), content.Facts{Now: now}, content.Limits{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// broken fails to read.
type broken struct{}

func (broken) ReadAt([]byte, int64) (int, error) { return 0, io.ErrClosedPipe }

func TestReaderError(t *testing.T) {
	t.Parallel()
	if _, err := content.Read(broken{}, 10, content.Facts{}, content.Limits{}); err == nil {
		t.Error("no error")
	}
}

func ExampleRead() {
	msg := "From: \"service@bank.example\" <x@evil.test>\n\nPlease log in at http://3221225985/\n"
	c, err := content.Read(strings.NewReader(msg), int64(len(msg)), content.Facts{}, content.Limits{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, it := range c.Items {
		fmt.Println(strings.TrimSpace(string(it.Name) + " " + it.Detail))
	}
	fmt.Println(c.Links[0].Host)
	// Output:
	// date_missing
	// message_id_missing
	// to_missing
	// from_name_is_address the name is an address of bank.example, the address is of evil.test
	// link_disguised a link writes an address as a number
	// link_to_address 192.0.2.1
	// 192.0.2.1
}
