package verdict_test

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"poczta.example/poczta/internal/verdict"
)

var update = flag.Bool("update", false, "rewrite the table in docs/filtering.md")

const (
	document = "../../docs/filtering.md"
	begin    = "<!-- table of evidence: written by go generate ./internal/verdict -->\n"
	end      = "<!-- end of the table -->\n"
)

// rowTable is the table of evidence in Markdown, by group and weight.
func rowTable() string {
	names := make([]verdict.Name, 0, len(verdict.Rows))
	for n := range verdict.Rows {
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b verdict.Name) int {
		x, y := verdict.Rows[a], verdict.Rows[b]
		return cmp.Or(cmp.Compare(x.Group, y.Group), cmp.Compare(y.Weight, x.Weight), cmp.Compare(a, b))
	})
	var b strings.Builder
	b.WriteString("| evidence | group | points | at least | meaning |\n|---|---|---:|---|---|\n")
	for _, n := range names {
		row, least := verdict.Rows[n], ""
		if row.Demand > verdict.Deliver {
			least = row.Demand.String()
		}
		if row.Pardons {
			least = "lets in"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %+.1f | %s | %s |\n", n, row.Group, row.Weight, least, row.Meaning)
	}
	return b.String()
}

// TestDocumentIsCurrent: docs/filtering.md has the table as it is.
func TestDocumentIsCurrent(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, found := strings.Cut(string(b), begin)
	_, tail, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has no place for the table: %q to %q", document, begin, end)
	}
	want := head + begin + rowTable() + end + tail
	if want == string(b) {
		return
	}
	if !*update {
		t.Fatalf("%s is not current; run: go generate ./internal/verdict", document)
	}
	if err := os.WriteFile(document, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}
