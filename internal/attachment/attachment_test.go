package attachment_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/attachment"
	"poczta.example/poczta/internal/mime"
	"poczta.example/poczta/internal/verdict"
)

func inspector(tb testing.TB, c attachment.Config) *attachment.Inspector {
	tb.Helper()
	i, err := attachment.New(c)
	if err != nil {
		tb.Fatal(err)
	}
	return i
}

// look inspects one attachment.
func look(tb testing.TB, i *attachment.Inspector, name, content string) []verdict.Item {
	tb.Helper()
	p := &mime.Part{Type: "application", Subtype: "octet-stream", Filename: name, Disposition: "attachment", End: int64(len(content))}
	return i.Inspect(tb.Context(), strings.NewReader(content), []*mime.Part{p})
}

// names are the names of items, sorted.
func names(items []verdict.Item) string {
	var all []string
	for _, it := range items {
		all = append(all, string(it.Name))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// expect holds the names of items against those of want.
func expect(t *testing.T, items []verdict.Item, want ...verdict.Name) {
	t.Helper()
	var all []string
	for _, n := range want {
		all = append(all, string(n))
	}
	slices.Sort(all)
	if d := cmp.Diff(strings.Join(all, " "), names(items)); d != "" {
		t.Errorf("%s\n%+v", d, items)
	}
}

// program is the beginning of a Windows program.
func program() string {
	b := make([]byte, 256)
	copy(b, "MZ\x90\x00\x03")
	b[0x3c] = 0x80
	copy(b[0x80:], "PE\x00\x00")
	return string(b)
}

const (
	pdf   = "%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n"
	png   = "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
	plain = "Dear all,\nnothing is wrong with this text.\n"
)

func TestNames(t *testing.T) {
	t.Parallel()
	const bad, odd, double = verdict.BadAttachment, verdict.OddAttachment, verdict.DoubleExt
	for _, tc := range []struct {
		name string
		want []verdict.Name
	}{
		{"notes.txt", nil},
		{"", nil},
		{"Zażółć gęślą jaźń.txt", nil},
		{"a.b.c.txt", nil},
		{"no extension", nil},
		{"setup.exe", []verdict.Name{bad}},
		{"SETUP.EXE", []verdict.Name{bad}},
		{"run.js", []verdict.Name{bad}},
		{"disk.iso", []verdict.Name{bad}},
		{"jquery.min.js", []verdict.Name{bad}},
		{"script.py", []verdict.Name{odd}},
		{"invoice.pdf.exe", []verdict.Name{bad, double}},
		{"invoice.pdf .exe", []verdict.Name{bad, double}},
		{"invoice.pdf                                .exe", []verdict.Name{bad, double}},
		{"invoice                                    .exe", []verdict.Name{bad, double}},
		{"invoice\u2800\u2800\u2800\u2800\u2800\u2800\u2800.exe", []verdict.Name{bad, double}},
		{"invoice.exe.", []verdict.Name{bad}},
		{"invoice.exe . . ", []verdict.Name{bad}},
		{"invoice.exe/", []verdict.Name{bad}},
		{"invoice.exe\u200b", []verdict.Name{bad}},
		{"invoice. exe", []verdict.Name{bad}},
		{"invoice_\u202efdp.exe", []verdict.Name{bad, double}},
		{"invoice_\u202etxt.gpj", []verdict.Name{double}},
		{"\u2067עברית\u2069.txt", nil},
		{"עברית\u200f.txt", nil},
		{"a.exe::$DATA", []verdict.Name{bad}},
		{"a.exe\x00.txt", []verdict.Name{bad}},
		{"a.txt.{3050f4d8-98b5-11cf-bb82-00aa00bdce0b}", []verdict.Name{bad, double}},
		{`C:\fakepath\photo.jpg.scr`, []verdict.Name{bad, double}},
		{"../../etc/passwd", nil}, // no archive: nobody takes a folder from a mail's name
		{"x/evil.lnk", []verdict.Name{bad}},
		{"\xff\xfe.vbs", []verdict.Name{bad}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			expect(t, look(t, inspector(t, attachment.Config{}), tc.name, plain), tc.want...)
		})
	}
}

func TestConfiguredNames(t *testing.T) {
	t.Parallel()
	i := inspector(t, attachment.Config{Forbidden: []string{"TXT"}, Suspicious: []string{}})
	expect(t, look(t, i, "a.txt", plain), verdict.BadAttachment)
	expect(t, look(t, i, "a.exe", program()))
	expect(t, look(t, i, "a.py", plain))
	for _, c := range []attachment.Config{{Forbidden: []string{".exe"}}, {Suspicious: []string{""}}, {Depth: -1}, {Files: -1}, {Spool: 2, Memory: 1}, {Ratio: -1}} {
		if _, err := attachment.New(c); !errors.Is(err, attachment.ErrConfig) {
			t.Errorf("%+v: got %v", c, err)
		}
	}
}

func TestBothNames(t *testing.T) {
	t.Parallel()
	p := &mime.Part{Type: "application", Subtype: "octet-stream", Filename: "a.pdf", Params: map[string]string{"name": "a.exe"}, End: int64(len(pdf))}
	expect(t, inspector(t, attachment.Config{}).Inspect(t.Context(), strings.NewReader(pdf), []*mime.Part{p}), verdict.BadAttachment)
}

func TestTrueTypes(t *testing.T) {
	t.Parallel()
	const bad, differs, un = verdict.BadAttachment, verdict.TypeDiffers, verdict.Uninspected
	for _, tc := range []struct {
		name, content string
		want          []verdict.Name
	}{
		{"a.pdf", pdf, nil},
		{"a.pdf", program(), []verdict.Name{bad, differs}},
		{"a.jpg", png, nil},
		{"a.jpg", "\x7fELF\x02\x01\x01", []verdict.Name{bad, differs}},
		{"README", "\xcf\xfa\xed\xfe\x07\x00\x00\x01", []verdict.Name{bad}},
		{"a.txt", "MZ is a text that begins so, and goes on for sixty-four octets at the least.", nil},
		{"a.txt", "BM begins this text too, and it is no image whatever others may say.", nil},
		{"a.dat", "\xca\xfe\xba\xbe\x00\x00\x00\x34", []verdict.Name{bad}},
		{"a.dat", "\xca\xfe\xba\xbe\x00\x00\x00\x02", []verdict.Name{bad}},
		{"a.doc", "L\x00\x00\x00\x01\x14\x02\x00\x00\x00\x00\x00\xc0", []verdict.Name{bad, differs}},
		{"a.doc", "{\\rtf1 hello}", nil},
		{"a.doc", "<html>hello", nil},
		{"a.pdf", "<html>hello", []verdict.Name{differs}},
		{"a.jpg", "#!/bin/sh\nrm -rf /\n", []verdict.Name{differs}},
		{"rotate", "#!/bin/sh\n", nil},
		{"a.zip", "Rar!\x1a\x07\x00\xcf\x90\x73\x00\x00\x0d\x00\x00\x00\x00\x00\x00\x00", []verdict.Name{differs}},
		{"a.zst", "\x28\xb5\x2f\xfd\x00", []verdict.Name{un}},
		{"a.cab", "MSCF\x00\x00\x00\x00", []verdict.Name{bad, un}},
		{"a.txt", "conectix\x00\x00", []verdict.Name{bad, differs, un}},
		{"a.bin", strings.Repeat("\x01", 0x8001) + "CD001\x01" + strings.Repeat("\x00", 2042), []verdict.Name{bad}},
	} {
		t.Run(tc.name+" "+fmt.Sprintf("%.8q", tc.content), func(t *testing.T) {
			t.Parallel()
			expect(t, look(t, inspector(t, attachment.Config{}), tc.name, tc.content), tc.want...)
		})
	}
	p := &mime.Part{Type: "image", Subtype: "png", End: int64(len(program()))}
	expect(t, inspector(t, attachment.Config{}).Inspect(t.Context(), strings.NewReader(program()), []*mime.Part{p}), bad, differs)
}

func TestActs(t *testing.T) {
	t.Parallel()
	i := inspector(t, attachment.Config{})
	long := strings.Repeat("harmless words\n", 5000)
	for _, tc := range []struct {
		name, content string
		want          []verdict.Name
	}{
		{"a.html", "<!DOCTYPE html><p>hello", nil},
		{"a.html", "<html>" + long + "<ScRiPt>alert(1)</script>", []verdict.Name{verdict.OddAttachment}},
		{"a.html", "<html>" + long + "x = URL.createObjectURL(new Blob([", []verdict.Name{verdict.BadAttachment}},
		{"a.htm", "\xff\xfe<\x00h\x00t\x00m\x00l\x00>\x00<\x00s\x00c\x00r\x00i\x00p\x00t\x00>\x00", []verdict.Name{verdict.OddAttachment}},
		{"a.svg", `<?xml version="1.0"?><svg><script>`, []verdict.Name{verdict.BadAttachment}},
		{"a.svg", `<svg onload="x()">`, []verdict.Name{verdict.BadAttachment}},
		{"a.svg", `<svg><path d=""/></svg>`, nil},
		{"a.rtf", `{\rtf1 ` + long + `{\object\objocx{\*\objdata 0105}}}`, []verdict.Name{verdict.OddAttachment}},
		{"a.rtf", `{\rtf1 hello}`, nil},
		{"a.pdf", pdf + long + "<< /S /Launch >>", []verdict.Name{verdict.OddAttachment}},
	} {
		t.Run(tc.name+" "+fmt.Sprint(len(tc.content)), func(t *testing.T) {
			t.Parallel()
			expect(t, look(t, i, tc.name, tc.content), tc.want...)
		})
	}
	for at := range 80 { // a sign at every place about the end of a buffer
		pad := strings.Repeat("x", 36<<10-6-80+at)
		expect(t, look(t, i, "a.html", "<html>"+pad+"<script>"), verdict.OddAttachment)
		pad = strings.Repeat("x", 32<<10-40+at)
		expect(t, look(t, i, "a.html", "<html>"+pad+"<script>"), verdict.OddAttachment)
	}
	p := &mime.Part{Type: "text", Subtype: "html", Disposition: "inline", End: 14}
	expect(t, i.Inspect(t.Context(), strings.NewReader("<html><script>"), []*mime.Part{p}))
}

type member struct{ name, content string }

// archive is a zip archive.
func archive(members ...member) string {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, m := range members {
		f, err := w.Create(m.name)
		if err == nil {
			_, err = io.WriteString(f, m.content)
		}
		if err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.String()
}

// stored is a zip archive without compression and without data descriptors.
func stored(members ...member) string {
	var b, directory []byte
	for _, m := range members {
		at := len(b)
		head := binary.LittleEndian.AppendUint32([]byte("\x14\x00\x00\x00\x00\x00\x00\x00\x00\x00"), crc32.ChecksumIEEE([]byte(m.content)))
		head = binary.LittleEndian.AppendUint32(head, uint32(len(m.content)))
		head = binary.LittleEndian.AppendUint32(head, uint32(len(m.content)))
		head = binary.LittleEndian.AppendUint16(head, uint16(len(m.name)))
		head = append(head, 0, 0)
		b = append(append(append(append(b, "PK\x03\x04"...), head...), m.name...), m.content...)
		directory = append(append(append(directory, "PK\x01\x02\x14\x00"...), head...), make([]byte, 10)...)
		directory = append(binary.LittleEndian.AppendUint32(directory, uint32(at)), m.name...)
	}
	end := binary.LittleEndian.AppendUint32(nil, uint32(len(directory)))
	end = binary.LittleEndian.AppendUint32(end, uint32(len(b)))
	count := binary.LittleEndian.AppendUint16(nil, uint16(len(members)))
	return string(b) + string(directory) + "PK\x05\x06\x00\x00\x00\x00" + string(count) + string(count) + string(end) + "\x00\x00"
}

func zipped(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, s)
	_ = w.Close()
	return b.String()
}

func tarred(members ...member) string {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		_ = w.WriteHeader(&tar.Header{Name: m.name, Size: int64(len(m.content)), Mode: 0o644})
		_, _ = io.WriteString(w, m.content)
	}
	_ = w.Close()
	return b.String()
}

