package mime_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/mime"
)

// tree writes a part as type(children), with its file name.
func tree(p *mime.Part) string {
	s := p.Type + "/" + p.Subtype
	if p.Filename != "" {
		s += fmt.Sprintf("[%s]", p.Filename)
	}
	var in []string
	for _, c := range p.Children {
		in = append(in, tree(c))
	}
	if in != nil {
		s += "(" + strings.Join(in, " ") + ")"
	}
	return s
}

// check holds what is true of every tree: offsets nest and go on, contents can be read, text
// is UTF-8, limits are kept.
func check(t testing.TB, msg []byte, root *mime.Part, l mime.Limits) {
	t.Helper()
	parts, headers := 0, 0
	for p := range root.All() {
		parts++
		headers += len(p.Header)
		if p.Start > p.Body || p.Body > p.End || p.Start < 0 {
			t.Fatalf("offsets %d %d %d of %s", p.Start, p.Body, p.End, tree(root))
		}
		at := p.Body
		decoded := p.Defects.Has(mime.EncodedContainer)
		for _, c := range p.Children {
			if c.Parent != p {
				t.Fatal("a child has another parent")
			}
			if decoded {
				continue
			}
			if c.Start < at || c.End > p.End {
				t.Fatalf("a part at %d–%d lies outside of %d–%d: %s", c.Start, c.End, at, p.End, tree(root))
			}
			at = c.End
		}
		r := bytes.NewReader(msg)
		all(t, p.Open(r))
		if text := all(t, p.Text(r)); !utf8.ValidString(text) {
			t.Fatalf("text of %s %s is not UTF-8", tree(p), p.Charset)
		}
		for k, v := range p.Params {
			if !utf8.ValidString(k) && utf8.Valid(msg) || !utf8.ValidString(v) {
				t.Fatalf("parameter %q=%q is not UTF-8", k, v)
			}
		}
	}
	if parts > l.Parts || headers > l.Headers {
		t.Fatalf("%d parts, %d octets of header sections: limits are %+v", parts, headers, l)
	}
	if root.End != int64(len(msg)) {
		t.Fatalf("the message ends at %d, not %d", root.End, len(msg))
	}
}

var defaults = mime.Limits{Depth: mime.DefaultDepth, Parts: mime.DefaultParts, Header: mime.DefaultHeader, Headers: mime.DefaultHeaders, Decoded: mime.DefaultDecoded}

