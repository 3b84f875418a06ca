package admin_test

import (
	"strings"
	"testing"

	"poczta.example/poczta/internal/admin"
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/resolver"
)

// TestCheckLists: each way in which a DNS list is of no use has a sentence and a remedy.
func TestCheckLists(t *testing.T) {
	t.Parallel()
	zone, err := resolver.NewZone(`
2.0.0.127.good.test.        A 127.0.0.2
test.names.test.            A 127.0.1.2
2.0.0.127.all.test.         A 127.0.0.2
1.0.0.127.all.test.         A 127.0.0.2
2.0.0.127.public.test.      A 127.255.255.254
2.0.0.127.much.test.        A 127.255.255.255
2.0.0.127.uribl.test.       A 127.0.0.1
2.0.0.127.parked.test.      A 198.51.100.7
1.0.0.127.hijacked.test.    A 198.51.100.7
2.0.0.127.hijacked.test.    A 127.0.0.2
9.0.0.127.own.test.         A 127.0.0.2
!servfail 2.0.0.127.down.test
`)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		list         config.SpamList
		level        admin.Level
		text, remedy string
	}{
		{config.SpamList{Zone: "good.test", Kind: "block"}, admin.Fine, "good.test answers", ""},
		{config.SpamList{Zone: "names.test", Kind: "uri"}, admin.Fine, "names.test answers", ""},
		{config.SpamList{Zone: "own.test", Kind: "block", Test: "127.0.0.9"}, admin.Fine, "own.test answers", ""},
		{config.SpamList{Zone: "gone.test", Kind: "block", NoTest: true}, admin.Fine, "not tested", ""},
		{config.SpamList{Zone: "all.test", Kind: "block"}, admin.Failed, "names everything", "take the list out"},
		{config.SpamList{Zone: "public.test", Kind: "block"}, admin.Failed, "127.255.255.254", "refuse public and shared resolvers"},
		{config.SpamList{Zone: "much.test", Kind: "block"}, admin.Failed, "127.255.255.255", "who asks much"},
		{config.SpamList{Zone: "uribl.test", Kind: "block"}, admin.Failed, "127.0.0.1", "resolver on this host"},
		{config.SpamList{Zone: "gone.test", Kind: "block"}, admin.Failed, "does not name its own test entry", "correct the zone"},
		{config.SpamList{Zone: "names.test", Kind: "block"}, admin.Failed, "does not name its own test entry", "correct the zone"},
		{config.SpamList{Zone: "parked.test", Kind: "block"}, admin.Failed, "198.51.100.7", "changes no answers"},
		{config.SpamList{Zone: "hijacked.test", Kind: "block"}, admin.Failed, "198.51.100.7", "changes no answers"},
		{config.SpamList{Zone: "down.test", Kind: "block"}, admin.Failed, "does not answer", "name servers are up"},
	}
	c := config.Default()
	if got := admin.CheckLists(t.Context(), c, zone); got != nil {
		t.Errorf("without lists: %v", got)
	}
	for _, tt := range tests {
		c.Spam.Lists = append(c.Spam.Lists, tt.list)
	}
	got := admin.CheckLists(t.Context(), c, zone)
	if len(got) != len(tests) {
		t.Fatalf("got %v", got)
	}
	for i, tt := range tests {
		f := got[i]
		if f.Level != tt.level || !strings.Contains(f.Text, tt.list.Zone) || !strings.Contains(f.Text, tt.text) || !strings.Contains(f.Remedy, tt.remedy) || (f.Remedy == "") != (tt.remedy == "") {
			t.Errorf("%s: got %s", tt.list.Zone, f)
		}
	}
	c.Spam.Enabled = false
	if got := admin.CheckLists(t.Context(), c, zone); got != nil {
		t.Errorf("lists that nobody asks are tested: %v", got)
	}
}
