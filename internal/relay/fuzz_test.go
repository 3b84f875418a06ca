package relay_test

import (
	"fmt"
	"strings"
	"testing"

	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/relay"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/smtpclient"
)

// FuzzStatus holds that a reply that is printed as a status is read back, and that any text
// has a class of 4 or 5 at least where a report needs one.
func FuzzStatus(f *testing.F) {
	f.Add(450, 4, 2, "busy", "451 4.3.0 x")
	f.Add(554, 0, 0, "", "")
	f.Add(250, 999, 999, "a 5.1.1 b", "nonsense")
	f.Add(496, 4, 69, "0", "2 0.0.00")
	f.Add(450, 4, 2, "", "451 4.-1.0 x")
	f.Fuzz(func(t *testing.T, code, subject, detail int, text, any string) {
		if code >= 200 && code < 600 && code/100 != 3 && subject >= 0 && subject < 1000 && detail >= 0 && detail < 1000 && !strings.ContainsAny(text, "\n") {
			want := smtp.Reply{Code: code, Subject: subject, Detail: detail, Text: text}
			if got := relay.ParseStatus(want.String()); got.Code != code || got.Subject != subject || got.Detail != detail || got.Text != text {
				t.Errorf("%q is read as %+v", want.String(), got)
			}
		}
		if got := relay.ParseStatus(any); got.Code < 200 || got.Code > 599 || got.Subject < 0 || got.Detail < 0 {
			t.Errorf("%q is read as %+v", any, got)
		}
		v := relay.Judge(smtpclient.StageRcpt, smtp.Reply{Code: code, Text: any}, false)
		if v.Fate == 0 || v.Fate == relay.Delivered {
			t.Errorf("RCPT answered %d is %+v", code, v)
		}
	})
}

// TestAuthor: for whom a message is signed again. What a field only mentions is no author.
func TestAuthor(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, header, want string }{
		{"own", "From: Ala <ala@a.example>\r\nDKIM-Signature: d=a.example\r\n", "a.example true "},
		{"foreign signature", "From: ala@a.example\r\nDKIM-Signature: d=b.example\r\n", "a.example false b.example"},
		{"comment", "From: ala@a.example (x@b.example )\r\nDKIM-Signature: d=b.example\r\n", "a.example false b.example"},
		{"display name", "From: \"x@b.example\" <ala@a.example>\r\nDKIM-Signature: d=b.example\r\n", "a.example false b.example"},
		{"two authors", "From: ala@a.example, ola@b.example\r\nDKIM-Signature: d=b.example\r\n", "a.example false b.example"},
		{"malformed", "From: ala@a.example (\r\nDKIM-Signature: d=a.example\r\n", " false a.example"},
	} {
		author, ours, foreign := relay.Signatures([]byte(tt.header))
		if got := fmt.Sprintf("%s %v %s", author, ours, foreign); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestLogins: a forged reverse-path does not borrow the login of a route by sender.
func TestLogins(t *testing.T) {
	t.Parallel()
	login := &relay.Route{Senders: []string{"@here.example"}, Login: &smtpclient.Credentials{Username: "shop"}}
	plain := &relay.Route{Senders: []string{"@here.example"}}
	for name, tt := range map[string]struct {
		route *relay.Route
		msg   queue.Message
		want  bool
	}{
		"ours":                       {login, queue.Message{ReversePath: "a@here.example", Ours: true}, true},
		"an account's":               {login, queue.Message{ReversePath: "a@here.example", Account: 1}, true},
		"by login":                   {login, queue.Message{ReversePath: "a@else.example", Login: "a@here.example", Account: 1}, true},
		"a stranger's":               {login, queue.Message{ReversePath: "a@here.example"}, false},
		"a stranger's without login": {plain, queue.Message{ReversePath: "a@here.example"}, true},
	} {
		if got := relay.Matches(tt.route, &tt.msg, domainOf("them.example")); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// FuzzSignatures holds that mail with a signature is either wholly its author's or foreign.
func FuzzSignatures(f *testing.F) {
	f.Add("From: a@b.example\r\nDKIM-Signature: d=b.example\r\n")
	f.Add("DKIM-Signature: v=1; d = c.\r\n example;\r\nFrom: \"x@y\" <a@b>\r\n")
	f.Fuzz(func(t *testing.T, header string) {
		author, ours, foreign := relay.Signatures([]byte(header))
		if strings.ContainsAny(author, " <>;,") || ours && foreign == "" && !strings.Contains(strings.ToLower(header), "dkim-signature") {
			t.Errorf("author %q, ours %v, foreign %q", author, ours, foreign)
		}
	})
}
