package compound_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/compound"
	"poczta.example/poczta/internal/compound/compoundtest"
)

func TestRead(t *testing.T) {
	t.Parallel()
	large := bytes.Repeat([]byte("large "), 1000)
	want := map[string]string{"Umowa ł": "small", "second": string(bytes.Repeat([]byte("x"), 130)), "large": string(large), "none": ""}
	raw := compoundtest.File(compoundtest.Entry{Name: "Umowa ł", Content: []byte("small")}, compoundtest.Entry{Name: "Folder", Kind: compound.Storage},
		compoundtest.Entry{Name: "large", Content: large}, compoundtest.Entry{Name: "second", Content: bytes.Repeat([]byte("x"), 130)}, compoundtest.Entry{Name: "none"})
	f, ok := compound.Read(bytes.NewReader(raw), int64(len(raw)), compound.Limits{})
	if !ok || !f.Whole {
		t.Fatal("not read")
	}
	got := make(map[string]string)
	for _, s := range f.Streams {
		if s.Kind == compound.Data {
			got[s.Name] = string(f.Content(s, 0))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	f, _ = compound.Read(bytes.NewReader(raw), int64(len(raw)), compound.Limits{Stream: 100, Total: 150})
	total := 0
	for _, s := range f.Streams {
		n := len(f.Content(s, 0))
		total += n
		if n > 100 {
			t.Errorf("%s: %d octets", s.Name, n)
		}
	}
	if total > 150 {
		t.Errorf("%d octets of all", total)
	}
	if n := len(f.Content(f.Streams[3], 7)); n != 0 {
		t.Errorf("%d octets when none are left", n)
	}
	if _, ok := compound.Read(bytes.NewReader(raw[:100]), 100, compound.Limits{}); ok {
		t.Error("a cut head was read")
	}
}

func FuzzRead(f *testing.F) {
	f.Add(compoundtest.File(compoundtest.Entry{Name: "a", Content: []byte("small")}, compoundtest.Entry{Name: "b", Content: make([]byte, 5000)}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		l := compound.Limits{Streams: 64, Stream: 8 << 10, Total: 16 << 10}
		c, ok := compound.Read(bytes.NewReader(raw), int64(len(raw)), l)
		if !ok {
			return
		}
		total := 0
		for _, s := range c.Streams {
			total += len(c.Content(s, 0))
		}
		if total > 16<<10 {
			t.Errorf("%d octets", total)
		}
	})
}
