package office97_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/compound/compoundtest"
	"poczta.example/poczta/internal/mua/store/extract/office97"
)

func le16(n ...int) (b []byte) {
	for _, n := range n {
		b = binary.LittleEndian.AppendUint16(b, uint16(n))
	}
	return b
}

func le32(n ...int) (b []byte) {
	for _, n := range n {
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
	}
	return b
}

func wide(s string) (b []byte) {
	for _, u := range utf16.Encode([]rune(s)) {
		b = append(b, le16(int(u))...)
	}
	return b
}

// word is a document of Word 97 of two pieces, the first of octets and the second of UTF-16; flags
// are those of its head.
func word(first, second string, flags int) []byte {
	head := make([]byte, 0x400)
	copy(head, "\xec\xa5\xc1\x00")
	copy(head[0x0a:], le16(flags|1<<9))
	units := len(wide(second)) / 2
	plc := slices.Concat(le32(0, len(first), len(first)+units), le16(0), le32(0x400*2|1<<30), le16(0), le16(0), le32(0x400+len(first)), le16(0))
	clx := slices.Concat([]byte{1}, le16(3), []byte("abc\x02"), le32(len(plc)), plc)
	copy(head[0x1a2:], le32(10, len(clx)))
	return compoundtest.File(compoundtest.Entry{Name: "WordDocument", Content: slices.Concat(head, []byte(first), wide(second))},
		compoundtest.Entry{Name: "1Table", Content: slices.Concat(make([]byte, 10), clx)})
}

// word95 is a document of Word 95 in Polish.
func word95(text string) []byte {
	head := make([]byte, 0x300)
	copy(head, "\xdc\xa5\x68\x00")
	copy(head[6:], le16(0x415))
	copy(head[0x18:], le32(0x300, 0x300+len(text)))
	return compoundtest.File(compoundtest.Entry{Name: "WordDocument", Content: append(head, text...)})
}

func record(id int, b ...[]byte) []byte {
	all := slices.Concat(b...)
	return slices.Concat(le16(id, len(all)), all)
}

// excel is a workbook of records behind its first.
func excel(version int, records ...[]byte) []byte {
	return compoundtest.File(compoundtest.Entry{Name: map[bool]string{true: "Workbook", false: "Book"}[version >= 0x600], Content: slices.Concat(record(0x809, le16(version, 5)), slices.Concat(records...))})
}

// atom is a record of a presentation.
func atom(version, kind int, b ...[]byte) []byte {
	all := slices.Concat(b...)
	return slices.Concat(le16(version, kind), le32(len(all)), all)
}

func TestText(t *testing.T) {
	t.Parallel()
	rich := slices.Concat(le16(4), []byte{1 | 4 | 8}, le16(1), le32(3), wide("żółw"), le32(0), []byte("ext"))
	sst := record(0xfc, le32(3, 3), le16(5), []byte{0}, []byte("Kwota"), rich, le16(6), []byte{0}, []byte("raz"))
	cut := record(0x3c, []byte{1}, wide("ęśą"))
	slide := atom(15, 0x3ee, atom(0, 0xfa8, []byte("Title\rtwo")), atom(0, 0xfa0, wide("Łódź")))
	for _, c := range []struct {
		name string
		raw  []byte
		want string
	}{
		{"Word", word("Dear \x13 HYPERLINK x \x14link\x15,\r", "zażółć 😀\x07tab\tle\x1eA\x1f\x01.\r", 0), "Dear link,\nzażółć 😀 tab le-A.\n"},
		{"Word of long text", word(strings.Repeat("word ", 1000), "end", 0), strings.Repeat("word ", 1000) + "end"},
		{"Word 95", word95("za\xbf\xf3\xb3\xe6\r"), "zażółć\n"},
		{"Excel", excel(0x600, record(0x85, le32(0), le16(0), []byte{5, 1}, wide("Łódka")), sst, cut, record(0x204, le16(1, 1, 1, 3), []byte{0}, []byte("lab")), record(0x207, le16(2), []byte{1}, wide("ół"))),
			"Łódka\nKwota\nżółw\nrazęśą\nlab\nół\n"},
		{"Excel, a comment", excel(0x600, record(0x1b6, make([]byte, 10), le16(4), make([]byte, 6)), record(0x3c, []byte{0}, []byte("note")), record(0x3c, make([]byte, 8))), "note\n"},
		{"Excel 95", excel(0x500, record(0x42, le16(1250)), record(0x204, le16(1, 1, 1, 4), []byte("\xb3\xf3dka"))), "łódk\n"},
		{"PowerPoint", compoundtest.File(compoundtest.Entry{Name: "PowerPoint Document", Content: slices.Concat(atom(15, 0x3f8, atom(0, 0xfa8, []byte("Click here"))), slide, atom(0, 0xfba, wide("no")))}), "Title\ntwo\nŁódź\n"},
		{"Outlook", compoundtest.File(compoundtest.Entry{Name: "__properties_version1.0"}, compoundtest.Entry{Name: "__substg1.0_1000001F", Content: wide("Treść")}, compoundtest.Entry{Name: "__substg1.0_0037001E", Content: []byte("Subject")}), "Subject\nTreść\n"},
	} {
		got, err := office97.Text(c.raw, 1<<20)
		if diff := cmp.Diff(c.want, string(got)); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", c.name, err, diff)
		}
		if got, _ := office97.Text(c.raw, 6); len(got) > 6 || !utf8.Valid(got) {
			t.Errorf("%s: %q is more than was asked for", c.name, got)
		}
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		raw  []byte
		want error
	}{
		"nothing":               {nil, office97.ErrFormat},
		"another file":          {compoundtest.File(compoundtest.Entry{Name: "x"}), office97.ErrFormat},
		"Word, encrypted":       {word("a", "b", 1<<8), office97.ErrPassword},
		"Word, cut":             {compoundtest.File(compoundtest.Entry{Name: "WordDocument", Content: []byte("\xec\xa5\xc1\x00")}), office97.ErrFormat},
		"Excel, encrypted":      {excel(0x600, record(0x2f, le16(1))), office97.ErrPassword},
		"Office, encrypted":     {compoundtest.File(compoundtest.Entry{Name: "EncryptedPackage"}), office97.ErrPassword},
		"PowerPoint, encrypted": {compoundtest.File(compoundtest.Entry{Name: "PowerPoint Document"}, compoundtest.Entry{Name: "EncryptedSummary"}), office97.ErrPassword},
	} {
		if got, err := office97.Text(c.raw, 100); !errors.Is(err, c.want) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func FuzzText(f *testing.F) {
	f.Add(word("first \x13x\x14", "second", 0))
	f.Add(word95("text"))
	f.Add(excel(0x600, record(0xfc, le32(1, 1), le16(5), []byte{12}, le16(1), le32(1), []byte("Kwota")), record(0x3c, []byte{1}), record(0x1b6, make([]byte, 18)), record(0x3c, []byte{1, 2})))
	f.Add(compoundtest.File(compoundtest.Entry{Name: "PowerPoint Document", Content: atom(15, 0x3ee, atom(0, 0xfa8, []byte("Title")))}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if got, _ := office97.Text(raw, 1000); len(got) > 1000 || !utf8.Valid(got) {
			t.Errorf("%q", got)
		}
	})
}

func BenchmarkWord(b *testing.B) {
	raw := word(strings.Repeat("umowa najmu lokalu ", 2000), "koniec", 0)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if got, err := office97.Text(raw, 1<<20); err != nil || len(got) < 38_000 {
			b.Fatal(len(got), err)
		}
	}
}
