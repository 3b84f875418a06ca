package sevenbit_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/sevenbit"
)

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

func convert(t *testing.T, text string) string {
	t.Helper()
	plan, err := sevenbit.Scan(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := plan.Convert(&b, iotest.OneByteReader(strings.NewReader(text))); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestConvert(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, want string }{
		{"text", "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\nSubject: x\n\nżó = \nplain\n",
			"Content-Type: text/plain; charset=utf-8\nSubject: x\nContent-Transfer-Encoding: quoted-printable\n\n=C5=BC=C3=B3 =3D=20\nplain\n"},
		{"no MIME at all", "Subject: x\n\nż\n",
			"Subject: x\nMIME-Version: 1.0\nContent-Type: text/plain; charset=unknown-8bit\nContent-Transfer-Encoding: quoted-printable\n\n=C5=BC\n"},
		{"no line end", "MIME-Version: 1.0\n\nż", "MIME-Version: 1.0\nContent-Transfer-Encoding: quoted-printable\n\n=C5=BC=\n"},
		{"binary", "Content-Type: image/png\nContent-Transfer-Encoding: binary\n\n\x89PNG\n\x00\n",
			"Content-Type: image/png\nContent-Transfer-Encoding: base64\n\niVBORw0KAA0K\n"},
		{"multipart", `MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="b"
Content-Transfer-Encoding: 8bit

Preamble ż
--b

plain
--b
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: 8bit

<p>ż</p>
--b
Content-Type: image/x-raw
Content-Transfer-Encoding: 8bit

` + "\xff" + `

--b
Content-Transfer-Encoding: 8bit

ascii
--b--
Epilogue
`, `MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="b"
Content-Transfer-Encoding: 7bit

Preamble ??
--b

plain
--b
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: quoted-printable

<p>=C5=BC</p>
--b
Content-Type: image/x-raw
Content-Transfer-Encoding: base64

/w0K
--b
Content-Transfer-Encoding: 7bit

ascii
--b--
Epilogue
`},
		{"enclosed message", "Content-Type: message/rfc822\nContent-Transfer-Encoding: 8bit\n\nSubject: in\nContent-Transfer-Encoding: 8bit\n\nż\n",
			"Content-Type: message/rfc822\nContent-Transfer-Encoding: 7bit\n\nSubject: in\nContent-Transfer-Encoding: quoted-printable\n\n=C5=BC\n"},
		{"8-bit beside what is signed", "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: text/plain\n\nż\n--a\nContent-Type: multipart/signed; boundary=s\n\n--s\nContent-Transfer-Encoding: 8bit\n\nx\n--s--\n--a--\n",
			"Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\n=C5=BC\n--a\nContent-Type: multipart/signed; boundary=s\n\n--s\nContent-Transfer-Encoding: 8bit\n\nx\n--s--\n--a--\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if d := cmp.Diff(crlf(tt.want), convert(t, crlf(tt.in))); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestUnfit(t *testing.T) {
	t.Parallel()
	deep := "Content-Type: multipart/mixed; boundary=b0\n\n"
	for i := range sevenbit.MaxDepth + 1 {
		deep += fmt.Sprintf("--b%d\nContent-Type: multipart/mixed; boundary=b%d\n\n", i, i+1)
	}
	tests := []struct{ name, in, why string }{
		{"signed", "Content-Type: multipart/signed; boundary=s\n\n--s\n\nż\n--s--\n", "signed"},
		{"encrypted", "Content-Type: application/pkcs7-mime\nContent-Transfer-Encoding: binary\n\n\xff\n", "encrypted"},
		{"in a signed message", "Content-Type: multipart/signed; boundary=s\n\n--s\nContent-Type: message/rfc822\n\nA: b\n\nż\n--s--\n", "signed"},
		{"header of a part", "Content-Type: multipart/mixed; boundary=s\n\n--s\nContent-Description: ż\n\nx\n--s--\n", "header"},
		{"header", "Subject: ż\n\nż\n", "header"},
		{"a lie", "Content-Transfer-Encoding: base64\n\nż\n", "base64"},
		{"two types", "Content-Type: text/plain\nContent-Type: multipart/mixed; boundary=a\n\nż\n", "malformed"},
		{"no boundary", "Content-Type: multipart/mixed\n\nż\n", "malformed"},
		{"deep", deep, "deep"},
		{"many", "Content-Type: multipart/mixed; boundary=s\n\n" + strings.Repeat("--s\n\n", sevenbit.MaxEntities), "more than"},
		{"endless header", "Subject: " + strings.Repeat("x", sevenbit.MaxHeaderOctets), "larger"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			plan, err := sevenbit.Scan(strings.NewReader(crlf(tt.in)))
			if err != nil {
				t.Fatal(err)
			}
			if err := plan.Unfit(); !errors.Is(err, sevenbit.ErrUnfit) || !strings.Contains(err.Error(), tt.why) || !plan.EightBit {
				t.Errorf("got %v, 8-bit %v, want %q", err, plan.EightBit, tt.why)
			}
			if err := plan.Convert(io.Discard, strings.NewReader(crlf(tt.in))); !errors.Is(err, sevenbit.ErrUnfit) {
				t.Errorf("converted: %v", err)
			}
		})
	}
}

func TestSevenBitNeedsNothing(t *testing.T) {
	t.Parallel()
	plan, err := sevenbit.Scan(strings.NewReader(crlf("Content-Type: multipart/signed; boundary=s\nContent-Transfer-Encoding: 8bit\n\n--s\n\nx\n--s--\n")))
	if err != nil || plan.EightBit || plan.HeaderEightBit || plan.Unfit() != nil {
		t.Errorf("%+v, %v", plan, err)
	}
	if plan, err := sevenbit.Scan(strings.NewReader("Subject: ż\r\n\r\nx\r\n")); err != nil || plan.EightBit || !plan.HeaderEightBit {
		t.Errorf("%+v, %v", plan, err)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	broken := io.MultiReader(strings.NewReader("A: b\r\n\r\nż"), iotest.ErrReader(io.ErrUnexpectedEOF))
	if _, err := sevenbit.Scan(broken); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
	plan, err := sevenbit.Scan(strings.NewReader("A: b\r\n\r\nż\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := plan.Convert(io.Discard, strings.NewReader(crlf("Content-Type: message/rfc822\n\nA: b\n\nx\n"))); err == nil {
		t.Error("another message was converted by the plan")
	}
}

// leaves reads a message as other programs do: by net/mail and mime/multipart.
func leaves(t *testing.T, header map[string][]string, body io.Reader, depth int) (out []string) {
	t.Helper()
	get := func(name string) string {
		if v := header[name]; len(v) > 0 {
			return v[0]
		}
		return ""
	}
	kind, params, err := mime.ParseMediaType(get("Content-Type"))
	if err == nil && strings.HasPrefix(kind, "multipart/") {
		r := multipart.NewReader(body, params["boundary"])
		for {
			p, err := r.NextRawPart()
			if err != nil {
				return out
			}
			out = append(out, leaves(t, p.Header, p, depth+1)...)
		}
	}
	switch strings.ToLower(get("Content-Transfer-Encoding")) {
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	}
	b, err := io.ReadAll(body)
	if err != nil {
		t.Fatalf("a leaf can't be decoded: %v", err)
	}
	return append(out, string(b))
}

// TestIdentity reads both forms with another implementation: the leaves are the same octets.
func TestIdentity(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("zażółć gęślą jaźń  ", 400)
	text := crlf(`MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="outer"

--outer
Content-Type: multipart/alternative; boundary="outer2"

--outer2
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

` + long + `
` + long + `

--outer2
Content-Type: application/octet-stream
Content-Transfer-Encoding: 8bit

` + strings.Repeat("\xff\xfe", 57) + `
--outer2--
--outer
Content-Type: text/plain

end
--outer--
`)
	got := convert(t, text)
	for line := range strings.SplitSeq(got, "\r\n") {
		if len(line) > 76 {
			t.Errorf("a line of %d octets", len(line))
		}
	}
	read := func(s string) []string {
		m, err := mail.ReadMessage(strings.NewReader(s))
		if err != nil {
			t.Fatal(err)
		}
		return leaves(t, m.Header, m.Body, 0)
	}
	if d := cmp.Diff(read(text), read(got)); d != "" {
		t.Error(d)
	}
	if len(read(got)) != 3 {
		t.Errorf("%d leaves", len(read(got)))
	}
}
