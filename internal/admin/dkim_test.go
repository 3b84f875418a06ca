package admin_test

import (
	"strings"
	"testing"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/admin"
	"poczta.example/poczta/internal/dkim"
	"poczta.example/poczta/internal/keys"
	"poczta.example/poczta/internal/resolver"
)

const (
	edRecord  = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
	rsaRecord = "v=DKIM1; k=rsa; p=MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAvzwKQIIWzQXv0nihasFTT3+JO23hXCgeUVk6AlEMWTiMi/2EWfPo" +
		"Hcz+5EGFuXNdXLVR3b5i3zQYI9kjWb4wYyY4w3kTGvqTPfBpM9pUyTCqlBY6cdLhf8TXVGvxqnhdzlvDmCSHWQ8yTHkNf5uLIZcOiWDXkX5Q7ULhCqWVXPbAwT3C0R4V" +
		"W2zqVXjXlb4iCAoZ0lN6mF8o0jHn6KqBPbRPbmX5Rj0bgH+qT1Hd3nQ7kVlJ2w8SYm3h5vGm7FqQY0yVQz1dJbBqDn4yCkC3s2yk7m3lYxE8Zb8hXo5Zf0sWJ5gk0fZcW" +
		"5JcQ6sT0mRr7tQFzL8d9nJXhQ5yUuWjGQIDAQAB"
)

// TestKeyRecords: every stage has its zone lines, which DNS programs read; a long
// key is parted into strings, and a removed one revoked.
func TestKeyRecords(t *testing.T) {
	t.Parallel()
	d, err := address.ParseDomain("example.org")
	if err != nil {
		t.Fatal(err)
	}
	all := []keys.Key{
		{Domain: d, Selector: "new", Algorithm: keys.RSA, Stage: keys.Prepared, Record: rsaRecord},
		{Domain: d, Selector: "now", Algorithm: keys.Ed25519, Stage: keys.Active, Record: edRecord},
		{Domain: d, Selector: "old", Algorithm: keys.Ed25519, Stage: keys.Removed, Record: edRecord},
	}
	lines := admin.ZoneLines(admin.KeyRecords(all), "mail.example.org")
	z, err := resolver.NewZone(lines)
	if err != nil {
		t.Fatalf("not zone lines: %v\n%s", err, lines)
	}
	for selector, want := range map[string]string{"new": rsaRecord, "now": edRecord, "old": "v=DKIM1; k=ed25519; p="} {
		got, err := keys.DNS{Resolver: z}.TXT(t.Context(), dkim.KeyName(selector, d))
		if err != nil || len(got) != 1 || got[0] != want {
			t.Errorf("%s: got %q (%v), want %q", selector, got, err, want)
		}
	}
	for line := range strings.Lines(lines) {
		for _, part := range strings.Split(line, `"`) {
			if len(part) > 255 {
				t.Errorf("a string of %d octets", len(part))
			}
		}
	}
	if !strings.Contains(lines, "delete its record") {
		t.Errorf("nothing says that a record may be deleted:\n%s", lines)
	}
}

func TestCheckKeys(t *testing.T) {
	t.Parallel()
	const name = "s._domainkey.example.org"
	other := strings.Replace(edRecord, "11q", "22q", 1)
	row := func(stage string) admin.DomainRow {
		return admin.DomainRow{Domain: "example.org", DKIM: []admin.KeyRow{
			{Selector: "s", Algorithm: "ed25519", Stage: stage, Name: name, Record: edRecord},
			{Selector: "z", Algorithm: "ed25519", Stage: "active", Name: "z._domainkey.example.org", Record: edRecord}}}
	}
	tests := []struct {
		name, stage, zone string
		level             admin.Level
		text              string // "" for no finding
	}{
		{"in DNS", "active", name + `. TXT "` + edRecord + `"`, admin.Fine, "is in DNS"},
		{"missing", "active", "", admin.Warning, "is missing in DNS"},
		{"different", "active", name + `. TXT "` + other + `"`, admin.Failed, "is different in DNS"},
		{"malformed", "active", name + `. TXT "v=DKIM1; k=ed25519; p=AAAA"`, admin.Failed, "malformed"},
		{"revoked", "active", name + `. TXT "v=DKIM1; p="`, admin.Failed, "is revoked in DNS"},
		{"retired and missing", "retired", "", admin.Warning, "is missing in DNS"},
		{"prepared and different", "prepared", name + `. TXT "` + other + `"`, admin.Warning, "is different in DNS"},
		{"removed and there", "removed", name + `. TXT "` + edRecord + `"`, admin.Warning, "is not used any more"},
		{"removed and gone", "removed", "", "", ""},
		{"removed and revoked", "removed", name + `. TXT "v=DKIM1; p="`, "", ""},
		{"fault", "active", "!servfail " + name, admin.Warning, "DNS gave no answer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			z, err := resolver.NewZone(tt.zone + "\nz._domainkey.example.org. TXT \"" + edRecord + "\"\n")
			if err != nil {
				t.Fatal(err)
			}
			got := admin.CheckKeys(t.Context(), z, []admin.DomainRow{row(tt.stage)})
			if tt.text == "" {
				if len(got) != 1 { // that of z
					t.Errorf("got %v", got)
				}
				return
			}
			if len(got) != 2 || got[0].Level != tt.level || !strings.Contains(got[0].Text, tt.text) || got[0].Level != admin.Fine && got[0].Remedy == "" {
				t.Errorf("got %v, want %s: %s", got, tt.level, tt.text)
			}
		})
	}
	z, err := resolver.NewZone("")
	if err != nil {
		t.Fatal(err)
	}
	got := admin.CheckKeys(t.Context(), z, []admin.DomainRow{{Domain: "example.org"}})
	if len(got) != 1 || got[0].Level != admin.Warning || !strings.Contains(got[0].Remedy, "poczta domain rotate example.org") {
		t.Errorf("without keys: got %v", got)
	}
}
