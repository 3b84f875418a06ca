package holdings_test

import (
	"bytes"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/backup/holdings"
)

func TestRows(t *testing.T) {
	t.Parallel()
	for _, values := range [][]any{
		nil,
		{nil},
		{int64(0), int64(-1), int64(math.MaxInt64), int64(math.MinInt64)},
		{"", "zażółć", []byte{}, []byte{0, 255}, nil, int64(7)},
	} {
		octets, err := holdings.AppendRow(nil, values)
		if err != nil {
			t.Fatal(err)
		}
		got, err := holdings.ParseRow(octets)
		if diff := cmp.Diff(values, got); diff != "" || err != nil {
			t.Errorf("row (-want +got):\n%s%v", diff, err)
		}
	}
	if _, err := holdings.AppendRow(nil, []any{1.5}); err == nil {
		t.Error("a fraction was written")
	}
}

// TestKeysSortAsValues compares octets of keys in the order of their values.
func TestKeysSortAsValues(t *testing.T) {
	t.Parallel()
	for name, list := range map[string][]any{
		"numbers": {int64(math.MinInt64), int64(-2), int64(-1), int64(0), int64(1), int64(255), int64(256), int64(math.MaxInt64)},
		"text":    {"", "\x00", "\x00\x00", "\x00a", "\x01", "a", "a\x00", "a\x00b", "aa", "ab", "b", "ą"},
		"octets":  {[]byte{}, []byte{0}, []byte{0, 0}, []byte{0, 255}, []byte{1}, []byte{255}, []byte{255, 0}},
	} {
		var last []byte
		for i, v := range list {
			key, err := holdings.AppendKey(nil, v)
			if err != nil {
				t.Fatal(err)
			}
			// What follows in a key must not change the order.
			key, err = holdings.AppendKey(key, int64(-i))
			if err != nil {
				t.Fatal(err)
			}
			if i > 0 && bytes.Compare(last, key) >= 0 {
				t.Errorf("%s: the key of %v does not follow that of %v", name, v, list[i-1])
			}
			last = key
		}
	}
	for _, tt := range []struct{ prefix, want []byte }{{[]byte{1, 2}, []byte{1, 3}}, {[]byte{1, 255}, []byte{2}}, {[]byte{255}, nil}} {
		if got := holdings.KeyAfter(tt.prefix); !bytes.Equal(got, tt.want) {
			t.Errorf("after %x: %x, want %x", tt.prefix, got, tt.want)
		}
	}
}

func FuzzRow(f *testing.F) {
	f.Add([]byte{1, 2, 2, 1, 'a', 3, 1, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		values, err := holdings.ParseRow(b)
		if err != nil {
			return
		}
		again, err := holdings.AppendRow(nil, values)
		if err != nil {
			t.Fatal(err)
		}
		got, err := holdings.ParseRow(again)
		if diff := cmp.Diff(values, got); diff != "" || err != nil {
			t.Errorf("a row that was read and written (-want +got):\n%s%v", diff, err)
		}
	})
}
