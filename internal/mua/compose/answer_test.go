package compose_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mua/compose"
	"poczta.example/poczta/internal/mua/store"
)

func addresses(list []store.Address) string {
	var all []string
	for _, p := range list {
		all = append(all, p.Address)
	}
	return strings.Join(all, " ")
}

func TestReplyTo(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	for name, tt := range map[string]struct {
		head         string
		to           string // of a reply to the author
		allTo, allCc string
		from         string
	}{
		"author":       {"From: Ewa <ewa@x.example>\nTo: ala@example.org", "ewa@x.example", "ewa@x.example", "", "ala@example.org"},
		"everybody":    {"From: ewa@x.example\nTo: Ala@Example.org, jan@x.example\nCc: biuro@example.org, ola@x.example, ewa@x.example", "ewa@x.example", "ewa@x.example", "jan@x.example ola@x.example", "Ala@example.org"},
		"alias":        {"From: ewa@x.example\nTo: biuro@example.org", "ewa@x.example", "ewa@x.example", "", "biuro@example.org"},
		"Reply-To":     {"From: ewa@x.example\nReply-To: list@x.example\nTo: ala@example.org, list@x.example", "list@x.example", "list@x.example", "", "ala@example.org"},
		"followup":     {"From: ewa@x.example\nTo: list@x.example\nMail-Followup-To: list@x.example, ala@example.org", "ewa@x.example", "list@x.example", "", "ala@example.org"},
		"own letter":   {"From: ala@example.org\nTo: ewa@x.example\nCc: jan@x.example", "ewa@x.example", "ewa@x.example", "jan@x.example", "ala@example.org"},
		"to oneself":   {"From: ala@example.org\nTo: ala@example.org", "ala@example.org", "ala@example.org", "", "ala@example.org"},
		"broken lists": {"From: ewa@x.example\nTo: a b c, <<, ala@example.org\nCc: ola@x.example", "ewa@x.example", "ewa@x.example", "ola@x.example", "ala@example.org"},
	} {
		l := add(t, s, tt.head+"\nSubject: S\n\nx\n")
		one, err := compose.Reply(account(), l, false, "en")
		if err != nil {
			t.Fatal(err)
		}
		all, err := compose.Reply(account(), l, true, "en")
		if err != nil {
			t.Fatal(err)
		}
		got := []string{addresses(one.To), addresses(one.Cc), addresses(all.To), addresses(all.Cc), one.From.Address}
		if diff := cmp.Diff([]string{tt.to, "", tt.allTo, tt.allCc, tt.from}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestReplyText(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	l := add(t, s, "From: =?utf-8?q?Ewa_=C5=BB?= <ewa@x.example>\nTo: ala@example.org\nSubject: Re: =?utf-8?q?=C5=BB?=\nDate: Sun, 22 Nov 2026 09:08:07 -0500\n"+
		"Message-ID: <3@x>\nReferences: <1@x>\n <2@x> junk <3@x>\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8; format=flowed\n\nA long \nline\n> older\n\nEnd\n-- \nEwa\n")
	a := account()
	a.Signature = "Ala"
	d, err := compose.Reply(a, l, false, "en")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("On 22 November 2026 at 09:08 Ewa Ż wrote:\n> A long line\n>> older\n>\n> End\n\n\n\n-- \nAla\n", d.Text); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if d.Subject != "Re: Ż" || d.InReplyTo != "<3@x>" || strings.Join(d.References, " ") != "<1@x> <2@x> <3@x>" {
		t.Errorf("subject %q, in reply to %s, references %v", d.Subject, d.InReplyTo, d.References)
	}
	pl, err := compose.Reply(a, l, false, "pl")
	if err != nil || !strings.HasPrefix(pl.Text, "Dnia 22 listopada 2026 o 09:08 Ewa Ż pisze:\n") {
		t.Errorf("%q %v", pl.Text, err)
	}
	html := add(t, s, "From: ewa@x.example\nSubject: Hi\nIn-Reply-To: <0@x>\nMessage-ID: <1@x>\nContent-Type: text/html\n\n<p>One<p>Two<script>evil</script>\n")
	if d, err = compose.Reply(a, html, false, "en"); err != nil || !strings.Contains(d.Text, "> One\n") || !strings.Contains(d.Text, "> Two\n") || strings.Contains(d.Text, "evil") {
		t.Errorf("%q %v", d.Text, err)
	}
	if d.Subject != "Re: Hi" || strings.Join(d.References, " ") != "<0@x> <1@x>" {
		t.Errorf("%q %v", d.Subject, d.References)
	}
}

func TestForward(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	l := add(t, s, "From: ewa@x.example\nTo: ala@example.org\nSubject: A/B: plan?\nMessage-ID: <1@x>\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nHello\n--b\nContent-Type: image/png; name=x.png\nContent-Transfer-Encoding: base64\n\nAAEC\n--b--\n")
	whole, err := compose.Forward(account(), l, true, "en")
	if err != nil {
		t.Fatal(err)
	}
	if whole.Subject != "Fwd: A/B: plan?" || whole.InReplyTo != "" || len(whole.Attachments) != 1 || whole.Attachments[0].Name != "A_B_ plan_.eml" {
		t.Errorf("%+v", whole)
	}
	whole.To = []store.Address{{Address: "jan@x.example"}}
	if text := write(t, &whole); !strings.Contains(text, "Content-Type: message/rfc822") || !strings.Contains(text, "\r\n\r\nFrom: ewa@x.example\r\n") {
		t.Errorf("forwarded:\n%s", text)
	}
	inline, err := compose.Forward(account(), l, false, "pl")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(inline.Text, "Przekazana") || !strings.Contains(inline.Text, "Od: ewa@x.example\n") || !strings.HasSuffix(inline.Text, "\n\nHello\n") {
		t.Errorf("text %q", inline.Text)
	}
	if len(inline.Attachments) != 1 || content(t, &inline.Attachments[0]) != "\x00\x01\x02" {
		t.Errorf("attachments %+v", inline.Attachments)
	}
}

// TestSave keeps a draft over and over, with its blind recipients and attachments.
func TestSave(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	d := compose.New(account())
	d.To, d.Bcc = []store.Address{{Address: "ewa@x.example"}, {Address: "half, typed"}}, []store.Address{{Address: "jan@x.example"}}
	d.Subject, d.Text, d.InReplyTo, d.References = "S", "one", "<1@x>", []string{"<0@x>", "<1@x>"}
	d.Attachments = []compose.Attachment{attachment("a.bin", "", "\x00")}
	for range 3 {
		if err := compose.Save(t.Context(), s, &d, now, id); err != nil {
			t.Fatal(err)
		}
		l := letter(t, s, d.Letter)
		if l.Folder != store.Drafts || l.Flags != mailbox.Draft|mailbox.Seen {
			t.Errorf("in %s with flags %b", l.Folder, l.Flags)
		}
		got, err := compose.Read(account(), l)
		if err != nil {
			t.Fatal(err)
		}
		if got.Text != d.Text || addresses(got.Bcc) != "jan@x.example" || addresses(got.To) != "ewa@x.example half, typed" || got.InReplyTo != "<1@x>" || len(got.References) != 2 || content(t, &got.Attachments[0]) != "\x00" {
			t.Errorf("%+v", got)
		}
		got.Text += " more"
		d = got
	}
	page, err := s.List(t.Context(), store.Query{Everywhere: true})
	if err != nil || len(page.Letters) != 1 {
		t.Errorf("%d letters (%v)", len(page.Letters), err)
	}
}
