package classifier_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/classifier"
	"poczta.example/poczta/internal/content"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/mime"
	"poczta.example/poczta/internal/verdict"
)

func TestWords(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		text string
		want []string
	}{
		"case and signs":    {"Buy NOW, don't (wait)!!! e.g. opt-in", []string{"buy", "now", "don't", "wait", "!", "e.g", "opt-in"}},
		"numbers":           {"1,200 items for $19.95 or 50% since 2003", []string{"#,###", "items", "for", "$##.##", "or", "##%", "since", "####"}},
		"long number":       {"1234567890123456", []string{"############+"}},
		"mixed":             {"v1agra", []string{"v1agra"}},
		"URLs":              {"see https://a.example/x?y=1, www.b.example or c.example", []string{"see", "url", "url", "or", "c.example"}},
		"hidden characters": {"vi\u200Bag\u00ADra", []string{"viagra"}},
		"wide letters":      {"ＦＲＥＥ 𝐦𝐨𝐧𝐞𝐲 ①", []string{"free", "money"}},
		"Polish":            {"Zażółć GĘŚLĄ jaźń", []string{"zażółć", "gęślą", "jaźń"}},
		"composed marks":    {"cafe\u0301", []string{"caf\u00E9"}},
		"Han":               {"发票abc", []string{"发", "票", "abc"}},
		"currency":          {"€50 £20", []string{"€##", "£##"}},
		"long word":         {strings.Repeat("ab", 20), []string{"long word of 40 characters"}},
		"only signs":        {"--- ... ,, '' -- %", nil},
		"broken UTF-8":      {"a\xffb \xc3", []string{"a", "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, classifier.Words(tc.text)); diff != "" {
				t.Errorf("words of %q (-want +got):\n%s", tc.text, diff)
			}
		})
	}
}

func TestSubject(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"Re: [list] Fwd: hello": "hello", "RE: re: x": "x", "Odp: [a] [b] x": "x", "[no end": "[no end", "[]x": "x", "to: x": "to: x", "": "",
	} {
		if got := classifier.Subject(in); got != want {
			t.Errorf("subject %q: got %q, want %q", in, got, want)
		}
	}
}