func TestArchives(t *testing.T) {
	t.Parallel()
	const bad, differs, odd, un = verdict.BadAttachment, verdict.TypeDiffers, verdict.OddAttachment, verdict.Uninspected
	exe := member{"a.exe", program()}
	hidden := member{"a.pdf", program()}
	for _, tc := range []struct {
		name, file, content string
		want                []verdict.Name
	}{
		{"harmless", "a.zip", archive(member{"a.txt", plain}, member{"b/c.png", png}), nil},
		{"forbidden name", "a.zip", archive(member{"b/a.js", plain}), []verdict.Name{bad}},
		{"true type", "a.zip", archive(hidden), []verdict.Name{bad, differs}},
		{"stored", "a.zip", stored(hidden), []verdict.Name{bad, differs}},
		{"zip in zip in zip", "a.zip", archive(member{"b.zip", archive(member{"c.zip", archive(hidden)})}), []verdict.Name{bad, differs}},
		{"stored zip in zip", "a.zip", stored(member{"b.zip", stored(hidden)}), []verdict.Name{bad, differs}},
		{"nested too deep", "a.zip", archive(member{"1.zip", archive(member{"2.zip", archive(member{"3.zip", archive(member{"4.zip", archive(member{"5.zip", archive(exe)})})})})}), []verdict.Name{verdict.Bomb}},
		{"gzip", "a.gz", zipped(program()), []verdict.Name{bad}},
		{"tar.gz", "a.tgz", zipped(tarred(member{"a.txt", plain}, hidden)), []verdict.Name{bad, differs}},
		{"tar", "a.tar", tarred(exe), []verdict.Name{bad}},
		{"zip in tar", "a.tar", tarred(member{"b.zip", archive(hidden)}), []verdict.Name{bad, differs}},
		{"tar that climbs", "a.tar", tarred(member{"../../a.txt", plain}), []verdict.Name{odd}},
		{"zip that climbs", "a.zip", archive(member{`..\..\a.txt`, plain}), []verdict.Name{odd}},
		{"zip under another name", "a.pdf", archive(member{"a.txt", plain}), []verdict.Name{differs}},
		{"cut tar", "a.tgz", zipped(tarred(member{"a.txt", plain})[:700]), nil},
		{"broken gzip", "a.gz", "\x1f\x8b\x08\x00", []verdict.Name{un}},
		{"a program of Java", "a.dat", archive(member{"META-INF/MANIFEST.MF", ""}, member{"A.class", "\xca\xfe\xba\xbe\x00\x00\x00\x34"}), []verdict.Name{bad}},
		{"message", "a.eml", "Subject: x\r\nContent-Type: application/octet-stream; name=a.exe\r\n\r\nxx\r\n", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			expect(t, look(t, inspector(t, attachment.Config{}), tc.file, tc.content), tc.want...)
		})
	}
}

