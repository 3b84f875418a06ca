package compose_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/mime"
	"poczta.example/poczta/internal/mua/compose"
	"poczta.example/poczta/internal/mua/store"
)

// injections are texts that would be more than a value if they were written as they are.
var injections = []string{
	"x\r\nBcc: thief@evil.example", "x\nBcc: thief@evil.example", "x\rBcc: thief@evil.example", "x\r\n\r\nBcc: thief@evil.example", "\r\nBcc: thief@evil.example",
	"x\r\n Bcc: thief@evil.example", `x" <thief@evil.example>, "y`, `x\`, `x\" <thief@evil.example>`, "x>, <thief@evil.example", "(x", "x)", "x;\r\n y=\"z", "x\x00y", "x\u0085Bcc: thief@evil.example",
	"x\u2028Bcc: thief@evil.example", "=?utf-8?Q?x=0D=0ABcc:_thief@evil.example?=", "=?utf-8?B?DQpCY2M6IHRoaWVmQGV2aWwuZXhhbXBsZQ==?=", "\u202egnp.exe", "x\r\n.\r\nMAIL FROM:<thief@evil.example>", "--=_", strings.Repeat("ż", 5000),
}

// TestInjection writes letters with hostile texts in every place, as a program or a letter that is
// answered may bring them: no field, part or recipient comes of them.
func TestInjection(t *testing.T) {
	t.Parallel()
	fields := []string{"From", "Reply-To", "To", "Cc", "Subject", "Date", "Message-ID", "In-Reply-To", "References", "MIME-Version", "Content-Type", "Content-Disposition", "Content-Transfer-Encoding"}
	for _, x := range injections {
		d := compose.Draft{From: store.Address{Name: x, Address: "ala@house.example"}, ReplyTo: []store.Address{{Name: x, Address: "ala@house.example"}},
			To: []store.Address{{Name: x, Address: "ola@peer.example"}}, Cc: []store.Address{{Name: x, Address: "ula@peer.example"}}, Bcc: []store.Address{{Name: x, Address: "iza@peer.example"}},
			Subject: x, Text: x, InReplyTo: "<" + x + "@y>", References: []string{"<a@b>", x, "<" + x + ">"},
			Attachments: []compose.Attachment{attachment(x, "text/plain; charset=\""+x+"\"", "content"), attachment(x, x, x), attachment("a.txt", "text/"+x, "content")}}
		if d.InReplyTo == "" {
			t.Fatal("no field to attack")
		}
		text := write(t, &d)
		root, err := mime.Parse(strings.NewReader(text), int64(len(text)), mime.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if len(root.Children) != 4 {
			t.Errorf("%.60q: %d parts", x, len(root.Children))
		}
		for p := range root.All() {
			for f := range message.Fields(p.Header) {
				if f.Malformed() || !slices.ContainsFunc(fields, func(name string) bool { return f.Is(name) }) {
					t.Errorf("%.60q: a field %.60q", x, f.Name())
				}
			}
			if bytes.Contains(p.Header, []byte("\r\nBcc:")) || bytes.ContainsAny(bytes.ReplaceAll(p.Header, []byte("\r\n"), nil), "\r\n\x00") {
				t.Errorf("%.60q: header section %q", x, p.Header)
			}
		}
		for _, name := range []string{"From", "Reply-To", "To", "Cc"} {
			value, err := message.Get(root.Header, name)
			list, perr := message.ParseAddressList(value)
			if !err || perr != nil || len(list) != 1 || strings.Contains(list[0].Address.String(), "thief") {
				t.Errorf("%.60q: %s: %.200q (%v)", x, name, value, perr)
			}
		}
		for line := range strings.Lines(text) {
			if len(line) > 1000 || !strings.HasSuffix(line, "\r\n") || strings.Contains(strings.TrimSuffix(line, "\r\n"), "\r") {
				t.Errorf("%.60q: a line of %d octets: %.80q", x, len(line), line)
			}
		}
	}
}

// TestLongParagraph writes and quotes a paragraph of megabytes, as programs hand them in.
func TestLongParagraph(t *testing.T) {
	t.Parallel()
	for _, word := range []string{"word ", "\t ", " ", "ż ", "x"} {
		d := compose.Draft{From: store.Address{Address: "ala@house.example"}, To: []store.Address{{Address: "ola@peer.example"}}, Subject: "long", Text: strings.Repeat(word, (4<<20)/len(word))}
		begin := time.Now()
		if n := len(write(t, &d)); n == 0 || time.Since(begin) > 30*time.Second {
			t.Errorf("%q again and again: %d octets in %v", word, n, time.Since(begin))
		}
	}
}
