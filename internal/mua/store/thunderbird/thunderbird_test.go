package thunderbird_test

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"poczta.example/poczta/internal/mua/store/thunderbird"
)

func put(t testing.TB, root, name, text string) string {
	t.Helper()
	path := filepath.Join(root, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const one = "From - Mon Nov 02 10:00:00 2026\nX-Mozilla-Status: 0001\nSubject: s\n\nx\n"

// TestProfiles holds the order of profiles, and that what is missing or no mail is passed over.
func TestProfiles(t *testing.T) {
	t.Parallel()
	root, away := t.TempDir(), t.TempDir()
	put(t, root, "a/Mail/Local Folders/Inbox", one)
	put(t, away, "Mail/Local Folders/Archives", one)
	put(t, away, "Mail/Local Folders/Archives.sbd/Old.sbd/Older", one)
	put(t, away, "Mail/Local Folders/empty", "")
	put(t, away, "Mail/Local Folders/binary", "\x00\x01\x02\x03\x04\x05")
	put(t, away, "ImapMail/imap.example.org/Sent Items/cur/1.eml", "Subject: maildir\n\nx\n")
	if err := os.Symlink("/etc/passwd", filepath.Join(away, "Mail", "Local Folders", "Linked")); err != nil {
		t.Log("no links here:", err)
	}
	put(t, root, "profiles.ini", "[Profile0]\nName=a\nIsRelative=1\nPath=a\n[Profile1]\nName=away\nIsRelative=0\nPath="+away+"\nDefault=1\n[Profile2]\nName=gone\nIsRelative=1\nPath=gone\nrubbish\n=x\n")
	all, err := thunderbird.Profiles(root)
	if err != nil || len(all) != 2 || all[0].Name != "away" || all[1].Name != "a" {
		t.Fatalf("%+v, %v", all, err)
	}
	var names []string
	for _, a := range all[0].Accounts {
		for _, f := range a.Folders {
			names = append(names, f.Name)
			for m, err := range f.Messages(nil) {
				if err != nil || m.Folder != f.Name {
					t.Errorf("%s: %+v, %v", f.Name, m, err)
				}
			}
		}
	}
	if len(names) != 3 || names[0] != "Archive" || names[1] != "Archive/Old/Older" || names[2] != "Sent" {
		t.Errorf("folders %q", names)
	}
}

// FuzzFolder reads files as folders of mail.
func FuzzFolder(f *testing.F) {
	f.Add([]byte(one))
	f.Add([]byte("From - x\nX-Mozilla-Status: zz\nX-Mozilla-Status2: 99999999999999999999\nX-UIDL: a\n\nFrom - Mon Nov 02 10:00:00 2026\nA: b\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		folder := thunderbird.Folder{Name: "x", Path: put(t, t.TempDir(), "x", string(b))}
		for m, err := range folder.Messages(nil) {
			if err != nil {
				continue
			}
			if _, err := io.Copy(io.Discard, m.Octets); err != nil {
				t.Errorf("%s: %v", m.Name, err)
			}
		}
	})
}
