package search_test

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/mua/store/search"
)

func TestFold(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, in, want string }{
		{"empty", "", ""},
		{"case and marks", "Hello, WORLD!  (again)", "hello world again"},
		{"Polish", "Zażółć gęślą JAŹŃ, Łódź", "zazolc gesla jazn lodz"},
		{"decomposed", "e\u0301te\u0301", "ete"},
		{"Scandinavian, German", "Ærø Straße Þór đak", "aero strasse thor dak"},
		{"ligature and width", "ﬁle ＡＢＣ１２", "file abc12"},
		{"address", "ala.kot+x@example.org", "ala kot x example org"},
		{"apostrophes", "don't l’été 'quoted'", "dont lete quoted"},
		{"invisible", "pass\u00adword zero\u200bwidth", "password zerowidth"},
		{"Greek, Cyrillic", "Ἀθῆναι Москва́", "αθηναι москва"},
		{"characters are words", "東京タワー abc", "東 京 タ ワ ー abc"},
		{"not UTF-8", "a\xffb\xc3", "a b"},
		{"long", strings.Repeat("x", 100) + " y", strings.Repeat("x", search.MaxWord) + " y"},
		{"FTS5's own", `a" OR b* NEAR(c) {d}:e`, "a or b near c d e"},
	} {
		if diff := cmp.Diff(c.want, search.Fold(c.in, 1000)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	if got := search.Fold("abcdef ghij", 8); len(got) > 8 {
		t.Errorf("limit: %q", got)
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 15, 4, 0, 0, time.UTC)
	day := func(y, m, d int) time.Time { return time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC) }
	for _, c := range []struct {
		text   string
		typing bool
		want   search.Query
	}{
		{"", false, search.Query{}},
		{"Ala  kot", false, search.Query{Match: `"ala" AND "kot"`}},
		{"Ala kot", true, search.Query{Match: `"ala" AND "kot"*`}},
		{"Ala ko", true, search.Query{Match: `"ala" AND "ko"`}},
		{"Ala ", true, search.Query{Match: `"ala"`}},
		{`"ala ma kota" pie* p*`, false, search.Query{Match: `"ala ma kota" AND "pie"* AND "p"`}},
		{`"not closed`, false, search.Query{Match: `"not closed"`}},
		{"ala@example.org", false, search.Query{Match: `"ala example org"`}},
		{"from:Łukasz -spam", false, search.Query{Match: `({sender } : "lukasz") NOT ("spam")`}},
		{"-spam -to:x", false, search.Query{Without: `("spam" OR {recipients } : "x")`}},
		{"a OR b c", false, search.Query{Match: `("a" OR "b") AND "c"`}},
		{"OR a", false, search.Query{Match: `"or" AND "a"`}},
		{`subject:"annual report" file:pdf`, false, search.Query{Match: `{subject } : "annual report" AND {files } : "pdf"`}},
		{"time 12:30 http://example.org", false, search.Query{Match: `"time" AND "12 30" AND "http example org"`}},
		{"foo:bar Temat:faktura from:ola -x:y", false, search.Query{Match: `("foo bar" AND "temat faktura" AND {sender } : "ola") NOT ("x y")`, Unknown: []string{"foo:bar", "Temat:faktura"}}},
		{`"foo:bar" Re: lunch mailto:ola@example.org a1:b :c`, false, search.Query{Match: `"foo bar" AND "re" AND "lunch" AND "mailto ola example org" AND "a1 b" AND "c"`}},
		{`in:"My Mail" account:work is:unread is:flagged`, false, search.Query{In: []string{"My Mail"}, Accounts: []string{"work"}, Is: search.Is{Unread: true, Flagged: true}}},
		{"-is:read -has:attachment", false, search.Query{Is: search.Is{Unread: true}, NoAttachment: true}},
		{"has:attachment larger:20k smaller:5MB", false, search.Query{HasAttachment: true, Larger: 20 << 10, Smaller: 5 << 20}},
		{"after:2026-01-31 before:2026-02", false, search.Query{After: day(2026, 1, 31), Before: day(2026, 2, 1)}},
		{"on:2025", false, search.Query{After: day(2025, 1, 1), Before: day(2026, 1, 1)}},
		{"after:2w", false, search.Query{After: day(2026, 11, 9)}},
		{"on:yesterday", false, search.Query{After: day(2026, 11, 22), Before: day(2026, 11, 23)}},
		{"... !!! -", false, search.Query{}},
		{"in: x", false, search.Query{Match: `"x"`}},
	} {
		got, err := search.Parse(c.text, now, c.typing)
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", c.text, diff)
		}
	}
	for _, bad := range []string{"is:blue", "has:cheese", "before:whenever", "larger:big", "-in:x", "-is:draft", "on:x", strings.Repeat("a ", 65), strings.Repeat("a", 5000)} {
		if _, err := search.Parse(bad, now, false); !errors.Is(err, search.ErrQuery) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestFields: what people are told of is known, each.
func TestFields(t *testing.T) {
	t.Parallel()
	for _, name := range search.Fields() {
		if got := search.Unknown(name + ":x y"); len(got) != 0 {
			t.Errorf("%s is told of and unknown: %q", name, got)
		}
	}
	if diff := cmp.Diff([]string{"foo:bar"}, search.Unknown("foo:bar ... baz")); diff != "" {
		t.Error(diff)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{`from:"a b" -c d* OR e`, "before:3d is:unread", "Ł\x00\xff\"", "after:0d larger:9g"} {
		f.Add(s, true)
	}
	now := time.Unix(1_800_000_000, 0).UTC()
	f.Fuzz(func(t *testing.T, s string, typing bool) {
		q, err := search.Parse(s, now, typing)
		if err != nil {
			if !errors.Is(err, search.ErrQuery) {
				t.Errorf("error %v is not ErrQuery", err)
			}
			return
		}
		if strings.Count(q.Match, `"`)%2 != 0 || strings.ContainsRune(q.Match, 0) || !utf8.ValidString(q.Match) {
			t.Errorf("%q becomes %q", s, q.Match)
		}
	})
}

func FuzzFold(f *testing.F) {
	for _, s := range []string{"Zażółć", "e\u0301", "東京", "a\xff", "ﬃ"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		folded := search.Fold(s, 1<<10)
		if len(folded) > 1<<10 || !utf8.ValidString(folded) || strings.Contains(folded, "  ") {
			t.Errorf("%q becomes %q", s, folded)
		}
		for _, w := range strings.Fields(folded) {
			if len(w) > search.MaxWord {
				t.Errorf("word %q", w)
			}
		}
		if again := search.Fold(folded, 1<<11); again != folded {
			t.Errorf("folded twice: %q, then %q", folded, again)
		}
	})
}
