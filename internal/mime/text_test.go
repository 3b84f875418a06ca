package mime_test

import (
	"bytes"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/encoding/unicode/utf32"
)

// TestText: declared charsets, false and missing ones.
func TestText(t *testing.T) {
	t.Parallel()
	const russian = "Уважаемый господин, предлагаем вам новую квартиру в центре города. Звоните сегодня!\n"
	const chinese = "尊敬的客户,您好!我公司长期代开发票,欢迎来电咨询,谢谢合作。\n"
	const polish = "Zażółć gęślą jaźń.\n"
	const german = "Für die Übersendung der Rechnung danke ich Ihnen. Schöne Grüße\n"
	utf16 := unicode.UTF16(unicode.LittleEndian, unicode.UseBOM)
	tests := []struct {
		name, declared string
		e              encoding.Encoding
		text           string
	}{
		{"utf-8", "text/plain; charset=utf-8", nil, polish},
		{"undeclared utf-8", "text/plain", nil, polish},
		{"us-ascii that is utf-8", "text/plain; charset=us-ascii", nil, polish},
		{"byte order mark", "text/plain; charset=utf-8", unicode.UTF8BOM, polish},
		{"utf-16 by its mark", "text/plain", utf16, polish},
		{"utf-16", "text/plain; charset=utf-16", utf16, polish},
		{"utf-32", "text/plain; charset=UTF-32", utf32.UTF32(utf32.BigEndian, utf32.UseBOM), polish},
		{"iso-8859-2", "text/plain; charset=\"ISO-8859-2\"", charmap.ISO8859_2, polish},
		{"windows-1250", "text/plain; charset=cp1250", charmap.Windows1250, polish},
		{"cp852", "text/plain; charset=cp852", charmap.CodePage852, polish},
		{"undeclared Latin", "text/plain", charmap.Windows1252, german},
		{"utf-8 that is Latin", "text/plain; charset=utf-8", charmap.Windows1252, german},
		{"undeclared koi8-r", "text/plain", charmap.KOI8R, russian},
		{"undeclared windows-1251", "text/plain; charset=unknown-8bit", charmap.Windows1251, russian},
		{"undeclared gbk", "text/plain", simplifiedchinese.GBK, chinese},
		{"gb18030", "text/plain; charset=gb18030", simplifiedchinese.GB18030, chinese},
		{"hz", "text/plain; charset=hz-gb-2312", simplifiedchinese.HZGB2312, "尊敬的客户\n"},
		{"shift_jis", "text/plain; charset=x-sjis", japanese.ShiftJIS, "日本語\n"},
		{"undeclared iso-2022-jp", "text/plain", japanese.ISO2022JP, "日本語\n"},
		{"declared by html", "text/html", charmap.ISO8859_2, "<meta charset=iso-8859-2>" + polish},
		{"unknown", "text/plain; charset=nonsense", nil, polish},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, n := range []int{1, 400} { // short, and longer than what is looked at to guess
				want := strings.Repeat(tt.text, n)
				raw := []byte(want)
				if tt.e != nil {
					b, err := tt.e.NewEncoder().Bytes(raw)
					if err != nil {
						t.Fatal(err)
					}
					raw = b
				}
				msg := append([]byte("Content-Type: "+tt.declared+"\n\n"), raw...)
				p := parse(t, msg)
				if got := all(t, p.Text(bytes.NewReader(msg))); got != want {
					t.Fatalf("got %.200q, want %.200q", got, want)
				}
			}
		})
	}
}

// TestOpen: encodings as they come, read whole and octet by octet.
func TestOpen(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 5000)
	tests := []struct{ name, encoding, in, want string }{
		{"base64", "base64", "SGVs\r\nbG8=\r\n", "Hello"},
		{"base64 without padding", "base64", "SGVsbG8", "Hello"},
		{"base64 joined", "base64", "SGVsbG8=V29ybGQ=", "HelloWorld"},
		{"base64 with rubbish", "BASE64", "SG!!Vs bG8\x00=", "Hello"},
		{"quoted-printable", "quoted-printable", "a=C5=82=\r\nb =\n c  \r\nd=3d=zz=", "ałb  c\r\nd==zz"},
		{"quoted-printable, blanks", "Quoted-Printable", "a b \t\nc= \t\nd " + long + "  ", "a b\ncd " + long},
		{"quoted-printable, misspelt", "quoted/printable", "=41", "A"},
		{"uuencode", "x-uuencode", "begin 644 a\n#86)C\n`\nend\n", "abc"},
		{"none", "8bit", "=41\r\n", "=41\r\n"},
		{"unknown", "x-zip", "=41", "=41"},
		{"long lines", "quoted-printable", strings.Repeat("=41"+long+" ", 20) + "=", strings.TrimSuffix(strings.Repeat("A"+long+" ", 20), "")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			msg := []byte("Content-Transfer-Encoding: " + tt.encoding + "\n\n" + tt.in)
			p := parse(t, msg)
			if got := all(t, p.Open(bytes.NewReader(msg))); got != tt.want {
				t.Errorf("got %.300q, want %.300q", got, tt.want)
			}
			if got := all(t, iotest.OneByteReader(p.Open(bytes.NewReader(msg)))); got != tt.want {
				t.Errorf("octet by octet: got %.300q, want %.300q", got, tt.want)
			}
		})
	}
}

// TestUUEncodedBlocks: blocks in a text are parts, and the text is what is around them.
func TestUUEncodedBlocks(t *testing.T) {
	t.Parallel()
	msg := []byte("Subject: s\n\nbefore\nbegin 644 a.exe\n#86)C\n`\nend\nbetween\nbegin 1 fake\nbegin 644 b\nno line of it\nbegin 755 c.txt\n#86)C\nno end\n")
	p := parse(t, msg)
	if got, want := tree(p), "text/plain(application/octet-stream[a.exe] application/octet-stream[c.txt])"; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	r := bytes.NewReader(msg)
	if got, want := all(t, p.Text(r)), "before\n\nbetween\nbegin 1 fake\nbegin 644 b\nno line of it\n"; got != want {
		t.Errorf("text %q, want %q", got, want)
	}
	for _, c := range p.Children {
		if got := all(t, c.Open(r)); got != "abc" {
			t.Errorf("%s: got %q", c.Filename, got)
		}
	}
	if !p.Leaf() || !p.Children[0].Leaf() {
		t.Error("a text with blocks is a leaf, and so are they")
	}
}
