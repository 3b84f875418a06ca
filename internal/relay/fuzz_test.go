package relay_test

import (
	"strings"
	"testing"

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
	f.Fuzz(func(t *testing.T, code, subject, detail int, text, any string) {
		if code >= 200 && code < 600 && code/100 != 3 && subject >= 0 && subject < 1000 && detail >= 0 && detail < 1000 && !strings.ContainsAny(text, "\n") {
			want := smtp.Reply{Code: code, Subject: subject, Detail: detail, Text: text}
			if got := relay.ParseStatus(want.String()); got.Code != code || got.Subject != subject || got.Detail != detail || got.Text != text {
				t.Errorf("%q is read as %+v", want.String(), got)
			}
		}
		if got := relay.ParseStatus(any); got.Code < 100 || got.Code > 999 {
			t.Errorf("%q is read as %+v", any, got)
		}
		v := relay.Judge(smtpclient.StageRcpt, smtp.Reply{Code: code, Text: any}, false)
		if v.Fate == 0 || v.Fate == relay.Delivered {
			t.Errorf("RCPT answered %d is %+v", code, v)
		}
	})
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
