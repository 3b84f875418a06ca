package pdf_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"poczta.example/poczta/internal/mua/store/extract/pdf"
)

// hostile are files that want to take all memory or all time; they are made once.
var hostile = sync.OnceValue(func() map[string][]byte {
	show := "BT /F 1 Tf " + strings.Repeat("(aaaaaaaa) Tj 9 0 Td ", 1<<19) + "ET"
	many := func(n int, object string) []byte {
		return []byte("%PDF-1.7\n" + strings.Repeat(object, n) + "\ntrailer<</Root 1 0 R>>")
	}
	var kids, heads strings.Builder
	for i := range 200_000 {
		kids.WriteString("<</Type /Page /Contents 4 0 R /Resources <</Font <</F 5 0 R>>>>>>")
		fmt.Fprintf(&heads, "%d 0 obj %d 0 obj ", i+1, i+200_001)
	}
	big := func(s string, n int) string { return deflate(strings.Repeat(s, n)) }
	packed := func(filter, data string) []byte {
		return file(catalogue, tree, "<</Type /Page /Contents 4 0 R /Resources <</Font <</F 5 0 R>>>>>>", stream(filter, data), helvetica)
	}
	cmap := stream("/Filter /FlateDecode", big("100 beginbfrange <0000> <ffffffff> <0041> endbfrange 1 beginbfchar <00> <00410042> endbfchar ", 80_000))
	font := "<</Subtype /Type0 /Encoding /Identity-H /ToUnicode 6 0 R /DescendantFonts [<</W 7 0 R>>]>>"
	return map[string][]byte{
		"a program of 10 MB":         packed("/Filter /FlateDecode", deflate(show)),
		"packed twice":               packed("/Filter [/Fl /Fl]", deflate(big("\x00", 32<<20))),
		"packed many times":          many(30_000, "4 0 obj <</Type /ObjStm /N 1 /First 4 /Filter [/Fl /Fl /Fl /Fl /Fl /Fl /Fl /Fl]>> stream\nx\nendstream endobj "),
		"a form that draws itself":   page("/X Do", helvetica, stream("/Subtype /Form", strings.Repeat("/X Do ", 1000))),
		"a tree without end":         file(catalogue, "<</Type /Pages /Kids [2 0 R 2 0 R 3 0 R]>>", "<</Kids [2 0 R 3 0 R]>>"),
		"a reference to itself":      file("<</Type /Catalog /Pages 2 0 R>>", "2 0 R", "<</Type /Page /Contents 3 0 R>>"),
		"a length that is itself":    file(catalogue, tree, "<</Type /Page /Contents 4 0 R>>", "<</Length 4 0 R>> stream\nx"),
		"the same page without end":  file(catalogue, "<</Kids ["+kids.String()+"]>>", "0", stream("/Filter /Fl", big("(a) Tj ", 10_000)), helvetica),
		"arrays in arrays":           file("<</Type /Catalog /Pages "+strings.Repeat("[", 1<<20), tree),
		"dictionaries":               file("<</Type /Catalog /Pages "+strings.Repeat("<</A", 1<<20), tree),
		"values":                     file("<</Type /Catalog /Pages ["+strings.Repeat("0 ", 3<<20)+"]>>", tree),
		"a string without end":       file(catalogue, "("+strings.Repeat("(", 1<<20)),
		"comments":                   many(1<<20, "%\r"),
		"heads of objects":           many(500_000, "1 0 obj "),
		"heads of many objects":      many(1, heads.String()),
		"streams without end":        many(200_000, "1 0 obj <<>> stream "),
		"trailers":                   many(400_000, "trailer<<"),
		"object streams":             many(20_000, "1 0 obj <</Type /ObjStm /N 999999999 /First 999999>> stream\n1 0 \nendstream endobj "),
		"an object stream of itself": file(catalogue, stream("/Type /ObjStm /N 2 /First 8", "2 0 3 0 "+tree)),
		"a font of many codes":       page("BT "+strings.Repeat("/F 1 Tf <00000001> Tj ", 10_000)+"ET", font, cmap, "["+strings.Repeat("0 65535 500 ", 40_000)+"]"),
		"fonts that are not held":    page("BT "+strings.Repeat("/F 1 Tf /G 1 Tf ", 50_000)+"ET", helvetica, cmap),
		"a wide predictor":           packed("/Filter /Fl /DecodeParms <</Predictor 12 /Columns 65535 /Colors 65535 /BitsPerComponent 65535>>", big("x", 1<<20)),
		"a wide page":                page("BT /F 12 Tf 1e99 0 0 1e99 0 0 Tm "+strings.Repeat("(a) Tj 1e300 1e300 Td ", 100_000), helvetica),
		"LZW":                        packed("/Filter /LZW", strings.Repeat("\x80\x00\x00\x10\x08", 1<<20)),
		"letters without end":        packed("/Filter /Fl", big("BT /F 9 Tf ("+strings.Repeat("\x01", 60_000)+") Tj ET ", 130)),
	}
})

// TestHostile holds that each of them keeps to its budget, the last step apart. How long that takes
// is for BenchmarkHostile: with the whole budget, alone on a core, all are below 2 s.
func TestHostile(t *testing.T) {
	t.Parallel()
	const budget = 8 << 20
	for name, raw := range hostile() {
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			got, err := pdf.Read(raw[:min(len(raw), 8<<20)], pdf.Limits{Work: budget})
			took := time.Since(begin)
			if len(got.Text) > 512<<10 || got.Spent > 2*budget {
				t.Errorf("%d octets of text, %d of work", len(got.Text), got.Spent)
			}
			t.Logf("%v, %d work, %d text, %v", took.Round(time.Millisecond), got.Spent, len(got.Text), err)
		})
	}
}

// BenchmarkHostile is the time of each with the whole budget.
func BenchmarkHostile(b *testing.B) {
	for name, raw := range hostile() {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				_, _ = pdf.Read(raw[:min(len(raw), 8<<20)], pdf.Limits{})
			}
		})
	}
}

// TestMemory holds what is held at once: the live heap, looked at again and again while a file is read.
func TestMemory(t *testing.T) {
	all := hostile()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for _, name := range []string{"packed twice", "a program of 10 MB", "letters without end", "a font of many codes", "heads of many objects", "values", "the same page without end", "object streams"} {
		raw := all[name]
		raw = raw[:min(len(raw), 8<<20)]
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		before, peak := m.HeapAlloc, uint64(0)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = pdf.Read(raw, pdf.Limits{})
		}()
		for running := true; running; {
			select {
			case <-done:
				running = false
			case <-tick.C:
				runtime.GC()
				runtime.ReadMemStats(&m)
				peak = max(peak, m.HeapAlloc)
			}
		}
		held := max(int64(peak)-int64(before), 0) >> 20
		if held > 64 {
			t.Errorf("%s held %d MiB", name, held)
		}
		t.Logf("%-28s %d MiB", name, held)
	}
}
