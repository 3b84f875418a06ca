package attachment_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/attachment"
	"poczta.example/poczta/internal/mime"
	"poczta.example/poczta/internal/verdict"
)

// sample is a file of testdata, unpacked.
func sample(tb testing.TB, name string) string {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	if strings.HasSuffix(name, ".gz") {
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			tb.Fatal(err)
		}
		if b, err = io.ReadAll(z); err != nil {
			tb.Fatal(err)
		}
	}
	return string(b)
}

func TestListings(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		format, file string
		want         []string
	}{
		{"7z", "plain.7z", []string{"Invoice 2026.pdf.exe", "readme.txt", "sub", "sub/run.vbs"}},
		{"7z", "encrypted.7z", []string{"Invoice 2026.pdf.exe", "readme.txt", "sub", "sub/run.vbs"}},
		{"7z", "encrypted-names.7z", nil},
		{"iso", "joliet.iso.gz", []string{"INVOICE_.EXE", "Invoice 2026.pdf.exe", "README.TXT", "RUN.VBS", "readme.txt", "run.vbs"}},
		{"iso", "plain.iso.gz", []string{"INVOICE_.EXE", "README.TXT", "RUN.VBS"}},
	} {
		t.Run(tc.file, func(t *testing.T) {
			t.Parallel()
			got := attachment.List(tc.format, sample(t, tc.file), 100)
			slices.Sort(got)
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// rar4 and rar5 write what RAR writes for files without compression.
func rar4(flags uint16, method byte, members ...member) string {
	le := binary.LittleEndian
	b := []byte("Rar!\x1a\x07\x00\xcf\x90\x73\x00\x00\x0d\x00\x00\x00\x00\x00\x00\x00")
	for _, m := range members {
		h := []byte{0, 0, 0x74}
		h = le.AppendUint16(h, 0x8000|flags)
		h = le.AppendUint16(h, uint16(32+len(m.name)))
		h = le.AppendUint32(h, uint32(len(m.content)))
		h = le.AppendUint32(h, uint32(len(m.content)))
		h = append(h, 0, 0, 0, 0, 0, 0, 0, 0, 0, 20, method)
		h = le.AppendUint16(h, uint16(len(m.name)))
		h = append(h, 0x20, 0, 0, 0)
		b = append(append(append(b, h...), m.name...), m.content...)
	}
	return string(b) + "\xc4\x3d\x7b\x00\x40\x07\x00"
}

func rar5(extra string, method byte, members ...member) string {
	b := []byte("Rar!\x1a\x07\x01\x00")
	block := func(body []byte) {
		b = append(b, 0, 0, 0, 0, byte(len(body)))
		b = append(b, body...)
	}
	block([]byte{1, 0, 0})
	for _, m := range members {
		h := []byte{2, 3, byte(len(extra)), byte(len(m.content)) | 0x80, byte(len(m.content) >> 7)}
		h = append(h, 0, byte(len(m.content))|0x80, byte(len(m.content)>>7), 0x20, method<<7&0x80, method>>1, 0, byte(len(m.name)))
		if method == 0 {
			h = slices.Concat(h[:9], []byte{0}, h[11:])
		}
		block(append(append(h, m.name...), extra...))
		b = append(b, m.content...)
	}
	block([]byte{5, 0, 0})
	return string(b)
}

func TestRAR(t *testing.T) {
	t.Parallel()
	const bad, differs, un, enc = verdict.BadAttachment, verdict.TypeDiffers, verdict.Uninspected, verdict.Encrypted
	exe, text := member{"b/a.exe", plain}, member{"a.pdf", program()}
	for _, tc := range []struct {
		name, content string
		want          []verdict.Name
	}{
		{"4, stored", rar4(0, 0x30, member{"a.txt", plain}), nil},
		{"4, stored, true type", rar4(0, 0x30, text), []verdict.Name{bad, differs}},
		{"4, compressed", rar4(0, 0x33, text), []verdict.Name{un}},
		{"4, name", rar4(0, 0x33, member{"a.txt", plain}, exe), []verdict.Name{bad, un}},
		{"4, encrypted", rar4(4, 0x33, text), []verdict.Name{enc}},
		{"4, names encrypted", "Rar!\x1a\x07\x00\xcf\x90\x73\x80\x00\x0d\x00\x00\x00\x00\x00\x00\x00xxxxxxxxx", []verdict.Name{enc}},
		{"4, cut", rar4(0, 0x33, exe)[:60], []verdict.Name{bad, un}},
		{"5, stored", rar5("", 0, member{"a.txt", plain}), nil},
		{"5, stored, true type", rar5("", 0, text), []verdict.Name{bad, differs}},
		{"5, compressed", rar5("", 3, text), []verdict.Name{un}},
		{"5, name", rar5("", 3, member{"a.txt", plain}, exe), []verdict.Name{bad, un}},
		{"5, encrypted", rar5("\x01\x01", 3, text), []verdict.Name{enc}},
		{"5, names encrypted", "Rar!\x1a\x07\x01\x00\x00\x00\x00\x00\x05\x04\x00\x00\x00\x0fxxxxxxx", []verdict.Name{enc}},
		{"5, cut", rar5("", 3, exe)[:40], []verdict.Name{un}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			expect(t, look(t, inspector(t, attachment.Config{}), "a.rar", tc.content), tc.want...)
		})
	}
	i := inspector(t, attachment.Config{})
	expect(t, look(t, i, "a.7z", sample(t, "plain.7z")), bad, verdict.DoubleExt, un)
	expect(t, look(t, i, "a.7z", sample(t, "encrypted.7z")), bad, verdict.DoubleExt, un, enc)
	expect(t, look(t, i, "a.7z", sample(t, "encrypted-names.7z")), enc)
	expect(t, look(t, i, "a.dat", sample(t, "joliet.iso.gz")), bad, verdict.DoubleExt)
}

// streamless is a 7z archive whose list comes out of a coder without an output.
func streamless() string {
	list := "\x17" + "\x06\x00\x01\x09\x05\x00" + "\x07\x0b\x01\x00" + "\x01\x13\x03\x01\x01\x01\x00" + "\x0c\x05\x00\x00"
	h := binary.LittleEndian.AppendUint64([]byte("7z\xbc\xaf\x27\x1c\x00\x04\x00\x00\x00\x00"), 0)
	h = binary.LittleEndian.AppendUint64(h, uint64(len(list)))
	return string(h) + "\x00\x00\x00\x00" + list
}

// TestSevenZipWithoutStreams ends.
func TestSevenZipWithoutStreams(t *testing.T) {
	t.Parallel()
	expect(t, look(t, inspector(t, attachment.Config{}), "a.7z", streamless()), verdict.Uninspected)
}

func TestTNEF(t *testing.T) {
	t.Parallel()
	attribute := func(level byte, id uint32, data string) string {
		b := binary.LittleEndian.AppendUint32([]byte{level}, id)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
		return string(b) + data + "\x00\x00"
	}
	s := "\x78\x9f\x3e\x22\x01\x00" + attribute(1, 0x00089006, "\x00\x00\x01\x00") +
		attribute(2, 0x00069002, strings.Repeat("\x00", 14)) + attribute(2, 0x00018010, "a.txt\x00") + attribute(2, 0x0006800f, plain) +
		attribute(2, 0x00069002, strings.Repeat("\x00", 14)) + attribute(2, 0x00018010, "b.pdf\x00") + attribute(2, 0x0006800f, program())
	expect(t, look(t, inspector(t, attachment.Config{}), "winmail.dat", s), verdict.BadAttachment, verdict.TypeDiffers)
	if d := cmp.Diff([]string{"a.txt", "b.pdf"}, attachment.List("tnef", s, 9)); d != "" {
		t.Error(d)
	}
}

// seeds are files of all formats.
func seeds(tb testing.TB) map[string][]string {
	return map[string][]string{
		"zip":  {archive(member{"a.txt", plain}, member{"b.zip", archive()}), stored(member{"a.txt", plain}), nested(2)},
		"rar":  {rar4(0, 0x30, member{"a", plain}), rar5("\x01\x01", 3, member{"a", plain}, member{"b", plain})},
		"7z":   {sample(tb, "plain.7z"), sample(tb, "encrypted.7z"), sample(tb, "encrypted-names.7z"), streamless()},
		"iso":  {sample(tb, "joliet.iso.gz")[:60<<10], sample(tb, "plain.iso.gz")[:60<<10]},
		"ole":  {compound(entryOf{"Workbook", 2, []byte("\x09\x08\x02\x00\x00\x06")}, entryOf{"Macros", 1, nil})},
		"tnef": {"\x78\x9f\x3e\x22\x01\x00\x02\x10\x80\x01\x00\x02\x00\x00\x00a\x00\x00\x00"},
	}
}

// fuzzList fuzzes the reader of one format: it ends, within its limit.
func fuzzList(f *testing.F, format string) {
	for _, s := range seeds(f)[format] {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got := attachment.List(format, s, 50); len(got) > 50 {
			t.Errorf("%d names are over the limit", len(got))
		}
	})
}

func FuzzZip(f *testing.F)      { fuzzList(f, "zip") }
func FuzzRAR(f *testing.F)      { fuzzList(f, "rar") }
func FuzzSevenZip(f *testing.F) { fuzzList(f, "7z") }
func FuzzISO(f *testing.F)      { fuzzList(f, "iso") }
func FuzzCompound(f *testing.F) { fuzzList(f, "ole") }
func FuzzTNEF(f *testing.F)     { fuzzList(f, "tnef") }

// FuzzXZ: whatever the window, what is unpacked is the same or an error.
func FuzzXZ(f *testing.F) {
	f.Add("\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4F\x02\x00!\x01\x16\x00\x00\x00t/\xe5\xa3\x01\x00\x04hello\x00\x00\x00")
	f.Add("\xfd7zXZ\x00\x00\x00\xff\x12\xd9A\x02\x00!\x01\x00\x00\x00\x00\xe0\x00\x1b\x00\x0a]\x000\x98")
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) > 4<<10 {
			return
		}
		small, err := attachment.UnpackXZ(s, 4<<10)
		if large, _ := attachment.UnpackXZ(s, 64<<10); err == nil && small != large {
			t.Errorf("%d octets with a small window, %d with a large", len(small), len(large))
		}
	})
}

