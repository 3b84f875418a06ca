package extract_test

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/compound/compoundtest"
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

// document makes a PDF file of one page; without a table of places, which nothing reads.
func document(program string) []byte {
	return fmt.Appendf(nil, "%%PDF-1.4\n1 0 obj <</Type /Catalog /Pages 2 0 R>> endobj 2 0 obj <</Kids [3 0 R]>> endobj 3 0 obj <</Type /Page /Contents 4 0 R /Resources <</Font <</F <</Subtype /Type1 /BaseFont /Courier>>>>>>>> endobj "+
		"4 0 obj <</Length %d>> stream\n%s\nendstream endobj trailer <</Root 1 0 R>>", len(program), program)
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
		{"PDF", attach("application/pdf", "umowa.pdf", document("BT /F 9 Tf (Umowa najmu) Tj ET")), extract.Text{Body: "The text.", Inside: "Umowa najmu", Files: "umowa.pdf", Snippet: "The text.", Attachments: 1}},
		{"PDF by its type", attach("application/pdf", "", document("BT /F 9 Tf (Umowa) Tj ET")), extract.Text{Body: "The text.", Inside: "Umowa", Snippet: "The text.", Attachments: 1}},
		{"PDF by its name", attach("application/octet-stream", "X.PDF", document("BT /F 9 Tf (Umowa) Tj ET")), extract.Text{Body: "The text.", Inside: "Umowa", Files: "X.PDF", Snippet: "The text.", Attachments: 1}},
		{"broken PDF", attach("application/pdf", "x.pdf", []byte("%PDF-1.4\n")), extract.Text{Body: "The text.", Files: "x.pdf", Snippet: "The text.", Attachments: 1, Unread: []string{"x.pdf: no PDF file, or one without pages"}}},
		{"RTF", attach("application/msword", "a.rtf", []byte(`{\rtf1\ansicpg1250 za\'bf\'f3\'b3\'e6}`)), extract.Text{Body: "The text.", Inside: "zażółć", Files: "a.rtf", Snippet: "The text.", Attachments: 1}},
		{"RTF as text", attach("text/rtf", "a", []byte(`{\rtf1 a{\b b}c}`)), extract.Text{Body: "The text.", Inside: "abc", Files: "a", Snippet: "The text.", Attachments: 1}},
		{"RTF as doc", attach("application/msword", "a.doc", []byte(`{\rtf1 abc}`)), extract.Text{Body: "The text.", Inside: "abc", Files: "a.doc", Snippet: "The text.", Attachments: 1}},
		{"HTML as xls", attach("application/vnd.ms-excel", "a.xls", []byte("<html><table><tr><td>a<td>b</table>")), extract.Text{Body: "The text.", Inside: "a b", Files: "a.xls", Snippet: "The text.", Attachments: 1}},
		{"docx as doc", attach("application/msword", "a.doc", docx), extract.Text{Body: "The text.", Inside: "Umowa & aneks\nsecond", Files: "a.doc", Snippet: "The text.", Attachments: 1}},
		{"old PowerPoint", attach("application/vnd.ms-powerpoint", "a.ppt", compoundtest.File(compoundtest.Entry{Name: "PowerPoint Document", Content: []byte("\x00\x00\xa8\x0f\x05\x00\x00\x00Title")})), extract.Text{Body: "The text.", Inside: "Title", Files: "a.ppt", Snippet: "The text.", Attachments: 1}},
		{"old Excel, encrypted", attach("application/x", "a.xls", compoundtest.File(compoundtest.Entry{Name: "EncryptedPackage"})), extract.Text{Body: "The text.", Files: "a.xls", Snippet: "The text.", Attachments: 1, Unread: []string{"a.xls: the document asks for a password"}}},
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

// TestBounds holds that PDF files cost no more than a letter may, however many they are, and that what is
// not read is told of.
func TestBounds(t *testing.T) {
	t.Parallel()
	one := string(document("BT /F 1 Tf " + strings.Repeat("() Tj ", 10_000) + "(end) Tj ET"))
	var b strings.Builder
	b.WriteString("Content-Type: multipart/mixed; boundary=b\r\n")
	for i := range 12 {
		fmt.Fprintf(&b, "\r\n--b\r\nContent-Type: application/pdf; name=%d.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n%s", i, base64.StdEncoding.EncodeToString([]byte(one)))
	}
	b.WriteString("\r\n--b--\r\n")
	letter := b.String()
	got, err := extract.Read(strings.NewReader(letter), int64(len(letter)), extract.Limits{Work: 700_000})
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(got.Inside, "end"); n == 0 || n > 6 || len(got.Unread) != 8 || !strings.HasSuffix(got.Unread[7], "takes too long to read") {
		t.Errorf("%d files were read, not %q", n, got.Unread)
	}
	if got, err = extract.Read(strings.NewReader(letter), int64(len(letter)), extract.Limits{Packed: 1000}); err != nil || len(got.Unread) != 8 || got.Unread[0] != "0.pdf: it is too large" {
		t.Errorf("of large files: %q, %v", got.Unread, err)
	}
	if got, err = extract.Read(strings.NewReader(letter), int64(len(letter)), extract.Limits{Names: true}); err != nil || got.Inside != "" || got.Attachments != 12 || !strings.HasPrefix(got.Files, "0.pdf\n1.pdf") {
		t.Errorf("names alone: %q in %d attachments %q, %v", got.Inside, got.Attachments, got.Files, err)
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
	f.Add([]byte(attach("application/pdf", "k.pdf", document("BT /F 9 Tf (a) Tj ET"))))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := extract.Read(bytes.NewReader(b), int64(len(b)), extract.Limits{}); err != nil {
			t.Error(err)
		}
	})
}

// BenchmarkAttachment reads a letter with a PDF file of about 1 MB.
func BenchmarkAttachment(b *testing.B) {
	page := "BT /F 11 Tf 13 TL 72 760 Td " + strings.Repeat("[(Um) 20 (owa na) -15 (jmu lokalu nr 17/2026, za) 30 (warta w Gdyni)] TJ T* ", 9000) + "ET"
	text := attach("application/pdf", "k.pdf", document(page))
	b.SetBytes(int64(len(page)))
	b.ReportAllocs()
	for b.Loop() {
		got, err := extract.Read(strings.NewReader(text), int64(len(text)), extract.Limits{})
		if err != nil || len(got.Inside) < 300<<10 {
			b.Fatal(len(got.Inside), err)
		}
	}
}
