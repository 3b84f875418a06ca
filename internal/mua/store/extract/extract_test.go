package extract_test

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/mua/store/extract"
)

// archive makes a zip of names and contents.
func archive(t testing.TB, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		w, err := z.Create(files[i])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(files[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// attach makes a letter of a text and one attachment.
func attach(kind, name string, content []byte) string {
	return "Subject: s\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nThe text.\r\n--b\r\nContent-Type: " + kind + "\r\nContent-Disposition: attachment; filename=\"" + name +
		"\"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.StdEncoding.EncodeToString(content) + "\r\n--b--\r\n"
}

func read(t testing.TB, text string) *extract.Text {
	t.Helper()
	got, err := extract.Read(strings.NewReader(text), int64(len(text)), extract.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	got.Root = nil
	got.Body, got.Inside = strings.TrimSpace(got.Body), strings.TrimSpace(got.Inside)
	return got
}

func TestRead(t *testing.T) {
	t.Parallel()
	docx := archive(t, "[Content_Types].xml", "<x>no</x>", "word/document.xml",
		`<w:document><w:body><w:p><w:r><w:t>Umo</w:t></w:r><w:r><w:t>wa &amp; aneks</w:t></w:r></w:p><w:p><w:r><w:t>second</w:t></w:r></w:p></w:body></w:document>`, "word/styles.xml", "<w:p>style</w:p>")
	pptx := archive(t, "ppt/slides/slide10.xml", "<a:p><a:t>ten</a:t></a:p>", "ppt/slides/slide2.xml", "<a:p><a:t>two</a:t></a:p>")
	xlsx := archive(t, "xl/sharedStrings.xml", "<sst><si><t>Kwota</t></si><si><t>Razem</t></si></sst>")
	odt := archive(t, "content.xml", "<office:text><text:h>Head</text:h><text:p>one<text:tab/>two</text:p></office:text>", "styles.xml", "<text:p>no</text:p>")
	for _, c := range []struct {
		name, text string
		want       extract.Text
	}{
		{"plain", "Subject: x\r\n\r\nHello,\r\nworld.\r\n", extract.Text{Body: "Hello,\r\nworld.", Snippet: "Hello, world."}},
		{"HTML", "Content-Type: text/html\r\n\r\n<html><head><title>no</title><style>p{}</style></head><body><p>One</p><p>two&nbsp;&lt;three&gt;<b>f</b>our<script>no()</script></body>",
			extract.Text{Body: "One\ntwo\u00a0<three>four", Snippet: "One two <three>four"}},
		{"attachment of text", attach("text/plain", "notes.txt", []byte("secret words")), extract.Text{Body: "The text.", Inside: "secret words", Files: "notes.txt", Snippet: "The text.", Attachments: 1}},
		{"attachment of HTML", attach("text/html", "page.html", []byte("<p>secret</p>words")), extract.Text{Body: "The text.", Inside: "secret\nwords", Files: "page.html", Snippet: "The text.", Attachments: 1}},
		{"docx", attach("application/octet-stream", "umowa.DOCX", docx), extract.Text{Body: "The text.", Inside: "Umowa & aneks\nsecond", Files: "umowa.DOCX", Snippet: "The text.", Attachments: 1}},
		{"pptx", attach("application/vnd.openxmlformats-officedocument.presentationml.presentation", "x", pptx), extract.Text{Body: "The text.", Inside: "two\nten", Files: "x", Snippet: "The text.", Attachments: 1}},
		{"xlsx", attach("application/x", "k.xlsx", xlsx), extract.Text{Body: "The text.", Inside: "Kwota\nRazem", Files: "k.xlsx", Snippet: "The text.", Attachments: 1}},
		{"odt", attach("application/vnd.oasis.opendocument.text", "a/b\\c.odt", odt), extract.Text{Body: "The text.", Inside: "Head\none two", Files: "c.odt", Snippet: "The text.", Attachments: 1}},
		{"no archive", attach("application/x", "k.xlsx", []byte("PK rubbish")), extract.Text{Body: "The text.", Files: "k.xlsx", Snippet: "The text.", Attachments: 1}},
		{"picture", attach("image/png", "cat.png", []byte("\x89PNG")), extract.Text{Body: "The text.", Files: "cat.png", Snippet: "The text.", Attachments: 1}},
		{"enclosed letter", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nSee.\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: =?utf-8?q?Inner_=C5=82?=\r\nFrom: ewa@example.org\r\n\r\nInner text.\r\n--b--\r\n",
			extract.Text{Body: "See.\nInner text.", Inside: "Inner ł\newa@example.org", Snippet: "See. Inner text.", Attachments: 1}},
		{"pictures within HTML are none", "Content-Type: multipart/related; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n<img src=cid:1>x\r\n--b\r\nContent-Type: image/png; name=p.png\r\nContent-ID: <1>\r\n\r\nx\r\n--b--\r\n",
			extract.Text{Body: "x", Snippet: "x"}},
		{"signature", "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\nsigned\r\n--b\r\nContent-Type: application/pgp-signature\r\n\r\nx\r\n--b--\r\n", extract.Text{Body: "signed", Snippet: "signed"}},
	} {
		if diff := cmp.Diff(c.want, *read(t, c.text)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// TestAlternative holds that HTML that says what the plain text said is not read twice, and
// that it is where the plain text says nothing.
func TestAlternative(t *testing.T) {
	t.Parallel()
	letter := func(plain string) string {
		return "Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n\r\n" + plain + "\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>only in HTML</p>\r\n--b--\r\n"
	}
	if got := read(t, letter(strings.Repeat("a word ", 50))); strings.Contains(got.Body, "only in HTML") {
		t.Error("HTML is read beside a plain text")
	}
	if got := read(t, letter("see the HTML")); !strings.Contains(got.Body, "only in HTML") {
		t.Error("HTML is not read beside a plain text of nothing")
	}
}

// TestHostile reads letters that want to take all memory or all time.
func TestHostile(t *testing.T) {
	t.Parallel()
	zeros := strings.Repeat("<w:p>"+strings.Repeat("a", 1000)+"</w:p>", 60_000) // 60 MB, which pack to little
	bomb := archive(t, "word/document.xml", zeros)
	var many []string
	for i := range 5000 {
		many = append(many, fmt.Sprintf("ppt/slides/slide%d.xml", i), "<a:p>x</a:p>")
	}
	deep := strings.Repeat("<a:x>", 1_000_000)
	for name, text := range map[string]string{
		"zip bomb":        attach("application/x", "b.docx", bomb),
		"many files":      attach("application/x", "b.pptx", archive(t, many...)),
		"deep XML":        attach("application/x", "b.docx", archive(t, "word/document.xml", deep)),
		"endless tag":     attach("application/x", "b.docx", archive(t, "word/document.xml", "<"+strings.Repeat("a", 4<<20))),
		"HTML without >":  "Content-Type: text/html\r\n\r\n" + strings.Repeat("<div ", 500_000),
		"deep HTML":       "Content-Type: text/html\r\n\r\n" + strings.Repeat("<div>", 400_000) + "x",
		"deep multiparts": strings.Repeat("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n", 50_000),
		"long name":       attach("text/plain", strings.Repeat("n", 500_000), []byte("x")),
	} {
		got := read(t, text)
		if n := len(got.Body) + len(got.Inside) + len(got.Files); n > 1<<20+(16<<10)+10 {
			t.Errorf("%s: %d octets of text", name, n)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(attach("application/x", "k.docx", []byte("PK\x03\x04"))))
	f.Add([]byte("Content-Type: text/html\r\n\r\n<p>a</p"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := extract.Read(bytes.NewReader(b), int64(len(b)), extract.Limits{}); err != nil {
			t.Error(err)
		}
	})
}
