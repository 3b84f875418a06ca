package mime_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"poczta.example/poczta/internal/mime"
)

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
}

// TestMailParserFields holds encoded-words and Content-Type against mail-parser's tables.
func TestMailParserFields(t *testing.T) {
	t.Parallel()
	dir := foreign(t, "mime/mail-parser/fields")
	var words []struct{ Header, Expected string }
	readJSON(t, filepath.Join(dir, "unstructured.json"), &words)
	for _, w := range words {
		// the field ends at the first line that does not begin with a blank
		value, rest, _ := strings.Cut(w.Header, "\n")
		for strings.HasPrefix(rest, " ") || strings.HasPrefix(rest, "\t") {
			var line string
			line, rest, _ = strings.Cut(rest, "\n")
			value += "\n" + line
		}
		got := strings.Join(strings.Fields(mime.DecodeWords(strings.TrimSpace(value))), " ")
		if want := strings.Join(strings.Fields(w.Expected), " "); got != want && wordDeviations[want] == "" {
			t.Errorf("%q: got %q, want %q", w.Header, got, want)
		}
	}
	var types []struct {
		Header   string
		Expected *struct {
			Type       string  `json:"c_type"`
			Subtype    *string `json:"c_subtype"`
			Attributes [][2]string
		}
	}
	readJSON(t, filepath.Join(dir, "content_type.json"), &types)
	same, meant := 0, 0
	for _, c := range types {
		if c.Expected == nil || c.Expected.Subtype == nil {
			p := parse(t, []byte("Content-Type: "+strings.TrimSpace(c.Header)+"\n\n"))
			if !p.Defects.Has(mime.BadType) || p.Type != "text" || p.Subtype != "plain" {
				t.Errorf("%q: got %s/%s %s, want text/plain and a defect", c.Header, p.Type, p.Subtype, p.Defects)
			}
			same++
			continue
		}
		p := parse(t, []byte("Content-Type: "+strings.TrimSpace(c.Header)+"\n\n"))
		var diffs []string
		if got, want := p.Type+"/"+p.Subtype, c.Expected.Type+"/"+*c.Expected.Subtype; got != want {
			diffs = append(diffs, "type "+got+" want "+want)
		}
		for _, a := range c.Expected.Attributes {
			if got := p.Params[a[0]]; got != a[1] && !strings.HasSuffix(a[0], "-language") {
				diffs = append(diffs, a[0]+" "+got+" want "+a[1])
			}
		}
		switch why := typeDeviations[strings.TrimSpace(c.Header)]; {
		case len(diffs) > 0 && why == "":
			t.Errorf("%q: %q", c.Header, diffs)
		case len(diffs) > 0:
			meant++
		default:
			same++
		}
	}
	t.Logf("mail-parser fields: %d values with encoded-words, %d of %d of Content-Type the same, %d differ as meant", len(words), same, len(types), meant)
}

// wordDeviations are values that we read otherwise, by what mail-parser makes of them.
var wordDeviations = map[string]string{
	"[SUSPECTED SPAM] This is the original subject": "no blank is made up in front of a word that is glued to text",
}

// typeDeviations are fields that we read otherwise, and why.
var typeDeviations = map[string]string{
	"image/jpeg;\n   name=\"=?iso-8859-1?B?4Q==?= =?utf-8?B?w6k=?= =?iso-8859-1?q?=ED?=.jpeg\"": "blanks between encoded-words vanish, in quotes too (RFC 2047 §6.2)",
	"inva/lid; name=\"": "blanks at the end of a field do not count",
	"malicious/attempt; 1*2*=a; 3**=b; 4***=c; *5**6*=d;*****7*8*=e; 9*10*11*12*13*14=f; 15*x***fff*===g;1 * 999999999999999999 *= h; 18 *=*=*=*=*==i;": "names that begin with an asterisk are none",
	"text/plain/format":                   "no media type (RFC 2045 §5.1): text/plain",
	"text/plain/format;charset=us-ascii":  "no media type (RFC 2045 §5.1): text/plain",
	"text/plain/format ;charset=us-ascii": "no media type (RFC 2045 §5.1): text/plain",
}
