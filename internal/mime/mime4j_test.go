package mime_test

import (
	"bytes"
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/mime"
)

// entity is a message or body part as mime4j reads it.
type entity struct {
	Header struct {
		Fields []string `xml:"field"`
	} `xml:"header"`
	Multipart *struct {
		Parts []entity `xml:"body-part"`
	} `xml:"multipart"`
	Message *entity `xml:"message"`
	Text    *leaf   `xml:"text-body"`
	Binary  *leaf   `xml:"binary-body"`
}

type leaf struct {
	Name string `xml:"name,attr"`
}

// lines makes line ends LF, and forgets the last one: mime4j's files are not exact there.
func lines(s string) string {
	return strings.TrimRight(strings.ReplaceAll(s, "\r", ""), "\n")
}

func compareEntity(t *testing.T, dir string, msg []byte, p *mime.Part, e *entity, where string) (diffs []string) {
	t.Helper()
	var fields, want []string
	for f := range message.Fields(p.Header) {
		if !f.Malformed() {
			fields = append(fields, strings.Join(strings.Fields(string(f.Raw)), " "))
		}
	}
	for _, f := range e.Header.Fields {
		want = append(want, strings.Join(strings.Fields(f), " "))
	}
	if got, want := strings.Join(fields, "\n"), strings.Join(want, "\n"); got != want {
		diffs = append(diffs, where+": fields "+got+" want "+want)
	}
	r := bytes.NewReader(msg)
	switch {
	case e.Multipart != nil:
		if len(e.Multipart.Parts) != len(p.Children) || p.Type != "multipart" {
			return append(diffs, where+": other parts")
		}
		for i, c := range p.Children {
			diffs = append(diffs, compareEntity(t, dir, msg, c, &e.Multipart.Parts[i], where+"."+string(rune('1'+i)))...)
		}
	case e.Message != nil:
		if len(p.Children) != 1 || p.Type != "message" {
			return append(diffs, where+": no enclosed message")
		}
		diffs = append(diffs, compareEntity(t, dir, msg, p.Children[0], e.Message, where+".m")...)
	default:
		if !p.Leaf() {
			return append(diffs, where+": no leaf")
		}
		l := e.Text
		if l == nil {
			l = e.Binary
		}
		if l == nil {
			return append(diffs, where+": the tree has no body")
		}
		b, err := os.ReadFile(filepath.Join(dir, l.Name))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := lines(all(t, p.Open(r))), lines(string(b)); got != want {
			diffs = append(diffs, where+": content "+got+"\nwant "+want)
		}
	}
	return diffs
}

// TestMime4j holds our reading against the event trees of Apache James's mime4j: structure,
// fields, decoded contents.
func TestMime4j(t *testing.T) {
	t.Parallel()
	dir := foreign(t, "mime/mime4j/testmsgs")
	files, err := filepath.Glob(filepath.Join(dir, "*.msg"))
	if err != nil || len(files) == 0 {
		t.Fatal("no messages", err)
	}
	same, meant := 0, 0
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".msg")
		msg, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tree, err := os.ReadFile(filepath.Join(dir, name+"_decoded.xml"))
		if err != nil {
			t.Fatal(err)
		}
		var e entity
		if err := xml.Unmarshal(tree, &e); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		diffs := compareEntity(t, dir, msg, parse(t, msg), &e, "1")
		why := mime4jDeviations[name]
		switch {
		case len(diffs) == 0 && why != "":
			t.Errorf("%s: reads the same: the table of deviations need not name it", name)
		case len(diffs) == 0:
			same++
		case why == "":
			t.Errorf("%s: %s", name, strings.Join(diffs, "\n"))
		default:
			meant++
		}
	}
	t.Logf("mime4j: %d of %d trees are the same, %d differ as meant", same, len(files), meant)
}

// mime4jDeviations are the messages that we read otherwise, and why.
var mime4jDeviations = map[string]string{
	"malformedHeader-noheader":             "a message that begins with a line that is no field is all body, as for package message; mime4j passes over such lines",
	"malformedHeaderStartsBody-nocrlfcrlf": "a line that is no field does not end a header section, as for package message; it is a defect",
	"malformedHeaderStartsBody-noheader":   "all of it is body",
	"very-long-boundary":                   "blanks at the end of a boundary do not count, since relays lose them",
	"very-very-long-boundary":              "blanks at the end of a boundary do not count, since relays lose them",
	"weird-boundary":                       "blanks at the end of a boundary do not count, since relays lose them",
}
