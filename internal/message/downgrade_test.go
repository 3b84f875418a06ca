package message_test

import (
	"bytes"
	"mime"
	"strings"
	"testing"

	"poczta.example/poczta/internal/message"
)

func TestDowngrade(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, want string }{
		{"ascii stays", "Subject: hello\r\n  there \r\nrubbish\r\n", "Subject: hello\r\n  there \r\nrubbish\r\n"},
		{"subject", "Subject: Żółw\r\n", "Subject: =?UTF-8?B?xbvDs8WCdw==?=\r\n"},
		{"display-name", "From: Żółw <z@example.org>\r\n", "From: =?UTF-8?B?xbvDs8WCdw==?= <z@example.org>\r\n"},
		{"u-label", "From: Ala <ala@żółw.example>\r\n", "From: Ala <ala@xn--w-uga1v8h.example>\r\n"},
		{"local-part", "To: ala@x.example, żółw@x.example\r\n", "To: ala@x.example, =?UTF-8?B?xbzDs8WCd0B4LmV4YW1wbGU=?=\r\n\t<invalid@internationalized-address.invalid>\r\n"},
		{"group", "To: Żółwie: a@x.example, ż@x.example; , b@x.example\r\n", "To: =?UTF-8?B?xbvDs8WCd2ll?=: a@x.example, =?UTF-8?B?xbxAeC5leGFtcGxl?=\r\n\t<invalid@internationalized-address.invalid> ;, b@x.example\r\n"},
		{"empty group", "To: Żółwie:;\r\n", "To: =?UTF-8?B?xbvDs8WCd2ll?=: ;\r\n"},
		{"broken address", "To: Żółw <\r\n", "Downgraded-To: =?UTF-8?B?xbvDs8WCdyA8?=\r\n"},
		{"parameter", "Content-Type: text/plain; name=\"żółw.txt\"\r\n", "Content-Type: text/plain; name*=utf-8''%C5%BC%C3%B3%C5%82w.txt\r\n"},
		{"broken parameter", "Content-Type: multipart/mixed; boundary=\"x\"; ż\r\n", "Content-Type: multipart/mixed; boundary=\"x\"; ??\r\n"},
		{"received", "Received: from a by b with UTF8SMTP id 1\r\n\tfor <żółw@x.example>; Mon, 23 Nov 2026 03:35:09 +0000\r\n", "Received: from a by b with UTF8SMTP id 1; Mon, 23 Nov 2026 03:35:09 +0000\r\n"},
		{"message-id", "Message-ID: <ż@x.example>\r\n", "Downgraded-Message-ID: =?UTF-8?B?PMW8QHguZXhhbXBsZT4=?=\r\n"},
		{"malformed", "rubbish ż\r\n", "rubbish ??\r\n"},
		{"latin-1", "Subject: caf\xe9\r\n", "Subject: =?unknown-8bit?B?Y2Fm6Q==?=\r\n"},
		{"delivered-to", "Delivered-To: żółw@x.example\r\n", "Delivered-To: =?UTF-8?B?xbzDs8WCd0B4LmV4YW1wbGU=?=\r\n"},
		{"return-path", "Return-Path: <żółw@x.example>\r\n", "Return-Path: <invalid@internationalized-address.invalid>\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := string(message.Downgrade([]byte(tt.in))); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

// TestDowngradeLongText: long text becomes several words, cut between characters.
func TestDowngradeLongText(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("zażółć gęślą jaźń ", 20)
	got := message.Downgrade([]byte("Subject: " + text + "\r\n"))
	value, ok := message.Get(got, "Subject")
	if !ok {
		t.Fatalf("no subject in %q", got)
	}
	dec := mime.WordDecoder{}
	back, err := dec.DecodeHeader(value)
	if err != nil || back != strings.TrimSpace(text) {
		t.Errorf("got back %q, %v", back, err)
	}
	for line := range strings.SplitSeq(string(got), "\r\n") {
		if len(line) > 78 {
			t.Errorf("line of %d octets", len(line))
		}
	}
}

// FuzzDowngrade holds that the surrogate is ASCII, that ASCII fields stay, that
// doing it twice does nothing more, and that growth is bounded.
func FuzzDowngrade(f *testing.F) {
	for _, s := range []string{"Subject: ż\r\n", "To: ż: a@b, ż@ć;\r\n", "Content-Type: a/b; ż=ć\r\n", "Received: for <ż>\r\n", "X: \xff\r\nA: b\r\n", "From: \"ż\\\"\" <a@ż.ż>\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		header, _, _ := message.SplitHeader(b)
		got := message.Downgrade(header)
		if message.NeedsUTF8(got) {
			t.Fatalf("%q is not ASCII", got)
		}
		if again := message.Downgrade(got); !bytes.Equal(again, got) {
			t.Fatalf("%q became %q", got, again)
		}
		if len(got) > 20*len(header)+200 {
			t.Fatalf("%d octets became %d", len(header), len(got))
		}
		if !message.NeedsUTF8(header) && !bytes.Equal(got, header) {
			t.Fatalf("an ASCII header section changed: %q, %q", header, got)
		}
		if bytes.Contains(got, []byte("\n\r\n")) && !bytes.Contains(header, []byte("\n\r\n")) && !bytes.HasPrefix(header, []byte("\r\n")) {
			t.Fatalf("%q has an empty line", got)
		}
	})
}
