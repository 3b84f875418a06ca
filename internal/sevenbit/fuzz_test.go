package sevenbit_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"poczta.example/poczta/internal/sevenbit"
)

// FuzzConvert holds that a converted message is ASCII, needs no second conversion,
// has the same leaves, and does not depend on how its octets come in.
func FuzzConvert(f *testing.F) {
	f.Add([]byte("Content-Type: text/plain\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\xff = \t\r\n.\r\n"))
	f.Add([]byte("Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n\r\n\xff\r\n--a\r\nContent-Type: image/png\r\n\r\n\xfe\r\n\r\n--a--\r\n\xfd"))
	f.Add([]byte("Content-Type: message/rfc822\r\n\r\nA: b\r\n\r\n\xff"))
	f.Add([]byte("Content-Type: multipart/digest; boundary=a\r\n\r\n--a\r\n\r\nContent-Type: application/x\r\n\r\n\xff\r\n--a"))
	f.Fuzz(func(t *testing.T, text []byte) {
		plan, err := sevenbit.Scan(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if !plan.EightBit || plan.Unfit() != nil {
			return
		}
		var whole, bytewise bytes.Buffer
		if err := plan.Convert(&whole, bytes.NewReader(text)); err != nil {
			t.Fatal(err)
		}
		if err := plan.Convert(&bytewise, iotest.OneByteReader(bytes.NewReader(text))); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(whole.Bytes(), bytewise.Bytes()) {
			t.Fatalf("whole %q, bytewise %q", whole.String(), bytewise.String())
		}
		for _, c := range whole.Bytes() {
			if c >= 0x80 {
				t.Fatalf("8-bit left: %q", whole.String())
			}
		}
		again, err := sevenbit.Scan(bytes.NewReader(whole.Bytes()))
		if err != nil || again.EightBit {
			t.Fatalf("%+v, %v: %q", again, err, whole.String())
		}
		before, err := sevenbit.Leaves(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		after, err := sevenbit.Leaves(strings.NewReader(whole.String()))
		if err != nil || !slices.Equal(before, after) {
			t.Fatalf("leaves %q, want %q (%v) in %q", after, before, err, whole.String())
		}
	})
}
