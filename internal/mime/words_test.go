package mime_test

import (
	"testing"
	"unicode/utf8"

	"poczta.example/poczta/internal/mime"
)

func TestDecodeWords(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, want string }{
		{"plain", "Hello", "Hello"},
		{"rfc 2047 §8 a", "=?ISO-8859-1?Q?a?=", "a"},
		{"rfc 2047 §8 a b", "=?ISO-8859-1?Q?a?= b", "a b"},
		{"rfc 2047 §8 ab", "=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab"},
		{"rfc 2047 §8 a_b", "=?ISO-8859-1?Q?a_b?=", "a b"},
		{"language", "=?utf-8*pl?Q?=C5=82?=", "ł"},
		{"character split between words", "=?utf-8?B?xQ==?= =?utf-8?B?gg==?=", "ł"},
		{"blanks inside", "=?utf-8?Q?a b?=", "a b"},
		{"no padding", "=?utf-8?B?xYI?=", "ł"},
		{"glued", "x=?utf-8?Q?=C5=82?=y", "xły"},
		{"unknown charset", "=?nonsense?Q?=C5=82?=", "ł"},
		{"no end", "=?utf-8?Q?abc", "=?utf-8?Q?abc"},
		{"no encoding", "=?utf-8?X?abc?=", "=?utf-8?X?abc?="},
		{"raw utf-8", "żółw", "żółw"},
		{"raw latin", "f\xfcr", "für"},
		{"starts with equals", "=?iso-8859-1?q?=ED?=", "í"},
		{"koi8-r", "=?koi8-r?B?8NLJ18XU?=", "Привет"},
		{"iso-2022-jp", "=?ISO-2022-JP?B?GyRCRnxLXBsoQg==?=", "日本"},
		{"windows-1250", "=?windows-1250?Q?=BF=F3=B3w?=", "żółw"},
		{"utf-7", "=?utf-7?Q?+AXwA8wFC-w?=", "żółw"},
		{"cp852", "=?cp852?Q?=BE=A2=88w?=", "żółw"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := mime.DecodeWords(tt.in); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzDecodeWords(f *testing.F) {
	for _, s := range []string{"=?utf-8?Q?=C5=82?= =?utf-8?B?xYI?=", "=?utf-7?B?KzVnLQ==?=", "=?a", "=?=?=?=?="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := mime.DecodeWords(s)
		if !utf8.ValidString(got) {
			t.Fatalf("%q reads as %q, which is not UTF-8", s, got)
		}
		if len(got) > 12*len(s)+16 {
			t.Fatalf("%d octets became %d", len(s), len(got))
		}
	})
}

// FuzzContentType holds that parameters are UTF-8 and bounded.
func FuzzContentType(f *testing.F) {
	for _, s := range []string{`text/plain; name*0*=utf-8''a%20; name*1=b`, `a/b; x="y\"z"; (c) d=e`, `multipart/mixed boundary="a"`, `;;=;*=`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		msg := []byte("Content-Type: " + s + "\nContent-Disposition: " + s + "\n\nbody")
		check(t, msg, parse(t, msg), defaults)
	})
}
