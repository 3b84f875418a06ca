package pdf_test

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/mua/store/extract/pdf"
)

// stream is an object with data behind its dictionary.
func stream(dictionary, data string) string {
	return fmt.Sprintf("<<%s /Length %d>>\nstream\n%s\nendstream", dictionary, len(data), data)
}

func deflate(s string) string {
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	_, _ = w.Write([]byte(s))
	_ = w.Close()
	return b.String()
}

// file numbers the objects from 1 on; the first is the catalogue. There is no table of places: none is read.
func file(objects ...string) []byte {
	var b strings.Builder
	b.WriteString("%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
	for i, o := range objects {
		fmt.Fprintf(&b, "%d 0 obj\n%s\nendobj\n", i+1, o)
	}
	b.WriteString("trailer\n<</Root 1 0 R>>\nstartxref\n0\n%%EOF\n")
	return []byte(b.String())
}

const (
	catalogue = "<</Type /Catalog /Pages 2 0 R>>"
	tree      = "<</Type /Pages /Kids [3 0 R] /Count 1>>"
	helvetica = "<</Type /Font /Subtype /Type1 /BaseFont /Helvetica>>"
)

// page is a file of one page, its program, and the font F.
func page(program, font string, more ...string) []byte {
	return file(append([]string{catalogue, tree, "<</Type /Page /Parent 2 0 R /Contents 4 0 R /Resources <</Font <</F 5 0 R>> /XObject <</X 6 0 R>>>>>>", stream("", program), font}, more...)...)
}

func TestText(t *testing.T) {
	t.Parallel()
	wide := "<</Type /Font /Subtype /Type0 /Encoding /Identity-H /ToUnicode 6 0 R /DescendantFonts [<</DW 500>>]>>"
	cmap := stream("", "1 begincodespacerange <0000> <ffff> endcodespacerange 2 beginbfchar <0001> <0142> <0002> <FB01> endbfchar 2 beginbfrange <0010> <0012> <0061> <0020> <0021> [<017C> <00F3>] endbfrange")
	for _, c := range []struct {
		name string
		raw  []byte
		want string
	}{
		{"words", page("BT /F 12 Tf 72 700 Td (Hello) Tj 40 0 Td (world) Tj ET", helvetica), "Hello world\n"},
		{"one word in pieces", page("BT /F 12 Tf 72 700 Td (Hel) Tj 18 0 Td (lo) Tj ET", helvetica), "Hello\n"},
		{"kerning is no blank, a gap is", page("BT /F 12 Tf [(W) 80 (ord) -400 (two)] TJ ET", helvetica), "Word two\n"},
		{"lines", page("BT /F 12 Tf 14 TL (one) Tj T* (two) Tj (three) ' ET", helvetica), "one\ntwo\nthree\n"},
		{"a word parted at the end of a line", page("BT /F 12 Tf 14 TL (extraordi-) Tj T* (nary) Tj T* (A-) Tj T* (B) Tj ET", helvetica), "extraordinary\nA-\nB\n"},
		{"escapes", page("BT /F 12 Tf (\\(a\\)\\101\\\nb\\\\) Tj <4344 4> Tj ET", helvetica), "(a)Ab\\CD@\n"},
		{"differences", page("BT /F 12 Tf (\x80\x81\x82\x83\x84 abc) Tj ET", "<</Subtype /Type1 /Encoding <</BaseEncoding /WinAnsiEncoding /Differences [128 /zdotaccent /oacute /lslash /uni0107 /f_i.liga]>>>>"), "żółćfi abc\n"},
		{"MacRoman", page("BT /F 12 Tf (\x8e) Tj ET", "<</Subtype /TrueType /Encoding /MacRomanEncoding>>"), "é\n"},
		{"codes of two octets", page("BT /F 12 Tf <0001001000110012000200200021> Tj ET", wide, cmap), "łabcfiżó\n"},
		{"a CMap with a name", page("BT /F 12 Tf <93FA967B> Tj ET", "<</Subtype /Type0 /Encoding /90ms-RKSJ-H /DescendantFonts [<<>>]>>"), "日本\n"},
		{"a form", page("BT /F 12 Tf (out) Tj ET /X Do", helvetica, stream("/Subtype /Form /Matrix [1 0 0 1 0 -50]", "BT /F 12 Tf (in) Tj ET")), "out\nin\n"},
		{"a picture within", page("BI /W 1 ID (Tj \x00 xEI EI BT /F 9 Tf (text) Tj ET", helvetica), "text\n"},
		{"text that is given", page("BT /F 12 Tf /Span <</ActualText (instead)>> BDC (xyz) Tj EMC 80 0 Td (then) Tj ET", helvetica), "instead then\n"},
		{"an accent drawn apart", page("BT /F 12 Tf [(c) 500 (\\302a)] TJ ET", helvetica), "ca\n"},
		{"turned", page("BT /F 12 Tf 0 1 -1 0 100 100 Tm (up) Tj 30 0 Td (wards) Tj ET", helvetica), "up wards\n"},
		{"packed", file(catalogue, tree, "<</Type /Page /Contents [4 0 R 5 0 R] /Resources <</Font <</F 6 0 R>>>>>>", stream("/Filter /FlateDecode", deflate("BT /F 9 Tf (packed")), stream("/Filter [/ASCIIHexDecode /Fl]", fmt.Sprintf("%x>", deflate("twice) Tj ET"))), helvetica), "packed twice\n"},
		{"fields and comments", file(catalogue, tree, "<</Type /Page /Annots [<</Contents (comment)>> <</Subtype /Widget /V (\xfe\xff\x01\x42)>>]>>"), "comment\nł\n"},
		{"an object stream", file(catalogue, "<</Type /Pages /Kids [7 0 R]>>", stream("/Type /ObjStm /N 2 /First 10 /Filter /FlateDecode", deflate("7 0 8 60  "+fmt.Sprintf("%-60s", "<</Type /Page /Contents 4 0 R /Resources <</Font 8 0 R>>>>")+"<</F 5 0 R>>")), stream("", "BT /F 9 Tf (boxed) Tj ET"), helvetica), "boxed\n"},
		{"no tree", file("<</Type /Catalog>>", "<</Type /Page /Contents 3 0 R /Resources <</Font <</F 4 0 R>>>>>>", stream("", "BT /F 1 Tf (lost) Tj ET"), helvetica), "lost\n"},
		{"the later object counts", append(page("BT /F 12 Tf (old) Tj ET", helvetica), []byte("4 0 obj\n"+stream("", "BT /F 12 Tf (new) Tj ET")+"\nendobj\n")...), "new\n"},
		{"rubbish in front, a wrong length", []byte("junk\n" + strings.Replace(string(page("BT /F 12 Tf (text) Tj ET", helvetica)), "/Length 27", "/Length 9999", 1)), "text\n"},
	} {
		got, err := pdf.Read(c.raw, pdf.Limits{})
		if diff := cmp.Diff(c.want, string(got.Text)); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", c.name, err, diff)
		}
	}
}

