package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"poczta.example/poczta/internal/backup/holdings"
)

// verified runs a verification that must find faults, and returns what it prints.
func verified(t *testing.T, words ...string) string {
	t.Helper()
	var out, notes bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "poczta", words...)
	cmd.Stdout, cmd.Stderr = &out, &notes
	exit, ok := errors.AsType[*exec.ExitError](cmd.Run())
	if !ok || exit.ExitCode() != 1 || !strings.Contains(notes.String(), "the backups have ") {
		t.Fatalf("%v: %v\n%s%s", words, exit, &out, &notes)
	}
	return out.String()
}

// largest is the largest file below a folder.
func largest(t *testing.T, folder string) (path string) {
	t.Helper()
	most := int64(0)
	err := filepath.WalkDir(folder, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().IsRegular() && info.Size() > most {
			path, most = at, info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestVerifyNamesLetters damages a letter in a backup: verify says which one, with --json too, where
// what could move a terminal is escaped.
func TestVerifyNamesLetters(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	noise := make([]byte, 2<<20)
	if _, err := rand.NewChaCha8([32]byte{7}).Read(noise); err != nil {
		t.Fatal(err)
	}
	var mbox bytes.Buffer
	mbox.WriteString("From ola@example.org Mon Nov 23 10:00:00 2009\nFrom: ola@example.org\nSubject: Small\nMessage-ID: <small@example.org>\n\nx\n\n" +
		"From ola@example.org Mon Nov 23 10:00:00 2009\nFrom: ola@example.org\nSubject: =?utf-8?q?Photos=E2=80=AE?=\nMessage-ID: <photos@example.org>\n\n")
	for text := base64.StdEncoding.EncodeToString(noise); text != ""; text = text[min(len(text), 76):] {
		mbox.WriteString(text[:min(len(text), 76)] + "\n")
	}
	mail, copies, old := filepath.Join(dir, "mail"), filepath.Join(dir, "copies"), filepath.Join(dir, "old.mbox")
	if err := os.WriteFile(old, mbox.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, words := range [][]string{{"import", old}, {"backup", "create", "--to", copies}} {
		if out, err := exec.CommandContext(t.Context(), "poczta", append([]string{"mail", "--data", mail}, words...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", words, err, out)
		}
	}
	pack := largest(t, copies)
	octets, err := os.ReadFile(pack)
	if err != nil || len(octets) < 1<<20 {
		t.Fatalf("%s has %d octets: %v", pack, len(octets), err)
	}
	octets[len(octets)/2] ^= 1 // most of it is the large letter
	if err := os.WriteFile(pack, octets, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, words := range map[string][]string{"person": {"mail", "--data", mail, "backup", "verify", "--to", copies}, "server": {"backup", "verify", "--to", copies}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if text := verified(t, words...); !strings.Contains(text, `can't give back 1 letter of archive in INBOX: "Photos\u202e".`) {
				t.Errorf("readable: %s", text)
			}
			text := verified(t, append(words[:len(words):len(words)], "--json")...)
			if strings.ContainsRune(text, '\u202e') {
				t.Errorf("a mark of direction reaches the terminal: %s", text)
			}
			var rows []struct {
				holdings.Trouble
				Object, Section, Item, Problem string
			}
			if err := json.Unmarshal([]byte(text), &rows); err != nil {
				t.Fatalf("%v: %s", err, text)
			}
			last := rows[len(rows)-1]
			if last.Mailbox != "INBOX" || last.Account != "archive" || last.Letters != 1 || len(last.Named) != 1 || last.Named[0].Subject != "Photos\u202e" || last.Named[0].Number != 2 || last.Named[0].UniqueID == "" ||
				!strings.HasPrefix(last.Problem, "The backup of ") {
				t.Errorf("what the faults mean: %+v", last)
			}
			if raw := rows[0]; len(rows) < 3 || raw.Object == "" || raw.Problem == "" || raw.Mailbox != "" || rows[1].Section != "bodies" || rows[1].Item == "" {
				t.Errorf("the faults as they were found: %s", text)
			}
		})
	}
}