// TestLyingZip has archives of which programs show different things.
func TestLyingZip(t *testing.T) {
	t.Parallel()
	const bad, differs, odd = verdict.BadAttachment, verdict.TypeDiffers, verdict.OddAttachment
	good := stored(member{"aaaa.txt", plain})
	i := strings.Index(good, "PK\x01\x02")
	evil := stored(member{"a.exe", plain})
	hidden := strings.Replace(evil, "PK\x05\x06", "PK??", 1)
	encrypted := strings.ReplaceAll(good, "\x14\x00\x00\x00\x00\x00", "\x14\x00\x01\x00\x00\x00")
	hides := func() string {
		two := []byte(stored(member{"aaaa.txt", plain}, member{"a.exe", plain}))
		first := bytes.Index(two, []byte("PK\x01\x02"))
		second := bytes.LastIndex(two, []byte("PK\x01\x02"))
		end := bytes.Index(two, []byte("PK\x05\x06"))
		binary.LittleEndian.PutUint32(two[first+20:], uint32(first-30-8))
		binary.LittleEndian.PutUint32(two[end+12:], uint32(second-first))
		return string(slices.Delete(two, second, end))
	}()
	for _, tc := range []struct {
		name, content string
		want          []verdict.Name
	}{
		{"name in the directory differs", good[:i] + strings.Replace(good[i:], "aaaa.txt", "aaaa.exe", 1), []verdict.Name{bad, differs}},
		{"name in front of the data differs", strings.Replace(good[:i], "aaaa.txt", "aaaa.exe", 1) + good[i:], []verdict.Name{bad, differs}},
		{"no directory", evil[:strings.Index(evil, "PK\x01\x02")], []verdict.Name{bad, odd}},
		{"cut in the data", evil[:40], []verdict.Name{bad, odd}},
		{"a file in front that is not listed", "PK\x03\x04" + hidden[4:strings.Index(hidden, "PK\x01\x02")] + good, []verdict.Name{bad, odd}},
		{"octets in front, as of a program that unpacks itself", "xxxxPK" + good, nil},
		{"encrypted", encrypted, []verdict.Name{verdict.Encrypted}},
		{"a file hidden by a size in the directory", hides, []verdict.Name{bad, differs, odd}},
		{"empty", "PK\x05\x06" + strings.Repeat("\x00", 18), nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			expect(t, look(t, inspector(t, attachment.Config{}), "a.zip", tc.content), tc.want...)
		})
	}
	overlapping := []byte(stored(member{"a.txt", plain}, member{"b.txt", plain}))
	second := bytes.LastIndex(overlapping, []byte("PK\x01\x02"))
	binary.LittleEndian.PutUint32(overlapping[second+42:], 0)
	items := look(t, inspector(t, attachment.Config{}), "a.zip", string(overlapping))
	expect(t, items, differs, odd)
}