// TestSamples reads files that other programs made (testdata/make.sh).
func TestSamples(t *testing.T) {
	t.Parallel()
	const polish = "Zażółć gęślą jaźń. Umowa najmu lokalu nr 17/2026, zawarta w Łodzi.\nEfficient office: fficial flow final waffle.\n"
	for name, want := range map[string]string{
		"cairo.pdf": polish, "objects.pdf": polish, "rc4-40.pdf": polish, "rc4-128.pdf": polish, "aes-128.pdf": polish, "aes-256.pdf": polish, "ghostscript.pdf": polish, "linear.pdf": polish,
		"columns.pdf": "Left column alpha beta gamma. Right column delta epsilon zeta.\n", "scan.pdf": "",
		"groff.pdf": "Umowa najmu\nThe efficient office flow of fish, extraordinarily complicated.\n",
	} {
		raw, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := pdf.Read(raw, pdf.Limits{})
		if diff := cmp.Diff(want, string(got.Text)); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
		for cut := 0; cut < len(raw); cut += 501 { // cut off at any place, it must end
			_, _ = pdf.Read(raw[:cut], pdf.Limits{})
		}
	}
	raw, err := os.ReadFile(filepath.Join("testdata", "password.pdf"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := pdf.Read(raw, pdf.Limits{}); !errors.Is(err, pdf.ErrPassword) || len(got.Text) > 0 {
		t.Errorf("a file with a password: %q, %v", got.Text, err)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for name, raw := range map[string][]byte{"no PDF": []byte("hello"), "empty": nil, "no pages": []byte("%PDF-1.4\n1 0 obj\n<</Type /Catalog>>\nendobj")} {
		if _, err := pdf.Read(raw, pdf.Limits{}); !errors.Is(err, pdf.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	raw := page("BT /F 12 Tf "+strings.Repeat("(word ) Tj ", 1000)+"ET", helvetica)
	if got, err := pdf.Read(raw, pdf.Limits{Work: 60_000}); !errors.Is(err, pdf.ErrLimit) || len(got.Text) == 0 {
		t.Errorf("little work: %d octets, %v", len(got.Text), err)
	}
	if got, err := pdf.Read(raw, pdf.Limits{Text: 101}); err != nil || len(got.Text) > 101 {
		t.Errorf("little text: %d octets, %v", len(got.Text), err)
	}
}

func FuzzRead(f *testing.F) {
	names, err := filepath.Glob("testdata/*.pdf")
	if err != nil || len(names) == 0 {
		f.Fatal("no samples", err)
	}
	for _, n := range names {
		raw, err := os.ReadFile(n)
		if err != nil {
			f.Fatal(err)
		}
		if len(raw) < 8_000 {
			f.Add(raw)
		}
	}
	f.Add(page("BT /F 12 Tf [(Hello) -400 <41>] TJ ET /X Do", helvetica, stream("/Subtype /Form", "BT /F 12 Tf (in) Tj ET")))
	f.Add(page("BT /F 1 Tf <00010002> Tj ET", "<</Subtype /Type0 /ToUnicode 6 0 R /DescendantFonts [<</W [0 [1 2] 3 4 5]>>]>>", stream("", "1 begincodespacerange <00> <ff> endcodespacerange 1 beginbfrange <00> <ff> <0041> endbfrange")))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := pdf.Read(raw, pdf.Limits{Text: 64 << 10, Work: 1 << 20})
		if len(got.Text) > 64<<10 {
			t.Errorf("%d octets", len(got.Text))
		}
		again, err2 := pdf.Read(raw, pdf.Limits{Text: 64 << 10, Work: 1 << 20})
		if !bytes.Equal(got.Text, again.Text) || !errors.Is(err2, err) {
			t.Error("read twice, it says something else")
		}
	})
}

// BenchmarkRead reads a file of about 1 MB, pages of text as a word processor makes them.
func BenchmarkRead(b *testing.B) {
	raw := large()
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		got, err := pdf.Read(raw, pdf.Limits{})
		if err != nil || len(got.Text) < 400<<10 {
			b.Fatal(len(got.Text), err)
		}
	}
}
