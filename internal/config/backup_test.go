package config_test

import (
	"strings"
	"testing"

	"poczta.example/poczta/internal/config"
)

func TestBackupProblems(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, doc, want string }{
		{"a folder", "to = \"/var/backups/poczta\"\nkey_file = \"/etc/poczta/backup.key\"", ""},
		{"a bucket", "to = \"s3://mail/poczta\"\nendpoint = \"https://s3.example.net\"\ncredentials = \"/etc/poczta/s3\"", ""},
		{"a relative folder", "to = \"backups\"", "backup.to: \"backups\" is neither"},
		{"no bucket", "to = \"s3:///a\"", "names no bucket"},
		{"in the data folder", "to = \"/srv/mail/backups\"", "would be lost with it"},
		{"the data folder itself", "to = \"/srv/mail/\"", "would be lost with it"},
		{"beside the data folder", "to = \"/srv/mail-backups\"", ""},
		{"a key in the data folder", "key_file = \"/srv/mail/backup.key\"", "backup.key_file: \"/srv/mail/backup.key\" lies in the data folder"},
		{"a relative key", "key_file = \"backup.key\"", "is not an absolute path"},
		{"an endpoint without a scheme", "endpoint = \"s3.example.net\"", "write it as https://host"},
		{"too late", "at = \"24h\"", "backup.at"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := config.Parse("f", []byte(least+"data = \"/srv/mail\"\n[backup]\n"+tt.doc+"\n"))
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