// FuzzInspect goes through all: what comes is in the table, short, once for each name, and
// within the bounds.
func FuzzInspect(f *testing.F) {
	for _, all := range seeds(f) {
		for _, s := range all {
			f.Add("a.dat", s)
			f.Add("a.eml", zipped(s))
		}
	}
	f.Add("a.tgz", zipped(tarred(member{"a.html", "<html><script>"})))
	f.Add("a\u202eexe.pdf .exe", program())
	f.Add("a.eml", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Disposition: attachment; filename=a.exe\r\n\r\nx\r\n--b--\r\n")
	var held int64
	i := inspector(f, attachment.Config{Files: 50, Unpacked: 4 << 20, Spool: 1 << 20, Memory: 1 << 20, Hooks: attachment.Hooks{Memory: func(n int64) { held = n }}})
	f.Fuzz(func(t *testing.T, name, s string) {
		p := &mime.Part{Type: "application", Subtype: "octet-stream", Filename: name, Disposition: "attachment", End: int64(len(s))}
		seen := map[verdict.Name]bool{}
		for _, it := range i.Inspect(t.Context(), strings.NewReader(s), []*mime.Part{p}) {
			if seen[it.Name] || len(it.Detail) > verdict.MaxDetailOctets || verdict.Rows[it.Name].Meaning == "" {
				t.Errorf("item %+v", it)
			}
			seen[it.Name] = true
		}
		if held != 0 {
			t.Errorf("still holds %d octets", held)
		}
	})
}

func BenchmarkInspect(b *testing.B) {
	i := inspector(b, attachment.Config{})
	for name, s := range map[string]string{
		"pdf": pdf + strings.Repeat("0 0 obj\n", 12<<10), "zip": archive(member{"a.txt", plain}, member{"b.txt", plain}),
		"docm": archive(member{"[Content_Types].xml", ""}, member{"word/vbaProject.bin", compound(entryOf{"VBA", 1, nil})}),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(s)))
			for b.Loop() {
				look(b, i, "a."+name, s)
			}
		})
	}
}
