package sanitize_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"poczta.example/poczta/internal/sanitize"
)

func cid(id string) string {
	if id == "logo@x" {
		return "/part/7/2"
	}
	return ""
}

func TestHTML(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, want string }{
		{"text", "a &lt; b & c", "a &lt; b &amp; c"},
		{"markup", "<p>one<br>two <b>three</b></p>", "<p>one<br>two <b>three</b></p>"},
		{"script", "a<script>alert(1)</script>b<SCRIPT SRC=//x></SCRIPT>c", "abc"},
		{"handlers", `<p onclick="x()" onmouseover=y()>a</p>`, "<p>a</p>"},
		{"style block", "<style>p{background:url(http://x)}</style><p>a</p>", "<p>a</p>"},
		{"nested left out", "<svg><svg><p>x</p></svg><p>y</p></svg>z", "z"},
		{"form", `<form action="http://x"><input name=a value=b><button>go</button>text</form>`, "gotext"},
		{"remote image", `<img src="http://t.example/a.png" width="200" alt="logo">`, `<img width="200" alt="logo" class="blocked">`},
		{"cid", `<img src="cid:logo@x">`, `<img src="/part/7/2">`},
		{"cid that is not there", `<img src="cid:other@x" alt="o">`, `<img alt="o">`},
		{"relative image", `<img src="/settings?delete=1" alt="r">`, `<img alt="r">`},
		{"protocol-relative", `<img src="//t.example/x"><a href="//t.example/x">a</a>`, `<img><a>a</a>`},
		{"data image", `<img src="data:image/png;base64,iVBORw0KGgo=">`, `<img src="data:image/png;base64,iVBORw0KGgo=">`},
		{"data svg", `<img src="data:image/svg+xml;base64,PHN2Zz4=">`, `<img>`},
		{"data html", `<a href="data:text/html,<script>x</script>">a</a>`, `<a>a</a>`},
		{"javascript", `<a href="java&#x0A;script:alert(1)">a</a>`, `<a>a</a>`},
		{"srcset", `<img srcset="http://x/a 1x">`, `<img>`},
		{"background", `<table background="http://x/a"><tr><td>a</td></tr></table>`, `<table><tr><td>a</td></tr></table>`},
		{"style", `<p style="color:red;background:url(http://x);position:fixed;width:50%">a</p>`, `<p style="color: red; width: 50%">a</p>`},
		{"style in capitals", `<p style="COLOR:RED;width:EXPRESSION(alert(1))">a</p>`, `<p style="COLOR: RED">a</p>`},
		{"style escaped", `<p style="color:r\65 d;width:u\72l(x)">a</p>`, `<p>a</p>`},
		{"negative margin", `<p style="margin:-100px 0 0">a</p>`, `<p>a</p>`},
		{"link", `<a href="https://x.example/p?q=1&r=2">here</a>`, `<a href="https://x.example/p?q=1&amp;r=2" rel="nofollow noreferrer noopener" target="_blank">here</a>`},
		{"mail", `<a href="mailto:a@x.example">a@x.example</a>`, `<a href="mailto:a@x.example" rel="nofollow noreferrer">a@x.example</a>`},
		{"user in a link", `<a href="https://bank.example@evil.example/">bank</a>`, `<a>bank</a>`},
		{"deceptive", `<a href="https://evil.example/">https://bank.example/login</a>`, `<a href="https://evil.example/" rel="nofollow noreferrer noopener" target="_blank">https://bank.example/login <span class="leads-to">[→ evil.example]</span></a>`},
		{"a host below", `<a href="https://www.bank.example/">bank.example</a>`, `<a href="https://www.bank.example/" rel="nofollow noreferrer noopener" target="_blank">bank.example</a>`},
		{"base and meta", `<base href="http://x/"><meta http-equiv=refresh content="0;url=http://x"><link rel=stylesheet href=http://x>a`, "a"},
		{"comment", `<!--[if mso]><p>x</p><![endif]-->a`, "a"},
		{"unended tag", `a<img src="http://x`, "a"},
		{"old image element", `<image src="http://t.example/a.png">`, `<img class="blocked">`},
	}
	for _, tt := range tests {
		if got := sanitize.HTML(tt.in, sanitize.Options{CID: cid}).HTML; got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

func TestCounts(t *testing.T) {
	t.Parallel()
	const in = `<img src="https://t.example/a.png" width=300><img src="https://t.example/o.gif" width=1 height=1><img src="https://t.example/p" style="display: none">` +
		`<a href="https://evil.example/">bank.example</a>`
	got := sanitize.HTML(in, sanitize.Options{})
	if got.Blocked != 3 || got.Trackers != 2 || got.Deceptive != 1 || strings.Contains(got.HTML, "t.example") {
		t.Errorf("%+v", got)
	}
	got = sanitize.HTML(in, sanitize.Options{Remote: true})
	if got.Blocked != 0 || got.Trackers != 2 || strings.Count(got.HTML, "t.example") != 1 {
		t.Errorf("asked for: %+v", got)
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	got := sanitize.HTML(strings.Repeat("<div>", 100_000)+"deep"+strings.Repeat("</div>", 100_000), sanitize.Options{})
	if n := strings.Count(got.HTML, "<div>"); n > 200 || !strings.Contains(got.HTML, "deep") {
		t.Errorf("%d elements within each other", n)
	}
	if got := sanitize.HTML(strings.Repeat("abc żółw ", 1<<20), sanitize.Options{}); !got.Cut || len(got.HTML) > sanitize.MaxOctets+100 {
		t.Errorf("%d octets, cut %v", len(got.HTML), got.Cut)
	}
	sanitize.HTML(strings.Repeat("<a href=http://x.example>", 50_000)+strings.Repeat(`<p style="`, 5_000)+strings.Repeat("<!--", 50_000), sanitize.Options{})
}

var (
	handler = regexp.MustCompile(`(?i)^on`)
	schemes = regexp.MustCompile(`(?i)^(https?:|mailto:|tel:|data:image/(png|jpe?g|gif|webp);base64,|/part/)`)
)

// mustBeSafe parses what would be shown as a browser does and looks for what must not be there.
func mustBeSafe(t *testing.T, in, out string, remote bool) {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(out))
	if err != nil {
		t.Fatalf("%q: %v", in, err)
	}
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		switch n.Data {
		case "script", "style", "iframe", "object", "embed", "form", "input", "link", "meta", "base", "svg", "math", "video", "audio", "template", "frame", "frameset", "button", "noscript":
			t.Errorf("%q became %q: %s", in, out, n.Data)
		}
		for _, a := range n.Attr {
			v := strings.ToLower(a.Val)
			if handler.MatchString(a.Key) || a.Key == "style" && (strings.Contains(v, "url") || strings.Contains(v, "expression") || strings.Contains(v, "position")) ||
				(a.Key == "href" || a.Key == "src") && !schemes.MatchString(a.Val) || a.Key == "srcset" || a.Key == "background" {
				t.Errorf("%q became %q: %s=%q", in, out, a.Key, a.Val)
			}
			if a.Key == "src" && !remote && strings.HasPrefix(v, "http") {
				t.Errorf("%q loads %s", in, a.Val)
			}
		}
	}
}