func TestDocuments(t *testing.T) {
	t.Parallel()
	const macros, odd = verdict.Macros, verdict.OddAttachment
	types := member{"[Content_Types].xml", "<Types/>"}
	external := `<Relationships><Relationship Id="r" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/attachedTemplate" Target="https://evil.example/t.dotm" TargetMode="External"/></Relationships>`
	link := strings.Replace(external, "attachedTemplate", "hyperlink", 1)
	for _, tc := range []struct {
		name, file, content string
		want                []verdict.Name
	}{
		{"plain", "a.docx", archive(types, member{"word/document.xml", "<w/>"}, member{"word/_rels/document.xml.rels", link}), nil},
		{"VBA", "a.docm", archive(types, member{"word/vbaProject.bin", compound(entryOf{"VBA", 1, nil})}), []verdict.Name{macros}},
		{"Excel 4.0", "a.xlsb", archive(types, member{"xl/macrosheets/sheet1.bin", "x"}), []verdict.Name{macros}},
		{"Basic", "a.odt", archive(member{"content.xml", ""}, member{"Basic/Standard/Module1.xml", ""}), []verdict.Name{macros}},
		{"no Basic", "a.odt", archive(member{"content.xml", ""}, member{"Basic/script-lc.xml", ""}), nil},
		{"template from elsewhere", "a.docx", archive(types, member{"word/_rels/settings.xml.rels", external}), []verdict.Name{odd}},
		{"program within", "a.docx", archive(types, member{"word/embeddings/x.bin", program()}), []verdict.Name{verdict.BadAttachment}},
		{"old Word", "a.doc", compound(entryOf{"WordDocument", 2, []byte(strings.Repeat("\x00", 64))}), nil},
		{"old Word, macros", "a.doc", compound(entryOf{"WordDocument", 2, nil}, entryOf{"Macros", 1, nil}, entryOf{"VBA", 1, nil}), []verdict.Name{macros}},
		{"old Word, encrypted", "a.doc", compound(entryOf{"WordDocument", 2, []byte("\xec\xa5\xc1\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00")}), []verdict.Name{verdict.Encrypted}},
		{"encrypted docx", "a.docx", compound(entryOf{"EncryptionInfo", 2, nil}, entryOf{"EncryptedPackage", 2, nil}), []verdict.Name{verdict.Encrypted}},
		{"old Excel, sheet of macros", "a.xls", compound(entryOf{"Workbook", 2, []byte("\x09\x08\x02\x00\x00\x06\x85\x00\x08\x00\x00\x00\x00\x00\x00\x01\x01a\x0a\x00\x00\x00")}), []verdict.Name{macros}},
		{"old Excel, encrypted", "a.xls", compound(entryOf{"Workbook", 2, []byte("\x09\x08\x02\x00\x00\x06\x2f\x00\x02\x00\x00\x00")}), []verdict.Name{verdict.Encrypted}},
		{"packed object", "a.doc", compound(entryOf{"\x01Ole10Native", 2, []byte("\x00\x01\x00\x00\x02\x00a.txt\x00C:\\x\\run.vbs\x00")}), []verdict.Name{odd, verdict.BadAttachment}},
		{"Outlook message", "a.msg", compound(entryOf{"__substg1.0_3707001F", 2, utf16le("invoice.pdf.exe")}), []verdict.Name{verdict.BadAttachment, verdict.DoubleExt}},
		{"broken", "a.doc", "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\x00\x00", []verdict.Name{verdict.Uninspected}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			expect(t, look(t, inspector(t, attachment.Config{}), tc.file, tc.content), tc.want...)
		})
	}
	msi := []byte(compound(entryOf{"x", 2, nil}))
	copy(msi[512+512+80:], "\x84\x10\x0c\x00\x00\x00\x00\x00\xc0\x00\x00\x00\x00\x00\x00\x46")
	expect(t, look(t, inspector(t, attachment.Config{}), "a.doc", string(msi)), verdict.BadAttachment, verdict.TypeDiffers)
}

