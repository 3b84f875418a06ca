package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mailfile"
	"poczta.example/poczta/internal/mua/store"
	"poczta.example/poczta/internal/mua/store/thunderbird"
)

// described lists the letters of an account: folder, subject, flags, unique-id, octets.
func (h *house) described(account envelope.AccountID) []string {
	h.t.Helper()
	page, err := h.List(context.Background(), store.Query{Accounts: []envelope.AccountID{account}, Everywhere: true, Limit: 1000})
	if err != nil {
		h.t.Fatal(err)
	}
	var all []string
	for _, m := range page.Letters {
		all = append(all, fmt.Sprintf("%s %s %d %s %d", m.Folder, m.Subject, m.Flags, m.UniqueID, m.Octets))
	}
	slices.Sort(all)
	return all
}

// TestRoundTrip exports mail in each format and imports it into another account, twice.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	h := open(t)
	ids := h.add(ala, store.Inbox, letter("one", "Message-ID: <1@x>\n\nFrom here\n.dot\n"), letter("two", "Message-ID: <2@x>\n\nx\n"), letter("big", "Message-ID: <3@x>\n\n"+strings.Repeat("0123456789 0123456789\n", 60_000)))
	h.add(ala, "Work/Plans", letter("three", "\nx\n"))
	if _, err := h.SetFlags(t.Context(), ids[:1], mailbox.Seen|mailbox.Answered, 0); err != nil {
		t.Fatal(err)
	}
	want := h.described(ala)
	q := store.Query{Accounts: []envelope.AccountID{ala}, Everywhere: true}
	for i, format := range []string{"Maildir", "mbox", "eml"} {
		path := filepath.Join(t.TempDir(), "out")
		var w mailfile.Writer
		var file bytes.Buffer
		var err error
		switch format {
		case "Maildir":
			w, err = mailfile.CreateMaildir(path)
		case "eml":
			w, err = mailfile.CreateEML(path)
		default:
			w = mailfile.NewMboxWriter(&file)
		}
		if err != nil {
			t.Fatal(err)
		}
		out, err := h.Export(t.Context(), q, w, nil)
		if err := errors.Join(err, w.Close()); err != nil || out.Letters != 4 || out.Failed != 0 {
			t.Fatalf("%s: %+v, %v", format, out, err)
		}
		if format == "mbox" {
			if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		account := envelope.AccountID(10 + i)
		progress := 0
		in, err := h.Import(t.Context(), account, path, store.ImportOptions{Progress: func(store.Transfer) { progress++ }})
		if err != nil || in.Letters != 4 || in.Duplicates != 0 || in.Failed != 0 || progress == 0 || in.Done != in.Total {
			t.Errorf("%s: imported %+v, %v", format, in, err)
		}
		if again, err := h.Import(t.Context(), account, path, store.ImportOptions{}); err != nil || again.Letters != 0 || again.Duplicates != 4 {
			t.Errorf("%s: imported again %+v, %v", format, again, err)
		}
		got := h.described(account)
		if format == "mbox" { // it has no folders
			for i := range got {
				got[i] = strings.Replace(got[i], "INBOX three", "Work/Plans three", 1)
			}
			slices.Sort(got)
		}
		if format == "eml" { // it has neither flags nor unique-ids
			for i := range got {
				f, w := strings.Fields(got[i]), strings.Fields(want[i])
				f[2], f[3] = w[2], w[3]
				got[i] = strings.Join(f, " ")
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", format, diff)
		}
	}
	// what was fetched is known again where it lies, though it was never imported
	path := filepath.Join(t.TempDir(), "x.eml")
	var b bytes.Buffer
	if err := h.Raw(t.Context(), ids[1], &b); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if in, err := h.Import(t.Context(), ala, path, store.ImportOptions{}); err != nil || in.Duplicates != 1 {
		t.Errorf("a letter that is there: %+v, %v", in, err)
	}
	// what was filed since is not taken for a new one
	b.WriteString("more\r\n")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if in, err := h.Import(t.Context(), ala, path, store.ImportOptions{Folder: "Filed"}); err != nil || in.Letters != 1 {
		t.Errorf("into a folder: %+v, %v", in, err)
	}
	if in, err := h.Import(t.Context(), ala, path, store.ImportOptions{}); err != nil || in.Duplicates != 1 {
		t.Errorf("what lies in a folder: %+v, %v", in, err)
	}
	if in, err := h.Import(t.Context(), ala, path, store.ImportOptions{Folder: "Second"}); err != nil || in.Letters != 1 {
		t.Errorf("into another folder: %+v, %v", in, err)
	}
	if in, err := h.Import(t.Context(), ala, path, store.ImportOptions{Below: "Old"}); err != nil || in.Letters != 1 || !slices.ContainsFunc(h.described(ala), func(s string) bool { return strings.HasPrefix(s, "Old two") }) {
		t.Errorf("below a folder: %+v, %v", in, err)
	}
}

// TestLargeLetter reads a letter in pieces.
func TestLargeLetter(t *testing.T) {
	t.Parallel()
	h := open(t)
	var text strings.Builder
	text.WriteString("Subject: large\r\n\r\n")
	for i := 0; text.Len() < 3<<20; i++ {
		fmt.Fprintf(&text, "line %d\r\n", i)
	}
	ids := h.add(ala, store.Inbox, text.String())
	l, err := h.Letter(t.Context(), ids[0])
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got, err := io.ReadAll(io.NewSectionReader(l, 0, l.Size))
	if err != nil || string(got) != text.String() {
		t.Errorf("read %d octets of %d, %v", len(got), text.Len(), err)
	}
	for _, at := range []int64{0, 255 << 10, 256<<10 - 3, 1 << 20, l.Size - 5} {
		b := make([]byte, 700<<10)
		n, err := l.ReadAt(b, at)
		want := text.String()[at:min(int64(text.Len()), at+int64(len(b)))]
		if string(b[:n]) != want || (n < len(b)) != errors.Is(err, io.EOF) {
			t.Errorf("at %d: %d octets, %v", at, n, err)
		}
	}
}

// write writes a file of a tree.
func write(t *testing.T, root, name, text string) {
	t.Helper()
	path := filepath.Join(root, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// bird is a message as Thunderbird writes it.
func bird(subject, status, status2 string) string {
	return "From - Mon Nov 02 10:00:00 2026\nX-Account-Key: account1\nX-UIDL: uid-" + subject + "\nX-Mozilla-Status: " + status + "\nX-Mozilla-Status2: " + status2 +
		"\nX-Mozilla-Keys:                                        \nFrom: ala@example.org\nSubject: " + subject + "\nMessage-ID: <" + subject + "@x>\n\nText of " + subject + "\n>From quoted\n\n"
}

func TestThunderbird(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write(t, root, "profiles.ini", "[Install4F96D1932A9F858E]\nDefault=Profiles/new.default-release\nLocked=1\n\n[Profile1]\nName=old\nIsRelative=1\nPath=Profiles/old.default\nDefault=1\n\n"+
		"[Profile0]\nName=default-release\nIsRelative=1\nPath=Profiles/new.default-release\n\n[General]\nStartWithLastProfile=1\nVersion=2\n")
	const mail = "Profiles/new.default-release/Mail/"
	write(t, root, "Profiles/old.default/Mail/Local Folders/Inbox", bird("old", "0001", "00000000"))
	write(t, root, mail+"pop.example.org/Inbox", bird("read", "0001", "00000000")+bird("new", "0000", "00000000")+bird("expunged", "0009", "00000000")+bird("starred", "0007", "00000000"))
	write(t, root, mail+"pop.example.org/Inbox.msf", "// <!-- <mdb:mork")
	write(t, root, mail+"pop.example.org/popstate.dat", "# POP3 State File")
	write(t, root, mail+"pop.example.org/Archives.sbd/2025", bird("kept", "0001", "00000000"))
	write(t, root, mail+"pop.example.org/Inbox.sbd/Project X.sbd/Deep", bird("deep", "0001", "00000000"))
	write(t, root, mail+"pop.example.org/Trash", "")
	write(t, root, mail+"pop.example.org/notes", "not mail\n")
	write(t, root, "Profiles/new.default-release/ImapMail/imap.example.org/INBOX", bird("imap", "0001", "00000000")+bird("gone", "0001", "00200000"))
	write(t, root, "Profiles/new.default-release/prefs.js", "user_pref();")

	p, err := thunderbird.Open(root)
	if err != nil || p.Name != "default-release" || len(p.Accounts) != 2 || p.Accounts[0].Name != "pop.example.org" || !p.Accounts[1].IMAP {
		t.Fatalf("%+v, %v", p, err)
	}
	if same, err := thunderbird.Open(p.Path); err != nil || len(same.Accounts) != 2 {
		t.Errorf("the profile itself: %+v, %v", same, err)
	}
	h := open(t)
	flags := func() []string {
		var s []string
		for _, d := range h.described(ala) {
			s = append(s, d[:strings.LastIndex(d, " ")])
		}
		return s
	}
	in, err := h.ImportThunderbird(t.Context(), ala, p.Accounts[0], store.ImportOptions{})
	if err != nil || in.Letters != 5 || in.Failed != 0 || in.Done != in.Total {
		t.Fatalf("%+v, %v", in, err)
	}
	want := []string{"Archive/2025 kept 1 uid-kept", "INBOX new 0 uid-new", "INBOX read 1 uid-read", "INBOX starred 7 uid-starred", "INBOX/Project X/Deep deep 1 uid-deep"}
	if diff := cmp.Diff(want, flags()); diff != "" {
		t.Errorf("imported (-want +got):\n%s", diff)
	}
	page, err := h.List(t.Context(), store.Query{Text: "is:unread"})
	if err != nil || len(page.Letters) != 1 {
		t.Fatal(err, page)
	}
	var raw bytes.Buffer
	if err := h.Raw(t.Context(), page.Letters[0].ID, &raw); err != nil || raw.String() != "From: ala@example.org\r\nSubject: new\r\nMessage-ID: <new@x>\r\n\r\nText of new\r\nFrom quoted\r\n" {
		t.Errorf("octets %q, %v", raw.String(), err)
	}
	// Thunderbird goes on: a flag changes, a message comes; what was imported is known again
	write(t, root, mail+"pop.example.org/Inbox", bird("new", "0001", "00000000")+bird("later", "0000", "00000000"))
	in, err = h.ImportThunderbird(t.Context(), ala, p.Accounts[0], store.ImportOptions{})
	if err != nil || in.Letters != 1 || in.Duplicates != 3 {
		t.Errorf("again: %+v, %v", in, err)
	}
	in, err = h.ImportThunderbird(t.Context(), ewa, p.Accounts[1], store.ImportOptions{Folder: "IMAP"})
	if err != nil || in.Letters != 1 || !strings.HasPrefix(h.described(ewa)[0], "IMAP imap 1") {
		t.Errorf("IMAP: %+v, %v", in, err)
	}
	if _, err := thunderbird.Open(t.TempDir()); !errors.Is(err, thunderbird.ErrProfile) {
		t.Errorf("no profile: %v", err)
	}
	if _, err := thunderbird.Open(filepath.Join(root, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}

// testdata finds foreign test material.
func testdata(t *testing.T, sub string) string {
	t.Helper()
	dir := os.Getenv("POCZTA_TESTDATA")
	if dir == "" {
		dir = "../../../../shared/testdata"
	}
	dir = filepath.Join(dir, sub)
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("foreign test data is not here: %v", err)
		}
		t.Skip("foreign test data is not here: set POCZTA_TESTDATA")
	}
	return dir
}

// TestForeignMail adds every letter of the foreign corpora, indexes it, and reads it back.
func TestForeignMail(t *testing.T) {
	t.Parallel()
	var texts []string
	for _, sub := range []string{"mime", "mbox", "eai", "spam", "bounce", "html"} {
		err := filepath.WalkDir(testdata(t, sub), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(path, "gz") || strings.HasSuffix(path, ".json") {
				return err
			}
			b, err := os.ReadFile(path)
			if err == nil && len(b) < 4<<20 {
				texts = append(texts, string(b))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(texts) < 300 {
		t.Fatalf("%d letters: is the corpus whole?", len(texts))
	}
	h := open(t)
	var ids []store.LetterID
	for chunk := range slices.Chunk(texts, mailbox.MaxAppend) {
		var batch []mailbox.Import
		for i, text := range chunk {
			st, err := h.Body().Stage(t.Context(), int64(len(text)))
			if err != nil {
				t.Fatal(err)
			}
			defer st.Discard()
			if _, err := io.WriteString(st, text); err != nil {
				t.Fatal(err)
			}
			batch = append(batch, mailbox.Import{Mailbox: store.Inbox, Source: fmt.Sprint(len(ids), i), Staged: st, Received: time.Now()})
		}
		ids = append(ids, h.addAll(ala, batch)...)
	}
	began := time.Now()
	h.index()
	t.Logf("%d letters indexed in %v", len(texts), time.Since(began))
	p, err := h.Indexed(t.Context())
	if err != nil || p.Done != int64(len(texts)) {
		t.Errorf("indexed %+v, %v", p, err)
	}
	for i, id := range ids {
		var b bytes.Buffer
		if err := h.Raw(t.Context(), id, &b); err != nil || b.String() != texts[i] {
			t.Errorf("letter %d: %d octets of %d, %v", i, b.Len(), len(texts[i]), err)
		}
	}
	if got := h.subjects(store.Query{Text: "invoice OR test OR message", Limit: 1000}); len(got) < 20 {
		t.Errorf("a search finds %d letters", len(got))
	}
}
