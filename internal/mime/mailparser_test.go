package mime_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/mime"
)

// foreign returns a folder of foreign test data.
func foreign(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("POCZTA_TESTDATA")
	if _, err := os.Stat(filepath.Join(dir, name)); dir == "" || err != nil {
		if os.Getenv("CI") != "" && dir != "" {
			t.Fatalf("%s: %v", name, err)
		}
		t.Skip("foreign test data is not here: set POCZTA_TESTDATA")
	}
	return filepath.Join(dir, name)
}

// parse reads a message that is whole in memory.
func parse(t testing.TB, msg []byte) *mime.Part {
	t.Helper()
	p, err := mime.Parse(bytes.NewReader(msg), int64(len(msg)), mime.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func all(t testing.TB, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// oracle is a message as mail-parser reads it.
type oracle struct {
	Parts []struct {
		Headers []struct {
			Name  any
			Value json.RawMessage
		}
		Body   map[string]json.RawMessage
		Header int64 `json:"offset_header"`
		Start  int64 `json:"offset_body"`
		End    int64 `json:"offset_end"`
	}
}

// compareOracle tells where our tree differs from part i of o.
func compareOracle(t testing.TB, msg []byte, p *mime.Part, o *oracle, i int, encoded bool) (diffs []string) {
	t.Helper()
	q := o.Parts[i]
	differ := func(format string, a ...any) {
		diffs = append(diffs, fmt.Sprintf("part at %d (%s/%s %s): ", p.Start, p.Type, p.Subtype, p.Defects)+fmt.Sprintf(format, a...))
	}
	r := bytes.NewReader(msg)
	for kind, raw := range q.Body {
		switch kind {
		case "Multipart":
			var list []int
			if err := json.Unmarshal(raw, &list); err != nil {
				t.Fatal(err)
			}
			if len(list) != len(p.Children) || p.Leaf() {
				differ("%d parts, want %d", len(p.Children), len(list))
				continue
			}
			for j, c := range p.Children {
				diffs = append(diffs, compareOracle(t, msg, c, o, list[j], encoded)...)
			}
		case "Message":
			var in oracle
			if err := json.Unmarshal(raw, &in); err != nil {
				t.Fatal(err)
			}
			if len(p.Children) != 1 || p.Leaf() {
				differ("no enclosed message")
				continue
			}
			diffs = append(diffs, compareOracle(t, msg, p.Children[0], &in, 0, encoded || p.Encoding != mime.Identity)...)
		case "Text", "Html":
			var want string
			if err := json.Unmarshal(raw, &want); err != nil {
				t.Fatal(err)
			}
			if got := all(t, p.Text(r)); got != want {
				differ("text %.300q, want %.300q", got, want)
			}
		default:
			var list []int
			if err := json.Unmarshal(raw, &list); err != nil {
				t.Fatal(err)
			}
			want := make([]byte, len(list))
			for j, v := range list {
				want[j] = byte(v)
			}
			if got := all(t, p.Open(r)); got != string(want) {
				differ("octets %.100q, want %.100q", got, want)
			}
		}
	}
	if !encoded && (p.Body != q.Start || p.End != q.End) {
		differ("body %d–%d, want %d–%d", p.Body, p.End, q.Start, q.End)
	}
	return append(diffs, compareFields(t, p, q.Headers)...)
}

func compareFields(t testing.TB, p *mime.Part, headers []struct {
	Name  any
	Value json.RawMessage
}) (diffs []string) {
	t.Helper()
	for _, h := range headers {
		var v struct {
			Text        *string
			ContentType *struct {
				Type       string  `json:"c_type"`
				Subtype    *string `json:"c_subtype"`
				Attributes []struct{ Name, Value string }
			}
		}
		if json.Unmarshal(h.Value, &v) != nil {
			continue // a word such as "Empty"
		}
		switch {
		case h.Name == "subject" && v.Text != nil && !strings.Contains(*v.Text, "\uFFFD"): // mail-parser leaves 8-bit octets undecoded
			got, _ := message.Get(p.Header, "Subject")
			if got = strings.Join(strings.Fields(mime.DecodeWords(got)), " "); got != strings.Join(strings.Fields(*v.Text), " ") {
				diffs = append(diffs, fmt.Sprintf("Subject %q, want %q", got, *v.Text))
			}
		case h.Name == "content_type" && v.ContentType != nil && v.ContentType.Subtype != nil:
			c := v.ContentType
			if got := p.Type + "/" + p.Subtype; !strings.EqualFold(got, c.Type+"/"+*c.Subtype) {
				diffs = append(diffs, fmt.Sprintf("type %s, want %s/%s", got, c.Type, *c.Subtype))
			}
			for _, a := range c.Attributes {
				if got := p.Params[a.Name]; got != a.Value {
					diffs = append(diffs, fmt.Sprintf("parameter %s %q, want %q", a.Name, got, a.Value))
				}
			}
		}
	}
	return diffs
}

// TestMailParser holds our reading against the trees of Stalwart's mail-parser.
func TestMailParser(t *testing.T) {
	t.Parallel()
	root := foreign(t, "mime/mail-parser")
	files, err := filepath.Glob(filepath.Join(root, "*", "*.eml"))
	if err != nil || len(files) == 0 {
		t.Fatal("no messages", err)
	}
	same, meant := 0, 0
	for _, file := range files {
		msg, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lf := bytes.ReplaceAll(msg, []byte("\r\n"), []byte("\n"))
		crlf := bytes.ReplaceAll(lf, []byte("\n"), []byte("\r\n"))
		for ending, octets := range map[string][]byte{".json": lf, ".crlf.json": crlf} {
			raw, err := os.ReadFile(strings.TrimSuffix(file, ".eml") + ending)
			if err != nil {
				t.Fatal(err)
			}
			var o oracle
			if err := json.Unmarshal(raw, &o); err != nil {
				t.Fatal(err)
			}
			name, _ := filepath.Rel(root, strings.TrimSuffix(file, ".eml"))
			diffs := compareOracle(t, octets, parse(t, octets), &o, 0, false)
			why := mailParserDeviations[name]
			switch {
			case len(diffs) == 0 && why != "" && ending == ".json":
				t.Errorf("%s: reads the same: the table of deviations need not name it", name)
			case len(diffs) == 0:
				same++
			case why == "":
				t.Errorf("%s%s:\n  %s", name, ending, strings.Join(diffs, "\n  "))
			default:
				meant++
			}
		}
	}
	t.Logf("mail-parser: %d of %d trees are the same, %d differ as meant", same, 2*len(files), meant)
}

// mailParserDeviations are the messages that we read otherwise, and why.
var mailParserDeviations = map[string]string{
	"legacy/017":    "x-uuencode is decoded, which mail-parser does not do",
	"malformed/009": "the boundary of the outer multipart ends the inner one (RFC 2046 §5.1.2); mail-parser goes on looking for the inner one",
	"malformed/019": "parts behind the final boundary are entered, since some programs show them",
	"malformed/020": "of two Content-Type fields the first counts, with a Defect; mail-parser takes the last",
	"malformed/021": "of two Content-Type fields the first counts, with a Defect; mail-parser takes the last",
}
