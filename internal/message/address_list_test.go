package message_test

import (
	"errors"
	"strings"
	"testing"

	"poczta.example/poczta/internal/message"
)

func TestParseAddressList(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, want string }{
		{"bare", "ala@example.org", "|ala@example.org"},
		{"name", "Ala Makota <ala@example.org>", "Ala Makota|ala@example.org"},
		{"quoted name", `"Makota, Ala" <ala@example.org>`, "Makota, Ala|ala@example.org"},
		{"dots in a name", "John Q. Public <jq@example.org>", "John Q. Public|jq@example.org"},
		{"several", "a@x.example, B <b@x.example>,,c@x.example", "|a@x.example;B|b@x.example;|c@x.example"},
		{"comments", "(hello (nested\\)) there) Ala (x) <(y)ala(z)@(w)example.org>(v)", "Ala|ala@example.org"},
		{"group", "Friends: a@x.example, B <b@x.example>; , c@x.example", "|a@x.example;B|b@x.example;|c@x.example"},
		{"empty group", "undisclosed-recipients:;", ""},
		{"route", "Ala <@a.example,@b.example:ala@example.org>", "Ala|ala@example.org"},
		{"encoded", "=?UTF-8?Q?=C5=BB=C3=B3=C5=82w?= <z@example.org>", "Żółw|z@example.org"},
		{"utf-8", "Żółw <żółw@żółw.example>", "Żółw|żółw@xn--w-uga1v8h.example"},
		{"obsolete dots", `"ala" . makota @ example . org`, "|ala.makota@example.org"},
		{"quoted local", `<"ala makota"@example.org>`, `|"ala makota"@example.org`},
		{"literal", "a@[192.0.2.1]", "|a@[192.0.2.1]"},
		{"rfc 5322 a.1.2", `Joe Q. Public <john.q.public@example.com>, Mary Smith <mary@x.test>, jdoe@example.org, Who? <one@y.test>`,
			"Joe Q. Public|john.q.public@example.com;Mary Smith|mary@x.test;|jdoe@example.org;Who?|one@y.test"},
		{"rfc 5322 a.5", `Pete(A nice \) chap) <pete(his account)@silly.test(his host)>`, "Pete|pete@silly.test"},
		{"folded", "Ala\r\n <ala@example.org>", "Ala|ala@example.org"},
		{"nothing", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			list, err := message.ParseAddressList(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, m := range list {
				got = append(got, m.Name+"|"+m.Address.String())
			}
			if s := strings.Join(got, ";"); s != tt.want {
				t.Errorf("got %s, want %s", s, tt.want)
			}
		})
	}
}

// TestBadAddressLists: what can't be read whole is refused, above all what two
// readers could understand in two ways.
func TestBadAddressLists(t *testing.T) {
	t.Parallel()
	for _, in := range []string{
		"ala", "ala@", "@example.org", "<ala@example.org", "Ala <ala@example.org> rubbish", "a@x.example b@y.example",
		"Ala ala@example.org", `"open <ala@example.org>`, "(open", "Ala <ala@example.org>>", "<>", "Ala <>", "a@x.example;",
		"Friends: a@x.example", "Friends: Inner: a@x.example;;", ": a@x.example;", "a@b@c", "<a@x.example>@y.example",
		"a@[192.0.2.1", `a@"x.example"`, "a..b@x.example", "\x00@x.example", "ala@exa mple.org", "victim@x.example <me@y.example>",
	} {
		if list, err := message.ParseAddressList(in); !errors.Is(err, message.ErrAddressList) {
			t.Errorf("%q: got %v, %v", in, list, err)
		}
	}
}

// FuzzParseAddressList holds that what is read can be printed and read again.
func FuzzParseAddressList(f *testing.F) {
	for _, s := range []string{"a@b", "A <a@b>, G: c@d;, (x) e@f", `"q\"" <"l\\"@[IPv6:::1]>`, "=?utf-8?B?xbs=?= <a@b>", "<@a,@b:c@d>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list, err := message.ParseAddressList(s)
		if err != nil {
			return
		}
		var parts []string
		for _, m := range list {
			parts = append(parts, "<"+m.Address.String()+">")
		}
		again, err := message.ParseAddressList(strings.Join(parts, ", "))
		if err != nil || len(again) != len(list) {
			t.Fatalf("%q: %v reads as %v, %v", s, parts, again, err)
		}
		for i := range list {
			if again[i].Address != list[i].Address {
				t.Fatalf("%q: %v reads as %v", s, list[i].Address, again[i].Address)
			}
		}
	})
}
