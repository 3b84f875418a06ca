package message_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/message"
)

func testID(t testing.TB) message.ID {
	t.Helper()
	id, err := message.ParseID("00pj7m1ugc0123456789abcdeg")
	if err != nil {
		id, err = message.NewID(time.UnixMilli(1795404909000), strings.NewReader("0123456789"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func forward(t testing.TB, s string) address.ForwardPath {
	t.Helper()
	p, err := address.ParseForwardPath(s, true)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestReceived(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 23, 3, 35, 9, 0, time.FixedZone("CET", 3600))
	id := testID(t)
	tests := []struct {
		name string
		in   message.Received
		want string
	}{
		{"stranger", message.Received{Helo: "mail.example.net", PeerName: "mx1.example.net", Peer: netip.MustParseAddr("192.0.2.7"), By: "mx.example.org", With: "ESMTPS",
			TLS: "TLS1.3 TLS_AES_128_GCM_SHA256", ID: id, For: forward(t, "<ala@example.org>"), Time: at},
			"Received: from mail.example.net (mx1.example.net [192.0.2.7])\r\n\tby mx.example.org with ESMTPS (TLS1.3 TLS_AES_128_GCM_SHA256)\r\n\tid " + id.String() + " for <ala@example.org>;\r\n\tMon, 23 Nov 2026 03:35:09 +0100\r\n"},
		{"hidden client", message.Received{Helo: "laptop.home", Peer: netip.MustParseAddr("192.0.2.7"), HideClient: true, By: "mx.example.org", With: "ESMTPSA", ID: id, Time: at},
			"Received: by mx.example.org with ESMTPSA id " + id.String() + ";\r\n\tMon, 23 Nov 2026 03:35:09 +0100\r\n"},
		{"socket", message.Received{Helo: "filter", By: "mx.example.org", With: "LMTP", Time: at},
			"Received: from filter by mx.example.org with LMTP; Mon, 23 Nov 2026 03:35:09\r\n\t+0100\r\n"},
		{"ipv6 without name", message.Received{Peer: netip.MustParseAddr("2001:db8::1"), By: "mx.example.org", With: "SMTP", Time: at},
			"Received: from [IPv6:2001:db8::1] ([IPv6:2001:db8::1]) by mx.example.org with\r\n\tSMTP; Mon, 23 Nov 2026 03:35:09 +0100\r\n"},
		{"mapped address and hostile name", message.Received{Helo: "a) by evil\r\nX: y", PeerName: "x(y", Peer: netip.MustParseAddr("::ffff:192.0.2.7"), By: "mx", With: "SMTP", Time: at},
			"Received: from a??by?evil??X:?y (x?y [192.0.2.7]) by mx with SMTP; Mon, 23\r\n\tNov 2026 03:35:09 +0100\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := string(tt.in.Append(nil))
			if strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(tt.want), " ") {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
			for line := range strings.SplitSeq(strings.TrimSuffix(got, "\r\n"), "\r\n") {
				if len(line) > 78 || strings.ContainsAny(line, "\r\n") {
					t.Errorf("line %q", line)
				}
			}
		})
	}
}

func TestMessageID(t *testing.T) {
	t.Parallel()
	d, err := address.ParseDomain("mx.example.org")
	if err != nil {
		t.Fatal(err)
	}
	id := testID(t)
	got := message.NewMessageID(id, d)
	if !strings.HasPrefix(got, "<") || !strings.HasSuffix(got, "@mx.example.org>") || strings.Contains(got, id.String()) {
		t.Errorf("got %s", got)
	}
	if again := message.NewMessageID(id, d); again != got {
		t.Errorf("got %s and %s", got, again)
	}
	other := id
	other[15]++
	if message.NewMessageID(other, d) == got {
		t.Error("two messages share a Message-ID")
	}
}
