package vault_test

import (
	"errors"
	"strings"
	"testing"

	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/mua/vault"
)

// shut is a keyring that says the same to everything.
type shut struct{ err error }

func (s shut) Get(string, string) (string, error) { return "", s.err }
func (s shut) Set(string, string, string) error   { return s.err }
func (s shut) Delete(string, string) error        { return s.err }

// TestLockedKeyring has keyrings that are there and let nobody in: no file is made beside them, which
// would hide what lies there; and systems without one, where the file is used.
func TestLockedKeyring(t *testing.T) {
	t.Parallel()
	for text, there := range map[string]bool{
		"failed to unlock correct collection '/org/freedesktop/secrets/aliases/default'": true,
		"org.freedesktop.Secret.Error.IsLocked":                                          true,
		"exit status 36":                                                                 true,
		"exit status 128":                                                                true,
		"The name org.freedesktop.secrets was not provided by any .service files":        false,
		"exec: \"dbus-launch\": executable file not found in $PATH":                      false,
		"dial unix /nonexistent: connect: no such file or directory":                     false,
		"unsupported platform: plan9":                                                    false,
	} {
		asked := 0
		fsys := disk.NewFault(1)
		v, err := vault.Open(vault.Config{FS: fsys, Folder: "/f", Keyring: shut{errors.New(text)}, Work: 10, Ask: func(bool) (string, error) { asked++; return "passphrase", nil }})
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Remove("x"); there != (err != nil) || asked != 0 {
			t.Errorf("%s: remove nothing: %v, asked %d times", text, err, asked)
		}
		_, err = v.Get("x")
		if there && (!errors.Is(err, vault.ErrNoKeyring) || !strings.Contains(err.Error(), "unlock it") || errors.Is(err, vault.ErrNotFound)) || !there && !errors.Is(err, vault.ErrNotFound) {
			t.Errorf("%s: get: %v", text, err)
		}
		err = v.Set("x", "Very-Secret-Word")
		_, missing := fsys.Stat(vault.FileName)
		if there != (err != nil) || there != (missing != nil) {
			t.Errorf("%s: set: %v, file: %v", text, err, missing)
		}
		if err != nil && (!strings.Contains(err.Error(), "--secrets-file") || strings.Contains(err.Error(), "Very-Secret-Word")) {
			t.Errorf("%s: set: %v", text, err)
		}
	}
}

// TestVaultOnBadDisk writes secrets on a disk that fails at each call: the old ones or the new ones
// are there, and nothing of them in the clear.
func TestVaultOnBadDisk(t *testing.T) {
	t.Parallel()
	ask := func(bool) (string, error) { return "passphrase", nil }
	for k := 1; ; k++ {
		fsys := disk.NewFault(uint64(k))
		v, err := vault.Open(vault.Config{FS: fsys, File: true, Work: 10, Ask: ask})
		if err == nil {
			err = v.Set("old", "before")
		}
		if err != nil {
			t.Fatal(err)
		}
		fsys.CutAt(k)
		failed := v.Set("new", "Very-Secret-Word")
		again := fsys.Reopen(uint64(k))
		v, err = vault.Open(vault.Config{FS: again, File: true, Work: 10, Ask: ask})
		if err != nil {
			t.Fatal(err)
		}
		if s, err := v.Get("old"); err != nil || s != "before" {
			t.Errorf("cut at call %d: what was there before is lost: %v", k, err)
		}
		if s, err := v.Get("new"); failed == nil && (err != nil || s != "Very-Secret-Word") {
			t.Errorf("cut at call %d: what was told to be stored is lost: %v", k, err)
		}
		if failed == nil {
			return
		}
	}
}

// FuzzOpen reads encrypted files that somebody has damaged or made: they are refused in words.
func FuzzOpen(f *testing.F) {
	fsys := disk.NewFault(1)
	v, err := vault.Open(vault.Config{FS: fsys, File: true, Work: 1, Ask: func(bool) (string, error) { return "p", nil }})
	if err == nil {
		err = v.Set("a", "b")
	}
	if err != nil {
		f.Fatal(err)
	}
	whole, err := disk.ReadFile(fsys, vault.FileName, 1<<20)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add([]byte("age-encryption.org/v1\n-> scrypt bBjlhJVYZeE4aqUdmtRHfw 30\n"))
	f.Add([]byte("age-encryption.org/v1\n--- 000\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		fsys := disk.NewFault(1)
		if err := disk.WriteFile(fsys, vault.FileName, text); err != nil {
			t.Fatal(err)
		}
		v, err := vault.Open(vault.Config{FS: fsys, Ask: func(bool) (string, error) { return "p", nil }})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Get("x"); err == nil || strings.Contains(err.Error(), "<nil>") {
			t.Errorf("%v", err)
		}
		if err := v.Set("x", "y"); err != nil {
			if now, rerr := disk.ReadFile(fsys, vault.FileName, 1<<24); rerr != nil || string(now) != string(text) {
				t.Errorf("a file that could not be read was replaced (%v)", rerr)
			}
		}
	})
}
