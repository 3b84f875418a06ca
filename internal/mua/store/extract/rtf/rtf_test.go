package rtf_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/mua/store/extract/rtf"
)

func TestText(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, raw, want string }{
		{"words", `{\rtf1\ansi Hello {\b bold} world\par second\line third}`, "Hello bold world\nsecond\nthird"},
		{"code page", `{\rtf1\ansi\ansicpg1250 Za\'bf\'f3\'b3\'e6}`, "Zażółć"},
		{"a font's code page", `{\rtf1\ansi\ansicpg1252{\fonttbl{\f0\fcharset0 Times;}{\f1\fcharset238 Times CE;}{\f2\fcharset204 Times Cyr;}}\f1 \'b3{\f2 \'e4\'e0} \f0 \'e9}`, "łда é"},
		{"two octets a character", `{\rtf1{\fonttbl{\f0\fcharset128 Mincho;}}\f0 \'93\'fa\'96{\b }\'7b}`, "日本"[:3] + "\ufffd{"},
		{"two octets a character, the second in ASCII", `{\rtf1{\fonttbl{\f0\fcharset128 Mincho;}}\f0 \'83A\'83\'65}`, "アテ"},
		{"Unicode", `{\rtf1\uc1 \u322\'b3\u380?\u-10179?\u-8704? x\uc0\u322 y\uc2\u322\'b3\'b3z}`, "łż😀 xłyłz"},
		{"what stands for Unicode is one control word", `{\rtf1\uc1 a\u8212\emdash b}`, "a—b"},
		{"marks", `{\rtf1 a\emdash b\lquote c\rquote\~d\_e\-f\tab g}`, "a—b‘c’ d-ef g"},
		{"escapes", `{\rtf1 \{a\}\\b}`, `{a}\b`},
		{"destinations that are none", `{\rtf1{\stylesheet{\s0 Normal;}}{\info{\title T}}{\*\generator Word;}{\pict\pngblip 89504e47}a{\field{\*\fldinst HYPERLINK "x"}{\fldrslt link}}{\*\unknown no}}`, "alink"},
		{"shapes and notes", `{\rtf1 a{\shp{\*\shpinst{\sp{\sn x}{\sv 1}}{\shptxt shape}}}{\footnote note}}`, "ashapenote"},
		{"binary", "{\\rtf1 a\\bin5 }}}}}b\\bin99999999 c", "ab"},
		{"hidden", `{\rtf1 a{\v secret}b\v secret\v0 c\v no\plain d}`, "abcd"},
		{"table", `{\rtf1\trowd a\cell b\cell\row c\cell\row}`, "a b \nc \n"},
		{"newlines are nothing", "{\\rtf1 wo\r\nrd\\\nnext}", "word\nnext"},
		{"not closed", `{\rtf1 {a{b`, "ab"},
		{"closed too often", `{\rtf1 a}}}b`, "a"},
		{"no RTF", `hello`, ""},
		{"cut in a control word", `{\rtf1 a\'b`, "a"},
	} {
		if diff := cmp.Diff(c.want, string(rtf.Text([]byte(c.raw), 1<<20))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestHostile(t *testing.T) {
	t.Parallel()
	for name, raw := range map[string]string{
		"groups":     `{\rtf1 ` + strings.Repeat("{", 4<<20),
		"closed":     `{\rtf1 ` + strings.Repeat("{", 2000) + "deep" + strings.Repeat("}", 2000),
		"text":       `{\rtf1 ` + strings.Repeat("ł", 1<<20),
		"numbers":    `{\rtf1 \u` + strings.Repeat("9", 1<<20) + `\bin` + strings.Repeat("9", 1<<20) + " x",
		"fonts":      `{\rtf1{\fonttbl` + strings.Repeat(`{\f9\fcharset238 a;}{\f10\fcharset204 a;}`, 100_000) + "}x",
		"Unicode":    `{\rtf1` + strings.Repeat(`\u322?`, 1<<19),
		"a word":     `{\rtf1\` + strings.Repeat("a", 4<<20),
		"code pages": `{\rtf1 ` + strings.Repeat(`\'b3`, 1<<20),
	} {
		if got := rtf.Text([]byte(raw), 1000); len(got) > 1000 || !utf8.Valid(got) {
			t.Errorf("%s: %d octets", name, len(got))
		}
	}
}

func FuzzText(f *testing.F) {
	f.Add([]byte(`{\rtf1\ansi\ansicpg1250{\fonttbl{\f1\fcharset128 x;}}\f1 a\'b3\'83A\u322?\uc2\u-10179??\bin3 abc{\*\x y}\par}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		whole := rtf.Text(raw, 1<<20)
		if !utf8.Valid(whole) {
			t.Errorf("no UTF-8: %q", whole)
		}
		if part := rtf.Text(raw, 10); len(part) > 10 || !strings.HasPrefix(string(whole), string(part)) {
			t.Errorf("%q does not begin with %q", whole, part)
		}
	})
}

func BenchmarkText(b *testing.B) {
	raw := []byte(`{\rtf1\ansi\ansicpg1250 ` + strings.Repeat(`{\rtlch\fcs1 \af31507 \ltrch\fcs0 \insrsid123 Umowa najmu lokalu za\'bf\'f3\'b3\'e6 g\'ea\'9cl\'b9 }\par `, 10_000))
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if len(rtf.Text(raw, 1<<20)) < 100_000 {
			b.Fatal("little text")
		}
	}
}
