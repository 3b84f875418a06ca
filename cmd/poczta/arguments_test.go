package main

import (
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestSearchWords reads words that a search leaves out, which look like flags.
func TestSearchWords(t *testing.T) {
	t.Parallel()
	type search struct {
		Words  []string
		Folder string
		Limit  int
		JSON   bool
	}
	for name, c := range map[string]struct {
		args []string
		want search
	}{
		"no such word":     {[]string{"mail", "search", "kawa", "march"}, search{[]string{"kawa", "march"}, "", 50, false}},
		"behind":           {[]string{"mail", "search", "kawa", "-invoice"}, search{[]string{"kawa", "-invoice"}, "", 50, false}},
		"between flags":    {[]string{"mail", "search", "-from:ola", "--folder", "Work", "kawa", "--json"}, search{[]string{"-from:ola", "kawa"}, "Work", 50, true}},
		"with a limit":     {[]string{"mail", "search", "kawa", "-n", "5", "-no"}, search{[]string{"kawa", "-no"}, "", 5, false}},
		"a limit attached": {[]string{"mail", "search", "-n7", "-x", "kawa"}, search{}}, // -x is no flag, and no word
		"behind --":        {[]string{"mail", "search", "-old", "--", "kawa", "-new"}, search{[]string{"-old", "kawa", "-new"}, "", 50, false}},
		"carried flags":    {[]string{"--data=/tmp/x", "mail", "search", "kawa", "-draft"}, search{[]string{"kawa", "-draft"}, "", 50, false}},
	} {
		_, cmd, err := parse(c.args, io.Discard, io.Discard)
		got := search{}
		if s, ok := cmd.(*muaSearchCmd); ok {
			got = search{s.Words, s.Folder, s.Limit, s.JSON}
		}
		if (err != nil) != (c.want.Words == nil) {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
