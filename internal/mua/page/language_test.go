package page

import (
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/mime"
)

// TestWords wants every text in every language, and the same order of words nowhere by accident.
func TestWords(t *testing.T) {
	t.Parallel()
	en, pl := reflect.ValueOf(english), reflect.ValueOf(polish)
	for _, f := range reflect.VisibleFields(en.Type()) {
		name, i := f.Name, f.Index
		if f.Anonymous {
			continue
		}
		if en.FieldByIndex(i).Kind() != reflect.String {
			if en.FieldByIndex(i).IsNil() || pl.FieldByIndex(i).IsNil() {
				t.Errorf("%s is missing", name)
			}
			continue
		}
		if en.FieldByIndex(i).Len() == 0 || pl.FieldByIndex(i).Len() == 0 {
			t.Errorf("%s: %q, %q", name, en.FieldByIndex(i), pl.FieldByIndex(i))
		}
	}
	for n, want := range map[int]string{0: "0 listów", 1: "1 list", 2: "2 listy", 5: "5 listów", 12: "12 listów", 22: "22 listy", 112: "112 listów", 104: "104 listy"} {
		if got := polishCount(n, nounLetter); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
	for n := range nounThread + 1 {
		if strings.Contains(englishCount(1, n)+englishCount(2, n)+polishCount(1, n)+polishCount(2, n)+polishCount(5, n), "%!") {
			t.Errorf("noun %d has no words", n)
		}
	}
	for wish, want := range map[string]string{"": "en", "pl": "pl", "pl-PL,pl;q=0.9,en;q=0.8": "pl", "en-GB,pl;q=0.5": "en", "de": "en", "x;;": "en", "de,pl;q=0.3": "pl"} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Accept-Language", wish)
		if got := wordsFor(r).Lang; got != want {
			t.Errorf("%q: %s", wish, got)
		}
	}
	now := time.Date(2026, 11, 23, 14, 0, 0, 0, time.UTC)
	for at, want := range map[time.Time]string{now.Add(-time.Hour): "13:00", now.Add(-40 * 24 * time.Hour): "14 paź", now.AddDate(-1, 0, 0): "2025-11-23", now.AddDate(0, 0, 3): "2026-11-26", {}: ""} {
		if got := polish.short(at, now); got != want {
			t.Errorf("%v: %s", at, got)
		}
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, want string }{
		{"plain", "a < b & c", "a &lt; b &amp; c"},
		{"link", "see https://x.example/a?b=1&c=2.", `see <a rel="noopener noreferrer nofollow" target="_blank" href="https://x.example/a?b=1&amp;c=2">https://x.example/a?b=1&amp;c=2</a>.`},
		{"no script", `javascript:alert(1) https://x.example/"onload=1`, `javascript:alert(1) <a rel="noopener noreferrer nofollow" target="_blank" href="https://x.example/">https://x.example/</a>&#34;onload=1`},
		{"address", "to a.b@x.example!", `to <a href="/b/write?to=a.b%40x.example">a.b@x.example</a>!`},
		{"quotes", "a\n> b\n>> c\nd", "a<blockquote>b<blockquote>c</blockquote></blockquote>d"},
		{"signature", "a\n-- \nAla", "a<div class=\"signature\">-- \nAla</div>"},
		{"empty", " \r\n", ""},
	}
	for _, tt := range tests {
		if got := string(textHTML(tt.in, "/b")); got != tt.want {
			t.Errorf("%s:\n got %q\nwant %q", tt.name, got, tt.want)
		}
	}
	flowed := &mime.Part{Params: map[string]string{"format": "flowed"}}
	for in, want := range map[string]string{"one \ntwo\nthree": "one two\nthree\n", "> one \n> two\nmine": "> one two\nmine\n", "a \n> b": "a \n> b\n", "-- \nAla": "-- \nAla\n", " >x": ">x\n"} {
		if got := unflow(flowed, in); got != want {
			t.Errorf("%q flows to %q, want %q", in, got, want)
		}
	}
	if got := unflow(&mime.Part{Params: map[string]string{"format": "flowed", "delsp": "yes"}}, "日 \n本"); got != "日本\n" {
		t.Errorf("DelSp: %q", got)
	}
	for in, want := range map[string]string{"../../etc/passwd": "passwd", `C:\x\evil.exe`: "evil.exe", "a\u202ecod.exe": "acod.exe", ".bashrc": "bashrc", "a/b": "b", "..": "", "x:y": "x_y", strings.Repeat("ż", 200) + ".pdf": strings.Repeat("ż", 72) + ".pdf"} {
		if got := cleanName(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// FuzzText makes text that holds no element but ours.
func FuzzText(f *testing.F) {
	for _, s := range []string{"> a\n>> b\n-- \nc", "https://x.example/<b>", "a@b.example", "\x00\xff", "--\n--\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		out := string(textHTML(unflow(&mime.Part{Params: map[string]string{"format": "flowed"}}, s), ""))
		if strings.Count(out, "<blockquote>") != strings.Count(out, "</blockquote>") || strings.Count(out, "<a ") != strings.Count(out, "</a>") {
			t.Fatalf("%q is not closed", out)
		}
		for _, own := range []string{"<blockquote>", "</blockquote>", `<div class="signature">`, "</div>", "</a>"} {
			out = strings.ReplaceAll(out, own, "")
		}
		for rest := out; ; {
			_, after, ok := strings.Cut(rest, "<")
			if !ok {
				break
			}
			if !strings.HasPrefix(strings.ToLower(after), `a rel="noopener noreferrer nofollow" target="_blank" href="http`) && !strings.HasPrefix(after, `a href="/write?to=`) {
				t.Fatalf("%q holds an element", out)
			}
			rest = after
		}
	})
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	for in, want := range map[string][2]string{
		`deliver; score=1.2; rule="default"`:                  {"no junk (points: 1.2).", "to nie spam (punkty: 1.2)."},
		`deliver; score=-3.0; rule="score -3.0 is below 4.0"`: {"no junk (points: -3.0).", "to nie spam (punkty: -3.0)."},
		`junk; score=8.0; rule="no \"win\" here"`:             {"junk (points: 8.0), by the rule “no \"win\" here”.", "spam (punkty: 8.0), według reguły „no \"win\" here”."},
		`tag; score=4.5; rule=""`:                             {"suspicious (points: 4.5).", "podejrzany (punkty: 4.5)."},
		`quarantine; score=9.9; rule="macro"`:                 {"was set apart (points: 9.9), by the rule “macro”.", "był zatrzymany w kwarantannie (punkty: 9.9), według reguły „macro”."},
		"something else":                                      {"something else", "something else"},
		"":                                                    {"", ""},
	} {
		if got := [2]string{english.verdict(in), polish.verdict(in)}; got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}
