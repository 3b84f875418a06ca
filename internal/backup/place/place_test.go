package place_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/backup/place"
)

func TestOpen(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	text, err := backup.NewKeyFile()
	if err != nil {
		t.Fatal(err)
	}
	key := file("key", text)
	there := place.Place{To: filepath.Join(folder, "copies"), KeyFile: key}
	r, end, err := place.Open(t.Context(), there, place.Options{Make: true})
	if err != nil {
		t.Fatal(err)
	}
	if !r.Encrypted() {
		t.Error("the repository is not encrypted")
	}
	end()
	tests := []struct {
		name  string
		place place.Place
		is    error
		text  string
	}{
		{"as it was made", there, nil, ""},
		{"without the key", place.Place{To: there.To}, backup.ErrKey, ""},
		{"nowhere", place.Place{}, nil, "no place"},
		{"a folder that is missing", place.Place{To: filepath.Join(folder, "none")}, backup.ErrNoRepository, "does not exist"},
		{"an empty folder", place.Place{To: t.TempDir()}, backup.ErrNoRepository, ""},
		{"a key that is missing", place.Place{To: there.To, KeyFile: filepath.Join(folder, "none")}, nil, "poczta backup key"},
		{"a key that is none", place.Place{To: there.To, KeyFile: file("short", "short\n")}, nil, "neither"},
		{"a key that is too long", place.Place{To: there.To, KeyFile: file("long", strings.Repeat("long ", 20_000))}, nil, "too long"},
		{"credentials of one word", place.Place{To: "s3://mail/a", Credentials: file("s3", "one\n")}, nil, "access key"},
		{"an endpoint that is none", place.Place{To: "s3://mail/a", Credentials: file("s3b", "a\nb\n"), Endpoint: "host"}, nil, "https://host"},
		{"no bucket", place.Place{To: "s3://", Credentials: file("s3c", "a\nb\n")}, nil, "bucket"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, end, err := place.Open(t.Context(), tt.place, place.Options{})
			if err == nil {
				end()
			}
			if (err == nil) != (tt.is == nil && tt.text == "") || tt.is != nil && !errors.Is(err, tt.is) || tt.text != "" && !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestS3(t *testing.T) {
	t.Parallel()
	for to, want := range map[string][2]string{"s3://mail": {"mail", ""}, "s3://mail/": {"mail", ""}, "s3://mail/a/b/": {"mail", "a/b"}} {
		name, prefix, ok := place.S3(to)
		if !ok || name != want[0] || prefix != want[1] {
			t.Errorf("%s: %q, %q, %v", to, name, prefix, ok)
		}
	}
	if _, _, ok := place.S3("/var/backups"); ok {
		t.Error("a folder was taken for a bucket")
	}
}