// foreign returns the path of a foreign corpus, and skips the test where it is absent.
func foreign(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("POCZTA_TESTDATA")
	path := filepath.Join(dir, filepath.FromSlash(name))
	if _, err := os.Stat(path); dir == "" || err != nil {
		if os.Getenv("CI") != "" && dir != "" {
			t.Fatalf("%s: %v", name, err)
		}
		t.Skip("foreign test data is not here: set POCZTA_TESTDATA")
	}
	return path
}

// TestForeignAttacks runs html5lib's strings; no script survives any of them.
func TestForeignAttacks(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(foreign(t, "html/html5lib-sanitizer-tests.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all []struct{ Name, Input string }
	if err := json.Unmarshal(text, &all); err != nil || len(all) < 30 {
		t.Fatalf("%d attacks, %v", len(all), err)
	}
	for _, a := range all {
		for _, remote := range []bool{false, true} {
			mustBeSafe(t, a.Input, sanitize.HTML(a.Input, sanitize.Options{Remote: remote, CID: cid}).HTML, remote)
		}
	}
}

func FuzzHTML(f *testing.F) {
	for _, s := range []string{"<p>a</p>", `<a href="javascript:x">`, `<img src=cid:logo@x style="width:url(x)">`, "<svg><style><img src=x onerror=y>", `<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=alert(1)&gt;">`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		mustBeSafe(t, s, sanitize.HTML(s, sanitize.Options{CID: cid}).HTML, false)
	})
}