func TestWithoutFooter(t *testing.T) {
	t.Parallel()
	const rule = "\n_______________________________________________\n"
	for name, tc := range map[string]struct{ in, want string }{
		"list":         {"hello" + rule + "talk mailing list\nhttps://l.example/listinfo/talk\n", "hello"},
		"two lists":    {"hello" + rule + "a mailing list" + rule + "b mailing list\n", "hello"},
		"signature":    {"hello\n--\nJan\n", "hello\n--\nJan\n"},
		"other rule":   {"hello" + rule + "the end\n", "hello" + rule + "the end\n"},
		"far from end": {"hello" + rule + "mailing list" + strings.Repeat("\nline", 20), "hello" + rule + "mailing list" + strings.Repeat("\nline", 20)},
	} {
		if got := strings.TrimRight(classifier.WithoutFooter(tc.in), "\n"); got != strings.TrimRight(tc.want, "\n") {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

// TestFeaturesTell holds that each thing that is read changes the features, and that what
// the path of a message adds does not.
func TestFeaturesTell(t *testing.T) {
	t.Parallel()
	from := func(name, addr string) []message.Mailbox {
		a, err := address.Parse(addr)
		if err != nil {
			t.Fatal(err)
		}
		return []message.Mailbox{{Name: name, Address: a}}
	}
	base := func() *content.Content {
		return &content.Content{
			Root: &mime.Part{Type: "text", Subtype: "plain", Charset: "utf-8"}, Subject: "hello there", From: from("Jan", "jan@a.example"), Text: "some words here",
			Links: []content.Link{{URL: "https://l.example/buy/now?id=7", Host: "l.example"}},
		}
	}
	for name, tc := range map[string]struct {
		change func(ct *content.Content)
		same   bool
	}{
		"subject":       {func(ct *content.Content) { ct.Subject = "hello you" }, false},
		"name":          {func(ct *content.Content) { ct.From = from("Piotr", "jan@a.example") }, false},
		"address":       {func(ct *content.Content) { ct.From = from("Jan", "jan@b.example") }, false},
		"order":         {func(ct *content.Content) { ct.Text = "words some here" }, false},
		"host":          {func(ct *content.Content) { ct.Links[0].Host = "m.example" }, false},
		"path":          {func(ct *content.Content) { ct.Links[0].URL = "https://l.example/sell/now" }, false},
		"type":          {func(ct *content.Content) { ct.Root.Subtype = "html" }, false},
		"file":          {func(ct *content.Content) { ct.Root.Filename = "a.exe" }, false},
		"charset":       {func(ct *content.Content) { ct.Root.Charset = "koi8-r" }, false},
		"trick in HTML": {func(ct *content.Content) { ct.Items = []verdict.Item{{Name: verdict.HTMLHidden}} }, false},
		"form":          {func(ct *content.Content) { ct.Links[0].Kind = content.Form }, false},
		"reply and tag": {func(ct *content.Content) { ct.Subject = "Re: [list] hello there" }, true},
		"list's footer": {func(ct *content.Content) { ct.Text += "\n--\nTo unsubscribe write to us\n" }, true},
		"query":         {func(ct *content.Content) { ct.Links[0].URL = "https://l.example/buy/now?id=8" }, true},
		"header":        {func(ct *content.Content) { ct.Header = []byte("List-Id: x\nX-Spam: no\nReceived: y\n") }, true},
		"date missing":  {func(ct *content.Content) { ct.Items = []verdict.Item{{Name: verdict.NoDate}} }, true},
		"mailing list":  {func(ct *content.Content) { ct.Items = []verdict.Item{{Name: verdict.MailingList}} }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changed := base()
			tc.change(changed)
			if got := classifier.FeaturesOf(base()).Equal(classifier.FeaturesOf(changed)); got != tc.same {
				t.Errorf("features are equal: %v, want %v", got, tc.same)
			}
		})
	}
}

func TestFeaturesAreBounded(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	for b.Len() < 1<<20 {
		b.WriteString(string(rune('a'+r.IntN(26))) + string(rune('a'+r.IntN(26))) + string(rune('a'+r.IntN(26))) + " ")
	}
	ct := &content.Content{Subject: b.String(), Text: b.String()}
	for range 10_000 {
		ct.Links = append(ct.Links, content.Link{URL: "http://" + b.String()[:2000], Host: strings.ReplaceAll(b.String()[:400], " ", ".")})
	}
	if n := classifier.FeaturesOf(ct).Len(); n > 10_000 {
		t.Errorf("%d features of a huge message, want 10,000 at most", n)
	}
	flooded := &content.Content{Subject: b.String(), From: []message.Mailbox{{Name: b.String()}}}
	if n := classifier.FeaturesOf(flooded).Len(); n > 1100 {
		t.Errorf("%d features of a huge subject and name, want the text to have its share", n)
	}
	if n := classifier.FeaturesOf(&content.Content{}).Len(); n != 0 {
		t.Errorf("%d features of nothing, want none", n)
	}
}

func FuzzFeatures(f *testing.F) {
	f.Add("Re: [x] hello", "text with 1,000 words\n--\nunsubscribe", "Jan", "http://a.example/b/c?d", "a.example")
	f.Add("\xff", "vi\u200Bag\u00ADra 发票 ①", "", "://", "[::1]")
	f.Fuzz(func(t *testing.T, subject, text, name, url, host string) {
		ct := &content.Content{
			Subject: subject, Text: text, From: []message.Mailbox{{Name: name}}, Links: []content.Link{{URL: url, Host: host}},
			Root: &mime.Part{Type: name, Subtype: host, Filename: url, Charset: host},
		}
		got := classifier.FeaturesOf(ct)
		back, known, err := classifier.Unpack(got.Pack())
		if err != nil || !known || !back.Equal(got) {
			t.Fatalf("packed features come back changed (known %v): %v", known, err)
		}
		m := classifier.NewModel(16)
		m.Add(got, true)
		if p, _ := m.Judge(nil, got); !(p >= 0 && p <= 1) {
			t.Fatalf("probability %v", p)
		}
		m.Remove(got, true)
		if !m.Equal(classifier.NewModel(16)) {
			t.Fatal("what was added and removed left a trace")
		}
	})
}

func FuzzUnpack(f *testing.F) {
	f.Add(classifier.FeaturesOf(&content.Content{Text: "a few words"}).Pack())
	f.Add([]byte{1, 0, 1})
	f.Add([]byte{2, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, known, err := classifier.Unpack(b)
		if err != nil || !known {
			return
		}
		back, _, err := classifier.Unpack(got.Pack())
		if err != nil || !back.Equal(got) {
			t.Fatalf("features %v come back changed: %v", b, err)
		}
	})
}

func FuzzReadPart(f *testing.F) {
	m := classifier.NewModel(17)
	m.Add(classifier.FeaturesOf(&content.Content{Text: "a few words"}), true)
	for part, b := range m.Parts() {
		f.Add(part, b)
	}
	f.Fuzz(func(t *testing.T, part int, b []byte) {
		m := classifier.NewModel(17)
		if err := m.ReadPart(part, b); err != nil {
			return
		}
		back := classifier.NewModel(17)
		for i, b := range m.Parts() {
			if err := back.ReadPart(i, b); err != nil {
				t.Fatal(err)
			}
		}
		if !back.Equal(m) {
			t.Fatal("a model comes back changed")
		}
	})
}

func TestSorted(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 2, 63, 64, 65, 1000, 10_000} {
		for _, skewed := range []int{1, 2, 32} { // hashes are even, but somebody may look for words of which they are not
			hashes := make([]uint32, n)
			for i := range hashes {
				hashes[i] = r.Uint32() >> r.IntN(skewed)
			}
			want := slices.Sorted(slices.Values(hashes))
			if got := classifier.Sorted(slices.Clone(hashes)); !slices.Equal(got, want) {
				t.Errorf("%d hashes, skewed by %d: got %v, want %v", n, skewed, got, want)
			}
		}
	}
}
