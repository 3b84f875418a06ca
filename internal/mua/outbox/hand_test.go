package outbox_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/mua/outbox"
)

func TestHand(t *testing.T) {
	t.Parallel()
	type got struct {
		Reverse string
		To      []string
		From    string
	}
	for name, tt := range map[string]struct {
		h    outbox.Handed
		text string
		want got
		err  error
	}{
		"git send-email": {outbox.Handed{Recipients: []string{"dev@lists.example", "jan@them.example"}, From: "ala@peer.example"},
			"From: Ala <ala@peer.example>\nTo: dev@lists.example\nCc: jan@them.example\nSubject: [PATCH] x\n\nFrom now on\n", got{"ala@peer.example", []string{"dev@lists.example", "jan@them.example"}, "Ala <ala@peer.example>"}, nil},
		"cron": {outbox.Handed{FromFields: true, Name: "CronDaemon"},
			"From: root (Cron Daemon)\nTo: root\nSubject: Cron\n\nout\n", got{"ala@peer.example", []string{"root@peer.example"}, `"CronDaemon" <ala@peer.example>`}, nil},
		"cron of this host": {outbox.Handed{FromFields: true, From: "root@laptop"},
			"From: \"Cron Daemon\" <root@laptop>\nTo: ewa@them.example\n\nout\n", got{"ala@peer.example", []string{"ewa@them.example"}, `"Cron Daemon" <ala@peer.example>`}, nil},
		"fields": {outbox.Handed{FromFields: true},
			"To: Ewa <ewa@them.example>,\n jan@them.example\nBcc: hidden@them.example\nSubject: s\n\nx\n", got{"ala@peer.example", []string{"ewa@them.example", "jan@them.example", "hidden@them.example"}, `"Ala" <ala@peer.example>`}, nil},
		"mail(1)":             {outbox.Handed{Recipients: []string{"ewa@them.example"}}, "just text\n", got{"ala@peer.example", []string{"ewa@them.example"}, `"Ala" <ala@peer.example>`}, nil},
		"null reverse-path":   {outbox.Handed{Recipients: []string{"ewa@them.example"}, From: "<>"}, "From: ala@peer.example\n\nx\n", got{"", []string{"ewa@them.example"}, "ala@peer.example"}, nil},
		"mbox line":           {outbox.Handed{Recipients: []string{"ewa@them.example"}}, "From ala Mon Nov 23\nFrom: ala@peer.example\n\nx\n", got{"ala@peer.example", []string{"ewa@them.example"}, "ala@peer.example"}, nil},
		"name beyond ASCII":   {outbox.Handed{Recipients: []string{"ewa@them.example"}, Name: "Żółw"}, "Subject: x\n\nx\n", got{"ala@peer.example", []string{"ewa@them.example"}, "=?UTF-8?B?xbvDs8WCdw==?= <ala@peer.example>"}, nil},
		"nobody":              {outbox.Handed{FromFields: true}, "Subject: x\n\nx\n", got{}, outbox.ErrRecipients},
		"broken field":        {outbox.Handed{FromFields: true}, "To: a b <c\n\nx\n", got{}, outbox.ErrAddress},
		"somebody else":       {outbox.Handed{Recipients: []string{"ewa@them.example"}}, "From: boss@corp.example\n\nx\n", got{}, outbox.ErrAccount},
		"unknown account":     {outbox.Handed{Recipients: []string{"ewa@them.example"}, Account: "x@y.example"}, "Subject: x\n\nx\n", got{}, outbox.ErrAccount},
		"account by its name": {outbox.Handed{Recipients: []string{"ewa@them.example"}, Account: "ala@peer.example"}, "From: boss@corp.example\n\nx\n", got{"ala@peer.example", []string{"ewa@them.example"}, "boss@corp.example"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, peer.Config{}, nil)
			id, err := h.Hand(t.Context(), tt.h, strings.NewReader(tt.text))
			if !errors.Is(err, tt.err) {
				t.Fatalf("got %v, want %v", err, tt.err)
			}
			if err != nil {
				return
			}
			if err := h.flush(); err != nil {
				t.Fatal(err)
			}
			h.must(id, outbox.Sent)
			m := h.peer.Messages()[0]
			head, _, _ := message.SplitHeader(m.Data)
			from, _ := message.Get(head, "From")
			is := got{m.From, nil, from}
			for _, r := range m.Rcpts {
				is.To = append(is.To, r.Path)
			}
			if diff := cmp.Diff(tt.want, is); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			for _, field := range []string{"Date", "Message-ID", "From"} {
				if message.Count(head, field) != 1 {
					t.Errorf("%d fields %s:\n%s", message.Count(head, field), field, m.Data)
				}
			}
			if message.Count(head, "To")+message.Count(head, "Cc") == 0 || message.Count(head, "Bcc") != 0 || !strings.Contains(string(m.Data), "\r\n\r\n") {
				t.Errorf("sent:\n%s", m.Data)
			}
		})
	}
}

// FuzzHand hands in anything: what is taken is a letter with one From, Date and Message-ID.
func FuzzHand(f *testing.F) {
	f.Add("From: x\nTo: ewa@them.example\n\nx", true)
	f.Add("Subject: ż\r\nFrom: \xff\r\nBcc: a@b.example\r\n\r\n\xff", false)
	f.Add("", false)
	h := newHouse(f, peer.Config{}, nil)
	f.Fuzz(func(t *testing.T, text string, fields bool) {
		id, err := h.Hand(t.Context(), outbox.Handed{Recipients: []string{"ewa@them.example"}, FromFields: fields}, strings.NewReader(text))
		if err != nil {
			return
		}
		it, err := h.Item(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if err := h.store.Raw(t.Context(), it.Letter, &b); err != nil {
			t.Fatal(err)
		}
		head, rest, _ := message.SplitHeader([]byte(b.String()))
		if message.Count(head, "From") != 1 || message.Count(head, "Date") == 0 || message.Count(head, "Message-ID") == 0 || message.Count(head, "Bcc") != 0 || !strings.HasPrefix(string(rest), "\r\n") {
			t.Errorf("became\n%s", b.String())
		}
	})
}