// TestForeignMessages reads every message of the suites that have no oracle, and holds some of
// them against what people who looked at them expect.
func TestForeignMessages(t *testing.T) {
	t.Parallel()
	root := foreign(t, "mime")
	count := 0
	seen := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		ext := filepath.Ext(path)
		if ext != ".eml" && ext != ".raw" && ext != ".txt" && ext != ".msg" && ext != ".in" {
			return nil
		}
		msg, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		count++
		p := parse(t, msg)
		check(t, msg, p, defaults)
		name, _ := filepath.Rel(root, path)
		if want, ok := wantTrees[name]; ok {
			seen[name] = true
			if got := tree(p) + " " + p.AllDefects().String(); got != want {
				t.Errorf("%s: got %s\nwant %s", name, got, want)
			}
		} else if os.Getenv("POCZTA_TREES") != "" {
			t.Logf("%q: %q,", name, tree(p)+" "+p.AllDefects().String())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range wantTrees {
		if !seen[name] {
			t.Errorf("%s is not there", name)
		}
	}
	t.Logf("%d foreign messages read, %d of them as expected by hand", count, len(wantTrees))
}

// wantTrees are trees that were held against the messages by eye.
var wantTrees = map[string]string{
	"enmime/low-quality/bad-final-boundary.raw":       "multipart/mixed(text/plain application/x-zip-compressed[foo_9E5D72.zip] text/plain) no_final_boundary",
	"enmime/low-quality/unk-encoding-part.raw":        "multipart/mixed(text/plain application/x-zip-compressed[foo_9E5D72.zip]) bad_encoding",
	"enmime/low-quality/unk-charset-part.raw":         "multipart/mixed(text/plain application/x-zip-compressed[foo_9E5D72.zip]) bad_charset",
	"enmime/mail/attachment-only-text-attachment.raw": "text/plain[test.csv] ",
	"enmime/mail/epilogue-sample.raw":                 "multipart/mixed(text/plain text/html[test.html]) boundary_prefix",
	"enmime/mail/html-mime-inline.raw":                "multipart/alternative(text/plain multipart/related(text/html image/png[favicon.png])) ",
	"enmime/mail/mime-bad-8bit-filename.raw":          "multipart/mixed(text/plain application/msword[管理.doc]) ",
	"enmime/mail/mime-blank-media-name.raw":           "multipart/mixed(text/plain application/pdf[Invoice_302232133150612.pdf]) bad_param",
	"enmime/mail/mime-duplicate-param.raw":            "multipart/mixed(text/plain application/pdf[Invoice_302232133150612.pdf]) repeated_param",
	"enmime/mail/mime-mixed-related.raw":              "multipart/mixed(multipart/related(multipart/alternative(text/html)) multipart/alternative(text/html)) ",
	"enmime/mail/mime-signed.raw":                     "multipart/mixed(multipart/signed(text/plain application/pgp-signature[signature.asc]) text/plain) ",
	"enmime/mail/mime-unquoted-tspecials-param.raw":   "multipart/mixed(text/plain application/pdf[Invoice_(302232133150612).pdf]) ",
	"enmime/mail/multipart-wo-boundary.raw":           "multipart/report no_boundary",
	"enmime/mail/unknown-part-type.raw":               "multipart/abcdefghi(text/plain image/gif[B05.gif]) ",
	"enmime/parts/badboundary.raw":                    "multipart/alternative(text/plain text/html text/plain) no_final_boundary",
	"enmime/parts/multi-malformed.raw":                "multipart/mixed(text/plain text/plain text/plain) no_separator",
	"flanker/apache-message-news-mime.eml":            "multipart/mixed(text/plain message/news(text/plain)) ",
	"flanker/dashed-boundaries.eml":                   "multipart/alternative(text/plain text/html) ",
	"flanker/false-multipart.eml":                     "multipart/alternative no_parts",
	"flanker/message-external-body.eml":               "multipart/mixed(text/plain multipart/alternative(message/external-body message/external-body[draft-ietf-http-authentication-00.txt])) ",
	"flanker/missing-final-boundary.eml":              "multipart/alternative(text/plain) no_final_boundary",
	"flanker/torture-part.eml":                        "multipart/mixed(text/plain message/rfc822(multipart/alternative(text/plain))) ",
	"rspamd/alternative-empty-related.eml":            "multipart/alternative(text/html multipart/related) no_parts,outer_boundary",
	"flanker/enclosed.eml":                            "text/plain no_separator",
}

// TestPostfix counts the header lines that Postfix sees in the message, in its parts and in
// enclosed messages.
func TestPostfix(t *testing.T) {
	t.Parallel()
	dir := foreign(t, "mime/postfix")
	files, err := filepath.Glob(filepath.Join(dir, "*.in"))
	if err != nil || len(files) == 0 {
		t.Fatal("no messages", err)
	}
	line := regexp.MustCompile(`(?m)^(MAIN|MULT|NEST) [0-9]+`)
	for _, file := range files {
		msg, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		ref, err := os.ReadFile(strings.TrimSuffix(file, ".in") + ".ref")
		if err != nil {
			t.Fatal(err)
		}
		want, got := map[string]int{}, map[string]int{}
		for _, m := range line.FindAllSubmatch(ref, -1) {
			want[string(m[1])]++
		}
		for p := range parse(t, msg).All() {
			kind := "MAIN"
			switch {
			case p.Parent != nil && p.Parent.Type == "multipart":
				kind = "MULT"
			case p.Parent != nil:
				kind = "NEST"
			}
			for f := range message.Fields(p.Header) {
				if !f.Malformed() {
					got[kind]++
				}
			}
		}
		name := filepath.Base(file)
		if fmt.Sprint(got) != fmt.Sprint(want) && postfixDeviations[name] == "" {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	t.Logf("postfix: %d messages, %d differ as meant", len(files), len(postfixDeviations))
}

var postfixDeviations = map[string]string{
	"mime_garb1.in": "an enclosed message that is quoted-printable is decoded and entered; Postfix leaves it",
	"mime_garb3.in": "an enclosed message that is quoted-printable is decoded and entered; Postfix leaves it",
	"mime_garb4.in": "an enclosed message that is quoted-printable is decoded and entered; Postfix reads it undecoded",
}