type entryOf struct {
	name    string
	kind    byte
	content []byte
}

func utf16le(s string) (b []byte) {
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

// compound is an OLE2 file whose streams are small: the table is sector 0, then the directory,
// the table of small sectors, and the small sectors.
func compound(entries ...entryOf) string {
	put := binary.LittleEndian.PutUint32
	const end, free = 1<<32 - 2, 1<<32 - 1
	slot := func(name string, kind byte, start, size uint32) []byte {
		b := make([]byte, 128)
		n := copy(b[:62], utf16le(name))
		binary.LittleEndian.PutUint16(b[64:], uint16(n+2))
		b[66] = kind
		put(b[116:], start)
		put(b[120:], size)
		return b
	}
	var directory, small []byte
	mini := bytes.Repeat([]byte{0xff}, 512)
	for _, e := range entries {
		at := uint32(len(small) / 64)
		directory = append(directory, slot(e.name, e.kind, at, uint32(len(e.content)))...)
		for n := 0; n < len(e.content); n += 64 {
			at = uint32(len(small) / 64)
			small = append(small, append(e.content[n:min(n+64, len(e.content)):len(e.content)], make([]byte, 64)...)[:64]...)
			put(mini[4*at:], at+1)
			if n+64 >= len(e.content) {
				put(mini[4*at:], end)
			}
		}
	}
	sectors := func(b []byte) []byte { return append(b, make([]byte, (512-len(b)%512)%512)...) }
	small = sectors(small)
	directory = sectors(append(slot("Root Entry", 5, 2, uint32(len(small))), directory...))
	// The directory lies in sector 1 and, when it is longer, in the last ones.
	if len(directory) > 512 {
		directory = directory[:min(len(directory), 1024)]
	}
	table := bytes.Repeat([]byte{0xff}, 512)
	n := uint32(len(small) / 512)
	put(table[0:], free-2)
	put(table[4:], end)
	for i := range n {
		put(table[4*(2+i):], 3+i)
	}
	if n > 0 {
		put(table[4*(2+n-1):], end)
	}
	put(table[4*(2+n):], end)
	if len(directory) > 512 {
		put(table[4:], 3+n)
		put(table[4*(3+n):], end)
	}
	head := make([]byte, 512)
	copy(head, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
	head[30], head[32] = 9, 6
	put(head[44:], 1)
	put(head[48:], 1)
	put(head[56:], 4096)
	put(head[60:], 2+n)
	put(head[68:], end)
	copy(head[76:], bytes.Repeat([]byte{0xff}, 436))
	put(head[76:], 0)
	out := slices.Concat(head, table, directory[:512], small, mini)
	if len(directory) > 512 {
		out = append(out, directory[512:]...)
	}
	return string(out)
}

// tool runs a program of Debian that makes archives.
func tool(t *testing.T, stdin string, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if os.Getenv("POCZTA_REQUIRE_SERVICES") == "1" {
			t.Fatalf("no %s: install the packages xz-utils and bzip2", name)
		}
		t.Skipf("skipped: no %s", name)
	}
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestXZ(t *testing.T) {
	t.Parallel()
	mixed := strings.Repeat(program()+plain, 500)
	for _, level := range []string{"-0", "-6", "-9e"} {
		packed := tool(t, mixed, "xz", "-c", level)
		got, err := attachment.UnpackXZ(packed+packed, 8<<20)
		if err != nil || got != mixed+mixed {
			t.Errorf("xz %s: %d octets, %v, want %d", level, len(got), err, 2*len(mixed))
		}
		if got, err := attachment.UnpackXZ(packed, 1<<10); err == nil && got != mixed {
			t.Errorf("xz %s: other octets with a small window", level)
		}
		if _, err := attachment.UnpackXZ(packed[:len(packed)/2], 8<<20); err == nil {
			t.Errorf("xz %s: nothing said of data that is cut off", level)
		}
	}
	i := inspector(t, attachment.Config{})
	expect(t, look(t, i, "a.pdf.xz", tool(t, program(), "xz", "-c")), verdict.BadAttachment, verdict.TypeDiffers)
	expect(t, look(t, i, "a.tar.xz", tool(t, tarred(member{"a.exe", plain}), "xz", "-c")), verdict.BadAttachment)
	expect(t, look(t, i, "a.txt.bz2", tool(t, program(), "bzip2", "-c")), verdict.BadAttachment, verdict.TypeDiffers)
	expect(t, look(t, i, "a.xz", tool(t, strings.Repeat("\x00", 1<<20), "xz", "-c")))
}

// nested makes a zip archive nested n times, with a file beside it.
func nested(n int) string {
	s := archive(member{"a.txt", plain})
	for range n {
		s = archive(member{"a.zip", s}, member{"b.zip", s})
	}
	return s
}

// TestBombs holds what bombs cost against the bounds: files, octets unpacked, memory.
func TestBombs(t *testing.T) {
	t.Parallel()
	zeros := strings.Repeat("\x00", 20<<20)
	many := make([]member, 3000)
	for i := range many {
		many[i] = member{fmt.Sprintf("%d.txt", i), ""}
	}
	overlap := func() string {
		// One file of zeros that thousands of entries of the directory name.
		one := []byte(archive(member{"a.zip", "PK\x03\x04" + zeros[:8<<20]}))
		i := bytes.Index(one, []byte("PK\x01\x02"))
		j := bytes.Index(one, []byte("PK\x05\x06"))
		all := append([]byte{}, one[:i]...)
		for range 5000 {
			all = append(all, one[i:j]...)
		}
		end := append([]byte{}, one[j:]...)
		binary.LittleEndian.PutUint16(end[10:], 5000)
		binary.LittleEndian.PutUint32(end[12:], uint32(5000*(j-i)))
		return string(append(all, end...))
	}()
	const un, boom = verdict.Uninspected, verdict.Bomb
	for _, tc := range []struct {
		name, file, content string
		want                verdict.Name
	}{
		{"zeros that look like a zip, in a zip", "a.zip", archive(member{"b.zip", "PK\x03\x04" + zeros}), un}, // its beginning is held and looked at,
		{"zeros that look like a web page, in gzip", "a.html.gz", zipped("<html>" + zeros), boom},
		{"gzip in gzip", "a.gz", zipped(zipped(zipped("<html>" + zeros))), boom},
		{"tar of zeros in gzip", "a.tgz", zipped(tarred(member{"a.txt", zeros}, member{"b.exe", plain})), boom},
		{"zips in zips", "a.zip", nested(12), boom},
		{"many files", "a.zip", archive(many...), un},
		{"many files in tar", "a.tar", tarred(many...), un},
		{"overlapping", "a.zip", overlap, un},
		{"nothing but headers", "a.zip", strings.Repeat("PK\x03\x04", 1<<20), un},
		{"nothing but small blocks, RAR 4", "a.rar", "Rar!\x1a\x07\x00" + strings.Repeat("\x00\x00\x7a\x00\x00\x07\x00", 1<<18), un},
		{"nothing but small blocks, RAR 5", "a.rar", "Rar!\x1a\x07\x01\x00" + strings.Repeat("\x00\x00\x00\x00\x03\x03\x00\x00", 1<<18), un},
		{"nothing but attributes", "winmail.dat", "\x78\x9f\x3e\x22\x01\x00" + strings.Repeat("\x01\x06\x90\x08\x00\x00\x00\x00\x00\x00\x00", 1<<18), un},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var files, unpacked, held, most atomic.Int64
			i := inspector(t, attachment.Config{
				Unpacked: 16 << 20, Spool: 2 << 20, Memory: 4 << 20, Bomb: verdict.Refuse,
				Hooks: attachment.Hooks{
					Inspected: func(f int, u int64) { files.Store(int64(f)); unpacked.Store(u) },
					Memory:    func(h int64) { held.Store(h); most.Store(max(most.Load(), h)) },
				},
			})
			items := look(t, i, tc.file, tc.content)
			if !slices.ContainsFunc(items, func(it verdict.Item) bool {
				return it.Name == tc.want && (it.Demand == verdict.Refuse) == (it.Name == boom)
			}) {
				t.Errorf("%s does not say that something was left: %+v", tc.want, items)
			}
			if f, u := files.Load(), unpacked.Load(); f > attachment.DefaultFiles+1 || u > 16<<20+64<<10 {
				t.Errorf("%d files and %d octets are over the bounds", f, u)
			}
			if h, m := held.Load(), most.Load(); h != 0 || m > 2<<20 {
				t.Errorf("held %d octets at most and %d afterwards, want at most %d and 0", m, h, 2<<20)
			}
			t.Logf("%d files, %d octets unpacked, %d held: %v", files.Load(), unpacked.Load(), most.Load(), items)
		})
	}
}

