package vault_test

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/zalando/go-keyring"

	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/mua/vault"
)

// ring is a keyring in memory; one that is away fails.
type ring struct {
	away bool
	m    map[string]string
}

var errAway = errors.New("no bus")

func (r *ring) Get(service, name string) (string, error) {
	if r.away {
		return "", errAway
	}
	s, ok := r.m[service+name]
	if !ok {
		return "", keyring.ErrNotFound
	}
	return s, nil
}

func (r *ring) Set(service, name, secret string) error {
	if r.away {
		return errAway
	}
	r.m[service+name] = secret
	return nil
}

func (r *ring) Delete(service, name string) error {
	if _, ok := r.m[service+name]; !ok {
		return keyring.ErrNotFound
	}
	delete(r.m, service+name)
	return nil
}

func folder(t *testing.T) *disk.OSFS {
	t.Helper()
	f, err := disk.OS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func says(passphrase string) func(bool) (string, error) {
	return func(bool) (string, error) { return passphrase, nil }
}

func open(t *testing.T, c vault.Config) vault.Secrets {
	t.Helper()
	c.Work = 4
	v, err := vault.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSecretsStay(t *testing.T) {
	t.Parallel()
	for _, away := range []bool{false, true} {
		fsys := folder(t)
		c := vault.Config{FS: fsys, Folder: "/x", Ask: says("correct horse"), Keyring: &ring{away: away, m: map[string]string{}}}
		v := open(t, c)
		if _, err := v.Get("incoming/1"); !errors.Is(err, vault.ErrNotFound) {
			t.Errorf("%s: a secret that was never stored: %v", v.Where(), err)
		}
		for name, secret := range map[string]string{"incoming/1": "hunter2", "outgoing/1": "żółw", "incoming/2": "x"} {
			if err := v.Set(name, secret); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(v.Remove("incoming/2"), v.Remove("never"), v.Set("incoming/1", "hunter3")); err != nil {
			t.Fatal(err)
		}
		v = open(t, c)
		for name, want := range map[string]string{"incoming/1": "hunter3", "outgoing/1": "żółw", "incoming/2": ""} {
			if got, err := v.Get(name); got != want || (want == "") != errors.Is(err, vault.ErrNotFound) {
				t.Errorf("%s: %s is %q, %v; want %q", v.Where(), name, got, err, want)
			}
		}
		_, err := fsys.Stat(vault.FileName)
		if there := err == nil; there != away {
			t.Errorf("encrypted file: %v with the keyring away: %v", there, away)
		}
	}
}

func TestFileHoldsNothingInTheClear(t *testing.T) {
	t.Parallel()
	fsys := folder(t)
	v := open(t, vault.Config{FS: fsys, File: true, Ask: says("correct horse")})
	if err := v.Set("incoming/1", "hunter2hunter2"); err != nil {
		t.Fatal(err)
	}
	data, err := disk.ReadFile(fsys, vault.FileName, 1<<20)
	if err != nil || !bytes.HasPrefix(data, []byte("age-encryption.org/v1\n-> scrypt")) {
		t.Fatalf("the file begins with %.40q, %v", data, err)
	}
	if bytes.Contains(data, []byte("hunter2")) || bytes.Contains(data, []byte("incoming")) {
		t.Error("a secret or its name stands in the file")
	}
}

func TestPassphrase(t *testing.T) {
	t.Parallel()
	fsys := folder(t)
	if err := open(t, vault.Config{FS: fsys, File: true, Ask: says("correct horse")}).Set("a", "b"); err != nil {
		t.Fatal(err)
	}
	before, err := disk.ReadFile(fsys, vault.FileName, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		ask  func(bool) (string, error)
		is   error
		says string
	}{
		{"wrong", says("battery staple"), vault.ErrPassphrase, ""},
		{"empty", says(""), nil, "empty"},
		{"nobody to ask", nil, nil, "--passphrase-file"},
		{"interrupted", func(bool) (string, error) { return "", fs.ErrClosed }, fs.ErrClosed, ""},
	}
	for _, tt := range tests {
		v := open(t, vault.Config{FS: fsys, Ask: tt.ask})
		if _, err := v.Get("a"); err == nil || tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: read: %v", tt.name, err)
		}
		if err := v.Set("a", "c"); err == nil {
			t.Errorf("%s: written", tt.name)
		}
	}
	if after, err := disk.ReadFile(fsys, vault.FileName, 1<<20); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file was changed without the passphrase, %v", err)
	}
}

func TestDamageIsSaid(t *testing.T) {
	t.Parallel()
	fsys := folder(t)
	if err := open(t, vault.Config{FS: fsys, File: true, Ask: says("p")}).Set("a", "b"); err != nil {
		t.Fatal(err)
	}
	data, err := disk.ReadFile(fsys, vault.FileName, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-1] ^= 1
	for _, bad := range [][]byte{data, data[:len(data)/2], []byte("x"), {}} {
		if err := disk.WriteFile(fsys, vault.FileName, bad); err != nil {
			t.Fatal(err)
		}
		if _, err := open(t, vault.Config{FS: fsys, Ask: says("p")}).Get("a"); err == nil || !strings.Contains(err.Error(), "restore it from a backup") {
			t.Errorf("%d octets: %v", len(bad), err)
		}
	}
}
