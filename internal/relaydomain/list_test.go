package relaydomain_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"poczta.example/poczta/internal/relaydomain"
)

func TestReadList(t *testing.T) {
	t.Parallel()
	d := domain(t, "list.example")
	for _, tt := range []struct {
		name string
		in   io.Reader
		want string // keys, or what the error says
	}{
		{"addresses", strings.NewReader("# people\n\nAla@list.example\r\n  ola@LIST.example \nżółw@list.example"), "ala@list.example ola@list.example żółw@list.example"},
		{"nothing", strings.NewReader(""), ""},
		{"malformed", strings.NewReader("ala@list.example\nola\n"), "line 2: "},
		{"elsewhere", strings.NewReader("\nala@other.example\n"), "line 2: ala@other.example is not an address of list.example"},
		{"endless line", strings.NewReader("a@list.example\n" + strings.Repeat("x", 1<<16)), "line 2: "},
		{"unreadable", iotest.ErrReader(errors.New("disk is gone")), "line 1: disk is gone"},
		{"too many", strings.NewReader(strings.Repeat("a@list.example\n", relaydomain.MaxList+1)), "at most 1048576"},
	} {
		list, err := relaydomain.ReadList(tt.in, d)
		var keys []string
		for _, a := range list {
			keys = append(keys, a.Key())
		}
		got := strings.Join(keys, " ")
		if err != nil {
			got = err.Error()
		}
		if err == nil && got != tt.want || err != nil && (tt.want == "" || !strings.Contains(got, tt.want)) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func FuzzReadList(f *testing.F) {
	f.Add("# x\nala@list.example\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		d := domain(t, "list.example")
		list, err := relaydomain.ReadList(strings.NewReader(text), d)
		if err != nil {
			return
		}
		var again strings.Builder
		for _, a := range list {
			if a.Domain() != d {
				t.Errorf("%s in the list", a)
			}
			again.WriteString(a.String() + "\n")
		}
		back, err := relaydomain.ReadList(strings.NewReader(again.String()), d)
		if err != nil || len(back) != len(list) {
			t.Errorf("%q printed and read: %d of %d, %v", again.String(), len(back), len(list), err)
		}
	})
}