// TestAllocation: what is looked at costs memory by the configuration, not by its size.
func TestAllocation(t *testing.T) {
	bomb := archive(member{"b.zip", "PK\x03\x04" + strings.Repeat("\x00", 20<<20)})
	i := inspector(t, attachment.Config{Spool: 1 << 20, Memory: 1 << 20})
	look(t, i, "a.zip", bomb)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range 10 {
		look(t, i, "a.zip", bomb)
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / 10; each > 2<<20 {
		t.Errorf("allocates %d KiB each time, want at most 1 MiB beside the spool of 1 MiB", each>>10)
	}
}

// TestMemory: messages wait for memory, and give up with their context.
func TestMemory(t *testing.T) {
	t.Parallel()
	i := inspector(t, attachment.Config{Spool: 64 << 10, Memory: 64 << 10})
	s := zipped(archive(member{"a.exe", plain}))
	done := make(chan string)
	for range 20 {
		go func() { done <- names(look(t, i, "a.zip.gz", s)) }()
	}
	for range 20 {
		if got := <-done; got != string(verdict.BadAttachment) {
			t.Errorf("got %s", got)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := &mime.Part{Type: "application", Subtype: "zip", Filename: "a.zip", End: int64(len(s))}
	expect(t, i.Inspect(ctx, strings.NewReader(s), []*mime.Part{p}), verdict.Uninspected)
}

// TestUnreadable: a message that can't be read is not one without attachments.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	p := &mime.Part{Type: "application", Subtype: "zip", Filename: "a.zip", End: 1000}
	expect(t, inspector(t, attachment.Config{}).Inspect(t.Context(), failing{}, []*mime.Part{p}), verdict.Uninspected)
}

type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error) { return 0, errors.New("disk on fire") }

// TestMessage goes the whole way from a message's octets.
func TestMessage(t *testing.T) {
	t.Parallel()
	wrap := func(b string) string {
		s := base64.StdEncoding.EncodeToString([]byte(b))
		var out strings.Builder
		for ; len(s) > 76; s = s[76:] {
			out.WriteString(s[:76] + "\r\n")
		}
		return out.String() + s
	}
	inner := "From: x@example.org\r\nContent-Type: application/octet-stream; name=c.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n" + wrap(program())
	message := "From: a@example.org\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhello\r\n" +
		"--b\r\nContent-Type: application/zip; name=\"a.zip\"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + wrap(archive(member{"in.eml", "X: y\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n" + inner + "\r\n--c--\r\n"})) +
		"\r\n--b--\r\n"
	r := strings.NewReader(message)
	root, err := mime.Parse(r, int64(len(message)), mime.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	items := inspector(t, attachment.Config{}).Inspect(t.Context(), r, slices.Collect(root.All()))
	expect(t, items, verdict.BadAttachment, verdict.TypeDiffers)
	for _, it := range items {
		if !strings.Contains(it.Detail, `"c.pdf" in "a.zip"`) {
			t.Errorf("detail %q does not say where", it.Detail)
		}
	}
}
